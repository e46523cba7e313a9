"""Two gated cells, GRU and LSTM: forward next to backward. Pure arithmetic.

A box's arrays are small, so the number of numpy calls in a step is what it costs. What does not wait for the step before is
taken for all steps at once: forward, x Wx + b in one product of all rows; backward, everything but the gradient on its way,
in which each δ is linear. Every caller takes the whole box through these functions, so the bits agree.
"""

from __future__ import annotations

import numpy as np

from .arrays import Array, Scratch, Weights, sigmoid, through
from .cells import Cell, Factors, Form, Trail, flatten, read_of


def _from_inputs(weights: Weights, x: Array, scratch: Scratch) -> Array:
    """Return x Wx (+ b) of all steps, (steps, rows, gates · width), in the scratch."""
    steps, rows, _ = x.shape
    Wx, b = weights["Wx"], weights.get("b")
    flat = scratch.array("from x", (steps * rows, Wx.shape[1]), x.dtype)
    np.matmul(flatten(x), Wx, out=flat)
    if b is not None:
        flat += b
    return flat.reshape(steps, rows, -1)


class Gru(Cell):
    """The gated recurrent unit: Cho et al. 2014, with the reset gate after the recurrent product, as in cuDNN and PyTorch.

        r_s, z_s = σ(x_s Wx_rz + h_{s−1} Wrec_rz (+ b_rz))      q_s = h_{s−1} Wrec_n         forward, s = 1 … steps
        n_s = tanh(x_s Wx_n (+ b_n) + r_s ⊙ q_s)                h_s = (1 − z_s) ⊙ n_s + z_s ⊙ h_{s−1}

        δn_s = g_s ⊙ (1 − z_s) ⊙ (1 − n_s²)                     δz_s = g_s ⊙ (h_{s−1} − n_s) ⊙ z_s ⊙ (1 − z_s)
        δr_s = δn_s ⊙ q_s ⊙ r_s ⊙ (1 − r_s)                     ρ_s = [δr_s | δz_s | δn_s ⊙ r_s]
        g_{s−1} = ρ_s Wrecᵀ + g_s ⊙ z_s                         δ_s = [δr_s | δz_s | δn_s]   backward, s = steps … 1
        G_x = Σ x_sᵀ δ_s    G_rec = Σ h_{s−1}ᵀ ρ_s    G_b = Σ δ_s

    Columns of Wx, Wrec and b are r, z, n, each of the width; there is no bias within the reset product. The first box
    starts from h_0 = 0: its first step has no recurrent term, forward or backward.
    """

    gates = 3

    def forward(self, weights: Weights, x: Array | None, h: Array | None, scratch: Scratch | None = None) -> Trail:
        """Return the trail of the box's steps; its gates are [r | z | q | n], (steps, rows, 4 · width)."""
        assert x is not None, "a recurrent box sees the data"
        Wrec = weights["Wrec"]
        scratch = scratch or Scratch()
        steps, rows, _ = x.shape
        w = len(Wrec)
        states = np.empty((steps + 1, rows, w), x.dtype)
        gates = np.empty((steps, rows, 4 * w), x.dtype)
        given = _from_inputs(weights, x, scratch)
        first = h is None
        if h is not None:
            states[0] = h
        for s in range(steps):
            gate, entering, leaving = gates[s], states[s], states[s + 1]
            rz, q, n = gate[:, : 2 * w], gate[:, 2 * w : 3 * w], gate[:, 3 * w :]
            if s > 0 or not first:
                np.matmul(entering, Wrec, out=gate[:, : 3 * w])
                rz += given[s, :, : 2 * w]
                sigmoid(rz, out=rz)
                np.multiply(gate[:, :w], q, out=n)
                n += given[s, :, 2 * w :]
                np.tanh(n, out=n)
                np.subtract(entering, n, out=leaving)
            else:
                q[:] = 0
                sigmoid(given[s, :, : 2 * w], out=rz)
                np.tanh(given[s, :, 2 * w :], out=n)
                np.negative(n, out=leaving)
            leaving *= gate[:, w : 2 * w]
            leaving += n  # n + z ⊙ (h − n)
        return Trail(x, states[1 if first else 0 : -1], states[1:], gates)

    def backward(
        self, weights: Weights, trail: Trail, g: Array, *, passes_on: bool, scratch: Scratch | None = None
    ) -> tuple[Factors, Array | None]:
        """Return the factors of the weights' gradient and, if the box `passes_on`, the gradient at its entrance."""
        assert trail.gates is not None
        scratch = scratch or Scratch()
        own, dtype = trail.own, g.dtype
        steps, rows, w = trail.leaving.shape
        z = trail.gates[:, :, w : 2 * w]
        deltas, recurrents = self._slopes(trail, dtype, scratch)
        by_gate = recurrents.reshape(steps, rows, 3, w)
        for s in range(steps - 1, -1, -1):
            if own is not None:
                g = np.add(g, own.back[s], out=scratch.array("g and own", (rows, w), dtype))
            by_gate[s] *= g[:, np.newaxis]
            deltas[s, :, 2 * w :] *= g
            if s > 0 or passes_on:
                # before `through`, which may write where g lies
                past = np.multiply(g, z[s], out=scratch.array("past", (rows, w), dtype))
                out = scratch.array("g", (rows, w), dtype) if s > 0 else None
                g = through(recurrents[s], weights["Wrec"], scratch, out)
                g += past
        deltas[:, :, : 2 * w] = recurrents[:, :, : 2 * w]
        factors = Factors(
            flatten(trail.x),
            trail.entering.reshape(-1, w),
            deltas.reshape(-1, 3 * w),
            recurrents.reshape(-1, 3 * w),
            *read_of(own),
        )
        return factors, (g if passes_on else None)

    @staticmethod
    def _slopes(trail: Trail, dtype: np.dtype[np.generic], scratch: Scratch) -> tuple[Array, Array]:
        """Return what g is multiplied with: δn / g in the last third of the first array, ρ / g in the second.

        Both are new, (steps, rows, 3 · width); δ and ρ come to lie there.
        """
        assert trail.gates is not None
        steps, rows, w = trail.leaving.shape
        r, z, q, n = (trail.gates[:, :, i * w : (i + 1) * w] for i in range(4))
        deltas, recurrents = (np.empty((steps, rows, 3 * w), dtype) for _ in range(2))
        at_n = deltas[:, :, 2 * w :]
        by_r, by_z, by_n = (recurrents[:, :, i * w : (i + 1) * w] for i in range(3))
        less = np.subtract(1, z, out=scratch.array("1 − z", z.shape, dtype))

        np.multiply(n, n, out=at_n)
        np.subtract(1, at_n, out=at_n)
        at_n *= less
        np.multiply(at_n, r, out=by_n)

        np.subtract(1, r, out=by_r)
        by_r *= q
        by_r *= by_n

        alone = steps - len(trail.entering)  # 1 in the first box, whose first step has h_0 = 0
        np.subtract(trail.entering, n[alone:], out=by_z[alone:])
        np.negative(n[:alone], out=by_z[:alone])
        less *= z
        by_z *= less
        return deltas, recurrents


