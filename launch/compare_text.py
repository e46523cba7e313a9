"""What `timebox compare` prints for people, in 80 columns. Pure.

A figure is its median with the interval in brackets: `1,175 (1,020 – 1,310)`; in square brackets the range, where there are
fewer than `spread.LEAST` repeats, which have no interval and claim nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from .spread import LEAST, Spread, scaled
from .text import table

COLUMNS = 80
#: Longer labels than this are told once, and stand as a number in the tables.
LONGEST = 20
GAP = 2
PERCENT = 100.0
#: The kinds of staleness, in the order in which they are told.
STALE = ("update", "target", "increment")

Column = tuple[str, Callable[[dict[str, Any]], str]]


def render(document: dict[str, Any]) -> str:
    """Return the tables, what they show, and what is missing."""
    rows = document["rows"]
    names, key = _names(rows)
    blocks = [_machine(document), key]
    blocks += [*_packed("speed", _speed(document), rows, names), *_packed("time", _time(), rows, names)]
    blocks += [*_packed("stale", _stale(rows), rows, names), *_packed("learning", _learning(document), rows, names)]
    for title, columns in zip(("speed beside", "accuracy beside"), _shown(document), strict=True):
        blocks += _packed(title, columns, rows, names)
    blocks += [_too_few(document), _missing(document), _notes(document)]
    return "\n\n".join(block for block in blocks if block)


def _machine(document: dict[str, Any]) -> str:
    environment, runs = document["environment"], sum(row["repeats"] for row in document["rows"])
    what = f"{runs} run{'s' * (runs > 1)} in {len(document['rows'])} row{'s' * (len(document['rows']) > 1)}"
    where = f"{environment.get('processor', 'processor unknown')}, {environment.get('cores', '?')} cores"
    return f"{what}; {where if environment['same'] else 'several machines or versions'}"


def _names(rows: Sequence[dict[str, Any]]) -> tuple[list[str], str]:
    """Return what rows are called in the tables, and what these names stand for, where they are numbers."""
    labels = [row["label"] for row in rows]
    if max(map(len, labels)) <= LONGEST:
        return labels, ""
    lines = [
        textwrap.fill(label, COLUMNS, initial_indent=f"{number:>3}  ", subsequent_indent="     ")
        for number, label in enumerate(labels, 1)
    ]
    return [str(number) for number in range(1, len(rows) + 1)], "\n".join(lines)


def _packed(title: str, columns: Sequence[Column], rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """Return columns as one table, or as several where they do not fit side by side; those without a figure are left out."""
    found = [(head, [cell(row) for row in rows]) for head, cell in columns]
    found = [(head, cells) for head, cells in found if any(cell != "–" for cell in cells)]
    first = max(map(len, (title, *names)))
    tables: list[list[tuple[str, list[str]]]] = []
    width = COLUMNS
    for head, cells in found:
        needed = GAP + max(map(len, (head, *cells)))
        if width + needed > COLUMNS:
            tables.append([])
            width = first
        tables[-1].append((head, cells))
        width += needed
    return [
        table(
            (title, *(head for head, _ in part)),
            list(zip(names, *(cells for _, cells in part), strict=True)),
            left=(0,),
        )
        for part in tables
    ]


def figure(row: dict[str, Any], name: str, times: float = 1.0) -> str:
    """Return a figure of a row with its spread, per cent to a tenth, others to three digits or more; or a dash."""
    found = row["spread"].get(name)
    if found is None:
        return "–"
    shown = scaled(Spread(**found), times)
    size = max(abs(shown.least), abs(shown.most))
    form = "{:,.0f}" if size >= 100 else "{:.1f}" if size >= 10 else "{:.2f}" if size >= 0.1 or not size else "{:.3f}"
    text = shown.text("{:.1f}" if times == PERCENT else form)
    # Of a ratio to a row of fewer repeats the verdict tells how many there were.
    return text if _is_ratio(name) or found["repeats"] == row["repeats"] else f"{text} of {found['repeats']}"


def _is_ratio(name: str) -> bool:
    return name.startswith(("speed_up", "efficiency"))


def _column(head: str, name: str, times: float = 1.0) -> Column:
    return head, lambda row: figure(row, name, times)


def _speed(document: dict[str, Any]) -> list[Column]:
    rows = document["rows"]
    beside = {each["label"]: each["speed_up"] for each in document["beside_first"] if each["speed_up"] is not None}

    def times(row: dict[str, Any]) -> str:
        found = beside.get(row["label"])
        return figure({"spread": {"speed_up": found}, "repeats": found["repeats"]}, "speed_up") if found else "–"

    columns: list[Column] = [("repeats", lambda row: str(row["repeats"])), _column("batches/s", "batches_per_s")]
    if any(row["batch"] != rows[0]["batch"] for row in rows) or rows[0]["batch"] > 1:
        columns.append(_column("images/s", "images_per_s"))
    columns += [_column("× one process", "speed_up_process"), _column("× locked", "speed_up_locked")]
    columns += [("× the first row", times), ("workers", lambda row: str(row["workers"]))]
    return [
        *columns,
        _column("% of workers", "efficiency", PERCENT),
        _column("% of ideal", "efficiency_cores", PERCENT),
    ]


def _time() -> list[Column]:
    columns = [_column("seconds", "seconds"), _column("training", "training_s")]
    return [
        *columns,
        _column("idle % of makespan", "bubble.of_makespan", PERCENT),
        _column("idle ÷ busy", "bubble.of_busy"),
    ]


def _stale(rows: Sequence[dict[str, Any]]) -> list[Column]:
    kinds = dict.fromkeys([*STALE, *(kind for row in rows for kind in row["staleness"])])
    return [_column(f"{kind}, updates", f"staleness.{kind}") for kind in kinds]


def _learning(document: dict[str, Any]) -> list[Column]:
    marks = document["marks"]
    columns = [_column("% right at end", "accuracy", PERCENT)]
    if marks["seconds"] is not None:
        columns.append(_column(f"% at {marks['seconds']:.3g} s", "accuracy_at_time", PERCENT))
    if marks["accuracy"] is not None:
        columns.append(_column(f"s to {PERCENT * marks['accuracy']:.3g} %", "seconds_to_accuracy"))
    if marks["images"] is not None:
        columns.append(_column(f"% after {marks['images']:,} images", "accuracy_at_images", PERCENT))
    return columns


def _shown(document: dict[str, Any]) -> list[list[Column]]:
    """Return the columns that say what is shown of speed, and of accuracy."""
    beside = {each["label"]: each for each in document["beside_first"]}

    def of_first(name: str) -> Callable[[dict[str, Any]], str]:
        return lambda row: _short(beside.get(row["label"], {}).get(name))

    def of(kind: str) -> Callable[[dict[str, Any]], str]:
        return lambda row: _short(row["verdicts"].get(kind))

    speed: list[Column] = [("one process", of("speed_up_process")), ("locked", of("speed_up_locked"))]
    return [
        [*speed, ("the first row", of_first("speed"))],
        [("boxes that never learn", of("accuracy")), ("the first row", of_first("accuracy"))],
    ]


def _short(verdict: str | None) -> str:
    """Return a verdict as it stands in a table: too few repeats are a reason and no claim."""
    if verdict is None:
        return "–"
    head, _, few = verdict.partition(" (")
    return f"{few.rstrip(')').replace('are needed', 'needed')}" if few else head


def _too_few(document: dict[str, Any]) -> str:
    """Return the line on figures without an interval, with the way out where a row has too few repeats."""
    if all(found["low"] is not None for row in document["rows"] for found in row["spread"].values()):
        return ""
    way = f"; more: {document['more_repeats']}" if document["more_repeats"] else ""
    return f"under {LEAST} repeats: no interval, no claim, only [least – most]{way}"


def _missing(document: dict[str, Any]) -> str:
    missing = document["missing_controls"]
    if not missing:
        return ""
    lines = [_filled("without controls a comparison of learning proves nothing:")]
    for command in dict.fromkeys(each["command"] for each in missing):
        lines += [_filled(f"  {each['what']}") for each in missing if each["command"] == command]
        # A command stands on one line, however long: it is there to be copied.
        lines += [f"    {command}"] if command else []
    return "\n".join(lines)


def _notes(document: dict[str, Any]) -> str:
    rows, marks = document["rows"], document["marks"]
    notes = [
        "figures: median (95 % bootstrap interval of the median)",
        "batches/s: steady, without the first tenth",
        "seconds: with the start of the processes; training: first go to last end",
    ]
    if any("efficiency" in row["spread"] for row in rows):
        notes.append("% of workers: × one process ÷ workers (boxes and head)")
        notes.append("% of ideal: × one process ÷ workers or cores, the fewer")
    if any(row["bubble"] for row in rows):
        notes.append("idle: starved or blocked, mean over the boxes")
    if any(row["staleness"] for row in rows):
        notes.append("stale: mean over the boxes' updates")
    if marks["seconds"] is not None:
        notes.append(f"% at {marks['seconds']:.3g} s: when the first run ended, one process and frozen aside")
    if marks["accuracy"] is not None:
        notes.append(f"s to {PERCENT * marks['accuracy']:.3g} %: the best that every run reached, frozen aside")
    if any(
        found["repeats"] < row["repeats"]
        for row in rows
        for name, found in row["spread"].items()
        if not _is_ratio(name)
    ):
        notes.append("of N after a figure: only N of the repeats have it")
    if estimated := [row["label"] for row in rows if row["is_estimated"]]:
        notes.append(f"times of evaluations are estimated from the images seen: {', '.join(estimated)}")
    if document["out"]:
        notes.append(f"picture: {document['out']}")
    return "\n".join(_filled(note) for note in notes)


def _filled(text: str) -> str:
    indent = "    " if text.startswith("  ") else "  "
    return textwrap.fill(text, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
