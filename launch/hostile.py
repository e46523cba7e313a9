"""Hostile messages, by class: what somebody without the secret of a run may send to its sockets. Pure.

Those that look real are: made by the run's own encoder, with a wrong secret, of messages that its configuration knows.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgpack
import numpy as np

from pipeline import control
from pipeline.actions import KINDS, Message
from pipeline.errors import WireError
from pipeline.payloads import Payloads
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.seals import TAG
from pipeline.wire import Encoder

#: Different messages of a class and a socket; they are sent in turn.
POOL = 200
Frames = list[bytes]


class Forger:
    """Makes hostile messages for one run's sockets."""

    def __init__(self, config: Config, seed: int) -> None:
        self.plan = Plan.of(config)
        self.names = [self.plan.name(number) for number in range(1, self.plan.head + 1)]
        self._payloads = Payloads(config, self.plan)
        self._rng = random.Random(seed)
        self._classes: dict[str, Callable[[int], Frames]] = {
            "random bytes": self._random,
            "forged": self.forged,
            "mutated": self._mutated,
            "untagged": self._untagged,
            "wrong shapes": self._wrong_shapes,
            "huge lengths": self._huge_lengths,
            "deep nesting": self._deep,
            "extension types": self._extension,
            "many frames": self._many,
            "empty frames": self._empty,
            "words": self.word,
        }

    def pools(self, receiver: int) -> dict[str, list[Frames]]:
        """Return messages for a stage, or for the launcher (0), by class."""
        return {name: [make(receiver) for _ in range(POOL)] for name, make in self._classes.items()}

    def forged(self, receiver: int) -> Frames:
        """Return a message that could be one of the run's, but for the secret."""
        rng, plan = self._rng, self.plan
        receiver = receiver or rng.randint(1, plan.head)
        encoder = Encoder(rng.choice((0, 0, 0, 1)), self._payloads, rng.randbytes(32))
        while True:
            source = rng.choice(plan.sources(receiver))
            message = Message(rng.choice(KINDS), rng.choice((0, 1, 2, rng.randrange(10_000))), source, receiver)
            encoder.sequence[receiver] = rng.choice((0, 1, 2, message.batch, 2 * message.batch))
            try:
                shapes = self._payloads.expected(message).shapes
            except (WireError, LookupError, ValueError):  # this stage sends no such thing
                continue
            frames = encoder.encode(message, message.batch, [np.ones(shape, self._payloads.dtype) for shape in shapes])
            return [memoryview(frame).tobytes() for frame in frames]

    def word(self, receiver: int) -> Frames:  # noqa: ARG002
        """Return what a worker or the launcher could say."""
        rng = self._rng
        bodies: dict[str, dict[str, object]] = {
            "hello": {"pid": 1, "endpoint": "tcp://127.0.0.1:9"},
            "ready": {},
            "progress": {"batch": rng.randrange(10**6)},
            "done": {"batches": 0, "busy_s": 0.0, "digest": "0" * 64},
            "stopped": {},
            "failed": {"error": "a stranger says so", "wrong": rng.random() < 0.5},
            "peers": dict.fromkeys(self.names, "tcp://127.0.0.1:9"),
            "go": {},
            "stop": {},
            "quit": {},
        }
        word = rng.choice(tuple(bodies))
        return [rng.choice((b"", rng.randbytes(control.TAG))) + control.encode(word, bodies[word])]

    def _random(self, receiver: int) -> Frames:  # noqa: ARG002
        return [self._rng.randbytes(self._rng.randrange(600)) for _ in range(self._rng.randint(1, 4))]

    def _mutated(self, receiver: int) -> Frames:
        rng, frames = self._rng, self.forged(receiver)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(frames)) if rng.random() < 0.3 else 0
            frame = bytearray(frames[place])
            at = rng.randrange(len(frame) + 1)
            frame[at : at + rng.choice((0, 1, 1, 2))] = rng.randbytes(rng.choice((0, 1, 1, 2)))
            frames[place] = bytes(frame)
        return frames

    def _untagged(self, receiver: int) -> Frames:
        frames = self.forged(receiver)
        return [frames[0][TAG:], *frames[1:]]

    def _header(self, *values: object) -> bytes:
        packed: bytes = msgpack.packb((0, 0, self._rng.randint(0, self.plan.head), 0, 0, 0, *values))
        return self._rng.randbytes(TAG) + packed

    def _wrong_shapes(self, receiver: int) -> Frames:
        rng, frames = self._rng, self.forged(receiver)
        other = rng.choice(
            (b"<f8(1, 16)", b"|O(1,)", b"<f4(-1, 4)", b"<f4()", b"<f4(99999999999, 99999999)", b"\xff" * 40)
        )
        return [self._header(other), *frames[1:], rng.randbytes(rng.randrange(200))]

    def _huge_lengths(self, receiver: int) -> Frames:  # noqa: ARG002
        rng = self._rng
        claim = rng.choice((b"\xc6", b"\xdb", b"\xdd", b"\xdf", b"\xc9")) + b"\xff\xff\xff\xff"
        return [
            rng.randbytes(TAG) + rng.choice((b"", b"\x97\x00\x00\x01\x00\x00\x00")) + claim + rng.randbytes(20),
            b"\0" * 64,
        ]

    def _deep(self, receiver: int) -> Frames:  # noqa: ARG002
        rng = self._rng
        return [rng.randbytes(TAG) + rng.choice((b"\x91", b"\x81\xc0", b"\x97")) * rng.randint(50, 250)]

    def _extension(self, receiver: int) -> Frames:  # noqa: ARG002
        rng = self._rng
        return [self._header(msgpack.ExtType(rng.randrange(127), rng.randbytes(rng.randrange(99)))), rng.randbytes(64)]

    def _many(self, receiver: int) -> Frames:
        frames = self.forged(receiver)
        return [*frames, *[self._rng.randbytes(8)] * self._rng.randint(2, 60)]

    def _empty(self, receiver: int) -> Frames:
        return self._rng.choice(
            ([b""], [b"", b""], [b""] * 12, [b"", *self.forged(receiver)], [*self.forged(receiver), b""])
        )
