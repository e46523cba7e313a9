"""What the launcher knows of other hosts' clocks: a straight line each, with the error that is left. Pure: times are given.

    launcher    sent ──────────╮       ╭────────── received      the host's stamp was made at some moment between the two,
    host                       ╰─ mono ╯                          so its clock was ahead by mono - received to mono - sent

Every sample bounds the offset from both sides, however unequal its two ways were; a slow one bounds it loosely and does no
harm. Two clocks drift apart by at most `MOST_DRIFT`, and steadily: the lines that pass through the bounds of all samples
are a convex polygon in (offset at the first moment, offset at the last one), and one of them is the truth. The line taken
is in the middle of that polygon, the error stated is the farthest that any other line in it is away, at any time from the
first sample to the last moment. With one sample that is half of its round trip, with many it is less.

Samples that most of their neighbours contradict are left out, if they are few. Where no line passes through the rest (the
clock was slewed, or stepped) the bounds are widened until one does, and the error is how far the best samples of any
window let the truth be from it.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import RunError

from . import runs

#: The file in a run's folder, of which a run on one host has none.
NAME = "clocks.json"
#: Two clocks run apart by at most this share: cheap crystals do by 1e-4, and a clock that is being slewed by little more.
MOST_DRIFT = 2e-4
#: A clock keeps the best samples of windows of at first so many nanoseconds; of more windows than that it makes wider ones.
WINDOW_NS, WINDOWS, BEST = 1_000_000_000, 96, 3
#: A sample is held against so many neighbours; at most one in so many may be left out as wrong.
NEIGHBOURS, FEW = 8, 8


class Sample(NamedTuple):
    """An answer of a host: its clock stood at `mono_ns` between two moments of the launcher's, all in nanoseconds."""

    sent_ns: int
    mono_ns: int
    received_ns: int

    @property
    def round_trip_ns(self) -> int:
        """How long the answer took."""
        return self.received_ns - self.sent_ns

    @property
    def at_ns(self) -> float:
        """The middle, by the launcher's clock."""
        return (self.sent_ns + self.received_ns) / 2


class Line(NamedTuple):
    """How far a host's monotonic clock is ahead of the launcher's: `offset_ns` at the launcher's `at_ns`, and its drift.

    `error_ns` bounds how far the truth may be from it in the time that it was made for; `drift_ppb` is in 1e-9.
    """

    host: str = ""
    offset_ns: int = 0
    drift_ppb: float = 0.0
    error_ns: int = 0
    at_ns: int = 0
    samples: int = 0

    def launcher_time(self, host_ns: int) -> int:
        """Return a time of the host's monotonic clock by the launcher's, in nanoseconds."""
        drift, since = self.drift_ppb * 1e-9, host_ns - self.offset_ns - self.at_ns
        return since - round(since * (drift / (1 + drift))) + self.at_ns


#: The launcher's own clock.
OWN = Line()
_Bound = tuple[
    float, float, float
]  # a place in time from 0 (first) to 1 (last), and the least and the most offset there
_Point = tuple[float, float]  # the offsets at these two moments, by a line


