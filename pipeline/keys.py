"""The secrets of a run: made anew at each start of a launcher, kept in one file that nobody else can read. No zmq, no numpy.

    secret   32 random bytes: what is sent in this run carries a tag that only its holders can make (`wire`, `control`)
    pair     a CurveZMQ key pair that all processes of the run share, where its links are encrypted; else nothing

A worker is told where the file is, never what is in it: an argument or a variable is there for others to read. The file is
created with its mode, for one that is made private afterwards was public for a moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from pathlib import Path
from typing import NamedTuple

from .errors import RunError

#: The file's name in a run's private folder.
FILE = "keys"
SECRET_BYTES = 32
#: A key of CurveZMQ is so many characters of Z85.
CURVE_CHARACTERS = 40
_MOST_BYTES = 1_000


class Pair(NamedTuple):
    """A CurveZMQ key pair, in Z85."""

    public: bytes
    private: bytes

    def __repr__(self) -> str:
        return "Pair(…)"  # no traceback or log shows it


class Keys(NamedTuple):
    """The secrets of a run."""

    secret: bytes
    pair: Pair | None = None

    def __repr__(self) -> str:
        return "Keys(…)"


def make(pair: Pair | None = None) -> Keys:
    """Return new secrets."""
    return Keys(secrets.token_bytes(SECRET_BYTES), pair)


def write(folder: Path, keys: Keys) -> Path:
    """Write a run's secrets into its private folder, where there are none yet, and return the file's path."""
    return write_private(folder / FILE, text(keys))


def text(keys: Keys) -> str:
    """Return a run's secrets as `parse` reads them."""
    pair = [part.decode() for part in keys.pair] if keys.pair else None
    return json.dumps({"secret": keys.secret.hex(), "pair": pair})


def write_private(path: Path, content: str) -> Path:
    """Write a new file that nobody else can read, from its first moment on, and return its path; raises OSError."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with open(number, "w", encoding="ascii") as stream:  # noqa: PTH123 (a descriptor)
        stream.write(content)
    return path


def read(path: Path) -> Keys:
    """Return what a file holds; raises RunError for one that others can read, is not ours, or is damaged."""
    keys = parse(read_private(path))
    if keys is None:
        raise RunError(f"{path}: the keys of the run are damaged; start the run again")
    return keys


def read_private(path: Path, most_bytes: int = _MOST_BYTES) -> bytes:
    """Return what a small file holds that has to be a secret of ours; raises RunError for one that others can read."""
    try:
        # Without O_NONBLOCK a pipe in the file's place would hold us for ever.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
        with open(number, "rb") as stream:  # noqa: PTH123
            found = os.fstat(number)
            if not stat.S_ISREG(found.st_mode):
                raise RunError(f"{path}: the keys of a run are a plain file; start the run again")
            if found.st_uid != os.geteuid():
                raise RunError(f"{path}: the keys of a run that belong to another user; start the run again")
            if found.st_mode & 0o077:
                mode = stat.S_IMODE(found.st_mode)
                raise RunError(f"{path}: keys that others can read (mode {mode:04o}, not 0600); start the run again")
            return stream.read(most_bytes + 1)
    except OSError as error:
        raise RunError(f"{path}: the keys of the run cannot be read: {error.strerror}") from None


def parse(text: bytes) -> Keys | None:
    """Return the secrets that a text holds, or None. What is wrong with it is not told: an error must not show a part of it."""
    try:
        document = json.loads(text) if len(text) <= _MOST_BYTES else None
        if type(document) is not dict or document.keys() != {"secret", "pair"}:
            return None
        secret = bytes.fromhex(document["secret"])
        pair = None if document["pair"] is None else Pair(*(part.encode("ascii") for part in document["pair"]))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if len(secret) != SECRET_BYTES or (pair and any(len(part) != CURVE_CHARACTERS for part in pair)):
        return None
    return Keys(secret, pair)


def keyed(secret: bytes, purpose: str, size: int) -> hashlib.blake2b:
    """Return a hash for tags of `size` bytes for one purpose alone; copy it for each message.

    Tags of different purposes, receivers, names and directions say nothing about each other.
    """
    # The purpose goes in as what BLAKE2 calls a person: another block to hash would cost each message a tenth of a microsecond.
    person = hashlib.blake2b(purpose.encode(), digest_size=hashlib.blake2b.PERSON_SIZE).digest()
    return hashlib.blake2b(key=secret, digest_size=size, person=person)
