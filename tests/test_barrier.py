"""A barrier leaves nothing in flight: a run that goes on from any checkpoint does what was still to do, whatever the timing."""

from __future__ import annotations

import os
import random

import pytest
from network import LENGTH, Network, Paperwork, random_plan, run_hostile, schedules, telling, whims

from pipeline.actions import Action, Message, format_journal
from pipeline.programs import program
from pipeline.reckon import reckon, stage_after
from pipeline.schedules import Program, make_schedule

pytestmark = pytest.mark.in_process

SEEDS = int(os.environ.get("TIMEBOX_HOSTILE_SEEDS", "120")) // 2
PROGRAMS = ["article", "locked", "gpipe", "1f1b", "delayed"]


def resumed(network: Network, save: int, seed: int) -> Network:
    """Return a network that stands where another one was after a checkpoint."""
    plan = network.plan
    first = plan.barrier(save)
    again = Network(plan, schedules={k: make_schedule(plan, k, first) for k in network.numbers})
    if plan.schedule == "decoupled":
        again = Network(plan, schedules=whims(plan, seed))
    again.stages |= {k: stage_after(plan, k, save) for k in network.numbers}
    one = again.works[1]
    assert isinstance(one, Paperwork)
    for number in range(plan.lengths_before(first - 1), plan.lengths_after(first)):  # box 1 has saved them
        one.kept.add(Message(LENGTH, number, plan.head, 1))
    return again


@pytest.mark.parametrize("grows", [False, True])
@pytest.mark.parametrize(
    ("schedule", "window"), [*((kind, 0) for kind in PROGRAMS), ("decoupled", 1), ("decoupled", 4)]
)
def test_what_is_left_after_a_checkpoint_is_done_after_it(schedule: str, window: int, grows: bool) -> None:
    tried = 0
    for seed in range(SEEDS):
        rng = random.Random(f"barrier {schedule} {window} {seed} {grows}")
        plan = random_plan(rng, schedule, window, grows=grows and schedule in ("article", "decoupled"))
        if not plan.saves:
            continue
        with telling(seed=seed, plan=plan):
            network = Network(plan, schedules=whims(plan, seed))
            run_hostile(network, seed)
            save = rng.randrange(plan.saves)
            again = resumed(network, save, seed + 1)
            run_hostile(again, seed + 1)
            assert again.leftovers() == []
            for k, journal in network.journals.items():
                cut = journal.index(Action("S", save)) + 1
                rest = again.journals[k]
                assert sorted(rest) == sorted(journal[cut:]), format_journal(rest)
                if schedule != "decoupled":
                    assert rest == journal[cut:]
            tried += 1
            # The whole is a run as any other: what was done before, and what was done after the fault, replays.
            whole = {k: [*j[: j.index(Action("S", save)) + 1], *again.journals[k]] for k, j in network.journals.items()}
            replay = Network(plan, schedules={k: Program(journal) for k, journal in whole.items()})
            run_hostile(replay, seed + 2)
            assert replay.journals == whole
    assert tried > SEEDS // 4


@pytest.mark.parametrize("schedule", [*PROGRAMS, "decoupled"])
def test_a_stage_after_a_checkpoint_is_what_its_journals_say(schedule: str) -> None:
    for seed in range(SEEDS):
        plan = random_plan(random.Random(f"after {schedule} {seed}"), schedule, 3)
        if not plan.saves:
            continue
        with telling(seed=seed, plan=plan):
            network = Network(plan, schedules=schedules(plan))
            run_hostile(network, seed)
            save = plan.saves - 1
            cut = {k: j[: j.index(Action("S", save)) + 1] for k, j in network.journals.items()}
            standings = reckon(plan, cut)
            for k, standing in standings.items():
                after = vars(stage_after(plan, k, save))
                assert {key: value for key, value in after.items() if key != "history"} == {
                    key: value for key, value in vars(standing).items() if key != "history"
                }


@pytest.mark.parametrize("schedule", PROGRAMS)
def test_a_program_goes_on_behind_a_checkpoint(schedule: str) -> None:
    for seed in range(SEEDS):
        plan = random_plan(random.Random(f"program {schedule} {seed}"), schedule)
        for k in range(1, plan.head + 1):
            whole = list(program(plan, k))
            for save in range(plan.saves):
                cut = whole.index(Action("S", save)) + 1
                assert list(program(plan, k, plan.barrier(save))) == whole[cut:]
