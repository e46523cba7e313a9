"""The arithmetic of one stage's actions: its weights, what it keeps of batches in flight, what it sends. No clock, no socket.

`do(action)` yields after each part of the action, so that a driver can time the parts; when it has ended, `outputs` has
the arrays of the messages that the stage's `finish` names, by kind. A part says which version of the weights it read and
which it wrote. Arrays that are sent are never written to again: a transport may alias them.

    F   forward · update      box: activation; with an oracle the update on ĝ, target and increment · head: loss, gradient
    B   backward              untied: the update too · tied: the increment · micro-batch: added to the batch's gradient
    T   train                 the oracle's update; with true targets the gradient to the box before
    U   apply                 a sibling's increment, or one step on the sum of boxes' or micro-batches' gradients
    E   evaluate              forward only
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from . import cells, oracles
from .actions import ACTIVATION, EVALUATION, GRADIENT, INCREMENT, TARGET, Action, Message, Part
from .arrays import Array, Scratch, Weights, descend, total
from .cells import Factors, Trail
from .data import Batches
from .payloads import sends_factors
from .plan import Plan, box_steps
from .schema import Config
from .stash import Stash
from .weights import box_rates, box_weights, oracle_weights

Arrays = tuple[Array, ...]


class Work(Protocol):
    """What a stage computes. A simulation may have a work without arithmetic."""

    @property
    def outputs(self) -> dict[str, Arrays]:
        """The arrays of the messages that the last action sends, by kind."""

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Keep what a message brought until the action that consumes it."""

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action, yielding after each part."""


class Around:
    """A work that does another's and adds something to `do`."""

    def __init__(self, work: Work) -> None:
        self.work = work

    @property
    def outputs(self) -> dict[str, Arrays]:
        """The arrays of the messages that the last action sends, by kind."""
        return self.work.outputs

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Keep what a message brought until the action that consumes it."""
        self.work.keep(message, arrays)

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action, yielding after each part."""
        return self.work.do(action)


class Flight(NamedTuple):
    """A batch that is forwarded and not settled."""

    trail: Trail
    read: int  # the version of the weights that its forward read
    weights: Weights  # what its gradient passes through


