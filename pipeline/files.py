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


def save(path: Path, write: Callable[[BinaryIO], object], *, sync: bool = False) -> None:
    """Let `write` fill a new file and put it in place of `path` when it is complete; with `sync` it is on the disk then.

    Raises OSError that names `path`.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            write(stream)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        part.replace(path)
        if sync:
            sync_folder(path.parent)
    except OSError as error:  # that of a write names no file, and the part is nobody's business
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring to the disk which files are in a folder; a file system that cannot goes without."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def save_text(path: Path, text: str, *, sync: bool = False) -> None:
    """Write a text file, whole or not at all."""
    save(path, lambda stream: stream.write(text.encode()), sync=sync)


def save_json(path: Path, document: Any, *, sync: bool = False) -> None:
    """Write a JSON document, whole or not at all."""
    save_text(path, to_json(document, indent=1) + "\n", sync=sync)


def cut(path: Path, size: int, aside: Path) -> None:
    """Cut a file down to its first `size` bytes; what comes after is kept in `aside`, if there is anything.

    What is left is a new file under the old name: whoever follows its growth from elsewhere sees that it is another one.
    """
    with path.open("rb") as stream:
        stream.seek(size)
        rest = stream.read()
        if not rest:
            return
        aside.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(rest)
        stream.seek(0)
        save(path, lambda made: _copy(stream, made, size))


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    """Copy the first `size` bytes."""
    while size and (part := source.read(min(size, 1 << 20))):
        target.write(part)
        size -= len(part)


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
