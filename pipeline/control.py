"""What launcher and workers say to each other: a word and a small map, as one msgpack frame. Pure.

    worker → launcher   hello {pid, endpoint}   ready   progress {batch}   saved {save, …}   done {…}   stopped
                        failed {error, wrong, again}
    launcher → worker   peers {name: endpoint}   go   rollback {epoch, save}   stop   quit

A run begins when every worker has said `ready` and ends when every worker has said `done`; a worker stays until it is
told to quit, so that what it sent last arrives. A worker that is told to roll back begins again with `hello`, under a new
epoch. Whatever a worker says comes with its epoch.

Each frame begins with a tag, a hash with the run's secret over the worker's name, the direction and the frame. What has
none is a stranger's: it is dropped and counted. The name by which the launcher's socket knows a worker is a secret as well:
who took it first would keep the worker out.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Any

import msgpack

from .errors import WireError
from .keys import keyed
from .strangers import Strangers

MOST_BYTES = 1 << 20
#: Bytes of a tag, and of the part of a socket's name that nobody can guess.
TAG = 16

#: What a worker may say, and what must come with it.
BODIES: dict[str, dict[str, type]] = {
    "hello": {"pid": int, "endpoint": str},
    "ready": {},
    "progress": {"batch": int},
    "saved": {"save": int, "bytes": int, "sha256": str, "appended": dict},
    "done": {"batches": int, "busy_s": float, "digest": str},
    "stopped": {},
    "failed": {"error": str, "wrong": bool},
}
FROM_WORKER = frozenset(BODIES)
FROM_LAUNCHER = frozenset({"peers", "go", "rollback", "stop", "quit"})


def encode(word: str, body: dict[str, Any] | None = None) -> bytes:
    """Return a control message's frame."""
    frame: bytes = msgpack.packb((word, body or {}))
    return frame


def decode(frame: bytes, words: frozenset[str]) -> tuple[str, dict[str, Any]]:
    """Return the word and the map of a frame; raises WireError for anything that is not one of `words`."""
    if len(frame) > MOST_BYTES:
        raise WireError(f"a control message of {len(frame):,} bytes; at most {MOST_BYTES:,}")
    try:
        message = msgpack.unpackb(frame, use_list=False, max_ext_len=0)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"a control message that cannot be unpacked ({type(error).__name__}: {error})") from None
    if type(message) is not tuple or len(message) != 2:
        raise WireError("a control message that is not a word and a map")
    word, body = message
    if type(word) is not str or word not in words or type(body) is not dict:
        raise WireError(f"a control message that says {word!r}")
    return word, body


def missing(word: str, body: dict[str, Any]) -> str | None:
    """Return what a worker's message lacks of what must come with its word, or None."""
    for key, kind in BODIES[word].items():
        if not isinstance(body.get(key), kind):
            return f"{word} must come with {key}, a {kind.__name__}"
    return None


def line_of(identity: bytes) -> bytes:
    """Return the identity of a line, of whichever instance."""
    return identity.partition(b"#")[0]


class Line:
    """One end of the line between the launcher and a worker: seals what is said, opens what is heard."""

    def __init__(
        self, secret: bytes, name: str, strangers: Strangers | None = None, *, is_launcher: bool, instance: str = ""
    ) -> None:
        """Make one end; several agents may come for one stage, and at their ends each is an `instance`."""
        self.name = name
        self.strangers = strangers or Strangers()
        #: What the launcher's socket knows the worker by.
        self.identity = name.encode() + b"-" + keyed(secret, f"identity of {name}", TAG).hexdigest().encode()
        self.identity = self.at(instance)
        seals = [keyed(secret, f"{way} {name}", TAG) for way in ("to launcher from", "from launcher to")]
        self._heard, self._said = seals if is_launcher else reversed(seals)

    def at(self, instance: str) -> bytes:
        """Return what the launcher's socket knows an instance of an agent by: a second one must not take the first's place."""
        return self.identity + b"#" + instance.encode() if instance else self.identity

    def seal(self, frame: bytes) -> bytes:
        """Return a frame with its tag."""
        seal = self._said.copy()
        seal.update(frame)
        return seal.digest() + frame

    def open(self, sealed: bytes) -> bytes | None:
        """Return the frame whose tag is valid, or None, and count the stranger."""
        tag, frame = sealed[:TAG], sealed[TAG:]
        seal = self._heard.copy()
        seal.update(frame)
        if compare_digest(tag, seal.digest()):
            return frame
        self.strangers.add(f"a word on the line of {self.name} fails its check and was dropped")
        return None
