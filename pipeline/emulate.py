"""Work that takes longer than it has to: `emulate.slow` adds so many milliseconds to each forward of a stage."""

from __future__ import annotations

import time
from collections.abc import Iterator

from .actions import Action, Message, Part
from .box import Arrays, Work


class Slowed:
    """A stage's work whose forwards take `ms` longer. It sleeps: another stage may have the processor meanwhile."""

    def __init__(self, work: Work, ms: float) -> None:
        self._work = work
        self._seconds = ms / 1000

    @property
    def outputs(self) -> dict[str, Arrays]:
        """The arrays of the messages that the last action sends."""
        return self._work.outputs

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Keep what a message brought."""
        self._work.keep(message, arrays)

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action, a forward with a pause."""
        if action.kind == "F":
            time.sleep(self._seconds)
        return self._work.do(action)
