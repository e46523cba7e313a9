"""Emulated slowness: what it asks for is what happens, and the waits of the neighbours tell it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from network import make_config, make_works

from launch import Config, recording, resolve, run, stats
from launch.cli import main
from pipeline.actions import Action
from pipeline.config import dump, load, parse_value
from pipeline.emulate import Slowed
from pipeline.errors import ConfigError

SLOW_MS = 20.0


def test_a_slowed_forward_takes_so_much_longer_and_nothing_else_does() -> None:
    work = make_works(make_config("article", 2))[1]
    slowed = Slowed(work, 30.0)
    began = time.perf_counter()
    parts = list(slowed.do(Action("F", 0)))
    assert time.perf_counter() - began >= 0.03
    assert [part.name for part in parts] == ["forward", "update"]
    assert slowed.outputs is work.outputs
    began = time.perf_counter()
    list(slowed.do(Action("E", 0)))
    assert time.perf_counter() - began < 0.03


def test_stages_and_milliseconds_come_from_flag_and_file(tmp_path: Path) -> None:
    assert parse_value("emulate.slow", "box-2=20,head=1.5", "flag") == {"box-2": 20.0, "head": 1.5}
    config = resolve("article", flags={"emulate.slow": {"box-2": 20.0}})
    (tmp_path / "config.toml").write_text(dump(config))
    assert load(tmp_path / "config.toml") == config


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("box-2", "name=value is wanted, or several with commas, not 'box-2'"),
        ("box-2=fast", "is wanted, not 'box-2=fast'"),
        ("box-2=-1", "is wanted, not 'box-2=-1'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse_value("emulate.slow", text, "flag")


def test_a_stage_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", "--emulate.slow", "box-3=20", "--run.dir", str(tmp_path / "runs")]) == 2
    assert "emulate.slow: 'box-3' is no stage of this run" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def slow_run(folder: Path, stage: str, schedule: str) -> dict[str, Any]:
    """Return the statistics of a run whose one stage takes 20 ms longer for each batch."""
    config: Config = resolve(
        "article",
        flags={
            "schedule.kind": schedule,
            "model.tied": False,
            "model.width": 64,
            "data.train": 50,
            "train.epochs": 2,
            "train.evaluate_every": 0,
            "log.level": "info",
            "emulate.slow": {stage: SLOW_MS},
            "run.dir": str(folder),
            "run.plot": False,
        },
    )
    return stats.document(recording.load(run(config).folder))


#: Who waits for a slow stage, by how it is slow: box-2's neighbours, and what each of them says of it.
NEIGHBOURS = {
    "box-1": [("box-2", "starved_s")],
    "box-2": [("box-1", "blocked_s"), ("head", "starved_s")],
    "head": [("box-2", "blocked_s")],
}


#: The machine is shared: a run that others disturb waits longer than it was made to, so there are some tries.
TRIES = 4


def faults(document: dict[str, Any], slow: str) -> list[str]:
    """Return what is wrong with what the neighbours of a slow stage say of it."""
    stages = {stage["name"]: stage for stage in document["stages"]}
    known, found = 100 * SLOW_MS / 1000, []
    for name, way in NEIGHBOURS[slow]:
        stage = stages[name]
        # It waits while the slow stage is slow, at least but for what it has to do itself meanwhile.
        own = stage["compute_s"] + stage["copy_s"] + stage["other_s"]
        waited = stage[way].get(slow, 0.0)
        if not 0.9 * (known - own) <= waited <= 1.1 * known:
            found.append(f"{name} {way} {slow} {waited:.3f}, of {known:.3f}, its own work {own:.3f}")
    for stage in stages.values():
        parts = sum(stage[key] for key in ("compute_s", "copy_s", "other_s", "missing_s"))
        parts += sum(stage["starved_s"].values()) + sum(stage["blocked_s"].values())
        if abs(parts / stage["total_s"] - 1) > 0.01 or stage["other_s"] > 0.1 * stage["total_s"]:
            found.append(f"{stage['name']}: {parts:.3f} of {stage['total_s']:.3f}, other {stage['other_s']:.3f}")
    return found + document["warnings"]


@pytest.mark.live
@pytest.mark.parametrize("slow", list(NEIGHBOURS))
@pytest.mark.parametrize("schedule", ["decoupled", "article"])
def test_the_neighbours_of_a_slow_stage_name_it_with_the_right_amount(tmp_path: Path, slow: str, schedule: str) -> None:
    """20 ms a batch, 100 batches: 2 s, within 10 % of which each neighbour says that it waited for this stage."""
    found = [faults(slow_run(tmp_path, slow, schedule), slow)]
    while found[-1] and len(found) < TRIES:
        found.append(faults(slow_run(tmp_path, slow, schedule), slow))
    assert not found[-1], found
