"""Virtual time: bubbles that can be computed by hand, and that every plan comes to its end."""

from __future__ import annotations

import random

import pytest
from network import make_plan, random_plan

from pipeline.errors import ScheduleError
from pipeline.plan import Plan
from pipeline.costs import Costs
from pipeline.simulate import simulate

MS = 1_000_000


def equal(plan: Plan, ms: int = 1, changed: dict[tuple[int, str], int] | None = None) -> Costs:
    """Return the same time for every F, B and T of the boxes and F of the head, but for what is changed."""
    times = {(k, kind): ms * MS for k in range(1, plan.head) for kind in "FBT"} | {(plan.head, "F"): ms * MS}
    return Costs({key: (ns,) for key, ns in (times | (changed or {})).items()})


@pytest.mark.parametrize("boxes", [1, 2, 3, 8])
@pytest.mark.parametrize("tied", [True, False])
def test_locked_has_one_batch_in_flight_and_nothing_overlaps(boxes: int, tied: bool) -> None:
    plan = make_plan("locked", boxes=boxes, batches=50, tied=tied)
    found = simulate(plan, equal(plan))
    assert found.makespan_ns == 50 * (2 * boxes + 1) * MS
    assert found.busy_ns == {k: 50 * (1 if k == plan.head else 2) * MS for k in range(1, plan.head + 1)}


@pytest.mark.parametrize("boxes", [1, 2, 5])
def test_decoupled_is_as_fast_as_its_slowest_stage(boxes: int) -> None:
    """F and T are 2 ms a batch in every box; the first box is never idle, the pipeline's ramp aside."""
    plan = make_plan("decoupled", boxes=boxes, batches=200, tied=False)
    found = simulate(plan, equal(plan))
    assert 400 * MS <= found.makespan_ns <= (400 + 2 * boxes + 2) * MS


def test_a_slow_box_holds_up_the_others() -> None:
    plan = make_plan("decoupled", boxes=3, batches=100, tied=False)
    found = simulate(plan, equal(plan, changed={(2, "F"): 20 * MS}))
    assert 100 * 21 * MS <= found.makespan_ns <= (100 * 21 + 10) * MS


def test_the_window_bounds_what_a_box_can_do_ahead() -> None:
    """With one batch in flight a decoupled box waits for each target: F1, F2 and T1 one after the other."""
    plan = make_plan("decoupled", boxes=2, batches=100, window=1, tied=False)
    assert simulate(plan, equal(plan)).makespan_ns >= 100 * 3 * MS


@pytest.mark.parametrize("schedule", ["article", "locked", "decoupled"])
def test_every_plan_comes_to_its_end(schedule: str) -> None:
    for seed in range(60):
        rng = random.Random(f"virtual {schedule} {seed}")
        plan = random_plan(rng, schedule, rng.choice((0, 1, 2)) if schedule == "decoupled" else 0)
        durations = Costs({(k, kind): (rng.randint(0, 5),) for k in range(1, plan.head + 1) for kind in "FTBUE"})
        found = simulate(plan, durations)
        assert found.makespan_ns >= max(found.busy_ns.values())
        assert found == simulate(plan, durations), "the same again"


def test_a_run_of_no_time_takes_none() -> None:
    assert simulate(make_plan("article", boxes=2, batches=3), Costs()).makespan_ns == 0


def test_a_standstill_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stage.Stage._finish_forward", lambda *_: [])
    with pytest.raises(ScheduleError, match="comes to a standstill in virtual time: did"):
        simulate(make_plan("locked", boxes=2, batches=3), Costs())
