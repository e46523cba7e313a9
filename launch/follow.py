"""Follows a run while it goes on: reads what is new in its logs and traces, and shows it in causal order.

Workers write logs and traces at once, but a record comes when what it tells has ended. So a line is held back until every
worker has told of something later, or until it has been known for `PATIENCE_S`: then some worker is in a long action,
hangs, or has another clock, and who follows wants to see the rest. Only a line that takes a message waits on, with its
worker's lines behind it, until its sender tells of it or of a later one on that edge: nothing is taken before it was sent.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline import trace
from pipeline.arrays import Array
from pipeline.config import load
from pipeline.errors import RunError
from pipeline.plan import Plan

from . import aligned, clocks, runs
from .aligned import SAME
from .causal import Entry, causal, log_of, merged, names_of, records
from .lines import Teller, keys_of, left_out, times_of, why_left_out
from .logs import Filter, Line, absent, parse

#: How often the files are looked at, how long a line is held back, and how long a run may take to make its first files.
FOLLOW_S, PATIENCE_S, BEGIN_S = 0.2, 0.5, 5.0
_NEVER, _EVER = 0, 1 << 63
EVENTS = {trace.SENT, trace.TAKEN, trace.WAITED}


class Held(NamedTuple):
    """An entry that is not shown yet, and when it became known, in seconds of this process's clock."""

    entry: Entry
    since: float


class Tail:
    """What is new in one worker's files."""

    def __init__(self, folder: Path, plan: Plan, place: int, name: str, *, is_traced: bool, tells_parts: bool) -> None:
        self.name = name
        self.place = place
        self.held: deque[Held] = deque()
        self.flushed_ns = _NEVER if is_traced else _EVER  # its trace tells of all up to here
        self.teller: Teller | None = None
        self.left_out = 0  # records that its trace left out
        self.shift = SAME  # from its host's clock to the launcher's
        self._folder, self._plan = folder, plan
        self._is_traced, self._tells_parts = is_traced, tells_parts
        self._log_at = self._trace_at = 0
        self._bad_lines = self._bad_records = 0

    def faults(self) -> Iterator[str]:
        """Yield what could not be read, once the run has ended."""
        log = log_of(self._folder, self.name)
        if not log.is_file():
            yield f"{log}: cannot read the log: No such file or directory"
        if self._bad_lines:
            yield f"{log}: {self._bad_lines:,} lines are damaged and left out"
        if self._is_traced and self.teller is None:
            yield f"{trace.path_of(self._folder, self.name)}: cannot be read"
        if self._bad_records:
            yield f"{trace.path_of(self._folder, self.name)}: {self._bad_records:,} records are damaged and left out"

    def read(self) -> Array | None:
        """Take in what is new; return the records among it."""
        now = time.monotonic()
        log, array = list(self._log()), self._trace()
        told: Iterator[Entry] = iter(())
        if array is not None:
            sends, takes = (keys_of(self.place + 1, array, kind) for kind in (trace.SENT, trace.TAKEN))
            told = records(self.place, array, sends, takes, np.zeros(len(array), np.int64))
        fresh = [(Held(entry, now) for entry in entries) for entries in (log, told)]
        self.held = deque(heapq.merge(self.held, *fresh, key=lambda held: held.entry.ns))
        return array

    def _log(self) -> Iterator[Entry]:
        try:
            with log_of(self._folder, self.name).open("rb") as stream:
                stream.seek(self._log_at)
                whole, end, _ = stream.read().rpartition(b"\n")
        except OSError:
            return  # not there yet
        self._log_at += len(whole) + len(end)
        for text in whole.splitlines():
            if (line := parse(text)) is not None:
                line["mono_ns"] = self.shift.time(line["mono_ns"])
                yield Entry(line["mono_ns"], self.place, 0, 0, line)
            else:
                self._bad_lines += 1

    def _trace(self) -> Array | None:
        path = trace.path_of(self._folder, self.name)
        if not self._is_traced or not path.is_file():
            return None
        try:
            header, array, _, came = trace.read_records(self._folder, self.name, self._trace_at)
        except RunError:
            return None  # its first line is still being written
        self._trace_at += came * trace.RECORD.size
        if self.teller is None:
            self.teller = Teller(self._plan, self.name, header, self.shift, tells_parts=self._tells_parts)
        array = self.shift.records(array)
        array = array[self.teller.sensible(array)]
        self._bad_records += came - len(array)
        self.left_out += left_out(array)
        if len(array):
            self.flushed_ns = max(self.flushed_ns, int(array["end"].max()))
            if ((array["kind"] == trace.MARK) & (array["code"] == trace.DONE)).any():
                self.flushed_ns = _EVER
        return array


