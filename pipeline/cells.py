"""What a box holds: the arithmetic of a cell, whatever its kind. Pure arithmetic on numpy arrays.

A cell takes a box's steps forward and a gradient back through them. Stages, the reference and the probe know it by these
methods alone, and by what they leave behind: a *trail* of the forward, *factors* of the gradient (G = aᵀ δ).

    forward(weights, x, h)        the trail of the box's steps; its `h` is the activation, the whole state that leaves
    backward(weights, trail, g)   factors of the weights' gradient, and the gradient at the entrance
    gradient(factors, weights)    the dense gradient that factors stand for
    descend(weights, factors, …)  one step of plain gradient descent with them

Live workers, the reference, owners and siblings call these functions with arrays of the same shape and memory order:
that is what makes their weights equal bit for bit. (A product of stacked rows differs in bits from the sum of the
products of each row, as may one with a copy of W.T in place of the view.) What goes out, a trail, factors, a gradient at
the entrance, is new on every call; what does not may lie in a scratch, and the bits are the same with and without one.

Where a task has a target at every step, a box also reads its own states: `readout` adds to a trail what their losses say,
`backward` adds that to the gradient on its way, and the layer that read is learnt with the cell's weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .arrays import Array, Scratch, Weights, product, step


class Form(NamedTuple):
    """The measures of one box's cell."""

    inputs: int  # of a step
    width: int  # units of the hidden state
    steps: int  # in the box; of dense layers, how many
    is_first: bool  # it starts from h_0 = 0, or, with dense layers, from the inputs
    bias: bool = False
    scale: float = 1.0  # standard deviation of the first weights, times 1/√fan-in
    recurrent: str = "normal"  # first Wrec: normal, or the identity
    function: str = "tanh"  # of dense layers
    dtype: str = "float32"


class Own(NamedTuple):
    """What the losses of a box's own steps say, where a task has targets at every step."""

    read: Array  # (steps · rows, width): the hidden states that were read
    delta: Array  # (steps · rows, outputs): the gradient at what was put out
    back: Array  # (steps, rows, width): the gradient at the hidden states


class Trail(NamedTuple):
    """What a forward leaves behind for the backward."""

    x: Array  # (steps, rows, inputs); of dense layers after the first box (0, rows, 0)
    entering: Array  # (steps or steps − 1, rows, state): the states that entered the steps; h_0 = 0 is left out
    leaving: Array  # (steps, rows, state): the states that left them
    gates: Array | None = None  # (steps, rows, …): what a gated cell computed on the way
    own: Own | None = None

    @property
    def h(self) -> Array:
        """The box's activation, (rows, state)."""
        h: Array = self.leaving[-1]
        return h


class Factors(NamedTuple):
    """A gradient as its factors: G_x = xᵀ delta, G_rec = enteringᵀ delta of the same steps."""

    x: Array  # (steps · rows, inputs)
    entering: Array  # (steps · rows or (steps − 1) · rows, width)
    delta: Array  # (steps · rows, width, or as many times that as there are gates)
    recurrent: Array | None = None  # as delta, where what multiplies `entering` is another (GRU)
    read: Array | None = None  # (steps · rows, width) and
    out: Array | None = None  # (steps · rows, outputs): G_fc = readᵀ out, where the box reads its own states

    @property
    def deltas(self) -> Iterator[Array]:
        """What is linear in the gradient at the activation and at the outputs."""
        return (each for each in (self.delta, self.recurrent, self.out) if each is not None)

    def scale(self, by: float) -> None:
        """Multiply the gradient in place."""
        for each in self.deltas:
            each *= by

    def subtract(self, early: Factors) -> None:
        """Take another gradient of the same trail away, in place."""
        for mine, other in zip(self.deltas, early.deltas, strict=True):
            mine -= other


