"""Runs that are killed and go on, as real processes: `timebox resume` and `--recover`. `timebox bench kills` does it often."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_chaos import ENDLESS, launched, summary, until

from launch import bench_kills, runs
from pipeline.actions import Action, parse_journal
from pipeline.trace import read_journal

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what each schedule comes to when nobody disturbs it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return {schedule: bench_kills.undisturbed(schedule, folder) for schedule in bench_kills.SCHEDULES}


# By these numbers: the launcher in article, a box in locked, the head in 1f1b with --recover, the head in decoupled.
@pytest.mark.parametrize("number", [8, 1, 14, 7])
def test_a_killed_run_survives(number: int, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    row = bench_kills.kill(number, tmp_path, undisturbed)
    assert row["survived"], row


def timebox(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "launch", *map(str, words)], capture_output=True, text=True, check=False, timeout=60
    )


def test_what_cannot_go_on_is_told_in_one_line(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, "--checkpoint.every", "50") as run:
        run.running()
        where = ("--run.dir", tmp_path / "runs")
        refused = timebox("resume", "latest", *where)
        assert refused.returncode == 2
        assert "is running" in refused.stderr
        assert refused.stderr.count("\n") == 1
        run.process.send_signal(signal.SIGINT)
        run.wait(10)
    assert timebox("resume", "latest", *where, "--recover", "-1").returncode == 2
    assert timebox("resume", "nothing", *where).returncode == 2


def test_an_interrupted_run_goes_on_and_keeps_what_was_cut_off(tmp_path: Path) -> None:
    flags = ("--train.epochs", "30", "--checkpoint.every", "200", "--log.level", "info")
    with launched(tmp_path, *flags) as run:
        until("a checkpoint", lambda: list(run.folder.glob("checkpoint/batch-*/manifest.json")))
        run.process.send_signal(signal.SIGINT)
        assert run.wait(10) == 130
    interrupted = {stage: read_journal(run.folder, stage) for stage in ("box-1", "box-2", "head")}
    # A newer checkpoint that is damaged is told, and the one before is taken.
    *_, last = sorted(run.folder.glob("checkpoint/batch-*/manifest.json"))
    shutil.copytree(last.parent, last.parent.with_name("batch-000001400"))
    done = timebox("resume", "latest", "--run.dir", tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["status"] == "done"
    assert document["resumed_from"] == int(last.parent.name[6:])
    assert "batch-000001400" in done.stderr
    assert runs.describe(run.folder)["resumed_from"] == document["resumed_from"]
    for stage, before in interrupted.items():
        after = read_journal(run.folder, stage)
        aside = run.folder / "journal" / "epoch-0" / f"{stage}.txt"
        assert after[: len(before)] == before, "a program does the same again"
        cut = after.index(Action("S", document["resumed_from"] // 200 - 1)) + 1
        assert parse_journal(aside.read_text()) == before[cut:] if before[cut:] else not aside.exists()
        assert (run.folder / "trace" / "epoch-0" / f"{stage}.trace").is_file()
    assert (run.folder / "summary.epoch-0.json").is_file()
    assert not (run.folder / "checkpoint" / "interrupted").exists()
    epochs = [json.loads(line)["epoch"] for line in (run.folder / "metrics" / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, 31))
    same = timebox("replay", "latest", "--run.dir", tmp_path / "runs", "--json")
    assert json.loads(same.stdout)["same"] is True
    again = timebox("resume", "latest", "--run.dir", tmp_path / "runs")
    assert again.returncode == 2
    assert "is done" in again.stderr


def test_without_a_checkpoint_it_begins_anew_and_says_so(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", "20", "--log.level", "info", "--json") as run:
        os.kill(run.running()["head"], signal.SIGKILL)
        assert run.wait(10) == 1
    done = timebox("resume", "latest", "--run.dir", tmp_path / "runs", "--json")
    assert "there is no complete checkpoint" in done.stderr
    document = json.loads(done.stdout)
    assert (document["status"], document["resumed_from"], document["attempts"]) == ("done", 0, 2)


def test_recovery_is_told_and_ends_when_none_is_left(tmp_path: Path) -> None:
    flags = ("--train.epochs", ENDLESS, "--checkpoint.every", "100", "--recover", "1", "--log.level", "info")
    with launched(tmp_path, *flags) as run:
        until("a checkpoint", lambda: list(run.folder.glob("checkpoint/batch-*/manifest.json")))
        first = run.pids
        os.kill(first["box-1"], signal.SIGKILL)
        second = until("restarted", lambda: run.pids if run.pids["box-1"] != first["box-1"] else None)
        assert {name: second[name] for name in ("box-2", "head")} == {name: first[name] for name in ("box-2", "head")}
        log = run.folder / "logs" / "head.log"
        until("all go on", lambda: any('"go"' in line and '"epoch": 1' in line for line in log.open()))
        os.kill(second["head"], signal.SIGKILL)
        assert run.wait(20) == 1
    told = run.errors.read_text().splitlines()
    assert any("box-1, at batch" in line and "restarted, and all go on from batch" in line for line in told)
    assert any(line.startswith("timebox: head (process") for line in told)
    assert any("timebox resume" in line for line in told)
    document = summary(run)
    assert document["status"] == "failed"
    assert [each["stage"] for each in document["recoveries"]] == ["box-1"]
    assert document["attempts"] == 2