class BoxWork:
    """A box's weights, its oracle, and the batches in flight."""

    def __init__(self, config: Config, plan: Plan, number: int, batches: Batches) -> None:
        self.number = number
        self.plan = plan
        self.batches = batches
        self.cell = box_weights(config, number)
        self.oracle = oracle_weights(config, number) if plan.rule == "synthetic" else {}
        self.version = 0  # of the cell's weights: updates so far, own and siblings'
        self.oracle_version = 0
        self.outputs: dict[str, Arrays] = {}
        self.changes: dict[str, Array] = {}  # what the last action's update was made of, by name
        self._rates = box_rates(config)
        self._scratch = Scratch()
        self._oracle_rate = config.train.rate_oracle
        self._sees_label = config.oracle.sees_label
        self._factors = sends_factors(config)
        self._passes_on = number > 1
        self._inbox: dict[tuple[str, int, int], Arrays] = {}
        self._flights: dict[int, Flight] = {}
        self._own: dict[int, Factors | Weights] = {}  # step: own gradient, until the step on the sum
        self._parts: dict[int, list[Factors]] = {}  # step: its micro-batches' gradients, until the step
        # A single first step passes nothing back: there is nothing to keep for it.
        is_passed = number > 1 or box_steps(config)[number - 1] > 1
        self._stash = Stash(self.cell) if plan.weights == "stash" and plan.rule != "frozen" and is_passed else None

    def weights(self) -> Weights:
        """Return all arrays that this stage learns, by the names that checkpoints use."""
        return self.cell | {f"oracle_{name}": array for name, array in self.oracle.items()}

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Keep what a message brought."""
        if arrays:
            self._inbox[message.kind, message.batch, message.source] = arrays

    def kept(self, kind: str, batch: int, source: int) -> Arrays:
        """Return what a message brought that waits for its action; nothing where none does."""
        return self._inbox.get((kind, batch, source), ())

    def trail(self, batch: int) -> Trail:
        """Return what the forward of a batch in flight has left behind."""
        return self._flights[batch].trail

    def _take(self, kind: str, batch: int, source: int) -> Arrays:
        return self._inbox.pop((kind, batch, source))

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action, yielding after each part; `outputs` is complete at the end."""
        self.outputs = {}
        self.changes = {}
        kind, batch, sibling = action
        if kind == "F":
            return self._forward(batch)
        if kind == "T":
            return self._train(batch)
        if kind == "B":
            return self._backward(batch)
        if kind == "U":
            return self._apply(batch, sibling) if sibling else self._step(batch)
        return self._evaluate(batch)

    def _forward(self, batch: int) -> Iterator[Part]:
        entering = self._take(ACTIVATION, batch, self.number - 1)[0] if self.number > 1 else None
        trail = cells.forward(self.cell, self.batches.inputs(batch, self.number), entering, self._scratch)
        read = self.version
        self.outputs[ACTIVATION] = (trail.h,)
        if self.plan.rule != "frozen":
            self._flights[batch] = Flight(trail, read, self._stash.keep() if self._stash else self.cell)
        yield Part("forward", read, read)
        if self.plan.rule == "synthetic":
            h = trail.h
            g = oracles.predict(self.oracle, h, self.label(batch), self._scratch.array("guess", h.shape, h.dtype))
            sends_target = self._passes_on and self.plan.target == "bootstrapped"
            # The target uses the weights that the forward read, so backward comes before the update.
            factors, target = cells.backward(self.cell, trail, g, passes_on=sends_target, scratch=self._scratch)
            if target is not None:
                self.outputs[TARGET] = (target,)
            self._update(self._shared(factors))
            yield Part("update", read, self.version)

    def label(self, batch: int) -> Array | None:
        """Return the one-hot labels of a batch where the oracle sees them."""
        return self.batches.one_hot(self.batches.labels(batch)) if self._sees_label else None

    def _update(self, increment: Factors | Weights) -> None:
        """Take one step on an increment, own or a sibling's, in the form in which it travels."""
        if self._stash:
            self._stash.part()
        if isinstance(increment, Factors):
            self._note(increment)
            cells.descend(self.cell, increment, self._rates, self._scratch)
        else:
            descend(self.cell, increment, self._rates)
        self.version += 1

    def _note(self, factors: Factors) -> None:
        # A dense increment is large, travels as it is, and is summed where it was made: it is not noted again.
        self.changes |= {"delta": factors.delta, "entering": factors.entering}

    def _shared(self, made: Factors | Weights) -> Factors | Weights:
        """Put the increment out for the siblings, if there are any, and return it in the form in which it travels."""
        if not self.plan.shares_increments:
            return made
        if self._factors and isinstance(made, Factors):
            self.outputs[INCREMENT] = (made.delta, *([made.entering] if len(made.entering) else []))
            return made
        dense = cells.gradient(made, self.cell) if isinstance(made, Factors) else made
        self.outputs[INCREMENT] = tuple(G.copy() for G in dense.values())  # the step uses the original up
        return dense

    def _train(self, batch: int) -> Iterator[Part]:
        kind = self._settling_kind()
        (target,) = self._take(kind, batch, self.number + 1)
        flight = self._land(batch)
        trail, read = flight.trail, self.oracle_version
        self.changes["oracle's error"] = oracles.train(
            self.oracle, trail.h, self.label(batch), target, self._oracle_rate, self._scratch
        )
        self.oracle_version += 1
        if self.plan.target == "true" and self._passes_on:
            _, g = cells.backward(flight.weights, trail, target, passes_on=True, scratch=self._scratch)
            assert g is not None
            self.outputs[GRADIENT] = (g,)
        yield Part("train", read, self.oracle_version)

    def _land(self, batch: int) -> Flight:
        """Return a batch that is in flight no longer."""
        flight = self._flights.pop(batch)
        if self._stash:
            self._stash.give_back(flight.weights)
        return flight

    def _settling_kind(self) -> str:
        kind = self.plan.backward_kind(self.number)
        assert kind is not None, "a frozen box has nothing to settle"
        return kind

    def _backward(self, batch: int) -> Iterator[Part]:
        (g,) = self._take(GRADIENT, batch, self.number + 1)
        trail, read, weights = self._land(batch)
        factors, before = cells.backward(weights, trail, g, passes_on=self._passes_on, scratch=self._scratch)
        if before is not None:
            self.outputs[GRADIENT] = (before,)
        if self.plan.micro > 1:
            self._note(factors)
            step = self.plan.step(batch)
            self._parts.setdefault(step, []).append(factors)
            if self.plan.shares_increments and (batch + 1) % self.plan.micro == 0:
                self._own[step] = self._shared(cells.gradient(cells.stack(self._parts.pop(step)), self.cell))
        elif self.plan.sums_gradients:
            self._note(factors)
            self._own[batch] = self._shared(factors)
        else:
            self._update(factors)
        yield Part("backward", read, self.version)

    def _increment(self, batch: int, sibling: int) -> Factors | Weights:
        """Return a sibling's increment of a batch, as factors or dense."""
        arrays = self._take(INCREMENT, batch, sibling)
        if self._factors:
            x = self.batches.inputs(batch, sibling)
            delta, entering = arrays[0], arrays[1] if len(arrays) > 1 else arrays[0][:0]
            return Factors(x.reshape(-1, x.shape[2]), entering, delta)
        has_recurrent = len(arrays) == len(self.cell)
        names = [name for name in self.cell if has_recurrent or name != "Wrec"]
        return {name: G.copy() for name, G in zip(names, arrays, strict=True)}  # received arrays may be read-only

    def _apply(self, batch: int, sibling: int) -> Iterator[Part]:
        read = self.version
        self._update(self._increment(batch, sibling))
        yield Part("apply", read, self.version)

    def _step(self, batch: int) -> Iterator[Part]:
        read = self.version
        if self._stash:
            self._stash.part()
        if batch in self._parts:  # nobody else has a share in it
            cells.descend(self.cell, cells.stack(self._parts.pop(batch)), self._rates, self._scratch)
        else:
            descend(self.cell, total(self._summands(batch, self._own.pop(batch))), self._rates)
        self.version += 1
        yield Part("apply", read, self.version)

    def _summands(self, batch: int, own: Factors | Weights) -> Iterator[Weights]:
        boxes = range(self.plan.boxes, 0, -1) if self.plan.shares_increments else (self.number,)
        for k in boxes:
            part = own if k == self.number else self._increment(batch, k)
            if isinstance(part, Factors):
                # The first is what is summed into; the others are added at once.
                part = cells.gradient(part, self.cell, None if k == boxes[0] else self._scratch)
            yield part

    def _evaluate(self, evaluation: int) -> Iterator[Part]:
        entering = self._take(EVALUATION, evaluation, self.number - 1)[0] if self.number > 1 else None
        trail = cells.forward(
            self.cell, self.batches.evaluation_inputs(evaluation, self.number), entering, self._scratch
        )
        self.outputs[EVALUATION] = (trail.h,)
        yield Part("evaluate", self.version, self.version)
