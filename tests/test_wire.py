"""The wire format: what is sent comes out again, and nothing else gets in; a refused frame leaves no trace."""

from __future__ import annotations

import copy
import hashlib
import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network import make_config

from launch.hostile import Forger
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
from pipeline.delays import DelayedLinks
from pipeline.emulation import Emulation
from pipeline.errors import WireError
from pipeline.live import MOST_DROPPED, LivePort
from pipeline.payloads import Payloads
from pipeline.plan import Plan
from pipeline.recorder import Recorder
from pipeline.strangers import Strangers
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
    unchanging = ("payloads", "strangers", "_seal", "_damaged")
    return {name: copy.copy(value) for name, value in vars(decoder).items() if name not in unchanging}


def sealed(frames: Sequence[Any], receiver: int = 2, key: bytes = b"") -> list[Any]:
    """Return frames whose first one has the tag that it must have, by a way of its own: of arrays below 32 KiB."""
    if not frames:
        return []
    person = hashlib.blake2b(f"message to {receiver}".encode(), digest_size=16).digest()
    check = len(frames) - 1
    for frame in frames[1:]:
        check = zlib.crc32(frame, (check + len(frame)) % 2**32)
    tag = hashlib.blake2b(frames[0] + check.to_bytes(4, "little"), key=key, digest_size=8, person=person)
    return [tag.digest() + frames[0], *frames[1:]]


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
        decoder.decode(sealed([header(sequence=sequence), ARRAY.tobytes()]))
    return decoder


def assert_refused(decoder: Decoder, frames: Sequence[bytes], match: str = ".") -> None:
    """Assert that frames are refused with a WireError, change nothing, and that the right ones are taken after them.

    That is what a peer meets. From a stranger, who has no tag for them, they are dropped.
    """
    before = snapshot(decoder)
    with pytest.raises(WireError, match=match):
        decoder.decode(sealed(frames))
    assert snapshot(decoder) == before
    assert_accepts(copy.copy(decoder))
    assert_dropped(decoder, frames)


def assert_dropped(decoder: Decoder, frames: Sequence[bytes]) -> None:
    """Assert that frames are dropped and counted, change nothing else, and that the right ones are taken after them."""
    before, count = snapshot(decoder), decoder.strangers.count
    assert decoder.decode(frames) is None
    assert snapshot(decoder) == before
    assert decoder.strangers.count == count + 1
    assert_accepts(copy.copy(decoder))


def assert_accepts(decoder: Decoder) -> None:
    """Assert that the right frames are taken, by a decoder whose counts are a copy."""
    decoder.sequence = dict(decoder.sequence)
    got: Received = decoder.decode(sealed([header(), ARRAY.tobytes()]))
    assert (got.message, got.version) == (MESSAGE, 9)
    assert np.array_equal(got.arrays[0], ARRAY)


def text(dtype: str, *wanted: tuple[int, ...]) -> bytes:
    """Return a description of arrays."""
    return describe(np.dtype(dtype), wanted).description


