"""Staleness from journals: by hand, against versions that the arithmetic tells, and zero where nothing is late."""

from __future__ import annotations

from collections import Counter

import pytest
from network import Network, make_config, make_plan, real_network, run_hostile, whims

from launch.staleness import Histogram, staleness, summary
from pipeline.actions import Action, parse_journal
from pipeline.plan import Plan


def counted(histogram: Histogram, unit: str = "updates") -> dict[int, int]:
    return {int(value): count for value, count in histogram[unit].items()}


def test_a_target_is_as_stale_as_the_updates_that_came_between() -> None:
    plan = make_plan("decoupled", boxes=2, batches=3, tied=False)
    found = staleness(plan, {1: parse_journal("F0 F1 F2 T0 T1 T2"), 2: parse_journal("F0 T0 F1 T1 F2 T2")})
    assert found[1] == {"target": {"updates": {"0": 1, "1": 1, "2": 1}, "batches": {"0": 1, "1": 1, "2": 1}}}
    assert found[2] == {"target": {"updates": {"0": 3}, "batches": {"0": 3}}}


def test_an_increment_is_as_stale_as_what_its_maker_had_not_seen() -> None:
    """Box 1 has made two steps of its own before it sees that box 2 made one without them."""
    plan = make_plan("decoupled", boxes=2, batches=2, tied=True)
    journals = {1: parse_journal("F0 F1 U2.0 U2.1 T0 T1"), 2: parse_journal("F0 U1.0 F1 U1.1 T0 T1")}
    found = staleness(plan, journals)
    assert counted(found[1]["increment"]) == {1: 1, 2: 1}
    assert counted(found[2]["increment"]) == {1: 1, 2: 1}
    assert counted(found[1]["increment"], "batches") == {1: 1, 0: 1}


def test_an_update_on_a_true_gradient_counts_the_updates_since_its_forward() -> None:
    plan = make_plan("locked", boxes=1, batches=3, tied=False)._replace(window=3)
    found = staleness(plan, {1: parse_journal("F0 F1 B0 F2 B1 B2")})
    assert counted(found[1]["update"]) == {0: 1, 1: 2}
    assert counted(found[1]["update"], "batches") == {1: 2, 0: 1}


def test_a_correction_counts_the_updates_since_the_one_that_it_repairs() -> None:
    plan = make_plan("decoupled", boxes=2, batches=2, tied=True, corrects=True)
    journals = {1: parse_journal("F0 F1 T0 C0 T1 C1 U2.0 U2.1 U2.2 U2.3"), 2: parse_journal("F0 T0 C0 U1.0 F1")}
    found = staleness(plan, journals)
    assert counted(found[1]["update"]) == {1: 2}, "its own early update is what it repairs"
    assert counted(found[1]["update"], "batches") == {1: 1, 0: 1}
    assert counted(found[1]["increment"], "batches") == {1: 2, 0: 1}, "box 2 had made two of batch 0 and one of batch 1"


def test_boxes_that_learn_from_a_classifier_or_late_share_increments_too() -> None:
    local = make_plan("decoupled", boxes=2, batches=2, tied=True, rule="local")
    found = staleness(local, {1: parse_journal("F0 F1 U2.0 U2.1"), 2: parse_journal("U1.0 F0 U1.1 F1")})
    assert counted(found[1]["increment"]) == {1: 1, 0: 1}
    late = make_plan("decoupled", boxes=2, batches=2, tied=True, rule="backward")
    found = staleness(late, {1: parse_journal("F0 F1 U2.0 B0 U2.1 B1"), 2: parse_journal("F0 B0 F1 B1 U1.0 U1.1")})
    assert counted(found[1]["update"]) == {1: 1, 3: 1}
    assert counted(found[1]["increment"]) == {0: 1, 1: 1}


@pytest.mark.parametrize("schedule", ["article", "locked"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("boxes", [1, 2, 4])
def test_in_the_order_of_one_process_nothing_is_stale(schedule: str, tied: bool, boxes: int) -> None:
    network = Network(make_plan(schedule, boxes=boxes, batches=6, tied=tied))
    run_hostile(network, seed=boxes)
    found = staleness(network.plan, network.journals)
    for box in found.values():
        for histogram in box.values():
            # With its targets at once no update of a later batch is between; others' updates of this batch may be.
            assert set(histogram["batches"]) == {"0"}
    if schedule == "locked":
        assert all(set(box["update"]["updates"]) == {"0"} for box in found.values())
    elif tied and boxes > 1:
        assert all(set(box["increment"]["updates"]) == {"0"} for box in found.values())


@pytest.mark.parametrize("seed", range(5))
def test_the_versions_that_the_arithmetic_tells_give_the_same_staleness(seed: int) -> None:
    """B's own parts say the version read and written: written − 1 − read updates came between."""
    config = make_config("locked", 3, {"model.tied": False})
    network = real_network(config)
    run_hostile(network, seed)
    told = {
        k: Counter(part.written - 1 - part.read for action, part in network.watchers[k].parts if action.kind == "B")
        for k in (1, 2, 3)
    }
    found = staleness(network.plan, network.journals)
    assert {k: counted(found[k]["update"]) for k in told} == {k: dict(counts) for k, counts in told.items()}


@pytest.mark.parametrize("seed", range(30))
def test_whatever_the_order_every_late_thing_is_counted_once(seed: int) -> None:
    plan = make_plan("decoupled", boxes=3, batches=8, window=1 + seed % 4)
    network = Network(plan, schedules=whims(plan, seed))
    run_hostile(network, seed)
    found = staleness(plan, network.journals)
    for box in found.values():
        assert sum(counted(box["target"]).values()) == plan.batches
        assert sum(counted(box["increment"]).values()) == 2 * plan.batches
        for histogram in box.values():
            assert sum(histogram["updates"].values()) == sum(histogram["batches"].values())
        # A box leads another one by at most its window for each place between them.
        assert max(counted(box["target"], "batches")) < plan.window


def test_a_journal_that_is_missing_or_ends_early_leaves_out_what_it_would_tell() -> None:
    plan: Plan = make_plan("decoupled", boxes=2, batches=3, tied=True)
    found = staleness(plan, {1: parse_journal("F0 F1 U2.0 T0")})
    assert "increment" not in found[1]
    assert counted(found[1]["target"]) == {2: 1}
    assert staleness(plan, {2: [Action("T", 5)]}) == {2: {}}


def test_the_summary_is_count_median_and_most() -> None:
    assert summary({"0": 5, "10": 4}) == {"count": 9, "median": 0, "most": 10}
    assert summary({"2": 1, "0": 1, "1": 1}) == {"count": 3, "median": 1, "most": 2}
    assert summary({}) == {"count": 0, "median": None, "most": None}


def test_an_update_by_micro_batches_that_flush_is_never_late() -> None:
    """Zero is what the order of one process would give, in updates and in batches."""
    plan = make_plan("gpipe", boxes=3, batches=8, micro=4, tied=False)
    network = Network(plan)
    run_hostile(network, 1)
    found = staleness(plan, network.journals)
    assert all(found[box]["update"] == {"updates": {"0": 2}, "batches": {"0": 2}} for box in (1, 2, 3))
