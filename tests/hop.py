"""How long a message takes from one host to another: by echo over the sockets that stages have. A program.

    python hop.py echo OWN PEER BYTES              sends back what comes, until its standard input ends
    python hop.py ask OWN PEER BYTES COUNT         prints the seconds of one way (half of there and back) as a JSON list

OWN and PEER are addresses as ZeroMQ writes them. The hosts' clocks need not agree: there and back is one clock's.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time

from hosts import Host

from pipeline import addresses
from pipeline.transport import Links, make_context

#: Asked before it counts: connecting, and caches.
WARM_UP = 5


def measure_hop(one: Host, other: Host, size: int, count: int = 200) -> list[float]:
    """Return, for `count` messages of `size` bytes from one host to another and back, half of the seconds that each took."""
    places = [addresses.tcp(host.address, _free_port(host)) for host in (one, other)]
    echo = other.python(__file__, "echo", places[1], places[0], str(size), stdin=subprocess.PIPE)
    ask = one.python(__file__, "ask", *places, str(size), str(count), stdout=subprocess.PIPE, text=True)
    printed, _ = ask.communicate(timeout=60)
    echo.communicate(timeout=10)
    assert ask.returncode == echo.returncode == 0
    found: list[float] = json.loads(printed)
    return found


def _free_port(host: Host) -> int:
    with host.entered(), socket.socket() as tried:
        tried.bind((host.address, 0))
        port: int = tried.getsockname()[1]
    return port


def main(words: list[str]) -> None:
    """Echo or ask."""
    kind, own, peer, size, *count = words
    with make_context() as context:
        links = Links(context, 4, int(size))
        links.bind(own, "hop")
        links.connect(1, peer)
        if kind == "ask":
            print(json.dumps(_ask(links, int(size), int(count[0]))))
        else:
            _echo(links)
        links.close(0)


def _ask(links: Links, size: int, count: int) -> list[float]:
    frames = [b"header", os.urandom(size)]
    found = []
    for _ in range(WARM_UP + count):
        began = time.perf_counter()
        links.send(1, frames)
        while links.receive(wait=True) is None:
            pass
        found.append((time.perf_counter() - began) / 2)
    return found[WARM_UP:]


def _echo(links: Links) -> None:
    while True:
        frames = links.receive(wait=True)
        if frames is not None:
            links.send(1, frames)
        elif select.select([0], [], [], 0)[0] and not os.read(0, 1):
            return


if __name__ == "__main__":
    main(sys.argv[1:])
