"""Batches that are drawn by seed: pure, cut for boxes without loss, and what judges is never trained on; how it is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import levels, readout, results, sequences
from pipeline.arrays import Array
from pipeline.config import resolve
from pipeline.data import batches as make_batches
from pipeline.drawn import KEPT, Examples
from pipeline.head import NEAR, judge, judge_tally
from pipeline.ledger import Judged, Ledger
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.sizes import box_steps

Flags = dict[str, Any]

TASKS: dict[str, Flags] = {
    "copy": {"data.name": "copy", "data.bits": 3, "model.steps_per_box": 3, "model.loss": "bce"},
    "repeat-copy": {"data.name": "repeat-copy", "data.bits": 3, "model.steps_per_box": 4, "model.loss": "bce"},
    "adding": {"data.name": "adding", "data.length": 8, "model.loss": "mse"},
    "addition": {"data.name": "addition", "data.bits": 6, "model.loss": "bce"},
}
OWN = """
class Task:
    inputs = 2
    outputs = 3
    steps = 6

    def draw(self, rng, rows):
        x = rng.standard_normal((6, rows, 2))
        return x, rng.random((rows, 3)) < 0.5
"""
TASKS["own"] = {"data.name": "own", "data.code": OWN, "model.loss": "bce"}
TASK = pytest.mark.parametrize("name", TASKS)
BY_STEP = pytest.mark.parametrize("name", ["copy", "repeat-copy"])


def config_of(name: str, **more: Any) -> Config:
    """Return three boxes on a task: epochs of three batches, the last one smaller."""
    flags: Flags = {"model.boxes": 3, "data.train": 10, "data.test": 7, "data.validation": 6, "data.batch": 4}
    return resolve(flags=flags | TASKS[name] | more)


def examples_of(name: str, **more: Any) -> Examples:
    found = make_batches(config_of(name, **more))
    assert isinstance(found, Examples)
    return found


def content(examples: Examples, name: str, batch: int, is_judged: bool = False, level: int = 2) -> bytes:
    """Return everything that anybody reads in a batch, as bytes."""
    before = "evaluation_" if is_judged else ""
    found = [getattr(examples, f"{before}inputs")(batch, box, level) for box in (1, 2, 3)]
    if name in ("copy", "repeat-copy"):
        found += [each for box in (1, 2, 3) for each in getattr(examples, f"{before}targets")(batch, box, level)]
    else:
        found.append(getattr(examples, f"{before}labels")(batch))
    return b"".join(array.tobytes() for array in found)


# Pure


@TASK
def test_a_batch_is_a_pure_function_of_the_seed_and_its_index(name: str) -> None:
    places = [(batch, is_judged) for batch in range(KEPT + 2) for is_judged in (False, True)]
    one, other = examples_of(name), examples_of(name)
    forward = {place: content(one, name, *place) for place in places}
    assert forward == {place: content(other, name, *place) for place in reversed(places)}
    assert forward == {place: content(one, name, *place) for place in places}, "what was kept is the same again"
    another = examples_of(name, **{"data.seed": 1})
    assert all(content(another, name, *place) != forward[place] for place in places)


@TASK
def test_training_never_repeats_and_every_evaluation_is_the_same(name: str) -> None:
    examples = examples_of(name, **{"data.bits": 8})
    seen = {content(examples, name, batch) for batch in range(30)}
    assert len(seen) == 30
    assert content(examples, name, 0, True) not in seen
    assert len({content(examples, name, evaluation, True) for evaluation in range(4)}) == 1


@TASK
def test_arrays_have_the_configured_dtype_and_one_memory_order(name: str) -> None:
    for dtype in ("float32", "float64"):
        examples = examples_of(name, **{"model.dtype": dtype})
        for box in (1, 2, 3):
            for x in (examples.inputs(1, box, 2), examples.evaluation_inputs(0, box, 2)):
                assert x.dtype == examples.dtype == np.dtype(dtype)
                assert x.flags.c_contiguous
        assert examples.labels(1).dtype == np.dtype(dtype)


@TASK
def test_a_label_is_what_is_wanted_and_what_an_oracle_sees(name: str) -> None:
    examples = examples_of(name)
    y = examples.labels(0)
    assert examples.wanted(y) is examples.one_hot(y) is y
    assert y.shape[-1] == examples.outputs


# Sizes


@TASK
def test_the_last_batch_of_an_epoch_is_smaller(name: str) -> None:
    config = config_of(name)
    examples, plan = make_batches(config), Plan.of(config)
    assert isinstance(examples, Examples)
    rows = [examples.inputs(batch, 1, 1).shape[1] for batch in range(6)]
    assert rows == [4, 4, 2, 4, 4, 2] == [plan.rows(batch) for batch in range(6)]
    if name in ("adding", "addition", "own"):
        assert [len(examples.labels(batch)) for batch in range(3)] == [4, 4, 2]
    else:
        assert [examples.targets(batch, 2, 1)[0].shape[1] for batch in range(3)] == [4, 4, 2]


@TASK
def test_micro_batches_are_parts_of_a_batch(name: str) -> None:
    flags: Flags = {"schedule.kind": "gpipe", "schedule.micro_batches": 2, "data.train": 12, "model.tied": False}
    examples = examples_of(name, **flags)
    assert [examples.inputs(batch, 1, 1).shape[1] for batch in range(7)] == [2] * 7


@TASK
def test_an_evaluation_of_many_goes_in_chunks(name: str) -> None:
    config = config_of(name, **({} if name in ("adding", "own") else {"data.bits": 12}), **{"data.test": 1100})
    examples, plan = make_batches(config), Plan.of(config)
    assert isinstance(examples, Examples)
    assert plan.chunks == 3
    rows = [examples.evaluation_inputs(evaluation, 2, 1).shape[1] for evaluation in range(4)]
    assert rows == [500, 500, 100, 500] == [plan.evaluation_rows(evaluation) for evaluation in range(4)]
    places = np.concatenate([examples.evaluation_places(evaluation) for evaluation in range(3)])
    assert places.tolist() == list(range(1100))
    chunks = [content(examples, name, evaluation, True, 1) for evaluation in range(6)]
    assert chunks[:3] == chunks[3:]
    assert len(set(chunks)) == 3


# Cut for boxes


def put_together(examples: Examples, batch: int, level: int) -> Array:
    return np.concatenate([examples.inputs(batch, box, level) for box in (1, 2, 3)])


@BY_STEP
@pytest.mark.parametrize("level", [1, 2, 3])
def test_slices_put_together_are_the_whole_sequence(name: str, level: int) -> None:
    examples = examples_of(name)
    rng = sequences.generator(0, 0, 5)
    if name == "copy":
        whole = sequences.copy(rng, 2, level, 3, 9, "float32")
    else:
        whole = sequences.repeat_copy(rng, 2, *levels.lengths(name, level), 3, 12, "float32")
    assert np.array_equal(put_together(examples, 5, level), whole.x)
    cut = [examples.targets(5, box, level) for box in (1, 2, 3)]
    assert np.array_equal(np.concatenate([y for y, _ in cut]), whole.y)
    assert np.array_equal(np.concatenate([wanted for _, wanted in cut]), whole.wanted)


@BY_STEP
def test_without_a_level_sequences_are_as_long_as_they_can_be(name: str) -> None:
    examples = examples_of(name)
    most = levels.longest(name, 9 if name == "copy" else 12)
    shortest = put_together(examples, 1, 1)
    assert not np.array_equal(put_together(examples, 1, 0), shortest), "what is kept is kept by its level"
    assert np.array_equal(put_together(examples, 1, 0), put_together(examples, 1, most))
    assert not np.array_equal(put_together(examples, 1, 0), put_together(examples, 1, most - 1))


def test_numbers_to_add_are_spread_over_uneven_boxes() -> None:
    config = config_of("adding")
    examples = make_batches(config)
    assert isinstance(examples, Examples)
    assert box_steps(config) == (3, 3, 2)
    x, y = sequences.adding(sequences.generator(0, 0, 1), 4, 8, "float32")
    assert np.array_equal(put_together(examples, 1, 0), x)
    assert np.array_equal(examples.labels(1), y)


@pytest.mark.parametrize("steps", [1, 2])
def test_every_step_sees_both_numbers_of_a_sum(steps: int) -> None:
    examples = examples_of("addition", **{"model.steps_per_box": steps})
    for box in (1, 2, 3):
        x = examples.inputs(0, box)
        assert x.shape == (steps, 4, 12)
        assert all(np.array_equal(each, examples.inputs(0, 1)[0]) for each in x)


@pytest.mark.parametrize("name", ["adding", "addition"])
def test_a_task_without_targets_at_every_step_is_not_asked_for_them(name: str) -> None:
    with pytest.raises(AssertionError, match="targets at every step"):
        examples_of(name).targets(0, 1, 1)


# What judges


def sums(x: Array, bits: int) -> set[tuple[int, int]]:
    """Return the pairs of numbers in a batch of sums."""
    a, b = (sequences.number_of(part).tolist() for part in (x[0, :, :bits], x[0, :, bits:]))
    return set(zip(a, b, strict=True))


@pytest.mark.parametrize(("test", "validation"), [(7, 6), (1, 0), (600, 400)])
def test_sums_that_judge_are_never_trained_on(test: int, validation: int) -> None:
    flags: Flags = {"data.test": test, "data.validation": validation, "data.train": 400, "data.batch": 100}
    examples = {judge: examples_of("addition", **flags) for judge in ("test",)}
    if validation:
        examples["validation"] = examples_of("addition", **flags, **{"data.judge": "validation"})
    trained: set[tuple[int, int]] = set()
    for batch in range(200):
        x = examples["test"].inputs(batch, 1)
        trained |= sums(x, 6)
        bits = [sequences.number_of(x[0, :, :6]), sequences.number_of(x[0, :, 6:])]
        assert (sequences.number_of(examples["test"].labels(batch)) == bits[0] + bits[1]).all()
    held: dict[str, set[tuple[int, int]]] = {}
    for name, each in examples.items():
        count = {"test": test, "validation": validation}[name]
        held[name] = set().union(*(sums(each.evaluation_inputs(e, 1), 6) for e in range(-(-count // 500))))
        assert len(held[name]) == count
        assert not held[name] & trained
    assert len(trained) > 0.99 * (1024 - test - validation), "all others are"
    assert not held["test"] & held.get("validation", set())


@TASK
def test_validation_is_judged_in_place_of_the_test_and_trains_the_same(name: str) -> None:
    test, validation = examples_of(name), examples_of(name, **{"data.judge": "validation"})
    assert [len(each.evaluation_places(0)) for each in (test, validation)] == [7, 6]
    assert [each.evaluation_inputs(0, 1, 2).shape[1] for each in (test, validation)] == [7, 6]
    assert content(test, name, 0, True) != content(validation, name, 0, True)
    rows = [{each.evaluation_inputs(0, 1, 2)[:, row].tobytes() for row in range(6)} for each in (test, validation)]
    if name in ("adding", "addition"):  # few symbols come twice by chance
        assert not rows[0] & rows[1]
    assert [content(test, name, batch) for batch in range(4)] == [
        content(validation, name, batch) for batch in range(4)
    ]


# How it is judged


def judged_numbers(off: list[float]) -> Judged:
    """Return the judgement of numbers that are off by so much."""
    config = config_of("adding", **{"data.test": len(off), "model.width": 1, "model.dtype": "float64"})
    examples = make_batches(config)
    h = examples.evaluation_labels(0) + np.array(off)[:, None]
    return judge({"Wfc": np.ones((1, 1))}, h, examples, 0, "mse", "adding")


def test_a_number_that_is_near_is_right() -> None:
    off = [0.0, 0.039, -0.039, 0.041, -0.041, 3.0]
    found = judged_numbers(off)
    assert NEAR == 0.04
    assert found.rights is not None
    assert found.rights.tolist() == [True, True, True, False, False, False]
    assert found.right == 3.0
    np.testing.assert_allclose(found.predictions - found.labels, off, atol=1e-12)
    assert found.outputs[:, 0].tolist() == found.predictions.tolist()
    assert found.cost == pytest.approx(float(np.mean(np.square(off))))
    assert found.places.tolist() == list(range(6))


def test_of_a_sum_the_share_of_its_bits_counts() -> None:
    config = config_of("addition", **{"data.test": 4, "model.width": 6, "model.dtype": "float64"})
    examples = make_batches(config)
    bits = examples.evaluation_labels(0)
    told = bits.copy()
    told[1, 0] = 1 - told[1, 0]
    told[2, :3] = 1 - told[2, :3]
    told[3] = 1 - told[3]
    found = judge({"Wfc": np.eye(6)}, 20 * told - 10, examples, 0, "bce", "addition")
    assert found.rights is not None
    np.testing.assert_allclose(found.rights, [1, 5 / 6, 1 / 2, 0])
    assert found.right == pytest.approx(14 / 6)
    assert found.labels.tolist() == sequences.number_of(bits).tolist()
    assert found.predictions.tolist() == sequences.number_of(told).tolist()
    assert found.predictions[0] == found.labels[0]
    assert abs(int(found.predictions[1] - found.labels[1])) == 1, "the lowest bit stands first"


def test_of_a_sequence_the_share_of_its_bits_counts() -> None:
    examples = examples_of("copy", **{"data.test": 3})
    tally = np.array([[0.5, 6, 6, 2], [2.0, 3, 6, 2], [4.0, 0, 6, 2]])
    found = judge_tally(examples, 0, tally, 5)
    assert found.rights is not None
    assert found.rights.tolist() == [1, 0.5, 0]
    assert (found.right, found.level, found.outputs.shape) == (1.5, 2, (3, 0))
    assert (found.labels.tolist(), found.predictions.tolist()) == ([6, 6, 6], [6, 3, 0])
    assert found.cost == pytest.approx(6.5 / 18 / np.log(2)) == readout.cost(tally)


@pytest.mark.parametrize("off", [[0.001, -0.02, 0.5]])
def test_the_table_of_predictions_says_right_where_the_head_was(off: list[float], tmp_path: Path) -> None:
    found = judged_numbers(off)
    plan = Plan.of(config_of("adding", **{"data.test": len(off), "train.epochs": 1}))
    (tmp_path / "metrics").mkdir()
    ledger = Ledger(plan)
    for _ in range(plan.batches):
        ledger.add(0.5)
    ledger.judge(found)
    rows = results.save_metrics(tmp_path, ledger)
    lines = (tmp_path / "metrics" / "predictions.csv").read_text().splitlines()
    assert [line.split(",")[3] for line in lines] == ["right", "1", "1", "0"]
    assert rows[0]["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["copy", "repeat-copy", "adding", "addition"])
def test_the_parts_of_a_batch_are_cut_from_it(name: str) -> None:
    """With micro-batches everybody sees the rows that whole batches have: schedules can be held against each other."""
    even = {"data.train": 12, "schedule.kind": "gpipe", "schedule.micro_batches": 2}
    whole, parts = examples_of(name, **{"data.train": 12}), examples_of(name, **even)
    for batch in range(6):
        for box in (1, 2, 3):
            both = [parts.inputs(2 * batch + part, box, 1) for part in (0, 1)]
            np.testing.assert_array_equal(np.concatenate(both, axis=1), whole.inputs(batch, box, 1))
            assert all(each.flags.c_contiguous for each in both)
        if name in ("adding", "addition"):
            labels = [parts.labels(2 * batch + part) for part in (0, 1)]
            np.testing.assert_array_equal(np.concatenate(labels), whole.labels(batch))
        else:
            for place in (0, 1):
                told = [parts.targets(2 * batch + part, 2, 1)[place] for part in (0, 1)]
                np.testing.assert_array_equal(np.concatenate(told, axis=1), whole.targets(batch, 2, 1)[place])
