"""The edge: the only file that imports zmq. Frames in, frames out; who may say what is decided elsewhere.

    stage → stage       one PUSH, one connect, per directed edge; one PULL a stage, bound, that all of them reach
    launcher ↔ worker   ROUTER ↔ DEALER

The rules bound how many messages can be on an edge, and the high-water mark is above that, so a send does not wait
for its receiver. One that would is a fault of ours and says so. Sockets belong to the thread that made them.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Sequence
from pathlib import Path

import zmq

from .errors import ConfigError, RunError
from .frames import HEADER_BYTES, RECEIVE_ALIAS_BYTES, SEND_ALIAS_BYTES, Frame

#: How long a receiver sleeps at most before it looks at the control link, in milliseconds.
NAP_MS = 50
LINGER_MS = 2_000
#: How long a send may wait. It has no reason to; but libzmq looks for room that has become free at most every millisecond
#: or so, and a send that may not wait at all is refused in between (a small window at full speed shows it).
SEND_MS = 10_000
#: The high-water mark is a backstop, at least this high: libzmq tells a sender of freed room each time half of it has been
#: taken, and with a mark of a few messages that costs every hop a fifth of its time.
HIGH_WATER = 1_000
#: libzmq's version.
VERSION = zmq.zmq_version()


def endpoint(kind: str, folder: str, name: str, port: int) -> str:
    """Return where a socket binds: a file in the private folder, or a TCP port of the loopback (0: any free one)."""
    return f"ipc://{folder}/{name}" if kind == "ipc" else f"tcp://127.0.0.1:{port or '*'}"


def _bind(socket: zmq.Socket[bytes], address: str, key: str) -> str:
    """Bind and return the address to connect to; raises ConfigError for a port that is taken."""
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            why = "is in use" if error.errno == errno.EADDRINUSE else "is not allowed"
            raise ConfigError(f"{key}: {address} {why}; choose another port, or 0 for any free ones") from None
        raise ConfigError(f"{key}: cannot bind {address}: {error}") from None
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


class Links:
    """A stage's data sockets."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], most_waiting: int, most_bytes: int) -> None:
        self._context = context
        self._most_waiting = most_waiting
        self._has_large = most_bytes >= RECEIVE_ALIAS_BYTES
        self._pushes: dict[int, zmq.Socket[bytes]] = {}
        self.address = ""  # where others reach it, once it is bound
        self._pull = context.socket(zmq.PULL)
        self._pull.set_hwm(max(most_waiting, HIGH_WATER))
        self._pull.setsockopt(zmq.MAXMSGSIZE, max(most_bytes, HEADER_BYTES))
        self._pull.setsockopt(zmq.RCVTIMEO, NAP_MS)
        self._pull.setsockopt(zmq.LINGER, 0)

    def bind(self, address: str, key: str) -> str:
        """Bind the receiving socket and return where others reach it; raises ConfigError."""
        self.address = _bind(self._pull, address, key)
        return self.address

    def connect(self, target: int, address: str) -> None:
        """Open the edge to another stage."""
        push = self._context.socket(zmq.PUSH)
        push.set_hwm(max(self._most_waiting, HIGH_WATER))
        push.setsockopt(zmq.SNDTIMEO, SEND_MS)
        push.setsockopt(zmq.LINGER, LINGER_MS)
        push.connect(address)
        self._pushes[target] = push

    def disconnect_all(self) -> None:
        """Close all edges to others, with what has not left yet; what has come stays."""
        for push in self._pushes.values():
            push.close(0)
        self._pushes = {}

    def send(self, target: int, frames: Sequence[Frame]) -> None:
        """Send frames to another stage; raises RunError if the edge is full, which the rules exclude."""
        push = self._pushes[target]
        last = len(frames) - 1
        try:
            for place, frame in enumerate(frames):
                # A large array is not copied into the socket: what was sent is never written to again.
                size = frame.nbytes if isinstance(frame, memoryview) else len(frame)
                push.send(frame, 0 if place == last else zmq.SNDMORE, copy=size < SEND_ALIAS_BYTES)
        except zmq.Again:
            raise RunError(f"the edge to stage {target} is full: more messages than its credits allow") from None

    def receive(self, wait: bool) -> list[Frame] | None:
        """Return the next message's frames or None; with `wait`, after at most NAP_MS milliseconds."""
        pull = self._pull
        if not wait and not int(pull.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return None
        try:
            frames: list[Frame] = [pull.recv()]
        except zmq.Again:
            return None
        while pull.getsockopt(zmq.RCVMORE):
            frames.append(pull.recv(copy=False).buffer if self._has_large else pull.recv())
        return frames

    def poll(self, ms: int) -> None:
        """Wait until a message is there, or so many milliseconds."""
        self._pull.poll(ms)

    def close(self, linger_ms: int = LINGER_MS) -> None:
        """Close all sockets; what was sent last has `linger_ms` to leave."""
        for push in self._pushes.values():
            push.close(linger_ms)
        self._pull.close(0)


class ControlLink:
    """A worker's line to the launcher."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str, name: str) -> None:
        self._dealer = context.socket(zmq.DEALER)
        self._dealer.setsockopt_string(zmq.IDENTITY, name)
        self._dealer.setsockopt(zmq.LINGER, LINGER_MS)
        self._dealer.connect(address)

    def send(self, frame: bytes) -> None:
        """Say something; it is dropped if the launcher has been gone for long."""
        with contextlib.suppress(zmq.Again):
            self._dealer.send(frame, zmq.NOBLOCK)

    def receive(self, timeout_ms: int) -> bytes | None:
        """Return what the launcher said, or None after `timeout_ms`."""
        if not self._dealer.poll(timeout_ms):
            return None
        return b"".join(self._dealer.recv_multipart())

    def close(self, linger_ms: int = LINGER_MS) -> None:
        """Close the socket."""
        self._dealer.close(linger_ms)


class ControlServer:
    """The launcher's end of all control links."""

    def __init__(self, address: str, most_bytes: int) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 500)
        self._router.setsockopt(zmq.MAXMSGSIZE, most_bytes)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        try:
            self.address = _bind(self._router, address, "transport.port")
        except ConfigError:
            self._router.close(0)
            self._context.term()
            raise

    def send(self, name: str, frame: bytes) -> None:
        """Say something to a worker; one that is gone is passed over."""
        with contextlib.suppress(zmq.ZMQError):
            self._router.send_multipart([name.encode(), frame], zmq.NOBLOCK)

    def receive(self, timeout_ms: int) -> tuple[str, bytes] | None:
        """Return a worker's name and what it said, or None after `timeout_ms`."""
        if not self._router.poll(timeout_ms):
            return None
        parts = self._router.recv_multipart()
        if len(parts) != 2:
            return None
        return parts[0].decode(errors="replace"), parts[1]

    def close(self) -> None:
        """Close the socket; what was said last has half a second to leave."""
        self._router.close()
        self._context.term()


def make_context() -> zmq.Context[zmq.Socket[bytes]]:
    """Return a context for one process."""
    return zmq.Context()


def check_port_free(port: int) -> None:
    """Raise ConfigError if a TCP port of the loopback cannot be bound."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PULL)
    try:
        _bind(socket, f"tcp://127.0.0.1:{port}", "transport.port")
    finally:
        socket.close(0)
        context.term()


def remove_socket_folder(folder: Path) -> None:
    """Remove a run's private folder with whatever sockets are left in it."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
