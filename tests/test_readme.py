"""The README: nothing left open in it, its commands are those that the command line has."""

from __future__ import annotations

import re
from pathlib import Path

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
