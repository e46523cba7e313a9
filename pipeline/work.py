"""What a stage computes, as its drivers see it: actions done part by part, arrays in and out. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from .actions import Action, Message, Part
from .arrays import Array

Arrays = tuple[Array, ...]


class Work(Protocol):
    """What a stage computes. A simulation may have a work without arithmetic."""

    @property
    def outputs(self) -> dict[str, Arrays]:
        """The arrays of the messages that the last action sends, by kind."""

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Keep what a message brought until the action that consumes it."""

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action, yielding after each part."""


class Around:
    """A work that does another's and adds something to `do`."""

    def __init__(self, work: Work) -> None:
        self.work = work

    @property
    def outputs(self) -> dict[str, Arrays]:
        """The arrays of the messages that the last action sends, by kind."""
        return self.work.outputs

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Keep what a message brought until the action that consumes it."""
        self.work.keep(message, arrays)

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action, yielding after each part."""
        return self.work.do(action)