class Clock:
    """What is known of one host's clock, in memory that does not grow."""

    def __init__(self) -> None:
        self.samples = 0  # how many were taken in
        self._width = WINDOW_NS
        self._windows: dict[int, list[Sample]] = {}

    def add(self, sample: Sample) -> None:
        """Take in a sample; raises ValueError for an answer that came before its question."""
        if sample.round_trip_ns < 0:
            raise ValueError(f"received {-sample.round_trip_ns:,} ns before it was sent")
        self.samples += 1
        self._keep(sample)
        while len(self._windows) > WINDOWS:
            kept = [each for window in self._windows.values() for each in window]
            self._width, self._windows = 2 * self._width, {}
            for each in kept:
                self._keep(each)

    def _keep(self, sample: Sample) -> None:
        window = self._windows.setdefault(sample.sent_ns // self._width, [])
        bisect.insort(window, sample, key=lambda each: each.round_trip_ns)
        del window[BEST:]

    def line(self, host: str = "", until_ns: int = 0) -> Line:
        """Return the clock's line from the first sample to the last one, or to the later moment `until_ns`.

        Raises ValueError where there is no sample.
        """
        kept = sorted(each for window in self._windows.values() for each in window)
        if not kept:
            raise ValueError("no sample")
        used = _agreeing(kept)
        first, last = kept[0].sent_ns, max(kept[-1].received_ns, until_ns, kept[0].sent_ns + 1)
        zero = used[0].mono_ns - used[0].sent_ns  # offsets of hours would cost a float its nanoseconds
        bounds = [_bound(each, first, last, zero) for each in used]
        points, slack = _lines_through(bounds, MOST_DRIFT * (last - first))
        here, there = ([point[end] for point in points] for end in (0, 1))
        begin, end = (min(here) + max(here)) / 2, (min(there) + max(there)) / 2
        error = max(max(here) - min(here), max(there) - min(there)) / 2
        if slack:
            error = max(error, self._farthest(used, bounds, (begin, end), last - first))
        at = (first + last) // 2
        offset = zero + round(begin + (end - begin) * (at - first) / (last - first))
        # One nanosecond for each rounding: of the offset, and of times that are moved by it.
        return Line(host, offset, (end - begin) / (last - first) * 1e9, math.ceil(error) + 2, at, self.samples)

    def _farthest(self, used: Sequence[Sample], bounds: Sequence[_Bound], ends: _Point, span_ns: int) -> float:
        """Return how far a clock that does not drift steadily may be from a line: at samples, between and after them."""
        nearest: dict[int, _Point] = {}  # of each window the sample that bounds it best: how far, and its place
        for sample, (place, least, most) in zip(used, bounds, strict=True):
            on_line = ends[0] + (ends[1] - ends[0]) * place
            window, away = sample.sent_ns // self._width, max(on_line - least, most - on_line)
            nearest[window] = min((away, place), nearest.get(window, (away, place)))
        places = sorted(place for _, place in nearest.values())
        apart = max([places[0], 1 - places[-1], *((b - a) / 2 for a, b in itertools.pairwise(places))])
        return max(nearest.values())[0] + 2 * MOST_DRIFT * apart * span_ns


def _bound(sample: Sample, first: int, last: int, zero: int) -> _Bound:
    """Return a sample's bounds, at its middle; the stamp may be half a round trip older or newer than that."""
    drifted = MOST_DRIFT * sample.round_trip_ns / 2 + 1
    least, most = sample.mono_ns - sample.received_ns - zero, sample.mono_ns - sample.sent_ns - zero
    return (sample.at_ns - first) / (last - first), least - drifted, most + drifted


def _agreeing(samples: list[Sample]) -> list[Sample]:
    """Return the samples without those that most of their neighbours in time contradict; all of them if these are many."""
    good = []
    for place, sample in enumerate(samples):
        begin = max(0, min(place - NEIGHBOURS // 2, len(samples) - NEIGHBOURS - 1))
        others = [each for each in samples[begin : begin + NEIGHBOURS + 1] if each is not sample]
        if 2 * sum(_contradict(sample, other) for other in others) <= len(others):
            good.append(sample)
    return good if len(samples) - len(good) <= max(len(samples) // FEW, len(samples) > 2) else samples


def _contradict(one: Sample, other: Sample) -> bool:
    """Whether no clock that drifts as clocks do can have given both answers."""
    drifted = MOST_DRIFT * (abs(one.at_ns - other.at_ns) + one.round_trip_ns + other.round_trip_ns) + 2
    return (
        one.mono_ns - one.received_ns > other.mono_ns - other.sent_ns + drifted
        or other.mono_ns - other.received_ns > one.mono_ns - one.sent_ns + drifted
    )


def _lines_through(bounds: Sequence[_Bound], turn: float) -> tuple[list[_Point], float]:
    """Return the corners of the polygon of all lines that keep within the bounds, and by how much these were widened.

    `turn` is the most that an offset may change from the first moment to the last, in nanoseconds.
    """
    if points := _polygon(bounds, turn, 0.0):
        return points, 0.0
    slack = 1.0
    while not (points := _polygon(bounds, turn, slack)):
        slack *= 2
    below = slack / 2
    while slack - below > 1:
        middle = (below + slack) / 2
        if found := _polygon(bounds, turn, middle):
            points, slack = found, middle
        else:
            below = middle
    return points, slack


def _polygon(bounds: Sequence[_Bound], turn: float, slack: float) -> list[_Point]:
    """Return the corners of the lines within bounds that are widened by `slack`, or none."""
    place, least, most = min(bounds, key=lambda bound: bound[2] - bound[1])
    corners = [(least - slack, -turn), (most + slack, -turn), (most + slack, turn), (least - slack, turn)]
    points = [(offset - change * place, offset + change * (1 - place)) for offset, change in corners]
    for place, least, most in bounds:
        points = _clipped(points, 1 - place, place, most + slack)
        points = _clipped(points, place - 1, -place, slack - least)
        if not points:
            break
    return points


def _clipped(points: list[_Point], p: float, q: float, most: float) -> list[_Point]:
    """Return what of a convex polygon has p·u + q·v ≤ most (Sutherland and Hodgman, 1974)."""
    above = [p * u + q * v - most for u, v in points]
    if max(above, default=0.0) <= 0:
        return points
    found: list[_Point] = []
    for k, (point, height) in enumerate(zip(points, above, strict=True)):
        before, lower = points[k - 1], above[k - 1]
        if (height > 0) != (lower > 0):
            share = lower / (lower - height)
            found.append((before[0] + share * (point[0] - before[0]), before[1] + share * (point[1] - before[1])))
        if height <= 0:
            found.append(point)
    return found


def document(lines: Mapping[str, Line]) -> dict[str, Any]:
    """Return what `clocks.json` says: each stage's line."""
    return {"stages": {stage: line._asdict() for stage, line in lines.items()}}


def read(folder: Path) -> dict[str, Line]:
    """Return each stage's line; none where a run has no `clocks.json`: its stages are on the launcher's host.

    Raises RunError for a file that makes no sense.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    stages = (runs.read_json(path) or {}).get("stages")
    try:
        return {str(stage): _line(told) for stage, told in stages.items()}  # type: ignore[union-attr]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise RunError(f"{path}: damaged; the stages' times are shown as each host's clock told them") from None


def _line(told: Mapping[str, Any]) -> Line:
    drift = float(told["drift_ppb"])
    whole = {key: told[key] for key in ("offset_ns", "error_ns", "at_ns", "samples")}
    if not all(isinstance(value, int) and abs(value) < 2**62 for value in whole.values()):
        raise TypeError
    if not abs(drift) <= 1e9 / 2 or whole["error_ns"] < 0:
        raise ValueError
    return Line(host=str(told["host"]), drift_ppb=drift, **whole)


def told(error_ns: int) -> str:
    """Return in words how far times of different hosts may be off against each other; nothing for one host."""
    if not error_ns:
        return ""
    error = f"{error_ns / 1e6:,.3f} ms" if error_ns >= 1_000_000 else f"{error_ns / 1e3:,.1f} µs"
    return f"times of different hosts are aligned to within ±{error}"


def beside(text: str, error_ns: int) -> str:
    """Return a text with the clocks' error behind it, or as it is for one host."""
    return f"{text}; {told(error_ns)}" if error_ns else text
