"""The command line's shape: help with examples, the version, one module or script, and no heavy import on the way."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

import pipeline
from launch import cli, commands
from launch.cli import main
from pipeline.config import fields

pytestmark = pytest.mark.in_process

COMMANDS = (
    *("run", "list", "logs", "order", "stats", "timeline", "report", "compare", "sweep", "replay", "simulate"),
    *(
        "schedule",
        "stability",
        "doctor",
        "bench",
        "stacks",
        "stop",
        "open",
        "export",
        "import",
        "prune",
    ),
)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return what a command prints that ends by itself, with white space made equal."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    return " ".join(out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_ends_with_an_example_of_flags_it_has(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, command, "--help")
    assert text.startswith(f"usage: timebox {command}")
    usage, *examples = text.split("example: ")
    (example,) = (words for words in map(str.split, examples) if words[:2] == ["timebox", command])
    for flag in (word for word in example if word.startswith("--")):
        assert re.search(rf"{re.escape(flag)}[ ,\]]", usage), f"the example uses {flag}, which the command has not"
    assert "--json" in usage


def test_every_example_of_a_help_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in commands.COMMANDS:
        monkeypatch.setitem(commands.COMMANDS, name, lambda _: 0)
    examples = [text.partition("example: ")[2] for text in cli.EPILOGS.values()]
    lines = [line.partition(" > ")[0] for text in examples for line in text.split("; ")]
    assert len(lines) >= len(commands.COMMANDS)
    for line in lines:
        first, *words = shlex.split(line)
        assert (first, main(words)) == ("timebox", 0), line


def test_the_help_of_every_command_fits_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ([], *([name] for name in commands.COMMANDS)):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def test_the_usage_of_a_command_that_takes_all_keys_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    usage, _, options = capsys.readouterr().out.partition("\n\n")
    assert "[--GROUP.KEY VALUE]" in usage
    assert len(usage.splitlines()) < 8
    assert "--model.width" in options


def test_an_example_stands_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["schedule", "--help"])
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first == "example: timebox schedule --schedule.kind 1f1b --model.tied false > mine.txt"
    assert second == "example: timebox run --schedule.file mine.txt --model.tied false"


def test_the_commands_under_test_are_all_there_are() -> None:
    assert {*COMMANDS, "join", "resume"} == set(commands.COMMANDS)  # those two have tests of their own


@pytest.mark.parametrize("words", [[], ["--help"]], ids=["bare", "help"])
def test_help_lists_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if words:
        text = shown(capsys, *words)
    else:
        assert main([]) == 0
        text = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", text)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in ("bench", "sweep")])
def test_commands_that_look_at_runs_take_their_folder(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--run.dir" in shown(capsys, command, "--help")


def _default(value: object) -> str:
    if value is None:
        return "by schedule"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value in ("", {}) else str(value)


@pytest.mark.parametrize(("key", "default"), [(field.key, field.default) for field in fields()])
def test_help_of_run_tells_every_key_with_its_default(
    key: str, default: object, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, told = shown(capsys, "run", "--help").partition("options:")
    entry = next(part for part in told.split(" --") if part.startswith(f"{key} "))
    assert re.search(rf" \({re.escape(_default(default))}(; preset article: \S+)?\)", entry)


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "--version") == f"timebox {pipeline.__version__}"


def test_the_module_answers_as_the_command_does() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "launch", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == f"timebox {pipeline.__version__}\n"
    assert ended.stderr == ""


def test_the_module_exits_with_the_commands_code() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "launch", "run", "--preset", "nope"], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "code",
    [
        "import launch",
        "import launch.cli",
        "from launch import Config, run; Config()",
        "import launch.cli; launch.cli.main(['list', '--run.dir', 'nowhere'])",
        "import launch.cli; launch.cli.main(['run', '--preset', 'nope'])",
    ],
)
def test_numpy_is_not_imported_before_it_is_needed(code: str) -> None:
    asks = "import sys; print([name for name in ('numpy', 'matplotlib') if name in sys.modules], file=sys.stdout)"
    ended = subprocess.run([sys.executable, "-c", f"{code}\n{asks}"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_has_had_enough_is_no_failure() -> None:
    command = f"'{sys.executable}' -m launch run --help | head -1"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage: timebox run")
