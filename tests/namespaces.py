"""Network namespaces by iproute2: made, entered, and removed with whatever still runs in them. Knows Linux; needs root.

A namespace's name holds the process that made it: `tbh-<pid>-<number>`. What is left of a process that is gone is nobody's,
and whoever comes next may remove it.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PLACE = Path("/run/netns")
_NAME = re.compile(r"tbh-(\d+)-\d+\Z")
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)


def new_name() -> str:
    """Return the name of a namespace that no other test session has."""
    return f"tbh-{os.getpid()}-{next(_numbers)}"


def ip(*lines: str, namespace: str = "") -> None:
    """Run lines of iproute2's `ip`, all in one process; raises RuntimeError with what it said."""
    words = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    done = subprocess.run(words, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip: {done.stderr.strip()} (of: {'; '.join(lines)})")


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """Let this thread be in a namespace: the sockets that it makes, and the threads that it starts, stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    inside = os.open(PLACE / name, os.O_RDONLY)
    try:
        if libc.setns(inside, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {name}")
        try:
            yield
        finally:
            if libc.setns(outside, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "cannot leave a network namespace")
    finally:
        os.close(inside)
        os.close(outside)


def pids(name: str) -> list[int]:
    """Return the processes that are in a namespace."""
    listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]


def remove(names: Sequence[str]) -> None:
    """Kill what runs in namespaces, and remove them."""
    for name in names:
        deadline = time.monotonic() + 2.0
        while (left := [pid for pid in pids(name) if pid != os.getpid()]) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        if (PLACE / name).exists():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def mine() -> list[str]:
    """Return the namespaces that this process has made and that are still there."""
    return [name for name, pid in _all() if pid == os.getpid()]


def sweep() -> list[str]:
    """Remove the namespaces of processes that are gone, and return their names."""
    left = [name for name, pid in _all() if not Path(f"/proc/{pid}").exists()]
    remove(left)
    return left


def _all() -> list[tuple[str, int]]:
    if not PLACE.is_dir():
        return []
    found = [(path.name, _NAME.match(path.name)) for path in PLACE.iterdir()]
    return [(name, int(match[1])) for name, match in found if match]
