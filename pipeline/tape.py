"""Records in a mapped file: what is packed is in the file, whatever becomes of this process. Pure: times are given.

The loop only notes what happened, a tuple on a list. Notes are packed into the file's pages when the stage is about to
wait, where nobody misses the time, or when `LOT` have gathered. A page is the kernel's at once: no flush, no copy, and no
system call but for a new window now and then; a worker that is killed loses at most the notes since its last wait.
Room is reserved before it is mapped; a disk without room stops the recording and nothing else.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import Any, BinaryIO

from .actions import Action, Message, Part
from .lacks import Lack
from .trace import GAP, MARK, MESSAGE_CODE, PART_CODE, RECORD, SENT, TAKEN, WAIT_CODE, WAITED

#: So many notes are packed at the latest at the end of the action with which they have gathered.
LOT = 64
#: Bytes of the file that are mapped at a time.
WINDOW = 1 << 20
_MOST = 2**32 - 1
_SIZE = RECORD.size
_pack_into = RECORD.pack_into


class Tape:
    """Takes records, while it `is_on`; counts those that it left out."""

    def __init__(self, file: BinaryIO | None = None, used: int = 0) -> None:
        """Write to a file from byte `used` on; without a file nowhere, to see what recording costs."""
        self.is_on = True
        self.left_out = 0  # records that were not kept, since it is off
        self.notes: list[tuple[Any, ...]] = []  # what is not written yet
        self._file = file
        self._base = used // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        self._at = used - self._base
        self._first = self._at
        self._end = -1  # the last place in the window at which a record fits
        self._map: mmap.mmap | bytearray = bytearray()

    @property
    def used(self) -> int:
        """The file's bytes so far."""
        return self._base + self._at

    def part(self, action: Action, part: Part, start_ns: int, end_ns: int) -> None:
        """Note one part of an action."""
        if self.is_on:
            self.notes.append((0, action, part, start_ns, end_ns))
        else:
            self.left_out += 1

    def sent(
        self, message: Message, size: int, version: int, sequence: int, start_ns: int, sent_ns: int, end_ns: int
    ) -> None:
        """Note a message that was encoded from `start_ns` to `sent_ns`, and whose send had returned at `end_ns`."""
        if self.is_on:
            self.notes.append((SENT, message, size, version, sequence, start_ns, sent_ns, end_ns))
        else:
            self.left_out += 1

    def taken(
        self, message: Message, size: int, version: int, sequence: int, start_ns: int, taken_ns: int, end_ns: int
    ) -> None:
        """Note a message that was received from `start_ns` to `taken_ns`, decoded and kept until `end_ns`."""
        if self.is_on:
            self.notes.append((TAKEN, message, size, version, sequence, start_ns, taken_ns, end_ns))
        else:
            self.left_out += 1

    def waited(self, lack: Lack | None, start_ns: int, end_ns: int) -> None:
        """Note a wait, for what `lack` names."""
        if self.is_on:
            self.notes.append((WAITED, lack, start_ns, end_ns))
        else:
            self.left_out += 1

    def gap(self, left_out: int, start_ns: int, end_ns: int) -> None:
        """Note that so many records were left out in a time."""
        if self.is_on:
            self.notes.append((GAP, left_out, start_ns, end_ns))

    def mark(self, code: int, now_ns: int, cost_ns: int = 0, cpu_ms: int = 0, log_ms: int = 0) -> None:
        """Note a mark: `GO`, or `DONE` with what a record cost, and the time that the processor and the log took."""
        if self.is_on:
            self.notes.append((MARK, code, now_ns, cost_ns, cpu_ms, log_ms))

    def write(self) -> None:
        """Pack what was noted into the file's pages, in its order."""
        for place, note in enumerate(self.notes):
            at = self._at
            if at > self._end and (at := self._turn()) < 0:
                self.left_out += len(self.notes) - place
                break
            values = self._values(note)
            try:
                _pack_into(self._map, at, *values)
            except struct.error:  # a figure does not fit its field: the largest that does stands for it
                kind, code, peer, batch, a, b, c, d, start, end = values
                few = (min(a, _MOST), min(b, _MOST), min(c, _MOST))
                _pack_into(self._map, at, kind, code, peer, batch, *few, d, start, end)
            self._at = at + _SIZE
        self.notes.clear()

    def _values(self, note: tuple[Any, ...]) -> tuple[int, ...]:
        """Return a record's fields."""
        what = note[0]
        if not what:
            _, (kind, batch, sibling), (name, read, written), start, end = note
            return ord(kind), PART_CODE[name], sibling, batch, read, written, 0, 0, start, end
        if what in (SENT, TAKEN):
            _, (kind, batch, source, target), size, version, sequence, start, middle, end = note
            peer = target if what == SENT else source
            return what, MESSAGE_CODE[kind], peer, batch, size, version, middle - start, sequence, start, end
        if what == WAITED:
            _, lack, start, end = note
            if lack is None or not lack.is_wait:
                return WAITED, 0, 0, 0, 0, 0, 0, 0, start, end
            return WAITED, MESSAGE_CODE[lack.kind], lack.source, lack.batch, WAIT_CODE[lack.why], 0, 0, 0, start, end
        if what == GAP:
            _, left_out, start, end = note
            return GAP, 0, 0, 0, left_out, 0, 0, 0, start, end
        _, code, now, cost, cpu, log = note
        records = (self.used - self._first) // _SIZE
        return MARK, code, 0, 0, cost, records, cpu, log, now, now

    def _turn(self) -> int:
        """Map the next window and return the place in it; where the disk has no room, stop recording and return −1."""
        used = self.used
        base = used // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        try:
            if self._file is None:
                self._map, base = mmap.mmap(-1, WINDOW), used
            else:
                # Room is reserved, not just promised: a mapped page without room would end the process.
                _reserve(self._file.fileno(), base, WINDOW)
                self._map = mmap.mmap(self._file.fileno(), WINDOW, offset=base)
        except OSError:
            self.is_on = False
            return -1
        self._base, self._at, self._end = base, used - base, WINDOW - _SIZE
        return self._at

    def close(self) -> None:
        """Write what was noted and cut the file there; records that come after this are left out."""
        self.write()
        self.is_on = False
        if self._file is not None:
            self._map = bytearray()
            self._file.truncate(self.used)


def _reserve(descriptor: int, start: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, size)
    else:  # macOS
        os.ftruncate(descriptor, start + size)
