"""What a box says of its own steps: the derivative of the written-out loss, a tally that adds up, and when sequences grow."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from numpy.typing import NDArray
from test_cells import numerical_gradient

from pipeline import readout
from pipeline.arrays import Array, Weights
from pipeline.cells import Form, Own, Trail
from pipeline.cells_gated import Lstm
from pipeline.cells_rnn import Rnn
from pipeline.errors import WireError
from pipeline.plan import LAG
from pipeline.readout import COST, LEVEL, RIGHT, WANTED, Curriculum
from pipeline.schema import Data

STEPS, ROWS, WIDTH, STATE, OUTPUTS = 4, 5, 3, 6, 2
BIAS = pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])


class Case:
    """Some states of a box, targets at some of its steps, and the layer that reads."""

    def __init__(self, seed: int = 1, bias: bool = True, dtype: str = "float64") -> None:
        rng = np.random.default_rng(seed)
        self.leaving = rng.standard_normal((STEPS, ROWS, STATE)).astype(dtype)
        self.y = rng.integers(0, 2, (STEPS, ROWS, OUTPUTS)).astype(dtype)
        self.wanted: NDArray[np.bool_] = rng.random((STEPS, ROWS)) < 0.5
        self.wanted[:, 0] = False  # a row without a target
        self.wanted[0] = False  # a step without one
        self.wanted[1, 1:3] = True, False
        self.weights: Weights = {"Wfc": rng.standard_normal((WIDTH, OUTPUTS)).astype(dtype)}
        if bias:
            self.weights["bfc"] = rng.standard_normal(OUTPUTS).astype(dtype)
        self.tally = readout.first_tally(ROWS, 3, np.dtype(dtype))

    def trail(self) -> Trail:
        nothing = self.leaving[:, :, :0]
        return Trail(nothing, nothing, self.leaving)

    def read(self, parts: int = 1) -> tuple[Own, Array]:
        return readout.read(self.weights, self.trail(), WIDTH, self.y, self.wanted, self.tally, parts)

    def by_row(self) -> list[float]:
        """Return what each row costs, in nats: L = −Σ y ln ŷ + (1 − y) ln(1 − ŷ), word by word."""
        costs = [0.0] * ROWS
        for s, row in zip(*np.nonzero(self.wanted), strict=True):
            for k in range(OUTPUTS):
                a = sum(float(self.leaving[s, row, i] * self.weights["Wfc"][i, k]) for i in range(WIDTH))
                a += float(self.weights["bfc"][k]) if "bfc" in self.weights else 0.0
                y_hat, y = 1 / (1 + math.exp(-a)), float(self.y[s, row, k])
                costs[row] -= y * math.log(y_hat) + (1 - y) * math.log(1 - y_hat)
        return costs

    def loss(self) -> float:
        return sum(self.by_row()) / ROWS


# The gradient


@BIAS
def test_the_gradient_is_that_of_central_differences(bias: bool) -> None:
    case = Case(bias=bias)
    own, _ = case.read()
    by_weight = {"Wfc": own.read.T @ own.delta, "bfc": own.delta.sum(axis=0)}
    for name, W in case.weights.items():
        found = numerical_gradient(case.loss, W)
        assert np.abs(found).max() > 1e-3
        np.testing.assert_allclose(by_weight[name], found, atol=1e-8)
    at_states = numerical_gradient(case.loss, case.leaving)
    np.testing.assert_allclose(own.back, at_states[:, :, :WIDTH], atol=1e-8)
    assert not at_states[:, :, WIDTH:].any(), "what a state has beside h is not read"
    assert not own.back[~case.wanted].any()
    assert own.back[case.wanted].any(axis=1).all()


def test_micro_batches_add_up_to_the_gradient_of_the_batch() -> None:
    case = Case()
    whole, _ = case.read()
    shares = [slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 4), slice(4, 5)]
    found, backs = np.zeros_like(case.weights["Wfc"]), []
    for rows in shares:
        part = Case()
        part.leaving, part.y, part.wanted = case.leaving[:, rows], case.y[:, rows], case.wanted[:, rows]
        part.tally = case.tally[rows]
        own, _ = part.read(parts=len(shares))
        found += own.read.T @ own.delta
        backs.append(own.back)
    np.testing.assert_allclose(found, whole.read.T @ whole.delta, atol=1e-14)
    np.testing.assert_allclose(np.concatenate(backs, axis=1), whole.back, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_box_without_targets_says_nothing_and_steps_by_nothing(dtype: str) -> None:
    case = Case(dtype=dtype)
    case.wanted[:] = False
    own, after = case.read()
    assert (own.read.shape, own.delta.shape) == ((0, WIDTH), (0, OUTPUTS))
    assert (own.back.shape, own.back.dtype) == ((STEPS, ROWS, WIDTH), np.dtype(dtype))
    assert not own.back.any()
    assert after.tobytes() == case.tally.tobytes()
    cell = Lstm(Form(2, WIDTH, STEPS, is_first=True, dtype=dtype))
    weights = cell.first_weights(np.random.default_rng(1)) | case.weights
    trail = cell.forward(weights, np.ones((STEPS, ROWS, 2), dtype), None)._replace(own=own)
    factors, _ = cell.backward(weights, trail, np.ones((ROWS, STATE), dtype), passes_on=False)
    dense = cell.gradient(factors, weights)
    assert not dense["Wfc"].any()
    assert not dense["bfc"].any()
    assert dense["Wx"].any()
    before = case.weights["Wfc"].copy()
    cell.descend(weights, factors, dict.fromkeys(weights, 0.5))
    assert weights["Wfc"].tobytes() == before.tobytes()


def test_a_boxs_own_losses_join_what_comes_after_it() -> None:
    """Whole: forward, read, a loss behind the box; central differences by every weight, of a first box of several steps."""
    cell = Rnn(Form(2, WIDTH, STEPS, is_first=True, bias=True, dtype="float64"))
    case, rng = Case(), np.random.default_rng(4)
    weights = cell.first_weights(rng) | case.weights
    x, g = rng.standard_normal((STEPS, ROWS, 2)), rng.standard_normal((ROWS, WIDTH))

    def read() -> tuple[Trail, Array]:
        trail = cell.forward(weights, x, None)
        own, tally = readout.read(weights, trail, WIDTH, case.y, case.wanted, case.tally)
        return trail._replace(own=own), tally

    def loss() -> float:
        trail, tally = read()
        return float(tally[:, COST].sum() / ROWS + (trail.h * g).sum())

    factors, _ = cell.backward(weights, read()[0], g, passes_on=False)
    for name, G in cell.gradient(factors, weights).items():
        np.testing.assert_allclose(G, numerical_gradient(loss, weights[name]), atol=1e-8, err_msg=name)


# The tally


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_tally_has_cost_right_and_wanted_by_row_and_the_level(dtype: str) -> None:
    case = Case(dtype=dtype)
    case.tally[:, :LEVEL] = [[1, 2, 3]] * ROWS
    before = case.tally.copy()
    _, after = case.read()
    assert case.tally.tobytes() == before.tobytes(), "what came in is not written to"
    assert (after.shape, after.dtype) == ((ROWS, readout.COLUMNS), np.dtype(dtype))
    assert after.flags.c_contiguous
    np.testing.assert_allclose(after[:, COST] - 1, case.by_row(), rtol=1e-5)
    told = (case.leaving[:, :, :WIDTH] @ case.weights["Wfc"] + case.weights["bfc"] > 0) == (case.y > 0.5)
    assert (after[:, RIGHT] - 2).tolist() == (told & case.wanted[:, :, None]).sum(axis=(0, 2)).tolist()
    assert (after[:, WANTED] - 3).tolist() == (OUTPUTS * case.wanted.sum(axis=0)).tolist()
    assert after[:, LEVEL].tolist() == [3.0] * ROWS
    assert after[0].tolist() == [1, 2, 3, 3], "a row without a target"
    assert 0 < (after[:, RIGHT] - 2).sum() < (after[:, WANTED] - 3).sum()


def test_a_tally_that_travels_is_that_of_the_whole() -> None:
    case = Case()
    _, whole = case.read()
    tally = case.tally
    for steps in (slice(0, 1), slice(1, 3), slice(3, 4)):
        part = Case()
        part.leaving, part.y, part.wanted, part.tally = case.leaving[steps], case.y[steps], case.wanted[steps], tally
        _, tally = part.read()
    np.testing.assert_allclose(tally, whole, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_guessing_costs_a_bit_a_bit(dtype: str) -> None:
    case = Case(dtype=dtype)
    for W in case.weights.values():
        W[:] = 0
    _, after = case.read()
    assert readout.cost(after) == pytest.approx(1.0, rel=1e-6)
    is_zero = (case.y == 0) & case.wanted[:, :, None]
    assert after[:, RIGHT].sum() == is_zero.sum() > 0, "what is not above one half is a zero"
    assert readout.cost(readout.first_tally(ROWS, 2, np.dtype(dtype))) == 0.0, "nothing was wanted"


def test_costs_stay_finite_however_wrong_a_box_is() -> None:
    case = Case(dtype="float32")
    case.weights["Wfc"][:] = 1e6
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        own, after = case.read()
    assert np.isfinite(after).all()
    assert np.isfinite(own.back).all()
    assert readout.cost(after) > 1000


@pytest.mark.parametrize("level", [1, 7, 300])
def test_the_level_travels(level: int) -> None:
    tally = readout.first_tally(3, level, np.dtype("float32"))
    assert readout.level_of(tally[:, LEVEL], 300, "box-2") == level
    assert not tally[:, :LEVEL].any()
    assert tally.shape == (3, 4)


@pytest.mark.parametrize("told", [[0.0], [-1.0], [1.5], [6.0], [np.nan], [np.inf], [2.0, 3.0]])
def test_a_level_that_cannot_be_is_refused(told: list[float]) -> None:
    with pytest.raises(
        WireError, match=r"box-2: batch 7: a level of .* came; they are whole numbers from 1 to 5, one for all"
    ):
        readout.level_of(np.array(told), 5, "box-2: batch 7")


# The curriculum


def grow(costs: list[float], most: int, bound: float = 0.5, curriculum: bool = True) -> list[int]:
    """Return the levels of all epochs that are decided after so many have ended."""
    decided = Curriculum(Data(bound=bound, curriculum=curriculum), most)
    for epoch, cost in enumerate(costs):
        before = list(decided.levels)
        assert decided.end(epoch, cost) == decided.level(epoch + LAG)
        assert decided.levels[:-1] == before, "what was decided stays"
    return decided.levels


def test_sequences_grow_once_for_each_evidence_and_never_beyond_the_most() -> None:
    assert grow([0.1] * 9, most=9) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert grow([0.1] * 9, most=3) == [1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3]
    assert grow([0.1] * 3, most=1) == [1] * 5


def test_only_what_is_below_the_bound_counts() -> None:
    assert grow([0.5, 0.5, 0.9, math.inf], most=9) == [1] * 6
    assert grow([0.5, 0.499, 0.5, 0.5], most=9) == [1, 1, 1, 2, 2, 2]
    assert grow([0.9, 0.4, 0.4, 0.9, 0.4], most=9) == [1, 1, 1, 2, 2, 2, 3]


def test_what_an_epoch_decides_holds_two_epochs_later() -> None:
    for epoch in range(5):
        levels = grow([0.4 if each == epoch else 0.9 for each in range(6)], most=4)
        assert levels == [1] * (epoch + LAG) + [2] * (6 - epoch)


def test_an_epoch_whose_successor_has_grown_decides_nothing() -> None:
    """By dice, in other words: a level holds at least two epochs, and each step has a cheap epoch of that level behind it."""
    for seed in range(50):
        rng = random.Random(seed)
        costs = [rng.choice((0.1, 0.9)) for _ in range(30)]
        levels, most = grow(costs, most=6), 6
        for epoch in range(LAG, len(levels)):
            step = levels[epoch] - levels[epoch - 1]
            is_evidence = costs[epoch - LAG] < 0.5 and levels[epoch - LAG] == levels[epoch - 1] < most
            assert step == is_evidence
        assert max(levels) <= most


def test_an_epoch_that_is_not_decided_yet_has_the_last_known_level() -> None:
    decided = Curriculum(Data(bound=0.5), 4)
    assert [decided.level(epoch) for epoch in (0, 1, 2, 99)] == [1] * 4
    decided.end(0, 0.1)
    assert [decided.level(epoch) for epoch in (0, 1, 2, 99)] == [1, 1, 2, 2]


def test_without_a_curriculum_sequences_start_and_stay_at_the_most() -> None:
    assert grow([0.1, 0.9, 0.1], most=4, curriculum=False) == [4] * 5
