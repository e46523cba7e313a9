"""What the launcher decides: events in, commands out. Pure: no process, no socket, no clock of its own.

    all hello  → peers to each      all ready → go to each      all done → quit to each      all gone → finish

The first failure wins and is the one that is told. However a run ends, every worker is told so, then asked by SIGTERM,
then killed: after a failure within `STOP_S + TERM_S` seconds, on request within `INTERRUPT_S + TERM_S`, at the end within
`QUIT_S + TERM_S`. Nothing waits longer for a worker that does not answer.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline import control
from pipeline.plan import Plan

from .watch import Watch

#: Seconds a worker has to get ready, to stop when told, to go after SIGTERM, and to quit after the end.
READY_S, STOP_S, TERM_S, QUIT_S = 60.0, 2.0, 1.0, 5.0
#: A stop on request has longer: it saves what is there.
INTERRUPT_S = 8.0


class Heard(NamedTuple):
    """A worker said something."""

    stage: str
    word: str
    body: dict[str, Any]


class Exited(NamedTuple):
    """A worker's process has ended."""

    stage: str
    code: int


class Interrupted(NamedTuple):
    """The user asked to stop (Ctrl-C, SIGTERM)."""


class Tick(NamedTuple):
    """Time has passed."""


Event = Heard | Exited | Interrupted | Tick


class Tell(NamedTuple):
    """Say a word to a worker."""

    stage: str
    word: str
    body: dict[str, Any]


class Signal(NamedTuple):
    """Send a signal to a worker's process group."""

    stage: str
    number: int


class Dump(NamedTuple):
    """Let every worker that lives write its stacks, before anything else is done to them."""


class Finish(NamedTuple):
    """All workers are gone; the run has ended."""

    status: str


Command = Tell | Signal | Dump | Finish


@dataclass
class Member:
    """What is known of one worker."""

    pid: int = 0
    endpoint: str = ""
    is_ready: bool = False
    is_gone: bool = False
    batch: int = 0
    standing: dict[str, Any] = field(default_factory=dict)  # what it said of itself last: in flight, waits, since go
    done: dict[str, Any] | None = None


@dataclass
class Failure:
    """The first thing that went wrong."""

    stage: str
    batch: int
    error: str
    is_wrong_request: bool = False
    waits: list[str] = field(default_factory=list)  # who waited for whom, in words
    stacks: dict[str, str] = field(default_factory=dict)  # by worker, where they were asked for


