"""What a stage did, on disk: its journal as text and its spans as fixed-size records. Pure: no clock, times are given.

    journal/box-1.txt    F0 T0 U2.0 F1 …              the actions in the order the stage took them; a program that replays
    trace/box-1.spans    one line of JSON, then records of 32 bytes: a span for each part of each action

A record names the action, its part, the sibling (U), the batch, the version of the weights read and written, and the
monotonic nanoseconds at which the part began and ended. The JSON line anchors that clock to the wall clock. Both files
are appended to in lots and can be read up to the last whole record, whatever happened to their writer.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from .actions import Action, Part, parse_journal
from .errors import RunError, ScheduleError

FORMAT = "timebox-spans-1"
PARTS = ("forward", "update", "train", "backward", "apply", "evaluate")
_PART = {name: code for code, name in enumerate(PARTS)}
_RECORD = struct.Struct("<BBHIIIqq")
#: Records are written out when this many bytes have gathered, or when the writer is told to flush.
LOT = 1 << 16


class Span(NamedTuple):
    """One part of one action of one stage, in monotonic nanoseconds."""

    stage: str
    action: Action
    part: str
    read: int
    written: int
    start_ns: int
    end_ns: int

    @property
    def is_update(self) -> bool:
        """Whether this part changed the weights that the forward reads."""
        return self.action.kind in "FBU" and self.written != self.read


class Writer:
    """Appends a stage's journal and spans to its files."""

    def __init__(self, folder: Path, stage: str, header: dict[str, Any]) -> None:
        for name in ("journal", "trace"):
            (folder / name).mkdir(exist_ok=True)
        self._journal: BinaryIO = (folder / "journal" / f"{stage}.txt").open("wb")
        self._spans: BinaryIO = (folder / "trace" / f"{stage}.spans").open("wb")
        line = json.dumps({"format": FORMAT, "stage": stage, "record": _RECORD.format, "parts": PARTS, **header})
        self._spans.write(line.encode() + b"\n")
        self._texts: list[str] = []
        self._records = bytearray()

    def span(self, action: Action, part: Part, start_ns: int, end_ns: int) -> None:
        """Add one part's span."""
        kind, batch, sibling = action
        name, read, written = part
        self._records += _RECORD.pack(ord(kind), _PART[name], sibling, batch, read, written, start_ns, end_ns)

    def journal(self, action: Action) -> None:
        """Add an action to the journal."""
        self._texts.append(str(action))
        if len(self._records) >= LOT:
            self.flush()

    def flush(self) -> None:
        """Write out what has gathered."""
        if self._texts:
            self._journal.write((" ".join(self._texts) + "\n").encode())
            self._texts.clear()
        self._spans.write(self._records)
        self._records.clear()
        self._journal.flush()
        self._spans.flush()

    def close(self) -> None:
        """Flush and close both files."""
        self.flush()
        self._journal.close()
        self._spans.close()


def read_journal(folder: Path, stage: str) -> list[Action]:
    """Return a stage's actions in their order, up to the last whole line; raises RunError."""
    path = folder / "journal" / f"{stage}.txt"
    try:
        whole, _, _ = path.read_bytes().rpartition(b"\n")
        return parse_journal(whole.decode())
    except OSError as error:
        raise RunError(f"{path}: cannot read the journal: {error.strerror}") from None
    except (ScheduleError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: damaged: {error}") from None


def read_header(folder: Path, stage: str) -> dict[str, Any]:
    """Return what a stage's trace says of itself; raises RunError."""
    with _open(folder, stage) as stream:
        return _header(stream)


def read_spans(folder: Path, stage: str) -> Iterator[Span]:
    """Yield a stage's spans, up to the last whole record; raises RunError."""
    with _open(folder, stage) as stream:
        _header(stream)
        content = stream.read()
    whole = len(content) // _RECORD.size * _RECORD.size
    for kind, part, sibling, batch, read, written, start, end in _RECORD.iter_unpack(content[:whole]):
        if part >= len(PARTS):
            raise RunError(f"{stream.name}: damaged: it has a part with number {part}")
        yield Span(stage, Action(chr(kind), batch, sibling), PARTS[part], read, written, start, end)


def _open(folder: Path, stage: str) -> BinaryIO:
    path = folder / "trace" / f"{stage}.spans"
    try:
        return path.open("rb")
    except OSError as error:
        raise RunError(f"{path}: cannot read the trace: {error.strerror}") from None


def _header(stream: BinaryIO) -> dict[str, Any]:
    try:
        header = json.loads(stream.readline())
        if header["format"] != FORMAT:
            raise ValueError(header["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{stream.name}: not a trace of this version ({error})") from None
    return dict(header)
