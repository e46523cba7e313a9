"""What `timebox bench family`, `copy` and `repeat-copy` print: tables, and what they show in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from .text import table

NOTE = "cost: multiply-adds of the boxes, backpropagation is 1"


def lines(document: Mapping[str, Any]) -> list[str]:
    """Return the tables of `family` for people."""
    found: list[str] = [
        f"one process each, {document['repeats']} seeds of the first weights; median (lowest – highest)"
    ]
    for preset, what in dict.fromkeys((row["preset"], row["what"]) for row in document["rows"]):
        rows = [row for row in document["rows"] if (row["preset"], row["what"]) == (preset, what)]
        figure = "last_cost" if preset == "adding" else "accuracy"
        cells = [(row["rule"], _figure(row, figure), f"{row['cost']:.2f}") for row in rows]
        found += ["", f"{preset}, {what}", table(("rule", "test", "cost"), cells, left=(0,))]
    return [*found, "", NOTE, "", *_beside(document["rows"])]


def _figure(row: Mapping[str, Any], key: str) -> str:
    values = sorted(row[key])
    failed = f"{row['failed']} flew off" if row["failed"] else ""
    if not values:
        return failed or "–"
    shape = "{:.4f}" if key == "last_cost" else "{:.2f}"
    low, middle, high = (
        shape.format(each * (1 if key == "last_cost" else 100)) for each in (values[0], median(values), values[-1])
    )
    return f"{middle} ({low} – {high})" + (f"; {failed}" if failed else "")


def _beside(rows: list[dict[str, Any]]) -> list[str]:
    """Return how far each oracle is from backpropagation, in words."""
    found = []
    for row in rows:
        like = [each for each in rows if (each["preset"], each["what"]) == (row["preset"], row["what"])]
        if "oracle" not in row["rule"] or row["preset"] == "adding" or not (row["accuracy"] and like[0]["accuracy"]):
            continue
        gap = 100 * (median(row["accuracy"]) - median(like[0]["accuracy"]))
        size, colon, _ = row["what"].partition(":")
        name = f"{row['preset']}, {size}" if colon else row["preset"]
        found.append(f"{name}, {row['rule']}: {gap:+.2f} points beside backpropagation")
    return found


def copy_lines(document: Mapping[str, Any]) -> list[str]:
    """Return the table of `copy` or `repeat-copy` for people."""
    name, most = document["bench"], document["longest"]
    rows = document["rows"]
    found = [
        f"{name}: the longest sequences whose cost came below {document['bound']:g} bits a bit, in the mean of an epoch, of "
        f"{_size(document, most)} at most;",
        f"{document['batches']:,} batches, {document['epochs']} epochs; the shorter ones all came before",
        f"one process each, {document['repeats']} seeds of the first weights: each, and the median",
        "",
    ]
    cells = []
    for row in rows:
        levels = sorted(int(level) for level in row["level"])
        failed = [f"{row['failed']} flew off"] if row["failed"] else []
        each = ", ".join([*(_size(document, level) for level in levels), *failed])
        cells.append(
            (row["what"], str(row["boxes"]), row["rule"], _size(document, int(median(levels))) if levels else "–", each)
        )
    found += [table(("cut into", "boxes", "rule", "median", "each seed"), cells, left=(0, 2, 3, 4)), ""]
    return found + _verdicts(document, rows)


def _size(document: Mapping[str, Any], level: int) -> str:
    """Return a level as people say it: 5, or 3 × 4 for three symbols four times."""
    if not level:
        return "none"
    length, repeats = document["lengths"][level - 1]
    return str(length) if document["bench"] == "copy" else f"{length} × {repeats}"


def _verdicts(document: Mapping[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """Return by how much the oracle's sequences are longer than those of truncated backpropagation."""
    found = []
    own = {(row["what"], row["rule"]): [_symbols(document, int(level)) for level in row["level"]] for row in rows}
    for what in dict.fromkeys(row["what"] for row in rows):
        other = own.get((what, "truncated at the edges"), [])
        for rule in ("oracle", "oracle, true targets"):
            mine = own.get((what, rule), [])
            if not (mine and other and median(other)):
                continue
            apart = "every seed" if min(mine) >= 2 * max(other) else "the medians"
            found.append(
                f"{what}, {rule}: answers {median(mine) / median(other):.1f} × as long as truncated backpropagation's, "
                f"{median(mine):g} symbols beside {median(other):g}"
                + (f"; twice at least in {apart}" if median(mine) >= 2 * median(other) else "")
            )
    return found


def _symbols(document: Mapping[str, Any], level: int) -> int:
    """Return how many symbols the answer of a level has."""
    length, repeats = document["lengths"][level - 1] if level else (0, 0)
    return int(length * repeats)
