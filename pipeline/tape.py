"""Takes records of what a stage did, and writes them now and then. Pure: times are given.

The loop only notes what happened, a tuple on a list: between messages every line runs from cold memory and costs several
times what it costs in a loop. Now and then all notes are packed at once and written; a worker that is killed loses what
it had noted since. A disk without room stops the recording and nothing else.
"""

from __future__ import annotations

import os
import struct
from struct import Struct
from threading import Lock
from typing import Any, BinaryIO

from .actions import Action, Message, Part
from .lacks import Lack
from .trace import GAP, LAYOUT, MARK, MESSAGE_CODE, PART_CODE, RECORD, SENT, TAKEN, WAIT_CODE, WAITED

#: The most records that are packed in one call.
LOT = 64
_MOST = 2**32 - 1
_SIZE = RECORD.size
_FIELDS = 10  # of a record
_START = 8  # among them
_PACKERS = [Struct("<" + LAYOUT * count) for count in range(LOT + 1)]


def _packed(notes: list[tuple[Any, ...]]) -> bytes:
    """Return the records of at most `LOT` notes."""
    fields = _fields(notes)
    pack = _PACKERS[len(notes)].pack
    try:
        return pack(*fields)
    except struct.error:  # a figure does not fit its field: the largest that does stands for it
        for place in range(0, len(fields), _FIELDS):
            fields[place + 4 : place + 7] = [min(field, _MOST) for field in fields[place + 4 : place + 7]]
        return pack(*fields)


def _fields(notes: list[tuple[Any, ...]]) -> list[int]:
    """Return the fields of records, one after the other."""
    fields: list[int] = []
    for note in notes:
        what = note[0]
        if not what:
            _, (kind, batch, sibling), (name, read, written), start, end = note
            fields += (ord(kind), PART_CODE[name], sibling, batch, read, written, 0, 0, start, end)
        elif what == SENT:
            _, (kind, batch, _, peer), size, version, sequence, start, sent, end = note
            fields += (SENT, MESSAGE_CODE[kind], peer, batch, size, version, sent - start, sequence, start, end)
        elif what == TAKEN:
            _, (kind, batch, peer, _), size, version, sequence, start, taken, end = note
            fields += (TAKEN, MESSAGE_CODE[kind], peer, batch, size, version, taken - start, sequence, start, end)
        elif what == WAITED:
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
        """Append to a file of `used` bytes; without a file nowhere, to see what recording costs."""
        self.is_on = True
        self.left_out = 0  # records that were not kept, since it is off
        self.used = used  # the file's bytes so far
        self.lost_ns = 0  # when the first record began that a full disk did not take
        self._notes: list[tuple[Any, ...]] = []  # what is not written yet
        self._note = self._notes.append
        self._lock = Lock()
        self._file = file
        self._first = used

    def part(self, action: Action, part: Part, start_ns: int, end_ns: int) -> None:
        """Note one part of an action."""
        if self.is_on:
            self._note((0, action, part, start_ns, end_ns))
        else:
            self.left_out += 1

    def sent(
        self, message: Message, size: int, version: int, sequence: int, start_ns: int, sent_ns: int, end_ns: int
    ) -> None:
        """Note a message, encoded from `start_ns` to `sent_ns`, its send returned at `end_ns`."""
        if self.is_on:
            self._note((SENT, message, size, version, sequence, start_ns, sent_ns, end_ns))
        else:
            self.left_out += 1

    def taken(
        self, message: Message, size: int, version: int, sequence: int, start_ns: int, taken_ns: int, end_ns: int
    ) -> None:
        """Note a message, received from `start_ns` to `taken_ns` and kept at `end_ns`."""
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
        """Write what was noted, in its order. Another thread may do it for one that is stuck."""
        with self._lock:
            notes = self._notes
            if count := len(notes):
                lots = (notes[at : min(at + LOT, count)] for at in range(0, count, LOT))
                if not self._append(b"".join([_packed(lot) for lot in lots])):
                    self.left_out += count
                    self.lost_ns = _fields(notes[:1])[_START]
                del notes[:count]

    def _append(self, content: bytes) -> bool:
        """Append records to the file, or stop recording where it takes none, and say which."""
        try:
            if self._file is not None and (written := self._file.write(content)) != len(content):
                self._file.seek(-written, os.SEEK_CUR)  # a part of them is none
                self._file.truncate()
                raise OSError
        except OSError:
            self.is_on = False
            return False
        self.used += len(content)
        return True

    def close(self) -> None:
        """Write what was noted; records that come after this are left out."""
        self.write()
        self.is_on = False
