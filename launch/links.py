"""What a run's sockets need before its processes start: a private folder, secrets, and addresses that are free and safe."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pipeline import addresses, keys, transport
from pipeline.errors import ConfigError
from pipeline.schema import Config

#: Longest path of a socket file, in bytes (sun_path).
SOCKET_PATH = 107


def check(config: Config) -> None:
    """Raise ConfigError for an interface that is not ours or not safe, and a fixed TCP port that is taken or does not exist."""
    wanted = config.transport
    if wanted.kind != "tcp":
        return
    if is_open(config) and not wanted.insecure:
        raise ConfigError(
            f"transport.curve: off would send everything in plain text over {wanted.interface}, where anybody may read it; "
            "leave it out, or add --transport.insecure true"
        )
    if is_encrypted(config):
        transport.make_pair()  # or it cannot be had here
    first, last = wanted.port, wanted.port + config.model.boxes + 1
    if first and last > 65_535:
        raise ConfigError(f"transport.port: {first} + {last - first} stages go past port 65535; choose a lower one")
    if config.placer.kind != "local":
        last = first  # the stages' are on other hosts
    for port in range(first, last + 1) if first else (0,):
        transport.check_port_free(port, wanted.interface)


def is_encrypted(config: Config) -> bool:
    """Whether a run's links are: where it is asked for, and off the loopback where nothing else is."""
    wanted = config.transport
    if wanted.kind != "tcp" or wanted.curve != "auto":
        return wanted.kind == "tcp" and wanted.curve == "on"
    return not wanted.insecure and not addresses.is_loopback(wanted.interface)


def is_open(config: Config) -> bool:
    """Whether a run's links are plain text off the loopback."""
    wanted = config.transport
    return wanted.kind == "tcp" and not is_encrypted(config) and not addresses.is_loopback(wanted.interface)


def in_plain_text(config: Config) -> str:
    """Return what there is to say of a run whose links are open, in its log and in its report."""
    return f"all is sent in plain text over {config.transport.interface}, where anybody may read it"


def private_folder(kind: str = "ipc") -> Path:
    """Make a private (0700) folder for a run's secrets and, with a path short enough for that, its sockets."""
    for parent in (None, "/tmp"):
        folder = Path(tempfile.mkdtemp(prefix="timebox-", dir=parent))
        is_short = len(os.fsencode(folder)) + len("/launcher") + 1 <= SOCKET_PATH
        if kind == "tcp" or (is_short and _is_text(folder)):
            return folder
        folder.rmdir()
    raise ConfigError("transport.kind: no folder with a path short enough for sockets; set TMPDIR, or use tcp")


def _is_text(path: Path) -> bool:
    """Whether a path can be told to others as text: not where its bytes are none by this locale."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def make_keys(config: Config, folder: Path) -> keys.Keys:
    """Make a run's secrets and leave them in its private folder for its workers."""
    made = keys.make(transport.make_pair() if is_encrypted(config) else None)
    keys.write(folder, made)
    return made
