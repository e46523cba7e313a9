"""Edges that are slower than they are: a stage's sockets, where messages are held until their emulated arrival (`emulation`).

A sender goes on at once, as over a real network; so it is the receiver that holds a message. Each one carries when it was
sent, in a frame of its own behind the others.
"""

from __future__ import annotations

import heapq
import itertools
import struct
import time
from collections.abc import Sequence

from .emulation import Emulation, Link
from .frames import Frame
from .transport import NAP_MS, Links

_STAMP = struct.Struct("<qI")  # monotonic nanoseconds, the sender


class DelayedLinks:
    """A stage's data sockets with emulated edges. Messages of an edge keep their order."""

    def __init__(self, links: Links, emulation: Emulation, number: int) -> None:
        self._links = links
        self._number = number
        self._edges: dict[int, Link | None] = {k: emulation.link(k, number) for k in emulation.plan.sources(number)}
        self._held: list[
            tuple[int, int, list[Frame]]
        ] = []  # by arrival; a count keeps what arrives at once in its order
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
            left = min(self._held[0][0], until) - now if self._held else until - now
            if left >= 2_000_000:
                self._links.poll(left // 1_000_000 - 1)
            else:  # finer than a poll can be
                time.sleep(left / 1e9)

    def _hold(self, frames: list[Frame]) -> None:
        sent, source = _STAMP.unpack(frames.pop()) if len(frames) > 1 else (0, 0)
        edge = self._edges.get(source)
        size = sum(len(frame) for frame in frames[1:])
        arrival = edge.arrival(sent, size) if edge is not None else sent
        heapq.heappush(self._held, (arrival, next(self._count), frames))
