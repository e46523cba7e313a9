"""The head: one fully connected layer and a loss. Forward next to backward. Pure arithmetic.

    a = h Wfc (+ bfc)                        (rows, outputs)
    squared   ŷ = σ(a)         L = ½ Σ (ŷ − y)²                       ∂L/∂a = (ŷ − y) ŷ (1 − ŷ)      the original
    bce       ŷ = σ(a)         L = −Σ y ln ŷ + (1 − y) ln(1 − ŷ)      ∂L/∂a = ŷ − y
    softmax   ŷ = softmax(a)   L = −Σ y ln ŷ                          ∂L/∂a = ŷ − y
    mse       ŷ = a            L = Σ (ŷ − y)² / outputs               ∂L/∂a = 2 (ŷ − y) / outputs

Σ runs over the outputs; a batch's loss is the mean over its rows, so that a rate means the same at every batch size.
Both cross-entropies are computed from a, not from ŷ: they stay finite where ŷ rounds to 0 or 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Weights, product, sigmoid, through


def initial_weights(
    width: int, outputs: int, bias: bool, scale: float, rng: np.random.Generator, dtype: str
) -> Weights:
    """Return Wfc (width, outputs), normal with standard deviation scale / √width, and with `bias` bfc = 0 (outputs,)."""
    weights = {"Wfc": (rng.standard_normal((width, outputs)) * (scale / width**0.5)).astype(dtype)}
    if bias:
        weights["bfc"] = np.zeros(outputs, dtype)
    return weights


def forward(weights: Weights, h: Array, loss: str) -> tuple[Array, Array]:
    """Return a and ŷ, both (rows, outputs), for the activation h (rows, width)."""
    a = h @ weights["Wfc"]
    if "bfc" in weights:
        a += weights["bfc"]
    if loss == "softmax":
        odds = a - np.maximum.reduce(a, axis=1, keepdims=True)
        np.exp(odds, out=odds)
        odds /= np.add.reduce(odds, axis=1, keepdims=True)
        return a, odds
    if loss == "mse":
        return a, a
    return a, sigmoid(a)


def cost(a: Array, y: Array, loss: str, y_hat: Array | None = None) -> float:
    """Return the batch's loss for the wanted outputs y (rows, outputs): the mean over the rows. ŷ saves computing it."""
    if loss == "squared":
        off = (sigmoid(a) if y_hat is None else y_hat) - y
        off *= off
        by_row = np.add.reduce(off, axis=1)
        by_row *= 0.5
    elif loss == "bce":
        by_row = np.add.reduce(bce(a, y), axis=1)
    elif loss == "mse":
        off = a - y
        off *= off
        by_row = np.add.reduce(off, axis=1)
        by_row /= y.shape[1]
    else:
        # y sums to one: taking the largest away changes nothing else
        below = a - np.maximum.reduce(a, axis=1, keepdims=True)
        by_row = np.log(np.add.reduce(np.exp(below), axis=1)) - np.add.reduce(below * y, axis=1)
    return float(np.add.reduce(by_row) / len(by_row))


def bce(a: Array, y: Array) -> Array:
    """Return the cross-entropy of each output, from a and what is wanted; it stays finite where σ(a) rounds to 0 or 1."""
    lost: Array = np.maximum(a, 0) - a * y + np.log1p(np.exp(-np.abs(a)))
    return lost


def backward(weights: Weights, h: Array, y_hat: Array, y: Array, loss: str, parts: int = 1) -> tuple[Weights, Array]:
    """Return the gradient by each weight, and the gradient at the activation, (rows, width).

    With `parts` these rows are one of so many equal parts of a batch: the gradients of all parts add up to that of the batch.
    """
    d = y_hat - y
    if loss == "squared":
        slope = 1 - y_hat
        slope *= y_hat
        d *= slope
    elif loss == "mse":
        d *= 2 / y.shape[1]
    d /= len(d) * parts
    dense = {"Wfc": product(h, d)}
    if "bfc" in weights:
        dense["bfc"] = d.sum(axis=0)
    return dense, through(d, weights["Wfc"])


def widened(g: Array, state: int) -> Array:
    """Return the gradient at a whole state (rows, state), of which the head reads the first columns, the hidden state."""
    if g.shape[1] == state:
        return g
    whole: Array = np.zeros((len(g), state), g.dtype)
    whole[:, : g.shape[1]] = g
    return whole


def classify(weights: Weights, h: Array, width: int, y: Array, loss: str) -> tuple[Weights, Array]:
    """Return the gradient of a classifier of a box's own: by each weight, and at the whole state h (rows, state)."""
    hidden = h[:, :width]
    dense, g = backward(weights, hidden, forward(weights, hidden, loss)[1], y, loss)
    return dense, widened(g, h.shape[1])


def predictions(y_hat: Array) -> NDArray[np.int64]:
    """Return the digit that each row of ŷ says: above one half for one output, else the largest."""
    if y_hat.shape[1] == 1:
        return (y_hat[:, 0] > 0.5).astype(np.int64)
    digits: NDArray[np.int64] = y_hat.argmax(axis=1)
    return digits
