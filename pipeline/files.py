"""Files that are whole or not there. No numpy."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO


def save(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a new file and put it in place of `path` when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            write(stream)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def save_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    save(path, lambda stream: stream.write(text.encode()))


def save_json(path: Path, document: Any) -> None:
    """Write a JSON document, whole or not at all."""
    save_text(path, to_json(document, indent=1) + "\n")


def to_json(document: Any, indent: int | None = None) -> str:
    """Return a document as JSON; what is not a finite number, as after a run that flew off, is null."""
    return json.dumps(_finite(document), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def run_digest(stages: Iterable[str]) -> str:
    """Return the digest of a run: the sha256 (hexadecimal) over all stages' digests, in stage order."""
    return hashlib.sha256("\n".join(stages).encode()).hexdigest()


def remove_socket_folder(folder: Path) -> None:
    """Remove a run's private folder with its secrets and whatever sockets are left in it."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
