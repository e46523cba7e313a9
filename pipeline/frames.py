"""What a frame is, and the sizes at which it is refused or not copied. No numpy, so that the launcher starts fast."""

from __future__ import annotations

Frame = bytes | memoryview

#: A header is refused above this size, before it is unpacked.
HEADER_BYTES = 512
#: Arrays in a message, at most.
MOST_ARRAYS = 8
#: From this size on an array is not copied into the socket's buffer, nor out of it.
ALIAS_BYTES = 1 << 18
