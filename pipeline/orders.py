"""What the launcher says to a worker, and what it is told: words of one attempt, which has its epoch. Knows the control link.

A run that is taken up again after a fault, by `timebox resume` or by itself, is in a new epoch. What a worker says comes with
its epoch, so that no word of an attempt that is over counts; the launcher's own words come in their order behind `rollback`.
"""

from __future__ import annotations

from collections import deque
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
        self._unsaid: deque[bytes] = deque()  # while the launcher takes nothing: it was stopped, say

    def say(self, word: str, **body: Any) -> None:
        """Tell the launcher something. Where it takes nothing for long, how far one is is not told; all else later."""
        if word != "progress" or not self._unsaid:
            self._unsaid.append(control.encode(word, {"epoch": self.epoch, **body}))
        while self._unsaid and self._link.send(self._unsaid[0]):
            self._unsaid.popleft()
        if word == "progress" and self._unsaid:
            self._unsaid.pop()

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
            epoch, save = int(body["epoch"]), body.get("save")
            if epoch <= self.epoch:
                return None  # told twice
            raise RolledBack(epoch, None if save is None else int(save))
        return body if word == wanted else None
