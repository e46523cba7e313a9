"""A box's own classifier, for the rule `local`: what the box learns by, with no message from later boxes. Pure arithmetic.

It is trained on each batch as the box forwards it, and the box steps on the gradient at its activation (Belilovsky et
al. 2019). Where boxes read their own steps there is none: their own losses are all that they learn from.
"""

from __future__ import annotations

import numpy as np

from . import heads
from .arrays import Array, Weights
from .data import Batches
from .drawn import Examples
from .optimizers import Pace, take
from .plan import Plan
from .schema import Config
from .state import Saved
from .weights import head_optimizer, local_weights


class Classifier:
    """The classifier of a box. It has no weights where the box learns by another rule, or by its own losses."""

    def __init__(self, config: Config, plan: Plan, number: int, batches: Batches | Examples) -> None:
        is_there = plan.learns(number) == "local" and not plan.reads
        self.weights: Weights = local_weights(config, number) if is_there else {}
        self._batches = batches
        self._optimizer = head_optimizer(config, self.weights)
        self._pace = Pace(config.train, plan.steps, rises=False)
        self._width, self._loss = config.model.width, config.model.loss

    def gradient(self, batch: int, h: Array) -> tuple[Weights, Array]:
        """Return the gradient of its loss, by its weights and at the activation h (rows, state)."""
        if not self.weights:  # backpropagation truncated at the box's edges
            return {}, np.zeros_like(h)
        y = self._batches.wanted(self._batches.labels(batch))
        return heads.classify(self.weights, h, self._width, y, self._loss)

    def train(self, batch: int, h: Array) -> Array:
        """Take a step and return the gradient at the activation h (rows, state), by the weights before it."""
        dense, g = self.gradient(batch, h)
        take(self.weights, self._optimizer.step(dense, self._pace.at(batch)))
        return g

    def state(self) -> Weights:
        """Return copies of what it has besides its weights: the optimizer's."""
        return self._optimizer.state()

    def restore(self, saved: Saved) -> None:
        """Go on from a saved state, the weights being there; raises RunError."""
        self._optimizer.restore(saved, self.weights)
