"""The batches of a task that is drawn by seed, in place of images: each a pure function of (data.seed, index). Pure.

    copy, repeat-copy    a target at every step of the answer; sequences as long as the level says, which travels with a batch
    adding               the sum of two marked numbers, a target at the end
    addition             the bits of the sum of two numbers; those that judge are never trained on
    own                  what a user's class draws (`task_own`)

Training batches never repeat; evaluation batches are the same in every evaluation, but for the length of their sequences.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import levels, sequences, sizes
from .arrays import Array
from .plan import EVALUATION_ROWS
from .schema import BY_STEP, Config
from .task_own import OwnTask

#: What is drawn from streams of its own: training, test and validation.
TRAINING, JUDGED = 0, {"test": 1, "validation": 2}
#: Batches whose examples are kept: a stage asks several times for those that are in flight.
KEPT = 8


class Drawn(NamedTuple):
    """The examples of a batch."""

    x: Array  # (steps, rows, inputs)
    y: Array  # (rows, outputs), or (steps, rows, outputs) with a target at every step
    wanted: NDArray[np.bool_] | None = None  # (steps, rows): where there is a target


class Examples:
    """The batches of a run that are drawn by seed, for one stage or for all: what `data.Batches` is for images."""

    def __init__(self, config: Config) -> None:
        data, model = config.data, config.model
        self.dtype = np.dtype(model.dtype)
        self.outputs = sizes.outputs(config)
        self._data = data
        self._dtype = model.dtype
        self._micro = config.schedule.micro_batches or 1
        self._epoch_batches = -(-data.train // data.batch)
        self._judged = sizes.judged(data)
        self._chunks = -(-self._judged // EVALUATION_ROWS)
        self._steps = sizes.box_steps(config)
        self._all_steps = sum(self._steps)
        self._once = model.cell == "dense"  # its first layer alone sees the data
        self._is_sequence = sizes.is_sequence(config)
        self._level = sizes.most(config) if data.name in BY_STEP else 0
        self._kept: dict[tuple[int, int, int], Drawn] = {}
        self.own = OwnTask(config) if data.name == "own" else None

    # Interface of `data.Batches`

    def inputs(self, batch: int, box: int, level: int = 0) -> Array:
        """Return what box `box` reads in `batch`: (steps, rows, inputs), sequences as long as `level` says."""
        return self._cut(self._drawn(TRAINING, batch, level).x, box)

    def evaluation_inputs(self, evaluation: int, box: int, level: int = 0) -> Array:
        """Return what box `box` reads in `evaluation`: (steps, rows, inputs)."""
        return self._cut(self._judges(evaluation, level).x, box)

    def labels(self, batch: int) -> Array:
        """Return what is wanted of the head in `batch`: (rows, outputs)."""
        return self._drawn(TRAINING, batch, 0).y

    def evaluation_labels(self, evaluation: int) -> Array:
        """Return what is wanted of the head in `evaluation`: (rows, outputs)."""
        return self._judges(evaluation, 0).y

    def evaluation_places(self, evaluation: int) -> NDArray[np.int64]:
        """Return the numbers of the examples in `evaluation`: (rows,)."""
        first = evaluation % self._chunks * EVALUATION_ROWS
        return np.arange(first, min(first + EVALUATION_ROWS, self._judged))

    def one_hot(self, labels: Array) -> Array:
        """Return what an oracle sees of labels: themselves."""
        return labels

    def wanted(self, labels: Array) -> Array:
        """Return what the head should put out for labels: themselves."""
        return labels

    # Targets at every step

    def targets(self, batch: int, box: int, level: int) -> tuple[Array, NDArray[np.bool_]]:
        """Return what is wanted of a box at each step, (steps, rows, outputs), and where anything is, (steps, rows)."""
        return self._wanted(self._drawn(TRAINING, batch, level), box)

    def evaluation_targets(self, evaluation: int, box: int, level: int) -> tuple[Array, NDArray[np.bool_]]:
        """Return the same of `evaluation`."""
        return self._wanted(self._judges(evaluation, level), box)

    def _wanted(self, drawn: Drawn, box: int) -> tuple[Array, NDArray[np.bool_]]:
        assert drawn.wanted is not None, "only a task with targets at every step is asked for them"
        first = sum(self._steps[: box - 1])
        own = slice(first, first + self._steps[box - 1])
        return drawn.y[own], drawn.wanted[own]

    def _cut(self, x: Array, box: int) -> Array:
        steps = self._steps[box - 1]
        if not self._is_sequence:
            return x if steps == 1 or self._once else np.repeat(x, steps, axis=0)
        first = sum(self._steps[: box - 1])
        return x[first : first + steps].copy()

    def _judges(self, evaluation: int, level: int) -> Drawn:
        return self._drawn(JUDGED[self._data.judge], evaluation % self._chunks, level)

    def _drawn(self, stream: int, index: int, level: int) -> Drawn:
        found = self._kept.get((stream, index, level))
        if found is None:
            if len(self._kept) == KEPT:
                del self._kept[next(iter(self._kept))]
            found = self._kept[stream, index, level] = self._draw(stream, index, level or self._level)
        return found

    def _draw(self, stream: int, index: int, level: int) -> Drawn:
        data = self._data
        if stream == TRAINING and self._micro > 1:  # the parts of a batch are cut from it
            whole, size = self._drawn_whole(index // self._micro, level), data.batch // self._micro
            part = slice(index % self._micro * size, (index % self._micro + 1) * size)
            y = whole.y[part] if whole.wanted is None else whole.y[:, part]
            return Drawn(
                np.ascontiguousarray(whole.x[:, part]), y, None if whole.wanted is None else whole.wanted[:, part]
            )
        return self._drawn_whole(index, level, stream)

    def _drawn_whole(self, index: int, level: int, stream: int = TRAINING) -> Drawn:
        """Return a whole batch of the data, or an evaluation."""
        data, dtype = self._data, self._dtype
        rng = np.random.default_rng([data.seed, stream, index])
        if stream == TRAINING:
            rows = min(data.batch, data.train - index % self._epoch_batches * data.batch)
        else:
            rows = len(self.evaluation_places(index))
        if data.name in BY_STEP:
            length, repeats = levels.lengths(data.name, level)
            if data.name == "copy":
                return Drawn(*sequences.copy(rng, rows, length, data.bits, self._all_steps, dtype))
            return Drawn(*sequences.repeat_copy(rng, rows, length, repeats, data.bits, self._all_steps, dtype))
        if self.own is not None:
            return Drawn(*self.own.draw(rng, rows))
        if data.name == "adding":
            return Drawn(*sequences.adding(rng, rows, self._all_steps, dtype))
        return self._sums(rng, stream, index, rows)

    def _sums(self, rng: np.random.Generator, stream: int, index: int, rows: int) -> Drawn:
        """Return sums. Those that test or validate come first in the order of all pairs; all others train."""
        data = self._data
        if stream == TRAINING:
            places = sequences.drawn(rng, data.test + data.validation, data.bits, rows)
        else:
            first = (data.test if stream == JUDGED["validation"] else 0) + index * EVALUATION_ROWS
            places = np.arange(first, first + rows)
        x, y = sequences.addition(*sequences.operands(data.seed, data.bits, places), data.bits, self._dtype)
        return Drawn(x[None], y)
