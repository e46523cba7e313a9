"""Writes a stage's checkpoints beside its loop: the loop goes on while a thread packs, writes and waits for the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from . import checkpoints
from .arrays import Weights
from .errors import RunError
from .files import sync
from .plan import Plan

#: What is said of a checkpoint that was written.
Saved = dict[str, Any]
#: Bytes and sha256 of what a file has so far.
Mark = dict[str, Any]


class Saver:
    """Writes one checkpoint at a time; the next one waits for it. `state` must be nobody else's."""

    def __init__(self, run: Path, plan: Plan, stage: str, sync: Callable[[], None]) -> None:
        self._run, self._plan, self._stage = run, plan, stage
        self._sync = sync  # brings journal and sums to the disk, which the checkpoint takes for granted
        self._thread: Thread | None = None
        self._saved: list[Saved] = []
        self._error: Exception | None = None

    def save(self, number: int, state: Weights, appended: Mapping[str, int | Mark]) -> None:
        """Begin to write a checkpoint, when the one before is written.

        `appended`: by path in the run's folder how many bytes of a file are of it, or those and their sha256.
        """
        self.wait()
        self._thread = Thread(target=self._write, args=(number, state, appended), name="saver", daemon=True)
        self._thread.start()

    def _write(self, number: int, state: Weights, appended: Mapping[str, int | Mark]) -> None:
        try:
            self._sync()
            files = {
                name: part if isinstance(part, dict) else self._mark(name, part) for name, part in appended.items()
            }
            made = checkpoints.write_stage(self._run, self._plan, number, self._stage, state)
            self._saved.append({"save": number, **made, "appended": files})
        except Exception as error:  # whatever it is is raised again in the loop, where it ends the run
            self._error = error

    def _mark(self, name: str, size: int) -> Mark:
        """Bring a file to the disk and return what its first bytes are known by."""
        sync(self._run / name)
        return checkpoints.beginning(self._run / name, size)

    def take(self) -> list[Saved]:
        """Return what was written since the last call; raises RunError if something could not be."""
        if self._error is not None:
            error, self._error = self._error, None
            if isinstance(error, OSError):
                raise RunError(
                    f"{error.filename or 'checkpoint'}: cannot write a checkpoint: {error.strerror}"
                ) from None
            raise error
        taken, self._saved = self._saved, []
        return taken

    def wait(self) -> None:
        """Wait until what was begun is written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
