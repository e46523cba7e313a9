"""Runs whose files are damaged: each command that reads one says so in a line, or goes on without what cannot be read."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import resolve, resuming, run
from launch.cli import main
from pipeline import trace
from pipeline.errors import ConfigError

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


#: Damages that leave a file readable, and make nonsense of something in it: the file, the damage, the commands that met it.
NONSENSE: dict[str, tuple[str, Callable[[bytes], bytes], tuple[str, ...]]] = {
    "a stage's name is a list": (
        "launcher.json",
        lambda _: b'{"stages": [{"name": [3]}]}',
        ("stop", "logs --why", "stacks"),
    ),
    "a stage's seal is a list": (
        "summary.json",
        lambda _: b'{"stages": [{"name": [3]}]}',
        ("stop", "replay", "compare"),
    ),
    "a figure is a word": ("summary.json", lambda _: b'{"seconds": "x", "accuracy": [3]}', ("list", "compare")),
    "bytes before an end": (
        "trace/box-1.trace",
        lambda content: _shifted(content, 32),
        ("report", "simulate", "stats"),
    ),
    "bytes before a batch": (
        "trace/box-1.trace",
        lambda content: _shifted(content, 4),
        ("report", "simulate", "stats"),
    ),
    "a clock is too far": ("trace/head.trace", lambda trace: _with_clock(trace, 10**40), ("report", "stats", "order")),
}


def _shifted(content: bytes, offset: int) -> bytes:
    """Put two bytes into a record in the middle of a trace."""
    begin = content.index(b"\n") + 1
    place = begin + (len(content) - begin) // trace.RECORD.size // 2 * trace.RECORD.size + offset
    return content[:place] + b"\xff\xfe" + content[place:]


def _with_clock(content: bytes, mono_ns: int) -> bytes:
    header, _, records = content.partition(b"\n")
    return json.dumps({**json.loads(header), "mono_ns": mono_ns}).encode() + b"\n" + records


@pytest.mark.parametrize(("file", "damage", "commands"), NONSENSE.values(), ids=NONSENSE)
def test_nonsense_in_a_file_that_can_be_read_is_told_or_gone_without(
    file: str,
    damage: Callable[[bytes], bytes],
    commands: tuple[str, ...],
    sound: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "runs" / sound.name
    shutil.copytree(sound, folder)
    (folder / file).write_bytes(damage((folder / file).read_bytes()))
    for command in commands:
        code, err = told(command, folder, capsys)
        assert holds(code, err) or (command == "replay" and code in (1, 3)), f"{command}: {code}: {err}"


@pytest.mark.parametrize("offset", [4, 32])
def test_a_trace_with_bytes_between_is_read_up_to_there(offset: int, sound: Path, tmp_path: Path) -> None:
    """What comes after is shifted; a record of it may look like one, of another year."""
    folder = tmp_path / "runs" / sound.name
    shutil.copytree(sound, folder)
    whole = trace.read_records(folder, "box-1").array
    path = trace.path_of(folder, "box-1")
    path.write_bytes(_shifted(path.read_bytes(), offset))
    _, left, faults, _ = trace.read_records(folder, "box-1")
    assert left.tolist() == whole[: len(whole) // 2].tolist()
    assert any("make no sense" in fault for fault in faults)


@pytest.mark.parametrize("kept", ["", "[train]", "[checkpoint]"])
def test_a_configuration_that_was_cut_costs_a_run_no_checkpoint(kept: str, sound: Path, tmp_path: Path) -> None:
    """Resumed with what is usual for what was lost, it would have been another run in the place of this one."""
    folder = tmp_path / "runs" / sound.name
    shutil.copytree(sound, folder)
    (folder / "summary.json").unlink()  # as if it had died
    path = folder / "config.toml"
    text = path.read_text()
    path.write_text(text[: text.index(kept)] if kept else "")
    with pytest.raises(ConfigError, match=r"config\.toml: was changed after batch-\d+ was saved; .* --anew"):
        resuming.prepare(folder)
    assert resuming.prepare(folder, anew=True).begin is None


@pytest.mark.parametrize("kept", ["", "[train]", "epochs"])
def test_a_configuration_that_was_cut_is_no_run_where_there_is_no_checkpoint_either(
    kept: str, sound: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / sound.name
    shutil.copytree(sound, folder, ignore=shutil.ignore_patterns("summary.json", "batch-*"))
    path = folder / "config.toml"
    assert resuming.prepare(folder).begin is None
    text = path.read_text()
    path.write_text(text[: text.index(kept)] if kept else "")
    first = {"": r"model\.\w+", "[train]": r"train\.epochs", "epochs": r"train\.epochs"}[kept]
    with pytest.raises(ConfigError, match=rf"config\.toml: lacks {first} and \d+ more: it was cut.* --anew"):
        resuming.prepare(folder)
    assert resuming.prepare(folder, anew=True).begin is None


@pytest.mark.parametrize("attempts", [7, "x", [3], [{"epoch": "x"}], None])
def test_attempts_that_cannot_be_read_keep_nothing_from_going_on(attempts: object, sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / sound.name
    shutil.copytree(sound, folder, ignore=shutil.ignore_patterns("summary.json"))
    path = folder / "launcher.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "attempts": attempts}))
    assert resuming.prepare(folder, anew=True).attempts == []


def test_a_run_without_damage_is_read_by_all(sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the cases above would hold for commands that always fail."""
    folder = tmp_path / "runs" / sound.name
    shutil.copytree(sound, folder)
    for command in {command for commands in READ_BY.values() for command in commands}:
        code, err = told(command, folder, capsys)
        assert code == 0, f"{command}: {err}"
