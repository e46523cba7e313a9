"""The few operations on weights that every part of the network shares. Pure arithmetic.

A step is always G = aᵀδ; G *= η; W −= G, one gradient at a time, on C-contiguous arrays of one shape: a sum of outer
products is not the product of the stacked rows bit for bit, so there is one function for it and everybody calls it.
(`step` goes shorter ways to the same entries; a zero may come out with another sign than by the plain formula.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = dict[str, Array]


def product(a: Array, delta: Array) -> Array:
    """Return aᵀ δ, (inputs, outputs), for a (rows, inputs) and δ (rows, outputs)."""
    if len(a) == 1:
        # One row: every entry is one product. BLAS is several times slower here.
        return np.multiply(a.T, delta)
    g: Array = a.T @ delta
    return g


def total(gradients: Iterable[Weights]) -> Weights:
    """Return the sum of dense gradients, left to right; the first one is used up."""
    parts = iter(gradients)
    summed = next(parts)
    for dense in parts:
        for name, G in dense.items():
            if name in summed:
                summed[name] += G
            else:
                summed[name] = G
    return summed


def descend(weights: Weights, dense: Weights, rates: Mapping[str, float]) -> None:
    """Take one step of gradient descent, G *= η; W −= G, with a rate for each weight. `dense` is used up."""
    for name, G in dense.items():
        G *= rates[name]
        weights[name] -= G


#: Rows of a weight that one row's step changes at a time: the part of G stays in the cache.
BLOCK = 64


def step(W: Array, a: Array, delta: Array, rate: float) -> None:
    """Take one step of gradient descent on one weight from its factors: W −= η aᵀδ.

    W is (inputs, outputs), a (rows, inputs), δ (rows, outputs). With one row the step is bound by memory: inputs that
    are zero, most pixels of a digit, change nothing and are passed over; else W is gone through block by block.
    """
    if len(a) > 1:
        G = product(a, delta)
        G *= rate
        W -= G
        return
    column = a.T
    changed = np.flatnonzero(a)
    if 2 * len(changed) < len(column):
        G = np.multiply(column[changed], delta)
        G *= rate
        W[changed] -= G
        return
    scratch = np.empty((BLOCK, W.shape[1]), W.dtype)
    for first in range(0, len(column), BLOCK):
        part = W[first : first + BLOCK]
        G = np.multiply(column[first : first + BLOCK], delta, out=scratch[: len(part)])
        G *= rate
        part -= G
