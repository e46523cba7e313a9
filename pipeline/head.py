"""The arithmetic of the head: its weights, the cost of every batch, the judgement of test images. No clock, no socket.

F   forward · update      the loss, the gradient to the last box, the step of Wfc; of micro-batches the last one steps
E   evaluate              forward only: predictions beside labels

Where boxes read their own steps it has no layer: it adds up what they tell, says after each epoch how long sequences are to be,
and sends a gradient of zeros, for nothing comes after the last box.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import heads, readout, sequences, sizes
from .actions import ACTIVATION, EVALUATION, GRADIENT, LENGTH, Action, Message, Part
from .arrays import Array, Weights, accumulate
from .data import Batches
from .drawn import Examples
from .guard import Guard
from .ledger import Judged, Ledger
from .optimizers import Pace, take
from .plan import Plan
from .schema import Config
from .state import Saved, copies, counts, under
from .weights import head_optimizer, head_weights
from .work import Arrays

#: How far off a number may be that counts as right (Hochreiter and Schmidhuber 1997).
NEAR = 0.04


class HeadWork:
    """The head's weights, the cost of every batch, and what it said of the test images."""

    def __init__(self, config: Config, plan: Plan, batches: Batches | Examples) -> None:
        self.plan = plan
        self.batches = batches
        self.layer = head_weights(config)
        self.version = 0
        self.outputs: dict[str, Arrays] = {}
        self.changes: dict[str, Array] = {}  # what the last action's update was made of, by name
        self.saved: Weights = {}  # the state at the last checkpoint, in a fixed order
        self._loss = config.model.loss
        self._gradient: Weights = {}  # the sum of a batch's micro-batches so far
        self._optimizer = head_optimizer(config, self.layer)
        self._pace = Pace(config.train, plan.steps, rises=False)
        self._guard = Guard(plan.name(plan.head), config.train.limit)
        self._inbox: dict[tuple[str, int], Arrays] = {}
        self._width, self._name = config.model.width, config.data.name
        self._most = sizes.most(config) if plan.reads else 0
        self.curriculum = readout.Curriculum(config.data, self._most) if plan.reads else None
        self.ledger = Ledger(plan, self.levels)

    @property
    def costs(self) -> list[float]:
        """What the batches of the present epoch have cost; of the whole run, where the ledger keeps all."""
        return self.ledger.costs

    @property
    def judged(self) -> list[Judged]:
        """What it said in the present round of evaluations; in the whole run, where the ledger keeps all."""
        return self.ledger.judged

    @property
    def levels(self) -> list[int]:
        """How long sequences are, epoch by epoch as far as it is decided; nothing of other data."""
        return [] if self.curriculum is None else self.curriculum.levels

    def weights(self) -> Weights:
        """Return all arrays that this stage learns, by the names that checkpoints use."""
        return dict(self.layer)

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Keep what a message brought."""
        if arrays:
            self._inbox[message.kind, message.batch] = arrays

    def kept(self, kind: str, batch: int, source: int) -> Arrays:  # noqa: ARG002
        """Return what a message brought that waits for its action; nothing where none does."""
        return self._inbox.get((kind, batch), ())

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action, yielding after each part; `outputs` is complete at the end."""
        self.outputs = {}
        self.changes = {}
        if action.kind == "S":
            return self._save()
        return self._forward(action.batch) if action.kind == "F" else self._evaluate(action.batch)

    def _save(self) -> Iterator[Part]:
        self.saved = self.changes = self.state()
        yield Part("save", self.version, self.version)

    def state(self) -> Weights:
        """Return copies of all that decides later numbers, weights by their own names, at a barrier: nothing is in flight."""
        assert not self._gradient, "a batch's micro-batches are not all here"
        found = copies(self.layer) | counts(version=self.version) | under("optimizer", self._optimizer.state())
        found |= under("ledger", self.ledger.state())
        return found | (under("curriculum", self.curriculum.state()) if self.curriculum else {})

    def restore(self, state: Weights) -> None:
        """Go on from a state, before the first action; raises RunError for an array that is missing, unknown or unfit."""
        saved = Saved(state, self.plan.name(self.plan.head))
        for name, array in self.layer.items():
            saved.fill(name, array)
        self.version = saved.count("version")
        self._optimizer.restore(saved.under("optimizer"), self.layer)
        self.ledger.restore(saved.under("ledger"))
        if self.curriculum:
            self.curriculum.restore(saved.under("curriculum"), self.ledger.forwards // self.plan.epoch_batches)
        saved.end()

    def _forward(self, batch: int) -> Iterator[Part]:
        h, *tally = self._inbox.pop((ACTIVATION, batch))
        if tally:
            yield from self._add_up(batch, h, tally[0])
            return
        state, h = h.shape[1], h[:, : self._width]
        a, y_hat = heads.forward(self.layer, h, self._loss)
        y = self.batches.wanted(self.batches.labels(batch))
        cost = heads.cost(a, y, self._loss, y_hat)
        self._guard.check_number("F", batch, "the cost", cost)
        self.ledger.add(cost)
        read = self.version
        yield Part("forward", read, read)
        micro = self.plan.micro
        dense, g = heads.backward(self.layer, h, y_hat, y, self._loss, micro)
        self._guard.check("F", batch, "the gradient", g)
        self.outputs[GRADIENT] = (heads.widened(g, state),)
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

    def _add_up(self, batch: int, h: Array, tally: Array) -> Iterator[Part]:
        """Take note of what the boxes' own losses are."""
        cost = readout.cost(tally)
        self._guard.check_number("F", batch, "the cost", cost)
        self.ledger.add(cost)
        yield Part("forward", self.version, self.version)
        self.outputs[GRADIENT] = (np.zeros_like(h),)
        assert self.curriculum is not None, "a head adds up where boxes read"
        level = self.curriculum.after(self.plan, batch, self.ledger.present)
        if level is not None and batch // self.plan.epoch_batches < self.plan.lengths:
            self.outputs[LENGTH] = (np.array([level], h.dtype),)
        yield Part("update", self.version, self.version)

    def _evaluate(self, evaluation: int) -> Iterator[Part]:
        h, *tally = self._inbox.pop((EVALUATION, evaluation))
        if tally:
            judged = judge_tally(self.batches, evaluation, tally[0], self._most)
        else:
            judged = judge(self.layer, h[:, : self._width], self.batches, evaluation, self._loss, self._name)
        self._guard.check_number("E", evaluation, "the cost", judged.cost)
        self.ledger.judge(judged)
        self.changes["ŷ"] = judged.outputs
        yield Part("evaluate", self.version, self.version)


def judge(layer: Weights, h: Array, batches: Batches | Examples, evaluation: int, loss: str, name: str = "") -> Judged:
    """Return what the head says of one evaluation, whose hidden state h is (rows, width); `name` is that of the data."""
    a, y_hat = heads.forward(layer, h, loss)
    labels = batches.evaluation_labels(evaluation)
    y = batches.wanted(labels)
    cost = heads.cost(a, y, loss, y_hat)
    places = batches.evaluation_places(evaluation)
    if isinstance(batches, Examples) and batches.own is not None:
        own = batches.own
        return Judged(places, own.told(y), own.told(y_hat), y_hat, cost, own.rights(y_hat, y))
    if name == "adding":
        return Judged(places, y[:, 0], y_hat[:, 0], y_hat, cost, np.abs(y_hat[:, 0] - y[:, 0]) < NEAR)
    if name == "addition":
        told, bits = y_hat > 0.5, y > 0.5
        rights = (told == bits).mean(axis=1)
        return Judged(places, sequences.number_of(bits), sequences.number_of(told), y_hat, cost, rights)
    return Judged(places, labels, heads.predictions(y_hat), y_hat, cost)


def judge_tally(batches: Batches | Examples, evaluation: int, tally: Array, most: int) -> Judged:
    """Return what the boxes have said of one evaluation's sequences, of levels up to `most`."""
    right, wanted = (tally[:, column].astype(np.float64) for column in (readout.RIGHT, readout.WANTED))
    places, rights = batches.evaluation_places(evaluation), right / np.maximum(wanted, 1)
    as_count = np.int64
    return Judged(
        places, wanted.astype(as_count), right.astype(as_count), tally[:, :0], readout.cost(tally), rights,
        readout.level_of(tally[:, readout.LEVEL], most, f"head: evaluation {evaluation}"),
    )  # fmt: skip
