"""What several repeats say: a median, its spread, its interval, and whether two differ. Pure.

Intervals are by the bootstrap (Efron 1979, percentiles): the repeats are drawn again from themselves, with replacement, by
seed, so that the same figures give the same interval. The interval of few repeats is nearly their range, which holds the
true median 3 times in 4 with three of them and 15 in 16 with five: under `LEAST` there is none, it would only look like one.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

#: Fewer repeats than this have no interval.
LEAST = 5
DRAWS = 2_000
NO_DIFFERENCE = "no difference shown"


class Spread(NamedTuple):
    """The median of some repeats, their range, and the 95 % interval of the median; no interval under `LEAST`."""

    repeats: int
    median: float
    least: float
    most: float
    low: float | None
    high: float | None

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return self._asdict()

    def text(self, form: str = "{:.2f}") -> str:
        """Return `median (low – high)`: the interval, or where there is none the range, in square brackets."""
        if self.repeats == 1:
            return form.format(self.median)
        if self.low is None or self.high is None:
            return f"{form.format(self.median)} [{form.format(self.least)} – {form.format(self.most)}]"
        return f"{form.format(self.median)} ({form.format(self.low)} – {form.format(self.high)})"


def spread(values: Sequence[float], seed: int = 0) -> Spread:
    """Return the spread of at least one value."""
    low, high = (None, None) if len(values) < LEAST else interval(values, seed)
    return Spread(len(values), statistics.median(values), min(values), max(values), low, high)


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median."""
    found = np.asarray(values, float)
    drawn = np.median(np.random.default_rng(seed).choice(found, (DRAWS, len(found))), axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def ratios(of: Sequence[float], to: Sequence[float]) -> Spread:
    """Return the spread of ratios of pairs that were measured side by side."""
    return spread([a / b for a, b in zip(of, to, strict=True)])


def ratio_of_medians(of: Sequence[float], to: Sequence[float], seed: int = 0) -> Spread:
    """Return the ratio of the medians of two rows that were not measured in pairs, with its 95 % bootstrap interval.

    Each row is drawn again from itself, apart from the other. Least and most are the ratios of the extremes.
    """
    low = high = None
    if min(len(of), len(to)) >= LEAST:
        draw = np.random.default_rng(seed)
        above, below = (
            np.median(draw.choice(np.asarray(values, float), (DRAWS, len(values))), axis=1) for values in (of, to)
        )
        low, high = (float(edge) for edge in np.percentile(above / below, (2.5, 97.5)))
    repeats = min(len(of), len(to))
    return Spread(
        repeats, statistics.median(of) / statistics.median(to), min(of) / max(to), max(of) / min(to), low, high
    )


def scaled(found: Spread, times: float) -> Spread:
    """Return a spread in another unit: so many times as large."""
    low, high = (None if edge is None else edge * times for edge in (found.low, found.high))
    return Spread(found.repeats, found.median * times, found.least * times, found.most * times, low, high)


def overlap(a: Spread, b: Spread) -> bool:
    """Whether two intervals meet, or one is missing: then the repeats show no difference."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return True
    return a.low <= b.high and b.low <= a.high


def verdict(ratio: Spread, better: str = "faster", worse: str = "slower") -> str:
    """Return what a ratio to 1 shows: better, worse, or `no difference shown`."""
    if ratio.low is None or ratio.high is None:
        return f"{NO_DIFFERENCE} ({ratio.repeats} repeat{'s' * (ratio.repeats > 1)}, {LEAST} are needed)"
    return better if ratio.low > 1 else worse if ratio.high < 1 else NO_DIFFERENCE


def machine(environment: dict[str, Any], repeats: int) -> str:
    """Return the line that every table of measurements begins with: processor, cores, load, BLAS threads, repeats."""
    load = environment["load"]
    return (
        f"{environment['processor']}, {environment['cores']} cores, load {load[0] if load else '?'}; "
        f"{repeats} repeat{'s' * (repeats != 1)}; one BLAS thread a process"
    )
