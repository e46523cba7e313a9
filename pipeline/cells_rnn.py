"""The vanilla recurrent cell: forward next to backward. Pure arithmetic."""

from __future__ import annotations

import numpy as np

from .arrays import Array, Scratch, Weights, through
from .cells import Cell, Factors, Trail, flatten, read_of


class Rnn(Cell):
    """The vanilla recurrent cell: forward next to backward.

        z_s = x_s Wx + h_{s−1} Wrec (+ b)        h_s = tanh(z_s)               forward, s = 1 … steps of the box
        δ_s = g_s ⊙ (1 − h_s²)                   g_{s−1} = δ_s Wrecᵀ           backward, s = steps … 1
        G_x = Σ x_sᵀ δ_s    G_rec = Σ h_{s−1}ᵀ δ_s    G_b = Σ δ_s              as one product of stacked factors

    The first box starts from h_0 = 0: its first step has no recurrent term, forward or backward.
    """

    def first_weights(self, rng: np.random.Generator) -> Weights:
        """Return the first weights; Wrec may be the identity times the scale (Le, Jaitly and Hinton 2015)."""
        weights, form = super().first_weights(rng), self.form
        if form.recurrent == "identity":
            weights["Wrec"] = np.eye(form.width, dtype=form.dtype) * np.dtype(form.dtype).type(form.scale)
        return weights

    def forward(self, weights: Weights, x: Array | None, h: Array | None, scratch: Scratch | None = None) -> Trail:
        """Return the trail of the box's steps."""
        assert x is not None, "a recurrent box sees the data"
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
        self, weights: Weights, trail: Trail, g: Array, *, passes_on: bool, scratch: Scratch | None = None
    ) -> tuple[Factors, Array | None]:
        """Return the factors of the weights' gradient and, if the box `passes_on`, the gradient at its entrance."""
        scratch = scratch or Scratch()
        leaving, own = trail.leaving, trail.own
        steps, width = len(leaving), leaving.shape[2]
        deltas = np.empty(leaving.shape, g.dtype)
        for s in range(steps - 1, -1, -1):
            h, delta = leaving[s], deltas[s]
            np.multiply(h, h, out=delta)
            np.subtract(1, delta, out=delta)
            delta *= g if own is None else g + own.back[s]
            if s > 0:
                g = through(delta, weights["Wrec"], scratch, scratch.array("g", g.shape, g.dtype))
            elif passes_on:
                g = through(delta, weights["Wrec"], scratch)
        flat = deltas.reshape(-1, width)
        factors = Factors(flatten(trail.x), trail.entering.reshape(-1, width), flat, None, *read_of(own))
        return factors, (g if passes_on else None)
