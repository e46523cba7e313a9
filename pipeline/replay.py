"""A recorded run again, in one process and without a clock: every stage does what its journal says. Pure.

    journals     the order of each stage's actions; which stage goes first does not matter, messages wait
    sums         what the run computed (`sums`); the first one that differs names stage, action and array

A replayed stage checks an action before anyone can see what it sent. So the first difference that is found is no
consequence of another: everything that the action had consumed was the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from .actions import ACTIVATION, EVALUATION, GRADIENT, INCREMENT, LENGTH, TARGET, Action, Message, Part
from .arrays import Array, Weights
from .box import BoxWork
from .data import Batches
from .drawn import Examples
from .drive import advance
from .errors import ScheduleError
from .head import HeadWork
from .lacks import explain
from .plan import LAG, Plan
from .schedules import Program
from .schema import Config
from .stage import Stage
from .sums import checksum, named
from .work import Arrays
from .works import make_work


class Difference(NamedTuple):
    """The first array that is not what it was: whose, in which action, and what had been done before."""

    stage: str
    action: str
    array: str
    recorded: int
    replayed: int
    story: str  # of the stage
    before: dict[str, str]  # what the other stages had done, in the replay


class Moment(NamedTuple):
    """A stage at the end of one action: arrays by name."""

    stage: str
    action: Action
    weights: Weights
    weights_before: Weights
    arrays: dict[str, Array]


class _Actor:
    """One stage of the replay: its rules, its arithmetic and its inbox. Nobody watches it."""

    def __init__(
        self, config: Config, plan: Plan, number: int, batches: Batches | Examples, journal: list[Action], sums: Array
    ) -> None:
        self.stage = Stage(plan, number)
        self.program = Program(journal)
        self.left = len(journal)
        self.work: BoxWork | HeadWork = make_work(config, plan, number, batches)
        self.inbox: deque[tuple[Message, Arrays]] = deque()
        self.sums = sums
        self.place = 0  # sums compared
        self.state = 0
        self.deliver: Callable[[Message, Arrays], None]
        self.on_begin: Callable[[Action], None] | None = None

    def arrived(self) -> Iterable[tuple[Message, Arrays]]:
        """Yield all that has come."""
        while self.inbox:
            yield self.inbox.popleft()

    def send(self, message: Message, arrays: Arrays) -> None:
        """Send a message."""
        self.deliver(message, arrays)

    def begin(self, action: Action) -> None:
        """Let somebody look at what is there before the action."""
        if self.on_begin is not None:
            self.on_begin(action)

    def part(self, action: Action, part: Part) -> None:
        """Nobody watches."""

    def end(self, action: Action) -> None:
        """Nobody watches."""


class Replay:
    """All stages of a run, each with its journal as its program."""

    def __init__(
        self,
        config: Config,
        batches: Batches | Examples,
        journals: Mapping[int, list[Action]],
        sums: Mapping[int, Array] | None = None,
    ) -> None:
        self.plan = Plan.of(config)
        none = np.zeros(0, np.uint32)
        self._actors = {
            k: _Actor(config, self.plan, k, batches, journals[k], (sums or {}).get(k, none))
            for k in range(1, self.plan.head + 1)
        }
        self._ready = deque(self._actors)
        for actor in self._actors.values():
            actor.deliver = self._deliver
        self.difference: Difference | None = None
        self.actions = 0  # done
        self.compared = 0  # arrays whose sums were compared

    def _deliver(self, message: Message, arrays: Arrays) -> None:
        self._actors[message.target].inbox.append((message, arrays))
        if message.target not in self._ready:
            self._ready.append(message.target)

    def run(self) -> Iterator[tuple[int, Action]]:
        """Do every action that can be done, yielding each when it has ended and was compared."""
        while self._ready:
            number = self._ready.popleft()
            actor = self._actors[number]
            while actor.left and (action := advance(actor.stage, actor.program, actor, actor.work, actor)) is not None:
                actor.left -= 1
                self.actions += 1
                self._compare(actor, action)
                yield number, action

    def until(self, number: int, wanted: Action) -> Moment:
        """Replay as far as one action of one stage and return what is there then; raises ScheduleError if it never comes."""
        actor, before, arrays = self._actors[number], {}, {}

        def look(action: Action) -> None:
            if action == wanted:
                before.update({name: array.copy() for name, array in actor.work.weights().items()})
                arrays.update(_consumed(actor, action))

        actor.on_begin = look
        for stage, action in self.run():
            if stage == number and action == wanted:
                arrays |= _made(actor, action)
                after = {name: array.copy() for name, array in actor.work.weights().items()}
                return Moment(actor.stage.name, action, after, before, arrays)
        raise ScheduleError(f"{actor.stage.name} never did {wanted}: {self.rest(number) or actor.stage.story()}")

    def _compare(self, actor: _Actor, action: Action) -> None:
        place, state, sums = actor.place, actor.state, actor.sums
        for name, array in named(actor.work.outputs, actor.work.changes):
            state = checksum(array, state)
            if place < len(sums):
                self.compared += 1
                if state != sums[place] and self.difference is None:
                    self.difference = self._differs(actor, action, name, int(sums[place]), state)
            place += 1
        actor.place, actor.state = place, state

    def _differs(self, actor: _Actor, action: Action, array: str, recorded: int, replayed: int) -> Difference:
        others = {each.stage.name: each.stage.story() for each in self._actors.values() if each is not actor}
        return Difference(actor.stage.name, str(action), array, recorded, replayed, actor.stage.story(), others)

    @property
    def is_whole(self) -> bool:
        """Whether every stage has done all that its journal says, and all that the run has to do."""
        return all(actor.stage.is_done and not actor.left for actor in self._actors.values())

    def is_replayed(self, number: int) -> bool:
        """Whether a stage has done all that its journal says."""
        return not self._actors[number].left

    def rest(self, number: int) -> str:
        """Return why a stage could not do all that its journal says, or nothing."""
        actor = self._actors[number]
        lack = actor.program.lack(actor.stage) if actor.left else None
        if lack is None:
            return ""
        return f"{actor.stage.name} cannot do {actor.program.upcoming}: {explain(actor.stage, lack)}"

    def weights(self, number: int) -> Weights:
        """Return a stage's weights as they are now."""
        return self._actors[number].work.weights()

    def sums_left(self, number: int) -> int:
        """Return how many recorded sums of a stage no array came for."""
        actor = self._actors[number]
        return max(len(actor.sums) - actor.place, 0)


