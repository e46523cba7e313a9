"""The examples that come with the package do what they say: as a script, as a notebook, and by the command line."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch import Result, resolve, run
from launch.cli import main

pytestmark = pytest.mark.patient

EXAMPLES = Path(__file__).parents[1] / "launch" / "examples"
SCRIPT = EXAMPLES / "step_by_step.py"
#: What the script compares: weights, an array on the way, the curves.
COMPARED = 9


def cells() -> list[tuple[str, str]]:
    """Return the kind and the text of each cell of the script in percent format."""
    parts = re.split(r"^# %%( \[markdown\])?\n", SCRIPT.read_text(encoding="utf-8"), flags=re.M)
    assert parts[0] == "", "the first line begins a cell"
    kinds, texts = parts[1::2], parts[2::2]
    return [("markdown" if kind else "code", text.strip()) for kind, text in zip(kinds, texts, strict=True)]


def run_script(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder of its own."""
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parents[1])}
    command = [sys.executable, str(path)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_text_and_code_take_turns_and_each_is_what_its_mark_says() -> None:
    found = cells()
    assert [kind for kind, _ in found].count("markdown") > 10
    for kind, text in found:
        is_prose = all(line.startswith("#") for line in text.splitlines())
        assert is_prose == (kind == "markdown"), text
        compile(text, str(SCRIPT), "exec")


@pytest.mark.live
def test_by_hand_and_by_processes_the_same_bits_come_without_a_guard(tmp_path: Path) -> None:
    assert 'if __name__ == "__main__":' not in SCRIPT.read_text(encoding="utf-8")
    done = run_script(SCRIPT, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\w.* equal$", done.stdout, re.M)) == COMPARED
    assert len(list((tmp_path / "runs").glob("*-step-by-step"))) == 1
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.live
def test_the_comparison_would_notice_another_rate(tmp_path: Path) -> None:
    """The lines by hand with another rate of the head: without this, the equality above might compare a thing with itself."""
    changed = tmp_path / "changed.py"
    text = SCRIPT.read_text(encoding="utf-8").replace("1e-2, 1e-3, 1e-4", "1e-2, 1.001e-3, 1e-4")
    changed.write_text(re.sub(r"EPOCHS = 128, \d+", "EPOCHS = 128, 2", text), encoding="utf-8")
    done = run_script(changed, tmp_path)
    assert done.returncode == 1
    assert re.search(r"AssertionError: \w.* differs by [\d.]+e-\d+", done.stderr)


@pytest.mark.live
def test_as_a_notebook_it_shows_the_result_and_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parents[1]))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    make = nbformat.v4
    notebook = make.new_notebook(
        cells=[
            make.new_code_cell(text) if kind == "code" else make.new_markdown_cell(re.sub("(?m)^# ?", "", text))
            for kind, text in cells()
        ]
    )
    nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs: list[Any] = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    assert len(re.findall(r"^\w.* equal$", text, re.M)) == COMPARED
    assert "\x1b" not in text
    shown = [output["data"] for output in outputs if "data" in output]
    assert any("<table" in data.get("text/html", "") and "step-by-step" in data["text/html"] for data in shown)
    assert any("image/png" in data for data in shown)


# What may be your own

#: Of each example what makes it quick, and its preset, where the command that it names has one.
QUICK: dict[str, tuple[str, dict[str, Any]]] = {
    "own_oracle.py": ("rows", {"oracle.sees_label": True}),
    "own_cell.py": ("rows", {"model.recurrent": "normal"}),
    "own_task.py": ("article", {"model.loss": "bce", "model.boxes": 3}),
    "own_placer.py": ("article", {}),
    "own_schedule.txt": ("article", {"model.tied": False}),
}
SMALL = {"model.width": 16, "data.source": "packaged", "data.train": 60, "data.test": 20, "train.epochs": 2}


def flags_of(name: str, folder: Path) -> dict[str, Any]:
    """Return the flags of a quick run with an example."""
    group = re.search(r"--(\w+)\.file", (EXAMPLES / name).read_text(encoding="utf-8"))
    assert group
    batch = {"data.batch": 10} if QUICK[name][0] == "rows" else {}
    return {f"{group[1]}.file": str(EXAMPLES / name), "run.dir": str(folder), **SMALL, **batch, **QUICK[name][1]}


