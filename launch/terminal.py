"""What a person's terminal is: how wide, whether it can draw over what it shows, and which characters it has."""

from __future__ import annotations

import codecs
import contextlib
import logging
import os
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from .text import fold

#: What stands for a character where the terminal's character set lacks it; of letters the accents go, of all else `?` stays.
_PLAIN = str.maketrans(
    "─–—−·×÷→←↔★☆│┆└├┐┘┌┬┼╭╮╰╯╲╱▶◀▐░▁▂▃▄▅▆▇█µμδλσγηρβεΣ∂‖√ᵀ‹›✗",
    "----.x/><~*o||+++++++++++\\/><|._.-=+*%#uudlsgnrbeSd|VT<>x",
) | str.maketrans({"≤": "<=", "≥": ">="})
_PLAIN_NAME = "timebox.plain"
#: Columns where nothing tells.
COLUMNS = 80


def draws_over() -> bool:
    """Whether standard error is a terminal that may be drawn over; TERM=dumb, or none, and NO_COLOR ask for plain lines."""
    is_capable = os.environ.get("TERM", "dumb") not in ("dumb", "unknown") and not os.environ.get("NO_COLOR")
    return is_capable and columns(sys.stderr) is not None


def columns(stream: TextIO) -> int | None:
    """Return how wide the terminal behind a stream is; None where there is none."""
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or COLUMNS
    except (OSError, ValueError):
        return COLUMNS


def over(line: str) -> None:
    """Draw a line on standard error over the one that is there, cut to the terminal: one that wraps cannot be drawn over."""
    with aside():
        print(f"\r\x1b[K{line[: (columns(sys.stderr) or COLUMNS) - 1]}", end="", file=sys.stderr, flush=True)


def say(text: str = "") -> None:
    """Print text for people; what is too long for a line of the terminal goes on in the next one."""
    print(_fitted(text, sys.stdout))


def say_aside(text: str) -> None:
    """Print the same on standard error, at once."""
    with aside():
        print(_fitted(text, sys.stderr), file=sys.stderr, flush=True)


def _fitted(text: str, stream: TextIO) -> str:
    width = columns(stream)
    return text if width is None else fold(text, width)


@contextlib.contextmanager
def aside(stream: TextIO | None = None) -> Iterator[None]:
    """Say what work does not hang on: where nobody can take it, `head` and a full disk say, nothing more is said there."""
    try:
        yield
    except OSError:
        mute(stream or sys.stderr)


def mute(stream: TextIO) -> None:
    """Let what is still said on a stream go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def prepare() -> None:
    """Let standard output and error take all we say, whatever their character set lacks, and where they are closed."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (to the end of the process)
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # else it tells of a HOME that it cannot write to
    codecs.register_error(_PLAIN_NAME, _plain)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=_PLAIN_NAME)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for characters that cannot be encoded; a path's bytes that are no text stay what they are."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = b""
    for letter in error.object[error.start : error.end]:
        if "\udc80" <= letter <= "\udcff":
            found += bytes([ord(letter) - 0xDC00])
            continue
        bare = unicodedata.normalize("NFKD", letter.translate(_PLAIN)).encode("ascii", "ignore")
        found += bare or (b"" if unicodedata.combining(letter) else b"?")
    return found, error.end
