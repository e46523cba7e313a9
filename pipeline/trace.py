"""What a stage did, on disk: its journal as text and its trace as fixed-size records. Pure: no clock, times are given.

    journal/box-1.txt    F0 T0 U2.0 F T U2. …   the actions in the order the stage took them; a program that replays
    journal/box-1.sums   4 bytes a sum          what was computed, as running checksums (`sums`)
    trace/box-1.trace    one line of JSON, then records of 40 bytes, little-endian, in the order of their ends

    kind         code      peer      batch   a         b         c            d          start         end
    F B T C U E  part      sibling   batch   read      written                           part begins   part ends
    s (sent)     message   target    batch   bytes     version   encoded ns   sequence   encode        send returned
    t (taken)    message   source    batch   bytes     version   received ns  sequence   receive       kept
    w (waited)   message   source    batch   why                                         began         ended
    g (gap)                                  left out                                    first         last
    m (mark)     go, done                    cost ns   records   cpu ms       log ms     then          then

A part of an action names the version of the weights that it read and that it left. A message was *sent* when it had been
encoded (start + c) and *taken* when it had been received (start + c); its hop lies between. The sequence counts the
messages of a directed edge. A wait names the message that was awaited and why (`lacks`). A gap says that so many records
were left out in that time. All times are monotonic nanoseconds; the JSON line anchors that clock to the wall clock.

Both files can be read up to the last whole record, whatever happened to their writer.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from .actions import ACTIONS, KINDS, Action, parse_journal
from .errors import RunError, ScheduleError
from .lacks import WAITS

if TYPE_CHECKING:
    from .arrays import Array

FORMAT = "timebox-trace-2"
PARTS = ("forward", "update", "train", "backward", "apply", "evaluate", "probe", "correct", "save")
PART_CODE = {name: code for code, name in enumerate(PARTS)}
MESSAGE_CODE = {kind: code for code, kind in enumerate(KINDS)}
WAIT_CODE = {why: code for code, why in enumerate(WAITS)}
SENT, TAKEN, WAITED, GAP, MARK = (ord(letter) for letter in "stwgm")
GO, DONE = 0, 1
#: Times that make sense: from an hour before the trace was begun to a year after, in nanoseconds.
EARLIEST_NS, LONGEST_NS = 3_600_000_000_000, 365 * 86_400_000_000_000
LAYOUT = "BBHIIIIIqq"
RECORD = struct.Struct("<" + LAYOUT)
#: The same record as numpy names it.
FIELDS = [
    ("kind", "u1"), ("code", "u1"), ("peer", "<u2"), ("batch", "<u4"), ("a", "<u4"), ("b", "<u4"), ("c", "<u4"),
    ("d", "<u4"), ("start", "<i8"), ("end", "<i8"),
]  # fmt: skip
_CODES = dict.fromkeys(map(ord, ACTIONS), len(PARTS)) | {
    SENT: len(KINDS), TAKEN: len(KINDS), WAITED: len(KINDS), GAP: 1, MARK: 2,
}  # fmt: skip


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
        return self.action.kind in "FBCU" and self.written != self.read


def header_line(stage: str, header: dict[str, Any]) -> bytes:
    """Return the first line of a stage's trace."""
    return json.dumps({"format": FORMAT, "stage": stage, "record": RECORD.format, **header}).encode() + b"\n"


def path_of(folder: Path, stage: str) -> Path:
    """Return where a stage's trace is."""
    return folder / "trace" / f"{stage}.trace"


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


def read_sums(folder: Path, stage: str) -> Array:
    """Return the running sums of what a stage computed, (n,) uint32, up to the last whole one; raises RunError."""
    import numpy as np

    path = folder / "journal" / f"{stage}.sums"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot read the sums: {error.strerror}") from None
    return np.frombuffer(content, "<u4", len(content) // 4)


def read_spans(folder: Path, stage: str) -> Iterator[Span]:
    """Yield the parts of a stage's actions, up to the last whole record; raises RunError."""
    with _open(folder, stage) as stream:
        _header(stream)
        content = stream.read()
    whole = len(content) // RECORD.size * RECORD.size
    for kind, code, peer, batch, a, b, _, _, start, end in RECORD.iter_unpack(content[:whole]):
        if code >= _CODES.get(kind, 0):
            raise RunError(f"{stream.name}: damaged: a record of kind {kind} and code {code}")
        if kind < SENT and kind not in (GAP, MARK):
            yield Span(stage, Action(chr(kind), batch, peer), PARTS[code], a, b, start, end)


class Records(NamedTuple):
    """A stage's records as a numpy array with the names of `FIELDS`, its header, and what was wrong with the file.

    `read` is how many records were read, damaged ones too.
    """

    header: dict[str, Any]
    array: Array
    faults: list[str]
    read: int


def read_records(folder: Path, stage: str, offset: int = 0) -> Records:
    """Return what can be read of a stage's trace, from byte `offset` of its records on; raises RunError for nothing.

    Damaged records are left out and told in `faults`, with a torn end.
    """
    import numpy as np

    with _open(folder, stage) as stream:
        header = _header(stream)
        stream.seek(offset, 1)
        content = stream.read()
    whole = len(content) // RECORD.size * RECORD.size
    faults = []
    if whole < len(content):
        faults.append(f"{stream.name}: ends in the middle of a record; {len(content) - whole} bytes are left out")
    count = whole // RECORD.size
    array: Array = np.frombuffer(content, dtype=FIELDS, count=count)
    limits = np.zeros(256, np.uint8)
    for kind, codes in _CODES.items():
        limits[kind] = codes
    is_good = (array["code"] < limits[array["kind"]]) & (array["start"] <= array["end"]) & (array["start"] > 0)
    if isinstance(anchor := header.get("mono_ns"), int):  # a byte that was lost or added shifts all that comes after it
        is_good &= (array["start"] >= anchor - EARLIEST_NS) & (array["end"] < min(anchor + LONGEST_NS, 1 << 62))
    is_message = (array["kind"] == SENT) | (array["kind"] == TAKEN)
    is_good &= ~is_message | (array["c"] <= array["end"] - array["start"])
    if not is_good.all():
        faults.append(
            f"{stream.name}: damaged: {int((~is_good).sum()):,} of {len(array):,} records make no sense and are left out"
        )
        array = array[is_good]
    return Records(header, array, faults, count)


def _open(folder: Path, stage: str) -> BinaryIO:
    path = path_of(folder, stage)
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
