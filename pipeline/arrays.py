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


class Scratch:
    """Memory that arithmetic writes to and is done with before it returns, kept from one call to the next.

    A gradient of a weight's size lies where the last one lay; new memory may be new pages, to be cleared and to miss the
    cache. Nothing that outlives a call may lie here: no message, no trail. Each stage has its own, and a function that is
    given none takes new memory.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, tuple[int, ...], np.dtype[Any]], Array] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return the array of this name, shape and dtype, with whatever was in it; other names are other memory."""
        key = (name, shape, dtype)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = np.empty(shape, dtype)
        return found


def product(a: Array, delta: Array, out: Array | None = None) -> Array:
    """Return aᵀ δ, (inputs, outputs), for a (rows, inputs) and δ (rows, outputs); in `out`, if it is given."""
    if len(a) == 1:
        # One row: every entry is one product. BLAS is several times slower here.
        return np.multiply(a.T, delta, out=out)
    g: Array = np.matmul(a.T, delta, out=out)
    return g


#: Multiplications from which on OpenBLAS is slower with a transposed weight on the right than on the left.
TURNED = 1_000_000


def through(delta: Array, W: Array, scratch: Scratch | None = None, out: Array | None = None) -> Array:
    """Return δ Wᵀ, (rows, inputs), for δ (rows, outputs): a gradient on its way back through a weight; in `out`, if given.

    Large products are taken as (W δᵀ)ᵀ, up to twice as fast.
    """
    rows, outputs = delta.shape
    if outputs == 1:
        return np.multiply(delta, W.T, out=out)
    if rows == 1 or rows * W.size <= TURNED:
        g: Array = np.matmul(delta, W.T, out=out)
        return g
    turned = (scratch or Scratch()).array("turned", (len(W), rows), W.dtype)
    np.matmul(W, delta.T, out=turned)
    if out is None:
        out = np.empty((rows, len(W)), W.dtype)
    np.copyto(out, turned.T)
    return out


def sigmoid(a: Array, out: Array | None = None) -> Array:
    """Return σ(a) = ½ tanh(½ a) + ½; in `out`, if it is given, which may be `a`. tanh saturates where exp(−a) overflows."""
    s: Array = np.multiply(a, 0.5, out=out)
    np.tanh(s, out=s)
    s *= 0.5
    s += 0.5
    return s


def total(gradients: Iterable[Weights]) -> Weights:
    """Return the sum of dense gradients, left to right; the first one is used up."""
    parts = iter(gradients)
    summed = next(parts)
    for dense in parts:
        for name, G in dense.items():
            if name in summed:
                summed[name] += G
            else:
                summed[name] = G.copy()  # a summand may lie in a scratch
    return summed


def accumulate(so_far: Weights, dense: Weights) -> Weights:
    """Return a sum of dense gradients and one more; both are used up."""
    return total((so_far, dense)) if so_far else dense


def descend(weights: Weights, dense: Weights, rates: Mapping[str, float]) -> None:
    """Take one step of gradient descent, G *= η; W −= G, with a rate for each weight. `dense` is used up."""
    for name, G in dense.items():
        G *= rates[name]
        weights[name] -= G


#: Values of a weight that one row's step changes at a time: this part of W and of G stays in the cache.
BLOCK = 65_536


def step(W: Array, a: Array, delta: Array, rate: float, scratch: Scratch | None = None) -> None:
    """Take one step of gradient descent on one weight from its factors: W −= η aᵀδ.

    W is (inputs, outputs), a (rows, inputs), δ (rows, outputs). With one row the step is bound by memory: inputs that
    are zero, most pixels of a digit, change nothing and are passed over; else W is gone through block by block.
    """
    scratch = scratch or Scratch()
    inputs, outputs = W.shape
    if not len(a):
        return
    if len(a) > 1:
        G = product(a, delta, scratch.array("G", W.shape, W.dtype))
        G *= rate
        W -= G
        return
    column, changed = a.T, a[0].nonzero()[0]
    if 2 * len(changed) < inputs:
        kept, count = scratch.array("G of some", (2, inputs // 2, outputs), W.dtype), len(changed)
        G = np.multiply(column[changed], delta, out=kept[0, :count])
        G *= rate
        part = W.take(changed, axis=0, out=kept[1, :count], mode="clip")  # other modes go through memory of their own
        part -= G
        W[changed] = part
        return
    rows = max(BLOCK // outputs, 1)
    kept = scratch.array("G of a block", (min(rows, inputs), outputs), W.dtype)
    for first in range(0, inputs, rows):
        part = W[first : first + rows]
        G = np.multiply(column[first : first + rows], delta, out=kept[: len(part)])
        G *= rate
        part -= G
