"""Work that takes longer than it has to (`emulation`), or that computes nothing at all.

It sleeps, so another stage may have the processor meanwhile: on two cores eight boxes with emulated compute run side by side.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from .actions import Action, Part
from .emulation import PADDED, Emulation, Stragglers
from .learning import EARLY
from .lifeline import prctl
from .work import Around, Work

_PR_SET_TIMERSLACK = 29


class Emulated(Around):
    """A stage's work whose actions take as long as they are made to."""

    def __init__(self, work: Work, emulation: Emulation, number: int) -> None:
        super().__init__(work)
        _sleep_finely()
        self._pads = {kind: emulation.pad_ns(number, kind) for kind in PADDED}
        self._slow = emulation.slow_ns(number, "F")
        self._stragglers: dict[str, Stragglers | None] = {kind: emulation.stragglers(number, kind) for kind in PADDED}
        # The forward of a box that updates at once has two parts; each gets its half.
        self._parts = {"F": 2 if emulation.plan.learns(number) in EARLY else 1}

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action, each part until its time."""
        kind = action.kind
        if kind not in PADDED:
            return self.work.do(action)
        return self._padded(action, self._stragglers[kind])

    def _padded(self, action: Action, stragglers: Stragglers | None) -> Iterator[Part]:
        started = time.monotonic_ns()
        kind = action.kind
        stretch = stragglers.stretch() if stragglers else 1.0
        pad, slow, parts = self._pads[kind], self._slow if kind == "F" else 0, self._parts.get(kind, 1)
        slept = 0
        for done, part in enumerate(self.work.do(action), 1):
            # What is padded ends by the clock; what is not takes its own time, and `slow` comes on top of either.
            now = time.monotonic_ns()
            worked = max(now - started - slept, pad * done // parts)
            _sleep_until(started + round((worked + slow) * stretch))
            slept += time.monotonic_ns() - now
            yield part


def _sleep_until(then_ns: int) -> None:
    left = then_ns - time.monotonic_ns()
    if left > 0:
        time.sleep(left / 1e9)


def _sleep_finely() -> None:
    """Ask the kernel to end this thread's sleeps on time: it is free to end them 50 µs late, to save power.

    To wait for the last of it with open eyes would be as exact and take the processor from others that wake at the same time.
    """
    if sys.platform == "linux":
        prctl(_PR_SET_TIMERSLACK, 1)
