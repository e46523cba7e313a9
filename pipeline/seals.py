"""How a message is sealed: a checksum over its arrays, for the tag over its header. Pure.

Two ways, by size; microseconds a call, best of seven, on the slow machine that the README names:

                       2.5 kB    16 kB    32 kB    80 kB    2.4 MB
    crc32                 0.7      5.1      7.8       19       631
    adler32               0.9      4.9      9.2       23       679
    blake2b               3.8       18       35       87      2618
    rows, then crc32        –      1.9      2.3      3.0        42     at odd addresses 2.5, 3.0, 4.8, 92
    rows and columns        –      4.6      6.1      6.8        94

*Rows* are sums of 64-bit words per 4 KiB, at the speed of memory. A changed word changes its sum; that two changes
in one row cancel out, or that words of a row have changed places, is what a row cannot see. Lengths go in too.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np

from .frames import Frame

#: Bytes of a tag.
TAG = 8
#: From this size on an array's rows are added up; below it numpy's own lines cost more, above all when they are cold.
LARGE = 1 << 15
_ROW = 4096


def checksum(frame: Frame, size: int, before: int) -> int:
    """Return a 32-bit checksum over an array of `size` bytes and over what came before it."""
    if size < LARGE:
        return crc32(frame, before + size)
    rows = size // _ROW
    sums = np.add.reduce(np.frombuffer(frame, np.uint64, rows * (_ROW // 8)).reshape(rows, -1), 1)
    check = crc32(sums, before + size)
    if whole := size % _ROW:
        check = crc32(np.frombuffer(frame, np.uint8, whole, rows * _ROW).data, check)
    return check
