"""The counts: evaluations in one line with forwards, rows, steps, credits, who sends to whom and what settles a batch."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from pipeline.config import resolve
from pipeline.plan import EVALUATION_ROWS, Plan
from pipeline.sizes import box_steps, inputs, outputs


def plan_of(**flags: Any) -> Plan:
    """Return the plan of flags written as `model__boxes=3`."""
    return Plan.of(resolve(flags={key.replace("__", "."): value for key, value in flags.items()}))


def drawn_line(epochs: int, epoch_batches: int, every: int, chunks: int) -> list[str]:
    """Return forwards and evaluations in their one line, drawn epoch by epoch."""
    line = []
    for epoch in range(1, epochs + 1):
        line += ["F"] * epoch_batches
        if epoch == epochs or (every and epoch % every == 0):
            line += ["E"] * chunks
    return line


@pytest.mark.parametrize("epochs", [1, 2, 5])
@pytest.mark.parametrize("every", [0, 1, 2, 3, 9])
def test_evaluations_stand_in_one_line_with_the_forwards(epochs: int, every: int) -> None:
    for train, test in product([1, 3], [1, 500, 501]):
        plan = plan_of(train__epochs=epochs, train__evaluate_every=every, data__train=train, data__test=test)
        line = drawn_line(epochs, train, every, -(-test // 500))
        assert plan.batches == line.count("F")
        assert plan.evaluations == line.count("E")
        forwards = [at for at, word in enumerate(line) if word == "F"]
        assert [plan.due(f) for f in range(plan.batches)] == [line[:at].count("E") for at in forwards]
        assert plan.due(plan.batches) == plan.evaluations


@pytest.mark.parametrize(("test", "chunks"), [(1, [1]), (500, [500]), (501, [500, 1]), (1_250, [500, 500, 250])])
def test_an_evaluation_takes_the_test_images_in_chunks(test: int, chunks: list[int]) -> None:
    plan = plan_of(data__test=test, train__epochs=3)
    assert EVALUATION_ROWS == 500
    assert plan.chunks == len(chunks)
    assert [plan.evaluation_rows(e) for e in range(plan.evaluations)] == chunks * 3
    assert [plan.evaluation_rows(e) for e in range(plan.final_evaluation, plan.evaluations)] == chunks


@pytest.mark.parametrize(
    ("train", "batch", "rows"), [(4, 1, [1, 1, 1, 1]), (4, 4, [4]), (7, 3, [3, 3, 1]), (6, 3, [3, 3])]
)
def test_the_last_batch_of_an_epoch_may_be_smaller(train: int, batch: int, rows: list[int]) -> None:
    plan = plan_of(data__train=train, data__batch=batch, train__epochs=2)
    assert plan.epoch_batches == len(rows)
    assert [plan.rows(i) for i in range(plan.batches)] == rows * 2


@pytest.mark.parametrize(
    ("boxes", "steps"),
    [
        (1, (28,)),
        (3, (10, 9, 9)),
        (4, (7, 7, 7, 7)),
        (5, (6, 6, 6, 5, 5)),
        (27, (2,) + (1,) * 26),
        (28, (1,) * 28),
    ],
)
def test_rows_are_spread_over_the_boxes_and_the_first_take_one_more(boxes: int, steps: tuple[int, ...]) -> None:
    assert box_steps(resolve(flags={"data.reading": "rows", "model.boxes": boxes})) == steps


@pytest.mark.parametrize(("steps_per_box", "steps"), [(0, (1, 1, 1)), (1, (1, 1, 1)), (4, (4, 4, 4))])
def test_a_box_that_reads_vectors_takes_the_steps_it_is_given(steps_per_box: int, steps: tuple[int, ...]) -> None:
    assert box_steps(resolve(flags={"model.boxes": 3, "model.steps_per_box": steps_per_box})) == steps


@pytest.mark.parametrize(("reading", "count"), [("vector", 784), ("rows", 28)])
def test_a_step_reads_an_image_or_a_row_of_it(reading: str, count: int) -> None:
    assert inputs(resolve(flags={"data.reading": reading})) == count


@pytest.mark.parametrize(
    ("name", "loss", "count"),
    [
        ("mnist01", "squared", 1),
        ("mnist01", "bce", 1),
        ("mnist01", "softmax", 2),
        ("mnist", "squared", 10),
        ("mnist", "bce", 10),
        ("mnist", "softmax", 10),
    ],
)
def test_two_digits_need_one_sigmoid_and_else_there_is_an_output_a_digit(name: str, loss: str, count: int) -> None:
    assert outputs(resolve(flags={"data.name": name, "model.loss": loss})) == count


@pytest.mark.parametrize(
    ("kind", "oracle", "rule"),
    [
        ("article", "linear", "synthetic"),
        ("decoupled", "linear", "synthetic"),
        ("locked", "linear", "backward"),
        ("article", "frozen", "frozen"),
        ("decoupled", "frozen", "frozen"),
        ("locked", "frozen", "frozen"),
    ],
)
def test_schedule_and_oracle_decide_the_rule(kind: str, oracle: str, rule: str) -> None:
    assert plan_of(schedule__kind=kind, oracle__kind=oracle).rule == rule


SYNTHETIC = {"schedule__kind": "decoupled"}
TRUE = SYNTHETIC | {"oracle__target": "true"}
LOCKED = {"schedule__kind": "locked"}
FROZEN = {"oracle__kind": "frozen"}


@pytest.mark.parametrize(
    ("rule", "kinds"),
    [
        (SYNTHETIC, ["target", "target", "gradient", None]),
        (TRUE, ["gradient", "gradient", "gradient", None]),
        (LOCKED, ["gradient", "gradient", "gradient", None]),
        (LOCKED | {"oracle__target": "true"}, ["gradient", "gradient", "gradient", None]),
        (FROZEN, [None, None, None, None]),
    ],
)
def test_what_settles_a_batch_at_each_stage(rule: dict[str, str], kinds: list[str | None]) -> None:
    plan = plan_of(model__boxes=3, **rule)
    assert [plan.backward_kind(k) for k in range(1, plan.head + 1)] == kinds


@pytest.mark.parametrize("rule", [SYNTHETIC, TRUE, LOCKED])
def test_tied_boxes_are_all_siblings_and_the_head_is_none(rule: dict[str, str]) -> None:
    plan = plan_of(model__boxes=3, **rule)
    assert plan.shares_increments
    assert [plan.siblings(k) for k in (1, 2, 3, 4)] == [(2, 3), (1, 3), (1, 2), ()]
    assert [plan.sources(k) for k in (1, 2, 3, 4)] == [(2, 3), (1, 3), (1, 2, 4), (3,)]


@pytest.mark.parametrize("rule", [SYNTHETIC | {"model__tied": False}, LOCKED | {"model__tied": False}, FROZEN])
def test_boxes_that_share_no_step_hear_from_their_neighbours_alone(rule: dict[str, Any]) -> None:
    plan = plan_of(model__boxes=3, **rule)
    assert not plan.shares_increments
    assert [plan.siblings(k) for k in (1, 2, 3, 4)] == [(), (), (), ()]
    assert [plan.sources(k) for k in (1, 2, 3, 4)] == [(2,), (1, 3), (2, 4), (3,)]


def test_a_box_alone_has_no_siblings() -> None:
    plan = plan_of(model__boxes=1)
    assert (plan.siblings(1), plan.sources(1), plan.sources(2)) == ((), (2,), (1,))
    assert not plan.shares_increments


@pytest.mark.parametrize(
    ("rule", "tied", "sums"),
    [(LOCKED, True, True), (LOCKED, False, False), (SYNTHETIC, True, False), (LOCKED | FROZEN, True, False)],
)
def test_only_tied_backpropagation_steps_on_a_sum(rule: dict[str, str], tied: bool, sums: bool) -> None:
    assert plan_of(model__tied=tied, **rule).sums_gradients is sums


@pytest.mark.parametrize(("boxes", "window"), [(1, 1), (2, 6), (7, 3)])
def test_half_of_the_credits_covers_the_window_and_the_lead(boxes: int, window: int) -> None:
    plan = plan_of(model__boxes=boxes, schedule__kind="decoupled", schedule__window=window)
    assert plan.activation_credits // 2 >= window
    assert plan.increment_credits // 2 >= window * boxes + 1


@pytest.mark.parametrize("tied", [True, False])
def test_the_bound_of_an_edge_covers_all_kinds_together(tied: bool) -> None:
    plan = plan_of(model__tied=tied, model__boxes=3, schedule__kind="decoupled")
    increments = plan.increment_credits if tied else 0
    credits = 2 * (1 + tied)  # given back by the half
    assert plan.most_waiting() >= plan.activation_credits + plan.window + increments + credits


def test_names_and_numbers_are_inverse() -> None:
    plan = plan_of(model__boxes=3)
    assert plan.head == 4
    assert [plan.number(plan.name(k)) for k in (1, 2, 3, 4)] == [1, 2, 3, 4]
