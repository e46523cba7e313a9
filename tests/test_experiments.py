"""Experiments: what they call flown off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch import Result
from launch.experiments import has_flown_off
from pipeline.files import to_json

NAN = float("nan")


@pytest.mark.parametrize("costs", [[0.2, NAN, NAN], [0.2, 0.1, NAN, 0.1], [NAN], [0.2, 0.9], [0.2, float("inf")]])
def test_a_cost_that_is_no_number_or_far_above_the_first_has_flown_off(costs: list[float]) -> None:
    """max() passes over a NaN that is not the first value, so it cannot be what looks."""
    assert has_flown_off(costs)


@pytest.mark.parametrize("costs", [[0.2, 0.1], [0.2, 0.7, 0.1], [0.2]])
def test_a_cost_that_spikes_and_comes_down_has_not(costs: list[float]) -> None:
    assert not has_flown_off(costs)


@pytest.mark.parametrize("costs", [[0.2, NAN], [0.2, float("inf")], [NAN, NAN]])
def test_a_run_whose_document_has_no_number_for_a_cost_has_flown_off(costs: list[float]) -> None:
    """JSON has null there; comparing that with a number once raised."""
    document = json.loads(to_json({"costs": costs}))
    assert has_flown_off(Result(Path("nowhere"), document).costs)
