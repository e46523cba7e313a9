"""Oracles that are none: the controls of a learning rule that predicts. Pure arithmetic.

    stale    the last true gradient again: for each label its mean over the rows of the last batch that had any
    noise    normal numbers of the size of true gradients: what is won by random gradients, is not won by prediction

Both stand in for a trained oracle, with the same messages at the same places; so they are held against it fairly.
"""

from __future__ import annotations

import math

import numpy as np

from .arrays import Array
from .oracles import Oracle, Shape, mean_square, recall, remember
from .schema import Oracle as Config


class Stale(Oracle):
    """Gives back what came last, by label where it sees labels."""

    descends = False

    def __init__(self, config: Config, shape: Shape, rng: np.random.Generator) -> None:  # noqa: ARG002
        self._sees_label = config.sees_label
        self.weights = {"M": np.zeros((shape.classes if config.sees_label else 1, shape.width), shape.dtype)}

    def predict(self, h: Array, y: Array | None, batch: int, out: Array | None = None) -> Array:  # noqa: ARG002
        """Return the mean of the last true gradients of each row's label."""
        g: Array = np.zeros_like(h) if out is None else out
        g[:] = self.weights["M"] if y is None or not self._sees_label else y @ self.weights["M"]
        return g

    def see(self, h: Array, y: Array | None, target: Array, batch: int) -> None:  # noqa: ARG002
        """Keep the mean of the rows of each label that is there."""
        M = self.weights["M"]
        if y is None or not self._sees_label:
            M[0] = target.mean(axis=0)
            return
        counts = y.sum(axis=0)
        there = counts > 0
        M[there] = (y.T @ target)[there] / counts[there, None]


class Noise(Oracle):
    """Random gradients of the true size, drawn anew for each batch by seed (random gradient learning, Seo 2018)."""

    descends = False

    def __init__(self, config: Config, shape: Shape, rng: np.random.Generator) -> None:  # noqa: ARG002
        self._seed = int(rng.integers(2**32))
        self.weights = {"s": np.zeros(2, np.float64)}  # the running mean square of the targets' entries, and its weight

    def predict(self, h: Array, y: Array | None, batch: int, out: Array | None = None) -> Array:  # noqa: ARG002
        """Return normal numbers."""
        g: Array = np.empty_like(h) if out is None else out
        g[:] = np.random.default_rng([self._seed, batch]).standard_normal(h.shape)
        g *= math.sqrt(recall(self.weights["s"]))
        return g

    def see(self, h: Array, y: Array | None, target: Array, batch: int) -> None:  # noqa: ARG002
        """Take note of the targets' size."""
        remember(self.weights["s"], mean_square(target))
