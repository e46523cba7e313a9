"""Faults on purpose: what a configuration's `fault` keys say is to go wrong, where and at which batch. Pure.

    kill, hang, slow, disk_full       at a stage, as it is about to forward the batch     box-2@batch:100, hang and slow :5 more
    drop, double, swap, corrupt       to a message of the batch, as its sender sends it   box-1>box-2@batch:100

Several of one kind are joined by commas. A batch is as it travels: with micro-batches one of them. On an edge it is the first
message with arrays in it that is hit: activation, gradient, target or increment; an edge may carry nothing but credits, and
what cannot happen is refused before anything starts.

A fault happens in a run's first attempt. What is taken up again afterwards, goes on without it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .actions import ACTIVATION, GRADIENT, INCREMENT, TARGET, stage_name
from .errors import ConfigError, WireError
from .plan import Plan
from .schema import Config
from .schema_run import Fault

AT_STAGE = ("kill", "hang", "slow", "disk_full")
ON_EDGE = ("drop", "double", "swap", "corrupt")
KINDS = (*AT_STAGE[:3], *ON_EDGE, AT_STAGE[3])
#: Messages that can be hit.
DATA = (ACTIVATION, GRADIENT, TARGET, INCREMENT)
#: What the number behind the batch says, of the kinds that have one.
UNITS = {"hang": "seconds", "slow": "milliseconds"}
MOST = 1e6

_TEXT = re.compile(r"([^@]*)@batch:(0|[1-9]\d{0,15})(?::(\d+(?:\.\d+)?(?:e[+-]?\d{1,3})?))?", re.ASCII)


class AtStage(NamedTuple):
    """Something that happens to a stage; `amount`: milliseconds (slow), or seconds (hang), where 0 is for ever."""

    kind: str
    stage: int
    batch: int
    amount: float = 0.0

    def text(self, boxes: int) -> str:
        """Return it as its key has it: `box-2@batch:100:5`."""
        more = f":{self.amount:g}" if float(f"{self.amount:g}") == self.amount else f":{self.amount!r}"
        return f"{stage_name(self.stage, boxes)}@batch:{self.batch}{more if self.amount else ''}"


class OnEdge(NamedTuple):
    """Something that happens to a message of a batch between two stages."""

    kind: str
    source: int
    target: int
    batch: int

    def text(self, boxes: int) -> str:
        """Return it as its key has it: `box-1>box-2@batch:100`."""
        return f"{stage_name(self.source, boxes)}>{stage_name(self.target, boxes)}@batch:{self.batch}"


Injected = AtStage | OnEdge


def key_of(kind: str) -> str:
    """Return the key that a kind's name on the command line sets: `disk-full` sets `fault.disk_full`; raises ConfigError."""
    name = kind.replace("-", "_")
    if name in KINDS:
        return f"fault.{name}"
    known = [each.replace("_", "-") for each in KINDS]
    close = difflib.get_close_matches(kind, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    raise ConfigError(f"--fault: {kind!r} is no kind of fault; {hint}")


def texts(fault: Fault) -> list[str]:
    """Return what is to go wrong as people read and write it: `kill=box-2@batch:100`, one by one."""
    found = ((kind, each) for kind in KINDS for each in _split(getattr(fault, kind)))
    return [f"{kind.replace('_', '-')}={text}" for kind, text in found]


def check(config: Config) -> None:
    """Check the faults of a complete configuration; raises ConfigError."""
    if config.fault != Fault():
        parse_all(config.fault, Plan.of(config))


def parse_all(fault: Fault, plan: Plan) -> tuple[Injected, ...]:
    """Return all faults of a run; raises ConfigError."""
    found: list[Injected] = []
    hit: set[tuple[int, ...]] = set()
    for kind in KINDS:
        for text in _split(getattr(fault, kind)):
            each = parse(kind, text, plan)
            if each in found:
                raise ConfigError(f"fault.{kind}: {text!r} is there twice")
            if isinstance(each, OnEdge):
                if each[1:] in hit:
                    raise ConfigError(f"fault.{kind}: {text!r}: one message has one fault, and it has another already")
                hit.add(each[1:])
            found.append(each)
    return tuple(found)


def parse(kind: str, text: str, plan: Plan) -> Injected:
    """Return the fault that a text names; raises ConfigError for what cannot happen in this plan, in one line."""
    key, is_edge = f"fault.{kind}", kind in ON_EDGE
    match = _TEXT.fullmatch(text)
    if match is None:
        place = "box-1>box-2" if is_edge else "box-1"
        more = {"hang": ", for 5 seconds :5 more", "slow": ":20, the last milliseconds"}.get(kind, "")
        raise ConfigError(f"{key}: {text!r} is no fault; it looks like {place}@batch:100{more}")
    place, batch, amount = match[1], int(match[2]), float(match[3] or 0.0)
    if match[3] is not None and kind not in UNITS:
        raise ConfigError(f"{key}: {text!r}: nothing comes behind the batch; leave out :{match[3]}")
    if kind == "slow" and match[3] is None:
        raise ConfigError(f"{key}: {text!r}: how much slower is missing; say milliseconds, as {text}:20")
    if match[3] is not None and not 0 < amount <= MOST:
        raise ConfigError(f"{key}: {text!r}: more than 0 and at most {MOST:,.0f} {UNITS[kind]} are wanted")
    batches = plan.batches
    try:
        if not is_edge:
            if ">" in place:
                raise ConfigError(f"{key}: {text!r}: it happens to a stage, as box-1, not on an edge")
            found: Injected = AtStage(kind, plan.number(place), batch, amount)
        else:
            source, arrow, target = place.partition(">")
            if not arrow:
                raise ConfigError(f"{key}: {text!r}: it happens on an edge, as box-1>box-2, not to a stage")
            found = OnEdge(kind, plan.number(source), plan.number(target), batch)
            batches = _travelling(key, text, plan, found)
    except WireError as error:
        raise ConfigError(f"{key}: {error}") from None
    if batch >= batches:
        raise ConfigError(f"{key}: {text!r}: the batches that travel there are 0 to {batches - 1:,}")
    return found


def _travelling(key: str, text: str, plan: Plan, fault: OnEdge) -> int:
    """Return of how many batches messages travel on an edge; raises ConfigError where none do."""
    source, target = fault.source, fault.target
    if source not in plan.sources(target) or source == target:
        edges = [f"{plan.name(source)}>{plan.name(k)}" for k in range(1, plan.head + 1) if source in plan.sources(k)]
        raise ConfigError(f"{key}: {text!r}: there is no such edge; from there lead {', '.join(edges)}")
    if target == source + 1 or (target == source - 1 and plan.wants_gradients(target)):
        return plan.batches
    if target in plan.replicas(source):
        return plan.steps
    raise ConfigError(f"{key}: {text!r}: nothing but credits goes there; choose another edge")


def of_stage(config: Config, plan: Plan, number: int) -> tuple[Injected, ...]:
    """Return the faults that a stage has to see to: its own, and those of messages that it sends."""
    return tuple(each for each in parse_all(config.fault, plan) if each[1] == number)


def in_virtual_time(config: Config, plan: Plan) -> tuple[AtStage, ...]:
    """Return the faults that only take time; raises ConfigError that names one of another kind.

    What a killed worker or a lost message costs depends on when that is found out, on checkpoints and on restarts.
    """
    found = parse_all(config.fault, plan)
    for each in found:
        if not takes_time(each):
            why = "for ever" if each.kind == "hang" else "no time of its own"
            raise ConfigError(
                f"fault.{each.kind}: {each.text(plan.boxes)} takes {why}: in virtual time a stage can be slow, or hang for "
                "so many seconds; leave it out, or run it"
            )
    return timed(found)


def apart(fault: Fault, plan: Plan) -> tuple[Fault, list[str]]:
    """Return the keys with those faults alone that only take time, and the texts of all others: `kill=box-2@batch:100`."""
    found = parse_all(fault, plan)
    kept = {kind: ",".join(each.text(plan.boxes) for each in timed(found) if each.kind == kind) for kind in UNITS}
    timed_keys = Fault(**kept)
    return timed_keys, [text for text in texts(fault) if text not in texts(timed_keys)]


def takes_time(fault: Injected) -> bool:
    """Whether a fault takes some time and does nothing else."""
    return isinstance(fault, AtStage) and fault.kind in UNITS and fault.amount > 0


def timed(faults: Iterable[Injected]) -> tuple[AtStage, ...]:
    """Return those of several faults that take some time and do nothing else."""
    return tuple(each for each in faults if isinstance(each, AtStage) and takes_time(each))


def late_ns(faults: Sequence[AtStage], batch: int) -> int:
    """Return how much longer a stage's forward of a batch takes by its faults."""
    ns = 0.0
    for each in faults:
        if each.kind == "slow" and batch >= each.batch:
            ns += each.amount * 1e6
        elif each.kind == "hang" and batch == each.batch:
            ns += each.amount * 1e9
    return round(ns)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
