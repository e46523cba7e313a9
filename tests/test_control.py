"""Control messages: what is encoded is decoded, and nothing else gets in."""

from __future__ import annotations

import random
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.control import FROM_LAUNCHER, FROM_WORKER, MOST_BYTES, decode, encode
from pipeline.errors import WireError

WORDS = FROM_WORKER | FROM_LAUNCHER
values = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
bodies = st.dictionaries(st.text(), values | st.dictionaries(st.text(), values) | st.lists(values).map(tuple))


@settings(max_examples=50, deadline=None)
@given(word=st.sampled_from(sorted(WORDS)), body=bodies)
def test_what_is_encoded_is_decoded(word: str, body: dict[str, Any]) -> None:
    assert decode(encode(word, body), WORDS) == (word, body)


@pytest.mark.parametrize("word", sorted(WORDS))
def test_a_word_without_a_body_has_an_empty_one(word: str) -> None:
    assert decode(encode(word), WORDS) == (word, {})


@pytest.mark.parametrize("word", sorted(WORDS))
def test_workers_and_launcher_have_words_of_their_own(word: str) -> None:
    others = FROM_LAUNCHER if word in FROM_WORKER else FROM_WORKER
    with pytest.raises(WireError, match=f"a control message that says '{word}'"):
        decode(encode(word), others)


@pytest.mark.parametrize(
    "message",
    [
        None,
        7,
        "go",
        {"go": {}},
        (),
        ("go",),
        ("go", {}, {}),
        ("go", None),
        ("go", ()),
        ("go", "now"),
        ("", {}),
        ("GO", {}),
        (b"go", {}),
        (7, {}),
        (("go",), {}),
        ({}, {}),
        ("go", {7: 1}),
        ("go", {"when": msgpack.ExtType(5, b"x")}),
        ("go", {"when": msgpack.Timestamp(1)}),
    ],
    ids=repr,
)
def test_what_is_not_a_known_word_and_a_map_is_refused(message: Any) -> None:
    with pytest.raises(WireError, match="a control message"):
        decode(msgpack.packb(message), WORDS)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        encode("go")[:-1],
        encode("go") + b"\x00",
        b"\x91" * 5000,
        b"\x92\xa2go" + b"\x81\xa1a" * 5000,
        b"\x92\xa2\xff\xfe\x80",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ],
    ids=lambda frame: frame[:8].hex(),
)
def test_a_damaged_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(WireError, match="cannot be unpacked"):
        decode(frame, WORDS)


def test_a_huge_frame_is_refused_before_it_is_unpacked() -> None:
    assert decode(encode("failed", {"error": "x" * 1000}), WORDS)[0] == "failed"
    with pytest.raises(WireError, match="at most 1,048,576"):
        decode(encode("failed", {"error": "x" * MOST_BYTES}), WORDS)


def test_noise_is_refused_or_means_what_it_says() -> None:
    rng = random.Random(0)
    right = encode("failed", {"error": "out of memory", "wrong": False, "batch": 7})
    refused = 0
    for place in range(4000):
        frame = bytearray(rng.randbytes(rng.randint(0, 40)) if place % 2 else right)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(frame) + 1)
            frame[at : at + rng.randint(0, 1)] = rng.randbytes(rng.randint(0, 2))
        try:
            word, body = decode(bytes(frame), WORDS)
        except WireError:
            refused += 1
        else:
            assert word in WORDS
            assert isinstance(body, dict)
    assert refused > 2000
