"""The numbered steps of one batch: the eight of the original, and what becomes of them for other networks."""

from __future__ import annotations

import pytest
from network import Network, make_plan, run_prompt

from pipeline.plan import Plan
from pipeline.steps import describe, steps


def drawn(plan: Plan) -> list[str]:
    """Return the steps as lines: number, stage, part."""
    return [f"{step.number} {plan.name(step.stage)} {step.action} {step.part}" for step in steps(plan)]


def test_two_boxes_make_the_eight_steps_of_the_original() -> None:
    found = steps(make_plan("article", boxes=2))
    assert [(step.number, step.stage, step.action, step.part, step.text) for step in found] == [
        (1, 1, "F", "forward", "h1 = tanh(x Wx)"),
        (2, 1, "F", "update", "update on oracle 1"),
        (3, 2, "F", "forward", "h2 = tanh(x Wx + h1 Wrec)"),
        (4, 2, "F", "update", "update on oracle 2"),
        (5, 1, "T", "train", "train oracle 1 on the target from box-2"),
        (6, 3, "F", "forward", "y from h2 Wfc"),
        (7, 3, "F", "update", "update on the true loss"),
        (8, 2, "T", "train", "train oracle 2 on the true gradient"),
    ]


@pytest.mark.parametrize("schedule", ["article", "decoupled"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_eight_steps_are_the_same_for_every_schedule_with_oracles(schedule: str, tied: bool) -> None:
    assert steps(make_plan(schedule, boxes=2, tied=tied)) == steps(make_plan("article", boxes=2))


PICTURES = {
    "one box": (
        make_plan("article", boxes=1),
        ["1 box-1 F forward", "2 box-1 F update", "3 head F forward", "4 head F update", "5 box-1 T train"],
    ),
    "three boxes": (
        make_plan("article", boxes=3),
        [
            "1 box-1 F forward", "2 box-1 F update",
            "3 box-2 F forward", "4 box-2 F update", "5 box-1 T train",
            "6 box-3 F forward", "7 box-3 F update", "8 box-2 T train",
            "9 head F forward", "10 head F update", "11 box-3 T train",
        ],
    ),
    "true targets": (
        make_plan("article", boxes=3, target="true"),
        [
            "1 box-1 F forward", "2 box-1 F update", "3 box-2 F forward", "4 box-2 F update",
            "5 box-3 F forward", "6 box-3 F update", "7 head F forward", "8 head F update",
            "9 box-3 T train", "10 box-2 T train", "11 box-1 T train",
        ],
    ),
    "locked, tied": (
        make_plan("locked", boxes=2),
        [
            "1 box-1 F forward", "2 box-2 F forward", "3 head F forward", "4 head F update",
            "5 box-2 B backward", "6 box-1 B backward", "7 box-1 U apply", "8 box-2 U apply",
        ],
    ),
    "locked, untied": (
        make_plan("locked", boxes=2, tied=False),
        [
            "1 box-1 F forward", "2 box-2 F forward", "3 head F forward", "4 head F update",
            "5 box-2 B backward", "6 box-1 B backward",
        ],
    ),
    "frozen": (
        make_plan("article", boxes=2, rule="frozen"),
        ["1 box-1 F forward", "2 box-2 F forward", "3 head F forward", "4 head F update"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_the_steps_are_as_drawn(name: str) -> None:
    plan, expected = PICTURES[name]
    assert drawn(plan) == expected


FORWARDS = {
    "rnn": ("h1 = tanh(x Wx)", "h2 = tanh(x Wx + h1 Wrec)"),
    "gru": ("h1 = GRU(x)", "h2 = GRU(x, h1)"),
    "lstm": ("h1, c1 = LSTM(x)", "h2, c2 = LSTM(x, h1, c1)"),
    "dense": ("h1 = dense1(x), its relu layers", "h2 = dense2(h1), its relu layers"),
}


@pytest.mark.parametrize("cell", FORWARDS)
def test_a_forward_is_that_of_the_cell(cell: str) -> None:
    plan = make_plan("article", boxes=2)._replace(cell=cell, function="relu")
    assert tuple(step.text for step in steps(plan) if step.stage < 3 and step.part == "forward") == FORWARDS[cell]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("local", "update on the losses of its own steps"),
        ("synthetic", "update on its own steps' losses and oracle 1"),
    ],
)
def test_a_box_that_reads_its_own_steps_says_so_and_the_head_adds_up(rule: str, text: str) -> None:
    found = steps(make_plan("article", boxes=2, rule=rule, grows=True))
    assert found[1].text == text
    assert [step.text for step in found if step.stage == 3] == [
        "add up what the boxes say", "nothing to learn; after an epoch, how long sequences are"
    ]  # fmt: skip
    locked = steps(make_plan("locked", boxes=2, grows=True)._replace(grows=False))
    assert [step.text for step in locked if step.stage == 3][1] == "nothing: it has no weights"
    assert "backward on its own steps' losses and the true gradient" in [step.text for step in locked]


@pytest.mark.parametrize("target", ["bootstrapped", "true"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("schedule", ["article", "locked", "decoupled"])
@pytest.mark.parametrize("boxes", [1, 2, 5])
def test_the_steps_are_the_parts_that_a_run_has(boxes: int, schedule: str, tied: bool, target: str) -> None:
    """Every part of a batch has one number, but for a sibling's increments and evaluations."""
    plan = make_plan(schedule, boxes=boxes, batches=2, tied=tied, target=target)
    network = Network(plan)
    run_prompt(network)
    parts = [
        (number, action.kind, part.name)
        for number, watcher in network.watchers.items()
        for action, part in watcher.parts
        if action.batch == 1 and action.kind != "E" and not action.sibling
    ]
    assert sorted(parts) == sorted((step.stage, step.action, step.part) for step in steps(plan))


@pytest.mark.parametrize(
    ("action", "part", "sibling", "text"),
    [
        ("U", "apply", 3, "apply box 3's increment"),
        ("U", "apply", 0, "step on the sum of gradients"),
        ("E", "evaluate", 0, "evaluate"),
        ("F", "forward", 0, "forward"),
    ],
)
def test_what_has_no_number_is_described(action: str, part: str, sibling: int, text: str) -> None:
    assert describe(action, part, sibling) == text
