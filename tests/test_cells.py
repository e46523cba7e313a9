"""The recurrent cell: its forward by hand, its backward against central differences of the forward, its edges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.arrays import Array, Scratch, Weights
from pipeline.cells import Form
from pipeline.cells_rnn import Rnn

INPUTS, WIDTH = 4, 3
CELL = Rnn(Form(INPUTS, WIDTH, steps=1, is_first=False, dtype="float64"))
forward, backward, gradient, descend = CELL.forward, CELL.backward, CELL.gradient, CELL.descend


def initial_weights(
    inputs: int, width: int, bias: bool, scale: float, rng: np.random.Generator, dtype: str, recurrent: str = "normal"
) -> Weights:
    """Return a cell's first weights."""
    form = Form(inputs, width, 1, is_first=False, bias=bias, scale=scale, recurrent=recurrent, dtype=dtype)
    return Rnn(form).first_weights(rng)


def numerical_gradient(loss: Callable[[], float], array: Array, step: float = 1e-5) -> Array:
    """Return ∂loss/∂array entry by entry by central differences; `loss` reads `array`, which is left as it was."""
    found = np.empty_like(array)
    for place in np.ndindex(array.shape):
        value = array[place]
        array[place] = value + step
        above = loss()
        array[place] = value - step
        found[place] = (above - loss()) / (2 * step)
        array[place] = value
    return found


def assert_close(found: Array, expected: Array, least: float = 1e-4) -> None:
    """Assert equality to 1e-6 of the largest entry, and that there is something to compare."""
    assert found.shape == expected.shape
    assert np.abs(expected).max() > least
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


def some_box(steps: int, rows: int, bias: bool, dtype: str = "float64") -> tuple[Weights, Array, Array, Array]:
    """Return weights, inputs, an entering state and a gradient at the activation."""
    rng = np.random.default_rng([steps, rows, bias])
    weights = initial_weights(INPUTS, WIDTH, bias, 1.0, rng, dtype)
    if bias:
        weights["b"] += rng.standard_normal(WIDTH).astype(dtype)
    x, h, g = (
        rng.standard_normal(shape).astype(dtype) for shape in ((steps, rows, INPUTS), (rows, WIDTH), (rows, WIDTH))
    )
    return weights, x, np.tanh(h), g


SHAPES = pytest.mark.parametrize(("steps", "rows"), [(1, 1), (1, 5), (3, 1), (4, 2)])
BIAS = pytest.mark.parametrize("bias", [False, True])
FIRST = pytest.mark.parametrize("first", [True, False], ids=["first", "later"])


@SHAPES
@BIAS
@FIRST
def test_the_forward_is_the_formula_step_by_step(steps: int, rows: int, bias: bool, first: bool) -> None:
    weights, x, h, _ = some_box(steps, rows, bias)
    trail = forward(weights, x, None if first else h)
    state = np.zeros((rows, WIDTH)) if first else h
    for s in range(steps):
        state = np.tanh(x[s] @ weights["Wx"] + state @ weights["Wrec"] + weights.get("b", 0.0))
        np.testing.assert_allclose(trail.leaving[s], state, rtol=1e-12)
    assert np.array_equal(trail.h, trail.leaving[-1])
    assert len(trail.entering) == (steps - 1 if first else steps)


@SHAPES
@BIAS
@FIRST
def test_the_backward_is_the_derivative_of_the_forward(steps: int, rows: int, bias: bool, first: bool) -> None:
    weights, x, h, g = some_box(steps, rows, bias)
    entering = None if first else h

    def loss() -> float:
        return float((g * forward(weights, x, entering).h).sum())

    factors, at_entrance = backward(weights, forward(weights, x, entering), g, passes_on=not first)
    dense = gradient(factors, weights)
    untouched = {"Wrec"} if first and steps == 1 else set()
    assert set(dense) == set(weights) - untouched
    for name, G in dense.items():
        assert_close(G, numerical_gradient(loss, weights[name]))
    for name in untouched:
        assert not numerical_gradient(loss, weights[name]).any()
    if first:
        assert at_entrance is None
    else:
        assert at_entrance is not None
        assert_close(at_entrance, numerical_gradient(loss, h))


@SHAPES
def test_no_state_and_a_state_of_zeros_are_the_same_network(steps: int, rows: int) -> None:
    weights, x, _, g = some_box(steps, rows, True)
    zeros = np.zeros((rows, WIDTH))
    none, zero = forward(weights, x, None), forward(weights, x, zeros)
    np.testing.assert_allclose(none.leaving, zero.leaving, rtol=1e-14)
    (_, from_none), (_, from_zero) = (backward(weights, trail, g, passes_on=True) for trail in (none, zero))
    assert from_none is not None
    assert from_zero is not None
    np.testing.assert_allclose(from_none, from_zero, rtol=1e-12)
    assert_close(from_none, numerical_gradient(lambda: float((g * forward(weights, x, zeros).h).sum()), zeros))


def test_a_box_that_passes_nothing_on_has_the_same_gradient() -> None:
    weights, x, h, g = some_box(3, 2, True)
    trail = forward(weights, x, h)
    (alone, nothing), (passing, _) = (backward(weights, trail, g, passes_on=on) for on in (False, True))
    assert nothing is None
    for name, G in gradient(alone, weights).items():
        assert G.tobytes() == gradient(passing, weights)[name].tobytes()


