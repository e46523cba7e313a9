"""What launcher and workers say to each other: a word and a small map, as one msgpack frame. Pure.

    worker → launcher   hello {pid, endpoint}   ready   progress {batch}   saved {save, …}   done {…}   stopped
                        failed {error, wrong, again}
    launcher → worker   peers {name: endpoint}   go   rollback {epoch, save}   stop   quit

A run begins when every worker has said `ready` and ends when every worker has said `done`; a worker stays until it is
told to quit, so that what it sent last arrives. A worker that is told to roll back begins again with `hello`, under a new
epoch. Whatever a worker says comes with its epoch.
"""

from __future__ import annotations

from typing import Any

import msgpack

from .errors import WireError

MOST_BYTES = 1 << 20

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