@dataclass
class Supervisor:
    """Decides for the workers of one run."""

    plan: Plan
    started: float
    members: dict[str, Member] = field(init=False)
    status: str = "done"
    failure: Failure | None = None
    cost: float | None = None
    is_running: bool = False
    watch: Watch | None = None  # who judges whether they go on; None: nobody does
    _deadlines: list[tuple[float, int]] = field(default_factory=list)  # when to send which signal to all who are left
    _ending: bool = False
    _interrupts: int = 0

    def __post_init__(self) -> None:
        self.members = {self.plan.name(k): Member() for k in range(1, self.plan.head + 1)}

    def handle(self, event: Event, now: float) -> list[Command]:
        """Return what to do about an event that came at `now` (seconds on any steady clock)."""
        if isinstance(event, Heard):
            return self._heard(event, now)
        if isinstance(event, Exited):
            return self._exited(event, now)
        if isinstance(event, Interrupted):
            return self._interrupted(now)
        return self._tick(now)

    def awaits(self, now: float) -> str:
        """Return for whom a run that is ending still waits, and how long at most, in words; nothing where for nobody."""
        left = [name for name, member in self.members.items() if not member.is_gone]
        if not self._ending or not left or not self._deadlines:
            return ""
        seconds = max(self._deadlines[-1][0] - now, 0.0)
        return f"waits for {', '.join(left)} to stop, {seconds:.0f} s at most; Ctrl-C again kills"

    def _heard(self, event: Heard, now: float) -> list[Command]:
        stage, word, body = event
        member = self.members.get(stage)
        if member is None:
            return []
        if self.watch is not None:
            self.watch.heard(stage, word, body, now)
        if (lack := control.missing(word, body)) is not None:
            return self._fail(Failure(stage, member.batch, f"said nonsense: {lack}"), now)
        if word == "hello":
            member.endpoint = body["endpoint"]
            if self._ending:
                return [Tell(stage, "stop", {})]  # it was not there yet when the others were told
            if all(other.endpoint for other in self.members.values()):
                return [Tell(name, "peers", self._peers(name)) for name in self.members]
        elif word == "ready":
            member.is_ready = True
            if not self._ending and all(other.is_ready for other in self.members.values()):
                self.is_running = True
                if self.watch is not None:
                    self.watch.begin(now)
                return self._tell_all("go")
        elif word == "progress":
            member.batch, member.standing = body["batch"], body
            self.cost = body.get("cost", self.cost)
        elif word == "done":
            member.done, member.batch = body, body["batches"]
            if not self._ending and all(other.done is not None for other in self.members.values()):
                return self._end("quit", now, QUIT_S)
        elif word == "failed":
            return self._fail(Failure(stage, member.batch, body["error"], body["wrong"]), now)
        return []

    def _peers(self, name: str) -> dict[str, str]:
        number = self.plan.number(name)
        return {self.plan.name(k): self.members[self.plan.name(k)].endpoint for k in self.plan.sources(number)}

    def _exited(self, event: Exited, now: float) -> list[Command]:
        member = self.members[event.stage]
        member.is_gone = True
        commands: list[Command] = []
        if not self._ending:
            commands = self._fail(Failure(event.stage, member.batch, _how_it_ended(event.code)), now)
        if all(other.is_gone for other in self.members.values()):
            commands.append(Finish(self.status))
        return commands

    def _fail(self, failure: Failure, now: float) -> list[Command]:
        if self.failure is not None or self._ending:
            return []
        self.failure, self.status = failure, "failed"
        return self._end("stop", now, STOP_S)

    def _interrupted(self, now: float) -> list[Command]:
        self._interrupts += 1
        if self._interrupts == 1 and not self._ending:
            self.status = "interrupted"
            return self._end("stop", now, INTERRUPT_S)
        if self._interrupts == 1:
            return []
        self._deadlines.clear()
        return self._signal_all(signal.SIGKILL)

    def _end(self, word: str, now: float, patience: float) -> list[Command]:
        self._ending = True
        if self.watch is not None:
            self.watch.pause()
        self._deadlines = [(now + patience, signal.SIGTERM), (now + patience + TERM_S, signal.SIGKILL)]
        return self._tell_all(word)

    def _tick(self, now: float) -> list[Command]:
        if not self._ending and not self.is_running and now - self.started > READY_S:
            late = [name for name, member in self.members.items() if not member.is_ready]
            return self._fail(Failure(late[0], 0, f"not ready after {READY_S:.0f} s (also late: {late[1:]})"), now)
        if self.watch is not None and not self._ending and (verdict := self.watch.judge(now)) is not None:
            failure = Failure(verdict.stage, verdict.batch, verdict.text, waits=self.watch.waits(now))
            return [Dump(), *self._fail(failure, now)]
        commands: list[Command] = []
        while self._deadlines and now >= self._deadlines[0][0]:
            commands += self._signal_all(self._deadlines.pop(0)[1])
        return commands

    def _tell_all(self, word: str) -> list[Command]:
        return [Tell(name, word, {}) for name, member in self.members.items() if not member.is_gone]

    def _signal_all(self, number: int) -> list[Command]:
        return [Signal(name, number) for name, member in self.members.items() if not member.is_gone]


def _how_it_ended(code: int) -> str:
    """Return an exit code in words."""
    if code < 0:
        return (
            f"killed by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"killed by signal {-code}"
        )
    return f"its process ended with exit code {code}"
