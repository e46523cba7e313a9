"""Work that takes longer than it has to: `emulate.slow` adds so many milliseconds to each forward of a stage."""

from __future__ import annotations

import time
from collections.abc import Iterator

from .actions import Action, Part
from .box import Around, Work


class Slowed(Around):
    """A stage's work whose forwards take `ms` longer. It sleeps: another stage may have the processor meanwhile."""

    def __init__(self, work: Work, ms: float) -> None:
        super().__init__(work)
        self._seconds = ms / 1000

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action, a forward with a pause."""
        if action.kind == "F":
            time.sleep(self._seconds)
        return self.work.do(action)
