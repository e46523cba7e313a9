"""The examples that come with the package do what they say: as a script, as a notebook, and by the command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
