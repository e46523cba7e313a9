"""The oracle: its prediction by hand, its gradient against central differences, its starts."""

from __future__ import annotations

import numpy as np
import pytest
from test_cells import assert_close, numerical_gradient

from pipeline.arrays import Array, Scratch, Weights
from pipeline.oracles import RANDOM_SCALE, initial_weights, predict, train
from pipeline.schema import Oracle

WIDTH, CLASSES = 4, 3
KINDS = pytest.mark.parametrize(("label", "bias"), [(False, False), (True, False), (False, True), (True, True)])
ROWS = pytest.mark.parametrize("rows", [1, 5])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def gradient(weights: Weights, h: Array, y: Array | None, target: Array) -> Weights:
    """Return what a step of rate one takes off each weight."""
    after = {name: W.copy() for name, W in weights.items()}
    train(after, h, y, target, 1.0)
    return {name: weights[name] - W for name, W in after.items()}


def some_oracle(
    label: bool, bias: bool, rows: int, dtype: str = "float64"
) -> tuple[Weights, Array, Array | None, Array]:
    """Return weights, activation, one-hot labels if it sees them, and target."""
    rng = np.random.default_rng([label, bias, rows])
    config = Oracle(sees_label=label, bias=bias, init="random")
    weights = initial_weights(config, WIDTH, CLASSES, rng, dtype)
    if bias:
        weights["c"] += rng.standard_normal(WIDTH).astype(dtype)
    h, target = (rng.standard_normal((rows, WIDTH)).astype(dtype) for _ in range(2))
    return weights, h, np.eye(CLASSES, dtype=dtype)[rng.integers(0, CLASSES, rows)] if label else None, target


@KINDS
@ROWS
def test_the_prediction_is_linear_in_activation_and_label(label: bool, bias: bool, rows: int) -> None:
    weights, h, y, _ = some_oracle(label, bias, rows)
    g = predict(weights, h, y)
    for row in range(rows):
        expected = weights["L"].T @ h[row] + weights.get("c", 0.0)
        if y is not None:
            expected = expected + weights["M"][int(y[row].argmax())]
        np.testing.assert_allclose(g[row], expected, rtol=1e-12)


@KINDS
@ROWS
def test_the_gradient_is_the_derivative_of_half_the_squared_error(label: bool, bias: bool, rows: int) -> None:
    weights, h, y, target = some_oracle(label, bias, rows)

    def loss() -> float:
        return float(0.5 * ((predict(weights, h, y) - target) ** 2).sum(axis=1).mean())

    dense = gradient(weights, h, y, target)
    assert set(dense) == {"L"} | ({"M"} if label else set()) | ({"c"} if bias else set())
    for name, G in dense.items():
        assert_close(G, numerical_gradient(loss, weights[name]))


@KINDS
def test_steps_down_the_gradient_fit_the_target(label: bool, bias: bool) -> None:
    weights, h, y, target = some_oracle(label, bias, 3)
    before = np.abs(predict(weights, h, y) - target).max()
    for _ in range(400):
        train(weights, h, y, target, 0.3)
    assert np.abs(predict(weights, h, y) - target).max() < 0.05 * before


@KINDS
@ROWS
@DTYPES
def test_every_array_has_the_dtype_of_the_weights(label: bool, bias: bool, rows: int, dtype: str) -> None:
    weights, h, y, target = some_oracle(label, bias, rows, dtype)
    arrays = [predict(weights, h, y), *gradient(weights, h, y, target).values(), *weights.values()]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


def test_predicting_and_training_leave_what_they_are_given() -> None:
    weights, h, y, target = some_oracle(True, True, 2)
    assert y is not None
    given = [*weights.values(), h, y, target]
    before = [array.copy() for array in given]
    train(weights, h, y, target, 0.0)
    for array, copy in zip(given, before, strict=True):
        assert np.array_equal(array, copy)


@KINDS
@ROWS
@DTYPES
def test_kept_memory_changes_no_bit(label: bool, bias: bool, rows: int, dtype: str) -> None:
    weights, h, y, target = some_oracle(label, bias, rows, dtype)
    copies, scratch, out = {name: W.copy() for name, W in weights.items()}, Scratch(), np.empty_like(h)
    for _ in range(3):
        assert predict(copies, h, y, out) is out
        assert out.tobytes() == predict(weights, h, y).tobytes()
        errors = train(weights, h, y, target, 0.1), train(copies, h, y, target, 0.1, scratch)
        assert errors[0].tobytes() == errors[1].tobytes()
        for name, W in weights.items():
            assert W.tobytes() == copies[name].tobytes()


@KINDS
@DTYPES
def test_a_zero_start_predicts_nothing(label: bool, bias: bool, dtype: str) -> None:
    config = Oracle(sees_label=label, bias=bias, init="zero")
    weights = initial_weights(config, WIDTH, CLASSES, np.random.default_rng(0), dtype)
    shapes = {"L": (WIDTH, WIDTH)} | ({"M": (CLASSES, WIDTH)} if label else {}) | ({"c": (WIDTH,)} if bias else {})
    assert {name: array.shape for name, array in weights.items()} == shapes
    assert {array.dtype for array in weights.values()} == {np.dtype(dtype)}
    assert not any(array.any() for array in weights.values())


@DTYPES
def test_a_random_start_is_the_published_one(dtype: str) -> None:
    config = Oracle(sees_label=True, bias=True, init="random")
    weights = initial_weights(config, 100, 50, np.random.default_rng(0), dtype)
    assert RANDOM_SCALE == 0.2
    for name in ("L", "M"):
        assert weights[name].std() == pytest.approx(0.2, rel=0.03)
        assert abs(weights[name].mean()) < 0.01
    assert not weights["c"].any()


@DTYPES
@pytest.mark.parametrize("size", [1000.0, -1000.0])
def test_a_large_activation_gives_finite_numbers(dtype: str, size: float) -> None:
    weights, h, y, target = some_oracle(True, True, 2, dtype)
    h[:] = size
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        arrays = [predict(weights, h, y), *gradient(weights, h, y, target).values()]
    assert all(np.isfinite(array).all() for array in arrays)
