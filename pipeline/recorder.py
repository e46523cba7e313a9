"""Writes a stage's journal and trace while it works: bounded in memory and on disk, and honest about what it left out.

Pure: times are given, and where lots go is a function. A record costs about half a microsecond, so that a trace costs
a percent or two of a run.

    memory   records gather up to `LOT` bytes and are handed on; a lot that is refused, because the disk does not keep up,
             is left out and leaves a gap record
    disk     once half of `most_bytes` is used, only every second burst of `BURST` batches is recorded; when half of the
             rest is used every fourth, and so on. All stages keep the same bursts, whole, so that within one every
             message has both its ends. What lies between leaves gap records.

The journal is always whole: a run replays from it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from .actions import Action, Message, Part
from .lacks import Lack
from .trace import (
    GAP,
    MARK,
    MESSAGE_CODE,
    PART_CODE,
    RECORD,
    SENT,
    TAKEN,
    WAIT_CODE,
    WAITED,
    header_line,
    path_of,
)

#: Records are handed on when this many bytes have gathered, or when the recorder is told to flush.
LOT = 1 << 16
#: Batches in a row that are recorded or left out together once the trace is half full.
BURST = 64
_MOST = 2**32 - 1
_pack = RECORD.pack

#: Takes bytes for a stream and returns whether it will write them; the journal's bytes it may not refuse.
Put = Callable[[BinaryIO, bytes, bool], bool]


def put_at_once(stream: BinaryIO, data: bytes, must: bool) -> bool:  # noqa: ARG001
    """Write a lot where it is."""
    stream.write(data)
    stream.flush()
    return True


class Tape:
    """Records in memory."""

    def __init__(self) -> None:
        self.is_on = True  # whether records are kept now
        self.records = bytearray()
        self.left_out = 0  # records that were not kept, since it is off

    def part(self, action: Action, part: Part, start_ns: int, end_ns: int) -> None:
        """Add one part of an action."""
        if not self.is_on:
            self.left_out += 1
            return
        kind, batch, sibling = action
        name, read, written = part
        self.records += _pack(ord(kind), PART_CODE[name], sibling, batch, read, written, 0, 0, start_ns, end_ns)

    def sent(
        self, message: Message, size: int, version: int, sequence: int, start_ns: int, sent_ns: int, end_ns: int
    ) -> None:
        """Add a message that was encoded from `start_ns` to `sent_ns`, and whose send had returned at `end_ns`."""
        if not self.is_on:
            self.left_out += 1
            return
        kind, batch, _, target = message
        encoded = min(sent_ns - start_ns, _MOST)
        self.records += _pack(
            SENT, MESSAGE_CODE[kind], target, batch, min(size, _MOST), version, encoded, sequence, start_ns, end_ns
        )

    def taken(
        self, message: Message, size: int, version: int, sequence: int, start_ns: int, taken_ns: int, end_ns: int
    ) -> None:
        """Add a message that was received from `start_ns` to `taken_ns`, decoded and kept until `end_ns`."""
        if not self.is_on:
            self.left_out += 1
            return
        kind, batch, source, _ = message
        received = min(taken_ns - start_ns, _MOST)
        self.records += _pack(
            TAKEN, MESSAGE_CODE[kind], source, batch, min(size, _MOST), version, received, sequence, start_ns, end_ns
        )

    def waited(self, lack: Lack | None, start_ns: int, end_ns: int) -> None:
        """Add a wait, for what `lack` names."""
        if not self.is_on:
            self.left_out += 1
            return
        code, why, peer, batch = 0, 0, 0, 0
        if lack is not None and lack.is_wait:
            code, why, peer, batch = MESSAGE_CODE[lack.kind], WAIT_CODE[lack.why], lack.source, lack.batch
        self.records += _pack(WAITED, code, peer, batch, why, 0, 0, 0, start_ns, end_ns)


class Recorder(Tape):
    """Appends what a stage does to its files."""

    def __init__(
        self,
        folder: Path,
        stage: str,
        header: dict[str, Any],
        *,
        put: Put = put_at_once,
        is_traced: bool = True,
        most_bytes: int = 1 << 40,
    ) -> None:
        super().__init__()
        (folder / "journal").mkdir(exist_ok=True)
        self._put = put
        self._journal: BinaryIO = (folder / "journal" / f"{stage}.txt").open("wb", buffering=0)
        self._texts: list[str] = []
        self._trace: BinaryIO | None = None
        if is_traced:
            path = path_of(folder, stage)
            path.parent.mkdir(exist_ok=True)
            self._trace = path.open("wb", buffering=0)
            put(self._trace, header_line(stage, header), True)
        self.is_on = is_traced
        self._most = most_bytes
        self._used = 0
        self._stride = 1
        self._next_stride_at = most_bytes // 2
        self._gap_since = 0
        self._refused = 0  # records in lots that nobody took, and their time
        self._refused_from_to = (0, 0)
        self.count = 0  # records kept

    def mark(self, code: int, now_ns: int, cost_ns: int = 0, cpu_ms: int = 0, log_ms: int = 0) -> None:
        """Add a mark: `GO`, or `DONE` with what a record cost, and the time that the processor and the log took."""
        if self._trace is None:
            return
        self._close_gap(now_ns)
        figures = (min(figure, _MOST) for figure in (cost_ns, self.count, cpu_ms, log_ms))
        self.records += _pack(MARK, code, 0, 0, *figures, now_ns, now_ns)

    def journal(self, action: Action, now_ns: int) -> None:
        """Add an action that has ended to the journal; after a forward, see whether the next batch is to be recorded."""
        self._texts.append(str(action))
        if len(self.records) >= LOT:
            self.flush()
        if self._stride > 1 and action.kind == "F":
            self._choose(action.batch + 1, now_ns)

    # What is left out

    def _choose(self, batch: int, now_ns: int) -> None:
        if batch % BURST:
            return  # a burst is kept or left out as a whole
        wanted = self._used < self._most - self._most // 16 and batch // BURST % self._stride == 0
        if wanted and not self.is_on:
            self.is_on = True
            self._close_gap(now_ns)
        elif not wanted and self.is_on:
            self.is_on = False
            self._gap_since = now_ns

    def _close_gap(self, now_ns: int) -> None:
        if self.left_out:
            self.records += _pack(GAP, 0, 0, 0, min(self.left_out, _MOST), 0, 0, 0, self._gap_since, now_ns)
            self.left_out = 0

    # What is written

    def flush(self) -> None:
        """Hand on what has gathered."""
        if self._texts:
            self._put(self._journal, (" ".join(self._texts) + "\n").encode(), True)
            self._texts.clear()
        if self._trace is None or not self.records:
            return
        lot = bytes(self.records)
        self.records.clear()
        told = lot
        if self._refused:
            told = _pack(GAP, 0, 0, 0, min(self._refused, _MOST), 0, 0, 0, *self._refused_from_to) + lot
        if not self._put(self._trace, told, False):
            begins, ends = RECORD.unpack_from(lot)[8], RECORD.unpack_from(lot, len(lot) - RECORD.size)[9]
            self._refused_from_to = (self._refused_from_to[0] if self._refused else begins, ends)
            self._refused += len(lot) // RECORD.size
            return
        self._refused = 0
        self.count += len(told) // RECORD.size
        self._used += len(told)
        while self._used >= self._next_stride_at < self._most:
            self._stride *= 2
            self._next_stride_at += max((self._most - self._next_stride_at) // 2, 1)

    def close(self) -> None:
        """Flush and close both files."""
        self.flush()
        self._journal.close()
        if self._trace is not None:
            self._trace.close()
