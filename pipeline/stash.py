"""What a batch in flight keeps, and how long the weights that a late gradient still needs are kept. Pure arithmetic.

A step changes weights in place. Of what a gradient passes through on its way back (`Cell.passing`), a batch in flight keeps the
arrays that its forward read; before a step changes an array that is still kept, the stage goes over to a copy (weight stashing,
Narayanan et al. 2019). So there are as many arrays as versions in flight, and none is copied without need. Each is kept
until the last batch that read it is settled.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .arrays import Array, Weights
from .cells import Factors, Trail
from .traces import Traced


class Flight(NamedTuple):
    """A batch that is forwarded and not settled."""

    trail: Trail
    read: int  # the version of the weights that its forward read
    weights: Weights  # what its gradient passes through
    early: Factors | None = None  # of the update that was made before the true gradient came, to be corrected
    came: Traced | None = None  # with its activation


class Stash:
    """Which arrays of a stage's weights are kept for batches in flight. Arrays that are free again are used again."""

    def __init__(self, weights: Weights, passing: tuple[str, ...]) -> None:
        self._weights = weights
        self._passing = passing
        self._kept: dict[int, int] = {}  # array's identity: batches in flight that read it
        self._free: list[Weights] = []

    def keep(self) -> Weights:
        """Return the weights that a forward reads now, to be given back by `give_back`."""
        found = {name: self._weights[name] for name in self._passing}
        mark = id(found[self._passing[0]])
        self._kept[mark] = self._kept.get(mark, 0) + 1
        return found

    def give_back(self, weights: Weights) -> None:
        """Take back what a batch kept."""
        first = weights[self._passing[0]]
        self._kept[id(first)] -= 1
        if not self._kept[id(first)]:
            del self._kept[id(first)]
            if first is not self._weights[self._passing[0]]:
                self._free.append(weights)

    def part(self) -> None:
        """Go over to a copy if a batch in flight keeps what a step is about to change."""
        if id(self._weights[self._passing[0]]) not in self._kept:
            return
        spare = self._free.pop() if self._free else {name: np.empty_like(self._weights[name]) for name in self._passing}
        for name in self._passing:
            array: Array = spare[name]
            np.copyto(array, self._weights[name])
            self._weights[name] = array
