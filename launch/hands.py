"""The launcher's side of its agents' lines: who is there, what they say, who is lost. One agent, a *hand*, for each stage.

Whoever brings an agent to a host (a person, Slurm, Ray) is a *recruiter*; from its first word on all agents are treated
alike. A stage has one agent; a second one is sent away as long as the first one answers. One that says nothing for
`placer.lost_s` seconds is lost, and its host with it.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pipeline
from pipeline import control
from pipeline.errors import WireError, plain
from pipeline.schema import Config
from pipeline.transport import ControlServer
from pipeline.worklog import WorkLog

from . import agent_words as words
from . import environment, mirror
from .joining import Meeting
from .pings import Pings
from .placers import Ended

#: Who has not looked for so many seconds was stopped, or held up: silence in that time convicts nobody.
JUMP_S = 2.0
TICK_MS = 20


class Recruiter(Protocol):
    """Brings agents to hosts."""

    def open(self, meeting: Meeting, folder: Path) -> None:
        """Begin: this is the run that they are to join; raises ConfigError."""

    def recruit(self, name: str) -> None:
        """See to it that an agent comes for a stage."""

    def fault(self, name: str) -> str:
        """Return why none will come, as far as that is known; nothing where one may."""

    def dismiss(self, name: str) -> None:
        """The agent of a stage is lost, or has left: what is left of it is to go."""

    def close(self) -> None:
        """Remove what was made for them."""


@dataclass
class Hand:
    """What the launcher knows of one stage's agent."""

    instance: str = ""  # of the agent that is there; empty: none
    host: str = ""
    heard: float = 0.0
    wanted: int = 0  # the start that it was asked for last
    asked: float = 0.0
    order: dict[str, Any] | None = None
    start: int = 0  # the one it is at
    pid: int | None = None
    state: str = "unknown"
    save: int = -1
    ended: Ended | None = None
    receiver: mirror.Receiver | None = None
    rivals: dict[str, float] = field(default_factory=dict)  # others that came while it was there, and when


