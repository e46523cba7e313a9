"""The edge: who gets in with a key and who does not, edges that are closed and opened again, messages without an end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from pipeline import addresses, control, transport
from pipeline.errors import ConfigError
from pipeline.keys import Pair
from pipeline.transport import Gate, Links, make_context, make_pair

LOOPBACK = "tcp://127.0.0.1:*"


def take(links: Links, within_ms: int = 2_000) -> list[bytes] | None:
    """Return the next message."""
    for _ in range(within_ms // transport.NAP_MS):
        if (frames := links.receive(wait=True)) is not None:
            return [bytes(frame) for frame in frames]
    return None


class Member:
    """A process of a run, as far as its sockets go."""

    def __init__(self, pair: Pair | None, *, has_gate: bool = True, address: str = LOOPBACK) -> None:
        self.context = make_context()
        self.gate = Gate(self.context, pair if has_gate else None)
        self.links = Links(self.context, 4, 1_000, pair)
        self.address = self.links.bind(address, "test")

    def close(self) -> None:
        self.links.close(0)
        self.gate.close()
        self.context.destroy(linger=0)


@pytest.fixture
def pair() -> Pair:
    """A run's key pair."""
    return make_pair()


@pytest.fixture
def members(pair: Pair) -> Iterator[list[Member]]:
    """Two members of a run with keys; what is appended is closed as well."""
    found = [Member(pair), Member(pair)]
    yield found
    for member in found:
        member.close()


def stranger(member: Member, kind: int, client: Pair | None, server: bytes | None) -> zmq.Socket[bytes]:
    """Return a socket in a member's context, but with keys of its own."""
    made = member.context.socket(kind)
    made.setsockopt(zmq.LINGER, 0)
    made.setsockopt(zmq.SNDTIMEO, 100)
    if client and server:
        made.setsockopt(zmq.CURVE_SERVERKEY, server)
        made.setsockopt(zmq.CURVE_PUBLICKEY, client.public)
        made.setsockopt(zmq.CURVE_SECRETKEY, client.private)
    return made


def test_members_of_a_run_reach_each_other(members: list[Member]) -> None:
    one, other = members
    one.links.connect(2, other.address)
    one.links.send(2, [b"header", b"x" * 1_000])
    assert take(other.links) == [b"header", b"x" * 1_000]
    assert other.gate.refused == 0


@pytest.mark.parametrize("who", ["no key", "wrong key", "another run's key", "the public keys alone"])
def test_who_has_not_the_key_gets_nothing_in(who: str, members: list[Member], pair: Pair) -> None:
    one, other = members
    own = make_pair()
    keys = {
        "no key": (None, None),
        "wrong key": (own, own.public),  # takes itself for the server
        "another run's key": (own, pair.public),  # knows whom it talks to
        "the public keys alone": (Pair(pair.public, own.private), pair.public),
    }[who]
    outside = Member(None)
    members.append(outside)
    end = stranger(outside, zmq.PUSH, *keys)
    end.connect(other.address)
    for _ in range(3):
        end.send_multipart([b"header", b"a stranger's"])
    assert take(other.links, 500) is None
    assert (other.gate.refused > 0) == (who == "another run's key"), "only with a key does one get as far as the gate"
    one.links.connect(2, other.address)
    one.links.send(2, [b"header", b"a member's"])
    assert take(other.links) == [b"header", b"a member's"]


@pytest.mark.parametrize("who", ["no key", "another run's key", "the public keys alone"])
def test_who_pretends_to_be_a_stage_receives_nothing(who: str, members: list[Member], pair: Pair) -> None:
    own = make_pair()
    false = {"no key": None, "another run's key": own, "the public keys alone": Pair(pair.public, own.private)}[who]
    outside = Member(false)
    members.append(outside)
    members[0].links.connect(2, outside.address)
    members[0].links.send(2, [b"header", b"a secret"])
    assert take(outside.links, 500) is None


