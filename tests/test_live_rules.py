"""Learning rules as processes: program runs to the reference's bits, decoupled runs replayed, and a run that flies off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_rules import CORRECTED, RULES

import launch
from launch.cli import main
from pipeline.config import resolve
from pipeline.schema import Config

pytestmark = [pytest.mark.live, pytest.mark.patient]


def tiny(folder: Path, schedule: str, rule: dict[str, Any]) -> Config:
    """Return a configuration of a rule that trains in well under a second once its processes are up."""
    network = {
        "model.boxes": 3,
        "model.width": 16,
        "data.train": 12,
        "data.test": 6,
        "data.batch": 2,
        "train.epochs": 2,
    }
    own = {"schedule.kind": schedule, "log.level": "info", "run.dir": str(folder), "run.plot": False}
    return resolve("article", flags=network | own | rule)


@pytest.mark.parametrize("rule", ["recipe", "local", "last", "adam"])
def test_by_article_processes_give_the_references_bits(rule: str, tmp_path: Path) -> None:
    config = tiny(tmp_path, "article", RULES[rule])
    live, alone = launch.run(config), launch.run(config, reference=True)
    assert live.digest == alone.digest is not None
    assert live.costs == alone.costs


@pytest.mark.parametrize("rule", ["recipe", "own", "noise", "delayed", "correct, clipped"])
def test_decoupled_processes_replay_to_the_same_bits(rule: str, tmp_path: Path) -> None:
    result = launch.run(tiny(tmp_path, "decoupled", (RULES | CORRECTED)[rule]))
    assert result.status == "done"
    assert result.replay()["same"]
    assert result.stats["stages"]


def test_a_run_that_flies_off_stops_at_once_and_says_which_box_batch_and_quantity(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [
        "run",
        "--preset",
        "digits",
        "--oracle.init",
        "random",
        "--train.rate_oracle",
        "5",
        "--train.rate_recurrent",
        "10",
    ]
    assert main([*words, "--model.width", "32", "--run.dir", str(tmp_path)]) == 1
    told = capfd.readouterr().err
    assert "the run has flown off: " in told
    assert "above train.limit 1e+06; smaller rates" in told
