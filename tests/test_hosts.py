"""The hosts that other tests stand on: their network is as slow, as lossy and as cut as it is told to be, and no more."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import namespaces
import pytest
from hosts import Host, Hosts, hosts_or_skip

pytestmark = pytest.mark.live


def socket_at(host: Host, kind: int = socket.SOCK_DGRAM, address: str = "") -> socket.socket:
    """Return a bound socket of this process on a host."""
    address = address or host.address
    with host.entered():
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    made.bind((address, 0))
    made.settimeout(10)
    return made


@contextlib.contextmanager
def answering(end: socket.socket) -> Iterator[None]:
    """Echo datagrams until the block ends."""
    is_over = threading.Event()

    def answer() -> None:
        end.settimeout(0.2)
        while not is_over.is_set():
            with contextlib.suppress(TimeoutError):
                data, who = end.recvfrom(65_536)
                end.sendto(data, who)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def round_trips(one: socket.socket, other: socket.socket, count: int) -> list[float]:
    """Return the seconds there and back of datagrams, None of which may be lost."""
    found = []
    with answering(other):
        for _ in range(count):
            began = time.perf_counter()
            one.sendto(b"?" * 64, other.getsockname())
            one.recv(100)
            found.append(time.perf_counter() - began)
    return found


def connected(one: Host, other: Host) -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection between hosts."""
    with socket_at(other, socket.SOCK_STREAM) as waiting:
        waiting.listen()
        near = socket_at(one, socket.SOCK_STREAM)
        near.connect(waiting.getsockname())
        far, _ = waiting.accept()
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    far.settimeout(20)
    return near, far


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("ms", [0, 1, 10, 50])
def test_a_packet_takes_as_long_as_it_is_told_to(ms: int, family: int, hosts: Hosts) -> None:
    hosts.set_delay(ms)
    one, other = (socket_at(host, address=host.address6 if family == 6 else "") for host in hosts[:2])
    with one, other:
        took = [1e3 * each for each in round_trips(one, other, 20)]
    print(f"{ms} ms, IPv{family}: there and back {statistics.median(took):.2f} ms, {min(took):.2f} to {max(took):.2f}")
    assert min(took) >= 2 * ms
    assert statistics.median(took) <= 2 * ms + 2


def test_the_network_passes_enough_packets_and_adds_little(hosts: Hosts) -> None:
    one, other = map(socket_at, hosts[:2])
    other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
    sent, size, arrived = 20_000, 1_000, 0
    with one, other:
        own = statistics.median(round_trips(one, other, 300)) / 2
        other.settimeout(0.5)

        def send() -> None:
            for place in range(sent):
                one.sendto(b"x" * size, other.getsockname())
                if place % 20 == 0:  # at most 20,000 a second or so
                    time.sleep(0.001)

        thread = threading.Thread(target=send)
        thread.start()
        began = last = time.perf_counter()
        with contextlib.suppress(TimeoutError):
            while arrived < sent:
                other.recv(2_000)
                arrived, last = arrived + 1, time.perf_counter()
        thread.join()
    rate = arrived / (last - began)
    print(f"{hosts.kind}: {1e3 * own:.3f} ms one way, {rate:.0f} packets a second, {arrived} of {sent} arrived")
    assert own < 0.002
    assert rate > 3_000
    assert arrived > 0.9 * sent


def test_a_share_of_the_packets_is_lost_and_tcp_loses_nothing(hosts: Hosts) -> None:
    hosts.set_loss(0.2)
    one, other = map(socket_at, hosts[:2])
    with one, other:
        arrived = 0
        other.settimeout(0.3)
        for _ in range(5):
            for _ in range(100):  # more at once may not have room in the receiving socket
                one.sendto(b"?", other.getsockname())
            with contextlib.suppress(TimeoutError):
                while other.recv(10):
                    arrived += 1
    assert 340 < arrived < 460
    hosts.set_loss(0.02)
    near, far = connected(*hosts[:2])
    data = os.urandom(500_000)
    with near, far:
        thread = threading.Thread(target=near.sendall, args=(data,))
        thread.start()
        got = b""
        while len(got) < len(data):
            got += far.recv(65_536)
        thread.join()
    assert got == data


