"""Hosts for tests: each a network namespace with addresses of its own, and a network between them that can be made worse.

    Hosts(3)       hosts 10.77.0.1 (a launcher's), .2, .3, and fd77::1 …; delay, loss and partitions at any time
    aliases(3)     the same to look at, on the loopback (127.0.0.2 …): needs no rights, and nothing can happen to it

The network is veth pairs at a bridge with netem where the kernel has netem, and else `cable.py`, which passes packets itself.
What a host runs has a folder of its own for temporary files, as it would on another machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import namespaces
import pytest
from cable import open_tun
from cables import Bridge, Cable

ROOT = Path(__file__).parents[1]
#: Jumbo frames: an array of a few hundred kB takes dozens of packets, not hundreds.
MTU = 9_000


class Link(Protocol):
    """What connects the namespaces."""

    def set(self, delay_ms: float, jitter_ms: float, loss: float, cut: Sequence[int]) -> None:
        """Set what happens to packets on one way; `cut` are the numbers of the hosts that nobody reaches."""

    def close(self) -> None:
        """Take the network and the namespaces away."""


class Host:
    """One host: where it is, and what runs on it."""

    def __init__(self, number: int, address: str, address6: str, folder: Path, namespace: str = "") -> None:
        self.number = number
        self.address = address
        self.address6 = address6
        self.folder = folder
        self.namespace = namespace
        self._started: list[subprocess.Popen[Any]] = []
        folder.mkdir(parents=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a command that runs here has in its environment."""
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return {**os.environ, "PYTHONPATH": path, "TMPDIR": str(self.folder)}

    def run(self, words: Sequence[str], env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[Any]:
        """Start a command here, the leader of a process group of its own."""
        # nsenter becomes the command: the process that is returned is the one that was asked for.
        enter = ["nsenter", f"--net={namespaces.PLACE / self.namespace}", "--"] if self.namespace else []
        environment = {**self.environment, **(env or {})}
        started = subprocess.Popen([*enter, *words], env=environment, start_new_session=True, **options)
        self._started.append(started)
        return started

    def python(self, *words: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[Any]:
        """Start this Python here."""
        return self.run([sys.executable, *words], env, **options)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread be here: the sockets that it makes stay here."""
        with namespaces.entered(self.namespace) if self.namespace else contextlib.nullcontext():
            yield

    def pids(self) -> list[int]:
        """Return the processes that live here, of those that were started here and of their children."""
        if self.namespace:  # who was just started may not have entered it yet
            started = {process.pid for process in self._started if process.poll() is None}
            return sorted({*namespaces.pids(self.namespace), *started})
        mine = f"TMPDIR={self.folder}".encode()
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mine in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
        return found

    def end(self) -> None:
        """Kill what runs here, each command with its group."""
        for started in self._started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()
            for stream in filter(None, (started.stdin, started.stdout, started.stderr)):
                stream.close()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def __repr__(self) -> str:
        return f"Host({self.address})"


class Hosts(Sequence[Host]):
    """Hosts in namespaces, the first of them a launcher's. A context manager: nothing of it is there afterwards."""

    def __init__(self, count: int, kind: str = "") -> None:
        self._delay_ms = self._jitter_ms = self._loss = 0.0
        self._cut: set[int] = set()
        self._folder = Path(tempfile.mkdtemp(prefix="h"))
        names = [namespaces.new_name() for _ in range(count)]
        self._hosts = [
            Host(number, f"10.77.0.{number}", f"fd77::{number}", self._folder / str(number), name)
            for number, name in enumerate(names, 1)
        ]
        self._names = names
        self.kind = kind or ("veth" if has_netem() else "tun")
        self._link: Link | None = None

    def __enter__(self) -> Hosts:
        namespaces.sweep()
        try:
            for name in self._names:
                subprocess.run(["ip", "netns", "add", name], check=True)
            self._link = Bridge(self._names, MTU) if self.kind == "veth" else Cable(self._names, MTU)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, place: Any) -> Any:
        return self._hosts[place]

    def __len__(self) -> int:
        return len(self._hosts)

    def set_delay(self, ms: float, jitter_ms: float = 0.0) -> None:
        """Let each packet take so long on its way, give or take."""
        self._delay_ms, self._jitter_ms = ms, jitter_ms
        self._tell()

    def set_loss(self, share: float) -> None:
        """Let so large a share of the packets be lost on each way."""
        self._loss = share
        self._tell()

    def partition(self, host: Host, is_cut: bool = True) -> None:
        """Let nothing reach or leave a host, or let it again."""
        (self._cut.add if is_cut else self._cut.discard)(host.number)
        self._tell()

    def _tell(self) -> None:
        assert self._link is not None
        self._link.set(self._delay_ms, self._jitter_ms, self._loss, sorted(self._cut))

    def leftovers(self) -> list[str]:
        """Return what is left on the hosts: processes, and the folders that runs make for their sockets and keys."""
        return leftovers(self)

    def close(self) -> None:
        """Remove everything."""
        for host in self._hosts:
            host.end()
        if self._link:
            self._link.close()
            self._link = None
        namespaces.remove([name for name in self._names if name in namespaces.mine()])
        shutil.rmtree(self._folder, ignore_errors=True)


def leftovers(hosts: Sequence[Host]) -> list[str]:
    """Return what is left on hosts: processes, and the folders that runs make for their sockets and keys."""
    found = [f"process {pid} on {host}" for host in hosts for pid in host.pids()]
    return found + [f"{path} on {host}" for host in hosts for path in host.folder.glob("timebox-*")]


@contextlib.contextmanager
def aliases(count: int) -> Iterator[list[Host]]:
    """Yield hosts that are addresses of the loopback, 127.0.0.2 and so on."""
    with tempfile.TemporaryDirectory(prefix="a") as folder:
        found = [Host(k, f"127.0.0.{k + 1}", "::1", Path(folder) / str(k)) for k in range(1, count + 1)]
        try:
            yield found
        finally:
            for host in found:
                host.end()


def why_no_aliases() -> str:
    """Return why this machine has no loopback addresses but one, or nothing."""
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.2", 0))
        except OSError:
            return "needs the whole of 127.0.0.0/8"
    return ""


_why: str | None = None
_has_netem: bool | None = None


def why_not() -> str:
    """Return why there can be no hosts here, or nothing: tried once, by making what they need."""
    global _why
    if _why is None:
        _why = _try()
    return _why


def _try() -> str:
    name = namespaces.new_name()
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    except OSError:
        return "needs network namespaces (root, iproute2)"
    if made.returncode:
        return "needs network namespaces (root, iproute2)"
    try:
        with namespaces.entered(name):
            pass
        if not has_netem():
            os.close(open_tun(name))
    except OSError as error:
        return "needs /dev/net/tun" if error.filename == "/dev/net/tun" else f"needs network namespaces ({error})"
    finally:
        namespaces.remove([name])
    return ""


def hosts_or_skip() -> None:
    """Skip a test where there can be no hosts."""
    if why := why_not():
        pytest.skip(why)


def has_netem() -> bool:
    """Whether the kernel delays packets itself."""
    global _has_netem
    if _has_netem is None:
        name = namespaces.new_name()
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
        words = ["ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
        tried = subprocess.run(words, capture_output=True, check=False)
        _has_netem = made.returncode == 0 == tried.returncode
        namespaces.remove([name])
    return _has_netem
