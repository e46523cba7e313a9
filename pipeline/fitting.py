"""How an oracle is fitted to its targets: caps, optimizer, a memory of past targets. Pure arithmetic.

For each target that comes, in this order:

    cap       a row longer than `cap` times the usual row is cut to that length: one wild target must not throw an oracle
    see       what the oracle learns without a gradient
    step      one on the new target, then `replays` of them on targets of the last `memory` batches, drawn by seed

An oracle is always fitted to the true h and y of a target's batch, with the weights that it has when the target comes.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np

from .arrays import Array, Scratch, Weights
from .optimizers import Optimizer, take
from .oracle_controls import Noise, Stale
from .oracle_mlp import Mlp
from .oracle_own import Own
from .oracles import Linear, Oracle, Shape, recall, remember
from .schema import Config
from .sizes import classes, link, state
from .state import Saved, counts


class Example(NamedTuple):
    """What an oracle learns from: activation (rows, width), label (rows, classes), target (rows, width)."""

    h: Array
    y: Array | None
    target: Array


def shape_of(config: Config) -> Shape:
    """Return what the oracles of a configuration must fit."""
    return Shape(state(config), classes(config), config.model.dtype, link(config))


def make_oracle(config: Config, shape: Shape, rng: np.random.Generator) -> Oracle:
    """Return the oracle of a configuration; raises ConfigError for a user's that is none."""
    oracle = config.oracle
    if oracle.kind == "own":
        return Own(oracle.code, oracle.file or "oracle.code", shape, rng)
    kinds = {"linear": Linear, "mlp": Mlp, "stale": Stale, "noise": Noise}
    return kinds[oracle.kind](oracle, shape, rng)


class Fitting:
    """Trains one oracle."""

    def __init__(self, config: Config, oracle: Oracle, rng: np.random.Generator) -> None:
        given, train = config.oracle, config.train
        self.oracle = oracle
        self._shape, self._sees_label = shape_of(config), given.sees_label
        self._rate = train.rate_oracle
        self._is_normalised = train.optimizer_oracle == "nlms"
        self._optimizer = Optimizer(train.optimizer_oracle, train, dict.fromkeys(oracle.weights, train.rate_oracle))
        self._cap = given.cap
        self._usual = np.zeros(2)  # the running mean square norm of a row
        self._memory: deque[Example] = deque(maxlen=given.memory)
        self._replays = given.replays if given.memory and oracle.descends else 0
        self._seed = int(rng.integers(2**32)) if self._replays else 0

    def state(self) -> Weights:
        """Return copies of what it has besides the oracle's weights: the optimizer's, `usual`, `memory` and `memory.0.h` on."""
        found = self._optimizer.state() | self.oracle.state()
        if self._cap:
            found["usual"] = self._usual.copy()
        if not self._replays:
            return found
        found |= counts(memory=len(self._memory))
        for place, example in enumerate(self._memory):  # nobody writes to what is in it
            told = {name: array for name, array in example._asdict().items() if array is not None}
            found |= {f"memory.{place}.{name}": array for name, array in told.items()}
        return found

    def restore(self, saved: Saved) -> None:
        """Go on from a saved state, the oracle's weights being there; raises RunError."""
        self._optimizer.restore(saved, self.oracle.weights)
        self.oracle.restore(saved)
        if self._cap:
            saved.fill("usual", self._usual)
        if not self._replays:
            return
        width, labels, dtype, _ = self._shape
        for place in range(saved.count("memory", self._memory.maxlen)):
            example = saved.under(f"memory.{place}")
            h = example.take("h", (None, width), dtype)
            y = example.take("y", (len(h), labels), dtype) if self._sees_label else None
            self._memory.append(Example(h, y, example.take("target", h.shape, dtype)))

    def fit(self, batch: int, h: Array, y: Array | None, target: Array, scratch: Scratch) -> Array:
        """Train on a target that has come; return the error of the prediction, (rows, width), by row."""
        if not self.oracle.wants(target):
            return np.zeros_like(target)
        example = Example(h, y, self._capped(target))
        self.oracle.see(*example, batch)
        error = self._step(example, batch, scratch)
        if self._replays and self._memory:
            rng = np.random.default_rng([self._seed, batch])
            for place in rng.integers(len(self._memory), size=self._replays):
                self._step(self._memory[place], batch, scratch)
        if self._replays:  # a view would keep the states of all the box's steps
            self._memory.append(Example(h.copy(), y, example.target.copy()))
        return error

    def _capped(self, target: Array) -> Array:
        """Return a target whose rows are no longer than the cap allows."""
        if not self._cap:
            return target
        square = np.einsum("ij,ij->i", target, target)
        usual = recall(self._usual)
        if usual > 0:  # nothing is usual before the first target that says anything
            most = self._cap**2 * usual
            long = square > most
            if long.any():
                target = target.copy()
                target[long] *= np.sqrt(most / square[long])[:, None]
                square[long] = most
        remember(self._usual, float(square.mean()))
        return target

    def _step(self, example: Example, batch: int, scratch: Scratch) -> Array:
        h, y, target = example
        oracle = self.oracle
        error = oracle.predict(h, y, batch)
        error -= target
        error /= len(error)
        rate = self._rate
        if isinstance(oracle, Linear) and self._optimizer.is_plain:
            if self._is_normalised:
                rate /= oracle.power(h, y) + math.ulp(1.0)
            oracle.descend(h, y, error, rate, scratch)
        else:
            take(oracle.weights, self._optimizer.step(oracle.gradient(h, y, error)))
        return error
