"""Edges that are slower than they are: a stage's sockets, where messages are held until their emulated arrival (`emulation`).

A sender goes on at once, as over a real network; so it is the receiver that holds a message. Each one carries when it was
sent, in a frame of its own behind the others, with a tag over it and over the message's own tag. What has no valid one is
dropped here already, for nobody can tell for how long it should be held.
"""

from __future__ import annotations

import heapq
import itertools
import struct
import time
from collections import Counter
from collections.abc import Sequence
from hmac import compare_digest
from typing import Any, Protocol

from .emulation import Emulation, Link
from .errors import WireError
from .frames import HEADER_BYTES, Frame
from .keys import keyed
from .live import MOST_DROPPED, Edges
from .seals import TAG
from .strangers import Strangers
from .transport import NAP_MS

#: The longest sleep while a message is held that is due within a poll's grain.
SLICE_NS = 200_000
_STAMP = struct.Struct("<qI")  # monotonic nanoseconds, the sender; a tag follows


class Polled(Edges, Protocol):
    """Edges that one can wait for."""

    def poll(self, ms: int) -> None:
        """Wait until a message is there, or so many milliseconds."""


class DelayedLinks:
    """A stage's data sockets with emulated edges. Messages of an edge keep their order."""

    def __init__(
        self, links: Polled, emulation: Emulation, number: int, key: bytes = b"", strangers: Strangers | None = None
    ) -> None:
        self._links = links
        self._number = number
        self._key = key
        self._seals: dict[int, Any] = {}  # a hash that has taken in the key, by receiver
        self._strangers = strangers or Strangers()
        self._edges: dict[int, Link | None] = {k: emulation.link(k, number) for k in emulation.plan.sources(number)}
        self._held: list[
            tuple[int, int, list[Frame], int]
        ] = []  # by arrival; a count keeps what arrives at once in its order; the sender
        self._count = itertools.count()

    def send(self, target: int, frames: Sequence[Frame]) -> None:
        """Send frames to another stage; raises RunError."""
        stamp = _STAMP.pack(time.monotonic_ns(), self._number)
        self._links.send(target, [*frames, stamp + self._tag(target, frames[0], stamp)])

    def _tag(self, receiver: int, header: Frame, stamp: bytes) -> bytes:
        if receiver not in self._seals:
            self._seals[receiver] = keyed(self._key, f"stamp to {receiver}", TAG)
        seal = self._seals[receiver].copy()
        seal.update(bytes(header[:TAG]) + stamp)
        tag: bytes = seal.digest()
        return tag

    def receive(self, wait: bool) -> list[Frame] | None:
        """Return the frames of the next message that has arrived or None; with `wait`, after at most NAP_MS milliseconds."""
        until = time.monotonic_ns() + NAP_MS * 1_000_000
        while True:
            dropped = 0
            while dropped < MOST_DROPPED and (frames := self._links.receive(wait=False)) is not None:
                dropped += not self._hold(frames)
            now = time.monotonic_ns()
            if self._held and self._held[0][0] <= now:
                return heapq.heappop(self._held)[2]
            if not wait or now >= until or dropped:
                return None
            if not self._held:
                self._links.poll(max((until - now) // 1_000_000, 1))
                continue
            left = min(self._held[0][0], until) - now
            if left >= 2_000_000:
                self._links.poll(left // 1_000_000 - 1)
            else:  # finer than a poll can be; what comes on another edge meanwhile is soon seen
                time.sleep(min(left, SLICE_NS) / 1e9)

    def held_back(self) -> Counter[int]:
        """Return how many messages are held, by their sender."""
        return Counter(source for *_, source in self._held)

    def _hold(self, frames: list[Frame]) -> bool:
        """Hold a message, if it is one of this run's."""
        last = frames.pop() if len(frames) > 1 else b""
        stamp = bytes(last[: _STAMP.size])
        is_ours = len(last) == _STAMP.size + TAG and len(frames[0]) <= HEADER_BYTES
        if not is_ours or not compare_digest(self._tag(self._number, frames[0], stamp), last[_STAMP.size :]):
            self._strangers.add("a frame whose time of sending fails its check was dropped")
            return False
        sent, source = _STAMP.unpack(stamp)
        if source not in self._edges:
            raise WireError(f"a message from stage {source}, which does not send to stage {self._number}")
        if sent > time.monotonic_ns():
            raise WireError(f"a message from stage {source} that says it was sent in the future")
        edge = self._edges[source]
        size = sum(len(frame) for frame in frames[1:])
        arrival = edge.arrival(sent, size) if edge is not None else sent
        heapq.heappush(self._held, (arrival, next(self._count), frames, source))
        return True
