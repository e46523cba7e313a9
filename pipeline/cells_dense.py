"""Fully connected layers as a box: what is cut is the depth instead of time. Forward next to backward. Pure arithmetic.

The layers of a box take the place of the steps: a trail has a state for each, and so have the factors, layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .arrays import Array, Scratch, Weights, sigmoid, through
from .cells import Cell, Factors, Form, Trail, flatten


class Dense(Cell):
    """A chain of fully connected layers, as many as the form has steps.

        z_l = h_{l−1} W_l (+ b_l)                h_l = f(z_l)                   forward, l = 1 … layers of the box
        δ_l = g_l ⊙ f'(z_l)                      g_{l−1} = δ_l W_lᵀ             backward, l = layers … 1
        G_l = h_{l−1}ᵀ δ_l                       G_bl = Σ δ_l over the rows

        f        relu max(z, 0)      tanh       sigmoid
        f'(z)    1 where h > 0       1 − h²     h (1 − h)                       relu's derivative at 0 is 0

    h_0 of the first box are the inputs, and W1 is (inputs, width); after it the activation of the box before.
    """

    def __init__(self, form: Form) -> None:
        super().__init__(form)
        passed = range(2 if form.is_first else 1, form.steps + 1)
        self.passing = tuple(f"W{layer}" for layer in passed)

    @property
    def takes_inputs(self) -> bool:
        """Whether the box sees the data: only the first."""
        return self.form.is_first

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each of W1, b1, W2, b2, …: (inputs or width, width) and, with a bias, (width,)."""
        form = self.form
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(1, form.steps + 1):
            shapes[f"W{layer}"] = (form.inputs if form.is_first and layer == 1 else form.width, form.width)
            if form.bias:
                shapes[f"b{layer}"] = (form.width,)
        return shapes

    def first_weights(self, rng: np.random.Generator) -> Weights:
        """Return the first weights: normal with standard deviation scale / √fan-in, for relu √2 times that; biases are 0.

        The √2 keeps the size of what half of the units let through (He et al. 2015).
        """
        weights = super().first_weights(rng)
        if self.form.function == "relu":
            for W in weights.values():
                W *= 2**0.5
        return weights

    def forward(
        self,
        weights: Weights,
        x: Array | None,
        h: Array | None,
        scratch: Scratch | None = None,  # noqa: ARG002, for every z lies in the trail
    ) -> Trail:
        """Return the trail of the box's layers over x (1, rows, inputs) in the first box, else over h (rows, width).

        After the first box nobody looks at x; it may be None.
        """
        form, function = self.form, self.form.function
        read = h if x is None or not form.is_first else x[0]
        assert read is not None
        states = np.empty((form.steps + 1, len(read), form.width), read.dtype)
        if not form.is_first:
            states[0] = read
        for layer in range(1, form.steps + 1):
            z, b = states[layer], weights.get(f"b{layer}")
            np.matmul(read, weights[f"W{layer}"], out=z)
            if b is not None:
                z += b
            if function == "relu":
                np.maximum(z, 0, out=z)
            elif function == "tanh":
                np.tanh(z, out=z)
            else:
                sigmoid(z, out=z)
            read = z
        if x is None:
            x = np.empty((0, states.shape[1], 0), states.dtype)
        return Trail(x, states[1 if form.is_first else 0 : -1], states[1:])

    def backward(
        self, weights: Weights, trail: Trail, g: Array, *, passes_on: bool, scratch: Scratch | None = None
    ) -> tuple[Factors, Array | None]:
        """Return the factors of the weights' gradient and, if the box `passes_on`, the gradient at its entrance."""
        scratch = scratch or Scratch()
        form, leaving = self.form, trail.leaving
        deltas = np.empty(leaving.shape, g.dtype)
        if form.function == "relu":
            np.greater(leaving, 0, out=deltas)
        elif form.function == "tanh":
            np.multiply(leaving, leaving, out=deltas)
            np.subtract(1, deltas, out=deltas)
        else:
            np.subtract(1, leaving, out=deltas)
            deltas *= leaving
        for layer in range(form.steps, 0, -1):
            delta = deltas[layer - 1]
            delta *= g
            if layer > 1 or passes_on:
                out = scratch.array("g", g.shape, g.dtype) if layer > 1 else None
                g = through(delta, weights[f"W{layer}"], scratch, out)
        x = flatten(trail.x) if form.is_first else np.empty((0, 0), g.dtype)
        factors = Factors(x, trail.entering.reshape(-1, form.width), deltas.reshape(-1, form.width))
        return factors, (g if passes_on else None)

    def stack(self, parts: Sequence[Factors]) -> Factors:
        """Return the factors of the sum of several gradients: in each layer, their rows one below the other."""
        layers, width = self.form.steps, self.form.width

        def stacked(arrays: Sequence[Array], layers: int) -> Array:
            rows = [len(part.delta) // self.form.steps for part in parts]
            by_layer = [array.reshape(layers, n, width) for array, n in zip(arrays, rows, strict=True)]
            return np.concatenate(by_layer, axis=1).reshape(-1, width)

        return Factors(
            np.concatenate([part.x for part in parts]),
            stacked([part.entering for part in parts], len(self.passing)),
            stacked([part.delta for part in parts], layers),
        )

    def pairs(self, factors: Factors) -> Iterator[tuple[str, Array, Array]]:
        """Yield each weight matrix's name, and a and δ of its gradient aᵀ δ."""
        by_layer = self._by_layer(factors.delta)
        if self.form.is_first:
            yield "W1", factors.x, next(by_layer)
        rows = len(factors.delta) // self.form.steps
        for n, (name, delta) in enumerate(zip(self.passing, by_layer, strict=True)):
            yield name, factors.entering[n * rows : (n + 1) * rows], delta

    def sums(self, factors: Factors, weights: Weights) -> Iterator[tuple[str, Array]]:
        """Yield each bias's name, and δ of its gradient, the sum over its rows."""
        for layer, delta in enumerate(self._by_layer(factors.delta), 1):
            if f"b{layer}" in weights:
                yield f"b{layer}", delta

    def _by_layer(self, deltas: Array) -> Iterator[Array]:
        rows = len(deltas) // self.form.steps
        return (deltas[n * rows : (n + 1) * rows] for n in range(self.form.steps))
