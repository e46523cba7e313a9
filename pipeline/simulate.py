"""The schedule in virtual time: the same stages and schedules on a heap of events, without arithmetic. Pure: no clock.

Every stage has a time of its own. The one with the earliest time takes in what has arrived by then and does an action,
which takes as long as it is told; what the action sends arrives when it has ended, for messages are free here and every
stage has a processor. So what is left of a stage's time is the schedule's own bubble.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from .actions import KINDS, Action, Message, Part
from .box import Arrays
from .drive import advance
from .errors import ScheduleError
from .plan import Plan
from .schedules import Schedule, make_schedule
from .stage import Stage

#: How long an action takes, in nanoseconds, by stage and kind.
Durations = Mapping[tuple[int, str], int]


class Simulated(NamedTuple):
    """What came of a run in virtual time: its length and each stage's work, in nanoseconds, and the actions done."""

    makespan_ns: int
    busy_ns: dict[int, int]
    actions: int


class _Actor:
    """One stage with its time and its inbox: port, work and watcher in one, since all it does is pass time."""

    def __init__(self, plan: Plan, number: int, durations: Durations, inboxes: dict[int, _Inbox]) -> None:
        self.stage = Stage(plan, number)
        self.schedule: Schedule = make_schedule(plan, number)
        self.outputs: dict[str, Arrays] = dict.fromkeys(KINDS, ())
        self.now = 0
        self.busy = 0
        self._durations = durations
        self._inboxes = inboxes
        self._inbox = inboxes[number]

    def arrived(self) -> Iterable[tuple[Message, Arrays]]:
        """Yield what has arrived by now."""
        inbox = self._inbox
        while inbox and inbox[0][0] <= self.now:
            yield inbox.popleft()[1], ()

    def send(self, message: Message, arrays: Arrays) -> None:  # noqa: ARG002
        """Let a message arrive now."""
        self._inboxes[message.target].append((self.now, message))

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Nothing is computed, nothing is kept."""

    def do(self, action: Action) -> Iterator[Part]:
        """Let the time pass that an action takes."""
        took = self._durations.get((self.stage.number, action.kind), 0)
        self.now += took
        self.busy += took
        return iter(())

    def begin(self, action: Action) -> None:
        """Nobody watches."""

    def part(self, action: Action, part: Part) -> None:
        """Nobody watches."""

    def end(self, action: Action) -> None:
        """Nobody watches."""


_Inbox = deque[tuple[int, Message]]


def simulate(plan: Plan, durations: Durations) -> Simulated:
    """Run a plan in virtual time; raises ScheduleError if it comes to a standstill."""
    inboxes: dict[int, _Inbox] = {k: _Sorted() for k in range(1, plan.head + 1)}
    actors = {k: _Actor(plan, k, durations, inboxes) for k in inboxes}
    ready = [(0, k) for k in actors]
    asleep: set[int] = set()
    actions = 0
    while ready:
        now, k = heapq.heappop(ready)
        actor = actors[k]
        actor.now = max(now, actor.now)
        if actor.stage.is_done:
            continue
        if advance(actor.stage, actor.schedule, actor, actor, actor) is not None:
            actions += 1
            heapq.heappush(ready, (actor.now, k))
        elif inboxes[k]:
            heapq.heappush(ready, (inboxes[k][0][0], k))
        else:
            asleep.add(k)
        for other in [other for other in asleep if inboxes[other]]:
            asleep.remove(other)
            heapq.heappush(ready, (max(actors[other].now, inboxes[other][0][0]), other))
    stuck = [actor.stage for actor in actors.values() if not actor.stage.is_done]
    if stuck:
        raise ScheduleError(f"{stuck[0].name} comes to a standstill in virtual time: {stuck[0].story()}")
    busy = {k: actor.busy for k, actor in actors.items()}
    return Simulated(max(actor.now for actor in actors.values()), busy, actions)


class _Sorted(deque[tuple[int, Message]]):
    """An inbox in the order of arrival. Senders' times differ, so a message may have to go before others."""

    def append(self, item: tuple[int, Message]) -> None:
        """Put a message in its place: after all that arrive no later, so that an edge keeps its order."""
        place = len(self)
        while place and self[place - 1][0] > item[0]:
            place -= 1
        self.insert(place, item)
