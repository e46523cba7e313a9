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

import contextlib
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgpack
import numpy as np

from .actions import KINDS, Message
from .arrays import Array
from .errors import WireError
from .frames import HEADER_BYTES, MOST_ARRAYS, Frame

_TYPES = (int, int, int, int, int, int, bytes)
_unpack = functools.partial(
    msgpack.unpackb,
    use_list=False,
    max_bin_len=HEADER_BYTES,
    max_str_len=0,
    max_array_len=7,
    max_map_len=0,
    max_ext_len=0,
)
_UNPACKING = (ValueError, msgpack.UnpackException, RecursionError)
_new = tuple.__new__  # a NamedTuple's own is written in Python, and slower
_KIND = {kind: code for code, kind in enumerate(KINDS)}


class Payload(NamedTuple):
    """What the arrays of one message must be: shapes, bytes of each and of all, and how the header describes them."""

    shapes: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    size: int
    description: bytes


def describe(dtype: np.dtype[Any], shapes: tuple[tuple[int, ...], ...]) -> Payload:
    """Return the payload of arrays of one dtype with these shapes."""
    sizes = tuple(math.prod(shape) * dtype.itemsize for shape in shapes)
    return Payload(shapes, sizes, sum(sizes), ";".join(f"{dtype.str}{shape}" for shape in shapes).encode())


class Payloads(Protocol):
    """What each message must carry, from the configuration alone."""

    dtype: np.dtype[Any]

    def expected(self, message: Message) -> Payload:
        """Return what a message must carry; raises WireError for a message that cannot be."""

    def is_fixed(self, kind: str) -> bool:
        """Whether messages of a kind carry the same from one batch to the next."""


class Received(NamedTuple):
    """A decoded message: what it is, the sender's weight version, its arrays (C-contiguous, perhaps read-only), its bytes."""

    message: Message
    version: int
    arrays: tuple[Array, ...]
    size: int


class Encoder:
    """Turns the messages of one stage into frames; counts them per target."""

    def __init__(self, epoch: int, payloads: Payloads) -> None:
        self.epoch = epoch
        self.payloads = payloads
        self.sequence: dict[int, int] = {}  # messages encoded so far, by target
        self.size = 0  # of the last message, in bytes
        self._fixed: dict[tuple[str, int], Payload] = {}  # kind, source: what does not change
        self._pack = msgpack.Packer().pack

    def encode(self, message: Message, version: int, arrays: Sequence[Array]) -> list[Frame]:
        """Return a message's frames. The array frames alias the arrays, which must be C-contiguous."""
        kind, batch, source, target = message
        payload = self._fixed.get((kind, source))
        if payload is None:
            payload = self._expected(message)
        sequence = self.sequence.get(target, 0)
        self.sequence[target] = sequence + 1
        header = self._pack((self.epoch, sequence, source, _KIND[kind], batch, version, payload.description))
        self.size = len(header) + payload.size
        return [header, *[array.data for array in arrays]]

    def _expected(self, message: Message) -> Payload:
        payload = self.payloads.expected(message)
        if self.payloads.is_fixed(message.kind):
            self._fixed[message.kind, message.source] = payload
        return payload


