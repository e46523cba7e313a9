"""A stage's files on two hosts: an agent sends what its worker writes, the launcher puts it into the run's folder.

Every file is sent as it grows, in chunks, each with its place. A file that was replaced or cut is another one, with the next
*generation*; it is taken in beside and put in the old one's place once it has come as far as it was when it was first seen.
Logs and what the probe saw are appended to, whatever is before them.

    agent  path, generation, offset, whole, data  ─→
                                                 ←─  path, generation, offset: it has come so far; `again`: send the rest once more

At most `WINDOW` bytes are on their way. What is not acknowledged within `AGAIN_S` is sent again; what has come already, or is
not next, is not written twice. Which paths there are is decided here, for both sides: those of the agent's own stage.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pipeline.errors import WireError
from pipeline.files import sync_folder

from .agent_words import CHUNK

#: Bytes that may be on their way, and seconds after which they are sent again.
WINDOW, AGAIN_S = 16 * CHUNK, 3.0
#: The largest file that is taken, in bytes.
MOST_BYTES = 1 << 40
_FOLDERS = ("logs", "journal", "trace", "probe", "metrics", "checkpoint")
_OF_STAGE = (
    r"logs/{}\.(log|out|stacks)|journal/(epoch-\d{{1,6}}/)?{}\.(txt|sums)|trace/(epoch-\d{{1,6}}/)?{}\.trace|probe/{}\.looks|"
    r"checkpoint/(initial|final|interrupted|batch-\d{{9,12}})/{}\.npz"
)
_OF_HEAD = r"metrics/(epochs\.csv|predictions\.csv|(epoch-\d{1,6}/)?metrics\.jsonl)"
#: What is appended to from one attempt to the next, and never cut.
_APPENDED = ("logs/", "probe/")


def is_allowed(path: str, stage: str) -> bool:
    """Whether a path, in a run's folder, is one of the files that a stage writes."""
    name = re.escape(stage)
    if re.fullmatch(_OF_STAGE.format(*[name] * 5), path, re.ASCII):
        return True
    return stage == "head" and re.fullmatch(_OF_HEAD, path, re.ASCII) is not None


class Part(NamedTuple):
    """A chunk of a file: `whole` is how much there was of it when this generation was first seen."""

    path: str
    generation: int
    offset: int
    whole: int
    data: bytes


@dataclass
class _Followed:
    """A file that an agent follows. It is kept open: as long as it is, no other file has its number."""

    stream: BinaryIO
    inode: int
    generation: int
    whole: int
    sent: int = 0
    acked: int = 0
    is_told: bool = False  # that there is such a file: one that is empty is a file as well
    is_there: bool = False  # the launcher has it, as far as `acked`

    @property
    def size(self) -> int:
        return os.fstat(self.stream.fileno()).st_size


class Sender:
    """The agent's side: follows what one worker writes in its folder."""

    def __init__(self, folder: Path, stage: str) -> None:
        self._folder, self._stage = folder, stage
        self._followed: dict[str, _Followed] = {}
        self._generations: dict[str, int] = {}
        self._moved_at = 0.0  # when anything was sent or acknowledged last

    def known(self, path: str) -> None:
        """Take a file as it is for one that the launcher has."""
        self._follow(path, generation=0)
        followed = self._followed[path]
        followed.sent = followed.acked = followed.whole
        followed.is_told = followed.is_there = True

    def _follow(self, path: str, generation: int) -> None:
        if (old := self._followed.pop(path, None)) is not None:
            old.stream.close()
        stream = (self._folder / path).open("rb")
        status = os.fstat(stream.fileno())
        self._generations[path] = generation
        self._followed[path] = _Followed(stream, status.st_ino, generation, status.st_size)

    def look(self) -> None:
        """See which files there are now, and which are no longer what they were."""
        there = dict(self._files())
        for path in self._followed.keys() - there:
            self._followed.pop(path).stream.close()
        for path, status in there.items():
            followed = self._followed.get(path)
            if followed is None or followed.inode != status.st_ino or status.st_size < followed.sent:
                try:
                    self._follow(path, self._generations.get(path, 0) + 1)
                except FileNotFoundError:
                    continue  # gone between two looks

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        for top in _FOLDERS:
            for place, _, names in os.walk(self._folder / top):
                for name in names:
                    full = Path(place, name)
                    path = full.relative_to(self._folder).as_posix()
                    if is_allowed(path, self._stage):
                        try:
                            yield path, full.stat()
                        except FileNotFoundError:
                            continue

    def parts(self) -> Iterator[Part]:
        """Yield what is to be sent now."""
        now = time.monotonic()
        on_way = sum(each.sent - each.acked for each in self._followed.values())
        is_owed = on_way or any(each.is_told > each.is_there for each in self._followed.values())
        if is_owed and now - self._moved_at > AGAIN_S:
            for each in self._followed.values():
                each.sent, each.is_told = each.acked, each.is_there
            on_way, self._moved_at = 0, now
        for path, each in self._followed.items():
            while on_way < WINDOW and (data := os.pread(each.stream.fileno(), CHUNK, each.sent)):
                yield Part(path, each.generation, each.sent, each.whole, data)
                each.sent += len(data)
                on_way += len(data)
                each.is_told, self._moved_at = True, now
            if not each.is_told and not each.size:
                each.is_told, self._moved_at = True, now
                yield Part(path, each.generation, 0, 0, b"")

    def got(self, path: str, generation: int, offset: int, *, again: bool) -> None:
        """The launcher has a file up to an offset, and with `again` wants what follows once more."""
        each = self._followed.get(path)
        if each is None or each.generation != generation or not 0 <= offset <= each.size:
            return
        self._moved_at, each.is_there = time.monotonic(), True
        if again:
            each.sent = each.acked = offset
        else:
            each.acked = max(each.acked, min(offset, each.sent))

    @property
    def is_settled(self) -> bool:
        """Whether the launcher has all that there is, as of the last look."""
        return all(each.is_there and each.acked >= each.size for each in self._followed.values())

    def close(self) -> None:
        """Close all files."""
        for each in self._followed.values():
            each.stream.close()
        self._followed.clear()


