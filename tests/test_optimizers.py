"""Optimizers: each against its formula, step by step; clipping; how rates rise and fall."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.optimizers import EPSILON, Optimizer, Pace, clip, take
from pipeline.schema import Train

GRADIENTS = [np.random.default_rng(k).standard_normal((3, 2)) for k in range(5)]


def steps(kind: str, **keys: float) -> list[np.ndarray]:
    """Return what an optimizer makes of the gradients, at the rate 0.1 and a pace of one half."""
    optimizer = Optimizer(kind, Train(**keys), {"W": 0.1})  # type: ignore[arg-type]
    return [optimizer.step({"W": G.copy()}, 0.5)["W"].copy() for G in GRADIENTS]


def test_sgd_is_rate_times_gradient() -> None:
    for step, G in zip(steps("sgd"), GRADIENTS, strict=True):
        np.testing.assert_allclose(step, 0.05 * G)


def test_momentum_adds_up_what_was() -> None:
    M = np.zeros((3, 2))
    for step, G in zip(steps("momentum", momentum=0.8), GRADIENTS, strict=True):
        M = 0.8 * M + G
        np.testing.assert_allclose(step, 0.05 * M)


def test_adam_by_its_formula() -> None:
    M, V = np.zeros((3, 2)), np.zeros((3, 2))
    for t, (step, G) in enumerate(zip(steps("adam", momentum=0.7, beta2=0.95), GRADIENTS, strict=True), 1):
        M, V = 0.7 * M + 0.3 * G, 0.95 * V + 0.05 * G * G
        expected = 0.05 * (M / (1 - 0.7**t)) / (np.sqrt(V / (1 - 0.95**t)) + EPSILON)
        np.testing.assert_allclose(step, expected, rtol=1e-12)


def test_adam_counts_the_steps_of_each_weight_by_itself() -> None:
    optimizer = Optimizer("adam", Train(), {"W": 0.1, "b": 0.1})
    optimizer.step({"W": np.ones(2)})
    both = optimizer.step({"W": np.ones(2), "b": np.full(2, -3.0)})
    np.testing.assert_allclose(both["b"], [-0.1, -0.1], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam"])
def test_the_dtype_stays(kind: str, dtype: str) -> None:
    optimizer = Optimizer(kind, Train(), {"W": 0.1}, clip=1.0)
    step = optimizer.step({"W": np.ones((2, 2), dtype)})["W"]
    assert {step.dtype, *(array.dtype for array in optimizer.means.values())} == {np.dtype(dtype)}


def test_clipping_shortens_what_is_too_long_and_nothing_else() -> None:
    long, short = np.array([[3.0, 4.0]]), np.array([[0.3, 0.4]])
    clip(long, 1.0)
    clip(short, 1.0)
    np.testing.assert_allclose([long, short], [[[0.6, 0.8]], [[0.3, 0.4]]])


def test_only_a_plain_step_may_be_made_of_factors() -> None:
    plain = [Optimizer("sgd", Train(), {}).is_plain, Optimizer("nlms", Train(), {}).is_plain]
    other = [Optimizer("momentum", Train(), {}), Optimizer("adam", Train(), {}), Optimizer("sgd", Train(), {}, 1.0)]
    assert all(plain)
    assert not any(optimizer.is_plain for optimizer in other)


def test_a_step_is_taken_off() -> None:
    weights = {"W": np.ones(2), "b": np.ones(1)}
    take(weights, {"W": np.array([0.25, 0.5])})
    assert (weights["W"].tolist(), weights["b"].tolist()) == ([0.75, 0.5], [1.0])


def test_a_rate_that_does_not_change_is_itself() -> None:
    pace = Pace(Train(), 100, rises=True)
    assert [pace.at(step) for step in (0, 50, 99)] == [1.0, 1.0, 1.0]


def test_a_rate_falls_in_a_line_to_its_floor() -> None:
    pace = Pace(Train(decay="linear", floor=0.1), 10, rises=True)
    assert [pace.at(step) for step in (0, 5, 9)] == pytest.approx([1.0, 0.5, 0.1])
    assert Pace(Train(decay="linear", floor=0.3), 10, rises=True).at(9) == 0.3


def test_a_rate_falls_by_a_cosine() -> None:
    pace = Pace(Train(decay="cosine", floor=0.2), 8, rises=True)
    assert [pace.at(step) for step in (0, 4)] == pytest.approx([1.0, 0.6])
    assert pace.at(7) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi * 7 / 8)) / 2)


def test_a_rate_rises_over_the_first_batches_of_boxes_alone() -> None:
    train = Train(decay="linear", floor=0.0, warmup=4)
    assert [Pace(train, 100, rises=True).at(step) for step in (0, 1, 3, 4)] == pytest.approx([0.25, 0.495, 0.97, 0.96])
    assert Pace(train, 100, rises=False).at(0) == 1.0
