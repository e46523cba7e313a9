"""Which addresses TCP sockets bind to, who reaches them, and what to tell those who are to connect."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from .errors import ConfigError

#: Where a machine would send what is for afar; nothing is sent to it (RFC 5737 and RFC 3849: for documentation).
_AFAR = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
#: The interface's name for: by which this machine reaches the others.
AUTO = "auto"


def resolve(interface: str) -> str:
    """Return the address, in figures, of an address or a name of this machine; raises ConfigError."""
    if interface == AUTO:
        return _own_address(socket.AF_INET)
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(interface))
    try:
        found = socket.getaddrinfo(interface, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"transport.interface: {interface!r} is neither an address nor a name that is known here ({error}); "
            "127.0.0.1 is this machine alone, 0.0.0.0 all its interfaces"
        ) from None
    return str(found[0][4][0])


def is_loopback(interface: str) -> bool:
    """Whether nobody but this machine reaches an interface; raises ConfigError for one that is not known."""
    return ipaddress.ip_address(resolve(interface).partition("%")[0]).is_loopback


def tcp(interface: str, port: int | str) -> str:
    """Return the address of a TCP port of an interface, as ZeroMQ writes it; raises ConfigError."""
    found = resolve(interface)
    return f"tcp://[{found}]:{port}" if ":" in found else f"tcp://{found}:{port}"


def endpoint(kind: str, folder: str, name: str, port: int, interface: str = "127.0.0.1") -> str:
    """Return where a socket binds: a file in the private folder, or a TCP port of an interface (0: any free one)."""
    return f"ipc://{folder}/{name}" if kind == "ipc" else tcp(interface, port or "*")


def reachable(bound: str) -> str:
    """Return where others reach a socket: one that is bound to all interfaces has no address of its own."""
    for anywhere, family in (("tcp://0.0.0.0:", socket.AF_INET), ("tcp://[::]:", socket.AF_INET6)):
        if bound.startswith(anywhere):
            return tcp(_own_address(family), bound.removeprefix(anywhere))
    return bound


def towards(address: str) -> str:
    """Return this machine's address, in figures, by which it reaches a TCP address as ZeroMQ writes it; raises ConfigError."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    host = resolve(host.strip("[]"))
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect((host, int(port)))  # a datagram's: nothing is sent
        except (OSError, ValueError, OverflowError) as error:
            raise ConfigError(f"{address}: no way leads there from here ({error})") from None
        return str(asked.getsockname()[0])


def _own_address(family: socket.AddressFamily) -> str:
    """Return this machine's address towards the outside, or the loopback where there is no outside."""
    with socket.socket(family, socket.SOCK_DGRAM) as asked, contextlib.suppress(OSError):
        asked.connect((_AFAR[family], 9))
        return str(asked.getsockname()[0])
    return "127.0.0.1" if family == socket.AF_INET else "::1"
