"""Oracles: small models that predict the gradient at a box's activation, and learn from the target. Pure arithmetic.

An oracle is a class with `weights` and three methods; `fitting` does the rest: rates, optimizer, memory, caps.

    predict(h, y, batch)           ĝ (rows, width) at the activation h (rows, width) with the labels y (rows, classes)
    gradient(h, y, error)          of ½‖ĝ − t‖², the mean over the rows, by each weight; error is (ĝ − t) / rows
    see(h, y, target, batch)       what it learns from a new target without a gradient: a scale, a mean; mostly nothing

    linear   ĝ = h L (+ y M) (+ c)                           here (Jaderberg et al. 2016, section 2.2)
    mlp      two layers on features that the label calibrates      `oracle_mlp`
    stale, noise                                             the controls, `oracle_controls`
    own      a user's class `Oracle`, in a file              `oracle_own`

`y` is None where the oracle does not see labels. `predict` must change nothing and depend on nothing but its arguments and the
weights: it is asked again when the target comes, by the probe, and by a replay. `batch` is there for randomness that replays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .arrays import Array, Scratch, Weights, product, step
from .schema import Oracle as Config
from .state import Saved

#: The published start of an oracle's weights, in standard deviations of a normal.
RANDOM_SCALE = 0.2


#: The share of the past in a running mean.
PAST = 0.99


def remember(mean: Array, value: float) -> None:
    """Take a value into a running mean, an array of two: the sum, in which the past fades, and the weight that is in it."""
    mean *= PAST
    mean += (1 - PAST) * np.array([value, 1.0])


def recall(mean: Array) -> float:
    """Return a running mean; 0 before its first value."""
    return float(mean[0] / mean[1]) if mean[1] else 0.0


def mean_square(array: Array) -> float:
    """Return the mean square of an array's entries."""
    return float(np.vdot(array, array)) / array.size


class Shape(NamedTuple):
    """What an oracle must fit: the width of the activation, that of a label, the dtype of all arrays, how labels are told."""

    width: int
    classes: int
    dtype: str
    link: str = "softmax"  # one of several classes; sigmoid: bits; identity: numbers


class Oracle:
    """The least that an oracle is. It predicts nothing and learns nothing."""

    weights: Weights
    #: Whether `gradient` learns anything; else there is nothing to be learnt from a target twice.
    descends = True

    def predict(self, h: Array, y: Array | None, batch: int, out: Array | None = None) -> Array:  # noqa: ARG002
        """Return the synthetic gradient (rows, width); in `out`, if it is given."""
        g: Array = np.zeros_like(h) if out is None else out
        g[:] = 0
        return g

    def gradient(self, h: Array, y: Array | None, error: Array) -> Weights:  # noqa: ARG002
        """Return the gradient by each weight that is learnt so, for the error (rows, width) of the prediction made last."""
        return {}

    def see(self, h: Array, y: Array | None, target: Array, batch: int) -> None:
        """Learn from a new target what takes no gradient."""

    def wants(self, target: Array) -> bool:  # noqa: ARG002
        """Whether there is anything to be learnt from a target."""
        return True

    def power(self, h: Array, y: Array | None) -> float:
        """Return the mean square norm of what the weights are multiplied with, for normalised steps; raises where none is."""
        raise NotImplementedError

    def state(self) -> Weights:
        """Return copies of what decides later numbers besides the weights: of ours nothing."""
        return {}

    def restore(self, saved: Saved) -> None:
        """Go on from a saved state; raises RunError."""


def initial_weights(config: Config, width: int, classes: int, rng: np.random.Generator, dtype: str) -> Weights:
    """Return L (width, width), with labels M (classes, width), with bias c (width,); zero, or random but for c."""
    shapes: dict[str, tuple[int, ...]] = {"L": (width, width)}
    if config.sees_label:
        shapes["M"] = (classes, width)
    weights: Weights
    if config.init == "zero":
        weights = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
    else:
        weights = {name: (rng.standard_normal(shape) * RANDOM_SCALE).astype(dtype) for name, shape in shapes.items()}
    if config.bias:
        weights["c"] = np.zeros(width, dtype)
    return weights


class Linear(Oracle):
    """ĝ = h L (+ y M) (+ c), with label conditioning where labels are seen (Jaderberg et al. 2016, section 2.2)."""

    def __init__(self, config: Config, shape: Shape, rng: np.random.Generator) -> None:
        self.weights = initial_weights(config, shape.width, shape.classes, rng, shape.dtype)

    def predict(self, h: Array, y: Array | None, batch: int, out: Array | None = None) -> Array:  # noqa: ARG002
        """Return the synthetic gradient (rows, width)."""
        weights = self.weights
        g: Array = np.matmul(h, weights["L"], out=out)
        if "M" in weights:
            g += y @ weights["M"]
        if "c" in weights:
            g += weights["c"]
        return g

    def gradient(self, h: Array, y: Array | None, error: Array) -> Weights:
        """Return the gradient by each weight."""
        dense = {"L": product(h, error)}
        if "M" in self.weights:
            assert y is not None, "an oracle that sees labels is given them"
            dense["M"] = product(y, error)
        if "c" in self.weights:
            dense["c"] = error.sum(axis=0)
        return dense

    def descend(self, h: Array, y: Array | None, error: Array, rate: float, scratch: Scratch) -> None:
        """Take one step of plain gradient descent: the short way to what `gradient` would give."""
        weights = self.weights
        step(weights["L"], h, error, rate, scratch)
        if "M" in weights:
            assert y is not None, "an oracle that sees labels is given them"
            step(weights["M"], y, error, rate, scratch)
        if "c" in weights:
            G = error.sum(axis=0)
            G *= rate
            weights["c"] -= G

    def power(self, h: Array, y: Array | None) -> float:
        """Return the mean square norm of activation, label and bias."""
        labels = 0.0 if y is None or "M" not in self.weights else float(np.vdot(y, y)) / len(y)
        return float(np.vdot(h, h)) / len(h) + labels + ("c" in self.weights)
