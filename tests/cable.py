"""The network between hosts where the kernel has no netem: a process that passes packets, later or never. A program.

    host 1's kernel ↔ TUN device ↔ this process ↔ TUN device ↔ host 2's kernel        (as many as there are)

It makes a TUN device in each namespace; what a kernel sends into its device is read here, and written into the device of the
host that has the packet's target address, when it is due. So a delay, jitter, a loss, a partition are a number each, and can
change at any time. Told by lines of JSON at its standard input, each of which is answered by `ok`:

    {"delay_ms": 10, "jitter_ms": 1, "loss": 0.01, "cut": [2]}

Delay and loss are those of one way. What is on its way when a host is cut off is lost; what is sent meanwhile, too. With the
input's end, which comes also when its parent is killed, it removes the namespaces and whatever runs in them, and ends.

    python cable.py MTU NAME …      the namespaces' names, in the order of the hosts' last figures
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import heapq
import json
import os
import random
import select
import signal
import struct
import sys
import time

import namespaces

DEVICE = "tun0"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_MOST_BYTES = 65_536
#: Packets of one device before the others have their turn.
_MOST_AT_ONCE = 32
#: A wire's buffer: what is on its way beyond that is lost, as in a switch.
_MOST_WAITING = 100_000


def open_tun(namespace: str) -> int:
    """Make a TUN device in a namespace; it lives as long as what is returned is open."""
    with namespaces.entered(namespace):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    return device


def target(packet: bytes) -> int:
    """Return the number of the host that a packet is for, or 0 for nobody (multicast, for instance)."""
    if packet[0] >> 4 == 4:
        return packet[19] if packet[16] == 10 else 0
    return packet[39] if packet[24] == 0xFD else 0


class Cable:
    """What is between the hosts, and what is on its way."""

    def __init__(self, devices: list[int]) -> None:
        self.devices = devices
        self.delay = self.jitter = self.loss = 0.0
        self.cut: set[int] = set()
        self.waiting: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self._rng = random.Random("cable")

    def tell(self, line: str) -> None:
        """Take over what a line says."""
        said = json.loads(line)
        self.delay, self.jitter = said["delay_ms"] / 1e3, said["jitter_ms"] / 1e3
        self.loss, self.cut = said["loss"], set(said["cut"])

    def take(self, source: int) -> None:
        """Take in what a host has sent."""
        device = self.devices[source - 1]
        for _ in range(_MOST_AT_ONCE):
            try:
                packet = os.read(device, _MOST_BYTES)
            except BlockingIOError:
                return
            number = target(packet)
            if not 0 < number <= len(self.devices) or self.cut & {source, number}:
                continue
            if self.loss and self._rng.random() < self.loss:
                continue
            if not (self.delay or self.jitter or self.waiting):
                self.give(number, packet)
            elif len(self.waiting) < _MOST_WAITING:
                self._count += 1
                late = self.delay + (self._rng.uniform(-self.jitter, self.jitter) if self.jitter else 0.0)
                heapq.heappush(self.waiting, (time.monotonic() + late, self._count, number, packet))

    def give(self, number: int, packet: bytes) -> None:
        """Let a packet arrive. A device that is down or full loses it: that is what the network above is made for."""
        if number not in self.cut:
            with contextlib.suppress(OSError):
                os.write(self.devices[number - 1], packet)

    def give_due(self) -> float | None:
        """Let arrive what is due, and return the seconds to the next, or None."""
        while self.waiting:
            left = self.waiting[0][0] - time.monotonic()
            if left > 0:
                return left
            _, _, number, packet = heapq.heappop(self.waiting)
            self.give(number, packet)
        return None


def run(cable: Cable) -> None:
    """Pass packets until the input ends."""
    numbers = {device: number for number, device in enumerate(cable.devices, 1)}
    told = b""
    while True:
        # select counts in microseconds, epoll and poll in milliseconds, which is more than some delays.
        for ready in select.select([*cable.devices, 0], [], [], cable.give_due())[0]:
            if ready:
                cable.take(numbers[ready])
                continue
            if not (more := os.read(0, 65_536)):
                return
            *lines, told = (told + more).split(b"\n")
            for line in lines:
                cable.tell(line.decode())
                os.write(1, b"ok\n")


def main(words: list[str]) -> None:
    """Make the devices, say `ok`, and pass packets."""
    mtu, *names = words
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which then end this
    try:
        devices = [open_tun(name) for name in names]
        for number, name in enumerate(names, 1):
            namespaces.ip(
                "link set lo up",
                f"link set {DEVICE} mtu {mtu} txqueuelen 10000",
                f"addr add 10.77.0.{number}/24 dev {DEVICE}",
                f"addr add fd77::{number}/64 dev {DEVICE} nodad",
                f"link set {DEVICE} up",
                # Nobody is outside, but a host that looks for its address towards the outside has to find one.
                f"route add default dev {DEVICE}",
                f"route add ::/0 dev {DEVICE}",
                namespace=name,
            )
        # A wire does not wait for a processor.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
        gc.disable()
        os.write(1, b"ok\n")
        run(Cable(devices))
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        namespaces.remove(names)


if __name__ == "__main__":
    main(sys.argv[1:])
