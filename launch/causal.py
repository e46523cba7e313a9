"""Causal order: no message is shown taken before it was sent, whatever the clocks say. Reads files, imports numpy.

Each worker's lines keep their own order; those of other hosts have the launcher's times (`aligned`), as far as these are
known. Of the workers' next lines the one with the earliest time comes first, but one that takes a message is held back until
the line that sent it has been shown, unless that one is not on record:

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

from pipeline import trace
from pipeline.arrays import Array
from pipeline.config import load
from pipeline.errors import ConfigError, RunError
from pipeline.plan import Plan

from . import aligned, runs
from .lines import Teller, keys_of, left_out, times_of, why_left_out
from .logs import Filter, Line, absent, parse

#: Records that become lines at a time.
LOT = 4096


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


def merged(folder: Path, wanted: Filter, warnings: list[str]) -> Iterator[Line]:
    """Yield all workers' wanted lines in causal order, and add what could not be read to `warnings`.

    Raises ConfigError for a reference, which has none, RunError at the end where no line could be read, wanted or not.
    """
    is_reference = (runs.read_json(folder / "launcher.json") or {}).get("reference")
    if is_reference and not any((folder / "logs").glob("*.log")):
        raise ConfigError(
            f"{folder.name} has no logs: a reference runs in one process, without workers; `timebox run` has them"
        )
    sources = Sources(folder, wanted, warnings)
    is_empty = sources.is_empty
    for entry in causal(sources.feeds()):
        is_empty = False
        line = sources.tell(entry)
        if line is not None and wanted(line):
            yield line
    if is_empty and runs.describe(folder)["status"] != "running":
        raise RunError(f"nothing of the logs of {folder.name} can be read" + "".join(f"; {text}" for text in warnings))


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
        self._alignment = aligned.of_run(folder, self.plan)
        warnings += self._alignment.warnings
        warnings += absent(folder, config, wanted)
        if config.trace.level == "full":
            self._read_traces()
            if left_out := self._left_out():
                warnings.append(f"{left_out:,} records were left out: {why_left_out(config)}")
        self.is_empty = not any(map(len, self._arrays.values()))

    def _read_traces(self) -> None:
        if not (self._folder / "trace").is_dir():
            if not self._is_running:
                self._warnings.append(f"{self._folder.name} has no trace: the run never began")
            return
        for place, name in enumerate(self.names[:-1]):
            try:
                header, array, faults, _ = trace.read_records(self._folder, name)
            except RunError as error:
                self._warnings += [] if self._is_running else [str(error)]
                continue
            self._warnings += [] if self._is_running and "damaged" not in "".join(faults) else faults
            has_log = log_of(self._folder, name).is_file()
            shift = self._alignment.of(name)
            array = shift.records(array)
            teller = Teller(self.plan, name, header, shift, tells_parts=not (self._tells_actions and has_log))
            is_good = teller.sensible(array)
            if not is_good.all():
                count = int((~is_good).sum())
                self._warnings.append(f"{trace.path_of(self._folder, name)}: {count:,} records tell what cannot be")
            self._tellers[place], self._arrays[place] = teller, array[is_good]

    def _left_out(self) -> int:
        """Return how many records that may have made a wanted line were left out of the traces."""
        found = ((self._tellers[place], array) for place, array in self._arrays.items())
        return sum(left_out(array) for teller, array in found if teller.may_tell(self._wanted))

    def feeds(self) -> list[Iterator[Entry]]:
        """Return each worker's entries, the launcher's last."""
        sent = [keys_of(place + 1, array, trace.SENT) for place, array in self._arrays.items()]
        sent_ns = [times_of(array)[keys > 0] for keys, array in zip(sent, self._arrays.values(), strict=True)]
        keys = np.concatenate([*(each[each > 0] for each in sent), np.zeros(0, np.uint64)])
        times = np.concatenate([*sent_ns, np.zeros(0, np.int64)])
        order = np.argsort(keys, kind="stable")
        keys, times = keys[order], times[order]
        found: dict[
            int, tuple[Array, Array]
        ] = {}  # by place: what a record takes, if its sending is on record, and when
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
        shift = self._alignment.of(self.names[place])
        count = 0
        try:
            with path.open("rb") as stream:
                for text in stream:
                    line = parse(text)
                    if line is not None:
                        line["mono_ns"] = shift.time(line["mono_ns"])
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
