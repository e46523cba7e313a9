"""Times of several hosts by one clock, the launcher's: as the pings tell (`clocks`), then as the messages do. Reads files.

No message is taken before it was sent. So where host B's times lie x_B too late and host A's x_A, a message from A to B that
was taken m after it was sent says x_A - x_B ≥ -m, and one that goes back bounds the difference from the other side:

    x_B - x_A ≤ taken - sent, the least of A's messages to B     -error ≤ x ≤ error, of each host

These are a system of difference constraints. Its solutions have, host by host, a least and a most value, the lengths of
shortest paths from and to the launcher's clock (Bellman and Ford); the middles of these ranges are a solution too, and
are taken. What is unknown of a host's line changes in the course of the run, by twice its error at the most and no faster than
clocks drift, so every host has an x in each of `PIECES` stretches of the run, which differ by no more than that allows.

Where the constraints contradict each other all bounds are widened until they do not, and the error with them; but where it
would have to double for that (a line is wrong, a trace damaged) the messages are not believed, and those that were taken before
they were sent are counted. A run on one host has no `clocks.json`; nothing is read, moved or copied then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline import trace
from pipeline.arrays import Array
from pipeline.errors import RunError
from pipeline.plan import Plan

from . import clocks
from .clocks import MOST_DRIFT, OWN, Line

#: Stretches of a run, and the most unknowns of all hosts together; with very many hosts the stretches get fewer.
PIECES, UNKNOWNS = 16, 2048


class Shift(NamedTuple):
    """How a stage's times become the launcher's: by its host's line, and by what the messages told besides.

    `moments` (the launcher's time by the line alone) and `late_ns`: what such a time is still too late by; between the
    moments it goes straight from one to the next.
    """

    line: Line = OWN
    moments: Array | None = None
    late_ns: Array | None = None

    @property
    def is_none(self) -> bool:
        """Whether times stay what they are."""
        return self.line == OWN

    def times(self, host_ns: Array) -> Array:
        """Return times of the host's monotonic clock by the launcher's, (n,) int64 nanoseconds; their order stays."""
        if self.is_none:
            return host_ns
        offset, drift, at = self.line.offset_ns, self.line.drift_ppb * 1e-9, self.line.at_ns
        since = host_ns.astype(np.int64) - (offset + at)
        found: Array = since - np.rint(since * (drift / (1 + drift))).astype(np.int64) + at
        if self.moments is not None and self.late_ns is not None:
            found = found - np.rint(np.interp(found, self.moments, self.late_ns)).astype(np.int64)
        return found

    def time(self, host_ns: int) -> int:
        """Return one time by the launcher's clock."""
        if self.moments is None:  # as for the many lines of a log that is followed
            return self.line.launcher_time(host_ns)
        return int(self.times(np.array([host_ns], np.int64))[0])

    def host_time(self, launcher_ns: int) -> int:
        """Return a time of the launcher's clock by the host's: the inverse of `time`, to the nanosecond or two."""
        if self.is_none:
            return launcher_ns
        if self.moments is not None and self.late_ns is not None:
            launcher_ns += round(float(np.interp(launcher_ns, self.moments, self.late_ns)))
        return launcher_ns + self.line.offset_ns + round(self.line.drift_ppb * 1e-9 * (launcher_ns - self.line.at_ns))

    def records(self, array: Array) -> Array:
        """Return a stage's records with their times by the launcher's clock."""
        if self.is_none:
            return array
        found = array.copy()
        found["start"], found["end"] = self.times(array["start"]), self.times(array["end"])
        # Of a message the moment in its midst is told as the time since its start.
        is_message = np.isin(array["kind"], (trace.SENT, trace.TAKEN))
        midst = self.times(array["start"] + array["c"].astype(np.int64)) - found["start"]
        found["c"] = np.where(is_message, midst, array["c"])
        return found


SAME = Shift()


@dataclass(frozen=True)
class Alignment:
    """The shifts of a run's stages, and what is left unknown."""

    shifts: Mapping[str, Shift] = field(default_factory=dict)
    error_ns: int = 0  # how far times of two stages on different hosts may be off against each other; 0: one host
    warnings: list[str] = field(default_factory=list)

    def of(self, stage: str) -> Shift:
        """Return a stage's shift."""
        return self.shifts.get(stage, SAME)

    @property
    def has_hosts(self) -> bool:
        """Whether stages are on several hosts."""
        return self.error_ns > 0


def by_pings(folder: Path, plan: Plan) -> Alignment:
    """Return how a run's times are aligned by `clocks.json` alone, as while it goes on."""
    lines, warnings = _lines(folder, plan)
    return Alignment({name: Shift(line) for name, line in lines.items()}, _between(lines, {}), warnings)


def of_run(folder: Path, plan: Plan) -> Alignment:
    """Return how a run's times are aligned, by `clocks.json` and by the messages on record."""
    alignment = by_pings(folder, plan)
    if not alignment.has_hosts:
        return alignment
    lines = {name: alignment.of(name).line for name in _names(plan)}
    arrays: dict[str, Array] = {}
    for name in lines:
        try:
            array = trace.read_records(folder, name).array
        except RunError:
            continue  # whoever reads the records tells it
        if len(array):
            arrays[name] = alignment.of(name).records(array)
    if not arrays:
        return alignment
    shifts, errors, slack = refined(lines, arrays)
    warnings = list(alignment.warnings)
    if slack:
        warnings.append(
            f"the clocks of the hosts and the messages contradict each other by {slack / 1e3:,.1f} µs; "
            f"the error stated is greater by that"
        )
    return Alignment({name: shifts[line] for name, line in lines.items()}, _between(lines, errors), warnings)


def _names(plan: Plan) -> list[str]:
    return [plan.name(k) for k in range(1, plan.head + 1)]


def _lines(folder: Path, plan: Plan) -> tuple[dict[str, Line], list[str]]:
    """Return the line of every stage's clock; the launcher's for those that are not told."""
    try:
        known = clocks.read(folder)
    except RunError as error:
        return {}, [str(error)]
    return {name: known.get(name, OWN) for name in _names(plan)} if known else {}, []


def _between(lines: Mapping[str, Line], errors: Mapping[Line, int]) -> int:
    """Return the greatest error between two different clocks: the sum of theirs."""
    found = sorted(errors.get(line, line.error_ns) for line in set(lines.values()))
    return max(1, sum(found[-2:])) if len(found) > 1 else 0


def refined(lines: Mapping[str, Line], arrays: Mapping[str, Array]) -> tuple[dict[Line, Shift], dict[Line, int], int]:
    """Return each clock's shift, the error that is left of it, and by how many nanoseconds the bounds had to be widened.

    `lines` are of all stages in their order, `arrays` their records by these lines, of those that have any.
    """
    names = list(lines)
    others = [line for line in dict.fromkeys(lines.values()) if line != OWN]
    pieces = max(1, min(PIECES, UNKNOWNS // len(others)))
    first = min(int(array["start"].min()) for array in arrays.values())
    width = (max(int(array["end"].max()) for array in arrays.values()) - first) // pieces + 1
    # Knot 0 is the launcher's clock, which is right; then every clock has a knot in each piece.
    begins = {line: 1 + place * pieces for place, line in enumerate(others)}
    # How far the unknown goes within a piece.
    may_turn = {line: min(2 * line.error_ns / pieces, 2 * MOST_DRIFT * width) for line in others}
    edges: list[tuple[Array, Array, Array]] = []
    for line in others:
        knots = np.arange(begins[line], begins[line] + pieces)
        zeros, error = np.zeros(pieces, np.int64), np.full(pieces, float(line.error_ns))
        turn = np.full(pieces - 1, may_turn[line])
        edges += [(zeros, knots, error), (knots, zeros, error)]
        edges += [(knots[:-1], knots[1:], turn), (knots[1:], knots[:-1], turn)]

    def knot(line: Line, ns: Array) -> Array:
        found: Array = begins[line] + (ns - first) // width if line != OWN else np.zeros(len(ns), np.int64)
        return found

    for sources, targets, name, other in _crossings(names, lines, arrays):
        one, two = lines[name], lines[other]
        loose = (may_turn.get(one, 0.0) + may_turn.get(two, 0.0)) / 2  # a knot is the middle of its piece
        edges.append((knot(one, sources), knot(two, targets), targets - sources + loose))
    heads, tails, lengths = (np.concatenate(column) for column in zip(*edges, strict=True))
    count = 1 + len(others) * pieces
    ranges = _ranges(heads, tails, lengths, count, max(line.error_ns for line in others))
    shifts, errors = {OWN: SAME}, {OWN: 0}
    if ranges is None:
        return shifts | {line: Shift(line) for line in others}, errors | {line: line.error_ns for line in others}, 0
    most, least, slack = ranges
    moments = first + width * (np.arange(pieces) + 0.5)
    for line in others:
        own = slice(begins[line], begins[line] + pieces)
        late = (most[own] + least[own]) / 2
        if np.abs(np.diff(late)).max(initial=0.0) > width / 2:
            late[:] = late.mean()  # only contradictions lead to that, and the order of records has to stay
        shifts[line] = Shift(line, moments, late)
        bound, half = line.error_ns + slack, may_turn[line] / 2
        upper, lower = np.minimum(most[own] + half, bound), np.maximum(least[own] - half, -bound)
        edge = (late[1:] + late[:-1]) / 2
        knots = np.stack([late, np.append(edge, late[-1]), np.insert(edge, 0, late[0])])
        away = np.maximum(upper - knots, knots - lower).max()
        errors[line] = math.ceil(away) + 1
    return shifts, errors, math.ceil(slack)


def _crossings(
    names: list[str], lines: Mapping[str, Line], arrays: Mapping[str, Array]
) -> list[tuple[Array, Array, str, str]]:
    """Return for each pair of stages on different clocks when their messages were sent and when they were taken."""
    found = []
    for name, array in arrays.items():
        sends = array[array["kind"] == trace.SENT]
        for peer in np.unique(sends["peer"]).tolist():
            other = names[peer - 1] if 1 <= peer <= len(names) else ""
            if other not in arrays or lines[other] == lines[name]:
                continue
            sent, taken = sends[sends["peer"] == peer], arrays[other]
            taken = taken[(taken["kind"] == trace.TAKEN) & (taken["peer"] == names.index(name) + 1)]
            _, here, there = np.intersect1d(sent["d"], taken["d"], return_indices=True)
            one, two = sent[here], taken[there]
            found.append(
                (one["start"] + one["c"].astype(np.int64), two["start"] + two["c"].astype(np.int64), name, other)
            )
    return found


def _ranges(
    heads: Array, tails: Array, lengths: Array, count: int, most_slack: float
) -> tuple[Array, Array, float] | None:
    """Return the most and the least that each knot may be above knot 0, and by how much all bounds had to be widened.

    None where that would have to be more than `most_slack`.
    """
    # Of the messages between two knots the one that was quickest says it all.
    key = heads * count + tails
    keys, places = np.unique(key, return_inverse=True)
    least = np.full(len(keys), np.inf)
    np.minimum.at(least, places, lengths)
    heads, tails = keys // count, keys % count

    def solved(slack: float) -> tuple[Array, Array] | None:
        most = _paths(heads, tails, least + slack, count)
        back = _paths(tails, heads, least + slack, count) if most is not None else None
        return None if most is None or back is None else (most, -back)

    if (found := solved(0.0)) is not None:
        return *found, 0.0
    slack, below = most_slack, 0.0
    if (found := solved(slack)) is None:
        return None
    while slack - below > max(1.0, 0.01 * slack):
        middle = (below + slack) / 2
        if (better := solved(middle)) is not None:
            found, slack = better, middle
        else:
            below = middle
    return *found, slack


def _paths(heads: Array, tails: Array, lengths: Array, count: int) -> Array | None:
    """Return the lengths of the shortest paths from knot 0, or None where a circle is shorter than nothing."""
    found = np.full(count, np.inf)
    found[0] = 0.0
    for _ in range(count + 1):
        before = found.copy()
        np.minimum.at(found, tails, before[heads] + lengths)
        if found[0] < -1e-6:
            return None
        if (before - found < 1e-3).all() or (found == before).all():
            return found
    return None
