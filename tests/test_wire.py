"""The wire format: what is sent comes out again, and nothing else gets in; a refused frame leaves no trace."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network import make_config

from pipeline.actions import (
    ACTIVATION,
    CREDIT_ACTIVATION,
    CREDIT_INCREMENT,
    EVALUATION,
    GRADIENT,
    INCREMENT,
    KINDS,
    TARGET,
    Message,
)
from pipeline.arrays import Array
from pipeline.errors import WireError
from pipeline.payloads import Payloads
from pipeline.plan import Plan
from pipeline.wire import HEADER_BYTES, MOST_ARRAYS, Decoder, Encoder, Payload, Received, describe

EPOCH = 3
Shapes = tuple[tuple[int, ...], ...]


class Agreed:
    """What both ends have agreed on for some messages."""

    def __init__(self, dtype: str, shapes: dict[Message, Shapes]) -> None:
        self.dtype = np.dtype(dtype)
        self._shapes = shapes

    def expected(self, message: Message) -> Payload:
        """Return what a message must carry."""
        if message not in self._shapes:
            raise WireError(f"{message} was not agreed on")
        return describe(self.dtype, self._shapes[message])

    def is_fixed(self, kind: str) -> bool:  # noqa: ARG002
        """Whether messages of a kind always carry the same."""
        return False


def received(frames: Sequence[Any]) -> list[bytes]:
    """Return frames as a socket gives them out: bytes."""
    return [memoryview(frame).tobytes() for frame in frames]


def snapshot(decoder: Decoder) -> dict[str, Any]:
    """Return a copy of what a decoder counts."""
    return {name: copy.copy(value) for name, value in vars(decoder).items() if name != "payloads"}


# Round trips

numbers = st.integers(0, 2**32)
shapes = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple), max_size=MOST_ARRAYS).map(tuple)
letters = st.lists(
    st.tuples(st.sampled_from(KINDS), numbers, st.sampled_from((1, 2, 4)), numbers, shapes), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(letters=letters, dtype=st.sampled_from(("float32", "float64")), seed=numbers)
def test_what_is_encoded_is_decoded(letters: list[tuple[str, int, int, int, Shapes]], dtype: str, seed: int) -> None:
    """Messages of several stages to one, each edge with a sequence of its own."""
    rng = np.random.default_rng(seed)
    agreed = Agreed(dtype, {Message(kind, batch, source, 3): wanted for kind, batch, source, _, wanted in letters})
    encoders = {source: Encoder(EPOCH, agreed) for source in (1, 2, 4)}
    decoder = Decoder(3, EPOCH, (1, 2, 4), agreed)
    for kind, batch, source, version, _ in letters:
        message = Message(kind, batch, source, 3)
        arrays = [rng.standard_normal(shape).astype(dtype) for shape in agreed.expected(message).shapes]
        got = decoder.decode(received(encoders[source].encode(message, version, arrays)))
        assert got.message == message
        assert got.version == version
        assert len(got.arrays) == len(arrays)
        for array, sent in zip(got.arrays, arrays, strict=True):
            assert array.dtype == sent.dtype
            assert array.shape == sent.shape
            assert array.tobytes() == sent.tobytes()
            assert array.flags.aligned
            assert array.flags.c_contiguous


@pytest.mark.parametrize("value", [0.0, -0.0, np.inf, -np.inf, np.nan, np.float32(1e-45)])
def test_every_bit_survives(value: float) -> None:
    message = Message(GRADIENT, 0, 2, 1)
    agreed = Agreed("float32", {message: ((2, 2),)})
    sent = np.full((2, 2), value, np.float32)
    got = Decoder(1, EPOCH, (2,), agreed).decode(received(Encoder(EPOCH, agreed).encode(message, 0, [sent])))
    assert got.arrays[0].tobytes() == sent.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_that_a_run_sends_goes_through(kind: str) -> None:
    config = make_config("decoupled", 3, {"model.bias": True, "data.batch": 4})
    payloads = Payloads(config, Plan.of(config))
    source, target = (1, 2) if kind in (ACTIVATION, EVALUATION, INCREMENT, CREDIT_INCREMENT) else (2, 1)
    message = Message(kind, 1, source, target)
    arrays = [np.ones(shape, np.float32) for shape in payloads.expected(message).shapes]
    assert len(arrays) == {INCREMENT: 3, CREDIT_ACTIVATION: 0, CREDIT_INCREMENT: 0}.get(kind, 1)
    frames = Encoder(0, payloads).encode(message, 5, arrays)
    assert len(memoryview(frames[0])) <= HEADER_BYTES
    got = Decoder(target, 0, (source,), payloads).decode(received(frames))
    assert got.message == message
    assert all(np.array_equal(array, sent) for array, sent in zip(got.arrays, arrays, strict=True))


def test_array_frames_alias_the_arrays() -> None:
    message = Message(ACTIVATION, 0, 1, 2)
    agreed = Agreed("float32", {message: ((2, 3),)})
    array = np.zeros((2, 3), np.float32)
    _, frame = Encoder(EPOCH, agreed).encode(message, 0, [array])
    assert np.shares_memory(np.asarray(frame), array)


def test_arrays_of_other_shapes_are_refused_by_the_receiver() -> None:
    message = Message(ACTIVATION, 0, 1, 2)
    agreed = Agreed("float32", {message: ((2, 3),)})
    for arrays in ([], [np.zeros((3, 3), np.float32)], [np.zeros((2, 3), np.float32)] * 2):
        frames = received(Encoder(EPOCH, agreed).encode(message, 0, arrays))
        with pytest.raises(WireError, match="must come"):
            Decoder(2, EPOCH, (1,), agreed).decode(frames)


@pytest.mark.parametrize(("offset", "is_kept"), [(0, True), (1, False), (2, False), (4, True)])
def test_a_buffer_is_kept_unless_it_lies_across_the_items(offset: int, is_kept: bool) -> None:
    message = Message(ACTIVATION, 0, 1, 2)
    agreed = Agreed("float32", {message: ((4, 4),)})
    sent = np.arange(16, dtype=np.float32).reshape(4, 4)
    header, frame = received(Encoder(EPOCH, agreed).encode(message, 0, [sent]))
    buffer = bytearray(offset) + bytearray(frame)
    (array,) = Decoder(2, EPOCH, (1,), agreed).decode([header, memoryview(buffer)[offset:]]).arrays
    assert np.array_equal(array, sent)
    assert array.flags.aligned
    assert array.flags.c_contiguous
    assert np.shares_memory(array, np.frombuffer(buffer, np.uint8)) == is_kept


def test_bytes_that_may_not_be_written_make_an_array_that_may_not() -> None:
    """A received array is read-only where the frame is: whoever writes into one makes a copy first."""
    message = Message(ACTIVATION, 0, 1, 2)
    agreed = Agreed("float32", {message: ((4, 4),)})
    frames = received(Encoder(EPOCH, agreed).encode(message, 0, [np.ones((4, 4), np.float32)]))
    (array,) = Decoder(2, EPOCH, (1,), agreed).decode(frames).arrays
    with pytest.raises(ValueError, match="read-only"):
        array += 1


# Wrong things

MESSAGE = Message(ACTIVATION, 5, 1, 2)
TWIN = Message(INCREMENT, 5, 1, 2)
WANTED = Agreed(
    "float32",
    {MESSAGE: ((2, 4),), TWIN: ((2, 4), (3,)), Message(TARGET, 5, 3, 2): ((2, 4),), MESSAGE._replace(batch=6): ((2, 4),)},
)  # fmt: skip
ARRAY = np.arange(8, dtype=np.float32).reshape(2, 4)
FIELDS = ("epoch", "sequence", "source", "code", "batch", "version", "description")
RIGHT = dict(
    zip(FIELDS, (EPOCH, 2, 1, KINDS.index(ACTIVATION), 5, 9, WANTED.expected(MESSAGE).description), strict=True)
)


def header(**changes: Any) -> bytes:
    """Return the header of MESSAGE with some fields replaced."""
    packed: bytes = msgpack.packb(tuple({**RIGHT, **changes}.values()), strict_types=False)
    return packed


@pytest.fixture
def decoder() -> Decoder:
    """A decoder of stage 2 that has taken two messages of stage 1."""
    decoder = Decoder(2, EPOCH, (1, 3), WANTED)
    for sequence in range(2):
        decoder.decode([header(sequence=sequence), ARRAY.tobytes()])
    return decoder


def assert_refused(decoder: Decoder, frames: Sequence[bytes], match: str = ".") -> None:
    """Assert that frames are refused with a WireError, change nothing, and that the right ones are taken after them."""
    before = snapshot(decoder)
    with pytest.raises(WireError, match=match):
        decoder.decode(frames)
    assert snapshot(decoder) == before
    assert_accepts(copy.copy(decoder))


def assert_accepts(decoder: Decoder) -> None:
    """Assert that the right frames are taken, by a decoder whose counts are a copy."""
    decoder.sequence = dict(decoder.sequence)
    got: Received = decoder.decode([header(), ARRAY.tobytes()])
    assert (got.message, got.version) == (MESSAGE, 9)
    assert np.array_equal(got.arrays[0], ARRAY)


def text(dtype: str, *wanted: tuple[int, ...]) -> bytes:
    """Return a description of arrays."""
    return describe(np.dtype(dtype), wanted).description


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"epoch": 2}, "a frame of epoch 2; this is epoch 3"),
        ({"epoch": 4}, "a frame of epoch 4; this is epoch 3"),
        ({"sequence": 3}, "message 3 from stage 1 where 2 was expected: lost or reordered"),
        ({"sequence": 1}, "message 1 from stage 1 where 2 was expected: doubled or reordered"),
        ({"sequence": 2**53 - 1}, "lost or reordered"),
        ({"source": 2}, "a frame from stage 2, which does not send to stage 2"),
        ({"source": 0}, "which does not send to stage 2"),
        ({"source": 3}, "message 2 from stage 3 where 0 was expected"),
        ({"code": len(KINDS)}, f"unknown kind {len(KINDS)}"),
        ({"code": KINDS.index(INCREMENT)}, "must come"),
        ({"code": KINDS.index(CREDIT_ACTIVATION)}, "was not agreed on"),
        ({"batch": 7}, "was not agreed on"),
        ({"batch": 2**53}, "not natural numbers"),
        ({"description": text("float64", (2, 4))}, "<f8.*must come"),
        ({"description": text("float32", (4, 2))}, "must come"),
        ({"description": text("float32", (8,))}, "must come"),
        ({"description": text("float32", (2, 4), (2, 4))}, "must come"),
        ({"description": text("float32")}, "must come"),
        ({"description": b"\xff" * 99}, "must come"),
        ({"description": text("float32", (2, 4)) + b" "}, "must come"),
    ],
)
def test_a_header_that_does_not_say_what_must_come_is_refused(
    decoder: Decoder, changes: dict[str, Any], match: str
) -> None:
    assert_refused(decoder, [header(**changes), ARRAY.tobytes()], match)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "value",
    [-1, 1.0, True, None, "a", "", (), (2,), {}, {"a": 1}, b"", msgpack.ExtType(5, b"x"), msgpack.ExtType(5, b"")],
    ids=repr,
)
def test_a_field_of_another_type_is_refused(decoder: Decoder, field: str, value: Any) -> None:
    assert_refused(decoder, [header(**{field: value}), ARRAY.tobytes()])


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        msgpack.packb(None),
        msgpack.packb(7),
        msgpack.packb("activation"),
        msgpack.packb({}),
        msgpack.packb(()),
        msgpack.packb(tuple(RIGHT.values())[:6]),
        msgpack.packb((*RIGHT.values(), 0)),
        msgpack.packb(dict(RIGHT)),
        header() + b"\x00",
        header()[:-1],
        msgpack.packb((*tuple(RIGHT.values())[:6], [[]])),
        b"\x91" * 400,
        b"\x91" * 400 + b"\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
    ],
    ids=lambda frame: frame[:12].hex() + "-" + str(len(frame)),
)
def test_a_header_of_another_form_is_refused(decoder: Decoder, frame: bytes) -> None:
    assert_refused(decoder, [frame, ARRAY.tobytes()], "a header")


@pytest.mark.parametrize("frame", [header(description=b"x" * HEADER_BYTES), b"\x00" * 10_000_000])
def test_a_huge_header_is_refused_before_it_is_unpacked(decoder: Decoder, frame: bytes) -> None:
    assert_refused(decoder, [frame, ARRAY.tobytes()], r"a header of [\d,]+ bytes; at most 512")


@pytest.mark.parametrize("count", [0, 2 + MOST_ARRAYS, 1000])
def test_too_few_or_too_many_frames_are_refused(decoder: Decoder, count: int) -> None:
    assert_refused(
        decoder, [header(), *[ARRAY.tobytes()] * 1000][:count], f"a message of {count} frames; it has 1 to 9"
    )


@pytest.mark.parametrize(
    "arrays", [[], [b""], [bytes(31)], [bytes(33)], [bytes(64)], [bytes(32), b""], [bytes(32), bytes(32)]], ids=len
)
def test_array_frames_of_another_number_or_length_are_refused(decoder: Decoder, arrays: list[bytes]) -> None:
    assert_refused(decoder, [header(), *arrays], "must come")


def test_a_message_with_one_right_and_one_wrong_array_is_refused_as_a_whole(decoder: Decoder) -> None:
    said = header(code=KINDS.index(INCREMENT), description=WANTED.expected(TWIN).description)
    assert_refused(decoder, [said, bytes(32), bytes(11)], "must come")
    assert decoder.decode([said, bytes(32), bytes(12)]).message == TWIN


def test_a_lost_doubled_or_reordered_message_is_noticed() -> None:
    agreed = Agreed("float32", {Message(ACTIVATION, batch, 1, 2): ((1, 2),) for batch in range(3)})
    encoder = Encoder(EPOCH, agreed)
    arrays: list[Array] = [np.ones((1, 2), np.float32)]
    first, second, third = (received(encoder.encode(Message(ACTIVATION, batch, 1, 2), 0, arrays)) for batch in range(3))
    decoder = Decoder(2, EPOCH, (1,), agreed)
    with pytest.raises(WireError, match="lost or reordered"):
        decoder.decode(second)
    decoder.decode(first)
    with pytest.raises(WireError, match="doubled or reordered"):
        decoder.decode(first)
    with pytest.raises(WireError, match="lost or reordered"):
        decoder.decode(third)
    assert decoder.decode(second).message.batch == 1
    assert decoder.decode(third).message.batch == 2


def test_each_edge_counts_for_itself(decoder: Decoder) -> None:
    target = header(sequence=0, source=3, code=KINDS.index(TARGET))
    assert decoder.decode([target, ARRAY.tobytes()]).message == Message(TARGET, 5, 3, 2)
    assert_accepts(decoder)


def test_increments_of_the_head_are_refused() -> None:
    config = make_config("decoupled", 2)
    payloads = Payloads(config, Plan.of(config))
    frame = msgpack.packb((0, 0, 3, KINDS.index(INCREMENT), 0, 0, b""))
    with pytest.raises(WireError, match="head has no increments"):
        Decoder(2, 0, (1, 3), payloads).decode([frame])


# Noise


def mutated(frame: bytes, rng: random.Random) -> bytes:
    """Return a frame with some bytes changed, cut out, doubled or added."""
    found = bytearray(frame)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(found) + 1)
        found[at : at + rng.choice((0, 1, 1, 1, 2))] = rng.randbytes(rng.choice((0, 1, 1, 1, 2)))
    return bytes(found)


def assert_stands(decoder: Decoder, frames: Sequence[bytes], before: dict[str, Any]) -> bool:
    """Assert that frames are refused and leave no trace, or are what must come; return whether they were refused."""
    try:
        got = decoder.decode(frames)
    except WireError:
        assert snapshot(decoder) == before, frames
        return True
    assert got.message in (MESSAGE, MESSAGE._replace(batch=6)), frames
    assert got.arrays[0].shape == (2, 4)
    decoder.sequence = dict(before["sequence"])
    return False


def test_random_bytes_are_refused(decoder: Decoder) -> None:
    rng = random.Random(0)
    before = snapshot(decoder)
    for _ in range(2000):
        frames = [rng.randbytes(rng.randint(0, 60)) for _ in range(rng.randint(0, 3))]
        assert assert_stands(decoder, frames, before)
    assert_accepts(decoder)


def test_mutated_headers_are_refused_or_mean_what_they_say(decoder: Decoder) -> None:
    rng = random.Random(1)
    before = snapshot(decoder)
    refused = sum(assert_stands(decoder, [mutated(header(), rng), ARRAY.tobytes()], before) for _ in range(4000))
    assert 2000 < refused < 4000, "some change the version alone, which may be any"
    assert_accepts(decoder)


def test_well_formed_nonsense_is_refused_or_means_what_it_says(decoder: Decoder) -> None:
    """Lists of seven with every type there is, so that each check behind the first one is reached."""
    rng = random.Random(2)
    before = snapshot(decoder)
    other: list[Any] = [0, 1, 2, 3, 5, -1, 2**40, 2**63, 1.5, True, None, "<f4", b"", (), [[]], {}, ((),) * 8]
    for _ in range(3000):
        fields = {name: rng.choice(other) for name in rng.sample(FIELDS, rng.randint(1, 3))}
        assert_stands(decoder, [header(**fields), ARRAY.tobytes()], before)
    assert_accepts(decoder)


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("kind", [float, bool])
def test_the_right_value_in_a_wrong_type_is_refused(place: int, kind: type) -> None:
    """A header of 0.0 in place of 0 once passed the comparison, and failed as an index later."""
    config = make_config("decoupled", 2, {})
    payloads = Payloads(config, Plan.of(config))
    (shape,) = payloads.expected(Message(ACTIVATION, 0, 1, 2)).shapes
    header, frame = received(Encoder(1, payloads).encode(Message(ACTIVATION, 0, 1, 2), 1, [np.ones(shape, np.float32)]))
    values = list(msgpack.unpackb(header, use_list=False))
    values[place] = kind(values[place])
    decoder = Decoder(2, 1, (1,), payloads)
    before = snapshot(decoder)
    with pytest.raises(WireError):
        decoder.decode([msgpack.packb(values), frame])
    assert snapshot(decoder) == before
    assert decoder.decode([header, frame]).message == Message(ACTIVATION, 0, 1, 2)
