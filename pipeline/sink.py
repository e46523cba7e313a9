"""Writes files from a thread of its own, so that a slow disk does not stall a worker's loop. Bounded in memory.

The thread only waits and writes, both without holding up Python code of the loop.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import BinaryIO

from .errors import RunError

#: Most bytes that may wait for the disk; what may be left out is refused beyond that.
MOST_WAITING = 8 << 20


class Sink:
    """Takes bytes for streams and other jobs, and does them in their order."""

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], object], int] | None] = queue.SimpleQueue()
        self._most = most_waiting
        self._taken = 0  # bytes ever taken, by the loop
        self._done = 0  # bytes ever written, by the thread
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._work, name="sink", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many bytes wait to be written."""
        return self._taken - self._done

    def put(self, stream: BinaryIO, data: bytes, must: bool) -> bool:
        """Take bytes for a stream; returns False, and has not taken them, where too many wait and they need not be."""
        return self.do(lambda: stream.write(data), len(data), must)

    def do(self, job: Callable[[], object], size: int, must: bool) -> bool:
        """Take a job that holds on to `size` bytes."""
        if not must and self.waiting + size > self._most:
            return False
        self._taken += size
        self._jobs.put((job, size))
        return True

    def check(self) -> None:
        """Raise RunError if something could not be written."""
        if self._failure is not None:
            where = f"{self._failure.filename}: " if self._failure.filename else ""
            raise RunError(f"{where}cannot write what the run leaves: {self._failure.strerror or self._failure}")

    def close(self) -> None:
        """Do what is left and end the thread; raises RunError if something could not be written."""
        self._jobs.put(None)
        self._thread.join()
        self.check()

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, size = item
            try:
                if self._failure is None:  # after a failure nothing is whole any more
                    job()
            except OSError as error:
                self._failure = error
            self._done += size
