"""The vanilla recurrent cell: forward next to backward. Pure arithmetic on numpy arrays.

    z_s = x_s Wx + h_{s−1} Wrec (+ b)        h_s = tanh(z_s)               forward, s = 1 … steps of the box
    δ_s = g_s ⊙ (1 − h_s²)                   g_{s−1} = δ_s Wrecᵀ           backward, s = steps … 1
    G_x = Σ x_sᵀ δ_s    G_rec = Σ h_{s−1}ᵀ δ_s    G_b = Σ δ_s              as one product of stacked factors

Live workers, the reference, owners and siblings call these functions with arrays of the same shape and memory order:
that is what makes their weights equal bit for bit. (A product of stacked rows differs in bits from the sum of the
products of each row, as may one with a copy of W.T in place of the view.) What goes out, a trail, factors, a gradient at
the entrance, is new on every call; what does not may lie in a scratch, and the bits are the same with and without one.

The first box starts from h_0 = 0: its first step has no recurrent term, forward or backward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .arrays import Array, Scratch, Weights, product, step, through


class Trail(NamedTuple):
    """What a forward leaves behind for the backward: inputs and every step's hidden state."""

    x: Array  # (steps, rows, inputs)
    entering: Array  # (steps or steps − 1, rows, width): the states that entered the steps; h_0 = 0 is left out
    leaving: Array  # (steps, rows, width): the states that left them

    @property
    def h(self) -> Array:
        """The box's activation, (rows, width)."""
        h: Array = self.leaving[-1]
        return h


class Factors(NamedTuple):
    """A gradient as its factors: G_x = xᵀ delta, G_rec = enteringᵀ delta of the same steps."""

    x: Array  # (steps · rows, inputs)
    entering: Array  # (steps · rows or (steps − 1) · rows, width)
    delta: Array  # (steps · rows, width)


def initial_weights(
    inputs: int, width: int, bias: bool, scale: float, rng: np.random.Generator, dtype: str, recurrent: str = "normal"
) -> Weights:
    """Return Wx (inputs, width), Wrec (width, width) and, with `bias`, b = 0 (width,).

    Entries are normal with standard deviation scale / √fan-in; a `recurrent` weight may be the identity times the scale
    (Le, Jaitly and Hinton 2015).
    """
    weights = {
        "Wx": (rng.standard_normal((inputs, width)) * (scale / inputs**0.5)).astype(dtype),
        "Wrec": (rng.standard_normal((width, width)) * (scale / width**0.5)).astype(dtype),
    }
    if recurrent == "identity":
        weights["Wrec"] = np.eye(width, dtype=dtype) * np.dtype(dtype).type(scale)
    if bias:
        weights["b"] = np.zeros(width, dtype)
    return weights


def forward(weights: Weights, x: Array, h: Array | None, scratch: Scratch | None = None) -> Trail:
    """Return the trail of a box's steps over x (steps, rows, inputs) from state h (rows, width); None is h_0 = 0."""
    Wx, Wrec, b = weights["Wx"], weights["Wrec"], weights.get("b")
    steps, rows, _ = x.shape
    states = np.empty((steps + 1, rows, len(Wrec)), x.dtype)
    recurrent = (scratch or Scratch()).array("recurrent", states.shape[1:], x.dtype)
    first = h is None
    if h is not None:
        states[0] = h
    for s in range(steps):
        z = states[s + 1]
        np.matmul(x[s], Wx, out=z)
        if s > 0 or not first:
            np.matmul(states[s], Wrec, out=recurrent)
            z += recurrent
        if b is not None:
            z += b
        np.tanh(z, out=z)
    return Trail(x, states[1 if first else 0 : -1], states[1:])


def backward(
    weights: Weights, trail: Trail, g: Array, *, passes_on: bool, scratch: Scratch | None = None
) -> tuple[Factors, Array | None]:
    """Return the factors of the weights' gradient and, if the box `passes_on`, the gradient at its entrance.

    g is the gradient of the loss at the box's activation, (rows, width); so is what comes back. Full backpropagation
    through the steps of the box (Rumelhart, Hinton and Williams 1986), nothing beyond its edges.
    """
    scratch = scratch or Scratch()
    x, entering, leaving = trail
    steps, rows, width = leaving.shape
    deltas = np.empty(leaving.shape, g.dtype)
    for s in range(steps - 1, -1, -1):
        h, delta = leaving[s], deltas[s]
        np.multiply(h, h, out=delta)
        np.subtract(1, delta, out=delta)
        delta *= g
        if s > 0:
            g = through(delta, weights["Wrec"], scratch, scratch.array("g", g.shape, g.dtype))
        elif passes_on:
            g = through(delta, weights["Wrec"], scratch)
    factors = Factors(x.reshape(steps * rows, -1), entering.reshape(-1, width), deltas.reshape(-1, width))
    return factors, (g if passes_on else None)


def stack(parts: Sequence[Factors]) -> Factors:
    """Return the factors of the sum of several gradients: their rows one below the other.

    One product of all rows costs less than a product for each part and their sum, up to half as much.
    """
    # In a first box the first step has no entering state: such rows come first, as in each part.
    alone = [len(part.delta) - len(part.entering) for part in parts]
    rows = [(part.x[:n], part.delta[:n]) for part, n in zip(parts, alone, strict=True) if n]
    rows += [(part.x[n:], part.delta[n:]) for part, n in zip(parts, alone, strict=True)]
    x, delta = (np.concatenate(each) for each in zip(*rows, strict=True))
    return Factors(x, np.concatenate([part.entering for part in parts]), delta)


def gradient(factors: Factors, weights: Weights, scratch: Scratch | None = None) -> Weights:
    """Return the dense gradient of each of `weights` that factors stand for: G = aᵀ δ.

    A weight that the steps did not touch (Wrec where h_0 = 0 is the only state) is left out. With a scratch the gradient
    lies there, until the next one: for a summand that is added at once.
    """
    x, entering, delta = factors
    into: Weights = {}
    if scratch is not None:
        into = {name: scratch.array(name, W.shape, W.dtype) for name, W in weights.items()}
    dense = {"Wx": product(x, delta, into.get("Wx"))}
    if len(entering):
        dense["Wrec"] = product(entering, delta[len(delta) - len(entering) :], into.get("Wrec"))
    if "b" in weights:
        dense["b"] = delta.sum(axis=0)
    return dense


def descend(weights: Weights, factors: Factors, rates: Mapping[str, float], scratch: Scratch | None = None) -> None:
    """Take one step of gradient descent with the gradient that factors stand for."""
    scratch = scratch or Scratch()
    x, entering, delta = factors
    step(weights["Wx"], x, delta, rates["Wx"], scratch)
    if len(entering):
        step(weights["Wrec"], entering, delta[len(delta) - len(entering) :], rates["Wrec"], scratch)
    if "b" in weights:
        G = delta.sum(axis=0)
        G *= rates["b"]
        weights["b"] -= G
