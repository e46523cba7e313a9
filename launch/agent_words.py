"""What the launcher and its agents on other hosts say to each other: words as in `pipeline.control`, checked by type. Pure.

    agent → launcher    here {host, version}    beat {start, pid, code, state, is_settled, save}    wants {start, path, offset}
                        part {start, path, generation, offset, whole, data}    failed {start, why, wrong}    leaves {why}
                        pong {n, sent_ns, mono_ns, host}
    launcher → agent    welcome {lost_s}    leave {why}    beat {start}    start {start, run, epoch, …}    quit
                        got {start, path, generation, offset, again}    signal {start, number}    kept {save, manifest, oldest}
                        part {start, path, offset, data}    ping {n, sent_ns}

An agent is there for one stage and says so by its line. Several may come for the same one, by mistake or after a fault: each
draws a number, its `instance`, that stands in every word to it and of it. `start` counts the workers that it was told to
start; what is said of an earlier one does not count.

Words can be lost with a connection. So each side says again, every second, how things stand, and what is waited for.
"""

from __future__ import annotations

from typing import Any

from pipeline import control
from pipeline.errors import WireError

#: Seconds between two beats, of either side.
BEAT_S = 1.0
#: The most bytes of a file in one word.
CHUNK = 1 << 18

_BODIES: dict[str, dict[str, type | tuple[type, ...]]] = {
    "here": {"host": str, "version": str},
    "beat": {
        "start": int,
        "pid": int,
        "code": (int, type(None)),
        "state": str,
        "is_settled": bool,
        "save": int,
    },
    "wants": {"start": int, "path": str, "offset": int},
    "part": {"start": int, "path": str, "generation": int, "offset": int, "whole": int, "data": bytes},
    "failed": {"start": int, "why": str, "wrong": bool},
    "leaves": {"why": str},
    "pong": {"n": int, "sent_ns": int, "mono_ns": int, "host": str},
}
FROM_AGENT = frozenset(_BODIES)
_ORDERS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "welcome": {"lost_s": float},
    "leave": {"why": str},
    "beat": {"start": int},
    "start": {
        "start": int,
        "run": str,
        "epoch": int,
        "save": (int, type(None)),
        "files": tuple,
        "folder": str,
        "manifest": str,
    },
    "part": {"start": int, "path": str, "offset": int, "data": bytes},
    "got": {"start": int, "path": str, "generation": int, "offset": int, "again": bool},
    "signal": {"start": int, "number": int},
    "kept": {"save": int, "folder": str, "manifest": str, "oldest": str},
    "ping": {"n": int, "sent_ns": int},
    "quit": {},
}
FROM_LAUNCHER = frozenset(_ORDERS)
#: The longest text in a word: a path, a host's name, a reason.
MOST_TEXT = 1_000


def agent_of(stage: str) -> str:
    """Return the name of a stage's agent on the launcher's lines."""
    return f"agent of {stage}"


def stage_of(name: str) -> str | None:
    """Return of which stage a name on the launcher's lines is the agent; None for a worker's."""
    return name.removeprefix("agent of ") if name.startswith("agent of ") else None


def from_agent(frame: bytes) -> tuple[str, dict[str, Any]]:
    """Return what an agent said; raises WireError for what none says."""
    return _decoded(frame, FROM_AGENT, _BODIES)


def from_launcher(frame: bytes) -> tuple[str, dict[str, Any]]:
    """Return what the launcher said to an agent; raises WireError for what it does not say."""
    return _decoded(frame, FROM_LAUNCHER, _ORDERS)


def _decoded(
    frame: bytes, words: frozenset[str], bodies: dict[str, dict[str, type | tuple[type, ...]]]
) -> tuple[str, dict[str, Any]]:
    word, body = control.decode(frame, words)
    for key, kind in ({"instance": str} | bodies[word]).items():
        value = body.get(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise WireError(f"{word} must come with {key}")
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise WireError(f"{word} comes with {key} {value}")
        if isinstance(value, str) and key != "manifest" and len(value) > MOST_TEXT:
            raise WireError(f"{word} comes with {key} of {len(value):,} letters")
        if isinstance(value, bytes) and len(value) > CHUNK:
            raise WireError(f"{word} comes with {len(value):,} bytes; at most {CHUNK:,}")
    return word, body
