"""Asks the agents of other hosts what time it is there: whom to ask and when, and what to make of the answers. Pure but for
writing the file: times are given, in nanoseconds of the launcher's monotonic clock.

    launcher   ping {n, sent_ns}                   a burst at first, `BURST` within half a second, then one a second
    agent      pong {n, sent_ns, mono_ns, host}    at once: what stays lying makes the answer late, and worth less

Agents that tell the same host share its clock, and every answer counts for it; so `host` has to be the name of a clock:
of a machine that has been booted once. Hosts that are the launcher's own have its clock, whatever was answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.files import save_json

from . import clocks
from .clocks import Clock, Line, Sample

#: How many pings an agent gets at first, how long after each other, and then.
BURST, SOON_NS, LATER_NS = 8, 50_000_000, 1_000_000_000
#: How many pings of an agent may be unanswered and still be answered.
OPEN = 16
#: How long after the first time the file is written again; then each time twice as long after, up to the most.
SAVE_NS, SAVE_MOST_NS = 500_000_000, 16_000_000_000


class _Agent:
    """What is known of one agent."""

    def __init__(self) -> None:
        self.host = ""
        self.pings = 0
        self.next_ns = 0
        self.open: dict[int, int] = {}  # by their numbers, when the pings were sent that have no answer yet


class Pings:
    """The clocks of all hosts of a run, as the launcher learns of them."""

    def __init__(self, here: str = "") -> None:
        """Take the name that an agent on the launcher's own host gives as its `host`; empty: there is none."""
        self.clocks: dict[str, Clock] = {}
        self._here = here
        self._agents: dict[str, _Agent] = {}
        self._save_ns, self._pause_ns = 0, SAVE_NS  # when to write next, and how long after that again

    def due(self, agents: Iterable[str], now_ns: int) -> list[tuple[str, dict[str, int]]]:
        """Return which of the agents that can be reached are to be sent `ping` now, each with its body.

        `now_ns` is to be read right before; an agent that is new, or was away, begins with a burst.
        """
        found = []
        known = {name: self._agents.get(name) or _Agent() for name in agents}
        self._agents = known
        for name, agent in known.items():
            if now_ns >= agent.next_ns:
                agent.pings += 1
                agent.next_ns = now_ns + (SOON_NS if agent.pings < BURST else LATER_NS)
                agent.open[agent.pings] = now_ns
                while len(agent.open) > OPEN:
                    del agent.open[next(iter(agent.open))]
                found.append((name, {"n": agent.pings, "sent_ns": now_ns}))
        return found

    def pong(self, name: str, body: Mapping[str, Any], received_ns: int) -> bool:
        """Take in an agent's answer, received at `received_ns`; return whether it answers a ping and makes sense.

        When the ping was sent is not the agent's to say: `sent_ns` only has to be what it was told.
        """
        agent, told = self._agents.get(name), (body.get("n"), body.get("mono_ns"), body.get("host"))
        number, mono_ns, host = told
        if agent is None or not isinstance(number, int) or not isinstance(mono_ns, int) or not isinstance(host, str):
            return False
        sent_ns = agent.open.get(number)
        if sent_ns is None or sent_ns != body.get("sent_ns") or received_ns < sent_ns or not 0 <= mono_ns < 2**62:
            return False
        del agent.open[number]
        if host != agent.host:
            agent.host = host
            used = {each.host for each in self._agents.values()}
            self.clocks = {key: clock for key, clock in self.clocks.items() if key in used}
        self.clocks.setdefault(host, Clock()).add(Sample(sent_ns, mono_ns, received_ns))
        return True

    def lines(self, stages: Mapping[str, str], now_ns: int) -> dict[str, Line]:
        """Return the line of the clock of every stage, given the agent that runs it, good until `now_ns`.

        Stages of which nothing is known are left out, and those on the launcher's host.
        """
        hosts = {stage: agent.host for stage, name in stages.items() if (agent := self._agents.get(name))}
        away = {host for host in hosts.values() if host in self.clocks and host != self._here}
        lines = {host: self.clocks[host].line(host, now_ns) for host in away}
        return {stage: lines[host] for stage, host in hosts.items() if host in lines}

    def save(self, folder: Path, stages: Mapping[str, str], now_ns: int, *, is_last: bool = False) -> bool:
        """Write `clocks.json` now and then, and at the end; return whether that was done. Raises OSError.

        A run whose stages are all on the launcher's host has no such file.
        """
        if not is_last and now_ns < self._save_ns:
            return False
        lines = self.lines(stages, now_ns)
        if not lines:
            return False
        self._save_ns, self._pause_ns = now_ns + self._pause_ns, min(2 * self._pause_ns, SAVE_MOST_NS)
        save_json(folder / clocks.NAME, clocks.document(lines))
        return True
