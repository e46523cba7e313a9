"""A worker's stacks, in a file of its own: written when it is asked by SIGUSR1, and when it crashes.

C code of Python's `faulthandler` writes them, at the signal itself: a worker that is stuck, in Python or in C, tells where.
One that is stopped does not.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from pathlib import Path
from typing import BinaryIO

#: The signal that asks for them.
ASKS = signal.SIGUSR1
#: What stands before the stacks of one process; a run that was taken up again has several.
HEADER = "process {pid} writes its stacks here, newest call first, when it is sent SIGUSR1 and when it crashes\n"

_kept: list[
    BinaryIO
] = []  # faulthandler writes to the descriptor: the file must stay open as long as the process lives


def file_of(folder: Path, stage: str) -> Path:
    """Return where a stage's stacks are in a run's folder."""
    return folder / "logs" / f"{stage}.stacks"


def keep(path: Path) -> None:
    """Let this process write its stacks to the end of a file, if there can be one."""
    try:
        stream = path.open("ab", buffering=0)
    except OSError:
        return  # nor can there be a log: that tells it
    _kept.append(stream)
    faulthandler.enable(stream, all_threads=True)
    faulthandler.register(ASKS, stream, all_threads=True, chain=False)
    with contextlib.suppress(OSError):  # on a full disk: what the run itself has no room for is told by name
        # After this it may be asked: before it the signal would kill.
        stream.write(HEADER.format(pid=os.getpid()).encode())
