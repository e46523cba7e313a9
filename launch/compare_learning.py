"""What rows learnt: at marks that all have, and beside the controls of learning. Pure.

marks         an accuracy that all reached, when the fastest ended, images that all have seen
gap           between boxes that never learn and full backpropagation; what a row recovers of it, tells how well it learns
beside local  a classifier for each box needs no message back; a rule that is no better is not worth its messages
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from .compare_rows import Row, baseline
from .compare_runs import REFERENCE, Measured
from .spread import LEAST, NO_DIFFERENCE, Spread, overlap, spread

LEARNING = ("accuracy_at_time", "seconds_to_accuracy", "accuracy_at_images")
NO_GAP = "no gap"


def common(rows: Sequence[Row]) -> dict[str, float | int | None]:
    """Return where learning is compared: an accuracy that all reached, when the fastest ended, images that all have seen.

    Controls of learning set no mark, or all would reach it at once; nor does one process set when the fastest ended, if
    there are others. None where there is no such thing: the rows were not all evaluated.
    """
    learnt = [row for row in rows if not row.rule] or list(rows)
    processes = [row for row in learnt if row.first.mode != REFERENCE] or learnt
    curves = [run.evaluations for row in learnt for run in row.runs]
    if not all(curves):
        return {"accuracy": None, "seconds": None, "images": None}
    ends = [run.evaluations[-1].seconds for row in processes for run in row.runs]
    return {
        "accuracy": min(max(each.accuracy for each in curve) for curve in curves),
        "seconds": None if None in ends else min(end for end in ends if end is not None),
        "images": min(curve[-1].images for curve in curves),
    }


def learning(run: Measured, marks: dict[str, float | int | None]) -> dict[str, float | None]:
    """Return a run's accuracy at the common time and after the common images, and how long it took to the common accuracy.

    Between two evaluations the earlier one counts; before the first there is nothing.
    """
    found: dict[str, float | None] = dict.fromkeys(LEARNING)
    seconds, images, wanted = marks["seconds"], marks["images"], marks["accuracy"]
    for each in run.evaluations:
        if seconds is not None and each.seconds is not None and each.seconds <= seconds:
            found["accuracy_at_time"] = each.accuracy
        if images is not None and each.images <= images:
            found["accuracy_at_images"] = each.accuracy
        if wanted is not None and each.accuracy >= wanted and found["seconds_to_accuracy"] is None:
            found["seconds_to_accuracy"] = each.seconds
    return found


def difference(a: Spread, b: Spread) -> str:
    """Return what the intervals of two rows show of a's height beside b's: higher, lower, or no difference shown."""
    repeats = min(a.repeats, b.repeats)
    if repeats < LEAST:
        return f"{NO_DIFFERENCE} ({repeats} repeat{'s' * (repeats > 1)}, {LEAST} are needed)"
    return NO_DIFFERENCE if overlap(a, b) else "higher" if a.median > b.median else "lower"


def gap(row: Row, frozen: Row | None, locked: Row | None) -> tuple[float | None, str]:
    """Return the share of the gap between frozen boxes and full backpropagation that a row recovers, by medians.

    Where there is no such gap, it is None and words say so: `locked` is not above, or intervals meet; ranges, where repeats
    are too few for intervals.
    """
    found = [each.values("accuracy") if each is not None else [] for each in (row, frozen, locked)]
    if not all(found):
        return None, ""
    mine, low, high = map(spread, found)
    if high.median <= low.median or _edges(high)[0] <= _edges(low)[1]:
        return None, NO_GAP
    return (mine.median - low.median) / (high.median - low.median), ""


def _edges(found: Spread) -> tuple[float, float]:
    return (found.least, found.most) if found.low is None or found.high is None else (found.low, found.high)


def beside_local(rows: Sequence[Row], plain: Sequence[Row]) -> list[dict[str, Any]]:
    """Return each row that a classifier per box equals or beats: its label, its median accuracy, and that of `local`."""
    found = []
    for row in plain:
        local, mine = baseline("local", row, rows), row.values("accuracy")
        right = local.values("accuracy") if local is not None else []
        if local is not None and not row.rule and mine and right and median(right) >= median(mine):
            found.append(
                {"label": row.label, "accuracy": median(mine), "local": local.label, "local_accuracy": median(right)}
            )
    return found
