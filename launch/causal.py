"""Causal order: no message is shown taken before it was sent, whatever the clocks say. Reads files, imports numpy.

Each worker's lines keep their own order. Of the workers' next lines the one with the earliest time comes first, but one
that takes a message is held back until the line that sent it has been shown, unless that one is not on record:

    box-1   F17   sent 17 ─┐        by box-2's clock, which is behind, 17 was taken before it was sent:
    box-2          T15     └ took 17   F17     the line is held, and everything box-2 did after it with it

Lines that wait for each other in a circle do not happen, but a damaged trace may tell so; then the earliest goes first.

Where every hop on record took some time by the clocks, as on one machine, the order of time is a causal one, and lines
that are not wanted are left out before anything is made of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline import steps, trace
from pipeline.actions import ACTIONS, CREDIT_ACTIVATION, CREDIT_INCREMENT, EVALUATION, KINDS, Action
from pipeline.arrays import Array
from pipeline.config import load
from pipeline.errors import RunError
from pipeline.lacks import CREDIT, DRAIN, WAITS, WINDOW
from pipeline.plan import Plan
from pipeline.worklog import iso

from . import runs
from .logs import Filter, Line, parse

#: Records that become lines at a time.
LOT = 4096
#: The last moment that a line's `ts` can tell, in nanoseconds since 1970.
LAST_NS = 253_402_300_799 * 1_000_000_000


class Entry(NamedTuple):
    """A line to be: when, whose, which message it sends and which it takes (0: none), and what it is made from."""

    ns: int
    place: int
    sends: int
    takes: int
    what: Any


def causal(feeds: Sequence[Iterator[Entry]], sent: set[int] | None = None, *, breaks: bool = True) -> Iterator[Entry]:
    """Yield the entries of all feeds in causal order; feed k gives the entries of place k, in their own order.

    `sent` holds messages whose sending was shown before. With `breaks` a circle is broken, else the stream ends there.
    """
    sent = set() if sent is None else sent
    free: list[tuple[int, int, Entry]] = []
    held: dict[int, Entry] = {}

    def admit(entry: Entry | None) -> None:
        if entry is None:
            return
        if entry.takes and entry.takes not in sent and entry.takes not in held:
            held[entry.takes] = entry
        else:
            heapq.heappush(free, (entry.ns, entry.place, entry))

    for feed in feeds:
        admit(next(feed, None))
    while free or (held and breaks):
        if free:
            entry = heapq.heappop(free)[2]
        else:
            entry = min(held.values(), key=lambda entry: entry[:2])
            del held[entry.takes]
        sent.discard(entry.takes)
        yield entry
        if entry.sends:
            sent.add(entry.sends)
            admit(held.pop(entry.sends, None))
        admit(next(feeds[entry.place], None))


def keys_of(number: int, array: Array, kind: int) -> Array:
    """Return a number for each message that a stage sent or took: source, target and place on that edge; 0 for others."""
    source, target = np.uint64(number), array["peer"].astype(np.uint64)
    if kind == trace.TAKEN:
        source, target = target, source
    found: Array = (source << np.uint64(48)) | (target << np.uint64(32)) | array["d"]
    return np.where(array["kind"] == kind, found, np.uint64(0))


def times_of(array: Array) -> Array:
    """Return when each record's line was: a message when it had been encoded or received, all else when it had ended."""
    is_message = np.isin(array["kind"], (trace.SENT, trace.TAKEN))
    times: Array = np.where(is_message, array["start"] + array["c"].astype(np.int64), array["end"])
    return times


