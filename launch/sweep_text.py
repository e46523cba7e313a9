"""What a sweep says: its progress, its points' figures with their intervals, and its tables.

Figures are compared by pairs: a point's run of a repeat beside the other point's run of the same repeat, which was done
within minutes of it. Accuracies are compared only where each repeat has another seed; else repeats tell nothing of them.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from . import spread, terminal, text
from .spread import Spread
from .supervise import Supervisor

#: Seconds between two pictures on a terminal.
PICTURE_S = 0.5
#: How wide a table may be.
COLUMNS = 80
MODES = {"reference": "one process", "simulate": "virtual time"}


def flat(table: Mapping[str, Any], leaves: Container[str] = (), prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of nested tables as `group.key` with their values; what is among `leaves` stays a table."""
    for key, each in table.items():
        name = prefix + key
        if isinstance(each, dict) and each and name not in leaves:
            yield from flat(each, leaves, f"{name}.")
        else:
            yield name, each


def value(each: Any) -> str:
    """Return the value of a key as a flag has it: `true`, `box-2=20,head=5`."""
    if isinstance(each, Mapping):
        return ",".join(f"{name}={value(amount)}" for name, amount in each.items())
    return str(each).lower() if isinstance(each, bool) else str(each)


def label(values: Mapping[str, Any], mode: str) -> str:
    """Return a point in words: `locked, width 64`, `locked, width 64, one process`."""
    parts = [each if isinstance(each, str) else f"{_short(key, values)} {value(each)}" for key, each in values.items()]
    return ", ".join([*parts, *([MODES[mode]] if mode in MODES else [])]) or "as set"


def _short(key: str, keys: Mapping[str, Any] | Sequence[str]) -> str:
    """Return a key without its group, where that names it."""
    short = key.partition(".")[2]
    return short if sum(each.partition(".")[2] == short for each in keys) == 1 else key


# Progress


def seconds_left(todo: Sequence[int], took: Sequence[tuple[int, float]]) -> float | None:
    """Return how long runs of these points will take, by the runs so far: the same point's, else all of them; pure."""
    if not took:
        return None
    by: dict[int, list[float]] = {}
    for point, seconds in took:
        by.setdefault(point, []).append(seconds)
    usual = sum(seconds for _, seconds in took) / len(took)
    return sum(sum(by[point]) / len(by[point]) if point in by else usual for point in todo)