def test_two_boxes_make_the_gradient_of_one_that_is_as_long() -> None:
    weights, x, h, g = some_box(5, 2, True)
    whole, at_entrance = backward(weights, forward(weights, x, h), g, passes_on=True)
    first = forward(weights, x[:2], h)
    second = forward(weights, x[2:], first.h)
    later, between = backward(weights, second, g, passes_on=True)
    assert between is not None
    earlier, at_first = backward(weights, first, between, passes_on=True)
    assert at_first is not None
    assert at_entrance is not None
    np.testing.assert_allclose(at_first, at_entrance, rtol=1e-12)
    parts = [gradient(factors, weights) for factors in (earlier, later)]
    for name, G in gradient(whole, weights).items():
        np.testing.assert_allclose(parts[0][name] + parts[1][name], G, rtol=1e-10, atol=1e-14)


@FIRST
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_array_has_the_dtype_of_the_weights(first: bool, dtype: str) -> None:
    weights, x, h, g = some_box(2, 3, True, dtype)
    trail = forward(weights, x, None if first else h)
    factors, at_entrance = backward(weights, trail, g, passes_on=True)
    arrays = [*trail, trail.h, *factors, at_entrance, *gradient(factors, weights).values(), *weights.values()]
    assert {array.dtype for array in arrays if array is not None} == {np.dtype(dtype)}


def test_forward_and_backward_leave_what_they_are_given() -> None:
    weights, x, h, g = some_box(3, 2, True)
    given = [*weights.values(), x, h, g]
    before = [array.copy() for array in given]
    backward(weights, forward(weights, x, h), g, passes_on=True)
    for array, copy in zip(given, before, strict=True):
        assert np.array_equal(array, copy)


@SHAPES
@BIAS
@FIRST
def test_a_scratch_changes_no_bit_and_nothing_that_goes_out_lies_in_it(
    steps: int, rows: int, bias: bool, first: bool
) -> None:
    weights, x, h, g = some_box(steps, rows, bias)
    copies = {name: W.copy() for name, W in weights.items()}
    rates, scratch, out = dict.fromkeys(weights, 0.1), Scratch(), []
    for turn in range(3):
        entering = None if first else np.tanh(h + turn)
        alone, kept = forward(weights, x, entering), forward(copies, x, entering, scratch)
        factors, back = backward(weights, alone, g, passes_on=True)
        same_factors, same_back = backward(copies, kept, g, passes_on=True, scratch=scratch)
        assert back is not None
        assert same_back is not None
        for one, other in zip((*alone, *factors, back), (*kept, *same_factors, same_back), strict=True):
            assert (one is None) == (other is None)
            assert one is None or one.tobytes() == other.tobytes()
        for name, G in gradient(factors, weights).items():
            assert G.tobytes() == gradient(same_factors, copies, scratch)[name].tobytes()
        descend(weights, factors, rates)
        descend(copies, same_factors, rates, scratch)
        for name, W in weights.items():
            assert W.tobytes() == copies[name].tobytes()
        out += [(one, one.copy()) for one in (kept.leaving, same_factors.delta, same_back)]
    for one, was in out:
        assert np.array_equal(one, was), "what was sent is never written to again"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saturated_cell_has_no_gradient_and_no_overflow(dtype: str) -> None:
    weights, x, h, g = some_box(3, 2, True, dtype)
    weights["b"][:] = [1000, -1000, 1000]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        trail = forward(weights, x, h)
        factors, at_entrance = backward(weights, trail, g, passes_on=True)
    assert trail.h.tolist() == [[1, -1, 1]] * 2
    assert at_entrance is not None
    assert not at_entrance.any()
    assert not any(G.any() for G in gradient(factors, weights).values())


@BIAS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_first_weights_have_the_scale_of_their_inputs(bias: bool, dtype: str) -> None:
    weights = initial_weights(400, 100, bias, 3.0, np.random.default_rng(0), dtype)
    assert {name: array.shape for name, array in weights.items()} == {"Wx": (400, 100), "Wrec": (100, 100)} | (
        {"b": (100,)} if bias else {}
    )
    assert {array.dtype for array in weights.values()} == {np.dtype(dtype)}
    assert weights["Wx"].std() == pytest.approx(3 / 20, rel=0.03)
    assert weights["Wrec"].std() == pytest.approx(3 / 10, rel=0.03)
    assert not weights.get("b", np.zeros(1)).any()


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_stacked_factors_are_the_sum_of_the_gradients(steps: int, is_first: bool) -> None:
    """Of a first box too, whose first step has no state that enters: its rows must not slip."""
    rng = np.random.default_rng(7)
    weights = initial_weights(5, 4, True, 1.0, rng, "float64")
    parts = []
    for rows in (2, 2, 1):
        h = None if is_first else rng.standard_normal((rows, 4))
        trail = forward(weights, rng.standard_normal((steps, rows, 5)), h)
        parts.append(backward(weights, trail, rng.standard_normal((rows, 4)), passes_on=False)[0])
    summed = gradient(CELL.stack(parts), weights)
    for name, G in summed.items():
        np.testing.assert_allclose(G, sum(gradient(part, weights)[name] for part in parts), atol=1e-12)
    assert ("Wrec" in summed) == (steps > 1 or not is_first)
