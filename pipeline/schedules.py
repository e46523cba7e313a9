"""Which enabled action a stage takes next. A schedule only chooses; the stage's rules forbid nonsense. Pure.

Two kinds: a *program* fixes the order of a stage's actions and waits until the next one is enabled (`programs`); a *greedy*
schedule takes what comes. A journal is a program: `Program(parse_journal(text))` does again what a run did.

Time runs to the right, a column is a unit of it; every action takes one, messages take none (`grid` draws them).

article, two tied boxes, the eight steps:

    box-1   F0             T0   U2.0 F1             T1   U2.1
    box-2        U1.0 F0        T0        U1.1 F1        T1
    head                   F0                       F1

    Box k does, for batch i: U j.i for j < k, F i, T i, U j.i for j > k. So increments are applied everywhere in the
    order (batch, box), each replica passes through the reference's sequence of weights and is bit-equal to it.
    With true targets T i comes last: it then reads the weights that every update of batch i has gone into.

locked, two tied boxes, one batch in flight; untied boxes step in B i:

    box-1   F0          B0 U0 F1          B1 U1
    box-2      F0    B0    U0    F1    B1    U1
    head          F0                F1

gpipe, three untied boxes, four micro-batches, then one step:

    box-1   F0 F1 F2 F3             B0 B1 B2 B3 U0 F4 F5
    box-2      F0 F1 F2 F3       B0 B1 B2 B3 U0       F4
    box-3         F0 F1 F2 F3 B0 B1 B2 B3 U0
    head             F0 F1 F2 F3

1f1b, three untied boxes: every B updates, and nobody waits for a batch to end:

    box-1   F0 F1 F2 F3       B0 F4 B1 F5 B2 F6 B3 F7 B4
    box-2      F0 F1 F2    B0 F3 B1 F4 B2 F5 B3 F6 B4 F7
    box-3         F0 F1 B0 F2 B1 F3 B2 F4 B3 F5 B4 F6 B5
    head             F0 F1    F2    F3    F4    F5    F6

1f1b with four micro-batches, then one step:

    box-1   F0 F1 F2 F3       B0    B1    B2 B3 U0 F4 F5
    box-2      F0 F1 F2    B0 F3 B1    B2 B3 U0       F4
    box-3         F0 F1 B0 F2 B1 F3 B2 B3 U0
    head             F0 F1    F2    F3

delayed, three untied boxes, every gradient two batches late:

    box-1   F0 F1 F2             B0 F3             B1 F4
    box-2      F0 F1 F2       B0       F3       B1
    box-3         F0 F1 F2 B0             F3 B1
    head             F0 F1 F2                F3

decoupled: gradients first, then increments, then forward while fewer than `window` batches are in flight.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from .actions import Action
from .errors import ScheduleError
from .lacks import Lack
from .plan import Plan
from .programs import PROGRAMS, program
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


def make_schedule(plan: Plan, number: int, first: int = 0) -> Schedule:
    """Return the plan's schedule for stage `number`, from the beginning or from the checkpoint after `first` batches."""
    if plan.schedule in PROGRAMS:
        return Program(program(plan, number, first))
    return Greedy()