class Decoder:
    """Checks and decodes what comes to one stage; counts the messages per source.

    The way of a good frame is short on purpose: between processes that wait for each other every line of it is read from
    cold memory and costs several times what it costs in a loop. A frame whose header is to the byte the one that must
    come next is taken at a glance; every other one is looked at closely, and refused with what is wrong.
    """

    def __init__(self, number: int, epoch: int, sources: Sequence[int], payloads: Payloads) -> None:
        self.number = number
        self.epoch = epoch
        self.payloads = payloads
        self.sequence = dict.fromkeys(sources, 0)  # messages decoded so far, by source
        self._dtype = payloads.dtype
        self._fixed: dict[tuple[int, int], Payload] = {}  # kind's code, source: what does not change
        for code, kind in enumerate(KINDS):
            if payloads.is_fixed(kind):
                for source in sources:
                    with contextlib.suppress(WireError):
                        self._fixed[code, source] = payloads.expected(Message(kind, 0, source, number))

    def decode(self, frames: Sequence[Frame]) -> Received:
        """Return what frames hold; raises WireError, and then has used nothing of them."""
        payload = None
        if frames and len(frames[0]) <= HEADER_BYTES:
            try:
                header = _unpack(frames[0])
                epoch, sequence, source, code, batch, version, description = header
                payload = self._fixed[code, source]
                if not (
                    tuple(map(type, header)) == _TYPES
                    and epoch == self.epoch
                    and sequence == self.sequence[source]
                    and description == payload.description
                    and 0 <= batch < 2**53
                    and version >= 0
                ):
                    payload = None
            except (LookupError, TypeError, *_UNPACKING):
                payload = None
        if payload is None:
            sequence, source, code, batch, version, payload = self._look_closely(frames)
        if len(frames) != 1 + len(payload.sizes):
            raise WireError(self._differs(frames, payload))
        arrays = []
        for frame, shape, size in zip(frames[1:], payload.shapes, payload.sizes, strict=True):
            if len(frame) != size:
                raise WireError(self._differs(frames, payload))
            # The array keeps the frame, which is nobody else's, unless that lies across the array's items.
            array: Array = np.ndarray(shape, self._dtype, frame)
            arrays.append(array if array.flags.aligned else array.copy())
        self.sequence[source] = sequence + 1
        message = _new(Message, (KINDS[code], batch, source, self.number))
        return _new(Received, (message, version, tuple(arrays), len(frames[0]) + payload.size))

    def _look_closely(self, frames: Sequence[Frame]) -> tuple[int, int, int, int, int, Payload]:
        """Return sequence, source, kind's code, batch, version and payload of a good frame; raises WireError."""
        epoch, sequence, source, code, batch, version, description = _header(frames)
        if epoch != self.epoch:
            raise WireError(f"a frame of epoch {epoch}; this is epoch {self.epoch}")
        expected = self.sequence.get(source)
        if expected is None:
            raise WireError(f"a frame from stage {source}, which does not send to stage {self.number}")
        if sequence != expected:
            kind = "doubled or reordered" if sequence < expected else "lost or reordered"
            raise WireError(f"message {sequence} from stage {source} where {expected} was expected: {kind}")
        payload = self.payloads.expected(Message(KINDS[code], batch, source, self.number))
        if description != payload.description:
            raise WireError(self._differs(frames, payload))
        return sequence, source, code, batch, version, payload

    def _differs(self, frames: Sequence[Frame], payload: Payload) -> str:
        """Return how a message's arrays differ from those that must come."""
        _, _, source, code, batch, _, description = _header(frames)
        came = f"{description[:99].decode(errors='replace')!r} in frames of {[*map(len, frames[1:])]} bytes"
        wanted = f"{payload.description.decode()!r} in frames of {[*payload.sizes]} bytes"
        return f"{KINDS[code]} {batch} from stage {source}: {came} came, {wanted} must come"


def _header(frames: Sequence[Frame]) -> tuple[int, int, int, int, int, int, bytes]:
    """Return a header's seven values, each of the right type; raises WireError."""
    if not 1 <= len(frames) <= 1 + MOST_ARRAYS:
        raise WireError(f"a message of {len(frames)} frames; it has 1 to {1 + MOST_ARRAYS}")
    frame = frames[0]
    if len(frame) > HEADER_BYTES:
        raise WireError(f"a header of {len(frame):,} bytes; at most {HEADER_BYTES}")
    try:
        header = _unpack(frame)
    except _UNPACKING as error:
        raise WireError(f"a header that cannot be unpacked ({type(error).__name__}: {error})") from None
    if type(header) is not tuple or tuple(map(type, header)) != _TYPES:
        raise WireError("a header that is not a list of six natural numbers and a description")
    if min(header[:6]) < 0 or header[4] >= 2**53:
        raise WireError("a header whose numbers are not natural numbers")
    if header[3] >= len(KINDS):
        raise WireError(f"a message of unknown kind {header[3]}")
    return header
