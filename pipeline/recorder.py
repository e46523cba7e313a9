"""Writes a stage's journal and trace while it works, bounded, and honest about what it left out. Pure: its clock is given.

Of the bursts of `BURST` batches one in `every` is recorded. Once half of `most_bytes` is used, only every second one of
these is; when half of the rest is used every fourth, and so on. Bursts are kept whole. A stage that writes more keeps fewer,
and all of them are among those that the others keep; a message between a stage that records and one that does not has
one end on record. What lies between leaves gap records.

    batches    0 ……………………………… half of the room │ 64 kept │ 64 not │ 64 kept │ 64 not │ … │ 64 kept │ 192 not │ …

The journal is always whole: a run replays from it, and its sums tell whether that gave the same bits. All gathers in
memory and is written when the recorder is told to flush, by whichever thread.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from .actions import Action, shorten_journal
from .errors import RunError
from .sums import Sums
from .tape import Tape
from .trace import header_line, path_of

#: Batches in a row that are recorded or left out together once the trace is half full.
BURST = 64
#: The journal is written at the latest when so many actions have gathered.
LOT = 4096


class Recorder:
    """Appends what a stage does to its files; `tape` takes the trace's records."""

    def __init__(
        self,
        folder: Path,
        stage: str,
        header: dict[str, Any],
        *,
        is_traced: bool = True,
        most_bytes: int = 1 << 40,
        every: int = 1,
        goes_on: bool = False,
    ) -> None:
        """Begin a stage's files; with `goes_on` journal and sums are appended to as they are."""
        (folder / "journal").mkdir(exist_ok=True)
        self._journal = _File(folder / "journal" / f"{stage}.txt", goes_on)
        self._sums = _File(folder / "journal" / f"{stage}.sums", goes_on)
        self._actions: deque[Action] = deque()
        self._last: dict[tuple[str, int], int] = {}  # the batches in the journal's file, by kind and sibling
        self._seals = hashlib.sha256(), hashlib.sha256()  # of journal and sums
        self.sums = Sums()
        if goes_on:
            for seal, file in zip(self._seals, (self._journal, self._sums), strict=True):
                seal.update(file.content())
            self.sums.state = int.from_bytes(self._sums.content()[-4:], "little")
        self._lock = Lock()
        self._trace: BinaryIO | None = None
        used = 0
        if is_traced:
            path = path_of(folder, stage)
            path.parent.mkdir(exist_ok=True)
            self._trace = path.open("wb+", buffering=0)
            used = _write_first(self._trace, header_line(stage, header))
        self.tape = Tape(self._trace, used)
        self.tape.is_on = is_traced
        self._most = most_bytes
        self._stride = every
        self._next_stride_at = most_bytes // 2
        self._largest = 0  # bytes of a burst
        self._gap_since = 0  # when recording stopped, while it is off

    def journal(self, action: Action, clock: Callable[[], int]) -> None:
        """Add an action that has ended to the journal; at the end of a burst, see whether the next one is recorded."""
        self._actions.append(action)
        if not self.tape.is_on and not self._gap_since:
            self._gap_since = self.tape.lost_ns or clock()  # the disk had no room
        if len(self._actions) >= LOT:
            self.flush()
        if action.kind == "F" and self._trace is not None and not (action.batch + 1) % BURST:
            self._choose((action.batch + 1) // BURST, clock)

    def _choose(self, burst: int, clock: Callable[[], int]) -> None:
        tape, used = self.tape, self.tape.used
        tape.write()
        now_ns = clock()  # after writing: what a burst costs is a part of it
        if tape.used > used:
            self._largest = max(self._largest, tape.used - used)
        while tape.used >= self._next_stride_at < self._most:
            self._stride *= 2
            self._next_stride_at += max((self._most - self._next_stride_at) // 2, 1)
        room = self._most - tape.used - max(self._most // 16, 2 * self._largest)
        wanted = room > 0 and burst % self._stride == 0
        if wanted and not tape.is_on:
            tape.is_on = True
            self._tell_gap(now_ns)
        elif not wanted and tape.is_on:
            tape.is_on = False
            self._gap_since = now_ns

    def _tell_gap(self, now_ns: int) -> None:
        tape, left_out = self.tape, self.tape.left_out
        if left_out:
            tape.gap(left_out, self._gap_since or now_ns, now_ns)
            # Where the disk still has no room, the telling was left out as well, and nothing is told yet.
            tape.left_out, self._gap_since = (0, 0) if tape.is_on else (left_out, self._gap_since)

    def done(self, mark: int, now_ns: int, *, cost_ns: int = 0, cpu_ms: int = 0, log_ms: int = 0) -> None:
        """Mark the end, after telling what was left out last."""
        if self._trace is not None:
            self.tape.is_on = True
            self._tell_gap(now_ns)
            self.tape.mark(mark, now_ns, cost_ns, cpu_ms, log_ms)

    def flush(self) -> None:
        """Write trace and journal as far as they go; raises RunError where the journal cannot be written."""
        self.tape.write()
        with self._lock:
            actions, sums = self._actions, self.sums.take()
            text = shorten_journal([actions.popleft() for _ in range(len(actions))], self._last)
            content = f"{text}\n".encode() if text else b""
            for seal, part in zip(self._seals, (content, sums), strict=True):
                seal.update(part)
            try:
                self._journal.append(content)
            finally:
                self._sums.append(sums)

    @property
    def seal(self) -> dict[str, Any]:
        """What a changed file is known by afterwards: the sha256 of journal and sums."""
        journal, sums = self._seals
        return {"journal": journal.hexdigest(), "sums": sums.hexdigest()}

    def marks(self) -> dict[str, dict[str, Any]]:
        """Flush, and return bytes and sha256 of journal and sums, by their paths in the run's folder; raises RunError."""
        self.flush()
        with self._lock:
            files = zip((self._journal, self._sums), self._seals, strict=True)
            return {
                f"journal/{file.path.name}": {"bytes": file.size, "sha256": seal.copy().hexdigest()}
                for file, seal in files
            }

    def sync(self) -> None:
        """Bring journal and sums to the disk, as far as they are written."""
        self._journal.sync()
        self._sums.sync()

    def close(self) -> None:
        """Flush and close both files."""
        try:
            self.flush()
        finally:
            self._journal.close()
            self._sums.close()
            if self._trace is not None:
                self.tape.close()
                self._trace.close()


def _write_first(stream: BinaryIO, line: bytes) -> int:
    """Write the line that a trace cannot be read without, and return its length; raises RunError."""
    try:
        if stream.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise RunError(f"{stream.name}: cannot write the trace: {error.strerror}") from None
    return len(line)


class _File:
    """A file that is only appended to. What a full disk did not take is kept and goes first the next time."""

    def __init__(self, path: Path, goes_on: bool) -> None:
        self.path = path
        self._stream: BinaryIO = path.open("ab" if goes_on else "wb", buffering=0)
        self._rest = b""
        self.size = path.stat().st_size

    def content(self) -> bytes:
        return self.path.read_bytes()

    def sync(self) -> None:
        os.fsync(self._stream.fileno())

    def append(self, content: bytes) -> None:
        """Write content after all that came before it; raises RunError."""
        self._rest += content
        try:
            while self._rest:
                written = self._stream.write(self._rest)
                self._rest = self._rest[written:]
                self.size += written
        except OSError as error:
            raise RunError(f"{self._stream.name}: cannot write the journal: {error.strerror}") from None

    def close(self) -> None:
        self._stream.close()
