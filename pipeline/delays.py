"""Edges that are slower than they are: a stage's sockets, where messages are held until their emulated arrival (`emulation`).

A sender goes on at once, as over a real network; so it is the receiver that holds a message. Each one carries when it was
sent, in a frame of its own behind the others.
"""

from __future__ import annotations

import heapq
import itertools
import struct
import time
from collections import Counter
from collections.abc import Sequence

from .emulation import Emulation, Link
from .errors import WireError
from .frames import Frame
from .transport import NAP_MS, Links

#: The longest sleep while a message is held that is due within a poll's grain.
SLICE_NS = 200_000
_STAMP = struct.Struct("<qI")  # monotonic nanoseconds, the sender


class DelayedLinks:
    """A stage's data sockets with emulated edges. Messages of an edge keep their order."""

    def __init__(self, links: Links, emulation: Emulation, number: int) -> None:
        self._links = links
        self._number = number
        self._edges: dict[int, Link | None] = {k: emulation.link(k, number) for k in emulation.plan.sources(number)}
        self._held: list[
            tuple[int, int, list[Frame], int]
        ] = []  # by arrival; a count keeps what arrives at once in its order; the sender
        self._count = itertools.count()

    def send(self, target: int, frames: Sequence[Frame]) -> None:
        """Send frames to another stage; raises RunError."""
        self._links.send(target, [*frames, _STAMP.pack(time.monotonic_ns(), self._number)])

    def receive(self, wait: bool) -> list[Frame] | None:
        """Return the frames of the next message that has arrived or None; with `wait`, after at most NAP_MS milliseconds."""
        until = time.monotonic_ns() + NAP_MS * 1_000_000
        while True:
            while (frames := self._links.receive(wait=False)) is not None:
                self._hold(frames)
            now = time.monotonic_ns()
            if self._held and self._held[0][0] <= now:
                return heapq.heappop(self._held)[2]
            if not wait or now >= until:
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

    def _hold(self, frames: list[Frame]) -> None:
        stamp = frames.pop() if len(frames) > 1 else b""
        if len(stamp) != _STAMP.size:
            raise WireError(
                f"a message whose last frame has {len(stamp)} bytes, where {_STAMP.size} say when it was sent"
            )
        sent, source = _STAMP.unpack(stamp)
        if source not in self._edges:
            raise WireError(f"a message from stage {source}, which does not send to stage {self._number}")
        if sent > time.monotonic_ns():
            raise WireError(f"a message from stage {source} that says it was sent in the future")
        edge = self._edges[source]
        size = sum(len(frame) for frame in frames[1:])
        arrival = edge.arrival(sent, size) if edge is not None else sent
        heapq.heappush(self._held, (arrival, next(self._count), frames, source))
