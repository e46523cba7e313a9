"""Stages on other hosts: one agent each, that starts the stage's process there and sends back what it writes.

The launcher's side. Whoever brings an agent to a host (a person, Slurm, Ray) is a *recruiter*; from its first word on all
agents are treated alike. A stage has one agent; a second one is sent away as long as the first one answers. One that says
nothing for `placer.lost_s` seconds is lost, and its host with it: that is told of the stage like the end of its process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import pipeline
from pipeline import checkpoints, control, keys
from pipeline.aside import put_aside
from pipeline.errors import WireError
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.strangers import Strangers
from pipeline.transport import ControlServer
from pipeline.worklog import Anchor, WorkLog

from . import agent_words as words
from . import mirror, stacks
from .events import Failure
from .joining import Meeting
from .placers import Ended

#: Seconds in which what an old worker wrote last should have come before a new one is started, and all have gone at the end.
SETTLE_S, FAREWELL_S = 2.0, 3.0
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
class _Hand:
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


class RemotePlacer:
    """One agent for each stage, wherever it is."""

    def __init__(self, config: Config, folder: Path, recruiter: Recruiter | None = None) -> None:
        self.extra_s = config.placer.wait_s
        self._config, self._folder, self._plan = config, folder, Plan.of(config)
        self._recruiter = recruiter or _recruiter(config)
        self._hands = {self._plan.name(k): _Hand() for k in range(1, self._plan.head + 1)}
        self._log = WorkLog(folder / "logs" / "launcher.log", "launcher", "info", Anchor())
        self._server: ControlServer
        self._next_beat = self._looked = 0.0
        self._is_asked = False  # for stacks, by SIGUSR1
        self._others: list[tuple[str, bytes]] = []  # words of workers that came while this placer waited for its own
        self._before: Any = None

    def lines(self, secret: bytes) -> list[control.Line]:
        """Return a line for each stage's agent."""
        strangers = Strangers(self._log.warning)
        return [control.Line(secret, words.agent_of(name), strangers, is_launcher=True) for name in self._hands]

    def open(self, server: ControlServer, secrets: keys.Keys, sockets: Path) -> None:  # noqa: ARG002
        """Tell the recruiter which run to join."""
        self._server = server
        with contextlib.suppress(ValueError):  # not the main thread
            self._before = signal.signal(signal.SIGUSR1, self._note)
        self._looked = time.monotonic()
        self._recruiter.open(Meeting(server.address, self._plan.boxes, secrets), self._folder)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._is_asked = True

    def _say(self, name: str, word: str, **body: Any) -> None:
        instance = self._hands[name].instance
        self._server.send(words.agent_of(name), control.encode(word, {"instance": instance, **body}))

    def start(self, name: str, epoch: int, save: int | None) -> None:
        """Ask a stage's agent, or the next one that comes, to start a worker."""
        hand = self._hands[name]
        if hand.order is not None and hand.instance:
            self.signal(name, signal.SIGKILL)
            self._wait(lambda: hand.ended is not None, SETTLE_S)  # with all that it had written
        if hand.receiver is not None:
            hand.receiver.close()
        begin = None
        if save is not None:
            begin = next(each for each in checkpoints.complete(self._folder, self._plan) if each.save == save)
        if epoch:
            put_aside(self._folder, name, begin, epoch, is_head=name == "head")
        given = {} if begin is None else begin.files(name)
        if begin is not None:
            path = begin.folder / f"{name}.npz"
            given[path.relative_to(self._folder).as_posix()] = path.stat().st_size
        hand.receiver = mirror.Receiver(self._folder, name, given)
        files = [("config.toml", (self._folder / "config.toml").stat().st_size), *given.items()]
        hand.wanted += 1
        hand.asked, hand.ended, hand.pid = time.monotonic(), None, None
        hand.order = {
            "run": self._folder.name,
            "epoch": epoch,
            "save": save,
            "files": files,
            "folder": "" if begin is None else begin.folder.name,
            "manifest": "" if begin is None else _own(begin.manifest, name),
        }
        if hand.instance:
            self._say(name, "start", start=hand.wanted, **hand.order)
        else:
            self._recruiter.recruit(name)

    def poll(self, name: str) -> Ended | None:
        """Return how the worker has ended, once all that it wrote has come, or that its host is lost."""
        return self._hands[name].ended

    def signal(self, name: str, number: int) -> None:
        """Let the agent pass a signal on. A stage that has no agent ends without one."""
        hand = self._hands[name]
        if hand.instance:
            self._say(name, "signal", start=hand.wanted, number=number)
        elif hand.ended is None:
            hand.ended = Ended(-number)

    def give_up(self, name: str) -> None:
        """End the stage where nobody has come for it."""
        if not self._hands[name].instance:
            self.signal(name, signal.SIGTERM)

    def where(self, name: str) -> dict[str, Any]:
        """Return the worker's process on its host, and the host."""
        hand = self._hands[name]
        return {"pid": hand.pid, "host": hand.host or None, "is_elsewhere": True}

    def has_come(self, name: str, saved: Mapping[str, Any]) -> bool:
        """Whether the stage's file is here with the bytes that it says, and its journal as far as the checkpoint has it."""
        number = saved["save"]
        if not 0 <= number < self._plan.saves:
            return False
        path = checkpoints.folder_of(self._folder, self._plan, number) / f"{name}.npz"
        paths = [path]
        for each, part in saved["appended"].items():
            if not mirror.is_allowed(str(each), name):
                return False
            paths.append(self._folder / each)
            if not _has(self._folder / each, part["bytes"]):
                return False
        if not _has(path, saved["bytes"]) or checkpoints.beginning(path, saved["bytes"])["sha256"] != saved["sha256"]:
            return False
        for each in paths:
            mirror.sync(each)
        return True

    def completed(self, save: int) -> None:
        """Let the agents have what of the manifest their workers need to go back."""
        kept = list(checkpoints.complete(self._folder, self._plan))
        for found in kept:
            if found.save == save:
                for name, hand in self._hands.items():
                    if hand.instance:
                        self._tell_kept(name, found, kept[-1].folder.name)

    def _tell_kept(self, name: str, found: checkpoints.Checkpoint, oldest: str) -> None:
        manifest = _own(found.manifest, name)
        self._say(name, "kept", save=found.save, folder=found.folder.name, manifest=manifest, oldest=oldest)

    def can_go_back(self, name: str, save: int | None) -> bool:
        """Whether the agent has the checkpoint's manifest; where it has not within a while, it never will."""
        hand = self._hands[name]
        return self._wait(lambda: save is None or hand.save >= save or not hand.instance, SETTLE_S)

    def _wait(self, is_so: Any, most_s: float) -> bool:
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
        hand, now = self._hands[name], time.monotonic()
        if word == "here":
            self._welcome(name, hand, body, now)
            return
        if body["instance"] != hand.instance:
            return  # of one that was given up
        hand.heard = now
        if word == "leaves":
            self._log.info(f"{name}: its agent leaves: {body['why']}", source=name)
            self._is_gone(name, f"its host {hand.host} has left the run: {body['why']}")
        elif word == "pong" or body["start"] != hand.wanted:
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
                self._say(
                    name, "got", start=hand.wanted, path=part.path, generation=part.generation, offset=offset, again=again
                )  # fmt: skip

    def _welcome(self, name: str, hand: _Hand, body: dict[str, Any], now: float) -> None:
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
            self._server.send(words.agent_of(name), frame)
            return
        if hand.instance != instance:
            self._log.info(f"{name} has a host: {host}", source=name)
        hand.instance, hand.host, hand.heard = instance, host, now
        hand.rivals.clear()
        self._say(name, "welcome", lost_s=self._config.placer.lost_s)
        if hand.order is not None and hand.ended is None:
            self._say(name, "start", start=hand.wanted, **hand.order)

    def _give(self, name: str, hand: _Hand, path: str, offset: int) -> None:
        """Give a part of a file that the stage needs for its start."""
        size = dict(hand.order["files"]).get(path) if hand.order is not None else None
        if size is None or not 0 <= offset < size:
            return
        with (self._folder / path).open("rb") as stream:
            data = os.pread(stream.fileno(), min(words.CHUNK, size - offset), offset)
        self._say(name, "part", start=hand.wanted, path=path, offset=offset, data=data)

    def _is_gone(self, name: str, why: str) -> None:
        hand = self._hands[name]
        hand.instance = ""
        hand.start = 0
        if hand.ended is None:
            hand.ended = Ended(-signal.SIGKILL, why)
        self._recruiter.dismiss(name)

    def tick(self) -> None:
        """Tell the agents how things stand, and see which are lost."""
        now = time.monotonic()
        if self._is_asked:
            self._is_asked = False
            for name, pid in self._alive().items():
                if stacks.is_ready(self._folder, name, pid):
                    self.signal(name, signal.SIGUSR1)
        if now - self._looked > JUMP_S:
            for hand in self._hands.values():
                hand.heard = now
        self._looked = now
        if now < self._next_beat:
            return
        self._next_beat = now + words.BEAT_S / 2
        for name, hand in self._hands.items():
            if not hand.instance:
                self._judge_absent(name, hand, now)
            elif now - hand.heard > self._config.placer.lost_s:
                self._log.error(f"{name}: its host {hand.host} does not answer", source=name)
                self._is_gone(name, f"its host {hand.host} does not answer ({self._config.placer.lost_s:g} s)")
            else:
                self._say(name, "beat", start=hand.wanted)
                if hand.start < hand.wanted and hand.order is not None and hand.ended is None:
                    self._say(name, "start", start=hand.wanted, **hand.order)

    def _judge_absent(self, name: str, hand: _Hand, now: float) -> None:
        if hand.ended is not None or hand.order is None:
            return
        if fault := self._recruiter.fault(name):
            hand.ended = Ended(1, fault)
        elif now - hand.asked > self.extra_s:
            hand.ended = Ended(1, f"no host has joined for it within {self.extra_s:g} s (placer.wait_s)")

    def _alive(self) -> dict[str, int]:
        return {name: hand.pid for name, hand in self._hands.items() if hand.instance and hand.pid and not hand.ended}

    def explain(self, failure: Failure) -> None:
        """Ask all workers that live for their stacks, which come back as files."""
        stacks.explain(failure, self._folder, self._alive(), self._reach())

    def _reach(self) -> stacks.Reach:
        def ask(name: str, pid: int) -> None:  # noqa: ARG001
            self.signal(name, signal.SIGUSR1)

        def state(name: str, pid: int) -> str:  # noqa: ARG001
            return self._hands[name].state if name in self._hands else "unknown"

        def pause() -> None:
            self._wait(lambda: False, TICK_MS / 1000)

        return stacks.Reach(state, ask, pause)

    def end_all(self) -> None:
        """Kill the workers that are left, and let all agents go."""
        for name, hand in self._hands.items():
            if hand.instance and hand.ended is None:
                self.signal(name, signal.SIGKILL)
        with contextlib.suppress(OSError, AttributeError):  # where the socket never was
            self._wait(lambda: all(hand.ended or not hand.instance for hand in self._hands.values()), FAREWELL_S)
            for name, hand in self._hands.items():
                if hand.instance:
                    self._say(name, "quit")
            self._wait(lambda: not any(hand.instance for hand in self._hands.values()), FAREWELL_S)
        for hand in self._hands.values():
            if hand.receiver is not None:
                hand.receiver.close()
        self._recruiter.close()
        if self._before is not None:
            signal.signal(signal.SIGUSR1, self._before)
        self._log.close()


def _own(manifest: dict[str, Any], name: str) -> str:
    """Return what of a manifest one stage needs."""
    return json.dumps({**manifest, "stages": {name: manifest["stages"][name]}})


def _has(path: Path, size: object) -> bool:
    try:
        return isinstance(size, int) and path.stat().st_size >= size
    except OSError:
        return False


def _recruiter(config: Config) -> Recruiter:
    if config.placer.kind == "ray":
        from .placer_ray import RayRecruiter

        return RayRecruiter(config)
    from .placer_env import EnvRecruiter

    return EnvRecruiter()


def this_host() -> str:
    """Return this machine's name."""
    return socket.gethostname()