def test_there_is_an_example_of_everything_that_can_be_ones_own() -> None:
    assert {path.name for path in EXAMPLES.glob("own_*")} == set(QUICK)
    assert all(name in (EXAMPLES.parents[1] / "README.md").read_text(encoding="utf-8") for name in QUICK)


@pytest.mark.live
@pytest.mark.parametrize("name", QUICK)
def test_the_command_that_an_example_names_runs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = re.search(r"timebox (run .*)", (EXAMPLES / name).read_text(encoding="utf-8"))
    assert line
    words = [str(EXAMPLES / word) if word == name else word for word in shlex.split(line[1])]
    small = {**SMALL, "data.batch": 10, "run.dir": tmp_path}
    if name == "own_task.py":
        del small["data.source"]  # it reads no images
    assert main([*words, "--json", *(word for key, value in small.items() for word in (f"--{key}", str(value)))]) == 0
    assert '"status": "done"' in capsys.readouterr().out


@pytest.mark.live
@pytest.mark.parametrize("name", [name for name in QUICK if name.endswith(".py")])
def test_processes_end_with_the_bits_of_the_reference_and_of_the_replay(name: str, tmp_path: Path) -> None:
    preset, _ = QUICK[name]
    flags = flags_of(name, tmp_path) | {"schedule.kind": "article"}
    if name == "own_task.py":
        del flags["data.source"]
    config = resolve(preset, flags=flags)
    result = run(config)
    assert result.digest is not None
    alone = {key: value for key, value in flags.items() if key != "placer.file"}  # which one process has no use for
    assert result.digest == run(resolve(preset, flags=alone), reference=True).digest
    replayed = result.replay()
    assert replayed["same"]
    assert not replayed["warnings"]


@pytest.mark.live
def test_a_replay_says_when_the_file_has_changed_since_and_runs_what_the_run_had(tmp_path: Path) -> None:
    file = tmp_path / "cell.py"
    text = (EXAMPLES / "own_cell.py").read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    result = run(resolve("rows", flags=flags_of("own_cell.py", tmp_path) | {"model.file": str(file)}))
    file.write_text(text.replace("LEAK = 0.5", "LEAK = 0.25"), encoding="utf-8")
    replayed = result.replay()
    assert replayed["same"]
    assert re.search(
        r"model\.file: .*cell\.py has changed since \(sha256 \w{12}, now \w{12}\)", replayed["warnings"][0]
    )


@pytest.mark.live
def test_the_task_can_be_learnt_and_the_cell_learns(tmp_path: Path) -> None:
    """Examples that learn nothing would show nothing: better than always saying the same, and lower costs."""
    flags = {"model.width": 32, "model.boxes": 3, "model.loss": "bce", "data.train": 500, "data.test": 200}
    rates = {"train.epochs": 5, "train.rate_input": 0.05, "train.rate_recurrent": 0.05, "train.rate_head": 0.05}
    own = {"data.file": str(EXAMPLES / "own_task.py"), "model.file": str(EXAMPLES / "own_cell.py")}
    config = resolve(flags={**flags, **rates, **own, "schedule.kind": "locked", "run.dir": str(tmp_path)})
    result = run(config, reference=True)  # the bits of the processes, sooner
    assert result.accuracy is not None
    assert result.accuracy > 0.8
    assert result.costs[-1] < result.costs[0]


@pytest.mark.live
def test_what_the_readme_shows_in_python_runs_as_it_stands(tmp_path: Path) -> None:
    readme = (EXAMPLES.parents[1] / "README.md").read_text(encoding="utf-8")
    found = re.search(r"## In Python\n\n```python\n(.*?)```", readme, re.S)
    assert found
    script = tmp_path / "readme.py"
    script.write_text(found[1], encoding="utf-8")
    done = run_script(script, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[2] == "True (1, 128)"
    assert lines[3] == repr(Result.find("latest", tmp_path / "runs"))
