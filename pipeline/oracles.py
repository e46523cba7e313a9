"""The linear oracle: predicts the gradient at a box's activation, and learns from the target. Pure arithmetic.

    ĝ = h L (+ y M) (+ c)                                      predict (Jaderberg et al. 2016, section 2.2)
    L −= η hᵀ(ĝ − t) / rows, M −= η yᵀ(ĝ − t) / rows, …        train on ½‖ĝ − t‖², the mean over the rows

h is the activation (rows, width), y the one-hot label (rows, classes), t the target gradient (rows, width). ĝ is
computed anew when the target comes, with the weights that the oracle has then.
"""

from __future__ import annotations

import numpy as np

from .arrays import Array, Scratch, Weights, step
from .schema import Oracle

#: The published start of an oracle's weights, in standard deviations of a normal.
RANDOM_SCALE = 0.2


def initial_weights(config: Oracle, width: int, classes: int, rng: np.random.Generator, dtype: str) -> Weights:
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


def predict(weights: Weights, h: Array, y: Array | None, out: Array | None = None) -> Array:
    """Return the synthetic gradient (rows, width) at h, in `out`, if given; y is needed where the oracle sees labels."""
    g: Array = np.matmul(h, weights["L"], out=out)
    if "M" in weights:
        g += y @ weights["M"]
    if "c" in weights:
        g += weights["c"]
    return g


def train(
    weights: Weights, h: Array, y: Array | None, target: Array, rate: float, scratch: Scratch | None = None
) -> Array:
    """Take one step of gradient descent on ½‖ĝ − t‖², averaged over the rows; return the error, per row."""
    scratch = scratch or Scratch()
    error = predict(weights, h, y)
    error -= target
    error /= len(error)
    step(weights["L"], h, error, rate, scratch)
    if "M" in weights:
        assert y is not None, "an oracle that sees labels is given them"
        step(weights["M"], y, error, rate, scratch)
    if "c" in weights:
        G = error.sum(axis=0)
        G *= rate
        weights["c"] -= G
    return error
