"""The probe: copies, at a few batches, of what it takes to compute the true gradient at every box afterwards. Pure.

A box's synthetic gradient is held against the true one: that of the batch's loss through the weights which the forward of
every later box had read. Nobody has it while a decoupled run goes on, and fetching it would change the run. So each
stage keeps, for the probed batches alone, what only it knows, and the rest is arithmetic after the end:

    box k    ĝ, the states that left its steps, and for k > 1 what else its forward left behind, but for the inputs, and the
             weights that a gradient passes through, as the forward read them
    head     the gradient at the last box, which it sends anyway

It reads and copies; no number of the run can depend on it. The copies are made between forward and update and are a part
of the action with a name of its own, `probe`, so that a trace shows what they cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from .actions import ACTIVATION, GRADIENT, Action, Part
from .arrays import Weights
from .box import BoxWork
from .cells import Own, Trail
from .head import HeadWork
from .learning import EARLY
from .plan import Plan
from .work import Around, Work

#: Takes the batch and what was copied of it.
Save = Callable[[int, Weights], None]


#: At most one batch in so many is probed, so that the copies stay below a hundredth of the work; but a few always are.
EVERY, FEW = 100, 4


def probed(plan: Plan, samples: int) -> frozenset[int]:
    """Return the batches to look at: at most `samples`, spread evenly; none where boxes have no oracle."""
    if not samples or not {plan.rule, plan.learns(plan.boxes)} & set(EARLY):
        return frozenset()
    samples = min(samples, plan.batches, max(plan.batches // EVERY, FEW))
    return frozenset((2 * place + 1) * plan.batches // (2 * samples) for place in range(samples))


class Probe(Around):
    """A stage's work, watched at some batches."""

    def __init__(self, work: Work, batches: frozenset[int], save: Save) -> None:
        super().__init__(work)
        self._batches = batches
        self._save = save

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action; at a probed forward copy what is wanted of it."""
        if action.kind != "F" or action.batch not in self._batches:
            return super().do(action)
        return self._watched(action)

    def _watched(self, action: Action) -> Iterator[Part]:
        work = self.work
        part = Part("probe", 0, 0)
        for part in work.do(action):
            yield part
            if isinstance(work, BoxWork) and part.name == "forward":
                self._save(action.batch, look(work, action.batch))
                yield Part("probe", part.read, part.read)
        if isinstance(work, HeadWork):
            self._save(action.batch, {"g": work.outputs[GRADIENT][0]})
            yield Part("probe", part.written, part.written)


def look(work: BoxWork, batch: int) -> Weights:
    """Return copies of what a box knows between the forward and the update of a batch."""
    h, trail = work.outputs[ACTIVATION][0], work.last_trail
    found = {"leaving": trail.leaving.copy()}
    if work.updates_early:
        found["g"] = work.guess(batch, h).copy()
    if work.number == 1:
        return found
    kept = {"entering": trail.entering, "gates": trail.gates, "own": trail.own.back if trail.own else None}
    kept |= {name: work.cell[name] for name in work.kind.passing}
    return found | {name: array.copy() for name, array in kept.items() if array is not None}


def trail_of(look: Weights) -> Trail:
    """Return the trail of a box that was looked at, as far as a gradient on its way back needs it."""
    leaving = look["leaving"]
    nothing = np.zeros((*leaving.shape[:2], 0), leaving.dtype)
    flat = nothing[0]
    own = Own(flat, flat, look["own"]) if "own" in look else None
    return Trail(nothing, look["entering"], leaving, look.get("gates"), own)
