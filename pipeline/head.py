"""The arithmetic of the head: its weights, the cost of every batch, the judgement of test images. No clock, no socket.

F   forward · update      the loss, the gradient to the last box, the step of Wfc; of micro-batches the last one steps
E   evaluate              forward only: predictions beside labels
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import heads
from .actions import ACTIVATION, EVALUATION, GRADIENT, Action, Message, Part
from .arrays import Array, Weights, accumulate
from .data import Batches
from .guard import Guard
from .optimizers import Pace, take
from .plan import Plan
from .schema import Config
from .weights import head_optimizer, head_weights
from .work import Arrays


class Judged(NamedTuple):
    """What the head said of one evaluation's images, row by row."""

    places: NDArray[np.int64]
    labels: NDArray[np.uint8]
    predictions: NDArray[np.int64]
    outputs: Array  # (rows, outputs): ŷ
    cost: float

    @property
    def right(self) -> int:
        """How many images were told right."""
        return int((self.predictions == self.labels).sum())


class HeadWork:
    """The head's weights, the cost of every batch, and what it said of the test images."""

    def __init__(self, config: Config, plan: Plan, batches: Batches) -> None:
        self.plan = plan
        self.batches = batches
        self.layer = head_weights(config)
        self.version = 0
        self.outputs: dict[str, Arrays] = {}
        self.changes: dict[str, Array] = {}  # what the last action's update was made of, by name
        self.costs: list[float] = []
        self.judged: list[Judged] = []
        self._loss = config.model.loss
        self._gradient: Weights = {}  # the sum of a batch's micro-batches so far
        self._optimizer = head_optimizer(config, self.layer)
        self._pace = Pace(config.train, plan.steps, rises=False)
        self._guard = Guard(plan.name(plan.head), config.train.limit)
        self._inbox: dict[tuple[str, int], Array] = {}

    def weights(self) -> Weights:
        """Return all arrays that this stage learns, by the names that checkpoints use."""
        return dict(self.layer)

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Keep what a message brought."""
        if arrays:
            self._inbox[message.kind, message.batch] = arrays[0]

    def kept(self, kind: str, batch: int, source: int) -> Arrays:  # noqa: ARG002
        """Return what a message brought that waits for its action; nothing where none does."""
        found = self._inbox.get((kind, batch))
        return () if found is None else (found,)

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action, yielding after each part; `outputs` is complete at the end."""
        self.outputs = {}
        self.changes = {}
        if action.kind == "F":
            return self._forward(action.batch)
        return self._evaluate(action.batch)

    def _forward(self, batch: int) -> Iterator[Part]:
        h = self._inbox.pop((ACTIVATION, batch))
        a, y_hat = heads.forward(self.layer, h, self._loss)
        y = self.batches.wanted(self.batches.labels(batch))
        cost = heads.cost(a, y, self._loss, y_hat)
        self._guard.check_number("F", batch, "the cost", cost)
        self.costs.append(cost)
        read = self.version
        yield Part("forward", read, read)
        micro = self.plan.micro
        dense, g = heads.backward(self.layer, h, y_hat, y, self._loss, micro)
        self._guard.check("F", batch, "the gradient", g)
        self.outputs[GRADIENT] = (g,)
        self.changes["ŷ"] = y_hat
        if micro > 1:
            dense = self._gradient = accumulate(self._gradient, dense)
            if (batch + 1) % micro:
                yield Part("update", read, read)
                return
            self._gradient = {}
        take(self.layer, self._optimizer.step(dense, self._pace.at(self.plan.step(batch))))
        self.version += 1
        yield Part("update", read, self.version)

    def _evaluate(self, evaluation: int) -> Iterator[Part]:
        h = self._inbox.pop((EVALUATION, evaluation))
        self.judged.append(judge(self.layer, h, self.batches, evaluation, self._loss))
        self._guard.check_number("E", evaluation, "the cost", self.judged[-1].cost)
        self.changes["ŷ"] = self.judged[-1].outputs
        yield Part("evaluate", self.version, self.version)


def judge(layer: Weights, h: Array, batches: Batches, evaluation: int, loss: str) -> Judged:
    """Return what the head says of one evaluation, whose activation h is (rows, width)."""
    a, y_hat = heads.forward(layer, h, loss)
    labels = batches.evaluation_labels(evaluation)
    cost = heads.cost(a, batches.wanted(labels), loss, y_hat)
    return Judged(batches.evaluation_places(evaluation), labels, heads.predictions(y_hat), y_hat, cost)
