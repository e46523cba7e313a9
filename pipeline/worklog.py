"""One worker's log: JSON lines in its file. The only place that knows the log's keys.

    {"ts": "2026-11-22T03:04:05.678901Z", "mono_ns": …, "stage": "box-1", "level": "action",
     "action": "F3", "part": "update", "batch": 3, "step": 2, "read": 6, "written": 7, "ms": 0.74, "text": "update on oracle 1"}

`ts` comes first, so that `sort -m` merges the files of several workers. A line's time is the end of what it tells; it is
in the file before the worker goes on, so it survives the worker.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ACTION = logging.INFO - 5
LEVELS = {"action": ACTION, "info": logging.INFO}
_NAMES = {ACTION: "action", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}


class Anchor:
    """Ties the monotonic clock to the wall clock, once a process."""

    def __init__(self) -> None:
        # The tightest of a few pairs: whoever is interrupted between two clocks would shift all its lines.
        pairs = [(time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _ in range(9)]
        before, self.wall_ns, after = min(pairs, key=lambda pair: pair[2] - pair[0])
        self.mono_ns = (before + after) // 2

    def wall(self, mono_ns: int) -> str:
        """Return a monotonic time as UTC in ISO 8601, to the microsecond."""
        return iso(self.wall_ns + mono_ns - self.mono_ns)


def iso(wall_ns: int) -> str:
    """Return nanoseconds since 1970 as UTC in ISO 8601, to the microsecond."""
    seconds, rest = divmod(wall_ns // 1_000, 1_000_000)
    return f"{_to_the_second(seconds)}.{rest:06d}Z"


@functools.lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


_encode = json.JSONEncoder(ensure_ascii=False).encode


class _JsonLines(logging.Formatter):
    def __init__(self, stage: str, anchor: Anchor) -> None:
        super().__init__()
        self._stage = stage
        self._anchor = anchor

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        mono_ns = fields.get("mono_ns") or time.monotonic_ns()
        level = _NAMES.get(record.levelno, record.levelname.lower())
        line = {"ts": self._anchor.wall(mono_ns), "mono_ns": mono_ns, "stage": self._stage, "level": level, **fields}
        line["text"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _encode(line)


class _File(logging.FileHandler):
    """A log's file. A disk without room costs the lines and nothing else: what cannot be done without says so itself."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say nothing of a full disk: logging's own would print a traceback for every line."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class WorkLog:
    """Writes one stage's log."""

    def __init__(self, path: Path, stage: str, level: str, anchor: Anchor) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _File(path, mode="a", encoding="utf-8")
        self._file.setFormatter(_JsonLines(stage, anchor))
        self._stage = stage
        self._anchor = anchor
        self._logger = logging.Logger(stage, LEVELS[level])
        self._logger.addHandler(self._file)
        self.tells_actions = LEVELS[level] <= ACTION

    def info(self, text: str, **fields: Any) -> None:
        """Tell a milestone."""
        self._logger.info("%s", text, extra={"fields": fields})

    def action(self, text: str, mono_ns: int, **fields: Any) -> None:
        """Tell one part of an action; there are many of them, so it goes past the logger to the same file."""
        line = {"ts": self._anchor.wall(mono_ns), "mono_ns": mono_ns, "stage": self._stage, "level": "action", **fields}
        line["text"] = text
        stream = self._file.stream
        assert stream is not None, "it is open until it is closed"
        with contextlib.suppress(OSError):
            stream.write(_encode(line) + "\n")
            stream.flush()

    def warning(self, text: str, **fields: Any) -> None:
        """Tell what is wrong and does not end the run."""
        self._logger.warning("%s", text, extra={"fields": fields})

    def error(self, text: str, *, traceback: bool = False, **fields: Any) -> None:
        """Tell a failure."""
        self._logger.error("%s", text, exc_info=traceback, extra={"fields": fields})

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # what it had no room for
            self._file.close()
