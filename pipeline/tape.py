"""Records in a mapped file: what is packed is in the file, whatever becomes of this process. Pure: times are given.

The loop only notes what happened, a tuple on a list: between messages every line runs from cold memory and costs several
times what it costs in a loop. Now and then all notes are packed at once, straight into the file's pages; a page is the
kernel's at once, without flush or copy, and a worker that is killed loses what it had noted since. Room is reserved before
it is mapped; a disk without room stops the recording and nothing else.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from struct import Struct
from threading import Lock
from typing import Any, BinaryIO

from .actions import Action, Message, Part
from .lacks import Lack
from .trace import GAP, LAYOUT, MARK, MESSAGE_CODE, PART_CODE, RECORD, SENT, TAKEN, WAIT_CODE, WAITED

#: The most records that are packed in one call.
LOT = 64
#: Bytes of the file that are mapped at a time.
WINDOW = 1 << 20
_MOST = 2**32 - 1
_SIZE = RECORD.size
_FIELDS = 10  # of a record
_PACKERS = [Struct("<" + LAYOUT * count) for count in range(LOT + 1)]


def _nothing(message: Message) -> int:  # noqa: ARG001
    return 0


def _fields(notes: list[tuple[Any, ...]], weigh: Callable[[Message], int]) -> list[int]:
    """Return the fields of records, one after the other."""
    fields: list[int] = []
    for note in notes:
        what = note[0]
        if not what:
            _, (kind, batch, sibling), (name, read, written), start, end = note
            fields += (ord(kind), PART_CODE[name], sibling, batch, read, written, 0, 0, start, end)
        elif what == SENT:
            _, message, size, version, sequence, start, sent, end = note
            kind, batch, _, peer = message
            size += weigh(message)
            fields += (SENT, MESSAGE_CODE[kind], peer, batch, size, version, sent - start, sequence, start, end)
        elif what == TAKEN:
            _, message, size, version, sequence, start, taken, end = note
            kind, batch, peer, _ = message
            size += weigh(message)
            fields += (TAKEN, MESSAGE_CODE[kind], peer, batch, size, version, taken - start, sequence, start, end)
        elif what == WAITED and len(note) == 4:
            _, lack, start, end = note
            if lack is None or not lack.is_wait:
                fields += (WAITED, 0, 0, 0, 0, 0, 0, 0, start, end)
            else:
                code, why = MESSAGE_CODE[lack.kind], WAIT_CODE[lack.why]
                fields += (WAITED, code, lack.source, lack.batch, why, 0, 0, 0, start, end)
        else:
            fields += note
    return fields


class Tape:
    """Takes records, while it `is_on`; counts those that it left out."""

    def __init__(self, file: BinaryIO | None = None, used: int = 0) -> None:
        """Write to a file from byte `used` on; without a file nowhere, to see what recording costs."""
        self.is_on = True
        self.left_out = 0  # records that were not kept, since it is off
        self.weigh: Callable[[Message], int] = _nothing  # a message's bytes without its header
        self._notes: list[tuple[Any, ...]] = []  # what is not packed yet
        self._note = self._notes.append
        self._lock = Lock()
        self._file = file
        self._base = used // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        self._at = used - self._base
        self._first = self._at
        self._end = 0  # the window's
        self._map: mmap.mmap | bytearray = bytearray()

    @property
    def used(self) -> int:
        """The file's bytes so far."""
        return self._base + self._at

    def part(self, action: Action, part: Part, start_ns: int, end_ns: int) -> None:
        """Note one part of an action."""
        if self.is_on:
            self._note((0, action, part, start_ns, end_ns))
        else:
            self.left_out += 1

    def sent(
        self, message: Message, size: int, version: int, sequence: int, start_ns: int, sent_ns: int, end_ns: int
    ) -> None:
        """Note a message, encoded from `start_ns` to `sent_ns`, its send returned at `end_ns`; `size` is its header's."""
        if self.is_on:
            self._note((SENT, message, size, version, sequence, start_ns, sent_ns, end_ns))
        else:
            self.left_out += 1

    def taken(
        self, message: Message, size: int, version: int, sequence: int, start_ns: int, taken_ns: int, end_ns: int
    ) -> None:
        """Note a message, received from `start_ns` to `taken_ns` and kept at `end_ns`; `size` is its header's."""
        if self.is_on:
            self._note((TAKEN, message, size, version, sequence, start_ns, taken_ns, end_ns))
        else:
            self.left_out += 1

    def waited(self, lack: Lack | None, start_ns: int, end_ns: int) -> None:
        """Note a wait, for what `lack` names."""
        if self.is_on:
            self._note((WAITED, lack, start_ns, end_ns))
        else:
            self.left_out += 1

    def gap(self, left_out: int, start_ns: int, end_ns: int) -> None:
        """Write that so many records were left out in a time."""
        if self.is_on:
            self._note((GAP, 0, 0, 0, left_out, 0, 0, 0, start_ns, end_ns))
            self.write()

    def mark(self, code: int, now_ns: int, cost_ns: int = 0, cpu_ms: int = 0, log_ms: int = 0) -> None:
        """Write a mark: `GO`, or `DONE` with what a record cost, and the time that the processor and the log took."""
        if self.is_on:
            self.write()
            records = (self.used - self._first) // _SIZE
            self._note((MARK, code, 0, 0, cost_ns, records, cpu_ms, log_ms, now_ns, now_ns))
            self.write()

    def write(self) -> None:
        """Pack what was noted into the file's pages, in its order. Another thread may do it for one that is stuck."""
        with self._lock:
            notes = self._notes
            while count := min(len(notes), LOT):
                self._pack(count, _fields(notes[:count], self.weigh))
                del notes[:count]

    def _pack(self, count: int, fields: list[int]) -> None:
        at, size = self._at, count * _SIZE
        if at + size > self._end and (at := self._turn()) < 0:
            self.left_out += count
            return
        pack_into = _PACKERS[count].pack_into
        try:
            pack_into(self._map, at, *fields)
        except struct.error:  # a figure does not fit its field: the largest that does stands for it
            for place in range(0, len(fields), _FIELDS):
                fields[place + 4 : place + 7] = [min(field, _MOST) for field in fields[place + 4 : place + 7]]
            pack_into(self._map, at, *fields)
        self._at = at + size

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
        self._base, self._at, self._end = base, used - base, WINDOW
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
