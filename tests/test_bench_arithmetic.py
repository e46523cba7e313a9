"""The bench of arithmetic: the bare loop does the stage's work to the bit, and what is made of the times."""

from __future__ import annotations

import numpy as np
import pytest

from launch import bench_arithmetic
from launch.bare import FEEDS, BareHead, Case, pair
from pipeline.arrays import TURNED
from pipeline.head import HeadWork

SIZES = [(8, 1), (8, 3), (130, 64)]


@pytest.mark.parametrize("rule", bench_arithmetic.RULES)
@pytest.mark.parametrize(("width", "rows"), SIZES)
def test_the_bare_loop_ends_with_the_stages_weights_bit_for_bit(rule: str, width: int, rows: int) -> None:
    staged, bare = pair(Case(rule, width, rows))
    if isinstance(staged.work, HeadWork):
        staged.work.ledger.keeps_all = True
    first = {name: array.copy() for name, array in bare.weights.items()}
    assert staged.lot(0, FEEDS + 2) > 0
    assert bare.lot(0, FEEDS + 2) > 0
    weights = staged.work.weights()
    assert set(weights) == set(bare.weights)
    for name, array in weights.items():
        assert array.tobytes() == bare.weights[name].tobytes()
        assert not np.array_equal(array, first[name]), "there was something to compare"
    if isinstance(bare, BareHead):
        assert isinstance(staged.work, HeadWork)
        assert staged.work.costs == bare.costs


def test_the_sizes_take_both_ways_back_through_a_weight() -> None:
    assert {rows * width**2 > TURNED for width, rows in SIZES} == {True, False}


def test_products_are_those_of_the_formulas() -> None:
    forward, back, gradients = [(10, 784, 64), (10, 64, 64)], [(10, 64, 64)], [(784, 10, 64), (64, 10, 64)]
    assert Case("backward", 64, 10).products() == [*forward, *back, *gradients]
    assert sorted(Case("synthetic", 64, 10).products()) == sorted([*forward, *back * 3, *gradients, gradients[1]])
    assert Case("head", 64, 10).products() == [(10, 64, 1), (64, 10, 1)]
    assert Case("backward", 64, 1).products() == [(1, 784, 64), (1, 64, 64), (1, 64, 64)], "an outer product is none"


def test_a_case_is_measured_and_told() -> None:
    rows = [bench_arithmetic.measured(Case("head", 8, rows), 3) for rows in (1, 4)]
    for row in rows:
        assert row["of_bare"]["repeats"] == 3
        assert set(row["gflops"]) == set(row["ns"]) == {"stage", "bare", "sgemm", "square"}
        assert all(found["least"] > 0 for found in row["ns"].values())
    text = "\n".join(bench_arithmetic.lines({"rows": rows}))
    assert text.startswith("rule")
    assert "of 2 reach 90 % of the bare loop" in text
