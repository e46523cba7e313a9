"""What lets a stage's loop run undisturbed: a thread that writes for one that is stuck, and a collector that seldom looks."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from threading import Event, Thread

from .errors import RunError
from .recorder import Recorder

#: How often a worker looks at the control link, tells its progress, and flushes its records, in nanoseconds.
ROUND_NS = 200_000_000
#: The collector looks for cycles when so many objects were made and kept. The loop makes none; its notes are many.
LITTER = 50_000


class Backup(Thread):
    """Writes what a stage has noted when the stage does not come round to it: stuck in an action, it tells where.

    `abandon` is called then as well: it ends a process that nobody waits for any more.
    """

    def __init__(self, recorder: Recorder, abandon: Callable[[], None] = lambda: None) -> None:
        super().__init__(daemon=True, name="backup")
        self.is_late = False  # the loop clears it at every round
        self._recorder = recorder
        self._abandon = abandon
        self._stopped = Event()
        self.start()

    def run(self) -> None:
        """Look now and then whether there was a round since the last look."""
        while not self._stopped.wait(ROUND_NS / 1e9):
            if self.is_late:
                with contextlib.suppress(RunError):  # what was not written goes first the next time, or the loop tells
                    self._recorder.flush()
                self._abandon()
            self.is_late = True

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self.join()


def settle_memory() -> None:
    """Keep the garbage collector from looking at all that was made at the start again and again while the loop goes on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(LITTER, 20, 100)
