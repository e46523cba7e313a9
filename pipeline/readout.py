"""What a box says of its own steps, where a task has a target at every step, and how the sequences grow. Pure arithmetic.

    ŷ_s = σ(h_s Wfc (+ bfc))      L = −Σ y ln ŷ + (1 − y) ln(1 − ŷ)        ∂L/∂a = ŷ − y       at steps that have a target

Σ runs over outputs and steps, and a batch's loss is the mean over its rows. The layer is learnt in every box with the cell's
weights, and shared like them if boxes are tied: a step's own loss is known where the step is computed, and needs neither an
oracle nor a message (as in Jaderberg et al. 2016, where it is part of the recurrent core). What an oracle predicts is the
share of all that comes after the box. The head then has no layer: it adds up.

A *tally* travels with the activation: by row what all steps so far have cost (nats), how many bits were told right and how many
were wanted, and the level of the sequences. So every stage knows how long a batch's sequences are, and the head what they cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import heads
from .arrays import Array, Weights, through
from .cells import Own, Trail
from .errors import WireError
from .plan import LAG, Plan
from .schema import Config, Data
from .sizes import most
from .state import Saved, counts

#: Columns of a tally.
COST, RIGHT, WANTED, LEVEL = range(4)
COLUMNS = 4


def first_tally(rows: int, level: int, dtype: np.dtype[np.generic]) -> Array:
    """Return the tally (rows, 4) with which a batch starts."""
    tally: Array = np.zeros((rows, COLUMNS), dtype)
    tally[:, LEVEL] = level
    return tally


def read(
    weights: Weights, trail: Trail, width: int, y: Array, wanted: NDArray[np.bool_], tally: Array, parts: int = 1
) -> tuple[Own, Array]:
    """Return what a box's own losses say, and the tally (rows, 4) after its steps.

    y is (steps, rows, outputs), `wanted` (steps, rows); only the steps that have a target are read. With `parts` these rows
    are one of so many equal parts of a batch.
    """
    hidden = trail.leaving[:, :, :width][wanted]  # (n, width)
    after = tally.copy()
    back = np.zeros((*trail.leaving.shape[:2], width), hidden.dtype)
    y = y[wanted]
    if not len(hidden):
        return Own(hidden, y, back), after
    a, y_hat = heads.forward(weights, hidden, "bce")
    delta = y_hat - y
    delta /= len(tally) * parts
    back[wanted] = through(delta, weights["Wfc"])
    rows = np.nonzero(wanted)[1]
    lost = np.add.reduce(heads.bce(a, y), axis=1)
    right = np.add.reduce((y_hat > 0.5) == (y > 0.5), axis=1)
    np.add.at(after[:, COST], rows, lost)
    np.add.at(after[:, RIGHT], rows, right.astype(after.dtype))
    np.add.at(after[:, WANTED], rows, after.dtype.type(y.shape[1]))
    return Own(hidden, delta, back), after


def cost(tally: Array) -> float:
    """Return what a batch cost, in bits for each bit that was wanted; 1 is what guessing costs."""
    nats, wanted = float(np.add.reduce(tally[:, COST])), float(np.add.reduce(tally[:, WANTED]))
    return nats / (math.log(2) * wanted) if wanted else 0.0


def level_of(told: Array, most: int, where: str) -> int:
    """Return the level that a column of a tally, or the head's word, tells; raises WireError for one that cannot be."""
    level = float(told[0])
    if not (1 <= level <= most and level.is_integer() and (told == level).all()):
        raise WireError(
            f"{where}: a level of {level:g} came; they are whole numbers from 1 to {most}, one for all rows"
        )
    return int(level)


