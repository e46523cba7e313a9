"""Medians, intervals and verdicts: what repeats show, and what they do not."""

from __future__ import annotations

import numpy as np
import pytest

from launch.spread import LEAST, NO_DIFFERENCE, machine, overlap, ratios, spread, verdict


def test_the_interval_holds_the_true_median_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        found = spread(rng.normal(10, 1, 12).tolist())
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 10 <= found.high
    assert 0.88 < held / 300 <= 1.0


def test_few_repeats_have_a_range_and_no_interval() -> None:
    found = spread([1.0] * (LEAST - 1))
    assert (found.low, found.high) == (None, None)
    assert spread([1.0] * LEAST).low == 1.0
    assert spread([3.0]).text() == "3.00"
    assert spread([1.0, 2.0]).text("{:.1f}") == "1.5 [1.0 – 2.0]"


def test_the_same_figures_give_the_same_interval() -> None:
    values = [1.0, 4.0, 2.0, 8.0, 5.0, 7.0]
    assert spread(values) == spread(values)


def test_a_difference_is_claimed_only_where_the_interval_leaves_one_out() -> None:
    assert verdict(ratios([2.0] * 6, [1.0] * 6)) == "faster"
    assert verdict(ratios([1.0] * 6, [2.0] * 6)) == "slower"
    assert verdict(ratios([0.9, 1.1, 1.0, 0.95, 1.05, 1.0], [1.0] * 6)) == NO_DIFFERENCE
    assert verdict(ratios([2.0], [1.0])).startswith(NO_DIFFERENCE)


def test_intervals_that_meet_or_are_missing_overlap() -> None:
    low, high = spread([1.0, 1.1, 1.2, 1.0, 1.1]), spread([2.0, 2.1, 2.2, 2.0, 2.1])
    assert not overlap(low, high)
    assert overlap(low, spread([1.1, 2.0, 1.0, 1.1, 1.2]))
    assert overlap(low, spread([9.0]))


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0, 2.0], [1.0])


def test_the_line_of_the_machine_states_what_figures_depend_on() -> None:
    text = machine({"processor": "P", "cores": 2, "load": [0.5, 1, 2]}, 5)
    assert text == "P, 2 cores, load 0.5; 5 repeats; one BLAS thread a process"
