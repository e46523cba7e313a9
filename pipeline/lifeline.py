"""A process that lives as long as its launcher, however that dies."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import FrameType

_PR_SET_PDEATHSIG = 1


def prctl(option: int, value: int) -> None:
    """Set an option of this process or thread by its number (Linux; see prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class Lifeline:
    """Knows whether this process should stop: told by SIGTERM, or left alone by its parent.

    Make it before sockets and files; a parent that died before that is noticed too. SIGINT is ignored: Ctrl-C is the
    launcher's, which tells its workers.

    The kernel sends SIGTERM when the parent dies (Linux; elsewhere the parent is looked at now and then), not SIGKILL:
    a worker removes the run's sockets on its way out. The signal comes when the *thread* that started this process ends.
    """

    def __init__(self, parent: int) -> None:
        self.parent = parent
        self.is_told = False
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if sys.platform == "linux":
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.is_told = True

    @property
    def is_orphan(self) -> bool:
        """Whether the parent has died."""
        return os.getppid() != self.parent

    @property
    def should_stop(self) -> bool:
        """Whether to stop now."""
        return self.is_told or self.is_orphan
