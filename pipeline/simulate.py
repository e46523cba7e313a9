"""The run in virtual time: the same stages, schedules and `advance` on a heap of events. Pure: no clock.

Every stage has a time of its own. The one with the earliest time takes in what has arrived by then and does an action,
which takes as long as the cost model says (`costs`); its messages leave one after the other at its end, and arrive a hop
later. A stage that lacks something sleeps until the next arrival. With fewer processors than stages an action begins
when one is free; a stage keeps its processor until the action has ended.

Two modes: timing only, where nothing is computed, and with arithmetic, where each stage's real work is done in
simulated order, so that the weights under latencies that no machine here has are a deterministic experiment.

    heap   (time, stage)     one valid entry a stage: what it does next, or the arrival that wakes it
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from .actions import KINDS, Action, Message, Part
from .costs import Costs, Dice, Draw
from .drive import advance
from .errors import ScheduleError
from .lacks import Lack
from .plan import Plan
from .schedules import Schedule, make_schedule
from .stage import Stage
from .work import Arrays, Work

NEVER = 1 << 62
#: The name that a timeline gives to an action without arithmetic.
PART = {"F": "forward", "T": "train", "C": "correct", "B": "backward", "U": "apply", "E": "evaluate", "S": "save"}


class Simulated(NamedTuple):
    """What came of a run in virtual time: its length and each stage's work, in nanoseconds, and the actions done."""

    makespan_ns: int
    busy_ns: dict[int, int]
    actions: int


class Observer(Protocol):
    """Is told what a stage does, in virtual nanoseconds; a trace is written from it."""

    def part(self, action: Action, part: Part, start_ns: int, end_ns: int) -> None:
        """An action's work has ended."""

    def sent(self, message: Message, sequence: int, start_ns: int, end_ns: int) -> None:
        """A message has left."""

    def taken(self, message: Message, sequence: int, arrived_ns: int, start_ns: int, end_ns: int) -> None:
        """A message was taken."""

    def waited(self, lack: Lack | None, start_ns: int, end_ns: int) -> None:
        """The stage has waited."""

    def ended(self, action: Action, end_ns: int) -> None:
        """An action has ended and its messages have left."""


