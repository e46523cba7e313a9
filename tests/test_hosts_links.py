"""The sockets of runs between hosts: over IPv4 and IPv6, with keys, through a partition, and how long a hop takes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import pytest
import zmq
from hop import measure_hop
from hosts import Host, Hosts
from test_transport import Member, take

from pipeline import addresses
from pipeline.keys import Pair
from pipeline.transport import make_pair

pytestmark = pytest.mark.live


@pytest.fixture
def member() -> Iterator[Callable[..., Member]]:
    """Make members of a run on hosts; ZeroMQ's threads and sockets are where the thread was that made them."""
    made: list[Member] = []

    def make(host: Host, pair: Pair | None, address: str = "") -> Member:
        with host.entered():
            made.append(Member(pair, address=addresses.tcp(address or host.address, "*")))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("family", [4, 6])
def test_stages_on_two_hosts_reach_each_other(family: int, hosts: Hosts, member: Callable[..., Member]) -> None:
    pair = make_pair()
    one, other = (member(host, pair, host.address6 if family == 6 else "") for host in hosts[:2])
    one.links.connect(2, other.address)
    one.links.send(2, [b"header", b"x" * 1_000])
    assert take(other.links, 5_000) == [b"header", b"x" * 1_000]
    assert other.gate.refused == 0


def test_messages_of_a_partition_arrive_after_it_in_order(hosts: Hosts, member: Callable[..., Member]) -> None:
    pair = make_pair()
    one, other = (member(host, pair) for host in hosts[:2])
    one.links.connect(2, other.address)
    one.links.send(2, [b"0"])
    assert take(other.links, 5_000) == [b"0"]
    hosts.partition(hosts[1])
    for number in range(1, 200):
        one.links.send(2, [b"%d" % number, b"x" * 900])
    assert take(other.links, 2_000) is None
    hosts.partition(hosts[1], False)
    assert [take(other.links, 10_000) for _ in range(1, 200)] == [[b"%d" % n, b"x" * 900] for n in range(1, 200)]


@pytest.mark.parametrize("who", ["no key", "another run's key"])
def test_from_another_host_without_the_key_nothing_comes_in(
    who: str, hosts: Hosts, member: Callable[..., Member]
) -> None:
    pair = make_pair()
    one, other = (member(host, pair) for host in hosts[:2])
    own = make_pair() if who == "another run's key" else None
    outside = member(hosts[2], own)
    with hosts[2].entered():
        end = outside.context.socket(zmq.PUSH)
        end.setsockopt(zmq.SNDTIMEO, 300)
        if own:
            end.setsockopt(zmq.CURVE_SERVERKEY, pair.public)
            end.setsockopt(zmq.CURVE_PUBLICKEY, own.public)
            end.setsockopt(zmq.CURVE_SECRETKEY, own.private)
        end.connect(other.address)
        end.send_multipart([b"header", b"a stranger's"])
    assert take(other.links, 1_000) is None
    assert (other.gate.refused > 0) == (own is not None)
    one.links.connect(2, other.address)
    one.links.send(2, [b"a member's"])
    assert take(other.links, 5_000) == [b"a member's"]
    end.close(0)


@pytest.mark.parametrize("ms", [0, 1, 10, 50])
def test_a_hop_is_measured_as_a_run_has_it(ms: int, hosts: Hosts) -> None:
    hosts.set_delay(ms)
    for _ in range(3):  # others use this machine, too
        hops = [1e3 * each for each in measure_hop(hosts[0], hosts[1], 8_192, 20)]
        print(f"{ms} ms: a hop of 8 kB takes {statistics.median(hops):.2f} ms, {min(hops):.2f} to {max(hops):.2f}")
        assert min(hops) >= ms
        if statistics.median(hops) <= ms + 3:
            break
    assert statistics.median(hops) <= ms + 3


def test_aliases_are_hosts_to_look_at(aliases: list[Host]) -> None:
    assert [host.address for host in aliases] == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    hops = measure_hop(aliases[0], aliases[2], 1_000, 20)
    assert 0 < statistics.median(hops) < 0.05
