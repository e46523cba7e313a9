"""Oracles: each one's prediction by hand, its gradient against central differences, its start, its dtypes, its memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_cells import assert_close, numerical_gradient

from pipeline.arrays import Array, Scratch
from pipeline.config import resolve
from pipeline.fitting import Fitting, make_oracle
from pipeline.oracle_controls import Noise, Stale
from pipeline.oracle_mlp import Mlp
from pipeline.oracles import RANDOM_SCALE, Linear, Oracle, Shape

WIDTH, CLASSES = 4, 3
OWN = """
import numpy as np
class Oracle:
    def __init__(self, shape, rng):
        self.weights = {"M": rng.standard_normal((shape.classes, shape.width)).astype(shape.dtype)}
    def predict(self, h, y, batch):
        return np.tanh(y @ self.weights["M"])
    def gradient(self, h, y, error):
        g = np.tanh(y @ self.weights["M"])
        return {"M": y.T @ (error * (1 - g * g))}
"""
KINDS: dict[str, dict[str, Any]] = {
    "linear": {},
    "linear, labels": {"sees_label": True},
    "linear, bias": {"bias": True},
    "linear, labels, bias": {"sees_label": True, "bias": True},
    "mlp": {"kind": "mlp", "hidden": 5},
    "mlp, labels": {"kind": "mlp", "hidden": 5, "sees_label": True},
    "own": {"kind": "own", "code": OWN, "sees_label": True},
}
LINEAR = [name for name in KINDS if name.startswith("linear")]
MLP = [name for name in KINDS if name.startswith("mlp")]
EACH = pytest.mark.parametrize("kind", KINDS)
ROWS = pytest.mark.parametrize("rows", [1, 5])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def config_of(kind: str, init: str = "random", **more: Any) -> Any:
    """Return a configuration with an oracle of a kind."""
    flags = {f"oracle.{key}": value for key, value in (KINDS.get(kind, {"kind": kind}) | {"init": init}).items()}
    return resolve(flags=flags | {key.replace("__", "."): value for key, value in more.items()})


def some(kind: str, rows: int, dtype: str = "float64", **more: Any) -> tuple[Oracle, Array, Array | None, Array]:
    """Return an oracle that has seen a target, an activation, one-hot labels if it sees them, and a target."""
    rng = np.random.default_rng([len(kind), rows])
    config = config_of(kind, **more)
    oracle = make_oracle(config, Shape(WIDTH, CLASSES, dtype), rng)
    h, target = (rng.standard_normal((rows, WIDTH)).astype(dtype) for _ in range(2))
    y = np.eye(CLASSES, dtype=dtype)[rng.integers(0, CLASSES, rows)] if config.oracle.sees_label else None
    oracle.see(h, y, target, 0)
    for name in ("A", "b", "c"):
        if name in oracle.weights:
            oracle.weights[name] += rng.standard_normal(oracle.weights[name].shape).astype(dtype)
    return oracle, h, y, target


def error_of(oracle: Oracle, h: Array, y: Array | None, target: Array) -> Array:
    """Return the error by row of ½‖ĝ − t‖², averaged over the rows."""
    error: Array = (oracle.predict(h, y, 0) - target) / len(h)
    return error


@pytest.mark.parametrize("kind", LINEAR)
@ROWS
def test_the_linear_prediction_is_linear_in_activation_and_label(kind: str, rows: int) -> None:
    oracle, h, y, _ = some(kind, rows)
    g = oracle.predict(h, y, 0)
    for row in range(rows):
        expected = oracle.weights["L"].T @ h[row] + oracle.weights.get("c", 0.0)
        if y is not None:
            expected = expected + oracle.weights["M"][int(y[row].argmax())]
        np.testing.assert_allclose(g[row], expected, rtol=1e-12)


@pytest.mark.parametrize("kind", MLP)
@ROWS
def test_the_mlps_prediction_by_hand(kind: str, rows: int) -> None:
    oracle, h, y, target = some(kind, rows)
    assert isinstance(oracle, Mlp)
    W, g = oracle.weights, oracle.predict(h, y, 0)
    scale = np.sqrt((target**2).mean())
    assert oracle.scale == pytest.approx(scale)
    for row in range(rows):
        f = list(h[row])
        if y is not None:
            odds = np.exp(h[row] @ W["A"] + W["b"])
            f += [*y[row], *(odds / odds.sum() - y[row])]
        features = np.array([*f, 1.0])
        expected = scale * (np.tanh(features @ W["U"]) @ W["V"] + features @ W["L"])
        np.testing.assert_allclose(g[row], expected, rtol=1e-10)


@EACH
@ROWS
def test_the_gradient_is_the_derivative_of_half_the_squared_error(kind: str, rows: int) -> None:
    oracle, h, y, target = some(kind, rows)
    units = oracle.scale**2 if isinstance(oracle, Mlp) else 1.0  # of the mlp's loss
    dense = oracle.gradient(h, y, error_of(oracle, h, y, target))

    def loss() -> float:
        return float(0.5 * ((oracle.predict(h, y, 0) - target) ** 2).sum(axis=1).mean()) / units

    learnt = {"A", "b", "s"} if isinstance(oracle, Mlp) else set()  # by a loss of their own, or by none
    assert set(dense) - learnt == set(oracle.weights) - learnt
    for name, G in dense.items():
        if name not in learnt:
            assert_close(G, numerical_gradient(loss, oracle.weights[name]))


@ROWS
def test_the_mlps_classifier_descends_its_own_cross_entropy(rows: int) -> None:
    oracle, h, y, _ = some("mlp, labels", rows)
    assert y is not None
    assert isinstance(oracle, Mlp)
    dense = oracle.classifier_gradient(h, y)

    def loss() -> float:
        a = h @ oracle.weights["A"] + oracle.weights["b"]
        return float((np.log(np.exp(a).sum(axis=1)) - (a * y).sum(axis=1)).mean())

    for name in ("A", "b"):
        assert_close(dense[name], numerical_gradient(loss, oracle.weights[name]))


def test_an_mlp_learns_nothing_from_a_box_that_has_nothing_to_say_yet() -> None:
    config = config_of("mlp", "zero")
    oracle = make_oracle(config, Shape(WIDTH, CLASSES, "float64"), np.random.default_rng(0))
    fitting, h = Fitting(config, oracle, np.random.default_rng(0)), np.ones((2, WIDTH))
    before = {name: W.copy() for name, W in oracle.weights.items()}
    assert not fitting.fit(0, h, None, np.zeros((2, WIDTH)), Scratch()).any()
    assert all((oracle.weights[name] == W).all() for name, W in before.items())
    fitting.fit(1, h, None, h, Scratch())
    after = oracle.weights["s"].copy()
    fitting.fit(2, h, None, np.zeros((2, WIDTH)), Scratch())
    assert (oracle.weights["s"] != after).any(), "later zeros are as good as any other target"


@EACH
def test_fitting_comes_near_the_target(kind: str) -> None:
    oracle, h, y, target = some(kind, 3, train__optimizer_oracle="adam", train__rate_oracle=0.03)
    if kind == "own":
        target = np.tanh(y @ np.random.default_rng(0).standard_normal((CLASSES, WIDTH)))
    config = config_of(kind, train__optimizer_oracle="adam", train__rate_oracle=0.03)
    fitting, scratch = Fitting(config, oracle, np.random.default_rng(0)), Scratch()
    before = np.abs(error_of(oracle, h, y, target)).max()
    for batch in range(1500):
        fitting.fit(batch, h, y, target, scratch)
    assert np.abs(error_of(oracle, h, y, target)).max() < 0.05 * before


@EACH
@ROWS
@DTYPES
def test_every_array_has_the_dtype_of_the_weights(kind: str, rows: int, dtype: str) -> None:
    oracle, h, y, target = some(kind, rows, dtype)
    arrays = [oracle.predict(h, y, 0), *oracle.gradient(h, y, error_of(oracle, h, y, target)).values()]
    arrays += [W for name, W in oracle.weights.items() if name != "s"]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


@EACH
def test_predicting_leaves_everything_and_gives_the_same_again(kind: str) -> None:
    oracle, h, y, target = some(kind, 2)
    given = [*oracle.weights.values(), h, target, *([] if y is None else [y])]
    before = [array.copy() for array in given]
    first, out = oracle.predict(h, y, 0), np.empty_like(h)
    oracle.gradient(h, y, error_of(oracle, h, y, target))
    assert oracle.predict(h, y, 0, out) is out
    assert out.tobytes() == first.tobytes()
    for array, copy in zip(given, before, strict=True):
        assert np.array_equal(array, copy)


@pytest.mark.parametrize("kind", LINEAR)
@ROWS
@DTYPES
def test_the_short_way_of_a_plain_step_is_the_gradients_step(kind: str, rows: int, dtype: str) -> None:
    oracle, h, y, target = some(kind, rows, dtype)
    assert isinstance(oracle, Linear)
    error = error_of(oracle, h, y, target)
    expected = {name: oracle.weights[name] - 0.5 * G for name, G in oracle.gradient(h, y, error).items()}
    oracle.descend(h, y, error, 0.5, Scratch())
    for name, W in expected.items():
        np.testing.assert_allclose(oracle.weights[name], W, rtol=1e-5)


@pytest.mark.parametrize("kind", [*LINEAR, *MLP])
@DTYPES
def test_a_zero_start_predicts_nothing(kind: str, dtype: str) -> None:
    oracle = make_oracle(config_of(kind, "zero"), Shape(WIDTH, CLASSES, dtype), np.random.default_rng(0))
    h, y = np.ones((2, WIDTH), dtype), np.eye(CLASSES, dtype=dtype)[:2]
    assert not oracle.predict(h, y if "labels" in kind else None, 0).any()
    oracle.see(h, y if "labels" in kind else None, h, 0)
    assert not oracle.predict(h, y if "labels" in kind else None, 0).any()


def test_a_random_start_is_the_published_one() -> None:
    oracle = make_oracle(config_of("linear, labels, bias"), Shape(100, 50, "float64"), np.random.default_rng(0))
    assert RANDOM_SCALE == 0.2
    for name in ("L", "M"):
        assert oracle.weights[name].std() == pytest.approx(0.2, rel=0.03)
        assert abs(oracle.weights[name].mean()) < 0.01
    assert not oracle.weights["c"].any()


@pytest.mark.parametrize("kind", [*LINEAR, *MLP])
@DTYPES
@pytest.mark.parametrize("size", [1000.0, -1000.0])
def test_a_large_activation_gives_finite_numbers(kind: str, dtype: str, size: float) -> None:
    oracle, h, y, target = some(kind, 2, dtype)
    h[:] = size
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        arrays = [oracle.predict(h, y, 0), *oracle.gradient(h, y, error_of(oracle, h, y, target)).values()]
    assert all(np.isfinite(array).all() for array in arrays)


# Controls that stand in for an oracle


def test_stale_gives_back_the_last_mean_of_each_label() -> None:
    oracle = make_oracle(config_of("stale", oracle__sees_label=True), Shape(2, 3, "float64"), np.random.default_rng(0))
    assert isinstance(oracle, Stale)
    y = np.eye(3)[[0, 0, 1]]
    oracle.see(np.zeros((3, 2)), y, np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), 0)
    oracle.see(np.zeros((1, 2)), np.eye(3)[[1]], np.array([[7.0, 8.0]]), 1)
    assert oracle.predict(np.zeros((3, 2)), np.eye(3), 2).tolist() == [[2.0, 3.0], [7.0, 8.0], [0.0, 0.0]]


def test_noise_has_the_size_of_the_targets_and_is_the_same_for_a_batch() -> None:
    oracle = make_oracle(config_of("noise"), Shape(100, 3, "float32"), np.random.default_rng(0))
    assert isinstance(oracle, Noise)
    h = np.zeros((200, 100), np.float32)
    assert not oracle.predict(h, None, 0).any()
    oracle.see(h, None, np.full_like(h, 0.25), 0)
    first = oracle.predict(h, None, 1)
    assert first.std() == pytest.approx(0.25, rel=0.02)
    assert oracle.predict(h, None, 1).tobytes() == first.tobytes() != oracle.predict(h, None, 2).tobytes()


# Fitting


def test_a_wild_row_is_cut_to_the_usual_length() -> None:
    seen: list[Array] = []
    oracle, h, _, _ = some("linear", 2)
    oracle.see = lambda *given: seen.append(given[2].copy())  # type: ignore[method-assign]
    fitting = Fitting(config_of("linear", oracle__cap=2.0), oracle, np.random.default_rng(0))
    usual = np.array([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0]])
    wild = np.array([[300.0, 400.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    fitting.fit(0, h, None, usual, Scratch())
    fitting.fit(1, h, None, wild, Scratch())
    assert (seen[0] == usual).all(), "there is no usual length before the first"
    np.testing.assert_allclose(seen[1], [[6.0, 8.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    assert wild[0, 0] == 300.0, "what came is left as it was"


def test_a_target_of_nothing_does_not_make_every_later_one_wild() -> None:
    oracle, h, _, target = some("linear", 2)
    fitting = Fitting(config_of("linear", oracle__cap=2.0), oracle, np.random.default_rng(0))
    fitting.fit(0, h, None, np.zeros_like(target), Scratch())
    before = oracle.weights["L"].copy()
    error = fitting.fit(1, h, None, 100 * target, Scratch())
    assert np.abs(error).max() > 10
    assert (oracle.weights["L"] != before).any()


def test_a_memory_replays_what_came_before_and_by_seed() -> None:
    asked: list[bytes] = []
    oracle, h, _, target = some("linear", 2, oracle__memory=3, oracle__replays=2)
    predict = oracle.predict

    def watched(h: Array, y: Array | None, batch: int, out: Array | None = None) -> Array:
        asked.append(h.tobytes())
        return predict(h, y, batch, out)

    oracle.predict = watched  # type: ignore[method-assign]
    fitting = Fitting(config_of("linear", oracle__memory=3, oracle__replays=2), oracle, np.random.default_rng(0))
    each = [h + batch for batch in range(8)]
    for batch, here in enumerate(each):
        fitting.fit(batch, here, None, target, Scratch())
    assert len(asked) == 1 + 7 * 3
    names = {here.tobytes(): batch for batch, here in enumerate(each)}
    lots = [[names[one] for one in asked[1 + 3 * k : 4 + 3 * k]] for k in range(7)]
    for batch, (new, *old) in enumerate(lots, 1):
        assert new == batch
        assert all(max(batch - 3, 0) <= one < batch for one in old)


def test_normalised_steps_are_divided_by_the_power_of_what_is_seen() -> None:
    rate = 0.5
    config = config_of("linear, labels, bias", train__optimizer_oracle="nlms", train__rate_oracle=rate)
    oracle, h, y, target = some("linear, labels, bias", 1)
    before = error_of(oracle, h, y, target)
    Fitting(config, oracle, np.random.default_rng(0)).fit(0, h, y, target, Scratch())
    np.testing.assert_allclose(error_of(oracle, h, y, target), (1 - rate) * before, rtol=1e-9)
