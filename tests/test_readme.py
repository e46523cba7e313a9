"""The README: nothing left open in it, its commands are those that the command line has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launch.cli import main
from launch.commands import COMMANDS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_no_figure_is_left_open() -> None:
    assert re.findall(r"\{[A-Z]+\}|TODO|FIXME", README) == []


def test_every_command_that_it_names_exists() -> None:
    named = set(re.findall(r"`timebox (\w+)", README))
    assert named
    assert named <= set(COMMANDS)


def test_the_two_commands_are_marked_for_machines() -> None:
    for mark in ("train", "tests"):
        assert re.search(rf"<!-- {mark} -->\n```sh\npython3 -m venv [^\n]+\n```", README)


def test_the_schedule_that_it_shows_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", "--schedule.kind", "1f1b", "--model.tied", "false"]) == 0
    assert capsys.readouterr().out.strip() in README


def test_the_refusal_that_it_shows_is_the_one_that_comes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("box-1: F0 F1 B1 B0\nbox-2: F0 B0\nhead: F0\n")
    assert (
        main(["run", "--schedule.file", str(file), "--model.tied", "false", "--run.dir", str(tmp_path / "runs")]) == 2
    )
    assert capsys.readouterr().err.replace(str(file), "mine.txt").strip() in README
