"""A live stage with which something goes wrong on purpose (`faults`): its work, its messages, its disk.

    kill, hang, slow, disk_full     FaultyWork     as a forward begins, after all that had come was taken in
    drop, double, swap, corrupt     FaultyLinks    on a message's way into the socket: it is counted and on record as sent

Nothing else of a worker knows of faults: what it does about them is what it would do about real ones.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .actions import Action, Message, Part
from .errors import RunError
from .faults import DATA, AtStage, Injected, OnEdge, late_ns, timed
from .frames import Frame
from .lifeline import Lifeline
from .live import Edges, LivePort
from .recorder import Recorder
from .wire import Decoder, Encoder
from .work import Around, Work
from .worklog import WorkLog

#: How long a stage that stands still sleeps until it looks whether it was sent SIGTERM.
NAP_S = 0.05
#: What takes writes and has no room for any of them.
FULL = "/dev/full"


class FaultyWork(Around):
    """A work in whose forwards something goes wrong. `tell` hears of it before it does."""

    def __init__(
        self,
        work: Work,
        faults: Sequence[AtStage],
        folder: Path,
        tell: Callable[[Injected], None],
        line: Lifeline,
    ) -> None:
        super().__init__(work)
        self._faults = faults
        self._timed = timed(faults)
        self._folder = folder
        self._tell = tell
        self._line = line

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action. What its faults take is a part of it."""
        if action.kind == "F":
            self._happen(action.batch)
        yield from self.work.do(action)

    def _happen(self, batch: int) -> None:
        for fault in self._faults:
            if fault.batch != batch:
                continue
            self._tell(fault)
            if fault.kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif fault.kind == "disk_full":
                fill_disk(self._folder)
            elif not fault.amount:
                self._stand_still(float("inf"))
        if ns := late_ns(self._timed, batch):
            self._stand_still(ns / 1e9)

    def _stand_still(self, seconds: float) -> None:
        """Sleep, deaf to everything but SIGTERM and the launcher's death."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._line.should_stop:
            time.sleep(min(left, NAP_S))


class FaultyLinks:
    """A stage's edges on which messages are lost, doubled, swapped or damaged."""

    def __init__(self, links: Edges, faults: Sequence[OnEdge], tell: Callable[[Injected], None]) -> None:
        self._links = links
        self._faults = [*faults]  # those that have not happened yet
        self._tell = tell
        self._message: Message | None = None  # whose frames come next
        self._held: dict[int, list[Frame]] = {}  # by target: a message that goes after the next one

    def expect(self, message: Message) -> None:
        """Say which message the next frames are."""
        self._message = message

    def send(self, target: int, frames: Sequence[Frame]) -> None:
        """Send frames to another stage, or do to them what is to go wrong; raises RunError."""
        fault, held = self._due(target), self._held.pop(target, None)
        if fault is None:
            self._links.send(target, frames)
        else:
            self._tell(fault)
            if fault.kind == "double":
                self._links.send(target, frames)
                self._links.send(target, frames)
            elif fault.kind == "corrupt":
                self._links.send(target, corrupted(frames, fault.batch))
            elif fault.kind == "swap":
                self._held[target] = [*frames]
        if held is not None:
            self._links.send(target, held)

    def receive(self, wait: bool) -> list[Frame] | None:
        """Return the next message's frames or None, which `wait` puts off for a short time."""
        return self._links.receive(wait)

    def held_back(self) -> Mapping[int, int]:
        """Return how many messages are held until their emulated arrival, by their sender."""
        held_back = getattr(self._links, "held_back", None)  # sockets hold nothing back
        return {} if held_back is None else dict(held_back())

    def _due(self, target: int) -> OnEdge | None:
        message, self._message = self._message, None
        if not self._faults or message is None or message.kind not in DATA:
            return None
        for place, fault in enumerate(self._faults):
            if (fault.target, fault.batch) == (target, message.batch):
                return self._faults.pop(place)
        return None


class FaultyPort(LivePort):
    """A stage's messages, where the edges want to know which one comes."""

    def __init__(
        self, links: FaultyLinks, encoder: Encoder, decoder: Decoder, work: Any, recorder: Recorder, number: int
    ) -> None:
        super().__init__(links, encoder, decoder, work, recorder, number)
        self._faulty = links

    def send(self, message: Message, arrays: Any) -> None:
        """Encode and send a message."""
        self._faulty.expect(message)
        super().send(message, arrays)


def corrupted(frames: Sequence[Frame], number: int) -> list[Frame]:
    """Return frames with one bit turned in a copy of the last one: an array, or the header where there is none."""
    *others, last = frames
    damaged = bytearray(last)
    damaged[len(damaged) // 2] ^= 1 << number % 8
    return [*others, bytes(damaged)]


def fill_disk(folder: Path) -> None:
    """From now on let no write into a folder succeed, as on a disk without room: by the kernel's own word, ENOSPC.

    Files that are open for writing become the device that is always full. Such as are to be opened or made are refused; of
    these the interpreter tells beforehand (PEP 578), and it cannot be told to stop: this is for the rest of a process's life.
    """
    inside = os.path.realpath(folder) + os.sep
    try:
        full = os.open(FULL, os.O_WRONLY)
    except OSError as error:
        raise RunError(f"fault.disk_full: {FULL}: {error.strerror}; it needs Linux") from None
    for link in Path("/proc/self/fd").iterdir():
        try:
            number = int(link.name)
            is_written = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
            if is_written and str(link.readlink()).startswith(inside):
                os.dup2(full, number, inheritable=False)
        except OSError:  # the listing's own
            continue
    os.close(full)

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        is_new = event == "os.mkdir" or (event == "open" and int(arguments[2] or 0) & os.O_ACCMODE != os.O_RDONLY)
        if is_new and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.fsdecode(arguments[0])
            if os.path.realpath(path).startswith(inside):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    sys.addaudithook(refuse)


def with_faults(work: Work, faults: Sequence[Injected], folder: Path, log: WorkLog, boxes: int, line: Lifeline) -> Work:
    """Return the work of a stage to which these faults happen; the same one where there are none of its own."""
    own = [each for each in faults if isinstance(each, AtStage)]
    return FaultyWork(work, own, folder, _teller(log, boxes), line) if own else work


def make_port(links: Edges, faults: Sequence[Injected], log: WorkLog, boxes: int, *rest: Any) -> LivePort:
    """Return a stage's messages as these faults let them be; `rest` is what LivePort takes behind its links."""
    on_edges = [each for each in faults if isinstance(each, OnEdge)]
    if not on_edges:
        return LivePort(links, *rest)
    return FaultyPort(FaultyLinks(links, on_edges, _teller(log, boxes)), *rest)


def _teller(log: WorkLog, boxes: int) -> Callable[[Injected], None]:
    def tell(fault: Injected) -> None:
        kind = fault.kind.replace("_", "-")
        log.info(f"a fault on purpose: {kind}={fault.text(boxes)}", batch=fault.batch, fault=kind)

    return tell
