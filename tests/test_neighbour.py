"""An oracle that is trained in a process of its own: what is lost there, and that nothing is lost here.

The author's later network of two processes starts one for every update of an oracle; what it learns stays in the child.
"""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

import launch
from pipeline.config import resolve
from pipeline.oracles import Linear, Shape
from pipeline.schema import Oracle


def learn(oracle: Linear) -> None:
    """Take one step, as each of the neighbour's processes does."""
    h = np.ones((1, 3), np.float32)
    error = oracle.predict(h, None, 0) - np.ones((1, 3), np.float32)
    oracle.weights["L"] -= 0.1 * oracle.gradient(h, None, error)["L"]


def test_what_a_child_process_learns_is_lost_in_it() -> None:
    oracle = Linear(Oracle(), Shape(3, 2, "float32"), np.random.default_rng(0))
    for _ in range(3):
        child = multiprocessing.get_context("fork").Process(target=learn, args=(oracle,))
        child.start()
        child.join()
        assert child.exitcode == 0
    assert not oracle.weights["L"].any(), "three updates, and the parent's oracle knows of none"
    learn(oracle)
    assert oracle.weights["L"].any()


@pytest.mark.live
def test_what_our_oracles_learn_is_there_at_the_next_batch_and_at_the_end(tmp_path: Path) -> None:
    """As many T as batches; the weights after them are those of one process that trained its oracles by itself."""
    flags = {"model.width": 8, "train.epochs": 2, "data.train": 10, "data.test": 5, "run.dir": str(tmp_path)}
    config = resolve("article", flags=flags | {"run.plot": False})
    live, alone = launch.run(config), launch.run(config, reference=True)
    assert live.status == "done"
    for box in ("box-1", "box-2"):
        trained = [action.batch for action in live.journal[box] if action.kind == "T"]
        assert trained == list(range(20)), "every update, in its order, in one process"
        first = np.load(live.folder / "checkpoint" / "initial" / f"{box}.npz")["oracle_L"]
        assert not first.any()
        assert live.weights[box]["oracle_L"].any()
        np.testing.assert_array_equal(live.weights[box]["oracle_L"], alone.weights[box]["oracle_L"])
