"""What the launcher says to a worker, and what it is told: words of one attempt, which has its epoch. Knows the control link.

A run that is taken up again after a fault, by `timebox resume` or by itself, is in a new epoch. A word says of which epoch it
is, so that none of an attempt that is over counts.
"""

from __future__ import annotations

from typing import Any

from . import control
from .lifeline import Lifeline
from .transport import ControlLink

#: How long a worker that waits for a word sleeps, in milliseconds.
PATIENCE_MS = 100


class Stopped(Exception):
    """The launcher, or a signal, told this worker to stop before it was done."""


class RolledBack(Exception):
    """The launcher told this worker to go back to a checkpoint (none: to the first weights), under a new epoch."""

    def __init__(self, epoch: int, save: int | None) -> None:
        super().__init__(epoch, save)
        self.epoch = epoch
        self.save = save


class Orders:
    """A worker's word with the launcher."""

    def __init__(self, link: ControlLink, line: Lifeline, epoch: int) -> None:
        self._link = link
        self.line = line
        self.epoch = epoch

    def say(self, word: str, **body: Any) -> None:
        """Tell the launcher something."""
        self._link.send(control.encode(word, {"epoch": self.epoch, **body}))

    def hear(self, wanted: str) -> dict[str, Any]:
        """Wait for a word of the launcher; raises Stopped, RolledBack."""
        while True:
            self._check()
            frame = self._link.receive(PATIENCE_MS)
            if frame is not None and (body := self._understood(frame, wanted)) is not None:
                return body

    def look(self) -> None:
        """See whether the launcher has said anything; raises Stopped, RolledBack."""
        while (frame := self._link.receive(0)) is not None:
            self._understood(frame, "")
        self._check()

    def _check(self) -> None:
        if self.line.should_stop:
            raise Stopped

    def _understood(self, frame: bytes, wanted: str) -> dict[str, Any] | None:
        word, body = control.decode(frame, control.FROM_LAUNCHER)
        if word in ("stop", "quit") and word != wanted:
            raise Stopped
        if word == "rollback":
            save = body.get("save")
            raise RolledBack(int(body["epoch"]), None if save is None else int(save))
        return body if word == wanted else None
