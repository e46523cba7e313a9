"""Experiments: what they call flown off."""

from __future__ import annotations

import pytest

from launch.experiments import has_flown_off

NAN = float("nan")


@pytest.mark.parametrize("costs", [[0.2, NAN, NAN], [0.2, 0.1, NAN, 0.1], [NAN], [0.2, 0.9], [0.2, float("inf")]])
def test_a_cost_that_is_no_number_or_far_above_the_first_has_flown_off(costs: list[float]) -> None:
    """max() passes over a NaN that is not the first value, so it cannot be what looks."""
    assert has_flown_off(costs)


@pytest.mark.parametrize("costs", [[0.2, 0.1], [0.2, 0.7, 0.1], [0.2]])
def test_a_cost_that_spikes_and_comes_down_has_not(costs: list[float]) -> None:
    assert not has_flown_off(costs)
