"""What `timebox bench rules` and `rates` print: tables, and what they show in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .spread import Spread, overlap, scaled
from .text import table

HEAD = ("rule", "window", "late", "rate", "images right, %", "of the gap", "cost", "batches/s")
NOTES = (
    "late: batches by which what boxes learn from was late, in the mean",
    "cost: multiply-adds of the boxes, locked is 1; of the gap: between frozen and locked, by medians",
)


def lines(document: dict[str, Any]) -> list[str]:
    """Return the tables of `rules` for people."""
    data, rows = document["data"], document["rows"]
    images = f"{data['train']:,} training and {data['test']:,} test images"
    found = [f"{data['name']} ({data['source']}): {images}; another seed each repeat; medians (95 % intervals)"]
    for tied in (True, False):
        chosen = [row for row in rows if row["tied"] == tied and row["boxes"] == 4]
        found += ["", "tied boxes" if tied else "untied boxes", table(HEAD, [_cells(row) for row in chosen], left=(0,))]
    more = [(str(row["boxes"]), *_cells(row)) for row in rows if row["boxes"] != 4]
    found += ["", "more boxes of fewer steps, tied", table(("boxes", *HEAD), more, left=(1,))] if more else []
    return [*found, "", *NOTES, "", *verdicts(rows)]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    gap, rate, late = row["gap_recovered"], row["batches_per_s"], row["mean_late"]
    return (
        row["label"] + (", all sent back late" if row["late"] else ""),
        str(row["window"] or "–"),
        "–" if late is None else f"{late:.1f}",
        f"{row['rate']:g}",
        _percent(row["accuracy"]),
        "–" if gap is None else f"{100 * gap:.0f} %",
        f"{row['cost']:.2f}",
        "–" if rate is None or row["mode"] == "simulate" else f"{rate['median']:.0f}",
    )


def _percent(found: Mapping[str, Any] | None) -> str:
    return "–" if found is None else scaled(Spread(**found), 100).text("{:.1f}")


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Return what the table shows, in words: the oracle beside locked and delayed, and where local classifiers are better."""
    found = []
    for tied in (True, False):
        live = [row for row in rows if row["tied"] == tied and row["boxes"] == 4 and row["mode"] != "simulate"]
        own = {(row["rule"], row["window"], row["late"]): row for row in live if row["accuracy"]}
        if live and len(own) == len(live):  # else something has failed, and the table shows what
            found += _verdicts("tied" if tied else "untied", own)
    return found


def _verdicts(name: str, own: Mapping[tuple[str, int, bool], dict[str, Any]]) -> list[str]:
    def right(rule: str, window: int = 0, late: bool = False) -> float:
        return float(100 * own[rule, window, late]["accuracy"]["median"])

    gaps = ", ".join(f"{100 * own['oracle', w, False]['gap_recovered']:.0f} % at {w}" for w in (1, 4, 16))
    beside = right("oracle", 1) - right("locked")
    found = [
        f"{name}: the oracle at window 1 {beside:+.1f} points beside locked",
        f"{name}: of the gap between frozen and locked the oracle recovers, by window, {gaps}",
    ]
    for late, words in ((False, "at window 16"), (True, "with all that is sent back late")):
        ours, theirs = right("oracle", 16, late), right("delayed", 16, late)
        found.append(
            f"{name}: {words} the oracle {ours:.1f} %, the delayed true gradient {theirs:.1f} ({ours - theirs:+.1f})"
        )
    oracles = [row for row in own.values() if row["rule"].startswith("oracle")]
    local, best = own["local", 0, False], max(oracles, key=lambda row: float(row["accuracy"]["median"]))
    is_shown = not overlap(*(Spread(**each["accuracy"]) for each in (local, best)))
    found.append(
        f"{name}: local classifiers, which send nothing back, {right('local'):.1f} %; the best oracle "
        f"{100 * best['accuracy']['median']:.1f} ({best['label']}, {best['window']}): "
        + ("the intervals lie apart" if is_shown else "no difference shown")
    )
    return found


def rate_lines(document: dict[str, Any]) -> list[str]:
    """Return the table of `rates` for people; the best rate of each rule is marked."""
    rows, tried = document["rows"], sorted({row["rate"] for row in document["rows"]})
    found = []
    for rule in dict.fromkeys(row["rule"] for row in rows):
        for tied in (True, False):
            mine = [row for row in rows if (row["rule"], row["tied"]) == (rule, tied) and row["accuracy"]]
            own = {row["rate"]: row["accuracy"]["median"] for row in mine}
            best = max(own, key=lambda rate: float(own[rate]), default=None)
            cells = [
                f"{100 * own[rate]:.1f}{' *' if rate == best else '  '}" if rate in own else "–  " for rate in tried
            ]
            found.append((rule, "tied" if tied else "untied", *cells))
    head = ("rule", "boxes", *(f"{rate:g}  " for rate in tried))
    return ["validation images right, %, by the rate of boxes and head; * the best", table(head, found, left=(0, 1))]
