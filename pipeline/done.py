"""How many of each action a stage has done, by its journal. Pure: integers only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .actions import Action
from .plan import Plan


@dataclass
class Done:
    """What a stage has done: how many of each action."""

    forwards: int = 0
    trained: int = 0
    corrected: int = 0
    summed: int = 0  # U on the sum of all boxes' gradients
    evaluated: int = 0
    saved: int = 0
    applied: dict[int, int] = field(default_factory=dict)

    def add(self, action: Action) -> None:
        """Count an action."""
        kind, _, sibling = action
        if kind == "F":
            self.forwards += 1
        elif kind == "E":
            self.evaluated += 1
        elif kind in "TB":
            self.trained += 1
        elif kind == "C":
            self.corrected += 1
        elif kind == "S":
            self.saved += 1
        elif sibling:
            self.applied[sibling] = self.applied.get(sibling, 0) + 1
        else:
            self.summed += 1

    @property
    def taken(self) -> int:
        """How many activations and evaluations it has consumed; box 1: data."""
        return self.forwards + self.evaluated

    @property
    def actions(self) -> int:
        """How many actions it has done."""
        return self.taken + self.trained + self.corrected + self.summed + self.saved + sum(self.applied.values())

    def covers(self, other: Done) -> bool:
        """Whether it has done at least what another one has."""
        mine = (self.forwards, self.trained, self.corrected, self.summed, self.evaluated, self.saved)
        theirs = (other.forwards, other.trained, other.corrected, other.summed, other.evaluated, other.saved)
        return all(a >= b for a, b in zip(mine, theirs, strict=True)) and all(
            self.applied.get(k, 0) >= done for k, done in other.applied.items()
        )


def count(plan: Plan, number: int, journal: Iterable[Action]) -> Done:
    """Return how many of each action a journal has, of those that the stage can do and no more than there are."""
    done = Done()
    for action in journal:
        done.add(action)
    learns = plan.wants_gradients(number)
    done.forwards, done.evaluated = min(done.forwards, plan.batches), min(done.evaluated, plan.evaluations)
    done.saved = min(done.saved, plan.saves)
    done.trained = min(done.trained, plan.batches) if learns else 0
    done.corrected = min(done.corrected, plan.batches) if plan.settles_by(number) == "C" else 0
    done.summed = min(done.summed, plan.steps) if learns and plan.sums_gradients else 0
    is_applied = not plan.sums_gradients
    done.applied = {k: min(done.applied.get(k, 0), plan.updates(k)) * is_applied for k in plan.siblings(number)}
    return done


def drain(plan: Plan, number: int, done: Done, batches: int) -> None:
    """Raise what a stage must have done to have nothing in flight of so many batches."""
    if not plan.sums_gradients:
        done.applied = {k: max(each, plan.updates(k, batches)) for k, each in done.applied.items()}
    if plan.wants_gradients(number):
        done.trained = max(done.trained, batches)
        done.corrected = max(done.corrected, batches * (plan.settles_by(number) == "C"))
        done.summed = max(done.summed, batches // plan.micro if plan.sums_gradients else 0)


def until(plan: Plan, number: int, save: int) -> Done:
    """Return what a stage has done when it has saved a checkpoint."""
    batches = plan.barrier(save)
    done = Done(forwards=batches, evaluated=plan.due(batches), saved=save + 1)
    done.applied = dict.fromkeys(plan.siblings(number), 0)
    drain(plan, number, done, batches)
    return done
