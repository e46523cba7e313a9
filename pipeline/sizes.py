"""How large everything is that a configuration speaks of: steps, inputs, outputs, states, sequences. Pure integers."""

from __future__ import annotations

from . import levels
from .own_code import Source
from .schema import BY_STEP, LABELS, ROWS, TASKS, Config, Data

#: The length of a sequence to copy, and of one with two numbers to add, where nothing is said.
USUAL = {"copy": 5, "repeat-copy": 3, "adding": 50}
#: How many numbers of a unit's state each kind of cell has.
PARTS = {"lstm": 2}


def task_source(data: Data) -> Source:
    """Return the text of a user's task."""
    return Source(data.code, data.file or "data.code", "Task")


def own_task(data: Data) -> dict[str, int]:
    """Return `inputs`, `outputs` and `steps` as a user's task tells them; raises ConfigError."""
    return task_source(data).whole_numbers({"inputs": None, "outputs": None, "steps": 1})


def judged(data: Data) -> int:
    """Return how many images an evaluation judges."""
    return data.test if data.judge == "test" else data.validation


def is_sequence(config: Config) -> bool:
    """Whether each step sees something else: a row of an image, a part of a sequence."""
    data = config.data
    if data.name == "own":
        return own_task(data)["steps"] > 1
    return data.reading == "rows" if data.name not in TASKS else data.name != "addition"


def steps(config: Config) -> int:
    """Return the time steps of a sequence: all boxes' steps."""
    data, model = config.data, config.model
    if data.name not in TASKS:
        return ROWS
    if data.name == "own":
        return own_task(data)["steps"]
    if model.steps_per_box and data.name in BY_STEP:
        return model.boxes * model.steps_per_box
    length = data.length or USUAL[data.name]
    return length if data.name == "adding" else levels.needed(data.name, length)


def most(config: Config) -> int:
    """Return the level of the longest sequences of a task that has levels."""
    return config.data.length or levels.longest(config.data.name, steps(config))


def box_steps(config: Config) -> tuple[int, ...]:
    """Return the time steps, or dense layers, of each box; a sequence is spread evenly, the first boxes take more."""
    boxes, given = config.model.boxes, config.model.steps_per_box
    if given:
        return (given,) * boxes
    if not is_sequence(config):
        return (1,) * boxes
    share, more = divmod(steps(config), boxes)
    return tuple(share + (k < more) for k in range(boxes))


def inputs(config: Config) -> int:
    """Return the number of inputs of one step: an image, a row, a symbol, a number and its mark, bits."""
    data = config.data
    if data.name == "own":
        return own_task(data)["inputs"]
    of_task = {"copy": data.bits + 1, "repeat-copy": data.bits + 2, "adding": 2, "addition": 2 * data.bits}
    return of_task.get(data.name, ROWS if data.reading == "rows" else ROWS * ROWS)


def outputs(config: Config) -> int:
    """Return the outputs of the head, or of each step: one sigmoid for two digits, else one a digit, a number or a bit."""
    data = config.data
    if data.name == "own":
        return own_task(data)["outputs"]
    if data.name in TASKS:
        return {"copy": data.bits, "repeat-copy": data.bits + 1, "adding": 1, "addition": data.bits}[data.name]
    labels = LABELS[data.name]
    return 1 if labels == 2 and config.model.loss != "softmax" else labels


def classes(config: Config) -> int:
    """Return the width of what an oracle sees of a label: one-hot digits; of a task what is wanted of the head."""
    return LABELS.get(config.data.name) or outputs(config)


def link(config: Config) -> str:
    """Return how labels are told: by one of several classes (softmax), by bits (sigmoid), by a number (identity)."""
    if config.data.name == "own":
        return {"mse": "identity", "softmax": "softmax"}.get(config.model.loss, "sigmoid")
    return {"adding": "identity", "addition": "sigmoid"}.get(config.data.name, "softmax")


def state(config: Config) -> int:
    """Return the width of an activation: the whole state of a cell."""
    return PARTS.get(config.model.cell, 1) * config.model.width


def trace(config: Config, rows: int) -> tuple[int, ...]:
    """Return the shape of the trace that travels with an activation of so many rows, where targets are traced."""
    width = config.model.width
    return rows, width, width, width + config.oracle.bias


def reads(config: Config) -> bool:
    """Whether boxes read their own steps, because the task has a target at each."""
    return config.data.name in BY_STEP
