"""Running checksums of all that a stage computes, so that a replay finds the first array that differs. Pure.

Each array that decides what comes after it goes into the stage's one running CRC-32, as it was made, and the sum after
each is on record, four bytes. What an action adds:

    sends       the arrays of its messages                       activation, target, gradient, increment, evaluation
    changes     what its update of weights was made of           delta and entering · the oracle's error · ŷ · a sibling's

A weight version is the one before it and an increment, so the sum after an update is that version's digest: a running
hash over increments. Arrays that follow from others and from the data alone are left out: a dense increment from its
factors, x from the batch. A CRC finds every error burst of up to 32 bits; longer ones are passed over once in 2³².
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterator, Mapping

import numpy as np

from .arrays import Array
from .work import Arrays


def named(outputs: Mapping[str, Arrays], changes: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Yield what an action adds, by names that people read, in the order of its sums."""
    for kind, arrays in outputs.items():
        for place, each in enumerate(arrays):
            yield (f"{kind}, array {place + 1} of {len(arrays)}" if len(arrays) > 1 else kind), each
    yield from changes.items()


class Sums:
    """The running sum of one stage, and the sums that were not taken yet."""

    def __init__(self) -> None:
        self.state = 0
        self._sums = array("I")

    def add(self, outputs: Mapping[str, Arrays], changes: Mapping[str, Array]) -> None:
        """Add what an action has sent and changed."""
        state, note = self.state, self._sums.append
        for arrays in outputs.values():
            for each in arrays:
                state = checksum(each, state)
                note(state)
        for each in changes.values():
            state = checksum(each, state)
            note(state)
        self.state = state

    def take(self) -> bytes:
        """Return the sums since the last call, little-endian."""
        count = len(self._sums)
        taken = self._sums[:count]
        del self._sums[:count]
        if sys.byteorder == "big":
            taken.byteswap()
        return taken.tobytes()


def checksum(each: Array, state: int) -> int:
    """Return the running sum after an array's bytes in C order."""
    try:
        return zlib.crc32(each.data, state)
    except BufferError:  # not in C order
        return zlib.crc32(np.ascontiguousarray(each).data, state)
