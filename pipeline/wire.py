"""What travels between stages: a msgpack header frame, then one raw frame an array. Pure: bytes in, values out.

    header   (epoch, sequence, source, kind, batch, version, description of the arrays)      at most 512 bytes
    array    the array's bytes in C order, little-endian

Frames from the wire are never trusted. The header's size is checked before it is unpacked, and it may hold six natural
numbers and some bytes only. Everything in it is compared with what the configuration says must come next on this edge:
the description, dtypes and shapes as text, must equal the receiver's own to the byte, and every array frame must have
the length that follows from it, before a byte of it is read. The sequence number counts the messages
of a directed edge: a lost, doubled or reordered one is noticed at once. The epoch changes when a run is taken up again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgpack
import numpy as np

from .actions import KINDS, Message
from .arrays import Array
from .errors import WireError
from .frames import ALIAS_BYTES, HEADER_BYTES, MOST_ARRAYS, Frame

_LIMITS = {
    "use_list": False,
    "max_bin_len": HEADER_BYTES,
    "max_str_len": 0,
    "max_array_len": 7,
    "max_map_len": 0,
    "max_ext_len": 0,
}
_KIND = {kind: code for code, kind in enumerate(KINDS)}


class Payload(NamedTuple):
    """What the arrays of one message must be: shapes, sizes in bytes, and the description that travels in the header."""

    shapes: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    description: bytes


def describe(dtype: np.dtype[Any], shapes: tuple[tuple[int, ...], ...]) -> Payload:
    """Return the payload of arrays of one dtype with these shapes."""
    sizes = tuple(math.prod(shape) * dtype.itemsize for shape in shapes)
    return Payload(shapes, sizes, ";".join(f"{dtype.str}{shape}" for shape in shapes).encode())


class Payloads(Protocol):
    """What each message must carry, from the configuration alone."""

    dtype: np.dtype[Any]

    def expected(self, message: Message) -> Payload:
        """Return what a message must carry; raises WireError for a message that cannot be."""


class Received(NamedTuple):
    """A decoded message: what it is, the sender's weight version, and its arrays (C-contiguous, nobody else's)."""

    message: Message
    version: int
    arrays: tuple[Array, ...]


class Encoder:
    """Turns the messages of one stage into frames; counts them per target."""

    def __init__(self, epoch: int, payloads: Payloads) -> None:
        self.epoch = epoch
        self.payloads = payloads
        self._sequence: dict[int, int] = {}
        self._pack = msgpack.Packer().pack

    def encode(self, message: Message, version: int, arrays: Sequence[Array]) -> list[Frame]:
        """Return a message's frames. The array frames alias the arrays, which must be C-contiguous."""
        kind, batch, source, target = message
        payload = self.payloads.expected(message)
        assert tuple([array.shape for array in arrays]) == payload.shapes, f"{message}: arrays of other shapes"
        sequence = self._sequence.get(target, 0)
        self._sequence[target] = sequence + 1
        header = self._pack((self.epoch, sequence, source, _KIND[kind], batch, version, payload.description))
        assert all([array.flags.c_contiguous for array in arrays]), f"{message}: arrays that are not C-contiguous"
        return [header, *[array.data for array in arrays]]


class Decoder:
    """Checks and decodes what comes to one stage; counts the messages per source."""

    def __init__(self, number: int, epoch: int, sources: Sequence[int], payloads: Payloads) -> None:
        self.number = number
        self.epoch = epoch
        self.payloads = payloads
        self._sequence = dict.fromkeys(sources, 0)
        self._dtype = payloads.dtype

    def decode(self, frames: Sequence[Frame]) -> Received:
        """Return what frames hold; raises WireError, and then has used nothing of them."""
        epoch, sequence, source, code, batch, version, description = _header(frames)
        expected = self._sequence.get(source, -1)
        if epoch != self.epoch or sequence != expected:
            raise WireError(self._stranger(epoch, sequence, source))
        message = Message(KINDS[code], batch, source, self.number)
        payload = self.payloads.expected(message)
        arrays = frames[1:]
        if description != payload.description or tuple(map(len, arrays)) != payload.sizes:
            came = f"{bytes(description[:99]).decode(errors='replace')!r} in frames of {[len(frame) for frame in arrays]} bytes"
            wanted = f"{payload.description.decode()!r} in frames of {[*payload.sizes]} bytes"
            raise WireError(f"{message.kind} {batch} from stage {source}: {came} came, {wanted} must come")
        self._sequence[source] = expected + 1
        return Received(message, version, tuple(map(self._array, arrays, payload.shapes)))

    def _stranger(self, epoch: int, sequence: int, source: int) -> str:
        """Return what is wrong with a frame that is not the next one of its edge."""
        if epoch != self.epoch:
            return f"a frame of epoch {epoch}; this is epoch {self.epoch}"
        expected = self._sequence.get(source)
        if expected is None:
            return f"a frame from stage {source}, which does not send to stage {self.number}"
        kind = "doubled or reordered" if sequence < expected else "lost or reordered"
        return f"message {sequence} from stage {source} where {expected} was expected: {kind}"

    def _array(self, frame: Frame, shape: tuple[int, ...]) -> Array:
        array: Array = np.ndarray(shape, self._dtype, frame)
        # A small array is copied into memory of our own. A large one keeps the socket's buffer, which is nobody else's,
        # unless that lies across the array's items.
        if len(frame) < ALIAS_BYTES or not array.flags.aligned or not array.flags.writeable:
            return array.copy()
        return array


def _header(frames: Sequence[Frame]) -> tuple[int, int, int, int, int, int, bytes]:
    """Return a header's seven values, each of the right type; raises WireError."""
    if not 1 <= len(frames) <= 1 + MOST_ARRAYS:
        raise WireError(f"a message of {len(frames)} frames; it has 1 to {1 + MOST_ARRAYS}")
    frame = frames[0]
    if len(frame) > HEADER_BYTES:
        raise WireError(f"a header of {len(frame):,} bytes; at most {HEADER_BYTES}")
    try:
        header = msgpack.unpackb(frame, **_LIMITS)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"a header that cannot be unpacked ({type(error).__name__}: {error})") from None
    if type(header) is not tuple or len(header) != 7:
        raise WireError("a header that is not a list of seven")
    epoch, sequence, source, code, batch, version, description = header
    is_typed = type(epoch) is type(sequence) is type(source) is type(code) is type(batch) is type(version) is int
    if not is_typed or epoch < 0 or sequence < 0 or batch < 0 or version < 0 or batch >= 2**53:
        raise WireError("a header whose numbers are not natural numbers")
    if type(description) is not bytes:
        raise WireError("a header that does not describe its arrays")
    if not 0 <= code < len(KINDS):
        raise WireError(f"a message of unknown kind {code}")
    return header