class Teller:
    """Makes lines of one stage's records."""

    def __init__(self, plan: Plan, name: str, header: dict[str, Any], *, tells_parts: bool) -> None:
        self.plan = plan
        self.name = name
        self.number = plan.number(name)
        numbers = (header.get("wall_ns"), header.get("mono_ns"))
        self.shift = numbers[0] - numbers[1] if isinstance(numbers[0], int) and isinstance(numbers[1], int) else 0
        self.tells_parts = tells_parts
        self._steps = {(step.action, step.part): step for step in steps.steps(plan) if step.stage == self.number}

    def sensible(self, array: Array) -> Array:
        """Return which records can be told: of stages that there are, at times that a calendar has."""
        head, kind, peer = self.plan.head, array["kind"], array["peer"]
        is_message = (kind == trace.SENT) | (kind == trace.TAKEN)
        ends = np.maximum(array["end"], times_of(array)).astype(float) + self.shift
        found: Array = (peer <= head) & (~is_message | ((peer > 0) & (peer != self.number))) & (ends < LAST_NS)
        return found & (ends >= 0)

    def wanted(self, array: Array, wanted: Filter) -> Array:
        """Return which records can make a wanted line; the filter itself has the last word."""
        kind = array["kind"]
        is_event = np.isin(kind, (trace.SENT, trace.TAKEN, trace.WAITED))
        is_part = np.isin(kind, np.frombuffer(ACTIONS.encode(), np.uint8))
        found: Array = is_event if wanted.takes("message") else np.zeros(len(array), bool)
        if self.tells_parts and wanted.takes("action"):
            found = found | is_part | (kind == trace.GAP)
        if wanted.batch is not None:
            found = found & (array["batch"] == wanted.batch)
        return found if wanted.stage in (None, self.name) else np.zeros(len(array), bool)

    def line(self, record: tuple[int, ...], sent_ns: int) -> Line | None:
        """Return a record's line, or None where it has none; `sent_ns` is when a message that was taken had been sent."""
        kind, code, peer, batch, a, b, c, d, start, end = record
        if kind in (trace.SENT, trace.TAKEN):
            return self._message(record, start + c, sent_ns)
        line: Line = {"ts": iso(end + self.shift), "mono_ns": end, "stage": self.name}
        if kind == trace.WAITED:
            return line | self._wait(code, peer, batch, WAITS[a] if a < len(WAITS) else "", (end - start) / 1e6)
        if kind == trace.GAP:
            text = f"{a:,} records of {(end - start) / 1e9:.3f} s were left out of the trace here"
            return line | {"level": "action", "event": "gap", "records": a, "text": text}
        if kind == trace.MARK or not self.tells_parts:
            return None
        action, part = Action(chr(kind), batch, peer), trace.PARTS[code]
        step = self._steps.get((action.kind, part)) if not action.sibling else None
        return line | {
            "level": "action",
            "action": str(action),
            "part": part,
            "evaluation" if action.kind == "E" else "batch": batch,
            **({"step": step.number} if step else {}),
            "read": a,
            "written": b,
            "ms": round((end - start) / 1e6, 3),
            "text": step.text if step else steps.describe(action.kind, part, action.sibling),
        }

    def _message(self, record: tuple[int, ...], at: int, sent_ns: int) -> Line:
        kind, code, peer, batch, size, version, _, sequence, _, _ = record
        is_sent, other, what = kind == trace.SENT, self.plan.name(peer), KINDS[code]
        line: Line = {"ts": iso(at + self.shift), "mono_ns": at, "stage": self.name, "level": "message"}
        line |= {"event": "sent" if is_sent else "taken", "message": what, _counted(what): batch}
        line |= {"from": self.name if is_sent else other, "to": other if is_sent else self.name}
        line |= {"sequence": sequence, "bytes": size, "version": version}
        if is_sent:
            return line | {"text": f"sent {what} {batch} to {other} ({size:,} bytes, v{version})"}
        text = f"took {what} {batch} from {other}"
        if not sent_ns:
            return line | {"text": f"{text}; its sending is not on record"}
        hop_ms = round((at - sent_ns) / 1e6, 3)
        hop = f"after {hop_ms:.3f} ms" if hop_ms >= 0 else f"{-hop_ms:.3f} ms before it was sent, by clocks that differ"
        return line | {"hop_ms": hop_ms, "text": f"{text} {hop}"}

    def _wait(self, code: int, peer: int, batch: int, why: str, wait_ms: float) -> Line:
        line: Line = {"level": "message", "event": "waited", "wait_ms": round(wait_ms, 3)}
        text = f"waited {wait_ms:.3f} ms"
        if not peer:
            return line | {"text": text}
        what, other = KINDS[code], self.plan.name(peer)
        line |= {"message": what, _counted(what): batch, "from": other, "to": self.name, "why": why}
        if why == CREDIT:
            return line | {"text": f"{text} for a credit from {other} to send {what} {batch}"}
        told = {WINDOW: ": its window is full", DRAIN: ": the last evaluation follows the drain"}.get(why, "")
        return line | {"text": f"{text} for {what} {batch} from {other}{told}"}


def _counted(what: str) -> str:
    """Return what a message's number counts."""
    return {EVALUATION: "evaluation", CREDIT_ACTIVATION: "credits", CREDIT_INCREMENT: "credits"}.get(what, "batch")


