"""Where people run it: a strange locale, folder and terminal, a reader that is slow or gone, what may not be written to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

import pytest
from network import make_plan

from launch import progress
from launch.cli import main
from launch.events import Heard
from launch.supervise import Supervisor
from launch.text import fold

ROOT = Path(__file__).parents[1]
TINY = ("--model.width", "8", "--train.epochs", "2", "--run.plot", "false")
#: What keeps a run of `TINY` going for a second or two.
SLOWER = ("--emulate.compute_ms", "5")
COLUMNS = 80
DEADLINE_S = 60.0


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the whole environment of a command; by TMPDIR a test's workers are known."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    given = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), "TMPDIR": os.environ["TMPDIR"]}
    return given | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"} | more


def timebox(folder: Path, *words: str, before: tuple[str, ...] = (), **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-m", "launch", *words], cwd=folder, env=environment(folder.parent, **more),
        capture_output=True, encoding="ascii", timeout=DEADLINE_S, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with a blank and letters of elsewhere in its path, and what a run there said without a terminal."""
    folder = tmp_path_factory.mktemp("trial") / "time box été 試"
    folder.mkdir()
    return folder, timebox(folder, "run", *TINY)


@pytest.mark.live
def test_a_run_goes_well_in_an_ascii_locale_and_any_folder(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, ended = ran
    assert ended.returncode == 0, ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "20 test images" in ended.stdout
    assert re.search(r"^-+(  -+)+$", ended.stdout, re.MULTILINE), "a table's rule is of the characters that there are"
    assert (folder / "runs" / "latest" / "summary.json").is_file()


@pytest.mark.live
@pytest.mark.parametrize(
    ("words", "shows"),
    [
        (("order", "--batch", "3"), "weights that had changed before that"),
        (("stats",), "critical path"),
        (("list",), "done"),
        (("report",), "report.html"),
        (("schedule", "--schedule.kind", "gpipe"), "box-1: F0"),
        (("run", "--run.dir", "été"), "run.dir"),
    ],
)
def test_commands_speak_plainly_in_an_ascii_locale(
    ran: tuple[Path, subprocess.CompletedProcess[str]], words: tuple[str, ...], shows: str
) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "launch", *words], cwd=ran[0], env=environment(ran[0].parent), capture_output=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    text = (said.stdout + said.stderr).decode()  # a path's own bytes stay what they are
    assert shows in text
    assert "Traceback" not in text
    assert said.returncode == (2 if "été" in words else 0), text


