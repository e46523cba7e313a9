"""Whether the file that `--out` names can be written. Looks at the file system and changes nothing.

It is asked before the work is done, and no folder is made: one that is not there is as a rule a slip of the pen.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import ConfigError


def check_place(path: Path, usual: str) -> None:
    """Raise ConfigError before the work is done for a file that could not be written after it."""
    parent = path.absolute().parent
    try:
        if path.is_dir():
            raise ConfigError(f"--out: {path} is a folder; name a file in it, as {path / usual}")
        if not parent.exists():
            raise cannot_write(path, f"there is no folder {parent}")
    except OSError as error:
        raise cannot_write(path, error.strerror) from None
    if not parent.is_dir():
        raise cannot_write(path, f"{parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise cannot_write(path, f"{parent} is read-only")


def cannot_write(path: Path, why: str | None) -> ConfigError:
    """Return the error that names a file, why it cannot be written, and the way out."""
    return ConfigError(f"--out: cannot write {path}: {why}; choose another file with --out")
