"""The driver's promise, the same in all drivers: take in everything that has arrived; choose; do the work; finish; send.

Live workers, replays and simulations differ in where messages come from, who watches, and what time is. They all call
`advance`, so none of them can break the promise by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from .actions import Action, Message, Part
from .schedules import Schedule
from .stage import Stage
from .work import Arrays, Work


class Port(Protocol):
    """Where a stage's messages come from and go to."""

    def arrived(self) -> Iterable[tuple[Message, Arrays]]:
        """Return everything that has arrived and was not returned before, in its order on each edge."""

    def send(self, message: Message, arrays: Arrays) -> None:
        """Send a message; does not wait for its receiver."""


class Watcher(Protocol):
    """Is told what a stage does while it does it."""

    def begin(self, action: Action) -> None:
        """An action was chosen, its credits are given back, and its work begins."""

    def part(self, action: Action, part: Part) -> None:
        """A part of it has ended."""

    def end(self, action: Action) -> None:
        """It has ended and its messages are sent."""


def advance(stage: Stage, schedule: Schedule, port: Port, work: Work, watcher: Watcher) -> Action | None:
    """Do one action and return it, or return None when the stage has to wait for a message.

    Raises WireError for a message that cannot come, ScheduleError for an action that is not enabled.
    """
    take_in(stage, port, work)
    action = schedule.choose(stage)
    if action is None:
        return None
    for credit in stage.start(action):
        port.send(credit, ())
    watcher.begin(action)
    for part in work.do(action):
        watcher.part(action, part)
    for message in stage.finish(action):
        port.send(message, work.outputs[message.kind])
    watcher.end(action)
    return action


def take_in(stage: Stage, port: Port, work: Work) -> None:
    """Hand everything that has arrived to the rules and to the arithmetic."""
    for message, arrays in port.arrived():
        stage.receive(message)
        work.keep(message, arrays)