class Terminal:
    """Both ends of a terminal of 80 columns."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))

    def read(self) -> str:
        """Return what comes until nobody holds the other end any more."""
        found = b""
        with contextlib.suppress(OSError):  # how Linux says so
            while part := os.read(self.ours, 65536):
                found += part
        return found.decode()

    def fill(self) -> None:
        """Let whoever writes next wait until somebody reads."""
        os.set_blocking(self.theirs, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.theirs, b"." * 64)
        os.set_blocking(self.theirs, True)

    def close(self) -> None:
        for number in (self.ours, self.theirs):
            with contextlib.suppress(OSError):
                os.close(number)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def widest(text: str) -> int:
    return max(len(line) for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)))


def start(folder: Path, terminal: Terminal, stdout: int, *words: str, **more: str) -> subprocess.Popen[bytes]:
    env = environment(folder, LC_ALL="C.UTF-8", TERM="xterm", **more)
    command = [sys.executable, "-m", "launch", "run", *TINY, *words]
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=stdout, stderr=terminal.theirs)
    os.close(terminal.theirs)
    return process


@pytest.mark.live
def test_a_run_fits_a_terminal_of_eighty_columns(tmp_path: Path, terminal: Terminal) -> None:
    process = start(tmp_path, terminal, terminal.theirs)
    shown = terminal.read()
    assert process.wait(DEADLINE_S) == 0, shown
    assert "in flight" in shown, "the table that changes in place"
    assert "look into it" in shown
    assert widest(shown) <= COLUMNS


@pytest.mark.live
@pytest.mark.parametrize(
    "words", [("stats",), ("order", "--batch", "3"), ("list",), ("schedule", "--schedule.kind", "gpipe")]
)
def test_what_is_told_of_it_fits_too(
    ran: tuple[Path, object], words: tuple[str, ...], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ran[0])
    monkeypatch.delenv("COLUMNS", raising=False)
    with open(terminal.theirs, "w", encoding="utf-8") as stream, monkeypatch.context() as inside:  # noqa: PTH123
        inside.setattr(sys, "stdout", stream)
        assert main(words) == 0
    shown = terminal.read()
    assert len(shown) > COLUMNS
    assert widest(shown) <= COLUMNS
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("surroundings", "draws"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({}, False)],
)
def test_progress_is_plain_lines_where_the_terminal_cannot_or_may_not_draw(
    surroundings: dict[str, str], draws: bool, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    monkeypatch.setattr(progress, "PICTURE_S", 0.0)
    with open(terminal.theirs, "w", encoding="utf-8") as stream, monkeypatch.context() as inside:  # noqa: PTH123
        assert isinstance(stream, TextIOWrapper)
        inside.setattr(sys, "stderr", stream)
        state = Supervisor(make_plan("decoupled", boxes=9, batches=500), 0.0)
        state.is_running = True
        for at_s, blocked_s in ((1.0, 0.1), (2.0, 0.6)):
            for stage in state.members:
                waits = {"blocked box-2": blocked_s}
                said = {"batch": 100, "at_s": at_s, "busy_s": at_s / 2, "in_flight": 3, "waits": waits}
                state.handle(Heard(stage, "progress", said), 1.0)
            with progress.Progress(state.plan, quiet=False) as shown:
                shown(state)
        with progress.Share("a long word for what is done " * 4, quiet=False) as share:
            share(1, 3)
    text = terminal.read()
    assert "box-9" in text
    assert widest(text) <= COLUMNS
    assert ("\x1b" in text) == draws


@pytest.mark.live
def test_a_run_ends_well_when_its_reader_has_gone(tmp_path: Path, terminal: Terminal) -> None:
    """`timebox run 2>&1 | head` once ended the launcher at the first line of progress after that, with exit code 0."""
    ours, theirs = os.pipe()
    process = start(tmp_path, terminal, theirs, *SLOWER)
    os.close(theirs)
    assert os.read(terminal.ours, 1), "it shows where it is"
    os.close(ours)
    os.close(terminal.ours)
    assert process.wait(DEADLINE_S) == 0
    assert '"status": "done"' in (tmp_path / "runs" / "latest" / "summary.json").read_text()


@pytest.mark.live
def test_workers_do_not_wait_for_who_reads_the_terminal(tmp_path: Path, terminal: Terminal) -> None:
    """As after Ctrl-S, or behind a slow line: the launcher cannot say a word until all is trained."""
    terminal.fill()
    with (tmp_path / "out").open("wb") as out:
        process = start(tmp_path, terminal, out.fileno(), *SLOWER)
    journal = tmp_path / "runs" / "latest" / "journal" / "head.txt"
    deadline = time.monotonic() + DEADLINE_S
    while not (journal.is_file() and re.search(r"\bF99\b|E1\b", journal.read_text())):
        assert time.monotonic() < deadline, "the head has not come to the last batch"
        assert process.poll() is None
        time.sleep(0.05)
    shown = terminal.read()
    assert process.wait(DEADLINE_S) == 0, shown
    assert "done in" in (tmp_path / "out").read_text()


def _without_rights() -> tuple[str, ...]:
    """Return what stands before a command so that what may not be written cannot be written: root may write everything."""
    if os.geteuid():
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv, or another user than root")
    words = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
    if subprocess.run([*words, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to give up rights")
    return words


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that may not be written to, whose files may not either: the package."""
    folder = tmp_path / "in stallation"
    for name in ("pipeline", "launch"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    yield folder
    for path in paths:
        path.chmod(path.stat().st_mode | 0o200)


@pytest.mark.live
def test_an_installation_and_a_folder_may_be_read_only(locked: Path, tmp_path: Path) -> None:
    before = _without_rights()
    free = tmp_path / "free"
    free.mkdir()
    ended = timebox(free, "run", *TINY, before=before, PYTHONPATH=str(locked))
    assert ended.returncode == 0, ended.stderr
    assert not [*locked.rglob("__pycache__")], "or it was not read-only"
    refused = timebox(locked, "run", *TINY, before=before, PYTHONPATH=str(locked))
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert f"{locked} is read-only; choose another folder with --run.dir" in refused.stderr


def test_prose_is_folded_at_words_and_stands_under_what_it_belongs_to() -> None:
    assert fold("short", 10) == "short"
    assert fold("one two three four", 10) == "one two\n  three\n  four"
    assert fold("  kind   aa bb cc dd", 18) == "  kind   aa bb cc\n         dd"
    assert fold("a " + "b" * 20, 10) == "a\n  " + "b" * 20, "a path stays whole, to be copied"
