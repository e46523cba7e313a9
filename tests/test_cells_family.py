"""Every kind of cell by the same tests: central differences, torch, and what stages take for granted of all of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from test_cells import assert_close, numerical_gradient

from pipeline.arrays import Array, Scratch, Weights, sigmoid
from pipeline.cell_own import OwnCell
from pipeline.cells import Cell, Factors, Form, Own, Trail
from pipeline.cells_dense import Dense
from pipeline.cells_gated import Gru, Lstm
from pipeline.cells_rnn import Rnn
from pipeline.own_code import Source

INPUTS, WIDTH, OUTPUTS, ROWS = 3, 4, 2, 3
#: The largest entry of a gradient at the least, so that there is something to compare.
LEAST = 1e-5
#: A user's cell with two gates, after Ravanelli et al. 2018: h + u ⊙ (n − h).
OWN = """
import numpy as np

class Cell:
    gates = 2

    def forward(self, z, h):
        w = h.shape[1]
        u, n = 1 / (1 + np.exp(-z[:, :w])), np.tanh(z[:, w:])
        return h + u * (n - h)

    def backward(self, z, h, g):
        w = h.shape[1]
        u, n = 1 / (1 + np.exp(-z[:, :w])), np.tanh(z[:, w:])
        return np.hstack([g * (n - h) * u * (1 - u), g * u * (1 - n * n)]), g * (1 - u)