class Lstm(Cell):
    """Long short-term memory: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.

        i_s, f_s, o_s = σ(x_s Wx_ifo + h_{s−1} Wrec_ifo (+ b_ifo))                           forward, s = 1 … steps
        u_s = tanh(x_s Wx_u + h_{s−1} Wrec_u (+ b_u))           (u is the literature's g, a name that the gradient has)
        c_s = f_s ⊙ c_{s−1} + i_s ⊙ u_s                         t_s = tanh(c_s)      h_s = o_s ⊙ t_s

        γ_s = gc_s + gh_s ⊙ o_s ⊙ (1 − t_s²)                    δo_s = gh_s ⊙ t_s ⊙ o_s ⊙ (1 − o_s)
        δi_s = γ_s ⊙ u_s ⊙ i_s ⊙ (1 − i_s)                      δf_s = γ_s ⊙ c_{s−1} ⊙ f_s ⊙ (1 − f_s)
        δu_s = γ_s ⊙ i_s ⊙ (1 − u_s²)                           δ_s = [δi_s | δf_s | δu_s | δo_s]
        gh_{s−1} = δ_s Wrecᵀ                                    gc_{s−1} = γ_s ⊙ f_s         backward, s = steps … 1
        G_x = Σ x_sᵀ δ_s    G_rec = Σ h_{s−1}ᵀ δ_s    G_b = Σ δ_s

    The activation is the whole state [h | c], (rows, 2 · width), and so is the gradient at it, [gh | gc]. Columns of Wx,
    Wrec and b are i, f, u, o, each of the width. The first box starts from h_0 = c_0 = 0: its first step has neither a
    recurrent term nor f ⊙ c.
    """

    gates = 4
    parts = 2

    def __init__(self, form: Form) -> None:
        super().__init__(form)
        # With these, σ and tanh are one and the same for all gates: y = m tanh(m a) + k, and y' = (y + e)(1 − y).
        self._m, self._k, self._e = (
            np.repeat(np.array(values, form.dtype), form.width)
            for values in ((0.5, 0.5, 1, 0.5), (0.5, 0.5, 0, 0.5), (0, 0, 1, 0))
        )

    def first_weights(self, rng: np.random.Generator) -> Weights:
        """Return the first weights; the forget gate's bias is 1, so that c is kept (Jozefowicz et al. 2015)."""
        weights, w = super().first_weights(rng), self.form.width
        if "b" in weights:
            weights["b"][w : 2 * w] = 1
        return weights

    def forward(self, weights: Weights, x: Array | None, h: Array | None, scratch: Scratch | None = None) -> Trail:
        """Return the trail of the box's steps; its gates are [i | f | u | o | t], (steps, rows, 5 · width)."""
        assert x is not None, "a recurrent box sees the data"
        Wrec = weights["Wrec"]
        scratch = scratch or Scratch()
        steps, rows, _ = x.shape
        w = len(Wrec)
        states = np.empty((steps + 1, rows, 2 * w), x.dtype)
        gates = np.empty((steps, rows, 5 * w), x.dtype)
        given = _from_inputs(weights, x, scratch)
        new = scratch.array("i u", (rows, w), x.dtype)
        first = h is None
        if h is not None:
            states[0] = h
        for s in range(steps):
            gate, leaving = gates[s], states[s + 1]
            four, t, c = gate[:, : 4 * w], gate[:, 4 * w :], leaving[:, w:]
            has_past = s > 0 or not first
            if has_past:
                np.matmul(states[s, :, :w], Wrec, out=four)
                four += given[s]
                four *= self._m
            else:
                np.multiply(given[s], self._m, out=four)
            np.tanh(four, out=four)
            four *= self._m
            four += self._k
            np.multiply(gate[:, :w], gate[:, 2 * w : 3 * w], out=new if has_past else c)
            if has_past:
                np.multiply(gate[:, w : 2 * w], states[s, :, w:], out=c)
                c += new
            np.tanh(c, out=t)
            np.multiply(gate[:, 3 * w : 4 * w], t, out=leaving[:, :w])
        return Trail(x, states[1 if first else 0 : -1], states[1:], gates)

    def backward(
        self, weights: Weights, trail: Trail, g: Array, *, passes_on: bool, scratch: Scratch | None = None
    ) -> tuple[Factors, Array | None]:
        """Return the factors of the weights' gradient and, if the box `passes_on`, the gradient at its entrance."""
        assert trail.gates is not None
        scratch = scratch or Scratch()
        own, dtype, w = trail.own, g.dtype, self.form.width
        steps, rows, _ = trail.leaving.shape
        f = trail.gates[:, :, w : 2 * w]
        deltas, to_c = self._slopes(trail, dtype, scratch)
        by_gate = deltas.reshape(steps, rows, 4, w)
        at_c = scratch.array("g at c", (rows, w), dtype)
        for s in range(steps - 1, -1, -1):
            at_h = g[:, :w]
            if own is not None:
                at_h = np.add(at_h, own.back[s], out=scratch.array("g and own", (rows, w), dtype))
            np.multiply(at_h, to_c[s], out=at_c)
            at_c += g[:, w:]
            by_gate[s, :, :3] *= at_c[:, np.newaxis]
            by_gate[s, :, 3] *= at_h
            if s > 0 or passes_on:
                g = scratch.array("g", (rows, 2 * w), dtype) if s > 0 else np.empty((rows, 2 * w), dtype)
                through(deltas[s], weights["Wrec"], scratch, g[:, :w])
                np.multiply(at_c, f[s], out=g[:, w:])
        factors = Factors(
            flatten(trail.x),
            np.ascontiguousarray(trail.entering[:, :, :w]).reshape(-1, w),
            deltas.reshape(-1, 4 * w),
            None,
            *read_of(own),
        )
        return factors, (g if passes_on else None)

    def _slopes(self, trail: Trail, dtype: np.dtype[np.generic], scratch: Scratch) -> tuple[Array, Array]:
        """Return δi / γ, δf / γ, δu / γ, δo / gh, new, (steps, rows, 4 · width); and (γ − gc) / gh, (steps, rows, width)."""
        assert trail.gates is not None
        w = self.form.width
        four = trail.gates[:, :, : 4 * w]
        i, _, u, o, t = (trail.gates[:, :, n * w : (n + 1) * w] for n in range(5))
        deltas = np.subtract(1, four, out=np.empty(four.shape, dtype))
        deltas *= np.add(four, self._e, out=scratch.array("y + e", four.shape, dtype))

        alone = len(deltas) - len(trail.entering)  # 1 in the first box, whose first step has c_0 = 0
        deltas[:, :, :w] *= u
        deltas[:alone, :, w : 2 * w] = 0
        deltas[alone:, :, w : 2 * w] *= trail.entering[:, :, w:]
        deltas[:, :, 2 * w : 3 * w] *= i
        deltas[:, :, 3 * w :] *= t

        to_c = np.multiply(t, t, out=scratch.array("o (1 − t²)", t.shape, dtype))
        np.subtract(1, to_c, out=to_c)
        to_c *= o
        return deltas, to_c