class _Actor:
    """One stage with its time and its inbox: port and watcher in one, and the work where nothing is computed."""

    def __init__(self, world: _World, number: int, work: Work | None) -> None:
        plan, dice = world.plan, world.dice
        self.number = number
        self.stage = Stage(plan, number)
        self.schedule: Schedule = make_schedule(plan, number)
        self.work: Work = self if work is None else work
        self.outputs: dict[str, Arrays] = dict.fromkeys(KINDS, ())
        self.now = 0
        self.ended = 0  # its last action
        self.due = world.costs.starts.get(number, 0)  # the time of its valid entry on the heap
        self.asleep = False
        self.busy = 0
        self.inbox: deque[tuple[int, Message, Arrays]] = deque()  # by arrival
        self._actors = world.actors
        self._heap = world.heap
        self._draws: dict[str, Draw] = {kind: dice.action(number, kind) for kind in PART}
        self._times = {kind: draw(0) for kind, draw in self._draws.items()}  # where they are constant
        self._hops = {k: dice.hop(number, k)(0) for k in plan.sources(number)}
        self._last: dict[int, int] = dict.fromkeys(self._hops, 0)  # the arrival of the last message to each target

    # The port

    def arrived(self) -> Iterable[tuple[Message, Arrays]]:
        """Yield what has arrived by now."""
        inbox = self.inbox
        while inbox and inbox[0][0] <= self.now:
            _, message, arrays = inbox.popleft()
            yield message, arrays

    def send(self, message: Message, arrays: Arrays) -> None:
        """Let a message leave now."""
        target = message[3]
        self._arrive(message, arrays, target, self.now + self._hops[target])

    def _arrive(self, message: Message, arrays: Arrays, target: int, at: int) -> None:
        last = self._last
        if at < last[target]:  # it does not overtake
            at = last[target]
        last[target] = at
        receiver = self._actors[target]
        inbox = receiver.inbox
        if inbox and inbox[-1][0] > at:  # messages of other edges may arrive later
            place = len(inbox) - 1
            while place and inbox[place - 1][0] > at:
                place -= 1
            inbox.insert(place, (at, message, arrays))
        else:
            inbox.append((at, message, arrays))
        if receiver.asleep and at < receiver.due:
            receiver.due = at if at > receiver.now else receiver.now
            heapq.heappush(self._heap, (receiver.due, target))

    # The work where nothing is computed

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Nothing is computed, nothing is kept."""

    def do(self, action: Action) -> Iterator[Part]:  # noqa: ARG002
        """Nothing is computed: time is passed by `begin`."""
        return iter(())

    # The watcher

    def begin(self, action: Action) -> None:
        """Let the time pass that an action takes."""
        took = self._times[action[0]]
        self.now += took
        self.busy += took

    def part(self, action: Action, part: Part) -> None:
        """The time of all parts is passed at once."""

    def end(self, action: Action) -> None:
        """Its messages have left."""

    def wait(self) -> None:
        """Nothing can be done before the next arrival."""


class _Costly(_Actor):
    """An actor whose messages cost time and take room, and which may be observed."""

    def __init__(self, world: _World, number: int, work: Work | None) -> None:
        super().__init__(world, number, work)
        dice, targets = world.dice, world.plan.sources(number)
        self._pause = dice.pause(number)
        self._ways = {(k, kind): dice.hop(number, k, kind) for k in targets for kind in KINDS}
        self._sends = {kind: dice.send(number, kind) for kind in KINDS}
        self._takes = {kind: dice.take(number, kind) for kind in KINDS}
        self._ns_a_byte = 1e9 / world.costs.bandwidth if world.costs.bandwidth else 0.0
        self._weigh = world.weigh
        self._links = {k: dice.link(number, k) for k in targets}
        self._free: dict[int, int] = {}  # when the link to a target has carried what it was given
        self._observer = world.observers.get(number)
        self._sent: dict[int, int] = {}
        self._taken: dict[int, int] = {}
        self._wait: tuple[Lack | None, int] | None = None

    def arrived(self) -> Iterable[tuple[Message, Arrays]]:
        """Take what has arrived by now, one after the other."""
        inbox, observer = self.inbox, self._observer
        while inbox and inbox[0][0] <= self.now:
            at, message, arrays = inbox.popleft()
            start = self.now
            if self._wait is not None:
                (lack, since), self._wait = self._wait, None
                if observer is not None:
                    observer.waited(lack, since, start)
            took = self._takes[message.kind](message.batch)
            self.now += took
            self.busy += took
            yield message, arrays
            if observer is not None:
                sequence = self._taken.get(message.source, 0)
                self._taken[message.source] = sequence + 1
                observer.taken(message, sequence, at, start, self.now)

    def send(self, message: Message, arrays: Arrays) -> None:
        """Encode and send a message."""
        start, target = self.now, message.target
        took = self._sends[message.kind](message.batch)
        self.now += took
        self.busy += took
        leaves = self.now
        if self._ns_a_byte:
            leaves = max(leaves, self._free.get(target, 0)) + round(self._weigh(message) * self._ns_a_byte)
            self._free[target] = leaves
        link = self._links[target]
        if link is not None:
            leaves = link.arrival(leaves, self._weigh(message))
        # A receiver may be quicker than the sender's own return from sending, but not than its beginning.
        self._arrive(message, arrays, target, max(leaves + self._ways[target, message.kind](message.batch), start))
        if self._observer is not None:
            sequence = self._sent.get(target, 0)
            self._sent[target] = sequence + 1
            self._observer.sent(message, sequence, start, self.now)

    def begin(self, action: Action) -> None:
        """Let the time pass that an action takes, and tell of it."""
        start = self.now
        took = self._draws[action.kind](action.batch)
        self.now += took
        self.busy += took
        if self._observer is not None:
            self._observer.part(action, Part(PART[action.kind], 0, int(action.kind in "TCUB")), start, self.now)

    def end(self, action: Action) -> None:
        """Tell that an action has ended."""
        if self._observer is not None:
            self._observer.ended(action, self.now)

    def wait(self) -> None:
        """Note since when the stage waits, and for what."""
        self.now += self._pause(self.stage.forwards)
        if self._wait is None:
            self._wait = self.schedule.lack(self.stage), self.now


class _World(NamedTuple):
    plan: Plan
    costs: Costs
    dice: Dice
    weigh: Callable[[Message], int]
    observers: Mapping[int, Observer]
    actors: dict[int, _Actor]
    heap: list[tuple[int, int]]


def _nothing(message: Message) -> int:  # noqa: ARG001
    return 0


def simulate(
    plan: Plan,
    costs: Costs,
    *,
    seed: int = 0,
    works: Mapping[int, Work] | None = None,
    weigh: Callable[[Message], int] = _nothing,
    observers: Mapping[int, Observer] | None = None,
) -> Simulated:
    """Run a plan in virtual time; raises ScheduleError if it comes to a standstill.

    `works`: each stage's arithmetic, for the mode with it. `weigh`: a message's bytes, where bandwidth is limited.
    """
    world = _World(plan, costs, Dice(costs, seed, plan.batches), weigh, observers or {}, {}, [])
    make = _Actor if costs.is_constant and not observers else _Costly
    for k in range(1, plan.head + 1):
        world.actors[k] = make(world, k, (works or {}).get(k))
        heapq.heappush(world.heap, (world.actors[k].due, k))
    actions = _run(world, [0] * costs.cores if 0 < costs.cores < plan.head else [])
    stuck = [actor.stage for actor in world.actors.values() if not actor.stage.is_done]
    if stuck:
        raise ScheduleError(f"{stuck[0].name} comes to a standstill in virtual time: {stuck[0].story()}")
    actors = world.actors.values()
    return Simulated(max(actor.ended for actor in actors), {actor.number: actor.busy for actor in actors}, actions)


def _run(world: _World, cores: list[int]) -> int:
    """Do everything that can be done, and return how many actions that were. `cores`: when each processor is free."""
    actors, heap, actions = world.actors, world.heap, 0
    pop, push, replace = heapq.heappop, heapq.heappush, heapq.heapreplace
    while heap:
        now, k = pop(heap)
        actor = actors[k]
        if now != actor.due:
            continue  # an earlier arrival has woken it since
        if cores and cores[0] > now:
            actor.due = cores[0]
            push(heap, (actor.due, k))
            continue
        actor.asleep = False
        actor.now = max(actor.now, now)
        stage, schedule, work = actor.stage, actor.schedule, actor.work
        while True:
            if stage.is_done:
                actor.due = NEVER
                break
            if advance(stage, schedule, actor, work, actor) is None:
                actor.asleep = True
                actor.wait()
                actor.due = NEVER
                if actor.inbox:
                    actor.due = max(actor.inbox[0][0], actor.now)
                    push(heap, (actor.due, k))
                break
            actions += 1
            now = actor.ended = actor.now
            if cores:
                replace(cores, now)
            if cores or (heap and heap[0] < (now, k)):
                actor.due = now
                push(heap, (now, k))
                break
    return actions
