"""A user's task: a class `Task` in a Python file that draws examples by seed. Pure but for what it does.

    class Task:
        inputs = 2                                 # numbers that a step reads
        outputs = 1                                # numbers that the head should put out
        steps = 10                                 # of a sequence, spread over the boxes; 1, or left out: all see all of x

        def draw(self, rng, rows):                 # x (steps, rows, inputs), y (rows, outputs)
            x = rng.random((10, rows, 2))
            return x, x[0, :, :1]

        def right(self, y_hat, y):                 # may be left out: the share from 0 to 1 that is right of each row, (rows,)
            return (abs(y_hat - y) < 0.1).mean(axis=1)

`rng` is numpy's, by (data.seed, what it is drawn for, batch), and the only source of chance that there may be: every stage
draws each batch by itself, and all have to draw the same. It is tried before anything starts. `inputs`, `outputs` and `steps`
are written as numbers: they are read without running the file.

What is right where the class does not say: with loss softmax the largest output, with mse every output that is less than 0.04
off, else every output on its side of one half.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from . import sizes
from .arrays import Array
from .errors import ConfigError, RunError
from .own_code import sealed
from .schema import Config

SHOWN = "launch/examples/own_task.py"
#: How far off a number may be that counts as right.
NEAR = 0.04


class OwnTask:
    """A user's class; what it returns is checked, for every stage builds on it."""

    def __init__(self, config: Config) -> None:
        self.source = sizes.task_source(config.data)
        self._inputs, self._outputs = sizes.inputs(config), sizes.outputs(config)
        self._steps = sizes.steps(config)
        self._loss, self._dtype = config.model.loss, np.dtype(config.model.dtype)

    @cached_property
    def _own(self) -> Any:
        """The user's object, made when something is drawn: sizes alone run none of its code."""
        return self.source.call("__init__", self.source.found(("draw",), SHOWN))

    def draw(self, rng: np.random.Generator, rows: int) -> tuple[Array, Array]:
        """Return x (steps, rows, inputs) and y (rows, outputs), C-contiguous; raises RunError."""
        made = self.source.call("draw", self._own.draw, rng, rows)
        if not isinstance(made, tuple) or len(made) != 2:
            raise RunError(
                f"{self.source.name}: Task.draw returned {type(made).__name__}, two arrays are wanted: x and y"
            )
        shapes = (self._steps, rows, self._inputs), (rows, self._outputs)
        x, y = (self._taken("draw", each, shape, name) for each, shape, name in zip(made, shapes, "xy", strict=True))
        return x, y

    def rights(self, y_hat: Array, y: Array) -> Array:
        """Return the share of each row that is right, (rows,), from 0 to 1; raises RunError."""
        if hasattr(self._own, "right"):
            made = self.source.call("right", self._own.right, sealed(y_hat), sealed(y))
            if isinstance(made, np.ndarray) and made.dtype.kind == "b":
                made = made.astype(float)
            rights = self._taken("right", made, (len(y),), "the share that is right", np.dtype(np.float64))
            if not ((rights >= 0) & (rights <= 1)).all():
                raise RunError(
                    f"{self.source.name}: Task.right: a share is from 0 to 1, not {rights.min():g} to {rights.max():g}"
                )
            return rights
        if self._loss == "softmax":
            found: Array = (y_hat.argmax(axis=1) == y.argmax(axis=1)).astype(np.float64)
            return found
        found = np.abs(y_hat - y) < NEAR if self._loss == "mse" else (y_hat > 0.5) == (y > 0.5)
        shares: Array = found.mean(axis=1)
        return shares

    def told(self, y: Array) -> Array:
        """Return what stands for outputs (rows, outputs) in a table: the number itself, the class, or how many are above ½."""
        if self._outputs == 1:
            return y[:, 0]
        found: Array = y.argmax(axis=1) if self._loss == "softmax" else (y > 0.5).sum(axis=1)
        return found

    def _taken(
        self, method: str, made: object, shape: tuple[int, ...], what: str, dtype: np.dtype[Any] | None = None
    ) -> Array:
        if not isinstance(made, np.ndarray) or made.shape != shape or made.dtype.kind not in "biuf":
            kind = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
            raise RunError(f"{self.source.name}: Task.{method} returned {kind} as {what}, an array {shape} is wanted")
        return made.astype(dtype or self._dtype, order="C")


def try_out(config: Config) -> None:
    """Let a user's task draw a batch, and draw it again; raises ConfigError before anything starts."""
    try:
        draws = [
            OwnTask(config).draw(np.random.default_rng([config.data.seed, 0, 0]), config.data.batch) for _ in range(2)
        ]
        task = OwnTask(config)
        task.rights(draws[0][1], draws[0][1])
    except RunError as error:
        raise ConfigError(str(error)) from None
    name, (x, y) = task.source.name, draws[0]
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ConfigError(f"{name}: Task.draw drew a number that is not finite")
    if not all(np.array_equal(one, other) for one, other in zip(*draws, strict=True)):
        raise ConfigError(
            f"{name}: Task.draw drew two batches from one seed, and stages would differ; take chance from rng alone"
        )
    loss = config.model.loss
    if loss != "mse" and not ((y >= 0) & (y <= 1)).all():
        raise ConfigError(
            f"{name}: Task.draw: with model.loss {loss} y is from 0 to 1; add --model.loss mse for numbers"
        )
    if loss == "softmax" and not np.allclose(y.sum(axis=1), 1):
        raise ConfigError(f"{name}: Task.draw: with model.loss softmax each row of y adds up to 1: one class, one-hot")
