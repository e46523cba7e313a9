"""What a stage lacks, as a value: who is starved by whom, who is blocked, and what a greedy stage waits for."""

from __future__ import annotations

import pytest
from network import Network, make_plan, random_plan, whims
from test_stage import SCHEDULES, states

from pipeline.actions import ACTIVATION, CREDIT_ACTIVATION, TARGET, Action, Message
from pipeline.lacks import CREDIT, DRAIN, FORWARDED, MESSAGE, ORDER, WINDOW, Lack, awaited, explain
from pipeline.plan import Plan
from pipeline.schedules import make_schedule
from pipeline.stage import Stage


def test_starved_by_who_comes_before_and_blocked_by_who_comes_after() -> None:
    assert not Lack(MESSAGE, ACTIVATION, 3, 1).is_blocked(2)
    assert Lack(MESSAGE, TARGET, 3, 3).is_blocked(2)
    assert Lack(CREDIT, "increment", 3, 1).is_blocked(2), "whoever gives no room back blocks, wherever it stands"
    assert Lack(WINDOW, TARGET, 3, 3).is_blocked(2)


def test_only_a_message_from_somebody_is_waited_for() -> None:
    assert Lack(MESSAGE, ACTIVATION, 0, 1).is_wait
    assert not FORWARDED.is_wait
    assert not Lack(ORDER, "F", 3, 2).is_wait
    assert not Lack(DRAIN, "forward").is_wait


@pytest.mark.parametrize(("schedule", "window"), SCHEDULES)
def test_a_lack_and_its_words_say_the_same(schedule: str, window: int) -> None:
    """Where a lack names a message, the refusal's sentence ends in that message; where it does not, in none."""
    seen = set()
    for seed in range(30):
        for _, stage in states(schedule, window, seed):
            for lack in (stage.forward_lack(), stage.settle_lack(), stage.evaluate_lack(), stage.sum_lack()):
                if lack is None:
                    continue
                text = explain(stage, lack)
                assert text.endswith(awaited(stage, lack))
                if lack.is_wait:
                    name = stage.plan.name(lack.source)
                    assert text.endswith(f"from {name}")
                    assert lack.source != stage.number
                seen.add(lack.why)
    assert {MESSAGE, DRAIN} <= seen


@pytest.mark.parametrize(("schedule", "window"), SCHEDULES)
def test_who_waits_is_told_for_whom_and_who_does_not_wait_can_go_on(schedule: str, window: int) -> None:
    """In any state in which everything has arrived, a stage that its schedule lets rest lacks a message by name."""
    import random

    for seed in range(40):
        rng = random.Random(f"lack {schedule} {seed}")
        plan: Plan = random_plan(rng, schedule, window, most_boxes=4)
        network = Network(plan, schedules=whims(plan, seed))
        rests = 0
        for _ in range(3000):
            if network.is_done:
                break
            number = rng.choice(list(network.numbers))
            stage = network.stages[number]
            network.ports[number].deliver_all()
            if stage.is_done or network.move(number) is not None:
                continue
            own = network.schedules[number] if schedule != "decoupled" else make_schedule(plan, number)
            lack = own.lack(stage)
            assert lack is not None, stage.story()
            assert lack.is_wait, (lack, stage.story())
            assert lack.source in plan.sources(number)
            rests += 1
        assert network.is_done
        assert rests or plan.boxes == 1


def test_a_greedy_stage_waits_for_its_activation_while_it_could_take_one() -> None:
    """It lacks a gradient as well, but what keeps it from going on is that nothing comes."""
    stage = Stage(make_plan("decoupled", boxes=2, batches=9, window=2, tied=False), 2)
    stage.receive(Message(ACTIVATION, 0, 1, 2))
    stage.start(Action("F", 0))
    stage.finish(Action("F", 0))
    assert stage.intake() == Lack(MESSAGE, ACTIVATION, 1, 1)
    stage.receive(Message(ACTIVATION, 1, 1, 2))
    stage.start(Action("F", 1))
    stage.finish(Action("F", 1))
    assert stage.intake() == Lack(WINDOW, "gradient", 0, 3)


def test_a_greedy_stage_without_credit_waits_for_credit() -> None:
    plan = make_plan("decoupled", boxes=2, batches=50, window=3, tied=False)
    stage = Stage(plan, 1)
    for batch in range(2 * plan.window):
        stage.start(Action("F", batch))
        stage.finish(Action("F", batch))
        stage.receive(Message(TARGET, batch, 2, 1))
        stage.start(Action("T", batch))
        stage.finish(Action("T", batch))
    assert stage.intake() == Lack(CREDIT, ACTIVATION, 6, 2)
    stage.receive(Message(CREDIT_ACTIVATION, 3, 2, 1))
    assert stage.intake() is None


def test_at_the_end_a_greedy_stage_waits_for_what_is_left() -> None:
    plan = make_plan("decoupled", boxes=1, batches=2, window=2, tied=False)
    stage = Stage(plan, 1)
    for batch in range(2):
        stage.start(Action("F", batch))
        stage.finish(Action("F", batch))
    assert stage.intake() == Lack(MESSAGE, "gradient", 0, 2)
