"""BP(λ): λ-targets for one shared oracle without waiting, by a trace that travels forward. Pure arithmetic.

A λ-target t_k = J_{k+1}ᵀ [(1 − λ) ĝ_{k+1} + λ t_{k+1}], the true gradient at the last box, says something that only later boxes
know (the forward view). Summed over a batch its errors are those of one step each, as in TD(λ): what box k learns from is the
temporal difference δ_k at its entrance, and all that earlier boxes would have made of it is in the trace that came with h_{k−1}
(the backward view; accumulate BP(λ), Pemberton and Costa 2024). So nothing travels back but the head's gradient to the last
box, whose word is true and stands for ĝ_K:

    ĝ = h L (+ c)        δ_k = J_kᵀ ĝ_k − ĝ_{k−1}                         J_k = ∂h_k / ∂h_{k−1}, (rows, out, in)
    G_L[i, j] = −Σ_rows Σ_m E_{k−1}[m, j, i] δ_k[m] / rows                of ½‖ĝ − t‖², the mean over rows; G_c: column of ones
    E_k[m, j, i] = λ Σ_n J_k[m, n] E_{k−1}[n, j, i] + [m = j] (h_k, 1)[i]       E_1 without the first term

Σ_k of these G is the gradient of all λ-targets of a batch where weights stand still; here they move from box to box.

Its price: with an activation rows·w²·(w + 1) numbers travel (without a bias rows·w³), and a box makes rows·w³·(w + 1)
multiply-adds, beside rows·w² for the recurrent part of a step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .arrays import Array, Weights
from .cells import Trail


class Traced(NamedTuple):
    """What travels with an activation."""

    guess: Array  # ĝ (rows, w), as the box that sends it predicted it
    trace: Array  # E (rows, w, w, w), with a bias (rows, w, w, w + 1)


def guess(weights: Weights, h: Array, out: Array | None = None) -> Array:
    """Return ĝ (rows, w) at h (rows, w) of the oracle among a box's weights; in `out`, if it is given."""
    g: Array = np.matmul(h, weights["oracle_L"], out=out)
    if "oracle_c" in weights:
        g += weights["oracle_c"]
    return g


def jacobian(trail: Trail, Wrec: Array) -> Array:
    """Return J (rows, out, in) of a vanilla box's activation by the state that entered it.

    J = D_S Wrecᵀ … D_1 Wrecᵀ with D_s = diag(1 − h_s²), over the steps of the box.
    """
    slopes = 1 - trail.leaving * trail.leaving  # (steps, rows, w)
    J: Array = slopes[0][:, :, None] * Wrec.T
    for slope in slopes[1:]:
        J = np.matmul(Wrec.T, J)
        J *= slope[:, :, None]
    return J


def first_trace(h: Array, *, bias: bool) -> Array:
    """Return E_1 (rows, w, w, w or w + 1), which is [m = j] (h, 1)[i]."""
    rows, width = h.shape
    E: Array = np.zeros((rows, width, width, width + bias), h.dtype)
    _add(E, h)
    return E


def advance(E: Array, J: Array | None, h: Array, mix: float) -> Array:
    """Return E_k (as E_{k−1}) for J_k (rows, w, w), None where λ = `mix` is 0, and h_k (rows, w)."""
    width = h.shape[1]
    if J is None or mix == 0:
        return first_trace(h, bias=E.shape[3] > width)
    after: Array = np.matmul(J * J.dtype.type(mix), E.reshape(len(E), width, -1)).reshape(E.shape)
    _add(after, h)
    return after


def _add(E: Array, h: Array) -> None:
    """Add [m = j] (h, 1)[i] to a trace."""
    diagonal = np.einsum("rmmi->rmi", E)  # a view, (rows, w, w or w + 1)
    diagonal[:, :, : h.shape[1]] += h[:, None]
    diagonal[:, :, h.shape[1] :] += 1


def gradient(E: Array, delta: Array) -> Weights:
    """Return the oracle's gradient, `oracle_L` (w, w) and with a bias `oracle_c` (w,), for δ (rows, w) at the trace's end."""
    rows, width = delta.shape
    G = np.matmul(delta.reshape(-1), E.reshape(rows * width, -1)).reshape(width, -1)  # (j, i)
    G /= -rows
    dense: Weights = {"oracle_L": G[:, :width].T.copy()}
    return dense | ({"oracle_c": G[:, width].copy()} if G.shape[1] > width else {})


def learn(came: Traced | None, target: Array | None) -> Weights:
    """Return the oracle's gradient by what came with an activation and the gradient there, (rows, w); nothing without."""
    return {} if came is None or target is None else gradient(came.trace, target - came.guess)


def onward(weights: Weights, trail: Trail, g: Array, came: Traced | None, mix: float) -> Traced:
    """Return what travels on with a box's activation: its prediction g (rows, w) and its trace; box 1 starts it."""
    if came is None:
        return Traced(g, first_trace(trail.h, bias="oracle_c" in weights))
    J = jacobian(trail, weights["Wrec"]) if mix else None
    return Traced(g, advance(came.trace, J, trail.h, mix))
