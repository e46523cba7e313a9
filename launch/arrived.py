"""Whether what a worker on another host says that it has saved is here, as it says."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import checkpoints


@dataclass
class _Read:
    """How much of a file has been read, and the digest so far."""

    inode: int
    size: int = 0
    seal: Any = field(default_factory=hashlib.sha256)


class Arrivals:
    """Holds one stage's files against what it says, and reads no byte of a file twice: a journal grows for hours."""

    def __init__(self) -> None:
        self._read: dict[Path, _Read] = {}

    def have_come(self, parts: Mapping[Path, Mapping[str, Any]]) -> bool:
        """Whether each file begins with so many `bytes` of that `sha256`. None is read before all are long enough."""
        try:
            for path, part in parts.items():
                if not isinstance(part.get("bytes"), int) or path.stat().st_size < part["bytes"]:
                    return False
            return all(self._begins(path, part["bytes"], part.get("sha256")) for path, part in parts.items())
        except OSError:
            return False
        finally:
            self._read = {path: read for path, read in self._read.items() if path in parts}

    def _begins(self, path: Path, size: int, sha256: Any) -> bool:
        with path.open("rb") as stream:
            inode = os.fstat(stream.fileno()).st_ino
            read = self._read.get(path)
            if read is None or read.inode != inode or read.size > size:
                read = self._read[path] = _Read(inode)
            stream.seek(read.size)
            read.size += checkpoints.absorb(read.seal, stream, size - read.size)
        if read.seal.hexdigest() == sha256:
            return True
        del self._read[path]  # it may be another file by the same number
        return False
