"""The hostile driver: hundreds of seeds a schedule, and whatever the timing, the rules' promises hold. No arithmetic.

TIMEBOX_HOSTILE_SEEDS sets how many seeds each program gets; each window of the greedy schedule gets half.
"""

from __future__ import annotations

import os
import random

import pytest
from network import Network, Whim, check_history, make_plan, random_plan, run_hostile, schedules, telling, whims

from pipeline.actions import Action
from pipeline.stage import Stage

pytestmark = pytest.mark.in_process

SEEDS = int(os.environ.get("TIMEBOX_HOSTILE_SEEDS", "120"))
PROGRAMS = ["article", "locked", "gpipe", "1f1b", "delayed"]
SCHEDULES = [*((kind, 0) for kind in PROGRAMS), ("decoupled", 1), ("decoupled", 2), ("decoupled", 7)]


@pytest.mark.parametrize(("schedule", "window"), SCHEDULES)
def test_no_timing_brings_a_deadlock_or_breaks_a_bound(schedule: str, window: int) -> None:
    for seed in range(SEEDS // 2 if schedule == "decoupled" else SEEDS):
        plan = random_plan(random.Random(f"plan {schedule} {window} {seed}"), schedule, window)
        with telling(seed=seed, plan=plan):
            network = Network(plan, schedules=whims(plan, seed))
            run_hostile(network, seed)
            check_history(network)


@pytest.mark.parametrize("window", [1, 2, 7])
def test_the_greedy_schedule_itself_stands_any_timing(window: int) -> None:
    for seed in range(SEEDS // 8):
        plan = random_plan(random.Random(f"greedy {window} {seed}"), "decoupled", window)
        with telling(seed=seed, plan=plan):
            network = Network(plan, schedules=schedules(plan))
            run_hostile(network, seed)
            check_history(network)


@pytest.mark.parametrize("schedule", PROGRAMS)
def test_timing_never_changes_what_a_program_does(schedule: str) -> None:
    sums = schedule in ("article", "locked", "gpipe")
    plan = make_plan(schedule, boxes=3, batches=4, epoch_batches=2, tied=sums, micro=2 if schedule == "gpipe" else 1)
    journals = []
    for seed in range(SEEDS // 20 + 2):
        network = Network(plan)
        run_hostile(network, seed)
        journals.append(network.journals)
    assert all(journal == journals[0] for journal in journals)


def test_timing_does_change_what_a_greedy_schedule_does() -> None:
    """What is *not* promised, so that the other tests are known to shuffle at all."""
    plan = make_plan("decoupled", boxes=3, batches=6, window=3)
    journals = set()
    for seed in range(10):
        network = Network(plan, schedules=whims(plan, seed))
        run_hostile(network, seed)
        journals.add(network.journal("box-1"))
    assert len(journals) > 5


class Stopped:
    """A schedule that never takes anything: a process under SIGSTOP."""

    def choose(self, stage: Stage) -> Action | None:
        """Return nothing, whatever is enabled."""
        assert stage.is_head


@pytest.mark.parametrize(("tied", "target"), [(True, "bootstrapped"), (False, "bootstrapped"), (True, "true")])
@pytest.mark.parametrize("window", [1, 2, 7])
def test_with_the_head_stopped_boxes_fill_their_windows_and_go_no_further(window: int, tied: bool, target: str) -> None:
    plan = make_plan("decoupled", boxes=3, batches=40, window=window, tied=tied, target=target)
    for seed in range(5):
        network = Network(plan, schedules={k: Whim(random.Random(f"{seed} {k}")) for k in (1, 2, 3)} | {4: Stopped()})
        with pytest.raises(AssertionError, match="deadlock"), telling(seed=seed):
            run_hostile(network, seed)
        last = network.stages[3]
        assert last.forwards - last.settled == window
        assert last.waiting().split("; ")[0] == "gradient 0 from head"
        for number in (1, 2):
            stage = network.stages[number]
            assert stage.forwards - stage.settled == window
            assert stage.waiting().startswith("gradient" if target == "true" else f"target {stage.trained} from box-")
