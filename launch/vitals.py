"""Signs of life of a run's workers: what the kernel says of each process, and when each one last did something.

Times are monotonic nanoseconds of the launcher's machine; where that has been started anew since, the wall clock
stands in for that clock.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline import trace
from pipeline.actions import ACTIONS, KINDS
from pipeline.arrays import Array
from pipeline.errors import RunError
from pipeline.lacks import WAITS, Lack

from .aligned import SAME, Shift
from .causal import log_of
from .logs import Line, parse

#: Two clocks that differ by more than this from what they did when the run began tell of another boot.
SAME_BOOT_NS = 60_000_000_000
#: A journal that was written so long after the last action that is on record tells of later ones.
LAG_NS = 500_000_000
#: Who has shown no sign for so long is stuck; workers write down what they do five times a second.
LONG_S = 1.0
#: Bytes from a log's end in which its last lines are looked for.
TAIL = 1 << 16


class Signs(NamedTuple):
    """What a stage's files tell of it: its last action, its last sign at all, and its own end; 0: not on record."""

    acted_ns: int
    seen_ns: int
    ended_ns: int
    shift_ns: int  # from this clock to the wall clock
    has_begun: bool
    waited: Lack | None  # what it waited for when it wrote its last record


def signs(folder: Path, stage: str, warnings: list[str], clock: Shift = SAME) -> Signs:
    """Return what a stage's trace, log and journal tell of when it did something, by the launcher's clock."""
    acted = seen = ended = shift = 0
    waited = None
    lines = [line | {"mono_ns": clock.time(line["mono_ns"])} for line in _ends_of(log_of(folder, stage))]
    has_begun = any(line["text"] == "go" for line in lines)
    for line in lines:
        acted = max(acted, line["mono_ns"] if line["level"] == "action" or line["text"] == "go" else 0)
        seen = max(seen, line["mono_ns"])
        shift = wall_ns(line) - line["mono_ns"]
    try:
        header, array, faults, _ = trace.read_records(folder, stage)
        warnings += (fault for fault in faults if "damaged" in fault)
    except RunError:
        array = None  # it ran without a trace, or has not begun
    if array is not None and len(array):
        array = clock.records(array)
        if isinstance(header.get("wall_ns"), int) and isinstance(header.get("mono_ns"), int):
            shift = header["wall_ns"] - clock.time(header["mono_ns"])
        has_begun = True
        is_part = np.isin(array["kind"], np.frombuffer(ACTIONS.encode(), np.uint8))
        is_mark = array["kind"] == trace.MARK
        parts, ends = array["end"][is_part], array["end"][is_mark & (array["code"] == trace.DONE)]
        acted = max(acted, int(parts.max()) if len(parts) else int(array["start"].min()))
        seen = max(seen, int(array["end"].max()))
        ended = int(ends.max()) if len(ends) else 0
        waited = _waited(array[~is_mark])
    path = folder / "journal" / f"{stage}.txt"
    if shift and path.is_file() and path.stat().st_size:
        has_begun = True
        written = path.stat().st_mtime_ns - shift_now(shift)
        if written > acted + LAG_NS and (not ended or written < ended):
            acted = written
    return Signs(acted, max(seen, acted), ended, shift, has_begun, waited)


def _waited(array: Array) -> Lack | None:
    """Return what the last record waited for, if it is a wait."""
    if not len(array) or array["kind"][-1] != trace.WAITED or array["a"][-1] >= len(WAITS):
        return None
    last = array[-1]
    return Lack(WAITS[last["a"]], KINDS[last["code"]], int(last["batch"]), int(last["peer"])) if last["peer"] else None


class Silence(NamedTuple):
    """That a stage showed no sign of life at a moment, nor for long before and after."""

    seconds: float | None  # since its last sign; None: not on record
    midst: str  # the part of an action that the moment lies in, if it is one
    unanswered_s: float | None  # for how long it did not answer when it was told to stop, until it was sent a signal


