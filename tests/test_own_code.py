"""A user's own cell and task: what is wrong is one line with its place, before anything starts; looking runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launch.own_files import changed
from launch.preflight import check
from launch.runs import describe
from pipeline import cell_own, task_own
from pipeline.cells import Form
from pipeline.config import dump, load, resolve
from pipeline.errors import ConfigError, RunError
from pipeline.own_code import Source
from pipeline.schema import Config
from pipeline.sizes import box_steps, inputs, outputs
from pipeline.weights import make_cell

Flags = dict[str, Any]

CELL = """import numpy as np
class Cell:
    def forward(self, z, h):
        return 0.5 * h + 0.5 * np.tanh(z)
    def backward(self, z, h, g):
        return 0.5 * g * (1 - np.tanh(z) ** 2), 0.5 * g
"""
TASK = """import numpy as np
class Task:
    inputs = 2
    outputs = 1
    steps = 4
    def draw(self, rng, rows):
        x = rng.random((4, rows, 2))
        return x, x[0, :, :1] > 0.5
"""
#: A class whose file cannot be run at all: whoever runs it is told so.
BOOBY = "raise RuntimeError('it was run')\n"


def cell(code: str, **flags: Any) -> Config:
    """Return a configuration with a cell of one's own."""
    flags = {"model.width": 5} | {key.replace("__", "."): value for key, value in flags.items()}
    return resolve(flags={"model.cell": "own", "model.code": code} | flags)


def task(code: str, **flags: Any) -> Config:
    """Return a configuration with a task of one's own."""
    own: Flags = {"data.name": "own", "data.code": code, "model.loss": "bce", "model.width": 5, "data.batch": 3}
    return resolve(flags=own | {key.replace("__", "."): value for key, value in flags.items()})


# Wrong requests