class Lengths:
    """The level of a box's batches: box 1 goes by the head's word, the others by the tally, where they read their own steps.

    Without the head's word sequences have one length: the shortest to begin with, or the longest.
    """

    def __init__(self, config: Config, plan: Plan, number: int) -> None:
        self._plan, self._name = plan, plan.name(number)
        self._most = most(config) if plan.reads else 0
        self._is_told = plan.grows and number == 1
        self._level = 1 if plan.grows else self._most
        self._dtype = config.model.dtype
        self._words: dict[int, Array] = {}  # epoch: what the head says of it, (1,), until a batch is as long

    def keep(self, epoch: int, word: Array) -> None:
        """Keep the head's word (1,) of an epoch."""
        self._words[epoch] = word

    def kept(self, epoch: int) -> tuple[Array, ...]:
        """Return the head's word of an epoch, if it waits."""
        return (self._words[epoch],) if epoch in self._words else ()

    def first(self, batch: int, is_judged: bool) -> int:
        """Return the level of box 1's batch, or evaluation: these follow the last batch that was forwarded."""
        epoch, rest = divmod(batch, self._plan.epoch_batches)
        if self._is_told and not is_judged and epoch >= LAG and not rest:
            self._level = self.told(self._words.pop(epoch - LAG), batch)
        return self._level

    def told(self, column: Array, batch: int) -> int:
        """Return the level that a tally's column, or the head's word, tells; raises WireError."""
        return level_of(column, self._most, f"{self._name}: batch {batch}")

    def state(self) -> Weights:
        """Return the level and the words that wait: they are said epochs ahead. Nothing where nobody is told any."""
        if not self._is_told:
            return {}
        words = np.array([word[0] for word in self._words.values()], self._dtype)
        return counts(level=self._level) | {"epochs": np.array([*self._words], np.int64), "words": words}

    def restore(self, saved: Saved) -> None:
        """Go on from a saved state; raises RunError."""
        if self._is_told:
            self._level = saved.count("level", self._most)
            epochs = saved.counts("epochs", None, self._plan.lengths)
            words = saved.take("words", (len(epochs),), self._dtype)
            self._words = {epoch: words[place : place + 1] for place, epoch in enumerate(epochs)}


class Curriculum:
    """How long sequences are, epoch by epoch: one level up after an epoch whose mean cost is below the bound.

    What an epoch decides holds `LAG` epochs later. An epoch whose successor has grown already decides nothing: it says
    nothing of the longer ones (Graves, Wayne and Danihelka 2014; the criterion is that of Jaderberg et al. 2016).
    """

    def __init__(self, data: Data, most: int) -> None:
        self._bound = data.bound
        self._most = most
        self.levels = [1 if data.curriculum else most] * LAG
        self.passed = 0  # the highest level of which an epoch was below the bound

    def level(self, epoch: int) -> int:
        """Return the level of an epoch; of a later one than is decided, the last that is known."""
        return self.levels[min(epoch, len(self.levels) - 1)]

    def after(self, plan: Plan, batch: int, costs: Sequence[float]) -> int | None:
        """Take what the batches of an epoch have cost, up to this one; return what it decides if it ends so, else None."""
        epoch, at = divmod(batch, plan.epoch_batches)
        if at + 1 < plan.epoch_batches:
            return None
        rows = [plan.rows(place) for place in range(batch - at, batch + 1)]
        return self.end(epoch, float(np.average(costs, weights=rows)))

    def end(self, epoch: int, costs: float) -> int:
        """Take the mean cost of an epoch that has ended, each in its turn; return the level of the one `LAG` later."""
        now = self.levels[-1]
        if costs < self._bound:
            self.passed = max(self.passed, self.levels[epoch])
        is_settled = now == self.levels[epoch]
        self.levels.append(now + 1 if is_settled and costs < self._bound and now < self._most else now)
        return self.levels[-1]

    def state(self) -> Weights:
        """Return `levels` (epochs,) as far as they are decided, and `passed`."""
        return {"levels": np.array(self.levels, np.int64)} | counts(passed=self.passed)

    def restore(self, saved: Saved, epochs: int) -> None:
        """Go on from a saved state after so many whole epochs; raises RunError."""
        self.levels[:] = saved.counts("levels", LAG + epochs, self._most)
        self.passed = saved.count("passed", self._most)
