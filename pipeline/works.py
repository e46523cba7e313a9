"""The arithmetic of any stage of a configuration: a box's, the head's, or, where nothing is to be computed, neither's. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .actions import KINDS, Action, Message, Part
from .box import BoxWork
from .data import Batches
from .drawn import Examples
from .head import HeadWork
from .payloads import Payloads
from .plan import Plan
from .schema import Config
from .work import Arrays

#: What an action that computes nothing is called in a trace.
PARTS = {
    "F": ("forward", "update"),
    "T": ("train",),
    "C": ("correct",),
    "B": ("backward",),
    "U": ("apply",),
    "E": ("evaluate",),
    "S": ("save",),
}


class Idle(BoxWork):
    """A box that computes nothing and sends zeros: emulated time takes the arithmetic's place. Versions are still counted."""

    def __init__(self, config: Config, plan: Plan, number: int, batches: Batches | Examples) -> None:
        super().__init__(config, plan, number, batches)
        self._payloads = Payloads(config, plan)

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Keep nothing of what a message brought: nothing is computed from it."""

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action's bookkeeping."""
        if action.kind == "S":
            return super().do(action)
        return self._count(action)

    def _count(self, action: Action) -> Iterator[Part]:
        kind, batch, _ = action
        self.stepper.changes = {}
        plan, read = self.plan, self.version
        index = batch // plan.micro if kind == "B" else batch
        self.outputs = {
            each: self._zeros(Message(each, index if each == "increment" else batch, self.number, self.number + 1))
            for each in KINDS
            if not each.startswith("credit") and (each == "evaluation") == (kind == "E")
        }
        for name in PARTS[kind]:
            if name == "update" and not self.updates_early:
                return
            changes = name in ("update", "apply", "correct") or (name == "backward" and not plan.sums_gradients)
            self.stepper.version += changes
            yield Part(name, read, self.version)

    def _zeros(self, message: Message) -> Arrays:
        return tuple(np.zeros(shape, self._payloads.dtype) for shape in self._payloads.shapes(message))


def make_work(config: Config, plan: Plan, number: int, batches: Batches | Examples) -> BoxWork | HeadWork:
    """Return the arithmetic of stage `number`."""
    if number == plan.head:
        return HeadWork(config, plan, batches)
    return (BoxWork if config.emulate.arithmetic else Idle)(config, plan, number, batches)
