"""What travels between stages: a msgpack header frame, then one raw frame an array. Pure: bytes in, values out.

    header   (EPOCH, sequence, source, kind, batch, version, ((dtype, shape), …))      at most 512 bytes
    array    the array's bytes in C order, little-endian

Frames from the wire are never trusted. The header's size is checked before it is unpacked and it may hold integers,
short strings and short lists only; everything in it is compared with what the configuration says must come next on this
edge, and every array frame's length with its shape, before a byte of it is read. The sequence number counts the messages
of a directed edge: a lost, doubled or reordered one is noticed at once. The epoch changes when a run is taken up again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgpack
import numpy as np

from .actions import KINDS, Message
from .arrays import Array
from .errors import WireError

HEADER_BYTES = 512
MOST_ARRAYS = 8
_KIND = {kind: code for code, kind in enumerate(KINDS)}

Frame = bytes | memoryview


class Shapes(Protocol):
    """What a message must carry."""

    dtype: np.dtype

    def shapes(self, message: Message) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of a message's arrays; raises WireError for a message that has none such."""


class Received(NamedTuple):
    """A decoded message: what it is, the sender's weight version, and its arrays (copies, aligned, C-contiguous)."""

    message: Message
    version: int
    arrays: tuple[Array, ...]


class Encoder:
    """Turns the messages of one stage into frames; counts them per target."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._sequence: dict[int, int] = {}

    def encode(self, message: Message, version: int, arrays: Sequence[Array]) -> list[Frame]:
        """Return a message's frames. The array frames alias the arrays."""
        kind, batch, source, target = message
        sequence = self._sequence.get(target, 0)
        self._sequence[target] = sequence + 1
        described = [(array.dtype.str, array.shape) for array in arrays]
        header = msgpack.packb((self.epoch, sequence, source, _KIND[kind], batch, version, described))
        return [header, *[array.data for array in arrays]]


class Decoder:
    """Checks and decodes what comes to one stage; counts the messages per source."""

    def __init__(self, number: int, epoch: int, sources: Sequence[int], payloads: Shapes) -> None:
        self.number = number
        self.epoch = epoch
        self.payloads = payloads
        self._sequence = dict.fromkeys(sources, 0)
        self._dtype = payloads.dtype
        self._dtype_text = payloads.dtype.str

    def decode(self, frames: Sequence[Frame]) -> Received:
        """Return what frames hold; raises WireError, and then has used nothing of them."""
        if not 1 <= len(frames) <= 1 + MOST_ARRAYS:
            raise WireError(f"a message of {len(frames)} frames; it has 1 to {1 + MOST_ARRAYS}")
        epoch, sequence, source, code, batch, version, described = self._header(frames[0])
        if epoch != self.epoch:
            raise WireError(f"a frame of epoch {epoch}; this is epoch {self.epoch}")
        expected = self._sequence.get(source)
        if expected is None:
            raise WireError(f"a frame from stage {source}, which does not send to stage {self.number}")
        if sequence != expected:
            kind = "doubled or reordered" if sequence < expected else "lost or reordered"
            raise WireError(f"message {sequence} from stage {source} where {expected} was expected: {kind}")
        message = Message(KINDS[code], batch, source, self.number)
        shapes = self.payloads.shapes(message)
        if len(described) != len(shapes) or len(frames) != 1 + len(shapes):
            raise WireError(
                f"{message.kind} {batch} from stage {source}: {len(frames) - 1} arrays, {len(shapes)} must come"
            )
        arrays = []
        for (dtype, shape), wanted, frame in zip(described, shapes, frames[1:], strict=True):
            arrays.append(self._array(message, dtype, shape, wanted, frame))
        self._sequence[source] = expected + 1
        return Received(message, version, tuple(arrays))

    def _header(self, frame: Frame) -> tuple[int, int, int, int, int, int, tuple]:  # type: ignore[type-arg]
        if len(frame) > HEADER_BYTES:
            raise WireError(f"a header of {len(frame):,} bytes; at most {HEADER_BYTES}")
        try:
            header = msgpack.unpackb(
                frame, use_list=False, max_str_len=8, max_array_len=16, max_map_len=0, max_bin_len=0, max_ext_len=0
            )
        except (ValueError, msgpack.UnpackException, RecursionError) as error:
            raise WireError(f"a header that cannot be unpacked ({type(error).__name__}: {error})") from None
        if type(header) is not tuple or len(header) != 7:
            raise WireError("a header that is not a list of seven")
        for value in header[:6]:
            if type(value) is not int or not 0 <= value < 2**53:
                raise WireError("a header whose numbers are not natural numbers")
        if header[3] >= len(KINDS):
            raise WireError(f"a message of unknown kind {header[3]}")
        if type(header[6]) is not tuple:
            raise WireError("a header that does not describe its arrays")
        for item in header[6]:
            if type(item) is not tuple or len(item) != 2:
                raise WireError("a header that does not describe its arrays")
        return header

    def _array(self, message: Message, dtype: object, shape: object, wanted: tuple[int, ...], frame: Frame) -> Array:
        if dtype != self._dtype_text or shape != wanted:
            what = f"{message.kind} {message.batch} from stage {message.source}"
            raise WireError(f"{what}: an array {dtype} {shape}, {self._dtype_text} {wanted} must come")
        array = np.empty(wanted, self._dtype)
        if len(frame) != array.nbytes:
            what = f"{message.kind} {message.batch} from stage {message.source}"
            raise WireError(f"{what}: a frame of {len(frame):,} bytes, {array.nbytes:,} must come")
        # A copy into memory of our own: aligned as every other array is, and free of the socket's buffer.
        array.reshape(-1).view(np.uint8)[:] = np.frombuffer(frame, np.uint8)
        return array
