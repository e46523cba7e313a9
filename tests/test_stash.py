"""Stashed weights: what a batch in flight keeps stays as it was, and no array is copied or kept without need."""

from __future__ import annotations

import random

import numpy as np

from pipeline.arrays import Weights
from pipeline.stash import Stash


def test_what_is_kept_stays_as_it_was_whatever_is_settled_in_which_order() -> None:
    rng = random.Random("stash")
    weights: Weights = {"Wx": np.zeros((2, 2)), "Wrec": np.zeros((2, 2))}
    stash, flights, version, arrays = Stash(weights, ("Wrec",)), [], 0, set()
    for _ in range(500):
        if flights and rng.random() < 0.5:
            kept, read = flights.pop(rng.randrange(len(flights)))
            assert (kept["Wrec"] == read).all()
            stash.give_back(kept)
        elif len(flights) < 5:
            flights.append((stash.keep(), version))
        if rng.random() < 0.6:
            stash.part()
            version += 1
            weights["Wrec"][:] = version
        arrays.add(id(weights["Wrec"]))
    assert len(arrays) <= 6  # five in flight and the newest: arrays are used again


def test_nothing_is_copied_where_nothing_is_in_flight() -> None:
    weights: Weights = {"Wx": np.zeros((2, 2)), "Wrec": np.zeros((2, 2))}
    before, untouched = weights["Wrec"], weights["Wx"]
    stash = Stash(weights, ("Wrec",))
    stash.give_back(stash.keep())
    stash.part()
    assert weights["Wrec"] is before
    stash.keep()
    stash.part()
    assert weights["Wrec"] is not before
    assert weights["Wx"] is untouched
