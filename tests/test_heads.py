"""The head: layer and losses by hand, their gradients against central differences, and that saturation is harmless."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_cells import assert_close, numerical_gradient

from pipeline.arrays import Array, Weights
from pipeline.heads import backward, cost, forward, initial_weights, predictions

WIDTH = 4
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
LOSSES = pytest.mark.parametrize(
    ("loss", "outputs"), [("squared", 1), ("squared", 3), ("bce", 1), ("bce", 3), ("softmax", 2), ("softmax", 5)]
)
ROWS = pytest.mark.parametrize("rows", [1, 4])
BIAS = pytest.mark.parametrize("bias", [False, True])


def some_head(outputs: int, rows: int, bias: bool, dtype: str = "float64") -> tuple[Weights, Array, Array]:
    """Return weights, activation and wanted outputs."""
    rng = np.random.default_rng([outputs, rows, bias])
    weights = initial_weights(WIDTH, outputs, bias, 2.0, rng, dtype)
    if bias:
        weights["bfc"] += rng.standard_normal(outputs).astype(dtype)
    h = np.tanh(rng.standard_normal((rows, WIDTH))).astype(dtype)
    if outputs == 1:
        return weights, h, rng.integers(0, 2, (rows, 1)).astype(dtype)
    return weights, h, np.eye(outputs, dtype=dtype)[rng.integers(0, outputs, rows)]


def loss_by_hand(a: list[float], y: list[float], loss: str) -> float:
    """Return one row's loss in the words of the definition."""
    if loss == "softmax":
        odds = [math.exp(value) for value in a]
        return -sum(wanted * math.log(odd / sum(odds)) for odd, wanted in zip(odds, y, strict=True))
    found = 0.0
    for value, wanted in zip(a, y, strict=True):
        y_hat = 1 / (1 + math.exp(-value))
        if loss == "squared":
            found += 0.5 * (y_hat - wanted) ** 2
        else:
            found -= wanted * math.log(y_hat) + (1 - wanted) * math.log(1 - y_hat)
    return found


@LOSSES
@ROWS
@BIAS
def test_outputs_and_loss_are_those_of_the_definition(loss: str, outputs: int, rows: int, bias: bool) -> None:
    weights, h, y = some_head(outputs, rows, bias)
    a, y_hat = forward(weights, h, loss)
    np.testing.assert_allclose(a, h @ weights["Wfc"] + weights.get("bfc", 0.0), rtol=1e-12)
    expected = np.exp(a) / np.exp(a).sum(axis=1, keepdims=True) if loss == "softmax" else 1 / (1 + np.exp(-a))
    np.testing.assert_allclose(y_hat, expected, rtol=1e-12)
    by_row = [loss_by_hand(*row, loss) for row in zip(a.tolist(), y.tolist(), strict=True)]
    assert cost(a, y, loss) == pytest.approx(sum(by_row) / rows, rel=1e-12)


@LOSSES
@ROWS
@BIAS
def test_the_backward_is_the_derivative_of_the_loss(loss: str, outputs: int, rows: int, bias: bool) -> None:
    weights, h, y = some_head(outputs, rows, bias)
    dense, g = backward(weights, h, forward(weights, h, loss)[1], y, loss)

    def value() -> float:
        return cost(forward(weights, h, loss)[0], y, loss)

    assert set(dense) == set(weights)
    for name, G in dense.items():
        assert_close(G, numerical_gradient(value, weights[name]))
    assert_close(g, numerical_gradient(value, h))


@LOSSES
@DTYPES
def test_every_array_has_the_dtype_of_the_weights(loss: str, outputs: int, dtype: str) -> None:
    weights, h, y = some_head(outputs, 3, True, dtype)
    a, y_hat = forward(weights, h, loss)
    dense, g = backward(weights, h, y_hat, y, loss)
    assert {array.dtype for array in (a, y_hat, g, *dense.values(), *weights.values())} == {np.dtype(dtype)}
    assert isinstance(cost(a, y, loss), float)


