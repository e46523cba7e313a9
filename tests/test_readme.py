"""The pages: nothing left open in them, their links lead somewhere, and their commands give what they show."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pages
import pytest

from launch.benches import BENCHES
from launch.cli import main
from launch.commands import COMMANDS

pytestmark = pytest.mark.patient

NAMES = [str(page.relative_to(pages.ROOT)) for page in pages.PAGES]


@pytest.fixture(params=pages.PAGES, ids=NAMES)
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_no_figure_is_left_open(page: Path) -> None:
    assert re.findall(r"\{[A-Z]+\}|TODO|FIXME|FIVE_", pages.read(page)) == []


def test_every_command_that_it_names_exists(page: Path) -> None:
    named = set(re.findall(r"`timebox ([a-z]+)", pages.read(page)))
    assert named
    assert named <= set(COMMANDS)


def test_all_commands_are_in_the_table() -> None:
    assert set(re.findall(r"`timebox ([a-z]+)", pages.section(pages.README, "All commands"))) == set(COMMANDS)


def anchors(page: Path) -> set[str]:
    """Return what a link into a page may point to: its headings, as pages of Markdown name them."""
    outside = re.sub(r"```.*?```", "", pages.read(page), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_link_leads_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", pages.read(page)) if "://" not in link]
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_two_commands_are_marked_for_machines() -> None:
    for mark in ("train", "tests"):
        assert re.search(rf"<!-- {mark} -->\n```sh\npython3 -m venv [^\n]+\n```", pages.read(pages.README))


def test_every_command_in_a_shell_block_is_one_that_can_be_given(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in COMMANDS:
        monkeypatch.setitem(COMMANDS, name, lambda _: 0)
    for line in pages.commands(pages.read(page)):
        words = shlex.split(line)
        if "timebox" in words:
            assert main(words[words.index("timebox") + 1 :]) == 0, line


def test_each_benchmark_has_a_block_on_one_page_for_its_table() -> None:
    found = re.findall(r"<!-- bench ([\w-]+) -->", "".join(map(pages.read, pages.PAGES)))
    assert sorted(found) == sorted(name for name in BENCHES if name not in ("start", "replay", "predict"))


def test_the_schedule_that_it_shows_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", "--schedule.kind", "1f1b", "--model.tied", "false"]) == 0
    assert capsys.readouterr().out.strip() in pages.read(pages.PAGES[1])


def test_the_refusal_that_it_shows_is_the_one_that_comes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("box-1: F0 F1 B1 B0\nbox-2: F0 B0\nhead: F0\n")
    assert (
        main(["run", "--schedule.file", str(file), "--model.tied", "false", "--run.dir", str(tmp_path / "runs")]) == 2
    )
    assert capsys.readouterr().err.replace(str(file), "mine.txt").strip() in pages.read(pages.PAGES[1])


def told(command: str, folder: Path) -> str:
    """Return what a command prints in a folder."""
    words = [sys.executable, "-m", "launch", *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace(f"{folder}/", "")


def missing(shown: str, told: str) -> list[str]:
    """Return the lines that are shown and were not told, but for other batches and what overlapped, which differ."""
    shapes = {pages.shape(line) for line in told.splitlines()}
    wanted = [line for line in shown.splitlines() if line not in ("", "…") and line.split()[0] not in "·…★☆"]
    return [line for line in wanted if pages.shape(line) not in shapes]


@pytest.mark.live
@pytest.mark.timeout(300)
def test_the_first_five_minutes_give_what_they_show(tmp_path: Path) -> None:
    first, order = (
        pages.blocks(pages.section(pages.README, name), "text")[0] for name in ("Two commands", "The eight steps")
    )
    assert missing(first, told("timebox run --train.epochs 20", tmp_path)) == []
    assert missing(order, told("timebox order --batch 910", tmp_path)) == []
    parts = pages.shown(pages.README)
    assert len(parts) == 8
    for command, shown in parts:
        assert missing(shown, told(command, tmp_path)) == [], command
