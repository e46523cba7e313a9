"""Records in a mapped file: what is packed is in the file, whatever becomes of this process. Pure: times are given.

A record is packed straight into the file's pages. There is no flush, no copy and no system call but for a new window now and
then, so the loop is not held up, and a worker that is killed leaves its last record. Room is reserved before it is
mapped; a disk without room stops the recording and nothing else. A record costs about half a microsecond, so that a trace
costs a percent or two of a run.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import BinaryIO

from .actions import Action, Message, Part
from .lacks import Lack
from .trace import GAP, MARK, MESSAGE_CODE, PART_CODE, RECORD, SENT, TAKEN, WAIT_CODE, WAITED

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
        """Add one part of an action."""
        at = self._at
        if not self.is_on or (at > self._end and (at := self._turn()) < 0):
            self.left_out += 1
            return
        kind, batch, sibling = action
        name, read, written = part
        _pack_into(
            self._map, at, ord(kind), PART_CODE[name], sibling, batch, read, written, 0, 0, start_ns, end_ns
        )  # fmt: skip
        self._at = at + _SIZE

    def sent(
        self, message: Message, size: int, version: int, sequence: int, start_ns: int, sent_ns: int, end_ns: int
    ) -> None:
        """Add a message that was encoded from `start_ns` to `sent_ns`, and whose send had returned at `end_ns`."""
        at = self._at
        if not self.is_on or (at > self._end and (at := self._turn()) < 0):
            self.left_out += 1
            return
        kind, batch, _, peer = message
        code, spent = MESSAGE_CODE[kind], sent_ns - start_ns
        try:
            _pack_into(self._map, at, SENT, code, peer, batch, size, version, spent, sequence, start_ns, end_ns)
        except struct.error:
            self._clipped(at, SENT, code, peer, batch, size, version, spent, sequence, start_ns, end_ns)
        self._at = at + _SIZE

    def taken(
        self, message: Message, size: int, version: int, sequence: int, start_ns: int, taken_ns: int, end_ns: int
    ) -> None:
        """Add a message that was received from `start_ns` to `taken_ns`, decoded and kept until `end_ns`."""
        at = self._at
        if not self.is_on or (at > self._end and (at := self._turn()) < 0):
            self.left_out += 1
            return
        kind, batch, peer, _ = message
        code, spent = MESSAGE_CODE[kind], taken_ns - start_ns
        try:
            _pack_into(self._map, at, TAKEN, code, peer, batch, size, version, spent, sequence, start_ns, end_ns)
        except struct.error:
            self._clipped(at, TAKEN, code, peer, batch, size, version, spent, sequence, start_ns, end_ns)
        self._at = at + _SIZE

    def _clipped(self, at: int, *values: int) -> None:
        """Write a record of which a figure does not fit its field: the largest that does stands for it."""
        kind, code, peer, batch, a, b, c, d, start, end = values
        _pack_into(self._map, at, kind, code, peer, batch, min(a, _MOST), min(b, _MOST), min(c, _MOST), d, start, end)

    def _record(self, *values: int) -> None:
        at = self._at
        if not self.is_on or (at > self._end and (at := self._turn()) < 0):
            self.left_out += 1
            return
        try:
            _pack_into(self._map, at, *values)
        except struct.error:
            self._clipped(at, *values)
        self._at = at + _SIZE

    def waited(self, lack: Lack | None, start_ns: int, end_ns: int) -> None:
        """Add a wait, for what `lack` names."""
        code, why, peer, batch = 0, 0, 0, 0
        if lack is not None and lack.is_wait:
            code, why, peer, batch = MESSAGE_CODE[lack.kind], WAIT_CODE[lack.why], lack.source, lack.batch
        self._record(WAITED, code, peer, batch, why, 0, 0, 0, start_ns, end_ns)

    def gap(self, left_out: int, start_ns: int, end_ns: int) -> None:
        """Add that so many records were left out in a time."""
        self._record(GAP, 0, 0, 0, left_out, 0, 0, 0, start_ns, end_ns)

    def mark(self, code: int, now_ns: int, cost_ns: int = 0, cpu_ms: int = 0, log_ms: int = 0) -> None:
        """Add a mark: `GO`, or `DONE` with what a record cost, and the time that the processor and the log took."""
        records = (self.used - self._first) // _SIZE
        self._record(MARK, code, 0, 0, cost_ns, records, cpu_ms, log_ms, now_ns, now_ns)

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
        """Cut the file to what was written; records that come after this are left out."""
        self.is_on = False
        if self._file is not None:
            self._map = bytearray()
            self._file.truncate(self.used)


def _reserve(descriptor: int, start: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, size)
    else:  # macOS
        os.ftruncate(descriptor, start + size)
