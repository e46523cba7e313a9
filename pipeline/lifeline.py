"""A process that lives as long as its launcher, however that dies, and whatever it is doing itself.

    launcher dies ─┬─ the loop looks              stops in good order, within a round      has LEAVE_S seconds for it
                   ├─ the thread beside it looks  removes the sockets and ends the process after ABANDON_S: stuck in Python
                   ├─ the kernel sends SIGHUP     a C function sets an alarm, which kills  after 1 s: stuck in C as well
                   └─ the kernel sends SIGCONT    a stopped process goes on, to one of the above

What no one does: remove the sockets where every worker is stuck in C code that keeps Python's lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from .files import remove_socket_folder

_PR_SET_PDEATHSIG = 1
#: Seconds that an orphan has to stop in good order, once it has seen that it is one.
LEAVE_S = 0.9
#: Seconds after which an orphan that has not seen it is ended by the thread beside its loop; less than SIGHUP's number.
ABANDON_S = 0.6


def prctl(option: int, value: int) -> None:
    """Set an option of this process or thread by its number (Linux; see prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def alarm_at_hangup() -> None:
    """Let SIGHUP kill this process a second later, unless that is put off; needs neither Python's loop nor its lock.

    What Python does at a signal it does when it comes to it: never, in code that is stuck. So it is the C library's own `alarm`
    that is called. It takes a number of seconds and is given the signal's, which is 1; it may be called so (POSIX).
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    libc.signal(signal.SIGHUP, ctypes.cast(libc.alarm, ctypes.c_void_p))


def hold(parent: int, sockets: Path) -> None:
    """Until there is a `Lifeline`: let the parent's death end this process, which removes the run's sockets then."""

    def leave(*_: object) -> None:
        remove_socket_folder(sockets)
        os._exit(1)

    signal.signal(signal.SIGHUP, leave)
    if sys.platform == "linux":
        prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)
    if os.getppid() != parent:
        leave()


class Lifeline:
    """Knows whether this process should stop: told by SIGTERM, or left alone by its parent.

    Make it before sockets and files; a parent that died before that is noticed too. SIGINT is ignored: Ctrl-C is the
    launcher's, which tells its workers.

    The kernel sends SIGHUP when the parent dies (Linux; elsewhere the parent is looked at now and then), not SIGKILL:
    a worker saves what is there and removes the run's sockets on its way out. The signal comes when the *thread* that
    started this process ends. A process that is stopped then is woken because its group is left an orphan (POSIX), which
    holds where it is in its parent's session and whoever adopts it is not.
    """

    def __init__(self, parent: int) -> None:
        self.parent = parent
        self.is_told = False
        self._left = 0.0  # when this process was seen to be an orphan
        self._is_leaving = False
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        alarm_at_hangup()
        if sys.platform == "linux":
            prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.is_told = True

    @property
    def is_orphan(self) -> bool:
        """Whether the parent has died."""
        return os.getppid() != self.parent

    @property
    def should_stop(self) -> bool:
        """Whether to stop now. An orphan that asks is going to, and is given the time."""
        if self.is_orphan and not self._is_leaving:
            self._is_leaving = True
            with contextlib.suppress(ValueError, OSError):
                signal.setitimer(signal.ITIMER_REAL, LEAVE_S)
        return self.is_told or self.is_orphan

    @property
    def is_abandoned(self) -> bool:
        """Whether the parent died a while ago and this process has not begun to stop. For a thread that asks now and then."""
        if not self.is_orphan or self._is_leaving:
            return False
        self._left = self._left or time.monotonic()
        return time.monotonic() - self._left >= ABANDON_S
