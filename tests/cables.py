"""The two kinds of network between hosts: `cable.py`'s process, and the kernel's bridge with netem. See `hosts`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import namespaces


class Cable:
    """The program `cable.py`, told by a pipe. It ends, and removes the namespaces, when the pipe does."""

    def __init__(self, names: Sequence[str], mtu: int) -> None:
        words = [sys.executable, str(Path(__file__).with_name("cable.py")), str(mtu), *names]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._expect_ok()

    def set(self, delay_ms: float, jitter_ms: float, loss: float, cut: Sequence[int]) -> None:
        """Set what happens to packets from now on."""
        assert self.process.stdin
        said = {"delay_ms": delay_ms, "jitter_ms": jitter_ms, "loss": loss, "cut": list(cut)}
        self.process.stdin.write(json.dumps(said) + "\n")
        self.process.stdin.flush()
        self._expect_ok()

    def _expect_ok(self) -> None:
        assert self.process.stdout
        if self.process.stdout.readline() != "ok\n":
            raise RuntimeError("the network between the hosts has ended")

    def close(self) -> None:
        """End it."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Bridge:
    """A bridge in a namespace of its own, a veth pair to each host, netem at both of its ends.

    At a host's end delay and loss of its way out, so that each packet has them once.
    """

    def __init__(self, names: Sequence[str], mtu: int) -> None:
        self._names = list(names)
        self._bridge = namespaces.new_name()
        self._last: tuple[float, float, float] = (0.0, 0.0, 0.0)
        subprocess.run(["ip", "netns", "add", self._bridge], check=True)
        try:
            namespaces.ip(
                f"link add br0 mtu {mtu} type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
                "link set br0 up",
                *(
                    line
                    for number, name in enumerate(names, 1)
                    for line in (
                        f"link add port{number} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {name}",
                        f"link set port{number} master br0 up",
                    )
                ),
                namespace=self._bridge,
            )
            for number, name in enumerate(names, 1):
                namespaces.ip(
                    "link set lo up",
                    f"addr add 10.77.0.{number}/24 dev eth0",
                    f"addr add fd77::{number}/64 dev eth0 nodad",
                    "link set eth0 up",
                    "route add default dev eth0",
                    "route add ::/0 dev eth0",
                    namespace=name,
                )
        except BaseException:
            self.close()
            raise

    def set(self, delay_ms: float, jitter_ms: float, loss: float, cut: Sequence[int]) -> None:
        """Set what happens to packets from now on; raises RuntimeError where the kernel has no netem."""
        numbers = range(1, len(self._names) + 1)
        # A port without a bridge loses what comes, and its host still takes itself for connected.
        ports = [f"link set port{k} {'nomaster' if k in cut else 'master br0'}" for k in numbers]
        namespaces.ip(*ports, namespace=self._bridge)
        if (wanted := (delay_ms, jitter_ms, loss)) == self._last:
            return
        for name in self._names:
            rule = f"netem limit 100000 delay {delay_ms}ms {jitter_ms}ms loss {100 * loss}%"
            words = ["tc", "-n", name, "qdisc", "replace", "dev", "eth0", "root", *rule.split()]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"tc: {done.stderr.strip()}")
        self._last = wanted

    def close(self) -> None:
        """Take the bridge away; a veth's other end goes with it."""
        namespaces.remove([self._bridge])
