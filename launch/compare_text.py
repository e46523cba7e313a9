"""What `timebox compare` prints for people, in 80 columns. Pure.

A figure is its median with the interval in brackets: `1,175 (1,020 – 1,310)`; in square brackets the range, where there are
fewer than `spread.LEAST` repeats, which have no interval and claim nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

from .spread import LEAST, Spread, scaled
from .text import table

COLUMNS = 80
#: A single sentence may be so long.
WIDE = 100
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
    # Nobody asked how fast the controls are that came by themselves; the last table tells it.
    asked = [is_asked(row) for row in rows]
    fast, called = list(compress(rows, asked)), list(compress(names, asked))
    speed, accuracy = _shown(document)
    blocks = [_machine(document), key]
    blocks += [*_packed("speed", _speed(document), fast, called), *_packed("time", _time(), fast, called)]
    blocks += [*_packed("stale", _stale(rows), fast, called), *_packed("learning", _learning(document), rows, names)]
    blocks += [*_packed("speed beside", speed, fast, called), *_packed("accuracy beside", accuracy, rows, names)]
    blocks += [_controls(document, names), _beside_local(document), _missing(document)]
    blocks += [_too_few(document), _notes(document)]
    return "\n\n".join(block for block in blocks if block)


def is_asked(row: dict[str, Any]) -> bool:
    """Whether a row was named, or is one of the two that speeds are held against, `process` and `locked`."""
    return not row["is_added"] or row["control"] in ("process", "locked")


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
        columns.append(_column(f"{_unit(document)}/s", "images_per_s"))
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


def _unit(document: dict[str, Any]) -> str:
    return str(document.get("unit", "images"))


def _right(document: dict[str, Any]) -> str:
    """Return what accuracies are shares of; of images that goes without saying."""
    return str(document.get("right", "right"))


def _stale(rows: Sequence[dict[str, Any]]) -> list[Column]:
    kinds = dict.fromkeys([*STALE, *(kind for row in rows for kind in row["staleness"])])
    return [_column(f"{kind}, updates", f"staleness.{kind}") for kind in kinds]


def _learning(document: dict[str, Any]) -> list[Column]:
    marks = document["marks"]
    columns = [_column(f"% {_right(document)} at end", "accuracy", PERCENT)]
    columns.append(("level", lambda row: f"{row['level']:g}" if "level" in row else "–"))
    if marks["seconds"] is not None:
        columns.append(_column(f"% at {marks['seconds']:.3g} s", "accuracy_at_time", PERCENT))
    if marks["accuracy"] is not None:
        columns.append(_column(f"s to {PERCENT * marks['accuracy']:.3g} %", "seconds_to_accuracy"))
    if marks["images"] is not None:
        columns.append(_column(f"% after {marks['images']:,} {_unit(document)}", "accuracy_at_images", PERCENT))
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
        [("boxes that never learn", of("accuracy")), ("the first row", of_first("accuracy")), ("% of the gap", _gap)],
    ]


def _gap(row: dict[str, Any]) -> str:
    recovered = row["gap_recovered"]
    return row["verdicts"].get("gap_recovered", "–") if recovered is None else f"{PERCENT * recovered:.0f}"


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


def _controls(document: dict[str, Any], names: Sequence[str]) -> str:
    """Return the controls in a line each: what each is, how much it learnt and how fast it was, or that it was not run."""
    by_label = {row["label"]: (name, row) for name, row in zip(names, document["rows"], strict=True)}
    impossible = {each["control"] for each in document["missing_controls"] if each["command"] is None}
    cells = []
    for each in document["controls"]:
        if each["label"] is None:
            said = "cannot be" if each["control"] in impossible else "not run"
            cells.append((each["control"], each["what"], said, "–"))
            continue
        name, row = by_label[each["label"]]
        speed = "–" if row["batches_per_s"] is None else f"{row['batches_per_s']:,.0f}"
        shown = name if name == each["label"] else f"{name} {each['control']}"
        cells.append((shown, each["what"], figure(row, "accuracy", PERCENT), speed))
    title = f"% {_right(document)} at end"
    return table(("controls", "what they are", title, "batches/s"), cells, left=(0, 1)) if cells else ""


def _missing(document: dict[str, Any]) -> str:
    """Return the commands that run what is missing, each on one line, however long: it is there to be copied."""
    missing = document["missing_controls"]
    lines = []
    commands = dict.fromkeys(each["command"] for each in missing if each["command"])
    for command in commands:
        rows = dict.fromkeys(row for each in missing if each["command"] == command for row in each["rows"])
        whose = "them" if len(commands) == 1 else f"those of {', '.join(rows)}"
        lines += [
            _filled(f"without controls a comparison of learning proves nothing; to run {whose}:"),
            f"    {command}",
        ]
    reasons: dict[str, list[str]] = {}
    for each in missing:
        if each["command"] is None:
            reasons.setdefault(each["what"].partition(": ")[2], []).append(each["control"])
    lines += [_filled(f"{', '.join(kinds)}: {why}") for why, kinds in reasons.items()]
    return "\n".join(lines)


def _beside_local(document: dict[str, Any]) -> str:
    """Return the line on rules that classifiers without a message back equal or beat."""
    found = document["beside_local"]
    parts = [f"{PERCENT * each['local_accuracy']:.1f} % beside {PERCENT * each['accuracy']:.1f} %" for each in found]
    if len(document["rows"]) - sum(row["control"] is not None for row in document["rows"]) > 1:
        parts = [f"{part} of {each['label']}" for part, each in zip(parts, found, strict=True)]
    is_own = any("level" in row for row in document["rows"])
    told = f"{'losses of own steps alone' if is_own else 'local classifiers'}, which send nothing back, are as good or better"
    # One row's line stays one.
    return textwrap.fill(f"{told}: {', '.join(parts)}", WIDE, subsequent_indent="  ") if found else ""


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
        notes.append(f"% at {marks['seconds']:.3g} s: when the first run ended, one process and controls aside")
    if marks["accuracy"] is not None:
        notes.append(f"s to {PERCENT * marks['accuracy']:.3g} %: the best that every run reached, controls aside")
    if any(row["gap_recovered"] is not None for row in rows):
        notes.append("% of the gap: from boxes that never learn to locked, by medians")
    if any(row["verdicts"].get("gap_recovered") for row in rows):
        notes.append("no gap: locked is not shown above boxes that never learn")
    if any(
        found["repeats"] < row["repeats"]
        for row in rows
        for name, found in row["spread"].items()
        if not _is_ratio(name)
    ):
        notes.append("of N after a figure: only N of the repeats have it")
    if estimated := [row["label"] for row in rows if row["is_estimated"]]:
        notes.append(f"times of evaluations are estimated from the {_unit(document)} seen: {', '.join(estimated)}")
    if document["out"]:
        notes.append(f"picture: {document['out']}")
    return "\n".join(_filled(note) for note in notes)


def _filled(text: str) -> str:
    indent = "    " if text.startswith("  ") else "  "
    return textwrap.fill(text, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
