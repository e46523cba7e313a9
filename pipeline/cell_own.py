"""A user's recurrent cell: a class `Cell` in a Python file, found by name. Pure but for what it does.

    class Cell:
        gates = 1                                  # pre-activations of a unit: Wx, Wrec and b have gates · width columns

        def forward(self, z, h):                   # z (rows, gates · width), h (rows, width): the state that leaves the step
            return np.tanh(z)

        def backward(self, z, h, g):               # g (rows, width), the gradient at that state: the gradient at z, and at h
            return g * (1 - np.tanh(z) ** 2), 0 * h     # by the ways that do not go through z

What surrounds it is ours, and the same for every cell:

        z_s = x_s Wx + h_{s−1} Wrec (+ b)          h_s = forward(z_s, h_{s−1})                      s = 1 … steps of the box
        δ_s, ρ_s = backward(z_s, h_{s−1}, g_s)     g_{s−1} = δ_s Wrecᵀ + ρ_s                        s = steps … 1
        G_x = Σ x_sᵀ δ_s    G_rec = Σ h_{s−1}ᵀ δ_s    G_b = Σ δ_s

The first step of the first box has h_0 = 0, and no recurrent term. A cell holds no weights and no memory of its own. Before
anything starts it is tried: its gradients against central differences of its forward.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from .arrays import Array, Scratch, Weights, through
from .cells import Cell, Factors, Form, Trail, flatten, read_of
from .checks_own import cell_source
from .errors import ConfigError, RunError
from .own_code import Source, sealed
from .schema import Config

SHOWN = "launch/examples/own_cell.py"
#: How far a gradient may be from the difference quotient along a direction, as a share of it.
NEAR, STEP = 1e-4, 1e-5


class OwnCell(Cell):
    """A user's cell behind the interface of ours; what it returns is checked, for others will build on it."""

    def __init__(self, form: Form, source: Source) -> None:
        super().__init__(form)
        self.source = source
        self.gates = source.whole_numbers({"gates": 1})["gates"]

    @cached_property
    def _own(self) -> Any:
        """The user's object, made when something is computed: sizes alone run none of its code."""
        return self.source.call("__init__", self.source.found(("forward", "backward"), SHOWN))

    def forward(self, weights: Weights, x: Array | None, h: Array | None, scratch: Scratch | None = None) -> Trail:
        """Return the trail of the box's steps; its gates are z, (steps, rows, gates · width)."""
        assert x is not None, "a recurrent box sees the data"
        Wx, Wrec, b = weights["Wx"], weights["Wrec"], weights.get("b")
        steps, rows, _ = x.shape
        states = np.empty((steps + 1, rows, len(Wrec)), x.dtype)
        states[0] = 0 if h is None else h
        zs = np.empty((steps, rows, Wrec.shape[1]), x.dtype)
        recurrent = (scratch or Scratch()).array("recurrent", zs.shape[1:], x.dtype)
        for s in range(steps):
            z = np.matmul(x[s], Wx, out=zs[s])
            if s > 0 or h is not None:
                z += np.matmul(states[s], Wrec, out=recurrent)
            if b is not None:
                z += b
            self.leave(z, states[s], states[s + 1])
        return Trail(x, states[1 if h is None else 0 : -1], states[1:], zs)

    def backward(
        self, weights: Weights, trail: Trail, g: Array, *, passes_on: bool, scratch: Scratch | None = None
    ) -> tuple[Factors, Array | None]:
        """Return the factors of the weights' gradient and, if the box `passes_on`, the gradient at its entrance."""
        assert trail.gates is not None
        own, width = trail.own, self.form.width
        deltas = np.empty(trail.gates.shape, g.dtype)
        alone = len(deltas) - len(trail.entering)  # 1 in the first box, whose first step has h_0 = 0
        past = np.empty(g.shape, g.dtype)
        for s in range(len(deltas) - 1, -1, -1):
            at_h = g if own is None else g + own.back[s]
            entering = trail.entering[s - alone] if s >= alone else np.zeros_like(g)
            self.back(trail.gates[s], entering, at_h, deltas[s], past)
            if s > 0 or passes_on:
                g = through(deltas[s], weights["Wrec"], scratch) + past
        flat = deltas.reshape(-1, self.gates * width)
        factors = Factors(flatten(trail.x), trail.entering.reshape(-1, width), flat, None, *read_of(own))
        return factors, (g if passes_on else None)

    def leave(self, z: Array, h: Array, into: Array) -> None:
        """Write the state that leaves a step; raises RunError."""
        made = self.source.call("forward", self._own.forward, sealed(z), sealed(h))
        self._take("forward", made, into, "the state")

    def back(self, z: Array, h: Array, g: Array, at_z: Array, at_h: Array) -> None:
        """Write the gradient at z and, by the ways that do not go through z, at h; raises RunError."""
        made = self.source.call("backward", self._own.backward, sealed(z), sealed(h), sealed(g))
        if not isinstance(made, tuple) or len(made) != 2:
            raise RunError(
                f"{self.source.name}: Cell.backward returned {type(made).__name__}, two arrays are wanted: "
                "the gradients at z and at h"
            )
        for each, into, name in zip(made, (at_z, at_h), "zh", strict=True):
            self._take("backward", each, into, f"the gradient at {name}")

    def _take(self, method: str, made: object, into: Array, what: str) -> None:
        """Put what a method returned where it belongs."""
        if not isinstance(made, np.ndarray) or made.shape != into.shape or made.dtype.kind not in "fiu":
            kind = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
            raise RunError(
                f"{self.source.name}: Cell.{method} returned {kind} as {what}, an array {into.shape} is wanted"
            )
        np.copyto(into, made, casting="same_kind")


def try_out(config: Config) -> None:
    """Let a user's cell do each thing once, and hold its gradients against differences; raises ConfigError before all else."""
    source, width, rng = cell_source(config), config.model.width, np.random.default_rng(0)
    cell = OwnCell(Form(inputs=1, width=width, steps=1, is_first=False, dtype="float64"), source)
    shapes = (3, cell.gates * width), (3, width)
    z, h = (rng.standard_normal(shape) for shape in shapes)
    g, leaving = rng.standard_normal((2, 3, width))
    at_z, at_h = np.empty_like(z), np.empty_like(h)
    try:
        cell.back(z, h, g, at_z, at_h)
        for place, (name, found) in enumerate((("z", at_z), ("h", at_h))):
            way = rng.standard_normal(shapes[place]) * STEP
            sums = []
            for sign in (1, -1):
                moved = [z, h]
                moved[place] = moved[place] + sign * way
                cell.leave(moved[0], moved[1], leaving)
                sums.append(float((g * leaving).sum()))
            told, wanted = float((found * way).sum()) / STEP, (sums[0] - sums[1]) / (2 * STEP)
            if not abs(told - wanted) <= NEAR * max(abs(wanted), 1):
                raise ConfigError(
                    f"{source.name}: Cell.backward: its gradient at {name} is not the slope of its forward: {told:.6g} along "
                    f"some direction, {wanted:.6g} by differences"
                )
    except RunError as error:
        raise ConfigError(str(error)) from None
