"""The live view: shares from what workers say, a table on a terminal, lines elsewhere, nothing with --json."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from network import make_plan
from rich.console import Console

from launch.events import Heard
from launch.progress import Doing, Progress, lately
from launch.supervise import Supervisor


def supervisor() -> Supervisor:
    """Return the state of a run in which box-1 has said two things, box-2 one, the head none."""
    state = Supervisor(make_plan("decoupled", boxes=2, batches=500), 0.0)
    state.is_running = True
    return state


def say(state: Supervisor, stage: str, **body: object) -> None:
    state.handle(Heard(stage, "progress", body), 1.0)


def test_shares_are_of_the_time_between_two_words() -> None:
    before = {"at_s": 1.0, "busy_s": 0.5, "waits": {"blocked box-2": 0.2, "starved box-1": 0.1}}
    now = {"at_s": 2.0, "busy_s": 0.75, "waits": {"blocked box-2": 0.8, "starved box-1": 0.11}}
    assert lately(before, now) == Doing(0.25, "blocked by box-2", pytest.approx(0.6))


@pytest.mark.parametrize(
    ("before", "now"),
    [({}, {}), ({"at_s": 2.0}, {"at_s": 2.0}), ({"at_s": 2.0}, {"at_s": 1.0}), ({}, {"at_s": "nonsense"})],
)
def test_without_two_words_nothing_is_claimed(before: dict[str, object], now: dict[str, object]) -> None:
    assert lately(before, now) == Doing(None, "", 0.0)


def test_what_makes_no_sense_is_passed_over() -> None:
    assert lately({}, {"at_s": 1.0, "busy_s": None, "waits": {"blocked box-2": "long"}}) == Doing(0.0, "", 0.0)
    assert lately({"waits": 3}, {"at_s": 1.0, "busy_s": 9.0, "waits": []}) == Doing(1.0, "", 0.0)


def watched() -> tuple[Progress, Supervisor]:
    state = supervisor()
    progress = Progress(state.plan, quiet=False)
    say(state, "box-1", batch=100, at_s=1.0, busy_s=0.5, in_flight=3, waits={"blocked box-2": 0.1})
    progress(state)
    say(state, "box-1", batch=120, at_s=1.2, busy_s=0.55, in_flight=6, waits={"blocked box-2": 0.2})
    say(state, "box-2", batch=90, at_s=1.2, busy_s=1.1, in_flight=0, waits={}, cost=0.25)
    progress(state)
    return progress, state


def test_a_line_says_how_far_what_is_in_flight_and_for_whom_it_waits() -> None:
    progress, state = watched()
    assert progress.line(state) == (
        "of 500 batches: box-1 120 (6 in flight, 50% blocked by box-2) · box-2 90 · head 0 · cost 0.2500"
    )


def test_a_picture_has_a_row_a_stage_and_fits_eighty_columns() -> None:
    progress, state = watched()
    console = Console(file=io.StringIO(), width=80)
    console.print(progress.picture(state))
    assert isinstance(console.file, io.StringIO)
    lines = [line.strip() for line in console.file.getvalue().splitlines()]
    (box_1,) = (line for line in lines if line.startswith("box-1"))
    assert "120/500" in box_1
    assert "50% blocked by box-2" in box_1
    assert box_1.split()[-6:-4] == ["6", "25%"]
    assert any(line.startswith("head") for line in lines)
    assert any("cost 0.2500" in line for line in lines)
    assert max(map(len, lines)) <= 80


QUICK = ("--model.width", "16", "--train.epochs", "2", "--run.plot", "false", "--emulate.slow", "box-2=15")


def run_at(folder: Path, stderr: int, *words: str) -> None:
    command = [sys.executable, "-m", "launch", "run", *QUICK, "--run.dir", str(folder / "runs"), *words]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=stderr, timeout=60, check=True, env=environment)


def read_all(descriptor: int) -> str:
    """Return what comes from a terminal until its other end is closed."""
    found = b""
    with contextlib.suppress(OSError):  # how Linux says that nobody holds the other end any more
        while part := os.read(descriptor, 4096):
            found += part
    return found.decode()


@pytest.mark.live
def test_on_a_terminal_the_table_changes_in_place(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with ThreadPoolExecutor(1) as reader:
        found = reader.submit(read_all, ours)
        run_at(tmp_path, theirs)
        os.close(theirs)
        shown = found.result(timeout=30)
    os.close(ours)
    assert "in flight" in shown
    assert "by box-2" in shown
    assert "\x1b[1A" in shown, "it goes up again to draw over what it drew"


@pytest.mark.live
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_elsewhere_there_are_no_control_characters(tmp_path: Path, words: tuple[str, ...]) -> None:
    with (tmp_path / "err").open("wb") as err:
        run_at(tmp_path, err.fileno(), *words)
    assert b"\x1b" not in (tmp_path / "err").read_bytes()
