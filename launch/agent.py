"""The launcher's hand on another host: `timebox join`, or `python -m launch.agent`. One process for each stage.

    here ─→ welcome ─→ start ─→ fetch what the stage needs ─→ see to the data ─→ the worker runs ─→ it has ended ─→ quit
                         ↑______________________ a restart, from a checkpoint ____________________|

It has a private folder, laid out like a run's, in which an ordinary worker runs: that connects to the launcher and to the
other stages itself. The agent passes signals on, tells how the worker has ended, and sends back what it writes
(`launch.mirror`). It keeps nothing: when the launcher is gone, says nothing for `placer.lost_s` seconds, or says so, the
worker is ended and the folder removed. A shell that outlives an agent that was killed removes it as well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pipeline
from pipeline import addresses, control, keys, transport
from pipeline.errors import ConfigError, TimeboxError, WireError, plain

from . import agent_words as words
from . import environment, joining
from .stage_place import Place
from .sweeper import Sweeper

#: How long a round of the loop waits for a word, and how often files are looked at.
ROUND_MS, LOOK_S = 50, 0.2
#: Seconds without an answer after which a launcher is not there.
ANSWER_S = 60.0
#: Seconds that a worker has to stop when it is asked, and that its last files have to reach the launcher.
STOP_S, FLUSH_S = 2.0, 3.0
#: Seconds until the folder of an agent that was killed is removed: its worker, an orphan then, is gone within two.
ORPHANED_S = 3


class Leave(Exception):
    """This agent is to go, and why; `is_wrong` where it should not have come."""

    def __init__(self, why: str, *, is_wrong: bool = False, is_alone: bool = False) -> None:
        super().__init__(why)
        self.is_wrong = is_wrong
        self.is_alone = is_alone  # nobody is there to be told


class Agent:
    """One stage's agent: its line to the launcher, and the place where the stage's worker lives."""

    def __init__(self, meeting: joining.Meeting, stage: str, interface: str, host: str, parent: int | None) -> None:
        """Make the private folder and connect; raises ConfigError."""
        self.stage, self.host = stage, host
        self._parent, self._clock = parent, environment.clock()
        self._instance = os.urandom(8).hex()
        towards = addresses.towards(meeting.address)
        bind = towards if interface in ("", addresses.AUTO) else addresses.resolve(interface)
        self._root = Path(tempfile.mkdtemp(prefix="timebox-agent-"))
        self._sweeper = Sweeper(self._root, ORPHANED_S)
        sockets = self._root / "s"
        sockets.mkdir(mode=0o700)
        keys.write(sockets, meeting.keys)
        self._context = transport.make_context()
        line = control.Line(meeting.keys.secret, words.agent_of(stage), is_launcher=False, instance=self._instance)
        self._link = transport.ControlLink(self._context, meeting.address, line, meeting.keys.pair)
        self.place = Place(self._root, stage, meeting.address, sockets, bind, is_sealed=meeting.keys.pair is not None)
        self._lost_s = 0.0  # until the launcher has said
        self._began = self._heard = self._looked = time.monotonic()
        self._next_beat = self._next_look = 0.0
        self._told: tuple[Any, ...] = ()
        self._stopped = 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._stopped = number

    def say(self, word: str, **body: Any) -> None:
        """Tell the launcher something."""
        self._link.send(control.encode(word, {"instance": self._instance, **body}))

    def run(self) -> int:
        """Be there until the run is over; returns the worker's exit code, raises Leave."""
        while True:
            frame = self._link.receive(ROUND_MS)
            while frame is not None:
                if self._understood(frame):
                    return self.place.code or 0
                frame = self._link.receive(0)
            self._check()
            self.place.advance(self.say)
            now = time.monotonic()
            if now >= self._next_look or self.place.has_just_ended:
                self._next_look = now + LOOK_S
                self._mirror()
            if now >= self._next_beat or self._standing() != self._told:
                self._next_beat = now + words.BEAT_S
                self._beat()

    def _standing(self) -> tuple[Any, ...]:
        place = self.place
        return place.start, place.pid, place.code, place.is_settled, place.save

    def _beat(self) -> None:
        if not self._lost_s:
            self.say("here", host=self.host, version=pipeline.__version__)
            return
        place = self.place
        self._told = self._standing()
        self.say(
            "beat", start=place.start, pid=place.pid, code=place.code, state=place.state(),
            is_settled=place.is_settled, save=place.save,
        )  # fmt: skip

    def _mirror(self) -> None:
        for part in self.place.parts():
            self.say("part", **part)

    def _check(self) -> None:
        """Raise Leave where there is a reason to."""
        now = time.monotonic()
        if now - self._looked > self._lost_s / 2:
            self._heard = now  # this process was stopped, or held up: what it missed says nothing of the launcher
        self._looked = now
        if self._stopped:
            raise Leave(f"it was sent {signal.Signals(self._stopped).name}")
        if self._parent is not None and os.getppid() != self._parent:
            raise Leave("what had started it is gone")
        if not self._lost_s and now - self._began > ANSWER_S:
            raise Leave(f"no launcher has answered within {ANSWER_S:.0f} s", is_wrong=True, is_alone=True)
        if self._lost_s and now - self._heard > self._lost_s:
            raise Leave(f"the launcher has said nothing for {self._lost_s:g} s", is_alone=True)

    def _understood(self, frame: bytes) -> bool:
        """Do what the launcher says; returns whether that was to quit. What is not for this instance is passed over."""
        try:
            word, body = words.from_launcher(frame)
        except WireError:
            return False
        if body["instance"] != self._instance:
            return False
        self._heard = time.monotonic()
        place = self.place
        if word == "welcome":
            self._lost_s = float(body["lost_s"])
        elif word == "leave":
            raise Leave(body["why"], is_wrong=True, is_alone=True)
        elif word == "start" and body["start"] > place.start:
            place.begin(body)
        elif word == "part" and body["start"] == place.start:
            place.fetched(body["path"], body["offset"], body["data"])
        elif word == "got" and body["start"] == place.start:
            place.got(body["path"], body["generation"], body["offset"], again=body["again"])
            if not place.is_settled:
                self._mirror()
        elif word == "signal" and body["start"] == place.start:
            place.signal(body["number"])
        elif word == "kept":
            place.keep(body)
        elif word == "ping":
            self.say("pong", n=body["n"], sent_ns=body["sent_ns"], mono_ns=time.monotonic_ns(), host=self._clock)
        return word == "quit"

    def end(self, leave: Leave | None) -> None:
        """End the worker, let what it wrote arrive, say farewell, and remove everything."""
        place = self.place
        try:
            place.end(STOP_S)
            if leave is not None and not leave.is_alone:
                until = time.monotonic() + FLUSH_S
                while not place.is_settled and time.monotonic() < until:
                    self._mirror()
                    frame = self._link.receive(ROUND_MS)
                    if frame is not None:
                        self._understood(frame)
                self._beat()
            if leave is None or not leave.is_alone:
                self.say("leaves", why=str(leave or "it was told to quit"))
        except (Leave, OSError):
            pass  # it is gone anyway
        finally:
            place.close()
            shutil.rmtree(self._root, ignore_errors=True)
            self._link.close(500)
            self._context.term()
            self._sweeper.close()


