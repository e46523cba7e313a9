"""What travels between stages: a msgpack header frame, then one raw frame an array. Pure: bytes in, values out.

    header   tag, (epoch, sequence, source, kind, batch, version, description of the arrays)      at most 512 bytes
    array    the array's bytes in C order, little-endian

Frames from the wire are never trusted. The tag comes first: a hash with the run's secret over the receiver, the header and
a checksum of the arrays. What has no valid one is a stranger's, or damaged: it is dropped and counted, and never ends a run.
With a valid one it is a peer's, and has to be what the configuration says must come next on this edge: a header of six
natural numbers and some bytes, a description, dtypes and shapes as text, equal to the receiver's own to the byte, and
arrays of the lengths that follow from it. The sequence number counts the messages of a directed edge: a lost,
doubled or reordered one is noticed at once. The epoch changes when a run is taken up again; what is late from an earlier one
is dropped.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from hmac import compare_digest
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import msgpack
import numpy as np

from .actions import KINDS, Message
from .arrays import Array
from .errors import WireError
from .frames import HEADER_BYTES, MOST_ARRAYS, Frame
from .keys import keyed
from .seals import LARGE, TAG, checksum
from .strangers import Strangers

_Values = tuple[int, int, int, int, int, int, bytes]
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


def seal_of(key: bytes, receiver: int) -> Any:
    """Return the hash, to be copied, that makes and checks the tags of messages to a stage."""
    return keyed(key, f"message to {receiver}", TAG)


class Encoder:
    """Turns the messages of one stage into frames; counts them per target."""

    def __init__(self, epoch: int, payloads: Payloads, key: bytes = b"") -> None:
        self.epoch = epoch
        self.payloads = payloads
        self._key = key
        self._seals: dict[int, Any] = {}  # a hash that has taken in the key, by target
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
        self.size = TAG + len(header) + payload.size
        frames: list[Frame] = [header]
        check = len(arrays)  # an empty one more changes no checksum otherwise
        for array in arrays:
            size, data = array.nbytes, array.data
            check = crc32(data, check + size) if size < LARGE else checksum(data, size, check)
            frames.append(data)
        seal = (self._seals.get(target) or self._seal(target)).copy()
        seal.update(header + check.to_bytes(4, "little"))
        frames[0] = seal.digest() + header
        return frames

    def _seal(self, target: int) -> Any:
        return self._seals.setdefault(target, seal_of(self._key, target))

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

    def __init__(
        self,
        number: int,
        epoch: int,
        sources: Sequence[int],
        payloads: Payloads,
        key: bytes = b"",
        *,
        name: Callable[[int], str] = "stage {}".format,
        strangers: Strangers | None = None,
    ) -> None:
        self.number = number
        self.epoch = epoch
        self.payloads = payloads
        self.sequence = dict.fromkeys(sources, 0)  # messages decoded so far, by source
        self.strangers = strangers or Strangers()  # whose check failed
        self.late = 0  # messages of an earlier epoch
        self._name = name
        self._damaged: dict[int, int] = {}  # source: the sequence number that was its turn when its check failed
        self._seal = seal_of(key, number)
        self._dtype = payloads.dtype
        self._fixed: dict[tuple[int, int], Payload] = {}  # kind's code, source: what does not change
        for code, kind in enumerate(KINDS):
            if payloads.is_fixed(kind):
                for source in sources:
                    with contextlib.suppress(WireError):
                        self._fixed[code, source] = payloads.expected(Message(kind, 0, source, number))

    def decode(self, frames: Sequence[Frame]) -> Received | None:
        """Return what frames hold, or None if their tag is not valid or they are late.

        Raises WireError for what a peer should not have sent. Either way nothing of them was used.
        """
        if not (0 < len(frames) <= 1 + MOST_ARRAYS and len(frames[0]) <= HEADER_BYTES):
            return self._drop(frames)
        check = len(frames) - 1
        for frame in frames[1:]:
            size = len(frame)
            check = crc32(frame, check + size) if size < LARGE else checksum(frame, size, check)
        header = bytes(frames[0][TAG:])
        seal = self._seal.copy()
        seal.update(header + check.to_bytes(4, "little"))
        if not compare_digest(seal.digest(), frames[0][:TAG]):
            return self._drop(frames)
        payload = None
        try:
            values = _unpack(header)
            epoch, sequence, source, code, batch, version, description = values
            payload = self._fixed[code, source]
            if not (
                tuple(map(type, values)) == _TYPES
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
            values = _values(header)
            if values[0] < self.epoch:
                self.late += 1
                return None
            payload = self._look_closely(values, frames)
            _, sequence, source, code, batch, version, _ = values
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

    @property
    def damaged(self) -> list[int]:
        """The sources of which a message is awaited that seems to have come and failed its check."""
        return [source for source, sequence in self._damaged.items() if sequence == self.sequence[source]]

    def _drop(self, frames: Sequence[Frame]) -> Received | None:
        """Count frames without a valid tag, and say what they claim to be; their header may be no header."""
        claim, is_due = "", False
        if frames and TAG < len(frames[0]) <= HEADER_BYTES:
            with contextlib.suppress(WireError):
                _, sequence, source, code, batch, _, _ = _values(bytes(frames[0][TAG:]))
                if source in self.sequence:
                    claim = f", which says it is {KINDS[code]} {batch} from {self._name(source)},"
                    if is_due := sequence == self.sequence[source]:
                        self._damaged[source] = sequence
        self.strangers.add(f"a frame that fails its check{claim} was dropped", is_likely=is_due)
        return None

    def _look_closely(self, values: _Values, frames: Sequence[Frame]) -> Payload:
        """Return the payload of a good frame with a valid tag; raises WireError for what is wrong with it."""
        epoch, sequence, source, code, batch, _, description = values
        if epoch != self.epoch:
            raise WireError(f"a frame of epoch {epoch}; this is epoch {self.epoch}")
        expected = self.sequence.get(source)
        if expected is None:
            raise WireError(f"a frame from {self._name(source)}, which does not send to {self._name(self.number)}")
        if sequence != expected:
            what = "doubled or reordered" if sequence < expected else "lost or reordered"
            edge = f"{KINDS[code]} {batch} {self._name(source)}>{self._name(self.number)}"
            came = f"message {sequence} from {self._name(source)} where {expected} was expected"
            raise WireError(f"{edge}: {came}: {what}{self._why(source, sequence)}")
        payload = self.payloads.expected(Message(KINDS[code], batch, source, self.number))
        if description != payload.description:
            raise WireError(self._differs(frames, payload))
        return payload

    def _why(self, source: int, sequence: int) -> str:
        """Return what may explain a gap: frames that were dropped."""
        expected = self.sequence[source]
        if sequence < expected or not self.strangers.count:
            return ""
        if self._damaged.get(source) == expected:
            return f"; a frame that said it is message {expected} failed its check and was dropped"
        return f"; {self.strangers.total()}"

    def _differs(self, frames: Sequence[Frame], payload: Payload) -> str:
        """Return how a message's arrays differ from those that must come."""
        _, _, source, code, batch, _, description = _values(bytes(frames[0][TAG:]))
        came = f"{description[:99].decode(errors='replace')!r} in frames of {[*map(len, frames[1:])]} bytes"
        wanted = f"{payload.description.decode()!r} in frames of {[*payload.sizes]} bytes"
        edge = f"{KINDS[code]} {batch} {self._name(source)}>{self._name(self.number)}"
        return f"{edge}: {came} came, {wanted} must come"


def _values(frame: bytes) -> _Values:
    """Return a header's seven values, each of the right type; raises WireError."""
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
