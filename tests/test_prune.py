"""Clearing up: what is chosen goes, what goes on stays, and nothing that is no run is touched."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launch import prune, runs
from launch.cli import main
from launch.process import started_ticks
from pipeline.config import dump, resolve

pytestmark = pytest.mark.in_process

STATUSES = ("done", "failed", "done", "interrupted", "done")


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Five runs, the oldest 50 days old, the newest 10; beside them a link to a run, a file and a folder that is none."""
    parent = tmp_path / "runs"
    for n, status in enumerate(STATUSES):
        made = datetime.now(UTC) - timedelta(days=50 - 10 * n)
        folder = parent / f"{made:%Y%m%d-%H%M%S}-r{n}"
        (folder / "logs").mkdir(parents=True)
        (folder / "config.toml").write_text(dump(resolve(flags={"run.name": f"r{n}"})))
        (folder / "summary.json").write_text(json.dumps({"status": status}))
    outside = tmp_path / "outside"
    (outside / "logs").mkdir(parents=True)
    (outside / "config.toml").touch()
    (parent / "20200101-000000-link").symlink_to(outside)
    (parent / "20200101-000000-other").mkdir()
    (parent / "notes.txt").touch()
    runs.point_latest(parent, folder)
    return parent


def names(parent: Path) -> list[str]:
    return [folder.name[-2:] for folder in runs.all_runs(parent)]


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--keep", "2"], ["r3", "r4"]),
        (["--keep", "0"], []),
        (["--keep", "9"], ["r0", "r1", "r2", "r3", "r4"]),
        (["--failed"], ["r0", "r2", "r4"]),
        (["--older-than", "25"], ["r3", "r4"]),
        (["--older-than", "25", "--failed"], ["r0", "r2", "r3", "r4"]),
        (["--keep", "3", "--failed"], ["r0", "r2", "r3", "r4"]),
    ],
)
def test_what_is_chosen_goes_and_only_with_yes(
    words: list[str], left: list[str], shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = sorted(path.name for path in shelf.iterdir())
    assert main(["prune", *words, "--run.dir", str(shelf)]) == 0
    assert sorted(path.name for path in shelf.iterdir()) == everything
    dry = capsys.readouterr().out
    assert main(["prune", *words, "--run.dir", str(shelf), "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert all(row["run"] in dry for row in told["runs"])
    assert (names(shelf), told["left"]) == (left, len(left))
    assert {"20200101-000000-link", "20200101-000000-other", "notes.txt"} <= {path.name for path in shelf.iterdir()}
    assert (shelf.parent / "outside" / "config.toml").is_file()


def test_latest_is_the_newest_that_is_left(shelf: Path) -> None:
    newest = runs.all_runs(shelf)[-1]
    (newest / "summary.json").write_text(json.dumps({"status": "failed"}))
    assert main(["prune", "--failed", "--yes", "--run.dir", str(shelf)]) == 0
    assert (shelf / "latest").resolve().name.endswith("r2")
    assert main(["prune", "--keep", "0", "--yes", "--run.dir", str(shelf)]) == 0
    assert not (shelf / "latest").is_symlink()


def test_a_run_that_goes_on_stays(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = runs.all_runs(shelf)[0]
    (first / "summary.json").unlink()
    (first / "launcher.json").write_text(json.dumps({"pid": os.getpid(), "started_ticks": started_ticks(os.getpid())}))
    assert main(["prune", "--keep", "0", "--yes", "--run.dir", str(shelf)]) == 0
    assert names(shelf) == ["r0"]
    assert f"{first.name} goes on, and stays" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[tool]\nx = 1\n", "no TOML"])
@pytest.mark.parametrize("words", [["--failed"], ["--keep", "0"]])
def test_work_that_only_looks_like_a_run_stays(
    text: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any project may have a config.toml and logs; `--failed` took it for a run that cannot be read."""
    (tmp_path / "site" / "logs").mkdir(parents=True)
    (tmp_path / "site" / "config.toml").write_text(text)
    os.utime(tmp_path / "site" / "config.toml", (0, 0))
    assert main(["prune", *words, "--yes", "--run.dir", str(tmp_path)]) == 0
    assert "site has not the config.toml of a run, and stays" in capsys.readouterr().err
    assert (tmp_path / "site" / "config.toml").read_text() == text


def test_a_run_that_holds_somebodys_folder_stays(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = runs.all_runs(shelf)[0]
    (first / "runs").mkdir()  # as of `timebox run` in the run's folder
    assert main(["prune", "--keep", "0", "--yes", "--run.dir", str(shelf)]) == 0
    assert names(shelf) == ["r0"]
    assert f"{first.name} holds runs, which no run has, and stays" in capsys.readouterr().err


def test_a_run_that_may_be_about_to_begin_stays(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Between its folder and its launcher.json there is nothing by which it differs from one that died."""
    first, second = runs.all_runs(shelf)[:2]
    for folder in (first, second):
        (folder / "summary.json").unlink()
    os.utime(second / "config.toml", (0, 0))
    assert main(["prune", "--failed", "--yes", "--run.dir", str(shelf)]) == 0
    assert f"{first.name} may go on" in capsys.readouterr().err
    assert (first.is_dir(), second.is_dir()) == (True, False)


def test_a_run_that_is_taken_up_again_stays(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = runs.all_runs(shelf)[0]
    with runs.alone(first):
        assert main(["prune", "--keep", "0", "--yes", "--run.dir", str(shelf)]) == 0
    assert names(shelf) == ["r0"]
    assert "being resumed by another command" in capsys.readouterr().err


def test_where_the_folder_around_may_not_be_written_to_nothing_is_lost(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run's files were deleted one by one before its folder could not be: said to stay, it was empty."""

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path), None, str(target))

    monkeypatch.setattr(Path, "rename", refuse)
    before = sorted(shelf.rglob("*"))
    assert main(["prune", "--keep", "4", "--yes", "--run.dir", str(shelf)]) == 1
    told = capsys.readouterr()
    assert sorted(shelf.rglob("*")) == before
    assert told.out == "nothing was removed; 5 left\n"
    assert "r0 cannot be removed: " in told.err
    assert "Permission denied; what is left of it stays" in told.err


def test_what_cannot_be_removed_is_where_it_was(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path / "logs"))

    first = runs.all_runs(shelf)[0]
    monkeypatch.setattr(prune.shutil, "rmtree", refuse)
    assert main(["prune", "--keep", "4", "--yes", "--run.dir", str(shelf)]) == 1
    assert f"{first.name} cannot be removed: {first / 'logs'}: Permission denied" in capsys.readouterr().err
    assert first in runs.all_runs(shelf)
    assert not list(shelf.glob(".*"))


def test_the_newest_is_the_last_that_was_made_whatever_its_name(shelf: Path) -> None:
    """Names were compared: an old run called `simulated` was spared, and this morning's removed."""
    old = runs.all_runs(shelf)[0].rename(shelf / "simulated")
    os.utime(old, (0, 0))
    assert main(["prune", "--keep", "1", "--yes", "--run.dir", str(shelf)]) == 0
    assert names(shelf) == ["r4"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "--keep N, --older-than DAYS or --failed"),
        (["--keep", "-1"], "--keep: a number from 0 on is wanted"),
        (["--older-than", "nan"], "--older-than: a number from 0 on is wanted"),
        (["--keep", "some"], "--keep"),
    ],
)
def test_a_choice_that_is_none_is_refused(
    words: list[str], named: str, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", *words, "--yes", "--run.dir", str(shelf)]) == 2
    err = capsys.readouterr().err
    assert named in err
    assert err.count("\n") == 1
    assert len(names(shelf)) == 5


def test_a_folder_of_another_name_is_as_old_as_its_last_change(shelf: Path) -> None:
    other = runs.all_runs(shelf)[-1].rename(shelf / "mine")
    os.utime(other, (0, 0))
    assert [folder.name for folder in prune.chosen([other], prune.Choice(older_than=30))] == ["mine"]


def test_a_page_that_cannot_be_written_beside_its_run_is_told_with_the_command_that_can(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`open` once offered a flag --out, which it does not have."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert main(["open", "r4", "--print", "--run.dir", str(shelf)]) == 2
    told = capsys.readouterr().err
    assert "report.html: cannot be written there; `timebox report " in told
    assert "--out FILE.html` writes it elsewhere" in told