class SentAway(NamedTuple):
    """When the first worker had stopped as it was told, and for how long others did not; 0: none has stopped."""

    stopped_ns: int
    unanswered_s: dict[str, float]


def sent_away(folder: Path) -> SentAway:
    """Return what the launcher's log tells of a stop on request: who had to be sent SIGTERM or SIGKILL long after it."""
    stopped = 0
    found: dict[str, float] = {}
    for line in _lines(log_of(folder, "launcher")):
        words = line["text"].split()
        if words[-1:] == ["stopped"] and not stopped:
            stopped = line["mono_ns"]
        elif stopped and len(words) == 3 and words[:2] in (["SIGTERM", "to"], ["SIGKILL", "to"]):
            seconds = (line["mono_ns"] - stopped) / 1e9
            if seconds >= LONG_S:
                found.setdefault(words[2], round(seconds, 3))
    return SentAway(stopped, found)


def silence(
    folder: Path, stage: str, seen: Signs, at: int, unanswered_s: float | None, clock: Shift = SAME
) -> Silence | None:
    """Return that a stage showed no sign of life when the others stopped, or None where it did.

    A worker that waits puts that down twenty times a second. One that was halted tells of nothing, and its next record
    ends when it was woken to be ended.
    """
    long_ns = int(LONG_S * 1e9)
    if not at or (seen.ended_ns and seen.ended_ns < at + long_ns):
        return None
    unanswered = Silence(None, "", unanswered_s) if unanswered_s is not None else None
    try:
        array = clock.records(trace.read_records(folder, stage).array)
    except RunError:
        return unanswered
    place = int(np.searchsorted(array["end"], at, "right"))
    before, after = array[:place], array[place : place + 1]
    since = at - int(before["end"].max(initial=0))
    if since < long_ns or not len(before):
        return unanswered
    if not len(after):
        may_be_gap = seen.acted_ns > at - long_ns or (array["kind"] == trace.GAP).any()
        return unanswered if may_be_gap else Silence(round(since / 1e9, 3), "", unanswered_s)
    if after["kind"][0] == trace.GAP or int(after["end"][0]) < at + long_ns:
        return unanswered  # what it did in that time was left out, or it did something soon after
    kind, code, _, batch = after[0].tolist()[:4]
    is_midst = chr(kind) in ACTIONS and int(after["start"][0]) < at
    return Silence(round(since / 1e9, 3), f"{chr(kind)}{batch} {trace.PARTS[code]}" if is_midst else "", unanswered_s)


def shift_now(shift_ns: int) -> int:
    """Return what is between a run's clock and the wall clock now: as the two stand, if it is still the same boot."""
    now = time.time_ns() - time.monotonic_ns()
    return now if abs(now - shift_ns) < SAME_BOOT_NS else shift_ns


def now_ns(shift_ns: int) -> int:
    """Return the present by a run's clock."""
    return time.time_ns() - shift_now(shift_ns)


def wall_ns(line: Line) -> int:
    """Return when a log's line was, in nanoseconds since 1970; 0 for one that does not tell."""
    try:
        return int(datetime.fromisoformat(line["ts"]).timestamp() * 1e6) * 1000
    except (ValueError, OverflowError):
        return 0


def _lines(path: Path) -> list[Line]:
    """Return a log's lines; none where it cannot be read."""
    try:
        return [line for text in path.read_bytes().splitlines() if (line := parse(text)) is not None]
    except OSError:
        return []


def _ends_of(path: Path) -> list[Line]:
    """Return a log's first line and its last ones."""
    try:
        with path.open("rb") as stream:
            head = stream.read(TAIL).splitlines()[:1]
            stream.seek(0, 2)
            stream.seek(max(stream.tell() - TAIL, 0))
            tail = stream.read().splitlines()
    except OSError:
        return []
    return [line for text in [*head, *tail] if (line := parse(text)) is not None]