@dataclass
class _Taken:
    """A file that the launcher takes in."""

    generation: int
    offset: int = 0
    whole: int = 0
    base: int = 0  # what was before it
    is_beside: bool = False  # not in its place yet


@dataclass
class Receiver:
    """The launcher's side: puts what one agent sends into the run's folder. One for each start of a worker."""

    folder: Path
    stage: str
    given: dict[str, int]  # what the agent was given, by path: it goes on from there
    _taken: dict[str, _Taken] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._taken = {path: _Taken(0, size, size) for path, size in self.given.items()}

    def take(self, part: Part) -> tuple[int, bool] | None:
        """Write a chunk; return how far the file has come, and whether what follows must be sent again.

        None for one of an earlier generation. Raises WireError for what is no part of a file of this stage, and OSError.
        """
        path, generation, offset, whole, data = part
        if not is_allowed(path, self.stage):
            raise WireError(f"{self.stage} has no file {path!r}")
        if not 0 <= offset <= MOST_BYTES or not 0 <= whole <= MOST_BYTES or len(data) > CHUNK or generation < 0:
            raise WireError(
                f"a part of {path} that cannot be: {len(data):,} bytes at {offset:,}, generation {generation}"
            )
        taken = self._taken.get(path)
        if taken is not None and generation < taken.generation:
            return None
        if taken is None or generation > taken.generation:
            taken = self._taken[path] = self._begun(path, generation, whole)
        if offset != taken.offset:
            return taken.offset, True
        try:
            self._write(path, taken, data)
        except FileNotFoundError:  # it was removed since, with its checkpoint
            self._taken[path] = self._begun(path, generation, taken.whole)
            return 0, True
        return taken.offset, False

    def _begun(self, path: str, generation: int, whole: int) -> _Taken:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.startswith(_APPENDED):
            place.touch()
            return _Taken(generation, 0, whole, place.stat().st_size)
        _beside(place).write_bytes(b"")
        return _Taken(generation, 0, whole, 0, is_beside=True)

    def _write(self, path: str, taken: _Taken, data: bytes) -> None:
        place = self.folder / path
        with (_beside(place) if taken.is_beside else place).open("r+b", buffering=0) as stream:
            stream.seek(taken.base + taken.offset)
            left = memoryview(data)
            while left:
                left = left[stream.write(left) :]
        taken.offset += len(data)
        if taken.is_beside and taken.offset >= taken.whole:
            _beside(place).replace(place)
            taken.is_beside = False

    def close(self) -> None:
        """Remove what has not come whole."""
        for path, taken in self._taken.items():
            if taken.is_beside:
                _beside(self.folder / path).unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.coming")


def sync(path: Path) -> None:
    """Bring a file that has come to the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    sync_folder(path.parent)


def body(part: Part, start: int) -> dict[str, Any]:
    """Return what the word of a chunk says."""
    return {"start": start, **part._asdict()}