def _consumed(actor: _Actor, action: Action) -> dict[str, Array]:
    """Return what an action is about to consume, and what the oracle says before it learns."""
    stage, work = actor.stage, actor.work
    kind, batch, sibling = action
    found: dict[str, Array] = {}
    if kind in "FE":
        came = EVALUATION if kind == "E" else ACTIVATION
        found |= _listed("entering", work.kept(came, batch, stage.number - 1))
        if kind == "F" and stage.plan.grows and batch % stage.plan.epoch_batches == 0:
            found |= _listed(LENGTH, work.kept(LENGTH, batch // stage.plan.epoch_batches - LAG, stage.plan.head))
    elif kind == "U":
        for k in (sibling,) if sibling else stage.siblings:
            found |= _listed(f"increment_{k}", work.kept(INCREMENT, batch, k))
    elif kind == "C":
        found |= _listed(GRADIENT, work.kept(GRADIENT, batch, stage.number + 1))
    elif stage.settles_with is not None:
        found |= _listed(stage.settles_with, work.kept(stage.settles_with, batch, stage.number + 1))
    if kind in "TBC" and isinstance(work, BoxWork):
        h = work.trail(batch).h
        found["activation"] = h
        if kind in "TC":
            found["synthetic"] = work.guess(batch, h)
    return {name: array.copy() for name, array in found.items()}


def _made(actor: _Actor, action: Action) -> dict[str, Array]:
    """Return what an action has made."""
    work = actor.work
    found: dict[str, Array] = {}
    for kind, arrays in work.outputs.items():
        found |= _listed(f"{kind}_sent" if kind in (GRADIENT, TARGET) else kind, arrays)
    if action.kind == "F" and isinstance(work, BoxWork) and work.fitting is not None:
        found["synthetic"] = work.guess(action.batch, work.outputs[ACTIVATION][0])
    if isinstance(work, HeadWork) and "ŷ" in work.changes:
        found["prediction"] = work.changes["ŷ"]
    return {name: array.copy() for name, array in found.items()}


def _listed(name: str, arrays: Arrays) -> dict[str, Array]:
    return {name if len(arrays) == 1 else f"{name}_{place}": array for place, array in enumerate(arrays, 1)}