@pytest.mark.parametrize(
    ("changes", "match"),
    [
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
def test_a_huge_header_is_dropped_before_it_is_unpacked(decoder: Decoder, frame: bytes) -> None:
    """No tag could make it good: it is not even hashed."""
    assert_dropped(decoder, [frame, ARRAY.tobytes()])
    assert_dropped(decoder, sealed([frame, ARRAY.tobytes()]))


@pytest.mark.parametrize("count", [0, 2 + MOST_ARRAYS, 1000])
def test_too_few_or_too_many_frames_are_dropped(decoder: Decoder, count: int) -> None:
    frames = [header(), *[ARRAY.tobytes()] * 1000][:count]
    assert_dropped(decoder, frames)
    assert_dropped(decoder, sealed(frames))


@pytest.mark.parametrize(
    "arrays", [[], [b""], [bytes(31)], [bytes(33)], [bytes(64)], [bytes(32), b""], [bytes(32), bytes(32)]], ids=len
)
def test_array_frames_of_another_number_or_length_are_refused(decoder: Decoder, arrays: list[bytes]) -> None:
    assert_refused(decoder, [header(), *arrays], "must come")


def test_a_message_with_one_right_and_one_wrong_array_is_refused_as_a_whole(decoder: Decoder) -> None:
    said = header(code=KINDS.index(INCREMENT), description=WANTED.expected(TWIN).description)
    assert_refused(decoder, [said, bytes(32), bytes(11)], "must come")
    assert decoder.decode(sealed([said, bytes(32), bytes(12)])).message == TWIN


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
    assert decoder.decode(sealed([target, ARRAY.tobytes()])).message == Message(TARGET, 5, 3, 2)
    assert_accepts(decoder)


def test_increments_of_the_head_are_refused() -> None:
    config = make_config("decoupled", 2)
    payloads = Payloads(config, Plan.of(config))
    frame = msgpack.packb((0, 0, 3, KINDS.index(INCREMENT), 0, 0, b""))
    with pytest.raises(WireError, match="head has no increments"):
        Decoder(2, 0, (1, 3), payloads).decode(sealed([frame]))


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
    assert decoder.decode(frames) is None
    try:
        got = decoder.decode(sealed(frames))
        if got is None:
            assert not frames or decoder.late
            decoder.late = before["late"]
            assert snapshot(decoder) == before, frames
            return True
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
    values = list(msgpack.unpackb(header[8:], use_list=False))
    values[place] = kind(values[place])
    decoder = Decoder(2, 1, (1,), payloads)
    before = snapshot(decoder)
    with pytest.raises(WireError):
        decoder.decode(sealed([msgpack.packb(values), frame]))
    assert snapshot(decoder) == before
    assert decoder.decode([header, frame]).message == Message(ACTIVATION, 0, 1, 2)


# Strangers, damage, and what is late

SECRET = bytes(range(32))


def pair(
    said: list[str], dtype: str = "float32", wanted: Shapes = ((2, 4),), batches: int = 9
) -> tuple[Encoder, Decoder]:
    """Return both ends of an edge from box 1 to box 2 that have a secret; what is dropped is appended to `said`."""
    agreed = Agreed(dtype, {Message(ACTIVATION, batch, 1, 2): wanted for batch in range(batches)})
    strangers = Strangers(lambda text, **_: said.append(text))
    decoder = Decoder(2, EPOCH, (1,), agreed, SECRET, name="box-{}".format, strangers=strangers)
    return Encoder(EPOCH, agreed, SECRET), decoder


def letter(encoder: Encoder, batch: int = 0) -> list[bytes]:
    """Return a message's frames as they come out of a socket."""
    (shape,) = encoder.payloads.expected(Message(ACTIVATION, batch, 1, 2)).shapes
    size = int(np.prod(shape))
    array = np.arange(size, dtype=encoder.payloads.dtype).reshape(shape)
    return received(encoder.encode(Message(ACTIVATION, batch, 1, 2), 0, [array]))


@pytest.mark.parametrize("key", [b"", bytes(32), SECRET[::-1]])
def test_a_frame_with_another_secret_is_dropped_and_counted(key: bytes) -> None:
    said: list[str] = []
    encoder, decoder = pair(said)
    stranger = Encoder(EPOCH, encoder.payloads, key)
    assert decoder.decode(letter(stranger)) is None
    assert said == ["a frame that fails its check, which says it is activation 0 from box-1, was dropped"]
    assert decoder.decode(letter(encoder)) is not None
    assert decoder.strangers.count == 1


def test_a_frame_for_another_stage_is_dropped() -> None:
    encoder, _ = pair([])
    agreed = Agreed("float32", {Message(ACTIVATION, 0, 1, 3): ((2, 4),)})
    decoder = Decoder(3, EPOCH, (1,), agreed, SECRET)
    assert decoder.decode(letter(encoder)) is None
    assert decoder.strangers.count == 1


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_turned_bit_is_noticed(data: st.DataObject) -> None:
    """In the tag, the header or the array; of arrays on either side of the size from which they are added up by rows."""
    width = data.draw(st.sampled_from((1, 640, 8191, 8192, 8193, 20_000, 40_961)))
    encoder, decoder = pair([], wanted=((1, width),))
    frames = [bytearray(frame) for frame in letter(encoder)]
    place = data.draw(st.integers(0, 1))
    bit = data.draw(st.integers(0, 8 * len(frames[place]) - 1))
    frames[place][bit // 8] ^= 1 << bit % 8
    assert decoder.decode([bytes(frame) for frame in frames]) is None
    frames[place][bit // 8] ^= 1 << bit % 8
    got = decoder.decode([bytes(frame) for frame in frames])
    assert got is not None
    assert np.array_equal(got.arrays[0], np.arange(width, dtype=np.float32).reshape(1, width))


@settings(max_examples=100, deadline=None)
@given(cut=st.integers(0, 40_000), data=st.data())
def test_frames_that_are_cut_or_exchanged_are_noticed(cut: int, data: st.DataObject) -> None:
    encoder, decoder = pair([], wanted=((1, 10_000),))
    header, array = letter(encoder)
    other = letter(encoder, 1)[0]
    wrong = data.draw(
        st.sampled_from(
            ([header, array[:cut] + b"x" + array[cut:]], [header, array[:cut], array[cut:]], [other, array[::-1]],
             [header], [array[:500], array], [header, array, b""])
        )
    )  # fmt: skip
    assert decoder.decode(wrong) is None
    assert decoder.decode([header, array]) is not None


def test_a_damaged_frame_is_told_at_once_and_the_gap_tells_of_it() -> None:
    said: list[str] = []
    encoder, decoder = pair(said)
    for batch in range(7):
        assert decoder.decode(letter(encoder, batch)) is not None
    header, array = letter(encoder, 7)
    assert decoder.decode([header, bytes([array[0] ^ 1]) + array[1:]]) is None
    assert said == ["a frame that fails its check, which says it is activation 7 from box-1, was dropped"]
    match = "activation 8 box-1>box-2: message 8 from box-1 where 7 was expected: lost or reordered; a frame that said it is "
    with pytest.raises(WireError, match=match + "message 7 failed its check and was dropped"):
        decoder.decode(letter(encoder, 8))


def test_a_gap_after_noise_tells_how_much_was_dropped() -> None:
    encoder, decoder = pair([])
    for _ in range(3):
        assert decoder.decode([b"noise", b"more"]) is None
    letter(encoder)
    with pytest.raises(WireError, match=r"activation 1 box-1>box-2: .*lost.*; 3 that failed their check were dropped"):
        decoder.decode(letter(encoder, 1))


def test_a_gap_without_a_stranger_blames_nobody() -> None:
    encoder, decoder = pair([])
    letter(encoder)
    with pytest.raises(WireError, match=r"lost or reordered$"):
        decoder.decode(letter(encoder, 1))


def test_late_frames_of_an_earlier_epoch_are_counted_and_newer_ones_refused() -> None:
    encoder, decoder = pair([])
    for epoch, late in ((EPOCH - 1, 1), (0, 2), (EPOCH - 1, 3)):
        assert decoder.decode(letter(Encoder(epoch, encoder.payloads, SECRET))) is None
        assert decoder.late == late
    with pytest.raises(WireError, match="a frame of epoch 4; this is epoch 3"):
        decoder.decode(letter(Encoder(EPOCH + 1, encoder.payloads, SECRET)))
    assert decoder.decode(letter(encoder)) is not None
    assert decoder.strangers.count == 0


def test_a_flood_of_strangers_fills_no_log() -> None:
    said: list[str] = []
    _, decoder = pair(said)
    for place in range(100_000):
        assert decoder.decode([place.to_bytes(8, "little")]) is None
    assert decoder.strangers.count == 100_000
    assert len(said) < 30
    assert said[-1].endswith("65,536 have been dropped so far")
    decoder.strangers.sum_up(0)
    assert "100,000 that failed their check were dropped" in said[-1]


def test_a_flood_does_not_hide_a_damaged_frame_of_a_peer() -> None:
    said: list[str] = []
    encoder, decoder = pair(said)
    for _ in range(1_000):
        decoder.decode([b"noise"])
    header, array = letter(encoder)
    assert decoder.decode([header, array[:-1] + b"x"]) is None
    assert said[-1] == "a frame that fails its check, which says it is activation 0 from box-1, was dropped"


def test_no_hostile_message_of_any_class_gets_in_or_ends_a_run() -> None:
    config = make_config("article", 2)
    plan, payloads = Plan.of(config), Payloads(config, Plan.of(config))
    forger = Forger(config, 0)
    for number in range(1, plan.head + 1):
        decoder = Decoder(number, 0, plan.sources(number), payloads, SECRET)
        before, count = snapshot(decoder), 0
        for messages in forger.pools(number).values():
            for frames in messages:
                assert decoder.decode(frames) is None
                count += 1
        assert decoder.strangers.count == count > 2_000
        assert snapshot(decoder) == before


class Once:
    """Links that hold some messages and remember what was sent."""

    def __init__(self, messages: list[list[Any]]) -> None:
        self.messages = messages
        self.sent: list[list[Any]] = []

    def send(self, target: int, frames: Sequence[Any]) -> None:  # noqa: ARG002
        self.sent.append(list(frames))

    def receive(self, wait: bool) -> list[Any] | None:  # noqa: ARG002
        return self.messages.pop(0) if self.messages else None

    def poll(self, ms: int) -> None: ...


def test_a_stamp_is_protected_and_a_hostile_one_is_dropped() -> None:
    config = make_config("decoupled", 2, {"emulate.delay_ms": 0.001})
    emulation = Emulation(config.emulate, Plan.of(config))
    encoder, decoder = pair([])
    there, strangers = Once([]), Strangers()
    sender = DelayedLinks(there, emulation, 1, SECRET)
    sender.send(2, letter(encoder))
    sender.send(2, letter(encoder, 1))
    first, second = there.sent
    hostile = [
        [], [b""], [b"x"], [b"", b""], [first[0], first[1]], [*first, b""], [*first[:2], bytes(len(first[2]))],
        [*first[:2], second[2]], [bytes(10_000), *first[1:]], [*first[:2], first[2][:-1]], [first[2]],
    ]  # fmt: skip
    here = Once([*map(list, hostile), first, second])
    receiver = DelayedLinks(here, emulation, 2, SECRET, strangers)
    got = []
    while len(got) < 2:
        frames = receiver.receive(wait=True)
        if frames is not None:
            got.append(decoder.decode(frames))
    assert [each.message.batch for each in got if each] == [0, 1]
    assert strangers.count == len(hostile)


class Ticking:
    """A flood: a stranger's message whenever one looks, and a good one after so many."""

    def __init__(self, good: list[bytes], after: int) -> None:
        self.good, self.left = good, after

    def send(self, target: int, frames: Sequence[Any]) -> None: ...

    def receive(self, wait: bool) -> list[Any]:  # noqa: ARG002
        self.left -= 1
        return self.good if self.left == 0 else [b"noise"]


def test_a_flood_that_does_not_end_leaves_a_stage_its_own_time(tmp_path: Path) -> None:
    """`arrived` comes back after some strangers, and what is good among them is taken."""
    encoder, decoder = pair([])
    recorder = Recorder(tmp_path, "box-2", {"pid": 1}, is_traced=True, most_bytes=1 << 20, every=1)
    flood = Ticking(letter(encoder), MOST_DROPPED + 7)
    port = LivePort(flood, encoder, decoder, type("Work", (), {"version": 0})(), recorder, 2)
    assert list(port.arrived()) == []
    port.wait(None)
    assert [message.batch for message, _ in port.arrived()] == [0]
    assert decoder.strangers.count == 2 * MOST_DROPPED
    recorder.close()
