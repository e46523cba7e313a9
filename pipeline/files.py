"""Files that are whole or not there. No numpy."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
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
    save_text(path, json.dumps(document, indent=1) + "\n")


def run_digest(stages: Iterable[str]) -> str:
    """Return the digest of a run: the sha256 (hexadecimal) over all stages' digests, in stage order."""
    return hashlib.sha256("\n".join(stages).encode()).hexdigest()
