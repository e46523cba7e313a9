"""The rules of one stage: what is enabled, what may come, and that whatever is not is refused and changes nothing."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
from network import Network, learns, make_plan, move_checked, random_plan, run_prompt, telling, whims

from pipeline.actions import (
    ACTIONS,
    ACTIVATION,
    CREDIT_ACTIVATION,
    CREDIT_INCREMENT,
    EVALUATION,
    GRADIENT,
    INCREMENT,
    KINDS,
    TARGET,
    Action,
    Message,
)
from pipeline.errors import ScheduleError, WireError
from pipeline.plan import Plan
from pipeline.stage import Stage

SCHEDULES = [("article", 1), ("locked", 1), ("decoupled", 1), ("decoupled", 3)]


def states(schedule: str, window: int, seed: int) -> Iterator[tuple[Network, Stage]]:
    """Yield a stage in the state it is in before some of the moves of a run in random order."""
    rng = random.Random(f"states {schedule} {window} {seed}")
    plan = random_plan(rng, schedule, window, most_boxes=4)
    network = Network(plan, schedules=whims(plan, seed))
    for _ in range(5000):
        if network.is_done:
            return
        number = rng.choice(list(network.numbers))
        if rng.random() < 0.4:
            yield network, network.stages[number]
        for edge in network.edges.values():
            edge.deliver(rng.randint(0, edge.travelling))
        move_checked(network, number)
    raise AssertionError(f"deadlock\n{network.stories()}")


def picture(stage: Stage) -> dict[str, Any]:
    """Return a copy of everything that a stage knows."""
    return {name: copy.copy(value) for name, value in vars(stage).items()}


def asks(stage: Stage, rng: random.Random, count: int) -> list[Action]:
    """Return some actions around what a stage may do next, most of them illegal."""
    near = sorted({-1, 0, stage.plan.batches, *(n + d for n in (stage.forwards, stage.settled) for d in (-1, 0, 1))})
    return [
        Action(kind, rng.choice(near), rng.randint(0, stage.plan.boxes + 1) if kind == "U" else 0)
        for kind in rng.choices(ACTIONS + "X", k=count)
    ]


# Asks


@pytest.mark.parametrize(("schedule", "window"), SCHEDULES)
def test_an_illegal_ask_is_refused_with_its_story_and_changes_nothing(schedule: str, window: int) -> None:
    refused = set()
    for seed in range(2):
        rng = random.Random(seed)
        for _, stage in states(schedule, window, seed):
            enabled = set(stage.enabled())
            for action in asks(stage, rng, 5):
                if action in enabled:
                    continue
                before = picture(stage)
                with pytest.raises(ScheduleError) as caught, telling(seed=seed, action=action, stage=stage.name):
                    stage.start(action)
                story = str(caught.value)
                assert story.startswith(f"{stage.name}: {action} is not enabled: ")
                assert "; did " in story
                assert "; waiting: " in story
                assert picture(stage) == before
                refused.add(action.kind)
    assert refused == set(ACTIONS + "X")


@pytest.mark.parametrize(("schedule", "window"), SCHEDULES)
def test_what_is_enabled_is_what_is_not_refused(schedule: str, window: int) -> None:
    for seed in range(2):
        for _, stage in states(schedule, window, seed):
            plan = stage.plan
            every = [Action(kind, batch) for kind in ACTIONS for batch in range(max(plan.batches, plan.evaluations))]
            every += [Action("U", batch, k) for k in range(1, plan.boxes + 1) for batch in range(plan.batches)]
            with telling(seed=seed, plan=plan):
                assert sorted(stage.enabled()) == sorted(action for action in every if stage.refusal(action) is None)


@pytest.mark.parametrize("kind", ["F", "B", "T", "E"])
def test_only_u_names_a_sibling(kind: str) -> None:
    """F1.0 has no text form: a stage that took it for F0 would write a journal that cannot be read."""
    stage = Stage(make_plan("locked" if kind == "B" else "decoupled", boxes=2), 1)
    before = picture(stage)
    with pytest.raises(ScheduleError):
        stage.start(Action(kind, 0, 2))
    assert picture(stage) == before


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (Action("F", 1), "F0 comes before F1"),
        (Action("T", 3), "T0 comes before T3"),
        (Action("B", 0), "B is no action of a stage that learns by the rule 'synthetic'"),
        (Action("U", 0, 2), "waiting: increment 0 from box-2"),
        (Action("U", 0, 1), "box 1 is no sibling that shares increments"),
        (Action("U", 0), "this stage makes no step on a sum"),
        (Action("E", 0), "F0 comes before E0"),
    ],
)
def test_a_refusal_says_why(action: Action, reason: str) -> None:
    stage = Stage(make_plan("decoupled", boxes=2), 1)
    assert stage.refusal(action) == reason


def test_a_refusal_tells_the_last_actions() -> None:
    stage = Stage(make_plan("decoupled", boxes=1, batches=40, window=20), 1)
    for batch in range(20):
        stage.start(Action("F", batch))
        stage.finish(Action("F", batch))
    with pytest.raises(ScheduleError) as caught:
        stage.start(Action("F", 20))
    assert str(caught.value) == (
        "box-1: F20 is not enabled: the window of 20 is full; waiting: gradient 0 from head; "
        "did … F8 F9 F10 F11 F12 F13 F14 F15 F16 F17 F18 F19; waiting: gradient 0 from head"
    )


# Messages


def acceptable(stage: Stage) -> set[Message]:
    """Return every message that may come to a stage next, from the plan and what has come and been done."""
    plan, k, boxes = stage.plan, stage.number, stage.plan.boxes
    found = set()
    if k > 1 and stage.activations < plan.batches:
        found.add(Message(ACTIVATION, stage.activations, k - 1, k))
    if k > 1 and stage.evaluations < plan.evaluations:
        found.add(Message(EVALUATION, stage.evaluations, k - 1, k))
    if learns(plan, k) in ("synthetic", "backward"):
        is_target = plan.target == "bootstrapped" and learns(plan, k) == learns(plan, k + 1) == "synthetic"
        if stage.backwards < stage.forwards:
            found.add(Message(TARGET if is_target else GRADIENT, stage.backwards, k + 1, k))
        if is_target and plan.corrects and stage.truths < stage.forwards:
            found.add(Message(GRADIENT, stage.truths, k + 1, k))
    if k <= boxes:
        lacking = plan.activation_credits - stage.activation_credit
        found |= {Message(CREDIT_ACTIVATION, count, k + 1, k) for count in range(1, lacking + 1)}
    if k <= boxes and plan.tied:
        for sibling in set(range(1, boxes + 1)) - {k}:
            rule = learns(plan, sibling)
            most = 0 if rule == "frozen" else plan.batches * (1 + (plan.corrects and rule == "synthetic"))
            if most and stage.increments[sibling] < most:
                found.add(Message(INCREMENT, stage.increments[sibling], sibling, k))
            if learns(plan, k) != "frozen":
                lacking = plan.increment_credits - stage.increment_credit[sibling]
                found |= {Message(CREDIT_INCREMENT, count, sibling, k) for count in range(1, lacking + 1)}
    return found


def letters(stage: Stage, rng: random.Random, count: int) -> Iterator[Message]:
    """Yield some messages: out of order, doubled, from strangers, for others, with too many credits; and right ones."""
    plan = stage.plan
    right = sorted(acceptable(stage))
    for _ in range(count):
        kind, batch, source, target = rng.choice(right) if right else Message(rng.choice(KINDS), 0, 1, stage.number)
        wrong = rng.randrange(5)
        if wrong == 0:
            batch = rng.choice((-1, 0, batch - 1, batch + 1, batch + 2, plan.batches, plan.increment_credits + 1))
        elif wrong == 1:
            source = rng.randint(0, plan.head + 1)
        elif wrong == 2:
            kind = rng.choice(KINDS)
        elif wrong == 3:
            target = rng.randint(0, plan.head + 1)
        yield Message(kind, batch, source, target)


@pytest.mark.parametrize(("schedule", "window"), SCHEDULES)
def test_a_message_that_cannot_come_is_refused_and_changes_nothing(schedule: str, window: int) -> None:
    outcomes = {True: 0, False: 0}
    for seed in range(2):
        rng = random.Random(seed)
        for _, stage in states(schedule, window, seed):
            right = acceptable(stage)
            for message in letters(stage, rng, 4):
                outcomes[message in right] += 1
                before = picture(stage)
                with telling(seed=seed, plan=stage.plan, message=message):
                    if message in right:
                        copy.deepcopy(stage).receive(message)
                    else:
                        with pytest.raises(WireError, match=f"^{stage.name}: "):
                            stage.receive(message)
                assert picture(stage) == before
    assert min(outcomes.values()) > 30, "the letters are no mixture"


@pytest.fixture
def middle() -> Stage:
    """Box 2 of three tied boxes: it has forwarded batches 0 and 1 and has their activations and one more."""
    stage = Stage(make_plan("decoupled", boxes=3, batches=5, window=4), 2)
    for batch in range(3):
        stage.receive(Message(ACTIVATION, batch, 1, 2))
    for batch in range(2):
        stage.start(Action("F", batch))
        stage.finish(Action("F", batch))
    return stage


@pytest.mark.parametrize(
    ("message", "story"),
    [
        (Message(ACTIVATION, 4, 1, 2), "activation 4 box-1>box-2 came out of order, batch 3 was expected"),
        (Message(ACTIVATION, 2, 1, 2), "activation 2 box-1>box-2 came out of order, batch 3 was expected"),
        (Message(ACTIVATION, 3, 3, 2), "activation 3 box-3>box-2 cannot come here"),
        (Message(TARGET, 2, 3, 2), "target 2 box-3>box-2 came out of order, batch 0 was expected"),
        (Message(GRADIENT, 0, 3, 2), "gradient 0 box-3>box-2 cannot come here"),
        (Message(INCREMENT, 1, 1, 2), "increment 1 box-1>box-2 came out of order, batch 0 was expected"),
        (Message(INCREMENT, 0, 4, 2), "increment 0 head>box-2 cannot come here"),
        (Message(INCREMENT, 0, 2, 2), "increment 0 box-2>box-2 cannot come here"),
        (Message(CREDIT_ACTIVATION, 3, 3, 2), "credit:activation 3 box-3>box-2 gives back more than was sent"),
        (Message(CREDIT_ACTIVATION, 0, 3, 2), "credit:activation 0 box-3>box-2 gives back more than was sent"),
        (Message(CREDIT_INCREMENT, 3, 1, 2), "credit:increment 3 box-1>box-2 gives back more than was sent"),
        (Message(ACTIVATION, 3, 1, 3), "activation 3 box-1>box-3 is not for this stage"),
    ],
)
def test_a_refused_message_tells_what_was_expected(middle: Stage, message: Message, story: str) -> None:
    with pytest.raises(WireError) as caught:
        middle.receive(message)
    assert str(caught.value).startswith(f"box-2: {story}")


def test_a_target_cannot_come_before_its_forward(middle: Stage) -> None:
    middle.receive(Message(TARGET, 0, 3, 2))
    middle.receive(Message(TARGET, 1, 3, 2))
    with pytest.raises(WireError, match="target 2 box-3>box-2 came out of order, none yet was expected"):
        middle.receive(Message(TARGET, 2, 3, 2))


def test_no_more_comes_than_the_run_has() -> None:
    stage = Stage(make_plan("decoupled", boxes=1, batches=2), 2)
    for batch in range(2):
        stage.receive(Message(ACTIVATION, batch, 1, 2))
    with pytest.raises(WireError, match="no more was expected"):
        stage.receive(Message(ACTIVATION, 2, 1, 2))


# Credits


def test_credits_come_back_by_the_half_when_the_consuming_action_starts() -> None:
    stage = Stage(make_plan("decoupled", boxes=1, batches=6, window=2), 2)
    given = []
    for batch in range(6):
        stage.receive(Message(ACTIVATION, batch, 1, 2))
        given.append(stage.start(Action("F", batch)))
        stage.finish(Action("F", batch))
    credit = [Message(CREDIT_ACTIVATION, 2, 2, 1)]
    assert given == [[], credit, [], credit, [], credit]


def test_without_credit_no_forward_however_much_has_come() -> None:
    stage = Stage(make_plan("decoupled", boxes=1, batches=20, window=3, rule="frozen"), 1)
    for batch in range(6):
        stage.start(Action("F", batch))
        stage.finish(Action("F", batch))
    assert list(stage.enabled()) == []
    assert "credit" in str(stage.refusal(Action("F", 6)))
    stage.receive(Message(CREDIT_ACTIVATION, 3, 2, 1))
    assert list(stage.enabled()) == [Action("F", 6)]


def test_the_window_closes_before_the_credits_are_used_up() -> None:
    for window in (1, 2, 7):
        stage = Stage(make_plan("decoupled", boxes=3, batches=40, window=window), 1)
        while (action := next(stage.enabled(), None)) is not None:
            stage.start(action)
            stage.finish(action)
        assert stage.forwards == window
        assert min(stage.activation_credit, *stage.increment_credit.values()) > 0


# The end


@pytest.mark.parametrize("target", ["bootstrapped", "true"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_final_evaluation_follows_the_drain(tied: bool, target: str) -> None:
    plan = make_plan("decoupled", boxes=3, batches=3, chunks=2, window=2, tied=tied, target=target)
    network = Network(plan)
    for seed in range(10):
        network = Network(plan, schedules=whims(plan, seed))
        run_prompt(network)
        for stage, journal in network.journals.items():
            with telling(seed=seed, stage=stage):
                assert [str(action) for action in journal[-2:]] == ["E0", "E1"]


def test_the_final_evaluation_is_refused_until_the_last_increment_is_applied() -> None:
    stage = Stage(make_plan("decoupled", boxes=2, batches=1), 1)
    for action in (Action("F", 0), Action("T", 0)):
        if action.kind == "T":
            stage.receive(Message(TARGET, 0, 2, 1))
        stage.start(action)
        stage.finish(action)
    why = "the final evaluation follows the drain; waiting: increment 0 from box-2"
    assert stage.refusal(Action("E", 0)) == why
    stage.receive(Message(INCREMENT, 0, 2, 1))
    assert stage.refusal(Action("E", 0)) is not None
    stage.start(Action("U", 0, 2))
    stage.finish(Action("U", 0, 2))
    assert list(stage.enabled()) == [Action("E", 0)]
    assert not stage.is_done
    stage.start(Action("E", 0))
    assert stage.finish(Action("E", 0)) == [Message(EVALUATION, 0, 1, 2)]
    assert stage.is_done


def test_an_earlier_evaluation_stands_in_line_and_waits_for_no_drain() -> None:
    stage = Stage(make_plan("decoupled", boxes=2, batches=4, epoch_batches=2, window=4), 1)
    for batch in range(2):
        stage.start(Action("F", batch))
        stage.finish(Action("F", batch))
    assert stage.refusal(Action("F", 2)) == "E0 comes before F2"
    assert list(stage.enabled()) == [Action("E", 0)]


# What it waits for


def advanced(plan: Plan, number: int, *steps: Action | Message) -> Stage:
    """Return a stage after some messages and actions."""
    stage = Stage(plan, number)
    for step in steps:
        if isinstance(step, Message):
            stage.receive(step)
        else:
            stage.start(step)
            stage.finish(step)
    return stage


TIED, LOCKED = make_plan("article", boxes=2, batches=3), make_plan("locked", boxes=2, batches=3)
UNTIED = make_plan("decoupled", boxes=2, batches=9, window=2, tied=False)


@pytest.mark.parametrize(
    ("stage", "waits_for"),
    [
        (Stage(UNTIED, 3), "activation 0 from box-2"),
        (advanced(UNTIED, 1, Action("F", 0), Action("F", 1)), "target 0 from box-2"),
        (
            advanced(UNTIED, 2, Message(ACTIVATION, 0, 1, 2), Action("F", 0)),
            "gradient 0 from head; activation 1 from box-1",
        ),
        (advanced(TIED, 1, Action("F", 0)), "target 0 from box-2; increment 0 from box-2"),
        (advanced(LOCKED, 1, Action("F", 0)), "gradient 0 from box-2"),
    ],
)
def test_waiting_names_who_what_and_which_batch(stage: Stage, waits_for: str) -> None:
    assert stage.waiting() == waits_for


def test_a_stage_waits_for_no_gradient_of_a_batch_that_it_has_not_forwarded() -> None:
    """It is its own turn that comes first: to name the next stage would send whoever reads it to the wrong worker."""
    assert Stage(UNTIED, 2).waiting() == "activation 0 from box-1"
    assert Stage(UNTIED, 2).refusal(Action("T", 0)) == "F0 comes before T0"
    stage = advanced(LOCKED, 1, Action("F", 0), Message(GRADIENT, 0, 2, 1), Action("B", 0))
    assert "increment 0 from box-2" in stage.waiting()
    assert "gradient 1" not in stage.waiting()


def test_a_box_without_credit_waits_for_the_stage_that_owes_it() -> None:
    """A frozen box has no window: only the credits of a stopped head hold it up, and the story has to say so."""
    plan = make_plan("decoupled", boxes=1, batches=20, window=2, rule="frozen")
    stage = advanced(plan, 1, *(Action("F", batch) for batch in range(4)))
    assert "credit" in stage.waiting()
    assert "head" in stage.waiting()


def test_a_stage_that_is_done_waits_for_nothing() -> None:
    network = Network(make_plan("article", boxes=2, batches=1))
    run_prompt(network)
    assert {stage.waiting() for stage in network.stages.values()} == {"nothing: done"}