def duration(seconds: float) -> str:
    """Return a time for people."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02} s" if whole < 6_000 else f"{whole // 3_600} h {whole // 60 % 60:02} min"


class Progress:
    """Which run it is, how long it has taken and will take: in place on a terminal, a line a run elsewhere."""

    def __init__(self, runs: int, took: Sequence[tuple[int, float]], *, quiet: bool) -> None:
        self._runs, self._took, self._quiet = runs, [*took], quiet
        self._is_terminal = terminal.draws_over()
        self._began = self._since = time.monotonic()
        self._next = 0.0
        self._text, self._todo = "", [0]

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal and not self._quiet and self._text:
            terminal.over("")

    def begin(self, number: int, name: str, todo: Sequence[int]) -> None:
        """Tell that a run begins; `todo` are the points of this and all later ones."""
        self._since = time.monotonic()
        self._text = f"run {number} of {self._runs}: {name}" if number else f"{name}, then {self._runs} runs"
        self._todo, self._next = [*todo], 0.0
        self._tell()

    def end(self, row: Mapping[str, Any]) -> None:
        """Take in how long a run took, and tell at once that it failed."""
        self._took.append((row["point"], row["seconds"]))
        if row["status"] == "failed" and not self._quiet:
            if self._is_terminal:
                terminal.over("")
            terminal.say_aside(f"{self._text}: failed: {row['error']}")

    def __call__(self, state: Supervisor) -> None:  # noqa: ARG002
        """Show the time anew while a run goes on, on a terminal."""
        if self._is_terminal and time.monotonic() >= self._next:
            self._tell()

    def _tell(self) -> None:
        if self._quiet:
            return
        now = time.monotonic()
        self._next = now + PICTURE_S
        left = seconds_left(self._todo, self._took)
        gone = f"; {duration(now - self._began)} gone"
        rest = "" if left is None else f", about {duration(max(left - (now - self._since), 0))} left"
        line = f"{self._text}{gone}{rest}"
        (terminal.over if self._is_terminal else terminal.say_aside)(line)


# Figures


def summarise(rows: Sequence[Mapping[str, Any]], number: int, against: int | None, *, seeds: bool) -> dict[str, Any]:
    """Return a point's figures: rate and accuracy, and how they are beside another point's; None where there are none."""
    mine, other = _figures(rows, number, "batches_per_s"), _figures(rows, against, "batches_per_s")
    found: dict[str, Any] = {"against": against, "runs": sum(row["point"] == number for row in rows)}
    found["failed"] = sum(row["point"] == number and row["status"] == "failed" for row in rows)
    found["batches_per_s"] = spread.spread([*mine.values()]) if mine else None
    both = [] if number == against else [repeat for repeat in mine if other.get(repeat)]
    ratio = spread.ratios([mine[each] for each in both], [other[each] for each in both]) if both else None
    found |= {"ratio": ratio, "verdict": spread.verdict(ratio) if ratio else None}
    mine, other = _figures(rows, number, "accuracy"), _figures(rows, against, "accuracy")
    found["accuracy"] = spread.spread([*mine.values()]) if mine else None
    both = [] if number == against or not seeds else [repeat for repeat in mine if repeat in other]
    gain = spread.spread([mine[each] - other[each] for each in both]) if both else None
    if levels := [row["level"] for row in rows if row["point"] == number and row.get("level") is not None]:
        found["level"] = spread.spread(levels)
    found |= {"accuracy_difference": gain, "accuracy_verdict": _verdict(gain) if gain else None}
    return {key: each.document() if isinstance(each, Spread) else each for key, each in found.items()}


def _figures(rows: Sequence[Mapping[str, Any]], number: int | None, key: str) -> dict[int, float]:
    return {row["repeat"]: row[key] for row in rows if row["point"] == number and row[key] is not None}


def _verdict(gain: Spread) -> str:
    """Return what a difference shows; the verdict asks on which side of one an interval lies, here it is of zero."""
    low, high = (None if end is None else 1 + end for end in (gain.low, gain.high))
    return spread.verdict(gain._replace(low=low, high=high), "better", "worse")


# For people


def render(made: Mapping[str, Any]) -> str:
    """Return the tables of a sweep."""
    points, varied, seeds = made["points"], made["varied"], made["seeds"]
    modes = {point["mode"] for point in points}
    names = [_short(key, varied) for key in varied] + (["mode"] if len(modes) > 1 else [])
    cells = [
        [value(point[key]) for key in varied] + ([MODES.get(point["mode"], "processes")] if len(modes) > 1 else [])
        for point in points
    ]
    left = [place for place, name in enumerate(names) if any(not _is_number(row[place]) for row in cells)]
    lines = [spread.machine(made["environment"], made["repeats"]), _about(made), ""]
    rates = [None if point["batches_per_s"] is None else Spread(**point["batches_per_s"]) for point in points]
    told = [rate.text(_form(rate.median)) if rate else "–" for rate in rates]
    lines += _tables(names, cells, left, ("batches/s", told), ("ratio", [_ratio(point) for point in points]))
    if any(point["accuracy"] for point in points):
        told = [_percent(point["accuracy"], "{:.1f}") for point in points]
        gains: list[tuple[str, Sequence[Any]]] = [("more by", [_gain(point) for point in points])] if seeds else []
        if any("level" in point for point in points):
            gains.append(("level", [_level(point) for point in points]))
        lines += ["", *_tables(names, cells, left, (f"{made.get('right', 'images right')}, %", told), *gains)]
    notes = "" if len(made["rows"]) == made["runs"] else f" of {made['runs']}"
    lines += ["", f"{made['out']}/runs.csv: {len(made['rows'])}{notes} runs"]
    if made["failed"]:
        are = "run has" if made["failed"] == 1 else "runs have"
        lines.append(f"{made['failed']} {are} failed, see the column error; delete a row to have its run done again")
    if made["status"] == "interrupted":
        lines.append(f"stopped; the same command goes on where it was, with --out {made['out']}")
    return "\n".join([*lines, *([f"picture: {made['plot']}"] if "plot" in made else [])])


def _form(rate: float) -> str:
    return "{:,.0f}" if rate >= 100 else "{:.1f}" if rate >= 10 else "{:.2f}"


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace("-", "").replace("e", "").isdigit()


def _about(made: Mapping[str, Any]) -> str:
    rate = "in virtual time" if all(point["mode"] == "simulate" for point in made["points"]) else "without the start"
    rate = "of whole runs, as some have no trace" if made["rate"] == "whole" else rate
    beside = f"the like with the first {made['beside']}" if made["beside"] else "the first point"
    warm = f"; {made['warmup']} to warm up thrown away" if made["warmup"] else ""
    seeds = "another seed each repeat" if made["seeds"] else "one seed"
    return (
        f"{made['sweep']}: {len(made['points'])} points in turn{warm}; {seeds}\n"
        f"medians (95 % intervals) [ranges, under {spread.LEAST} repeats]; batches/s {rate}\n"
        f"ratio: to {beside}, by pairs"
    )


def _tables(
    names: Sequence[str], cells: Sequence[Sequence[str]], left: Sequence[int], *told: tuple[str, Sequence[Any]]
) -> list[str]:
    """Return figures beside their points: as one table, or where that is too wide as one table for each of them.

    A figure's cells are text, or pairs of text and a verdict.
    """
    header, rows, places = [*names], [[*row] for row in cells], [*left]
    for name, figures in told:
        pairs = [(each,) if isinstance(each, str) else each for each in figures]
        pairs = pairs if any(pair[1:] != ("",) for pair in pairs) else [pair[:1] for pair in pairs]
        header += [name, ""][: len(pairs[0])]
        places += [len(header) - 1] if len(pairs[0]) == 2 else []
        rows = [[*row, *pair] for row, pair in zip(rows, pairs, strict=True)]
    made = text.table(header, rows, left=places)
    if len(told) == 1 or max(map(len, made.splitlines())) <= COLUMNS:
        return [made]
    return [*_tables(names, cells, left, told[0]), "", *_tables(names, cells, left, *told[1:])]


def _ratio(point: Mapping[str, Any]) -> tuple[str, str]:
    if point["ratio"] is None:
        return ("1", "") if point["against"] == point["point"] else ("–", "")
    return Spread(**point["ratio"]).text(), _judged(point["ratio"], point["verdict"])


def _gain(point: Mapping[str, Any]) -> tuple[str, str]:
    found = point["accuracy_difference"]
    return _percent(found, "{:+.1f}"), "" if found is None else _judged(found, point["accuracy_verdict"])


def _level(point: Mapping[str, Any]) -> str:
    return Spread(**point["level"]).text("{:.3g}") if "level" in point else "–"


def _judged(found: Mapping[str, Any], verdict: str) -> str:
    """Return a verdict in few words."""
    return "too few repeats" if found["low"] is None else verdict


def _percent(found: Mapping[str, Any] | None, form: str) -> str:
    if found is None:
        return "–"
    shares: dict[str, Any] = {key: None if each is None else 100 * each for key, each in found.items()}
    return Spread(**shares | {"repeats": found["repeats"]}).text(form)
