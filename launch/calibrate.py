"""What things cost, for the simulator: from a run's trace, or measured here without processes. Reads a trace, knows a clock.

From a trace every nanosecond of a stage goes to the record at whose end it was over: an action's time is that from the
end of whatever came before it to the end of its last part, choosing and journal included, and so are a message's. So
start, actions, messages and waits add up to the stage's time, and a simulation that waits as long as the run takes as
long. The start, from the run's origin to the first record, is passed once: it belongs to no batch.

    hop     from the send's return to the waking of a receiver that slept; less than nothing where it was quicker
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from pipeline.actions import ACTIONS, KINDS, Action, Part
from pipeline.arrays import Array
from pipeline.costs import Costs, Samples
from pipeline.data import batches as make_batches
from pipeline.errors import ConfigError
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.simulate import simulate
from pipeline.trace import GAP, PART_CODE, SENT, TAKEN, WAITED
from pipeline.work import Around, Work
from pipeline.works import make_work

from .recording import Recording, StageRecords

#: The most samples that are kept of one kind, evenly over the run.
MOST = 1 << 17
#: Batches that are computed to see what an action costs.
TRIED = 40


def from_trace(found: Recording) -> Costs:
    """Return what actions and messages cost in a run, and how long hops took, by batch."""
    actions: dict[tuple[int, str], Samples] = {}
    sends: dict[tuple[int, str], Samples] = {}
    takes: dict[tuple[int, str], Samples] = {}
    for stage in found.stages:
        records, took = _spent(stage)
        is_part = np.isin(records["kind"], [ord(letter) for letter in ACTIONS])
        for kind, samples in _actions(records[is_part], took[is_part]):
            actions[stage.number, kind] = samples
        for letter, costs in ((SENT, sends), (TAKEN, takes)):
            of_letter = records["kind"] == letter
            for code in np.unique(records["code"][of_letter]).tolist():
                is_one = of_letter & (records["code"] == code)
                costs[stage.number, KINDS[code]] = _by_batch(records["batch"][is_one], took[is_one], KINDS[code])
    pauses = {stage.number: samples for stage in found.stages if (samples := _pauses(stage))}
    starts = {stage.number: _start(stage, found.origin_ns) for stage in found.stages}
    return Costs(actions, sends, takes, hops_of=_hops(found), pauses=pauses, starts=starts)


def _pauses(stage: StageRecords) -> Samples:
    """Return the time before each wait that is on no record: journal, log, choosing in vain, and now and then writing."""
    array = stage.array
    is_wait = array["kind"] == WAITED
    is_wait[:1] = False
    waits = np.flatnonzero(is_wait & (array["peer"] > 0))[1:]  # the first one holds the start
    if not len(waits):
        return ()
    return (round(float(np.maximum(array["start"][waits] - array["end"][waits - 1], 0).mean())),)


def _start(stage: StageRecords, origin_ns: int) -> int:
    """Return the time from the run's origin to a stage's first record: data, first pages of memory, connecting."""
    records = stage.array[stage.array["kind"] != ord("m")]
    return max(0, int(records["start"][0]) - origin_ns) if len(records) else 0


def _by_batch(batches: Array, took: Array, kind: str = "") -> Samples:
    """Return the mean of each batch, from the first one on; a batch that is not on record is as the usual one.

    A credit's batch is how many it gives back: it costs the mean each time.
    """
    if kind.startswith("credit"):
        return (round(float(np.mean(took))),)
    first, last = int(batches.min()), int(batches.max())
    places = batches.astype(np.int64) - first
    counts = np.bincount(places, minlength=last - first + 1)
    sums = np.bincount(places, weights=took, minlength=last - first + 1)
    means = (sums / np.maximum(counts, 1)).round().astype(np.int64)
    means[counts == 0] = round(float(np.median(means[counts > 0])))
    return tuple(means[:: max(1, -(-len(means) // MOST))].tolist())


def busy_ns(stage: StageRecords) -> int:
    """Return what a stage spent on actions and messages."""
    return int(_spent(stage)[1].sum())


def _spent(stage: StageRecords) -> tuple[Array, Array]:
    """Return the records but waits and gaps, and the time from the end of whatever was before each to its own end."""
    array = stage.array[stage.array["kind"] != ord("m")]
    before = np.concatenate([array["start"][:1], array["end"][:-1]])
    after_gap = np.concatenate([[False], array["kind"][:-1] == GAP])
    is_work = (array["kind"] != WAITED) & (array["kind"] != GAP) & ~after_gap
    return array[is_work], np.maximum(array["end"] - before, 0)[is_work]


def _actions(parts: Array, took: Array) -> Iterator[tuple[str, Samples]]:
    """Yield the times of each kind's actions: their parts, without what the probe took."""
    is_probe = parts["code"] == PART_CODE["probe"]
    parts, took = parts[~is_probe], took[~is_probe]
    keys = parts["kind"].astype(np.int64) << 48 | parts["peer"].astype(np.int64) << 32 | parts["batch"]
    is_first = np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]
    sums = np.add.reduceat(took, np.flatnonzero(is_first)) if len(keys) else took
    kinds = parts["kind"][is_first]
    batches = parts["batch"][is_first]
    for kind in np.unique(kinds).tolist():
        yield chr(kind), _by_batch(batches[kinds == kind], sums[kinds == kind])