CELLS = {
    "no class": ("x = 1", r"model.code: it has no class Cell"),
    "no Python": ("class Cell(", r"model.code, line 1: "),
    "not even text of Python": ("class Cell: pass\0", r"model.code.*: .*null"),
    "no methods": (
        "class Cell: pass",
        r"its class Cell has no forward and no backward; `launch/examples/own_cell.py` shows one",
    ),
    "gates of a formula": (
        CELL.replace("Cell:\n", "Cell:\n    gates = 1 + 1\n"),
        r"line 3: Cell.gates: a number from 1 to 65,536",
    ),
    "no gates": (
        CELL.replace("Cell:\n", "Cell:\n    gates = 0\n"),
        r"line 3: Cell.gates: a number from 1 to 65,536 is wanted",
    ),
    "gates that are true": (CELL.replace("Cell:\n", "Cell:\n    gates = True\n"), r"line 3: Cell.gates: a number"),
    "it raises": (
        CELL.replace("0.5 * h +", "q +"),
        r"model.code, line 4: Cell.forward: NameError: name 'q' is not defined",
    ),
    "its start raises": (
        CELL.replace("def forward", "def __init__(self):\n        1 / 0\n    def forward"),
        r"line 4: Cell.__init__: ZeroDiv",
    ),
    "it writes to what is not its own": (
        CELL.replace("return 0.5 * h", "h += 1; return h"),
        r"Cell.forward: ValueError: .*read-only",
    ),
    "another shape": (
        CELL.replace("np.tanh(z)\n", "np.tanh(z).sum()\n").replace("0.5 * h", "0"),
        r"Cell.forward returned float64 as the state",
    ),
    "a list": (
        CELL.replace("return 0.5 * h + 0.5 * np.tanh(z)", "return [1]"),
        r"Cell.forward returned list as the state, an array \(3, 5\)",
    ),
    "complex numbers": (
        CELL.replace("np.tanh(z)\n", "np.tanh(z + 0j)\n"),
        r"Cell.forward returned complex128 \(3, 5\) as the state",
    ),
    "one gradient": (CELL.replace(", 0.5 * g\n", "\n"), r"Cell.backward returned ndarray, two arrays are wanted"),
    "a wrong gradient at z": (
        CELL.replace("0.5 * g * (1", "0.4 * g * (1"),
        r"Cell.backward: its gradient at z is not the slope of its forward: \S+ along",
    ),
    "a wrong gradient at h": (
        CELL.replace(", 0.5 * g\n", ", 0.6 * g\n"),
        r"Cell.backward: its gradient at h is not the slope",
    ),
    "a gradient that is none": (
        CELL.replace(", 0.5 * g\n", ", np.nan * g\n"),
        r"its gradient at h is not the slope of its forward: nan",
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_that_is_none_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    code, text = CELLS[name]
    with pytest.raises(ConfigError, match=text) as caught:
        check(cell(code, run__dir=str(tmp_path / "runs")), reference=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


TASKS = {
    "no class": ("x = 1", r"data.code: it has no class Task"),
    "no inputs": (
        TASK.replace("    inputs = 2\n", ""),
        r"data.code: Task.inputs: a number from 1 to 65,536 is wanted in the class",
    ),
    "steps of a name": (
        TASK.replace("steps = 4", "steps = STEPS"),
        r"data.code, line 5: Task.steps: a number from 1 to",
    ),
    "no draw": (
        TASK.replace("def draw", "def drew"),
        r"its class Task has no draw; `launch/examples/own_task.py` shows one",
    ),
    "it raises": (TASK.replace("x[0,", "q[0,"), r"data.code, line 8: Task.draw: NameError"),
    "x alone": (TASK.replace("return x, ", "return "), r"Task.draw returned ndarray, two arrays are wanted"),
    "other steps": (
        TASK.replace("(4, rows", "(3, rows"),
        r"Task.draw returned float64 \(3, 3, 2\) as x, an array \(4, 3, 2\) is wanted",
    ),
    "flat outputs": (TASK.replace(":1] >", "0] >"), r"Task.draw returned bool \(3,\) as y, an array \(3, 1\)"),
    "not finite": (TASK.replace("return x,", "return x / 0,"), r"not finite"),
    "another chance": (
        TASK.replace("rng.random", "np.random.random"),
        r"two batches from one seed, .*take chance from rng alone",
    ),
    "numbers as bits": (TASK.replace(" > 0.5", " + 3"), r"with model.loss bce y is from 0 to 1; add --model.loss mse"),
    "a share of two": (
        TASK + "    def right(self, y_hat, y): return 2 + 0 * y[:, 0]\n",
        r"Task.right: a share is from 0 to 1",
    ),
    "no share": (TASK + "    def right(self, y_hat, y): return 1\n", r"Task.right returned int as the share"),
}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_task_that_is_none_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    code, text = TASKS[name]
    with pytest.raises(ConfigError, match=text) as caught:
        check(task(code, run__dir=str(tmp_path / "runs")), reference=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_classes_that_are_not_one_hot_are_refused() -> None:
    code = TASK.replace("outputs = 1", "outputs = 2").replace("x[0, :, :1] > 0.5", "x[0] > 2")
    with pytest.raises(ConfigError, match="each row of y adds up to 1"):
        task_own.try_out(task(code, model__loss="softmax"))


@pytest.mark.parametrize(("group", "key", "word"), [("model", "cell", "Cell"), ("data", "name", "Task")])
def test_own_and_a_file_go_together(group: str, key: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"{group}.file: {group}.{key} own needs a Python file with a class {word}; name it"
    ):
        resolve(flags={f"{group}.{key}": "own"})
    with pytest.raises(ConfigError, match=rf"{group}.file: only read by {group}.{key} own, not by"):
        resolve(flags={f"{group}.code": CELL})
    with pytest.raises(ConfigError, match=rf"{group}.file: none.py: cannot read the \w+: No such file"):
        resolve(flags={f"{group}.file": "none.py"})
    empty = tmp_path / "empty.py"
    empty.write_text("\n")
    with pytest.raises(ConfigError, match=f"empty.py: the file is empty; a class {word} is wanted"):
        resolve(flags={f"{group}.file": str(empty)})


# What is right


def test_a_file_is_read_into_the_configuration_and_comes_back_from_a_run(tmp_path: Path) -> None:
    (tmp_path / "cell.py").write_text(CELL)
    (tmp_path / "task.py").write_text(TASK)
    files = {"model.file": str(tmp_path / "cell.py"), "data.file": str(tmp_path / "task.py"), "model.loss": "bce"}
    config = resolve(flags=files)
    assert (config.model.cell, config.model.code, config.data.name, config.data.code) == ("own", CELL, "own", TASK)
    (tmp_path / "config.toml").write_text(dump(config))
    assert load(tmp_path / "config.toml") == config
    (tmp_path / "cell.py").write_text(CELL + "# another\n")
    assert load(tmp_path / "config.toml") == config, "the text of the run is kept, not that of the file"
    assert resolve(file=tmp_path / "config.toml", flags={"model.file": files["model.file"]}).model.code != CELL
    lines = list(changed(config))
    assert len(lines) == 1
    assert "cell.py has changed since (sha256 " in lines[0]


def test_sizes_are_known_without_running_anything() -> None:
    config = task(BOOBY + TASK, model__cell="own", model__code=BOOBY + CELL, model__boxes=3)
    assert (inputs(config), outputs(config), box_steps(config)) == (2, 1, (2, 1, 1))
    assert make_cell(config, 1).shapes()["Wx"] == (2, 5)
    for function in (cell_own.try_out, task_own.try_out):
        with pytest.raises(ConfigError, match="line 1: RuntimeError: it was run"):
            function(config)


def test_who_lists_and_looks_at_a_run_runs_none_of_its_code(tmp_path: Path) -> None:
    config = task(BOOBY + TASK, model__cell="own", model__code=BOOBY + CELL)
    (tmp_path / "config.toml").write_text(dump(config))
    assert describe(tmp_path)["task"] == "own"


def test_a_number_kept_by_a_cell_of_one_dtype_stays_in_it() -> None:
    """A user's float64 constant must not widen what travels as float32."""
    made = cell_own.OwnCell(
        Form(2, 5, 1, is_first=True), Source(CELL.replace("0.5 *", "np.float64(0.5) *"), "c.py", "Cell")
    )
    weights = made.first_weights(np.random.default_rng(0))
    trail = made.forward(weights, np.ones((1, 3, 2), np.float32), None)
    factors, _ = made.backward(weights, trail, np.ones((3, 5), np.float32), passes_on=True)
    assert {array.dtype for array in (trail.h, factors.delta)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("loss", "y_hat", "expected"),
    [
        ("bce", [[0.6, 0.6], [0.4, 0.6]], [0.5, 0.0]),
        ("mse", [[1.03, 0.5], [0.01, 0.99]], [0.5, 0.0]),
        ("softmax", [[0.6, 0.4], [0.6, 0.4]], [1.0, 1.0]),
    ],
)
def test_what_is_right_follows_from_the_loss_or_is_said(
    loss: str, y_hat: list[list[float]], expected: list[float]
) -> None:
    code = TASK.replace("outputs = 1", "outputs = 2")
    y = np.array([[1.0, 0.0], [1.0, 0.0]])
    found = task_own.OwnTask(task(code, model__loss=loss)).rights(np.array(y_hat), y)
    assert found.tolist() == expected
    says = code + "    def right(self, y_hat, y): return y_hat[:, 1] > 0.5\n"
    told = task_own.OwnTask(task(says, model__loss=loss)).rights(np.array(y_hat), y)
    assert told.tolist() == [float(row[1] > 0.5) for row in y_hat]


def test_a_cell_that_fails_on_the_way_fails_by_file_and_line() -> None:
    made = cell_own.OwnCell(Form(2, 5, 1, is_first=True), Source(CELL.replace("0.5 * h", "z[0, 99]"), "c.py", "Cell"))
    with pytest.raises(RunError, match=r"^c\.py, line 4: Cell\.forward: IndexError"):
        made.forward(made.first_weights(np.random.default_rng(0)), np.ones((1, 3, 2), np.float32), None)
