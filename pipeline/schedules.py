"""Which enabled action a stage takes next. A schedule only chooses; the stage's rules forbid nonsense. Pure.

Two kinds: a *program* fixes the order of a stage's actions and waits until the next one is enabled; a *greedy* schedule
takes what comes. A journal is a program: `Program(parse_journal(text))` does again what a run did.

article, two tied boxes; time runs to the right, a column is what can happen at once:

    box-1   F0          T0    U2.0  F1          T1    U2.1  F2
    box-2         U1.0  F0    T0    …     U1.1  F1    T1
    head                      F0                      F1

    Box k does, for batch i: U j.i for j < k, F i, T i, U j.i for j > k. So increments are applied everywhere in the
    order (batch, box), each replica passes through the reference's sequence of weights and is bit-equal to it.
    With true targets T i comes last: it then reads the weights that every update of batch i has gone into.

locked, two boxes, one batch in flight:

    box-1   F0                      B0    U0    F1
    box-2         F0          B0          U0          F1
    head                F0                                  F1

    Untied boxes step in B i; tied boxes send their gradient to each other and step together in U i.

decoupled: gradients first, then increments, then forward while fewer than `window` batches are in flight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from .actions import Action
from .errors import ScheduleError
from .lacks import Lack
from .plan import Plan
from .stage import Stage


class Schedule(Protocol):
    """Chooses the next action of one stage."""

    def choose(self, stage: Stage) -> Action | None:
        """Return an enabled action, or None to wait for a message."""

    def lack(self, stage: Stage) -> Lack | None:
        """Return what the stage waits for by this schedule; None: it could go on."""


class Program:
    """A fixed order of actions. It waits for the next one, and never takes another."""

    def __init__(self, order: Iterable[Action]) -> None:
        self._order = iter(order)
        self._next = next(self._order, None)

    @property
    def upcoming(self) -> Action | None:
        """The action that it takes next."""
        return self._next

    def choose(self, stage: Stage) -> Action | None:
        """Return the next action if it is enabled; raises ScheduleError at the end of a program that is too short."""
        action = self._next
        if action is None:
            raise ScheduleError(f"{stage.name}: the program has ended, the run has not; {stage.story()}")
        if stage.lack(action) is not None:
            return None
        self._next = next(self._order, None)
        return action

    def lack(self, stage: Stage) -> Lack | None:
        """Return what the next action lacks."""
        return None if self._next is None else stage.lack(self._next)


class Greedy:
    """Gradients first, then increments, then forward: settles what it can before it takes on more."""

    def choose(self, stage: Stage) -> Action | None:
        """Return the first enabled action in the stage's order of preference."""
        return stage.first_enabled()

    def lack(self, stage: Stage) -> Lack | None:
        """Return what the stage needs to take on more."""
        return stage.intake()


def article(plan: Plan, number: int) -> Iterator[Action]:
    """Yield the actions of stage `number` in the order of the eight steps, generalised to any number of boxes."""
    siblings = plan.siblings(number)
    trains = number != plan.head and plan.rule == "synthetic"
    train_last = plan.target == "true"
    for batch in range(plan.batches):
        yield from (Action("U", batch, k) for k in siblings if k < number)
        yield Action("F", batch)
        if trains and not train_last:
            yield Action("T", batch)
        yield from (Action("U", batch, k) for k in siblings if k > number)
        if trains and train_last:
            yield Action("T", batch)
        yield from _evaluations(plan, batch)


def locked(plan: Plan, number: int) -> Iterator[Action]:
    """Yield the actions of stage `number` in full backpropagation through time, one batch at a time."""
    learns = number != plan.head and plan.rule == "backward"
    for batch in range(plan.batches):
        yield Action("F", batch)
        if learns:
            yield Action("B", batch)
            if plan.sums_gradients:
                yield Action("U", batch)
        yield from _evaluations(plan, batch)


def _evaluations(plan: Plan, batch: int) -> Iterator[Action]:
    """Yield the evaluations that stand between batch and the next one."""
    before = plan.due(batch)
    yield from (Action("E", e) for e in range(before, plan.due(batch + 1)))


PROGRAMS = {"article": article, "locked": locked}


def make_schedule(plan: Plan, number: int) -> Schedule:
    """Return the plan's schedule for stage `number`."""
    if plan.schedule in PROGRAMS:
        return Program(PROGRAMS[plan.schedule](plan, number))
    return Greedy()
