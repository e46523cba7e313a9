"""Control messages: what is encoded is decoded, and nothing else gets in."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import transport
from pipeline.control import FROM_LAUNCHER, FROM_WORKER, MOST_BYTES, TAG, Line, decode, encode
from pipeline.errors import WireError
from pipeline.strangers import Strangers

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


# Tags

SECRET = bytes(range(32))


def ends(secret: bytes = SECRET, name: str = "box-1") -> tuple[Line, Line]:
    """Return the worker's end of a line and the launcher's."""
    return Line(secret, name, is_launcher=False), Line(secret, name, is_launcher=True)


@settings(max_examples=200, deadline=None)
@given(frame=st.binary(max_size=300), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_what_is_sealed_is_opened_and_a_turned_bit_is_noticed(frame: bytes, place: float, bit: int) -> None:
    for said, heard in (ends(), ends()[::-1]):
        sealed = said.seal(frame)
        assert heard.open(sealed) == frame
        turned = bytearray(sealed)
        turned[int(place * len(sealed))] ^= 1 << bit
        assert heard.open(bytes(turned)) is None
        assert heard.strangers.count == 1


@settings(max_examples=200, deadline=None)
@given(frame=st.binary(max_size=60))
def test_noise_is_not_opened(frame: bytes) -> None:
    for end in ends():
        assert end.open(frame) is None


def test_a_tag_is_for_one_name_one_direction_and_one_run() -> None:
    worker, launcher = ends()
    word = encode("failed", {"error": "says who", "wrong": False})
    assert launcher.open(worker.seal(word)) == word
    assert worker.open(worker.seal(word)) is None, "it would hear itself"
    assert launcher.open(launcher.seal(word)) is None
    assert ends(name="box-2")[1].open(worker.seal(word)) is None
    assert ends(secret=bytes(32))[1].open(worker.seal(word)) is None
    assert launcher.open(word) is None
    assert launcher.open(bytes(TAG) + word) is None


def test_the_name_of_a_workers_socket_cannot_be_guessed() -> None:
    found = {
        ends(secret, name)[0].identity for secret in (SECRET, bytes(32), b"") for name in ("box-1", "box-2", "head")
    }
    assert len(found) == 9
    assert all(len(each) >= 32 for each in found)
    assert ends()[0].identity == ends()[1].identity


# Strangers at the launcher's socket


class Met:
    """The launcher's socket, and what it was told to log."""

    def __init__(self, folder: Path) -> None:
        self.said: list[str] = []
        self.strangers = Strangers(lambda text, **_: self.said.append(text))
        lines = [Line(SECRET, name, self.strangers, is_launcher=True) for name in ("box-1", "head")]
        self.server = transport.ControlServer(f"ipc://{folder}/l", MOST_BYTES, lines, strangers=self.strangers)
        self.context = transport.make_context()

    def stranger(self, identity: str | bytes) -> zmq.Socket[bytes]:
        """Return a stranger's socket that gives itself a name."""
        made = self.context.socket(zmq.DEALER)
        made.setsockopt(zmq.IDENTITY, identity if isinstance(identity, bytes) else identity.encode())
        made.setsockopt(zmq.LINGER, 0)
        made.connect(self.server.address)
        return made

    def worker(self, name: str = "box-1") -> transport.ControlLink:
        """Return a real worker's end."""
        return transport.ControlLink(self.context, self.server.address, Line(SECRET, name, is_launcher=False))

    def heard(self, within_ms: int = 2_000) -> tuple[str, bytes] | None:
        """Return the next thing that is heard from a worker."""
        for _ in range(within_ms // 50):
            if (found := self.server.receive(50)) is not None:
                return found
        return None


@pytest.fixture
def met(tmp_path: Path) -> Iterator[Met]:
    """A launcher's socket."""
    met = Met(tmp_path)
    yield met
    met.context.destroy(linger=0)
    met.server.close(0)


def test_a_stranger_with_a_workers_name_before_and_after_it_changes_nothing(met: Met) -> None:
    before = met.stranger("box-1")
    before.send(encode("hello", {"pid": 1, "endpoint": "tcp://127.0.0.1:9"}))
    assert met.heard(200) is None
    worker = met.worker()
    worker.send(encode("ready"))
    assert met.heard() == ("box-1", encode("ready"))
    after = met.stranger("box-1")
    for word in ("failed", "done", "hello"):
        after.send(encode(word, {"error": "x", "wrong": True}))
        after.send(bytes(TAG) + encode(word))
    assert met.heard(200) is None
    met.server.send("box-1", encode("go"))
    assert worker.receive(2_000) == encode("go")
    assert not before.poll(100)
    assert not after.poll(0)
    assert met.strangers.count == len(met.said) == 7
    worker.close(0)


def test_a_word_of_one_worker_in_the_name_of_another_is_dropped(met: Met) -> None:
    box = Line(SECRET, "box-1", is_launcher=False)
    end = met.stranger(Line(SECRET, "head", is_launcher=False).identity)
    end.send(box.seal(encode("ready")))
    assert met.heard(200) is None
    assert met.said == ["a word on the line of head fails its check and was dropped"]


def test_many_frames_and_floods_are_dropped_and_the_worker_is_heard_among_them(met: Met) -> None:
    stranger = met.stranger("x")
    for _ in range(200):
        stranger.send_multipart([b"x"] * 50)
        stranger.send(b"")
    worker = met.worker("head")
    worker.send(encode("ready"))
    assert met.heard() == ("head", encode("ready"))
    for _ in range(40):  # each look passes over so many strangers at most
        assert met.server.receive(50) is None
    assert met.strangers.count == 400
    assert len(met.said) < 20
    worker.close(0)


def test_a_worker_hears_the_launcher_alone(met: Met) -> None:
    """Who took the launcher's address says nothing that a worker would believe."""
    worker = met.worker()
    worker.send(encode("ready"))
    assert met.heard() == ("box-1", encode("ready"))
    identity = Line(SECRET, "box-1", is_launcher=True).identity
    for word in (
        b"",
        encode("quit"),
        bytes(TAG) + encode("stop"),
        Line(bytes(32), "box-1", is_launcher=True).seal(b"x"),
    ):
        met.server._router.send_multipart([identity, word])
        assert worker.receive(2_000) is None
    met.server.send("box-1", encode("go"))
    assert worker.receive(2_000) == encode("go")
    worker.close(0)


def test_a_worker_that_was_started_again_is_the_one_that_is_talked_to(met: Met) -> None:
    first = met.worker()
    first.send(encode("ready"))
    assert met.heard() == ("box-1", encode("ready"))
    second = met.worker()  # the first one has not been missed yet
    second.send(encode("ready"))
    assert met.heard() == ("box-1", encode("ready"))
    met.server.send("box-1", encode("go"))
    assert second.receive(2_000) == encode("go")
    first.close(0)
    second.close(0)
