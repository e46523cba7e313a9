"""Where stages stand by their journals: the same as the stages themselves say, and who waits leads to who does not go on."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from network import Network, learns, make_plan, move_checked, random_plan, telling, whims

from pipeline.actions import Action
from pipeline.drive import take_in
from pipeline.plan import Plan
from pipeline.reckon import count, lack, next_action, reckon
from pipeline.schedules import make_schedule
from pipeline.standing import Standing

pytestmark = pytest.mark.in_process

SEEDS = 200
SCHEDULES = [
    ("article", 0),
    ("locked", 0),
    ("gpipe", 0),
    ("1f1b", 0),
    ("delayed", 0),
    ("decoupled", 1),
    ("decoupled", 2),
    ("decoupled", 7),
]
COUNTERS = (
    *("forwards", "settled", "trained", "evaluated", "applied"),
    *("activations", "evaluations", "backwards", "increments"),
    *("activation_credit", "increment_credit", "activation_owed", "increment_owed"),
)


def counters(standing: Standing) -> dict[str, object]:
    """Return all counters of a stage by their names."""
    return {name: getattr(standing, name) for name in COUNTERS}


def moves(network: Network, rng: random.Random, still: int = 0) -> Iterator[int]:
    """Move stages and deliver messages at random until nothing but stage `still` can go on; yields who moved."""
    numbers = [k for k in network.numbers if k != still for _ in range(rng.choice((1, 4, 12)))]
    idle = 0
    while idle < 200 or any(move_checked(network, k) for k in set(numbers)):
        number = rng.choice(numbers)
        for edge in network.edges.values():
            if edge.travelling and rng.random() < 0.3:
                edge.deliver(rng.randint(1, edge.travelling))
        idle = 0 if move_checked(network, number) else idle + 1
        if idle == 200:
            network.deliver_all()
        yield number


def take_in_all(network: Network) -> None:
    """Let everything arrive that was sent, without anybody doing anything."""
    network.deliver_all()
    for k in network.numbers:
        take_in(network.stages[k], network.ports[k], network.works[k])


def stopped_network(schedule: str, window: int, seed: int) -> tuple[Plan, Network, random.Random]:
    """Return a network that was stopped at some moment."""
    rng = random.Random(f"reckon {schedule} {window} {seed}")
    plan = random_plan(rng, schedule, window)
    network = Network(plan, schedules=whims(plan, seed))
    for _ in zip(range(rng.randint(0, 400)), moves(network, rng), strict=False):
        pass
    return plan, network, rng


@pytest.mark.parametrize(("schedule", "window"), SCHEDULES)
def test_the_counters_are_those_of_the_stages_once_everything_has_arrived(schedule: str, window: int) -> None:
    for seed in range(SEEDS):
        plan, network, _ = stopped_network(schedule, window, seed)
        take_in_all(network)
        with telling(seed=seed, plan=plan):
            for k, standing in reckon(plan, network.journals).items():
                assert counters(standing) == counters(network.stages[k]), plan.name(k)
                assert standing.is_done == network.stages[k].is_done
                if schedule != "decoupled" and not standing.is_done:
                    assert next_action(standing) == network.schedules[k].choose(network.stages[k])


@pytest.mark.parametrize(("schedule", "window"), SCHEDULES)
def test_journals_that_lag_behind_are_raised_to_what_the_others_imply_and_no_further(
    schedule: str, window: int
) -> None:
    for seed in range(SEEDS):
        plan, network, rng = stopped_network(schedule, window, seed)
        take_in_all(network)
        lagging = {k: journal[: rng.randint(0, len(journal))] for k, journal in network.journals.items()}
        with telling(seed=seed, plan=plan):
            found = reckon(plan, lagging)
            for k, standing in found.items():
                told, real = count(plan, k, lagging[k]), network.stages[k]
                for name in ("forwards", "trained", "evaluated"):
                    assert getattr(told, name) <= getattr(standing, name) <= getattr(real, name), name
                assert standing.settled <= standing.trained or learns(plan, k) in ("", "frozen", "local")
                assert all(told.applied[j] <= done <= real.applied[j] for j, done in standing.applied.items())
                assert_possible(standing)


def assert_possible(standing: Standing) -> None:
    """Assert that a stage can stand there: nothing was consumed that had not come, nothing sent without a credit."""
    plan = standing.plan
    assert standing.number == 1 or standing.forwards <= standing.activations
    assert standing.number == 1 or standing.evaluated <= standing.evaluations
    assert standing.settles_with is None or standing.trained <= standing.backwards <= standing.forwards
    assert all(standing.applied[k] <= came for k, came in standing.increments.items())
    assert standing.is_head or standing.forwards - standing.settled <= plan.window
    assert 0 <= standing.activation_credit <= plan.activation_credits
    assert all(0 <= credit <= plan.increment_credits for credit in standing.increment_credit.values())


@pytest.mark.parametrize("journal", [[], [Action("B", 0)] * 9, [Action("U", 3, 7), Action("E", 0)] * 99])
def test_a_journal_that_cannot_be_is_taken_for_what_can(journal: list[Action]) -> None:
    for schedule in ("article", "locked", "gpipe", "1f1b", "delayed", "decoupled"):
        plan = make_plan(schedule, boxes=3, batches=4, tied=schedule not in ("1f1b", "delayed"))
        for standing in reckon(plan, {2: journal}).values():
            assert_possible(standing)


@pytest.mark.parametrize(("schedule", "window"), SCHEDULES)
def test_from_any_stage_who_waits_leads_to_the_one_that_is_never_moved_again(schedule: str, window: int) -> None:
    found = 0
    for seed in range(SEEDS // 2):
        rng = random.Random(f"stuck {schedule} {window} {seed}")
        plan = random_plan(rng, schedule, window)
        network = Network(plan, schedules={k: make_schedule(plan, k) for k in range(1, plan.head + 1)})
        for _ in zip(range(rng.randint(0, 400)), moves(network, rng), strict=False):
            pass
        still = rng.randint(1, plan.head)
        for _ in moves(network, rng, still):
            pass
        network.deliver_all()
        assert not any(move_checked(network, k) for k in network.numbers if k != still), "at rest"
        with telling(seed=seed, plan=plan, still=still):
            standings = reckon(plan, network.journals)
            if standings[still].is_done:
                continue
            for k in (k for k in network.numbers if not standings[k].is_done):
                at, seen = k, set()
                while (waits := lack(standings[at])) is not None:
                    assert waits.is_wait, waits
                    assert at not in seen, "a circle"
                    seen.add(at)
                    at = waits.source
                assert at == still
                assert next_action(standings[at]) is not None
                found += 1
    assert found > SEEDS // 4