def join(word: str | None, stage: str | None, parent: int | None = None, *, quiet: bool = False) -> int:
    """Join a run as one stage's agent; returns the exit code. Raises ConfigError for what cannot be joined."""
    around = dict(os.environ)
    for name in (joining.JOIN, joining.STAGE, joining.INTERFACE):
        os.environ.pop(name, None)  # a worker has no use for them
    wanted = word or around.get(joining.JOIN)
    meeting = joining.read(word, around, sys.stdin.readline() if wanted == "-" else None)
    name = joining.stage(stage, around, meeting.boxes)
    host = around.get(joining.HOST) or socket.gethostname()
    agent = Agent(meeting, name, around.get(joining.INTERFACE, ""), host[:255], parent)
    if not quiet:
        print(f"timebox: {name} on {host} joins {meeting.address}", file=sys.stderr, flush=True)
    leave: Leave | None = None
    code = 1
    try:
        code = agent.run()
    except Leave as reason:
        leave = reason
        code = 2 if reason.is_wrong else 1
        print(f"timebox: {name} on {host} leaves: {reason}", file=sys.stderr, flush=True)
    except (TimeboxError, OSError) as error:
        leave = Leave(plain(error))
        print(f"timebox: {name} on {host}: {leave}", file=sys.stderr, flush=True)
    finally:
        agent.end(leave)
    return code


def main(arguments: list[str] | None = None) -> int:
    """Run an agent from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m launch.agent", description=__doc__)
    parser.add_argument("join", nargs="?")
    parser.add_argument("--stage")
    parser.add_argument("--parent", type=int)
    options = parser.parse_args(arguments)
    try:
        return join(options.join, options.stage, options.parent)
    except ConfigError as error:
        print(f"timebox: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
