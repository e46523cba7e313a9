"""A box's weights and every way in which they take a step: on its own gradient, on a sibling's, on a sum. Pure arithmetic.

What travels between tied boxes is fixed at the start (`payloads.sends_factors`): the factors of a gradient, of which everybody
makes the same step, or the step itself, as the maker's optimizer made it. Where gradients are summed they travel before any
step, and every replica makes the same one, with an optimizer in the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .arrays import Array, Scratch, Weights, total
from .cells import Cell, Factors
from .data import Batches
from .drawn import Examples
from .optimizers import Optimizer, Pace, take
from .payloads import sends_factors
from .plan import Plan
from .schema import Config
from .stash import Stash
from .state import Saved, counts, under
from .weights import box_rates, box_weights, make_cell, oracle_optimizer
from .work import Arrays


class Stepper:
    """The weights of one box. `changes` has what the last step was made of, by name."""

    def __init__(self, config: Config, plan: Plan, number: int, batches: Batches | Examples, scratch: Scratch) -> None:
        self.kind: Cell = make_cell(config, number)
        self.cell = box_weights(config, number)
        self.version = 0  # updates so far, own and siblings'
        self.changes: dict[str, Array] = {}
        self.optimizer = Optimizer(
            config.train.optimizer, config.train, box_rates(config, self.cell), config.train.clip
        )
        self._oracle_optimizer = oracle_optimizer(config, self.cell)  # of an oracle among the cell's weights
        self._plan, self._number, self._batches, self._scratch = plan, number, batches, scratch
        self._pace = Pace(config.train, plan.steps, rises=True)
        self._factors = sends_factors(config)
        self._replicas = bool(plan.replicas(number))
        self._own: dict[int, Factors | Weights] = {}  # step: own gradient, until the step on the sum
        self._parts: dict[int, list[Factors]] = {}  # step: its micro-batches' gradients, until the step
        # A single first step passes nothing back: there is nothing to keep for it.
        is_kept = plan.weights == "stash" and plan.wants_gradients(number) and self.kind.is_passed
        self.stash = Stash(self.cell, self.kind.passing) if is_kept else None
        # A sibling's steps are the same as this box's, but that a single first step leaves Wrec alone, box 1 an oracle.
        self._touched = {k: _touched(config, k, self.cell) for k in plan.siblings(number)}

    def state(self) -> Weights:
        """Return copies of what decides later steps besides the weights; at a barrier, where no step is half made."""
        assert not {*self._own, *self._parts}, "a step is half made"
        found = counts(version=self.version) | under("optimizer", self.optimizer.state())
        return found | (under("oracle_optimizer", self._oracle_optimizer.state()) if self._is_shared else {})

    def restore(self, saved: Saved) -> None:
        """Go on from a saved state, the weights being there; raises RunError."""
        self.version = saved.count("version")
        self.optimizer.restore(saved.under("optimizer"), self.cell)
        if self._is_shared:
            self._oracle_optimizer.restore(saved.under("oracle_optimizer"), self.cell)

    @property
    def _is_shared(self) -> bool:
        """Whether an oracle that all boxes share is among the weights."""
        return "oracle_L" in self.cell

    def own(self, batch: int, factors: Factors, oracle: Weights) -> Arrays:
        """Take one step on an own gradient; return it in the form in which it travels, nothing where nobody wants it.

        `oracle` is the dense gradient of an oracle that all boxes share (used up): a part of the same step; mostly it is empty.
        """
        self._note(factors)
        pace = self._pace.at(self._plan.step(batch))
        if self.optimizer.is_plain and (self._factors or not self._replicas):
            self._descend(factors, pace)
            return _arrays(factors) if self._replicas else ()
        step = self.optimizer.step(self.kind.gradient(factors, self.cell), pace)
        step |= self._oracle_optimizer.step(oracle)
        self._take(step)
        return tuple(step.values()) if self._replicas else ()

    def sibling(self, batch: int, sibling: int, arrays: Arrays) -> None:
        """Take the step that a sibling made, or make the one whose factors it sent."""
        increment = self._increment(batch, sibling, arrays)
        if isinstance(increment, Factors):
            self.changes |= {"delta": increment.delta, "entering": increment.entering}
            self._descend(increment, self._pace.at(batch))
        else:
            self._take(increment)

    def add(self, batch: int, factors: Factors) -> Arrays:
        """Add an own gradient to what will be summed; return what travels, if anything does now."""
        self._note(factors)
        step, micro = self._plan.step(batch), self._plan.micro
        if micro == 1:
            return self._keep(step, factors)
        self._parts.setdefault(step, []).append(factors)
        if not self._replicas or (batch + 1) % micro:
            return ()
        return self._keep(step, self.kind.gradient(self.kind.stack(self._parts.pop(step)), self.cell))

    def sum(self, step: int, increments: Callable[[int], Arrays]) -> None:
        """Take one step on the sum of all boxes' gradients, or of a batch's micro-batches; `increments` has a sibling's."""
        pace = self._pace.at(step)
        parts = self._parts.pop(step, None)  # nobody else has a share in them
        if parts is not None and self.optimizer.is_plain:
            self._descend(self.kind.stack(parts), pace)
            return
        own = self._own.pop(step) if parts is None else self.kind.stack(parts)
        self._take(self.optimizer.step(total(self._summands(step, own, increments)), pace))

    def _descend(self, factors: Factors, pace: float) -> None:
        self._part()
        rates = self.optimizer.rates
        rates = rates if pace == 1 else {name: rate * pace for name, rate in rates.items()}
        self.kind.descend(self.cell, factors, rates, self._scratch)
        self.version += 1

    def _take(self, step: Weights) -> None:
        self._part()
        take(self.cell, step)
        self.version += 1

    def _part(self) -> None:
        if self.stash:
            self.stash.part()

    def _note(self, factors: Factors) -> None:
        # What is dense travels as it is, and is summed where it was made: it is not noted again.
        if self._factors or not self._replicas or self._plan.micro > 1:
            self.changes |= {"delta": factors.delta, "entering": factors.entering}

    def _keep(self, step: int, made: Factors | Weights) -> Arrays:
        """Keep an own gradient until the sum, in the form in which it travels, and return that form."""
        self._own[step] = made
        if not self._replicas:
            return ()
        if self._factors and isinstance(made, Factors):
            return _arrays(made)
        dense = self._own[step] = self.kind.gradient(made, self.cell) if isinstance(made, Factors) else made
        return tuple(G.copy() for G in dense.values())  # the sum uses the original up

    def _increment(self, batch: int, sibling: int, arrays: Arrays) -> Factors | Weights:
        """Return what a sibling sent: factors, a step, or a gradient to be summed. Its arrays may be read-only."""
        if self._factors:
            x = self._batches.inputs(batch, sibling)
            delta, entering = arrays[0], arrays[1] if len(arrays) > 1 else arrays[0][:0]
            return Factors(x.reshape(-1, x.shape[2]), entering, delta)
        return dict(zip(self._touched[sibling], arrays, strict=True))

    def _summands(self, step: int, own: Factors | Weights, increments: Callable[[int], Arrays]) -> Iterator[Weights]:
        boxes = range(self._plan.boxes, 0, -1) if self._replicas else (self._number,)
        for k in boxes:
            part = own if k == self._number else self._increment(step, k, increments(k))
            if isinstance(part, Factors):
                # The first is what is summed into; the others are added at once.
                yield self.kind.gradient(part, self.cell, None if k == boxes[0] else self._scratch)
            else:
                yield part if k == self._number else {name: G.copy() for name, G in part.items()}


def _touched(config: Config, number: int, weights: Weights) -> tuple[str, ...]:
    """Return the names of the weights that a box's increments change, in their order."""
    kind = make_cell(config, number)
    left = set(kind.shapes()) - set(kind.touched())
    if number == 1:
        left |= {"oracle_L", "oracle_c"}
    return tuple(name for name in weights if name not in left)


def _arrays(factors: Factors) -> Arrays:
    """Return factors as they travel: the receiver cuts x from the batch by itself."""
    return factors.delta, *([factors.entering] if len(factors.entering) else [])
