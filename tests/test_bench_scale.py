"""Ten thousand stages, in small: what is counted is what was done, and what is printed is what was counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launch import bench, bench_scale, control_load
from launch.bench_scale import Tally, chain, checked, make_costs, make_plan
from launch.environment import collect
from launch.live import launch
from launch.supervise import Supervisor
from pipeline import control
from pipeline.abreast import abreast
from pipeline.config import resolve
from pipeline.plan import Plan


@pytest.mark.parametrize(("schedule", "window"), [("decoupled", 2), ("decoupled", 0), ("1f1b", 0), ("locked", 1)])
@pytest.mark.parametrize("straggle", [0.0, 0.2])
def test_every_batch_is_done_once_at_every_stage(schedule: str, window: int, straggle: float) -> None:
    made = chain(schedule, 5, 30, window, 50.0, straggle)
    assert made["actions"] == 30 * (2 * 4 + 1)
    assert 0 <= made["idle"] < 1
    low, high = sorted(made["halves"])
    assert low <= made["rate"] <= high


def test_rates_without_stragglers_are_those_of_theory() -> None:
    """F and T take 20 ms each: 25 a second at most. 1f1b: a round trip through 2·(20 + 50) ms a stage for as many batches."""
    assert chain("decoupled", 20, 300, 0, 50.0, 0.0)["rate"] == pytest.approx(25, rel=0.02)
    assert chain("1f1b", 50, 600, 0, 50.0, 0.0)["rate"] == pytest.approx(1 / 0.140, rel=0.03)
    locked = chain("locked", 5, 6, 1, 50.0, 0.0)
    assert locked["rate"] == pytest.approx(1 / (9 * 0.020 + 8 * 0.050))
    assert (locked["first_s"], locked["all_s"]) == pytest.approx((5 * 0.020 + 4 * 0.050 + 0.070, 9 * 0.020 + 8 * 0.050))


def test_staleness_is_that_of_the_hand_computed_case() -> None:
    """Two stages, one box, hops of 50 ms, a window of 2; the head does each batch at once.

    ms     0   20   …   140  160  180  200   …     F0 at the head 70 – 90, its gradient is back at 140; F1 20 ms later
    box-1  F0  F1       T0   T1   F2   F3          T0 one batch late, T1 none, and so on: half of them 0, half 1
    head                F0   F1
    """
    plan = make_plan("decoupled", 2, 40, 2)
    tally = Tally(plan)
    abreast(plan, make_costs(plan, 50.0, 0.0), tell=tally.tell)
    found = tally.found()
    since, counted = plan.batches // 3, tally.late.tolist()
    assert len(counted) == 2
    assert abs(counted[0] - counted[1]) <= 1
    assert sum(counted) == plan.batches - 1 - since
    assert found["rate"] == pytest.approx(2 / 0.180, rel=0.05)
    assert found["first_s"] == found["all_s"] == pytest.approx(0.020)


def test_updates_of_1f1b_are_as_late_as_there_are_stages_behind() -> None:
    found = chain("1f1b", 6, 60, 0, 1.0, 0.1)
    assert found["most_late"] == 5
    assert found["late"] == 3


def test_both_ways_of_simulating_agree() -> None:
    assert checked(12, 20)["actions"] == 20 * (2 * 11 + 1)


def test_what_a_worker_is_made_to_say_is_a_progress_word() -> None:
    plan = control_load.make_plan(9)
    body = control_load.progress(plan, 4)
    assert control.missing("progress", body) is None
    assert set(body["sent"]) == set(body["come"]) == {"box-3", "box-5"}
    assert body["awaits_from"] == "box-3"


@pytest.mark.live
def test_a_real_worker_says_the_same_of_itself(tmp_path: Path) -> None:
    heard: dict[str, Any] = {}

    def observe(supervisor: Supervisor) -> None:
        heard.update(supervisor.members["box-2"].standing)

    flags = {
        "schedule.kind": "decoupled", "model.tied": False, "model.boxes": 3, "model.width": 16, "data.train": 30,
        "data.test": 1, "train.epochs": 1, "emulate.compute_ms": 20.0, "run.dir": str(tmp_path), "run.plot": False,
    }  # fmt: skip
    assert launch(resolve("article", flags=flags), observe=observe).status == "done"
    said = control_load.progress(control_load.make_plan(4), 2)
    assert said.keys() == heard.keys()
    assert said["sent"].keys() == heard["sent"].keys()


def test_tied_stages_say_more_the_more_there_are_and_untied_do_not() -> None:
    few, many = (control_load.sizes(stages, tied=False) for stages in (20, 200))
    assert many["progress"] - few["progress"] < 30
    few, many = (control_load.sizes(stages, tied=True) for stages in (20, 200))
    assert many["edges"] == 198
    assert many["peers"] > 9 * few["peers"]


def test_a_launcher_starts_and_hears_as_many_as_there_are() -> None:
    plan: Plan = control_load.make_plan(30)
    launcher = control_load.Launcher(plan)
    launcher.start()
    launcher.hear("box-7", control.encode("progress", control_load.progress(plan, 7)))
    assert launcher.supervisor.members["box-7"].batch == 12_345
    assert launcher.look() >= 0


@pytest.mark.live
def test_the_table_says_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_load, "STAGES", (3, 12))
    monkeypatch.setattr(control_load, "WORDS", 5)
    monkeypatch.setattr(bench_scale, "STAGES", (3, 12))
    for name, sizes in (("BATCHES", {3: 60, 12: 60}), ("LOCKED_BATCHES", {3: 4, 12: 4}), ("EVEN_BATCHES", 40)):
        monkeypatch.setattr(bench_scale, name, sizes)
    made = bench_scale.measure(2)
    assert made["control"]["taken"]["connections"] == 12
    text = bench.render(made | {"environment": collect()})
    assert "2 repeats" in text
    assert [line.split()[:3] for line in text.splitlines() if line.startswith("decoupled, 2")][1] == [
        "decoupled,", "2", "12",
    ]  # fmt: skip
    assert "by events: the same to the nanosecond" in text
    assert f"saturated: {1 / made['control']['taken']['own_s']['median']:,.0f} words/s" in text
