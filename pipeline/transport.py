"""The edge: the only file that imports zmq. Frames in, frames out; who may say what is decided elsewhere.

    stage → stage       one PUSH, one connect, per directed edge; one PULL a stage, bound, that all of them reach
    launcher ↔ worker   ROUTER ↔ DEALER

The rules bound how many messages can be on an edge, and the high-water mark is above that, so a send does not wait
for its receiver. One that would is a fault of ours and says so. Sockets belong to the thread that made them.

With a key pair all of them speak CurveZMQ. All processes of a run have the same pair, and a socket that is bound admits its
public key alone, which only they know: to require a key and to take any would encrypt and keep nobody out.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Sequence

import zmq

from . import addresses, control
from .errors import ConfigError, RunError
from .frames import HEADER_BYTES, MOST_ARRAYS, RECEIVE_ALIAS_BYTES, SEND_ALIAS_BYTES, Frame
from .keys import Pair
from .strangers import Strangers

#: How long a receiver sleeps at most before it looks at the control link, in milliseconds.
NAP_MS = 50
LINGER_MS = 2_000
#: How long a send may wait. It has no reason to; but libzmq looks for room that has become free at most every millisecond
#: or so, and a send that may not wait at all is refused in between (a small window at full speed shows it).
SEND_MS = 10_000
#: The high-water mark is a backstop, at least this high: libzmq tells a sender of freed room each time half of it has been
#: taken, and with a mark of a few messages that costs every hop a fifth of its time.
HIGH_WATER = 1_000
#: Frames of one message that are kept: header, arrays, a stamp, and one that shows that there are more.
MOST_FRAMES = MOST_ARRAYS + 3
#: Strangers' words that the launcher passes over before it looks at anything else.
MOST_DROPPED = 256
#: What CurveZMQ adds to a frame on its way, and more.
CURVE_BYTES = 128
_DOMAIN = b"timebox"
#: libzmq's version.
VERSION = zmq.zmq_version()


def make_pair() -> Pair:
    """Return a new CurveZMQ key pair; raises ConfigError where libzmq was built without."""
    try:
        return Pair(*zmq.curve_keypair())
    except zmq.ZMQError:
        raise ConfigError("transport.curve: libzmq was built without CurveZMQ here; install pyzmq's wheel") from None


class Gate:
    """Admits to a context's bound sockets who has the run's key, and counts who has another one: a thread, if there is a key.

    It has to be there before a socket of the context is bound; where it is not, such a socket admits nobody.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], pair: Pair | None) -> None:
        self.refused = 0
        self._pair = pair
        if pair is not None:
            from zmq.auth.thread import ThreadAuthenticator  # it imports asyncio, which other runs do not need

            self._thread = ThreadAuthenticator(context)
            self._thread.start()
            self._thread.configure_curve_callback(_DOMAIN.decode(), self)

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002
        """Whether to admit who has a public key. ZeroMQ has made sure that it has the private one, too."""
        is_ours = self._pair is not None and key == self._pair.public
        self.refused += not is_ours
        return is_ours

    def close(self) -> None:
        """End the thread, before its context."""
        if self._pair is not None:
            self._thread.stop()


def _guard(socket: zmq.Socket[bytes], pair: Pair | None) -> None:
    """Let a socket that will be bound admit nobody without the run's key."""
    if pair is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, pair.private)
        socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def _connect(socket: zmq.Socket[bytes], address: str, pair: Pair | None) -> None:
    """Connect a socket, to nobody without the run's key where there is one."""
    if pair is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, pair.public)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, pair.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, pair.private)
    socket.setsockopt(zmq.IPV6, "[" in address)
    socket.connect(address)


def _bind(socket: zmq.Socket[bytes], address: str, key: str) -> str:
    """Bind and return the address to connect to; raises ConfigError for a port that is taken."""
    try:
        socket.setsockopt(zmq.IPV6, "[" in address)
        socket.bind(address)
    except zmq.ZMQError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            why = "is in use" if error.errno == errno.EADDRINUSE else "is not allowed"
            raise ConfigError(f"{key}: {address} {why}; choose another port, or 0 for any free ones") from None
        if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV):
            raise ConfigError(f"transport.interface: {address} is no address of this machine") from None
        raise ConfigError(f"{key}: cannot bind {address}: {error}") from None
    return addresses.reachable(socket.getsockopt_string(zmq.LAST_ENDPOINT))


