"""Runs whose files are damaged: each command that reads one says so in a line, or goes on without what cannot be read."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import resolve, run
from launch.cli import main

pytestmark = pytest.mark.in_process

QUICK = {"model.width": 8, "data.train": 10, "train.epochs": 2, "run.plot": False, "checkpoint.every": 10}

#: Each file of a run by a pattern, and the commands that read it.
READ_BY = {
    "config.toml": ("list", "order", "stats", "report", "replay"),
    "summary.json": ("list", "stats", "report", "compare", "replay", "stacks", "stop", "logs --why"),
    "launcher.json": ("list", "order", "stacks", "stop", "logs --why"),
    "environment.json": ("report", "replay", "compare"),
    "logs/head.log": ("logs", "logs --why"),
    "journal/box-1.txt": ("order", "replay", "logs --why"),
    "journal/box-1.sums": ("replay",),
    "trace/box-1.trace": ("order", "stats", "report", "timeline", "simulate"),
    "metrics/metrics.jsonl": ("report", "compare"),
    "metrics/predictions.csv": ("report",),
    "metrics/oracle.csv": ("report", "stats"),
    "checkpoint/initial/box-1.npz": ("replay", "simulate"),
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda content: content[: len(content) // 2],
    "noise": lambda _: random.Random(1).randbytes(300),
    "other text": lambda _: b"hello\nworld\n",
    "no text": lambda content: content[:20] + b"\xff\xfe" + content[20:],
    "other document": lambda _: b'{"status": 5, "stages": 3, "epoch": "x"}\n',
    "null": lambda _: b"null\n",
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has happened to."""
    folder = tmp_path_factory.mktemp("sound") / "runs"
    made = run(resolve("article", flags={**QUICK, "run.dir": str(folder)})).folder
    state = json.loads((made / "launcher.json").read_text())
    # The launcher was this process: a run that cannot say how it ended would go on, and `stop` would end it.
    (made / "launcher.json").write_text(json.dumps({**state, "pid": None}))
    return made


def told(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return the exit code of a command on a run and what it said on standard error."""
    name, *flags = command.split()
    run_words = [folder.name] if name != "list" else []
    out = ["--out", str(folder.parent / "out.svg")] if name == "timeline" else []
    code = main([name, *run_words, *flags, *out, "--run.dir", str(folder.parent)])
    return code, capsys.readouterr().err


def holds(code: int, err: str) -> bool:
    """Whether a command went well, or said in one line what is wrong; without the words of a traceback."""
    lines = [line for line in err.splitlines() if line.startswith("timebox: ") and "warning: " not in line]
    return len(lines) == (code in (1, 2)) and not any(word in err for word in ("Traceback", "Errno", "Error:"))


@pytest.mark.parametrize("damage", ["missing", "a folder", *DAMAGES])
@pytest.mark.parametrize("file", READ_BY)
def test_a_damaged_file_is_told_in_a_line_or_gone_without(
    file: str, damage: str, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / sound.name
    shutil.copytree(sound, folder)
    path = folder / file
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(DAMAGES[damage](content))
    for command in READ_BY[file]:
        code, err = told(command, folder, capsys)
        assert holds(code, err) or (command == "replay" and code in (1, 3)), f"{command}: {code}: {err}"


def test_a_run_without_damage_is_read_by_all(sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the cases above would hold for commands that always fail."""
    folder = tmp_path / "runs" / sound.name
    shutil.copytree(sound, folder)
    for command in {command for commands in READ_BY.values() for command in commands}:
        code, err = told(command, folder, capsys)
        assert code == 0, f"{command}: {err}"
