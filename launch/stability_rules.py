"""The rules by which a run is classed, and what a spike or a flight began with. Pure arithmetic on curves, all thresholds here.

The cost is smoothed first: the mean of a window of batches, an epoch where there are `EPOCHS` of them, else a fiftieth of the
run. In this order:

    flew off              stopped by the guard, not finite, or at the end above `FLOWN` times its start
    spiked                rose above `SPIKE` times its least so far and above `HIGH` of its start, came down, and converged
    converged             at the end below `CONVERGED` of its start
    stalled               the rest

The onset is the first batch of the rise to the spike or the flight. The first cause is the oracle that was first, up to there,
more than `WILD` times as long as the true gradient: norms, each the mean of the same window up to a batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.arrays import Array

#: So many epochs make an epoch the window; with fewer it is one batch in `PARTS`, at least `LEAST` images.
EPOCHS, PARTS, LEAST = 10, 50, 50
#: A run has converged below this share of its start, and has flown off above so many times it.
CONVERGED, FLOWN = 0.5, 1.5
#: A spike is a rise to more than so many times the least cost so far, and to more than this share of the start.
SPIKE, HIGH = 3.0, 0.1
#: An oracle is wild that is so many times as long as the true gradient.
WILD = 10.0
CLASSES = ("converged", "spiked", "stalled", "flew off")


class Verdict(NamedTuple):
    """What a run did: its class, the smoothed cost at its start and end, and the batch at which the rise began, if one did."""

    name: str
    start: float
    end: float
    onset: int | None


class Cause(NamedTuple):
    """One box's oracle at a batch: the norms of its synthetic gradient and of the true one, and every box's ratio there."""

    batch: int
    box: int
    synthetic: float
    true: float
    ratios: tuple[float, ...]
    is_wild: bool

    @property
    def ratio(self) -> float:
        """How many times as long as the true gradient the synthetic one is."""
        return _ratio(self.synthetic, self.true)


def rules() -> dict[str, Any]:
    """Return the thresholds for the document."""
    return {
        "window": f"an epoch, or with fewer than {EPOCHS} of them 1/{PARTS} of the run, at least {LEAST} images",
        "converged": CONVERGED, "flew_off": FLOWN, "spike": SPIKE, "spike_share": HIGH, "wild": WILD,
    }  # fmt: skip


def window(batches: int, epoch: int, rows: int) -> int:
    """Return how many batches are smoothed together: of a run of so many, with so many in an epoch, of so many images."""
    parts = max(batches // PARTS, -(-LEAST // rows))
    return max(1, min(epoch if batches >= EPOCHS * epoch else parts, batches))


def ends(batches: int, width: int) -> list[int]:
    """Return the end of each window, one after the other; a rest of less than half a window belongs to the last one."""
    found = [*range(width, batches + 1, width)]
    rest = batches - (found[-1] if found else 0)
    if rest and found and 2 * rest < width:
        found[-1] = batches
    elif rest:
        found.append(batches)
    return found


def smooth(values: Sequence[float] | Array, width: int) -> Array:
    """Return the mean of each window (`ends`). They do not overlap: one that lies over two epochs may miss a hard image."""
    found = np.asarray(values, float)
    edges = [0, *ends(len(found), width)]
    with np.errstate(all="ignore"):
        return np.array([found[a:b].mean() for a, b in itertools.pairwise(edges)])


def classify(costs: Sequence[float] | Array, width: int, *, stopped: bool) -> Verdict:
    """Return what a run did by the cost of each batch; `stopped`: the guard ended it."""
    curve = smooth(costs, width)
    if not len(curve):
        return Verdict("flew off" if stopped else "stalled", math.nan, math.nan, 0 if stopped else None)
    start, end = float(curve[0]), float(curve[-1])
    finite = np.isfinite(curve)
    if stopped or not finite.all() or end > FLOWN * start:
        told = len(curve) if finite.all() else int(np.argmin(finite))
        low = int(np.argmin(curve[:told])) if told else 0
        rose = told > 0 and float(curve[low:told].max()) > FLOWN * curve[low]
        last = len(costs) if finite.all() else int(np.argmin(np.isfinite(costs)))
        return Verdict("flew off", start, end, _turn(low, width, costs) if rose else last)
    least = np.minimum.accumulate(curve)
    is_spike = (curve > SPIKE * least) & (curve > HIGH * start)
    if end >= CONVERGED * start:
        return Verdict("stalled", start, end, None)
    if not is_spike.any():
        return Verdict("converged", start, end, None)
    top = int(np.argmax(is_spike))
    low = int(np.argmin(curve[: top + 1]))
    return Verdict("spiked", start, end, _turn(low, width, costs))


def _turn(low: int, width: int, costs: Sequence[float] | Array) -> int:
    """Return the first batch after the window in which the smoothed cost was least."""
    return min(ends(len(costs), width)[low], len(costs) - 1)


def cause(synthetic: Array, true: Array, width: int, onset: int | None) -> Cause | None:
    """Return which oracle was wild first up to the onset; where none was, or there is no onset, which came closest to it.

    Norms are (boxes, batches), not a number where there is none. None where no box has an oracle.
    """
    last = synthetic.shape[1] if onset is None else min(onset + 1, synthetic.shape[1])
    means = [np.array([_means(row[:last], width) for row in each]) for each in (synthetic, true)]
    if not last or not np.isfinite(means[0]).any():
        return None
    with np.errstate(all="ignore"):
        ratios = np.where(means[0] == 0, 0.0, means[0] / means[1])  # a true gradient of nothing: infinite
    ratios[~(np.isfinite(means[0]) & np.isfinite(means[1]))] = np.nan
    if not np.isfinite(np.nan_to_num(ratios, nan=np.nan, posinf=1.0)).any():
        return None
    wild = ratios > WILD
    if onset is not None and wild.any():
        batch = int(np.argmax(wild.any(axis=0)))
        box = int(np.argmax(wild[:, batch]))
    else:
        box, batch = (int(each) for each in np.unravel_index(np.nanargmax(ratios), ratios.shape))
    at = batch if onset is None else last - 1
    return Cause(
        batch, box + 1, float(means[0][box, batch]), float(means[1][box, batch]),
        tuple(float(each) for each in ratios[:, at]), bool(wild.any()),
    )  # fmt: skip


def _means(row: Array, width: int) -> Array:
    """Return the mean over the last `width` batches up to each one, of those that there are."""
    is_there = np.isfinite(row)
    sums = np.concatenate([[0.0], np.cumsum(np.where(is_there, row, 0.0))])
    counts = np.concatenate([[0], np.cumsum(is_there)])
    ends = np.arange(1, len(row) + 1)
    starts = np.maximum(ends - width, 0)
    with np.errstate(all="ignore"):
        found: Array = (sums[ends] - sums[starts]) / (counts[ends] - counts[starts])
    return found


def _ratio(synthetic: float, true: float) -> float:
    return synthetic / true if true else (math.inf if synthetic else 0.0)
