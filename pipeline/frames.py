"""What a frame is, and the sizes at which it is refused or not copied. No numpy, so that the launcher starts fast."""

from __future__ import annotations

Frame = bytes | memoryview

#: A header is refused above this size, before it is unpacked.
HEADER_BYTES = 512
#: Arrays in a message, at most.
MOST_ARRAYS = 8
#: From this size on a received frame is the socket's own buffer, and a sent array is not copied into it. The latter has
#: a price, a word from libzmq's thread to Python's when the array is free again, and pays later.
RECEIVE_ALIAS_BYTES, SEND_ALIAS_BYTES = 1 << 15, 1 << 18