class Cell:
    """The arithmetic of one box's cell. It holds neither weights nor state."""

    #: The weights that a gradient passes through on its way back.
    passing: tuple[str, ...] = ("Wrec",)
    #: How many pre-activations a unit has.
    gates = 1
    #: How many numbers a unit's state has.
    parts = 1

    def __init__(self, form: Form) -> None:
        self.form = form

    @property
    def state(self) -> int:
        """The width of the activation."""
        return self.parts * self.form.width

    @property
    def takes_inputs(self) -> bool:
        """Whether the box sees the data."""
        return True

    @property
    def is_passed(self) -> bool:
        """Whether any gradient passes through weights of this box."""
        return not self.form.is_first or self.form.steps > 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each of the cell's weights, by name."""
        inputs, width = self.form.inputs, self.form.width
        shapes: dict[str, tuple[int, ...]] = {
            "Wx": (inputs, self.gates * width),
            "Wrec": (width, self.gates * width),
        }
        return shapes | ({"b": (self.gates * width,)} if self.form.bias else {})

    def touched(self) -> tuple[str, ...]:
        """Return the names of the weights that a batch changes: a single first step from h_0 = 0 leaves Wrec alone."""
        return tuple(name for name in self.shapes() if name != "Wrec" or self.is_passed)

    def first_weights(self, rng: np.random.Generator) -> Weights:
        """Return Wx (inputs, gates · width), Wrec (width, gates · width) and, with a bias, b = 0 (gates · width,).

        Entries are normal with standard deviation scale / √fan-in.
        """
        weights: Weights = {}
        for name, shape in self.shapes().items():
            if len(shape) == 1:
                weights[name] = np.zeros(shape, self.form.dtype)
            else:
                normal = rng.standard_normal(shape) * (self.form.scale / shape[0] ** 0.5)
                weights[name] = normal.astype(self.form.dtype)
        return weights

    def forward(self, weights: Weights, x: Array | None, h: Array | None, scratch: Scratch | None = None) -> Trail:
        """Return the trail of the box's steps over x (steps, rows, inputs) from state h (rows, state); None is h_0 = 0.

        x may be None where the cell takes no inputs.
        """
        raise NotImplementedError

    def backward(
        self, weights: Weights, trail: Trail, g: Array, *, passes_on: bool, scratch: Scratch | None = None
    ) -> tuple[Factors, Array | None]:
        """Return the factors of the weights' gradient and, if the box `passes_on`, the gradient at its entrance.

        g is the gradient of the loss at the box's activation, (rows, state), of whatever comes after the box; so is what
        comes back, with what the box's own losses say. Of `weights` only those named in `passing` are looked at. Full
        backpropagation through the steps of the box (Rumelhart, Hinton and Williams 1986), nothing beyond its edges.
        """
        raise NotImplementedError

    def stack(self, parts: Sequence[Factors]) -> Factors:
        """Return the factors of the sum of several gradients: their rows one below the other.

        One product of all rows costs less than a product for each part and their sum, up to half as much.
        """
        # In a first box the first step has no entering state: such rows come first, as in each part.
        alone = [len(part.delta) - len(part.entering) for part in parts]

        def stacked(arrays: Sequence[Array]) -> Array:
            heads = [array[:n] for array, n in zip(arrays, alone, strict=True) if n]
            return np.concatenate(heads + [array[n:] for array, n in zip(arrays, alone, strict=True)])

        return Factors(
            stacked([part.x for part in parts]),
            np.concatenate([part.entering for part in parts]),
            stacked([part.delta for part in parts]),
            stacked([part.recurrent for part in parts if part.recurrent is not None])
            if parts[0].recurrent is not None
            else None,
            *_joined(parts),
        )

    def gradient(self, factors: Factors, weights: Weights, scratch: Scratch | None = None) -> Weights:
        """Return the dense gradient of each of `weights` that factors stand for: G = aᵀ δ.

        A weight that the steps did not touch (Wrec where h_0 = 0 is the only state) is left out. With a scratch the
        gradient lies there, until the next one: for a summand that is added at once.
        """
        into: Weights = {}
        if scratch is not None:
            into = {name: scratch.array(name, W.shape, W.dtype) for name, W in weights.items()}
        dense = {name: product(a, delta, into.get(name)) for name, a, delta in self.pairs(factors)}
        for name, delta in self.sums(factors, weights):
            dense[name] = delta.sum(axis=0)
        return {name: dense[name] for name in weights if name in dense}

    def descend(
        self, weights: Weights, factors: Factors, rates: Mapping[str, float], scratch: Scratch | None = None
    ) -> None:
        """Take one step of gradient descent with the gradient that factors stand for."""
        scratch = scratch or Scratch()
        for name, a, delta in self.pairs(factors):
            step(weights[name], a, delta, rates[name], scratch)
        for name, delta in self.sums(factors, weights):
            G = delta.sum(axis=0)
            G *= rates[name]
            weights[name] -= G

    def pairs(self, factors: Factors) -> Iterator[tuple[str, Array, Array]]:
        """Yield each weight matrix's name, and a and δ of its gradient aᵀ δ."""
        x, entering, delta, recurrent, read, out = factors
        yield "Wx", x, delta
        if len(entering):
            back = delta if recurrent is None else recurrent
            yield "Wrec", entering, back[len(back) - len(entering) :]
        if read is not None and out is not None:
            yield "Wfc", read, out

    def sums(self, factors: Factors, weights: Weights) -> Iterator[tuple[str, Array]]:
        """Yield each bias's name, and δ of its gradient, the sum over its rows."""
        if "b" in weights:
            yield "b", factors.delta
        if "bfc" in weights and factors.out is not None:
            yield "bfc", factors.out


def _joined(parts: Sequence[Factors]) -> tuple[Array | None, Array | None]:
    if parts[0].read is None:
        return None, None
    return tuple(  # type: ignore[return-value]
        np.concatenate([each for part in parts if (each := getattr(part, name)) is not None])
        for name in ("read", "out")
    )


def flatten(steps: Array) -> Array:
    """Return (steps · rows, …) of (steps, rows, …)."""
    return steps.reshape(steps.shape[0] * steps.shape[1], steps.shape[2])


def read_of(own: Own | None) -> tuple[Array | None, Array | None]:
    """Return what factors have of a box's own losses; δ is copied, for factors may be scaled."""
    return (None, None) if own is None else (own.read, own.delta.copy())