def _hops(found: Recording) -> dict[tuple[int, int, str], Samples]:
    """Return the hops of each edge and kind by batch.

    Where it was not waited for, a hop is as the last known one, and no longer than until the message was found.
    """
    messages = found.messages
    was_awaited = messages.taken == messages.received
    hops = messages.taken - messages.returned
    edges: dict[tuple[int, int, str], Samples] = {}
    lines = {*zip(messages.source.tolist(), messages.target.tolist(), messages.kind.tolist(), strict=True)}
    for source, target, code in sorted(lines):
        is_one = (messages.source == source) & (messages.target == target) & (messages.kind == code)
        known, came = was_awaited[is_one], hops[is_one]
        places = np.maximum.accumulate(np.where(known, np.arange(len(known)), np.argmax(known)))
        guess = np.minimum(came[places], came) if known.any() else np.minimum(came, 0)
        edges[source, target, KINDS[code]] = _by_batch(messages.batch[is_one], guess, KINDS[code])
    return edges


class _Timed(Around):
    """A work that is timed."""

    def __init__(self, work: Work, times: dict[str, list[int]]) -> None:
        super().__init__(work)
        self._times = times

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action and note what it took."""
        began = time.perf_counter_ns()
        yield from self.work.do(action)
        self._times.setdefault(action.kind, []).append(time.perf_counter_ns() - began)


def from_arithmetic(config: Config, batches: int = TRIED) -> dict[tuple[int, str], Samples]:
    """Return what each stage's actions take here: their arithmetic alone, in one process, over some batches."""
    train = replace_train(config, batches)
    plan, data = Plan.of(train), make_batches(train)
    times: dict[int, dict[str, list[int]]] = {k: {} for k in range(1, plan.head + 1)}
    works: dict[int, Work] = {k: _Timed(make_work(train, plan, k, data), times[k]) for k in times}
    simulate(plan, Costs(), works=works)
    return {
        (k, kind): tuple(found[len(found) // 4 :])
        for k, kinds in times.items()
        for kind, found in kinds.items()
        if found
    }


def replace_train(config: Config, batches: int) -> Config:
    """Return the configuration with one epoch of at most so many batches and one small evaluation."""
    import msgspec

    train = min(config.data.train, batches * config.data.batch)
    data = msgspec.structs.replace(config.data, train=train)
    return msgspec.structs.replace(config, data=data, train=msgspec.structs.replace(config.train, epochs=1))


def role(plan: Plan, number: int, other: Plan) -> int:
    """Return the stage of another plan that does what this one does: first, head, last or one between."""
    if number == plan.head:
        return other.head
    if number == 1:
        return 1
    if number == plan.boxes:
        return other.boxes
    return min(2, other.boxes)


def fitted(costs: Costs, plan: Plan, other: Plan, ratios: dict[tuple[int, str], float]) -> Costs:
    """Return the costs of one plan for another: each stage costs what its like does, actions times a ratio.

    `ratios` is by stage and kind of the other plan. Raises ConfigError where nothing is known of an action's like.
    """
    stages = range(1, other.head + 1)
    like = {k: role(other, k, plan) for k in stages}

    def of(table: dict[tuple[int, str], Samples], number: int, kind: str) -> Samples | None:
        return table.get((like[number], kind))

    actions: dict[tuple[int, str], Samples] = {}
    for k in stages:
        for kind in _kinds(other, k):
            samples = of(dict(costs.actions), k, kind) or _likest(costs, like[k], kind)
            if samples is None:
                raise ConfigError(f"nothing is on record of what {kind} of {plan.name(like[k])} costs")
            ratio = ratios.get((k, kind), 1.0)
            actions[k, kind] = tuple(round(each * ratio) for each in samples)
    sends, takes = (
        {(k, kind): found for k in stages for kind in KINDS if (found := _message(table, like[k], kind)) is not None}
        for table in (costs.sends, costs.takes)
    )
    edges = [(j, k) for k in stages for j in other.sources(k)]
    hops: dict[tuple[int, int], Samples] = {}
    hops_of: dict[tuple[int, int, str], Samples] = {}
    usual = next(iter(costs.hops_of.values()), (0,))
    for j, k in edges:
        known = {kind: samples for (s, t, kind), samples in costs.hops_of.items() if (s, t) == (like[j], like[k])}
        hops[j, k] = costs.hops.get((like[j], like[k])) or next(iter(known.values()), usual)
        hops_of |= {(j, k, kind): samples for kind, samples in known.items()}
    pauses = {k: costs.pauses[like[k]] for k in stages if like[k] in costs.pauses}
    starts = {k: costs.starts[like[k]] for k in stages if like[k] in costs.starts}
    return replace(
        costs, actions=actions, sends=sends, takes=takes, hops=hops, hops_of=hops_of, pauses=pauses, starts=starts
    )


def _kinds(plan: Plan, number: int) -> str:
    if number == plan.head:
        return "FE" + "S" * bool(plan.saves)
    settles = {"synthetic": "T", "backward": "B"}.get(plan.learns(number), "")
    settles += "C" if plan.settles_by(number) == "C" else ""
    return "F" + settles + ("U" if plan.siblings(number) or plan.sums_gradients else "") + "E" + "S" * bool(plan.saves)


def _likest(costs: Costs, number: int, kind: str) -> Samples | None:
    """Return what another kind of action costs where a run had none of this one: B, T and U are about as F."""
    for other in {"B": "TF", "T": "BF", "C": "BTF", "U": "TBF", "E": "F"}.get(kind, ""):
        if (number, other) in costs.actions:
            return costs.actions[number, other]
    return None


def _message(table: Mapping[tuple[int, str], Samples], number: int, kind: str) -> Samples | None:
    found = table.get((number, kind))
    if found is None:
        found = next((samples for (k, _), samples in table.items() if k == number), None)
    return found