@LOSSES
def test_forward_and_backward_leave_what_they_are_given(loss: str, outputs: int) -> None:
    weights, h, y = some_head(outputs, 2, True)
    a, y_hat = forward(weights, h, loss)
    given = [*weights.values(), h, y, a, y_hat]
    before = [array.copy() for array in given]
    cost(a, y, loss)
    backward(weights, h, y_hat, y, loss)
    for array, copy in zip(given, before, strict=True):
        assert np.array_equal(array, copy)


@LOSSES
@ROWS
@DTYPES
def test_a_cost_is_the_same_with_the_outputs_at_hand(loss: str, outputs: int, rows: int, dtype: str) -> None:
    weights, h, y = some_head(outputs, rows, False, dtype)
    a, y_hat = forward(weights, h, loss)
    assert cost(a, y, loss, y_hat) == cost(a, y, loss)


@LOSSES
def test_rows_that_repeat_change_neither_loss_nor_gradient(loss: str, outputs: int) -> None:
    weights, h, y = some_head(outputs, 2, True)
    twice, wanted_twice = np.concatenate([h, h]), np.concatenate([y, y])
    (a, y_hat), (a_twice, y_hat_twice) = forward(weights, h, loss), forward(weights, twice, loss)
    assert cost(a_twice, wanted_twice, loss) == pytest.approx(cost(a, y, loss), rel=1e-12)
    dense, _ = backward(weights, h, y_hat, y, loss)
    for name, G in backward(weights, twice, y_hat_twice, wanted_twice, loss)[0].items():
        np.testing.assert_allclose(G, dense[name], rtol=1e-9, atol=1e-15)


@DTYPES
@pytest.mark.parametrize(
    ("loss", "a", "y", "y_hat", "value"),
    [
        ("squared", [1000.0], [1.0], [1.0], 0.0),
        ("squared", [-1000.0], [1.0], [0.0], 0.5),
        ("bce", [1000.0], [1.0], [1.0], 0.0),
        ("bce", [1000.0], [0.0], [1.0], 1000.0),
        ("bce", [-1000.0], [1.0], [0.0], 1000.0),
        ("bce", [-1000.0], [0.0], [0.0], 0.0),
        ("softmax", [1000.0, -1000.0], [1.0, 0.0], [1.0, 0.0], 0.0),
        ("softmax", [1000.0, -1000.0], [0.0, 1.0], [1.0, 0.0], 2000.0),
        ("softmax", [1000.0, 1000.0], [0.0, 1.0], [0.5, 0.5], math.log(2)),
    ],
)
def test_a_saturated_head_is_exact_and_finite(
    loss: str, a: list[float], y: list[float], y_hat: list[float], value: float, dtype: str
) -> None:
    weights: Weights = {"Wfc": np.array([a], dtype)}
    h, wanted = np.ones((1, 1), dtype), np.array([y], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found_a, found = forward(weights, h, loss)
        dense, g = backward(weights, h, found, wanted, loss)
        assert cost(found_a, wanted, loss) == pytest.approx(value, rel=1e-6)
    assert (found_a.tolist(), found.tolist()) == ([a], [y_hat])
    assert np.isfinite(dense["Wfc"]).all()
    assert np.isfinite(g).all()


@pytest.mark.parametrize(
    ("y_hat", "digits"),
    [
        ([[0.2], [0.5], [0.51], [1.0]], [0, 0, 1, 1]),
        ([[0.1, 0.7, 0.2], [0.9, 0.05, 0.05], [0.0, 0.0, 1.0]], [1, 0, 2]),
    ],
)
def test_a_prediction_is_the_digit_that_the_outputs_say(y_hat: list[list[float]], digits: list[int]) -> None:
    assert predictions(np.array(y_hat)).tolist() == digits


@BIAS
@DTYPES
def test_the_first_weights_have_the_scale_of_the_width(bias: bool, dtype: str) -> None:
    weights = initial_weights(400, 10, bias, 3.0, np.random.default_rng(0), dtype)
    assert set(weights) == {"Wfc", "bfc"} if bias else {"Wfc"}
    assert {array.dtype for array in weights.values()} == {np.dtype(dtype)}
    assert weights["Wfc"].shape == (400, 10)
    assert weights["Wfc"].std() == pytest.approx(3 / 20, rel=0.03)
    assert not weights.get("bfc", np.zeros(1)).any()
