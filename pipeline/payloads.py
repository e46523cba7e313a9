"""Which arrays each message must carry: their number and shapes, from the configuration alone. Pure.

activation, gradient, target    h or g (rows, state); where boxes read their own steps, a tally (rows, 4) beside h;
                                with traced targets, but to the head, a prediction and a trace beside h (`traces`)
evaluation                      h (evaluation rows, state), and the tally
increment, as factors           delta (steps · rows, width) and, but for a single first step, entering (…, width)
increment, dense                the gradient, or the step, of each weight that the box's steps touch, in their order; with
                                traced targets then the shared oracle's, but for box 1
length                          the level (1,)
credit                          nothing
"""

from __future__ import annotations

import numpy as np

from .actions import ACTIVATION, EVALUATION, GRADIENT, INCREMENT, LENGTH, TARGET, Message
from .errors import WireError
from .learning import ONE_BY_ONE, rule_of
from .plan import EVALUATION_ROWS, Plan
from .readout import COLUMNS
from .schema import Config
from .sizes import box_steps, inputs, outputs, reads, state, trace
from .weights import make_cell, oracle_weights
from .wire import Payload, describe


def sends_factors(config: Config) -> bool:
    """Return whether increments travel as factors: where those are fewer numbers than the dense gradient.

    The sum of a batch's micro-batches has none, neither has a step that an optimizer made.
    """
    train = config.train
    steps_alone = config.schedule.kind in ONE_BY_ONE or rule_of(config) != "backward"
    is_step = steps_alone and (train.optimizer != "sgd" or train.clip)
    if config.model.cell != "rnn" or reads(config):
        return False  # they take more factors than two
    if (config.schedule.micro_batches or 1) > 1 or is_step or config.oracle.correct or rule_of(config) == "traced":
        return False
    width = config.model.width
    return max(box_steps(config)) * config.data.batch * 2 * width < (inputs(config) + width) * width


def heads_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the layer by which a box reads its own steps."""
    width, out = config.model.width, outputs(config)
    return {"Wfc": (width, out)} | ({"bfc": (out,)} if config.model.bias else {})


def increment_shapes(config: Config, number: int, own: dict[str, tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a dense increment of a box, with those of its own readout."""
    kind = make_cell(config, number)
    shapes = kind.shapes()
    return tuple([shapes[name] for name in shapes if name in kind.touched()] + list(own.values()))


class Payloads:
    """What the messages of a run carry."""

    def __init__(self, config: Config, plan: Plan) -> None:
        self.plan = plan
        self.dtype = np.dtype(config.model.dtype)
        self._width = config.model.width
        self._state = state(config)
        self._steps = box_steps(config)
        self._factors = sends_factors(config)
        own = heads_shapes(config) if plan.reads else {}
        learnt = {name: each.shape for name, each in oracle_weights(config).items()} if plan.rule == "traced" else {}
        self._dense = {k: increment_shapes(config, k, own | (learnt if k > 1 else {})) for k in (1, min(2, plan.boxes))}
        self._config = config
        self._known: dict[tuple[str, int, int], Payload] = {}

    def shapes(self, message: Message) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of a message's arrays, in their order."""
        kind, batch, source, _ = message
        if kind in (ACTIVATION, EVALUATION):
            own = self.plan.evaluation_rows(batch) if kind == EVALUATION else self.plan.rows(batch)
            if self.plan.rule == "traced" and kind == ACTIVATION and source < self.plan.boxes:
                return (own, self._state), (own, self._state), trace(self._config, own)
            return ((own, self._state), (own, COLUMNS)) if self.plan.reads else ((own, self._state),)
        if kind in (GRADIENT, TARGET):
            return ((self.plan.rows(batch), self._state),)
        if kind == LENGTH:
            return ((1,),)
        if kind != INCREMENT:
            return ()
        if not 1 <= source <= self.plan.boxes:
            raise WireError(f"{self.plan.name(source)} has no increments")
        if not self._factors:
            return self._dense[min(source, 2)]
        rows, steps = self.plan.rows(batch), self._steps[source - 1]
        entering = steps if source > 1 else steps - 1
        return ((steps * rows, self._width), *([(entering * rows, self._width)] if entering else []))

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
