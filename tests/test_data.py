"""Data: a batch is a pure function of (seed, index), an epoch takes each image once, training and test do not overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import resolve
from pipeline.data import ORDERS, Batches, Split, load
from pipeline.plan import EVALUATION_ROWS, Plan
from pipeline.schema import Config, Data


def numbered_split(train: int, test: int, digits: int = 2) -> Split:
    """Return a split whose images say in their first two pixels which they are, for any number below 65,536."""
    count = train + test
    images = np.random.default_rng(1).integers(0, 256, (count, 784)).astype(np.uint8)
    images[:, 0], images[:, 1] = np.divmod(np.arange(count), 256)
    labels = (np.arange(count) % digits).astype(np.uint8)
    return Split(images[:train], labels[:train], images[train:], labels[train:], np.arange(train, count) * 3)


def numbers(x: np.ndarray) -> list[int]:
    """Return which images are in a batch of vectors."""
    pixels = np.rint(x[0, :, :2].astype(float) * 255).astype(int)
    return [int(high * 256 + low) for high, low in pixels]


def batches_of(**flags: Any) -> tuple[Config, Batches]:
    config = resolve(flags={key.replace("__", "."): value for key, value in flags.items()})
    return config, Batches(config, numbered_split(config.data.train, config.data.test, 2))


def everything(batches: Batches, index: int, box: int) -> tuple[bytes, bytes]:
    return batches.inputs(index, box).tobytes(), batches.labels(index).tobytes()


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(12)), st.sampled_from(["vector", "rows"]))
def test_a_batch_is_a_pure_function_of_seed_and_index(order: list[int], reading: str) -> None:
    config, batches = batches_of(data__train=10, data__batch=3, data__reading=reading, model__boxes=2)
    other = Batches(config, batches.split)
    in_order = [everything(batches, index, 2) for index in range(12)]
    assert {index: everything(other, index, 2) for index in order} == dict(enumerate(in_order))
    assert [everything(batches, index, 2) for index in range(12)] == in_order


def test_every_stage_cuts_its_slice_of_the_same_images() -> None:
    config, first = batches_of(data__train=10, data__batch=3, model__boxes=3)
    second = Batches(config, first.split)
    assert numbers(first.inputs(5, 1)) == numbers(second.inputs(5, 3))


def test_another_seed_is_another_order() -> None:
    orders = []
    for seed in (0, 1):
        _, batches = batches_of(data__train=40, data__batch=40, data__seed=seed)
        orders.append(numbers(batches.inputs(0, 1)))
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_going_to_and_fro_between_epochs_draws_an_order_once_and_keeps_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """With batches in flight every F and T crossed the boundary of two epochs, and each drew the order anew."""
    _, batches = batches_of(data__train=10, train__epochs=9)
    drawn, draw = [], np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: drawn.append(seed) or draw(seed))
    for index in (9, 10, 8, 11, 9, 12):
        batches.places(index)
    assert len(drawn) == 2
    for epoch in range(9):
        batches.places(10 * epoch)
    assert len(batches._orders) == ORDERS


@pytest.mark.parametrize(("train", "batch"), [(10, 1), (10, 3), (10, 10), (12, 4), (300, 7)])
def test_an_epoch_takes_each_image_once_in_an_order_of_its_own(train: int, batch: int) -> None:
    config, batches = batches_of(data__train=train, data__batch=batch, train__epochs=3)
    plan = Plan.of(config)
    epochs = []
    for epoch in range(3):
        seen: list[int] = []
        for index in range(epoch * plan.epoch_batches, (epoch + 1) * plan.epoch_batches):
            x, labels = batches.inputs(index, 1), batches.labels(index)
            assert len(labels) == x.shape[1] == plan.rows(index)
            assert labels.tolist() == [number % 2 for number in numbers(x)]
            seen += numbers(x)
        assert sorted(seen) == list(range(train))
        epochs.append(tuple(seen))
    assert len(set(epochs)) == 3


@pytest.mark.parametrize("test", [1, 20, EVALUATION_ROWS, EVALUATION_ROWS + 1])
def test_every_round_of_evaluations_takes_each_test_image_once_in_the_same_order(test: int) -> None:
    config, batches = batches_of(data__test=test, train__epochs=2)
    plan = Plan.of(config)
    rounds = []
    for start in (0, plan.chunks):
        seen: list[int] = []
        for evaluation in range(start, start + plan.chunks):
            x = batches.evaluation_inputs(evaluation, 1)
            assert x.shape[1] == plan.evaluation_rows(evaluation)
            assert batches.evaluation_labels(evaluation).tolist() == [number % 2 for number in numbers(x)]
            assert batches.evaluation_places(evaluation).tolist() == [number * 3 for number in numbers(x)]
            seen += numbers(x)
        rounds.append(seen)
    assert rounds == [list(range(50, 50 + test))] * 2


@pytest.mark.parametrize("boxes", [1, 3, 4, 28])
def test_the_boxes_read_an_image_row_by_row_between_them(boxes: int) -> None:
    _, rows = batches_of(data__reading="rows", data__batch=5, model__boxes=boxes)
    _, whole = batches_of(data__batch=5, model__boxes=boxes)
    for ask in ("inputs", "evaluation_inputs"):
        parts = [getattr(rows, ask)(0, box) for box in range(1, boxes + 1)]
        read = np.concatenate(parts)  # (28, rows, 28)
        images = getattr(whole, ask)(0, 1)[0].reshape(-1, 28, 28)
        assert np.array_equal(read.swapaxes(0, 1), images)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_vector_is_read_again_at_every_step_of_every_box(steps: int) -> None:
    _, batches = batches_of(data__batch=4, model__boxes=2, model__steps_per_box=steps)
    first = batches.inputs(0, 1)
    assert first.shape == (steps, 4, 784)
    for box in (1, 2):
        for x in batches.inputs(0, box):
            assert np.array_equal(x, first[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reading", ["vector", "rows"])
def test_inputs_are_new_contiguous_arrays_of_the_dtype_from_0_to_1(dtype: str, reading: str) -> None:
    _, batches = batches_of(model__dtype=dtype, data__reading=reading, data__batch=50)
    for ask in (batches.inputs, batches.evaluation_inputs):
        x = ask(0, 1)
        assert (x.dtype, x.flags.c_contiguous) == (np.dtype(dtype), True)
        assert (x.min(), x.max()) == (0, 1)
        before = x.copy()
        x[:] = 7  # whoever has them may write to them
        assert np.array_equal(ask(0, 1), before)


@pytest.mark.parametrize(
    ("name", "loss", "wanted"),
    [
        ("mnist01", "squared", [[0.0], [1.0]]),
        ("mnist01", "softmax", [[1.0, 0.0], [0.0, 1.0]]),
        ("mnist", "bce", np.eye(10)[:2].tolist()),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_digit_becomes_what_the_head_should_put_out(name: str, loss: str, wanted: list[Any], dtype: str) -> None:
    _, batches = batches_of(data__name=name, model__loss=loss, model__dtype=dtype)
    y = batches.wanted(np.array([0, 1], np.uint8))
    assert (y.tolist(), y.dtype) == (wanted, np.dtype(dtype))


def test_an_oracle_sees_a_label_as_one_hot_also_where_the_head_has_one_output() -> None:
    _, batches = batches_of()
    assert batches.one_hot(np.array([1, 0], np.uint8)).tolist() == [[0.0, 1.0], [1.0, 0.0]]


# The packaged digits


@pytest.mark.parametrize(
    ("wanted", "digits"),
    [
        (Data(), 2),
        (Data(test=1_000), 2),
        (Data(train=1_600, test=400), 2),
        (Data(train=2_095, test=20), 2),
        (Data(name="mnist", train=8_000, test=2_000), 10),
    ],
    ids=["article", "1000-unseen", "digits", "all-of-two", "all-of-ten"],
)
def test_the_packaged_images_are_split_without_overlap(wanted: Data, digits: int) -> None:
    split = load(wanted)
    assert split.train_images.shape == (wanted.train, 784)
    assert split.test_images.shape == (wanted.test, 784)
    assert split.train_labels.shape == (wanted.train,)
    assert split.test_labels.shape == split.test_places.shape == (wanted.test,)
    trained = {image.tobytes() for image in split.train_images}
    assert not trained.intersection(image.tobytes() for image in split.test_images)
    assert set(split.train_labels.tolist()) == set(split.test_labels.tolist()) == set(range(digits))


def test_the_article_split_is_50_and_20_and_grows_without_another_training_set() -> None:
    article, more = load(resolve("article").data), load(Data(test=1_000))
    assert (len(article.train_labels), len(article.test_labels), len(more.test_labels)) == (50, 20, 1_000)
    assert np.array_equal(article.train_images, more.train_images)
    assert np.array_equal(article.test_places, more.test_places[:20])
    assert len(set(more.test_places.tolist())) == 1_000


def test_a_seed_chooses_the_same_images_again_and_another_others() -> None:
    first, again, other = load(Data(seed=3)), load(Data(seed=3)), load(Data(seed=4))
    assert first.train_images.tobytes() == again.train_images.tobytes()
    assert first.test_places.tolist() == again.test_places.tolist() != other.test_places.tolist()
