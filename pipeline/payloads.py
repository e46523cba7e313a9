"""Which arrays each message must carry: their number and shapes, from the configuration alone. Pure.

activation, gradient, target    h or g (rows, width)
evaluation                      h (evaluation rows, width)
increment, as factors           delta (steps · rows, width) and, but for a single first step, entering (…, width)
increment, dense                G_x (inputs, width), G_rec (width, width) likewise, G_b (width,) where there is a bias
credit                          nothing
"""

from __future__ import annotations

import numpy as np

from .actions import ACTIVATION, EVALUATION, GRADIENT, INCREMENT, TARGET, Message
from .errors import WireError
from .plan import EVALUATION_ROWS, ONE_BY_ONE, Plan, box_steps, inputs, rule_of
from .schema import Config
from .wire import Payload, describe


def sends_factors(config: Config) -> bool:
    """Return whether increments travel as factors: where those are fewer numbers than the dense gradient.

    The sum of a batch's micro-batches has none, neither has a step that an optimizer made.
    """
    train = config.train
    steps_alone = config.schedule.kind in ONE_BY_ONE or rule_of(config) != "backward"
    is_step = steps_alone and (train.optimizer != "sgd" or train.clip)
    if (config.schedule.micro_batches or 1) > 1 or is_step or config.oracle.correct:
        return False
    width = config.model.width
    return max(box_steps(config)) * config.data.batch * 2 * width < (inputs(config) + width) * width


class Payloads:
    """What the messages of a run carry."""

    def __init__(self, config: Config, plan: Plan) -> None:
        self.plan = plan
        self.dtype = np.dtype(config.model.dtype)
        self._width = config.model.width
        self._inputs = inputs(config)
        self._steps = box_steps(config)
        self._factors = sends_factors(config)
        self._bias = config.model.bias
        self._known: dict[tuple[str, int, int], Payload] = {}

    def shapes(self, message: Message) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of a message's arrays, in their order."""
        kind, batch, source, _ = message
        if kind in (ACTIVATION, GRADIENT, TARGET):
            return ((self.plan.rows(batch), self._width),)
        if kind == EVALUATION:
            return ((self.plan.evaluation_rows(batch), self._width),)
        if kind != INCREMENT:
            return ()
        if not 1 <= source <= self.plan.boxes:
            raise WireError(f"{self.plan.name(source)} has no increments")
        rows, steps = self.plan.rows(batch), self._steps[source - 1]
        entering = steps if source > 1 else steps - 1
        if self._factors:
            return ((steps * rows, self._width), *([(entering * rows, self._width)] if entering else []))
        dense: list[tuple[int, ...]] = [(self._inputs, self._width)]
        if entering:
            dense.append((self._width, self._width))
        if self._bias:
            dense.append((self._width,))
        return tuple(dense)

    def expected(self, message: Message) -> Payload:
        """Return what a message must carry; raises WireError for a message that cannot be."""
        kind, batch, source, _ = message
        rows = self.plan.evaluation_rows(batch) if kind == EVALUATION else self.plan.rows(batch)
        payload = self._known.get((kind, source, rows))
        if payload is None:
            payload = self._known[kind, source, rows] = describe(self.dtype, self.shapes(message))
        return payload

    def is_fixed(self, kind: str) -> bool:
        """Whether messages of a kind carry the same from one batch to the next."""
        if kind == EVALUATION:
            return self.plan.test % EVALUATION_ROWS == 0 or self.plan.chunks == 1
        return self.plan.train % self.plan.batch == 0

    def most_bytes(self) -> int:
        """Return the size of the largest frame."""
        plan = self.plan
        messages = [Message(ACTIVATION, 0, 1, 2), Message(EVALUATION, 0, 1, 2)]
        messages += [Message(INCREMENT, 0, k, 0) for k in range(1, plan.boxes + 1) if plan.shares_increments]
        return max(int(np.prod(shape)) * self.dtype.itemsize for message in messages for shape in self.shapes(message))