def test_a_connection_outlives_a_partition(hosts: Hosts) -> None:
    near, far = connected(*hosts[:2])
    with near, far:
        near.sendall(b"before")
        assert far.recv(100) == b"before"
        hosts.partition(hosts[1])
        near.sendall(b"meanwhile")
        far.settimeout(2)
        with pytest.raises(TimeoutError):
            far.recv(100)
        hosts.partition(hosts[1], False)
        far.settimeout(10)
        assert far.recv(100) == b"meanwhile"
        far.sendall(b"and back")
        assert near.recv(100) == b"and back"


def test_who_is_not_cut_off_still_talks(hosts: Hosts) -> None:
    hosts.partition(hosts[2])
    one, other, third = map(socket_at, hosts)
    with one, other, third:
        assert round_trips(one, other, 3)
        third.sendto(b"?", one.getsockname())
        one.settimeout(0.3)
        with pytest.raises(TimeoutError):
            one.recv(10)


def test_the_kernels_own_network_is_cut_and_joined() -> None:
    hosts_or_skip()
    with Hosts(3, "veth") as hosts:
        for address in ("address", "address6"):
            one, other = (socket_at(host, address=getattr(host, address)) for host in hosts[:2])
            with one, other:
                assert round_trips(one, other, 20)
                hosts.partition(hosts[1])
                one.sendto(b"?", other.getsockname())
                other.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    other.recv(10)
                hosts.partition(hosts[1], False)
                assert round_trips(one, other, 20)
        near, far = connected(*hosts[:2])
        with near, far:
            hosts.partition(hosts[1])
            near.sendall(b"meanwhile")
            time.sleep(0.5)
            hosts.partition(hosts[1], False)
            assert far.recv(100) == b"meanwhile"


def test_a_host_finds_its_address_towards_the_outside(hosts: Hosts) -> None:
    code = "from pipeline.addresses import reachable as r; print(r('tcp://0.0.0.0:1'), r('tcp://[::]:1'))"
    said = hosts[1].python("-c", code, stdout=subprocess.PIPE, text=True).communicate()[0]
    assert said.split() == ["tcp://10.77.0.2:1", "tcp://[fd77::2]:1"]


# What is left


def test_hosts_keep_their_temporary_files_and_processes_apart(hosts: Hosts) -> None:
    code = "import os, tempfile; print(tempfile.gettempdir(), os.getpid() == os.getpgid(0))"
    said = [host.python("-c", code, stdout=subprocess.PIPE, text=True).communicate()[0].split() for host in hosts]
    assert said == [[str(host.folder), "True"] for host in hosts]
    sleeper = hosts[1].run(["sleep", "60"])
    assert hosts[1].pids() == [sleeper.pid]
    assert hosts[0].pids() == []
    assert hosts.leftovers() == [f"process {sleeper.pid} on {hosts[1]}"]


def test_nothing_is_left_of_hosts_whose_test_has_failed() -> None:
    hosts_or_skip()
    seen = []

    def fail() -> None:
        with Hosts(2) as hosts:
            seen.append((hosts[1].run(["sh", "-c", "setsid sleep 60 & sleep 60"]), hosts[0].folder))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    ((sleeper, folder),) = seen
    assert sleeper.returncode is not None
    assert namespaces.mine() == []
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_nothing_is_left_of_hosts_whose_session_has_ended(number: signal.Signals) -> None:
    hosts_or_skip()
    code = (
        "import time; from hosts import Hosts\n"
        "with Hosts(2) as hosts:\n    hosts[1].run(['sleep', '60']); print('up', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen(
        words, cwd=Path(__file__).parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as session:
        assert session.stdout
        assert session.stdout.readline() == b"up\n"
        left = list(namespaces.PLACE.glob(f"tbh-{session.pid}-*"))
        assert len(left) >= 2
        session.send_signal(number)
    deadline = time.monotonic() + 10
    while any(path.exists() for path in left) and time.monotonic() < deadline:
        namespaces.sweep()  # what the next session does
        time.sleep(0.05)
    assert not any(path.exists() for path in left)