class Sources:
    """What is on record of a run: a feed of entries for each worker, of its log and its trace together."""

    def __init__(self, folder: Path, wanted: Filter, warnings: list[str]) -> None:
        config = load(folder / "config.toml")
        self.plan = Plan.of(config)
        self.names = names_of(self.plan)
        self._folder, self._wanted, self._warnings = folder, wanted, warnings
        self._is_running = runs.describe(folder)["status"] == "running"
        self._tells_actions = config.log.level == "action"
        self._tellers: dict[int, Teller] = {}
        self._arrays: dict[int, Array] = {}
        if config.trace.level == "full":
            self._read_traces()
        elif wanted.level == "message":
            warnings.append(f"{folder.name} has no trace, hence no messages: it ran with trace.level off")
        self.is_empty = not any(map(len, self._arrays.values()))

    def _read_traces(self) -> None:
        if not (self._folder / "trace").is_dir():
            if not self._is_running:
                self._warnings.append(f"{self._folder.name} has no trace: the run never began")
            return
        for place, name in enumerate(self.names[:-1]):
            try:
                header, array, faults = trace.read_records(self._folder, name)
            except RunError as error:
                self._warnings += [] if self._is_running else [str(error)]
                continue
            self._warnings += [] if self._is_running and "damaged" not in "".join(faults) else faults
            has_log = log_of(self._folder, name).is_file()
            teller = Teller(self.plan, name, header, tells_parts=not (self._tells_actions and has_log))
            is_good = teller.sensible(array)
            if not is_good.all():
                count = int((~is_good).sum())
                self._warnings.append(f"{trace.path_of(self._folder, name)}: {count:,} records tell what cannot be")
            self._tellers[place], self._arrays[place] = teller, array[is_good]

    def feeds(self) -> list[Iterator[Entry]]:
        """Return each worker's entries, the launcher's last."""
        sent = [keys_of(place + 1, array, trace.SENT) for place, array in self._arrays.items()]
        sent_ns = [times_of(array)[keys > 0] for keys, array in zip(sent, self._arrays.values(), strict=True)]
        keys = np.concatenate([*(each[each > 0] for each in sent), np.zeros(0, np.uint64)])
        times = np.concatenate([*sent_ns, np.zeros(0, np.int64)])
        order = np.argsort(keys, kind="stable")
        keys, times = keys[order], times[order]
        found: dict[int, tuple[Array, Array]] = {}  # of each place: what a record takes if that was sent on record, and when
        for place, array in self._arrays.items():
            takes = keys_of(place + 1, array, trace.TAKEN)
            at = np.minimum(np.searchsorted(keys, takes), max(len(keys) - 1, 0))
            is_known = (keys[at] == takes) & (takes > 0) if len(keys) else np.zeros(len(takes), bool)
            was = np.zeros(len(takes), np.int64)
            was[is_known] = times[at[is_known]]
            found[place] = np.where(is_known, takes, np.uint64(0)), was
        agree = all((times_of(self._arrays[p])[was > 0] > was[was > 0]).all() for p, (_, was) in found.items())
        return [self._feed(place, found.get(place), agree) for place in range(len(self.names))]

    def _feed(self, place: int, found: tuple[Array, Array] | None, agree: bool) -> Iterator[Entry]:
        log = self._log(place)
        if found is None:
            return log
        array, (takes, was) = self._arrays[place], found
        if agree:  # the order of time will do
            chosen = self._tellers[place].wanted(array, self._wanted)
            array, takes, was = array[chosen], np.zeros(int(chosen.sum()), np.uint64), was[chosen]
            sends = takes
        else:
            sends = keys_of(place + 1, array, trace.SENT)
        return heapq.merge(log, records(place, array, sends, takes, was), key=lambda entry: entry.ns)

    def _log(self, place: int) -> Iterator[Entry]:
        path = log_of(self._folder, self.names[place])
        count = 0
        try:
            with path.open("rb") as stream:
                for text in stream:
                    line = parse(text)
                    if line is not None:
                        yield Entry(line["mono_ns"], place, 0, 0, line)
                    elif not self._is_running or text.endswith(b"\n"):
                        count += 1
        except OSError as error:
            if not self._is_running:
                self._warnings.append(f"{path}: cannot read the log: {error.strerror}")
        if count:
            self._warnings.append(f"{path}: {count:,} lines are damaged or were not finished, and are left out")

    def tell(self, entry: Entry) -> Line | None:
        """Return an entry's line."""
        if isinstance(entry.what, dict):
            return entry.what
        return self._tellers[entry.place].line(*entry.what)


def names_of(plan: Plan) -> list[str]:
    """Return who writes logs: all stages in their order, and the launcher."""
    return [*(plan.name(k) for k in range(1, plan.head + 1)), "launcher"]


def log_of(folder: Path, name: str) -> Path:
    """Return where a worker's log is."""
    return folder / "logs" / f"{name}.log"


def records(place: int, array: Array, sends: Array, takes: Array, was: Array) -> Iterator[Entry]:
    """Yield the entries of a stage's records."""
    times = times_of(array)
    for begin in range(0, len(array), LOT):
        lot = slice(begin, begin + LOT)
        columns = (each[lot].tolist() for each in (times, sends, takes, array, was))
        for ns, sent, taken, record, sent_ns in zip(*columns, strict=True):
            yield Entry(ns, place, sent, taken, (record, sent_ns))