class Links:
    """A stage's data sockets."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], most_waiting: int, most_bytes: int, pair: Pair | None = None
    ) -> None:
        self._context = context
        self._pair = pair
        self._most_waiting = most_waiting
        self._has_large = most_bytes >= RECEIVE_ALIAS_BYTES
        self._pushes: dict[int, zmq.Socket[bytes]] = {}
        self.address = ""  # where others reach it, once it is bound
        self._pull = context.socket(zmq.PULL)
        self._pull.set_hwm(max(most_waiting, HIGH_WATER))
        self._pull.setsockopt(zmq.MAXMSGSIZE, max(most_bytes, HEADER_BYTES) + (CURVE_BYTES if pair else 0))
        _guard(self._pull, pair)
        self._pull.setsockopt(zmq.RCVTIMEO, NAP_MS)
        self._pull.setsockopt(zmq.LINGER, 0)

    def bind(self, address: str, key: str) -> str:
        """Bind the receiving socket and return where others reach it; raises ConfigError."""
        self.address = _bind(self._pull, address, key)
        return self.address

    def connect(self, target: int, address: str) -> None:
        """Open the edge to another stage, which has none."""
        push = self._context.socket(zmq.PUSH)
        push.set_hwm(max(self._most_waiting, HIGH_WATER))
        push.setsockopt(zmq.SNDTIMEO, SEND_MS)
        push.setsockopt(zmq.LINGER, LINGER_MS)
        _connect(push, address, self._pair)
        self._pushes[target] = push

    def disconnect_all(self) -> None:
        """Close the edges to other stages at once, whatever is still on them; who sends to us still can."""
        for push in self._pushes.values():
            push.close(0)
        self._pushes.clear()

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
            frame = pull.recv(copy=False).buffer if self._has_large else pull.recv()
            if len(frames) < MOST_FRAMES:  # nobody's message has more; what a stranger's has is not kept
                frames.append(frame)
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
    """A worker's line to the launcher, or an agent's."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], address: str, line: control.Line, pair: Pair | None = None
    ) -> None:
        self._line = line
        self._dealer = context.socket(zmq.DEALER)
        self._dealer.setsockopt(zmq.IDENTITY, line.identity)
        self._dealer.setsockopt(zmq.LINGER, LINGER_MS)
        _connect(self._dealer, address, pair)

    def send(self, frame: bytes) -> bool:
        """Say something; return whether there was room for it: there is none if the launcher has taken nothing for long."""
        try:
            self._dealer.send(self._line.seal(frame), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self, timeout_ms: int) -> bytes | None:
        """Return what the launcher said, or None after `timeout_ms` or for what is not the launcher's."""
        if not self._dealer.poll(timeout_ms):
            return None
        return self._line.open(b"".join(_parts(self._dealer)))

    def close(self, linger_ms: int = LINGER_MS) -> None:
        """Close the socket."""
        self._dealer.close(linger_ms)


class ControlServer:
    """The launcher's end of all control links."""

    def __init__(
        self,
        address: str,
        most_bytes: int,
        lines: Iterable[control.Line] = (),
        pair: Pair | None = None,
        strangers: Strangers | None = None,
    ) -> None:
        self._lines = {line.identity: line for line in lines}
        self._names = {line.name: line for line in self._lines.values()}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._gate = Gate(self._context, pair)
        self._strangers = strangers or Strangers()  # who have no line
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 500)
        self._router.setsockopt(zmq.MAXMSGSIZE, most_bytes + control.TAG + CURVE_BYTES)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._router.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a worker that was restarted is the one to talk to
        _guard(self._router, pair)
        try:
            self.address = _bind(self._router, address, "transport.port")
        except ConfigError:
            self.close(0)
            raise

    def send(self, name: str, frame: bytes, instance: str = "") -> None:
        """Say something to a worker, or to an instance of an agent; one that is gone is passed over."""
        line = self._names[name]
        with contextlib.suppress(zmq.ZMQError):
            self._router.send_multipart([line.at(instance), line.seal(frame)], zmq.NOBLOCK)

    def receive(self, timeout_ms: int) -> tuple[str, bytes] | None:
        """Return a worker's name and what it said, or None after `timeout_ms` or after many strangers' words."""
        for _ in range(MOST_DROPPED):
            if not self._router.poll(timeout_ms):
                return None
            identity, *parts = _parts(self._router)
            line = self._lines.get(control.line_of(identity))
            if line is None:
                self._strangers.add("a word from nobody of this run was dropped")
            elif (frame := line.open(b"".join(parts))) is not None:
                return line.name, frame
            timeout_ms = 0
        return None

    def close(self, linger_ms: int = 500) -> None:
        """Close the socket, and tell who was sent away; what was said last has half a second to leave."""
        self._strangers.sum_up(self._gate.refused)
        self._router.close(linger_ms)
        self._gate.close()
        self._context.term()


def _parts(socket: zmq.Socket[bytes]) -> list[bytes]:
    """Return the first frames of the message that is there, and drop what comes behind them: nobody says so much."""
    parts = [socket.recv()]
    while socket.getsockopt(zmq.RCVMORE):
        part = socket.recv()
        if len(parts) < 3:
            parts.append(part)
    return parts


def make_context() -> zmq.Context[zmq.Socket[bytes]]:
    """Return a context for one process."""
    return zmq.Context()


def check_port_free(port: int, interface: str = "127.0.0.1") -> None:
    """Raise ConfigError if a TCP port of an interface cannot be bound."""
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        _bind(socket, addresses.tcp(interface, port), "transport.port")