def test_without_its_gate_a_socket_with_a_key_admits_nobody(members: list[Member], pair: Pair) -> None:
    """Where no handler answers, ZeroMQ admits whoever has any key, unless it is told not to."""
    ungated = Member(pair, has_gate=False)
    members.append(ungated)
    members[0].links.connect(2, ungated.address)
    members[0].links.send(2, [b"header"])
    assert take(ungated.links, 500) is None


def test_the_launchers_socket_hears_members_alone(members: list[Member], pair: Pair) -> None:
    lines = [control.Line(b"s" * 32, "box-1", is_launcher=end) for end in (True, False)]
    server = transport.ControlServer(LOOPBACK, control.MOST_BYTES, lines[:1], pair)
    try:
        for keys in ((None, None), (make_pair(), pair.public)):
            end = stranger(members[0], zmq.DEALER, *keys)
            end.setsockopt(zmq.IDENTITY, lines[1].identity)
            end.connect(server.address)
            end.send(lines[1].seal(control.encode("ready")))  # even with the secret
        assert server.receive(500) is None
        link = transport.ControlLink(members[0].context, server.address, lines[1], pair)
        link.send(control.encode("ready"))
        assert server.receive(2_000) == ("box-1", control.encode("ready"))
        server.send("box-1", control.encode("go"))
        assert link.receive(2_000) == control.encode("go")
        link.close(0)
    finally:
        server.close(0)


def test_edges_are_closed_and_opened_again_while_the_receiver_stays(members: list[Member]) -> None:
    one, other = members
    for epoch in range(3):
        one.links.connect(2, other.address)
        one.links.send(2, [b"%d" % epoch])
        assert take(other.links) == [b"%d" % epoch]
        one.links.disconnect_all()
        with pytest.raises(KeyError):
            one.links.send(2, [b"to nobody"])
    assert take(other.links, 100) is None


@pytest.mark.parametrize("most_bytes", [1_000, 1 << 16])
def test_of_a_message_without_an_end_a_handful_of_frames_is_kept(most_bytes: int) -> None:
    context = make_context()
    links = Links(context, 4, most_bytes)
    push = context.socket(zmq.PUSH)
    push.connect(links.bind(LOOPBACK, "test"))
    push.send_multipart([b"x"] * 5_000)
    push.send_multipart([b"next", b"one"])
    assert take(links) == [b"x"] * transport.MOST_FRAMES
    assert take(links) == [b"next", b"one"]
    links.close(0)
    context.destroy(linger=0)


# Addresses


def test_only_this_machine_reaches_the_loopback() -> None:
    for interface in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert addresses.is_loopback(interface)
    for interface in ("0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "fe80::1%eth0"):
        assert not addresses.is_loopback(interface)


def test_what_is_told_of_a_socket_can_be_reached() -> None:
    assert addresses.tcp("127.0.0.1", 7) == addresses.reachable("tcp://127.0.0.1:7") == "tcp://127.0.0.1:7"
    assert addresses.tcp("::1", "*") == "tcp://[::1]:*"
    assert addresses.reachable("ipc:///tmp/x") == "ipc:///tmp/x"
    for bound in ("tcp://0.0.0.0:7", "tcp://[::]:7"):
        told = addresses.reachable(bound)
        assert told.endswith(":7")
        assert "0.0.0.0" not in told
        assert "[::]" not in told
    context = make_context()
    links = Links(context, 4, 100)
    links.connect(2, links.bind(addresses.endpoint("tcp", "", "x", 0, "0.0.0.0"), "test"))
    links.send(2, [b"over the outside"])
    assert take(links) == [b"over the outside"]
    links.close(0)
    context.destroy(linger=0)


@pytest.mark.parametrize("interface", ["no.such.name.invalid", "1.2.3", "::1::", "a b", "*"])
def test_an_interface_that_is_none_is_refused(interface: str) -> None:
    with pytest.raises(ConfigError, match=r"transport\.interface: .*"):
        transport.check_port_free(0, interface)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"transport\.interface: tcp://198\.51\.100\.1:\S+ is no address of this machine"
    ):
        transport.check_port_free(0, "198.51.100.1")