"""


class Light(OwnCell):
    """That cell."""

    def __init__(self, form: Form) -> None:
        super().__init__(form, Source(OWN, "light.py", "Cell"))


KINDS: dict[str, tuple[type[Cell], str]] = {
    "rnn": (Rnn, "tanh"),
    "gru": (Gru, "tanh"),
    "lstm": (Lstm, "tanh"),
    "own": (Light, "tanh"),
    "relu": (Dense, "relu"),
    "tanh": (Dense, "tanh"),
    "sigmoid": (Dense, "sigmoid"),
}
RECURRENT = ["rnn", "gru", "lstm", "own"]
KIND = pytest.mark.parametrize("kind", KINDS)
STEPS = pytest.mark.parametrize("steps", [1, 4])
FIRST = pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
BIAS = pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])


class Case(NamedTuple):
    """One box of some kind, and what comes in from both sides; none of it may be written to."""

    cell: Cell
    weights: Weights
    x: Array | None
    h: Array | None
    g: Array
    own_y: Array | None  # (steps, rows, outputs): targets, where the box reads its own states

    def forward(self, scratch: Scratch | None = None) -> Trail:
        """Return the trail, with what the losses of the steps say: half of the squared error of h Wfc + bfc."""
        trail = self.cell.forward(self.weights, self.x, self.h, scratch)  # type: ignore[arg-type]
        if self.own_y is None:
            return trail
        read = np.ascontiguousarray(trail.leaving[:, :, :WIDTH]).reshape(-1, WIDTH)
        delta = self.misses(trail).reshape(-1, OUTPUTS)
        back = (delta @ self.weights["Wfc"].T).reshape(len(self.own_y), -1, WIDTH)
        return trail._replace(own=Own(read, delta, back))

    def misses(self, trail: Trail) -> Array:
        off: Array = trail.leaving[:, :, :WIDTH] @ self.weights["Wfc"] + self.weights["bfc"] - self.own_y
        return off

    def loss(self) -> float:
        trail = self.cell.forward(self.weights, self.x, self.h)  # type: ignore[arg-type]
        own = 0.0 if self.own_y is None else 0.5 * float((self.misses(trail) ** 2).sum())
        return float((trail.h * self.g).sum()) + own

    def backward(self, scratch: Scratch | None = None) -> tuple[Factors, Array | None]:
        """Go forward and back; a later box passes on. Only the weights that a gradient passes through are shown."""
        passing = {name: self.weights[name] for name in self.cell.passing}
        trail, passes_on = self.forward(scratch), not self.cell.form.is_first
        return self.cell.backward(passing, trail, self.g, passes_on=passes_on, scratch=scratch)


def some(kind: str, steps: int, first: bool, bias: bool, own: bool = False, dtype: str = "float64") -> Case:
    rng = np.random.default_rng([list(KINDS).index(kind), steps, first, bias])
    made, function = KINDS[kind]
    cell = made(Form(INPUTS, WIDTH, steps, first, bias, function=function, dtype=dtype))

    def normal(*shape: int) -> Array:
        array = rng.standard_normal(shape).astype(dtype)
        array.setflags(write=False)
        return array

    weights = cell.first_weights(rng)
    for name in weights:
        if name.startswith("b"):
            weights[name] += 0.5 * normal(*weights[name].shape)
    if own:
        weights |= {"Wfc": normal(WIDTH, OUTPUTS).copy(), "bfc": normal(OUTPUTS).copy()}
    x = normal(steps if cell.takes_inputs and made is not Dense else 1, ROWS, INPUTS) if cell.takes_inputs else None
    h = None if first else normal(ROWS, cell.state)
    return Case(cell, weights, x, h, normal(ROWS, cell.state), normal(steps, ROWS, OUTPUTS) if own else None)


def arrays_of(*found: Any) -> list[Array]:
    """Return every array in nested tuples, in order."""
    return [a for each in found for a in (arrays_of(*each) if isinstance(each, tuple) else [each]) if a is not None]


@pytest.mark.parametrize(("kind", "own"), [(kind, False) for kind in KINDS] + [(kind, True) for kind in RECURRENT])
@STEPS
@FIRST
@BIAS
def test_the_gradient_is_that_of_central_differences(kind: str, own: bool, steps: int, first: bool, bias: bool) -> None:
    case = some(kind, steps, first, bias, own)
    factors, entrance = case.backward()
    dense = case.cell.gradient(factors, case.weights)
    assert set(dense) == {*case.cell.touched()} | ({"Wfc", "bfc"} if own else set())
    for name, W in case.weights.items():
        expected = numerical_gradient(case.loss, W)
        if name in dense:
            assert_close(dense[name], expected, LEAST)
        else:
            assert not expected.any()
    if first:
        assert entrance is None
    else:
        assert case.h is not None
        assert entrance is not None
        case.h.setflags(write=True)
        assert_close(entrance, numerical_gradient(case.loss, case.h), LEAST)


@KIND
@STEPS
@FIRST
@BIAS
def test_a_step_of_descent_takes_the_rate_times_the_gradient(kind: str, steps: int, first: bool, bias: bool) -> None:
    case = some(kind, steps, first, bias, own=kind in RECURRENT)
    factors, _ = case.backward()
    before = {name: W.copy() for name, W in case.weights.items()}
    dense = {name: G.copy() for name, G in case.cell.gradient(factors, case.weights, Scratch()).items()}
    rates = {name: 0.1 * n for n, name in enumerate(case.weights, 1)}
    case.cell.descend(case.weights, factors, rates, Scratch())
    for name, W in case.weights.items():
        assert np.array_equal(W, before[name] - rates[name] * dense[name] if name in dense else before[name])


@KIND
@STEPS
@FIRST
def test_the_gradient_of_stacked_parts_is_the_sum_of_theirs(kind: str, steps: int, first: bool) -> None:
    whole = some(kind, steps, first, bias=True, own=kind in RECURRENT)
    parts = []
    for rows in (slice(0, 1), slice(1, ROWS)):
        part = whole._replace(
            x=whole.x if whole.x is None else whole.x[:, rows],
            h=whole.h if whole.h is None else whole.h[rows],
            g=whole.g[rows],
            own_y=whole.own_y if whole.own_y is None else whole.own_y[:, rows],
        )
        parts.append(part.backward()[0])
    one, other = (whole.cell.gradient(part, whole.weights) for part in parts)
    stacked, all_rows = (
        whole.cell.gradient(each, whole.weights) for each in (whole.cell.stack(parts), whole.backward()[0])
    )
    assert set(stacked) == set(one) == set(all_rows)
    for name, G in stacked.items():
        np.testing.assert_allclose(G, one[name] + other[name], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(G, all_rows[name], rtol=1e-10, atol=1e-12)


@KIND
@STEPS
@FIRST
@BIAS
def test_a_scratch_changes_no_bit_and_keeps_nothing_that_goes_out(
    kind: str, steps: int, first: bool, bias: bool
) -> None:
    case = some(kind, steps, first, bias, own=kind in RECURRENT, dtype="float32")
    scratch = Scratch()
    new = arrays_of(case.forward(), case.backward())
    kept = arrays_of(case.forward(scratch), case.backward(scratch))
    noise = case._replace(g=-case.g, h=None if case.h is None else 2 * case.h)
    noise.backward(scratch)  # whatever of `kept` lay in the scratch is written over
    again = arrays_of(case.forward(scratch), case.backward(scratch))
    assert len(new) == len(kept) == len(again)
    for one, two, three in zip(new, kept, again, strict=True):
        assert one.dtype == two.dtype == np.float32
        assert one.tobytes() == two.tobytes() == three.tobytes()
    # factors are products' operands: they have one memory order
    assert all(array.flags.c_contiguous for array in arrays_of(*case.backward(scratch)))


@KIND
@FIRST
def test_factors_are_scaled_and_subtracted_without_harm_to_the_trail(kind: str, first: bool) -> None:
    case = some(kind, 3, first, bias=True, own=kind in RECURRENT)
    passes_on, trail = not first, case.forward()
    for array in arrays_of(trail):
        array.setflags(write=False)
    late, _ = case.cell.backward(case.weights, trail, case.g, passes_on=passes_on)
    early, _ = case.cell.backward(case.weights, trail, 0.25 * case.g, passes_on=passes_on)
    a, b = ({name: G.copy() for name, G in case.cell.gradient(each, case.weights).items()} for each in (late, early))
    late.scale(0.5)
    for name, G in case.cell.gradient(late, case.weights).items():
        np.testing.assert_allclose(G, 0.5 * a[name], rtol=1e-12)
    late.scale(2)
    late.subtract(early)
    for name, G in case.cell.gradient(late, case.weights).items():
        np.testing.assert_allclose(G, a[name] - b[name], rtol=1e-9, atol=1e-12)


@KIND
@STEPS
@FIRST
@BIAS
def test_shapes_and_names_of_weights(kind: str, steps: int, first: bool, bias: bool) -> None:
    case = some(kind, steps, first, bias)
    cell, trail = case.cell, case.forward()
    assert {name: W.shape for name, W in case.weights.items()} == cell.shapes()
    assert cell.state == trail.h.shape[1] == (2 * WIDTH if kind == "lstm" else WIDTH)
    assert len(trail.leaving) == steps == len(trail.entering) + first
    assert cell.is_passed == (not first or steps > 1)
    if kind in RECURRENT:
        assert cell.passing == ("Wrec",)
        assert set(cell.shapes()) - set(cell.touched()) == (set() if cell.is_passed else {"Wrec"})
        assert cell.takes_inputs
    else:
        names = [f"{letter}{n}" for n in range(1, steps + 1) for letter in ("Wb" if bias else "W")]
        assert list(cell.shapes()) == list(cell.touched()) == names
        assert cell.passing == tuple(f"W{n}" for n in range(1 + first, steps + 1))
        assert cell.takes_inputs == first


def test_first_weights_follow_their_papers() -> None:
    rng = np.random.default_rng(1)
    lstm = Lstm(Form(5, 3, 2, True, True)).first_weights(rng)
    assert lstm["b"].tolist() == [0] * 3 + [1] * 3 + [0] * 6
    assert "b" not in Lstm(Form(5, 3, 2, True)).first_weights(rng)
    for function, expected in (("tanh", 2 / 20), ("relu", 2 * 2**0.5 / 20)):
        weights = Dense(Form(400, 400, 1, True, True, 2.0, function=function)).first_weights(rng)
        assert weights["W1"].std() == pytest.approx(expected, rel=0.02)
        assert not weights["b1"].any()


def test_sigmoid_neither_overflows_nor_warns() -> None:
    with np.errstate(all="raise"):
        a = np.array([-1e30, -2, 0, 2, 1e30], "float32")
        found = sigmoid(a, out=a)
    assert found is a
    np.testing.assert_allclose(found, [0, 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2)), 1], rtol=1e-6)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
@STEPS
@FIRST
@BIAS
def test_a_recurrent_cell_is_that_of_torch(kind: str, steps: int, first: bool, bias: bool) -> None:
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'timebox[bench]'")
    case = some(kind, steps, first, bias)
    theirs = getattr(torch.nn, kind.upper())(INPUTS, WIDTH, bias=bias, dtype=torch.float64)
    names = {"Wx": "weight_ih_l0", "Wrec": "weight_hh_l0"} | ({"b": "bias_ih_l0"} if bias else {})
    with torch.no_grad():
        for mine, name in names.items():
            getattr(theirs, name).copy_(torch.tensor(case.weights[mine].T))
        if bias:
            theirs.bias_hh_l0.zero_()
    entering = torch.tensor(np.zeros((ROWS, case.cell.state)) if case.h is None else case.h, requires_grad=True)
    split = entering[None].split(WIDTH, dim=2)
    states, last = theirs(torch.tensor(case.x), split if kind == "lstm" else split[0])
    end = torch.cat(last, dim=2)[0] if kind == "lstm" else last[0]
    (end * torch.tensor(case.g)).sum().backward()

    np.testing.assert_allclose(case.forward().leaving[:, :, :WIDTH], states.detach().numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(case.forward().h, end.detach().numpy(), rtol=1e-9, atol=1e-12)
    factors, entrance = case.backward()
    for name, G in case.cell.gradient(factors, case.weights).items():
        np.testing.assert_allclose(G, getattr(theirs, names[name]).grad.numpy().T, rtol=1e-9, atol=1e-12)
    if entrance is not None:
        np.testing.assert_allclose(entrance, entering.grad.numpy(), rtol=1e-9, atol=1e-12)
