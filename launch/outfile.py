"""Whether the file that `--out`, or another option, names can be written. Looks at the file system and changes nothing.

It is asked before the work is done, and no folder is made: one that is not there is as a rule a slip of the pen.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import ConfigError

from . import plots

PICTURES = (".svg", ".png")


def check_place(path: Path, usual: str, option: str = "--out") -> None:
    """Raise ConfigError before the work is done for a file that could not be written after it."""
    parent = path.absolute().parent
    try:
        if path.is_dir():
            raise ConfigError(f"{option}: {path} is a folder; name a file in it, as {path / usual}")
        if not parent.exists():
            raise cannot_write(path, f"there is no folder {parent}", option)
    except OSError as error:
        raise cannot_write(path, error.strerror, option) from None
    if not parent.is_dir():
        raise cannot_write(path, f"{parent} is not a folder", option)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise cannot_write(path, f"{parent} is read-only", option)


def check_picture(path: Path, usual: str, option: str = "--out") -> None:
    """Raise ConfigError before the work is done for a picture that could not be drawn after it."""
    if not path.name.lower().endswith(PICTURES):
        raise ConfigError(f"{option}: {path.name!r} is no kind of picture; its name ends with {' or '.join(PICTURES)}")
    check_place(path, usual, option)
    if not plots.is_available():
        raise ConfigError(f"{option}: a picture needs matplotlib: pip install 'timebox[plot]'")


def cannot_write(path: Path, why: str | None, option: str = "--out") -> ConfigError:
    """Return the error that names a file, why it cannot be written, and the way out."""
    return ConfigError(f"{option}: cannot write {path}: {why}; choose another file with {option}")