class Hands:
    """The agents of a run, by stage."""

    def __init__(self, config: Config, folder: Path, names: list[str], recruiter: Recruiter, log: WorkLog) -> None:
        self.by_name = {name: Hand() for name in names}
        self.recruiter = recruiter
        self._config, self._folder, self._log = config, folder, log
        self._server: ControlServer
        self._next_beat = self._looked = 0.0
        self._pings = Pings(here=environment.clock())
        self._cannot_save = False
        self._others: list[tuple[str, bytes]] = []  # words of workers that came while an agent's was waited for

    def open(self, server: ControlServer) -> None:
        """Begin to listen at a socket that is bound."""
        self._server, self._looked = server, time.monotonic()

    def say(self, name: str, word: str, **body: Any) -> None:
        """Tell a stage's agent something."""
        instance = self.by_name[name].instance
        self._server.send(words.agent_of(name), control.encode(word, {"instance": instance, **body}), instance)

    def wait(self, is_so: Any, most_s: float) -> bool:
        """Wait until something is so, and take in words meanwhile; those of workers are for later."""
        until = time.monotonic() + most_s
        while not is_so() and time.monotonic() < until:
            heard = self._server.receive(TICK_MS)
            while heard is not None:
                if words.stage_of(heard[0]) is None:
                    self._others.append(heard)
                else:
                    self.hear(*heard)
                heard = self._server.receive(0)
            self.tick()
        return bool(is_so())

    def others(self) -> list[tuple[str, bytes]]:
        """Return the words of workers that came while it waited."""
        others, self._others = self._others, []
        return others

    def hear(self, name: str, frame: bytes) -> None:
        """Take in a word of an agent; raises OSError where the run's folder cannot be written."""
        stage = words.stage_of(name)
        try:
            word, body = words.from_agent(frame)
            assert stage is not None
            self._heard(stage, word, body)
        except WireError as error:
            self._log.error(f"ignored: {error}", source=name)

    def _heard(self, name: str, word: str, body: dict[str, Any]) -> None:
        hand, now = self.by_name[name], time.monotonic()
        if word == "here":
            self._welcome(name, hand, body, now)
            return
        if body["instance"] != hand.instance:
            return  # of one that was given up
        hand.heard = now
        if word == "leaves":
            self._log.info(f"{name}: its agent leaves: {body['why']}", source=name)
            self._is_gone(name, f"its host {hand.host} has left the run: {body['why']}")
        elif word == "pong":
            if not self._pings.pong(name, body, time.monotonic_ns()):
                self._log.warning("ignored: a pong that answers no ping", source=words.agent_of(name))
        elif body["start"] != hand.wanted:
            pass
        elif word == "beat":
            hand.start, hand.state, hand.save = body["start"], body["state"], body["save"]
            if body["pid"] and body["pid"] != hand.pid:
                hand.pid = body["pid"]
                self._log.info(f"started {name}", pid=hand.pid, host=hand.host)
            if body["code"] is not None and body["is_settled"] and hand.ended is None:
                hand.ended = Ended(body["code"])
        elif word == "failed" and hand.ended is None:
            hand.ended = Ended(2 if body["wrong"] else 1, f"on {hand.host}: {body['why']}", body["wrong"])
        elif word == "wants":
            self._give(name, hand, body["path"], body["offset"])
        elif word == "part" and hand.receiver is not None:
            part = mirror.Part(*(body[key] for key in mirror.Part._fields))
            if (so_far := hand.receiver.take(part)) is not None:
                offset, again = so_far
                self.say(
                    name, "got", start=hand.wanted, path=part.path, generation=part.generation, offset=offset, again=again
                )  # fmt: skip

    def _welcome(self, name: str, hand: Hand, body: dict[str, Any], now: float) -> None:
        instance, host = body["instance"], body["host"]
        refuse = ""
        if hand.instance and hand.instance != instance:
            # The one that was there may be dead. Either it says something after this, or it is lost in a while.
            since = hand.rivals.setdefault(instance, now)
            if hand.heard <= since + words.BEAT_S:
                return
            refuse = f"{name} has a host already: {hand.host}"
        elif body["version"] != pipeline.__version__:
            refuse = f"it has timebox {body['version']}, the launcher {pipeline.__version__}"
        if refuse:
            self._log.warning(f"an agent on {host} is sent away: {refuse}", source=name)
            frame = control.encode("leave", {"instance": instance, "why": refuse})
            self._server.send(words.agent_of(name), frame, instance)
            return
        if hand.instance != instance:
            self._log.info(f"{name} has a host: {host}", source=name)
        hand.instance, hand.host, hand.heard = instance, host, now
        hand.rivals.clear()
        self.say(name, "welcome", lost_s=self._config.placer.lost_s)
        if hand.order is not None and hand.ended is None:
            self.say(name, "start", start=hand.wanted, **hand.order)

    def _give(self, name: str, hand: Hand, path: str, offset: int) -> None:
        """Give a part of a file that the stage needs for its start."""
        size = dict(hand.order["files"]).get(path) if hand.order is not None else None
        if size is None or not 0 <= offset < size:
            return
        with (self._folder / path).open("rb") as stream:
            data = os.pread(stream.fileno(), min(words.CHUNK, size - offset), offset)
        self.say(name, "part", start=hand.wanted, path=path, offset=offset, data=data)

    def _is_gone(self, name: str, why: str) -> None:
        hand = self.by_name[name]
        hand.instance = ""
        hand.start = 0
        if hand.ended is None:
            hand.ended = Ended(-signal.SIGKILL, why)
        self.recruiter.dismiss(name)

    def tick(self) -> None:
        """Tell the agents how things stand, and see which are lost."""
        now = time.monotonic()
        if now - self._looked > JUMP_S:
            for hand in self.by_name.values():
                hand.heard = now
        self._looked = now
        self._ask_clocks()
        if now < self._next_beat:
            return
        self._next_beat = now + words.BEAT_S / 2
        for name, hand in self.by_name.items():
            if not hand.instance:
                self._judge_absent(name, hand, now)
            elif now - hand.heard > self._config.placer.lost_s:
                self._log.error(f"{name}: its host {hand.host} does not answer", source=name)
                self._is_gone(name, f"its host {hand.host} does not answer ({self._config.placer.lost_s:g} s)")
            else:
                self.say(name, "beat", start=hand.wanted)
                if hand.start < hand.wanted and hand.order is not None and hand.ended is None:
                    self.say(name, "start", start=hand.wanted, **hand.order)

    def _ask_clocks(self) -> None:
        """Ask the hosts that are there what time it is, and write down what is known of their clocks."""
        for name, body in self._pings.due(
            [name for name, hand in self.by_name.items() if hand.instance], time.monotonic_ns()
        ):
            self.say(name, "ping", **body)
        self.save_clocks()

    def save_clocks(self, *, is_last: bool = False) -> None:
        """Write what is known of the hosts' clocks, when it is time to, or for the last time."""
        try:
            self._pings.save(self._folder, {name: name for name in self.by_name}, time.monotonic_ns(), is_last=is_last)
        except OSError as error:
            if not self._cannot_save:  # once: what cannot be written beside it ends the run
                self._log.warning(plain(error))
            self._cannot_save = True

    def _judge_absent(self, name: str, hand: Hand, now: float) -> None:
        if hand.ended is not None or hand.order is None:
            return
        if fault := self.recruiter.fault(name):
            hand.ended = Ended(1, fault)
        elif now - hand.asked > self._config.placer.wait_s:
            hand.ended = Ended(1, f"no host has joined for it within {self._config.placer.wait_s:g} s (placer.wait_s)")

    def alive(self) -> dict[str, int]:
        """Return the workers that live, by stage: their processes on their hosts."""
        return {name: hand.pid for name, hand in self.by_name.items() if hand.instance and hand.pid and not hand.ended}
