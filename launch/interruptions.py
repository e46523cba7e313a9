"""Ctrl-C, SIGTERM and a closed terminal, as a list that grows: whoever runs something looks at it when it comes round."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

#: What they come as.
KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interruptions() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list while the block runs."""
    found: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        found.append(number)

    try:
        numbers = set(KINDS)
        # Under nohup a closed terminal is to be survived.
        numbers -= {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
        before = {number: signal.signal(number, note) for number in numbers}
    except ValueError:  # not the main thread: whoever owns it decides
        before = {}
    try:
        yield found
    finally:
        for number, action in before.items():
            signal.signal(number, action)