class Follower:
    """Shows a run's lines as they come."""

    def __init__(self, folder: Path, wanted: Filter, show: Callable[[Line], None]) -> None:
        config = self._config = load(folder / "config.toml")
        plan = Plan.of(config)
        names = names_of(plan)
        is_traced, tells_parts = config.trace.level == "full", config.log.level != "action"
        self._folder, self._plan, self._clocks = folder, plan, b""
        self._wanted, self._show = wanted, show
        self.tails = [
            Tail(folder, plan, place, name, is_traced=is_traced and place < plan.head, tells_parts=tells_parts)
            for place, name in enumerate(names)
        ]
        self._sent_ns: dict[int, int] = {}  # messages that are known to be sent and not shown taken
        self._furthest: dict[int, int] = {}  # by edge: the last message that is known to be sent
        self._shown: set[int] = set()  # messages that were shown sent and not taken

    def faults(self) -> Iterator[str]:
        """Yield what could not be read or was left out, once the run has ended."""
        for tail in self.tails:
            yield from tail.faults()
        told = (tail for tail in self.tails if tail.teller is not None and tail.teller.may_tell(self._wanted))
        if count := sum(tail.left_out for tail in told):
            yield f"{count:,} records were left out: {why_left_out(self._config)}"

    def round(self, *, is_last: bool = False) -> None:
        """Read what is new and show what may be shown; with `is_last` all that is left."""
        began_ns = time.monotonic_ns()
        self._align()
        for tail in self.tails:
            array = tail.read()
            if array is not None:
                sends = keys_of(tail.place + 1, array, trace.SENT)
                for key in sends[sends > 0].tolist():
                    self._furthest[key >> 32] = key & 0xFFFFFFFF  # in their order on each edge
                self._sent_ns.update(zip(sends[sends > 0].tolist(), times_of(array)[sends > 0].tolist(), strict=True))
        # What is not traced is written at once, so all of it was there that is older than this look at it.
        until_ns = _EVER if is_last else min(began_ns, *(tail.flushed_ns for tail in self.tails))
        old = _EVER if is_last else time.monotonic() - PATIENCE_S

        def is_ripe(held: Held) -> bool:
            return held.entry.ns <= until_ns or held.since <= old

        feeds = [
            iter([self._freed(held.entry) for held in itertools.takewhile(is_ripe, tail.held)]) for tail in self.tails
        ]
        for entry in causal(feeds, self._shown, breaks=is_last):
            tail = self.tails[entry.place]
            tail.held.popleft()
            line = self._line(tail, entry)
            if line is not None and self._wanted(line):
                self._show(line)

    def _align(self) -> None:
        """Take in what is new of other hosts' clocks: what comes from now on has the launcher's times."""
        path = self._folder / clocks.NAME
        told = path.read_bytes() if path.is_file() else b""
        if told == self._clocks:
            return
        self._clocks, alignment = told, aligned.by_pings(self._folder, self._plan)
        for tail in self.tails:
            tail.shift = alignment.of(tail.name)
            if tail.teller is not None:
                tail.teller.clock = tail.shift

    def _freed(self, entry: Entry) -> Entry:
        """Return an entry; one whose sender tells of later messages on that edge waits no more: it was left out there."""
        edge, sequence = divmod(entry.takes, 1 << 32)
        if entry.takes and entry.takes not in self._sent_ns and self._furthest.get(edge, -1) > sequence:
            return entry._replace(takes=0)
        return entry

    def _line(self, tail: Tail, entry: Entry) -> Line | None:
        if isinstance(entry.what, dict):
            return entry.what
        assert tail.teller is not None, "records were told by it"
        record, _ = entry.what
        sent_ns = self._sent_ns.pop(entry.takes, 0) if entry.takes else 0
        if record[0] in EVENTS and not self._wanted.takes("message"):
            return None
        return tail.teller.line(record, sent_ns)


def follow(folder: Path, wanted: Filter, show: Callable[[Line], None], warnings: list[str]) -> None:
    """Show lines as they come until the run has ended; for one that has, all of them at once."""
    began = time.time()
    if not _is_going_on(folder, began):
        for line in merged(folder, wanted, warnings):
            show(line)
        return
    follower = Follower(folder, wanted, show)
    warnings += absent(folder, load(folder / "config.toml"), wanted)
    while True:
        is_last = not _is_going_on(folder, began)
        follower.round(is_last=is_last)
        if is_last:
            warnings += follower.faults()
            return
        time.sleep(FOLLOW_S)


def _is_going_on(folder: Path, began: float) -> bool:
    if (folder / "summary.json").is_file():
        return False
    if (folder / "launcher.json").is_file():
        return bool(runs.describe(folder)["status"] == "running")
    # The folder is made a moment before the launcher says that it is there.
    is_new = began - (folder / "config.toml").stat().st_mtime < BEGIN_S
    return is_new and time.time() - began < BEGIN_S
