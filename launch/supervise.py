"""What the launcher decides: events in, commands out. Pure: no process, no socket, no clock of its own.

    all hello  → peers to each      all ready → go to each      all done → quit to each      all gone → finish
    all saved  → a checkpoint is complete

A worker that dies while recoveries are left is restarted, and all others roll back with it to the newest complete checkpoint,
under a new epoch; what a worker says of an older one does not count. Words go on from hello as at the start.

The first failure wins and is the one that is told. However a run ends, every worker is told so, then asked by SIGTERM,
then killed: after a failure within `STOP_S + TERM_S` seconds, on request within `INTERRUPT_S + TERM_S`, at the end within
`QUIT_S + TERM_S`.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline import control
from pipeline.plan import Plan

from .events import (
    Command,
    Complete,
    Dump,
    Event,
    Exited,
    Failure,
    Finish,
    Forget,
    Heard,
    Interrupted,
    Restart,
    Signal,
    Tell,
    Trouble,
)
from .text import few
from .watch import Watch

#: Seconds a worker has to get ready, to stop when told, to go after SIGTERM, and to quit after the end.
READY_S, STOP_S, TERM_S, QUIT_S = 60.0, 2.0, 1.0, 5.0
#: Seconds in which a worker has to roll back at least; as long as it may say nothing at all (`run.patience`), if that is more.
BACK_S = 15.0
#: A stop on request has longer: it saves what is there.
INTERRUPT_S = 8.0


@dataclass
class Member:
    """What is known of one worker."""

    pid: int = 0
    endpoint: str = ""
    is_ready: bool = False
    is_gone: bool = False
    batch: int = 0
    born: int = 0  # the epoch in which its process was started
    standing: dict[str, Any] = field(default_factory=dict)  # what it said of itself last: in flight, waits, since go
    done: dict[str, Any] | None = None


class Recovery(NamedTuple):
    """What a run has survived: the failure, and the checkpoint from which it went on; `seconds` until all went on."""

    failure: Failure
    save: int | None
    seconds: float


@dataclass
class Supervisor:
    """Decides for the workers of one run. `recover`: how many recoveries are left; `newest`: the checkpoint to go on from.

    Workers that die before all go on again belong to the same recovery, each of them once: they may have had one host.
    """

    plan: Plan
    started: float
    recover: int = 0
    epoch: int = 0
    newest: int | None = None
    members: dict[str, Member] = field(init=False)
    status: str = "done"
    failure: Failure | None = None
    cost: float | None = None
    is_running: bool = False
    watch: Watch | None = None  # who judges whether they go on; None: nobody does
    extra_s: float = 0.0  # beyond what a process takes: how long stages may take to get a place
    recoveries: list[Recovery] = field(default_factory=list)
    _failed_at: float | None = None  # while a recovery is under way
    _restarted: set[str] = field(default_factory=set)  # in this recovery
    _saved: dict[int, dict[str, Any]] = field(default_factory=dict)  # by checkpoint and stage
    _deadlines: list[tuple[float, int]] = field(default_factory=list)  # when to send which signal to all who are left
    _ending: bool = False
    _interrupts: int = 0

    def __post_init__(self) -> None:
        self.members = {self.plan.name(k): Member(born=self.epoch) for k in range(1, self.plan.head + 1)}

    def handle(self, event: Event, now: float) -> list[Command]:
        """Return what to do about an event that came at `now` (seconds on any steady clock)."""
        if isinstance(event, Heard):
            return self._heard(event, now)
        if isinstance(event, Exited):
            return self._exited(event, now)
        if isinstance(event, Interrupted):
            return self._interrupted(now)
        if isinstance(event, Trouble):
            return self._fail(Failure("launcher", max(m.batch for m in self.members.values()), event.error), now)
        return self._tick(now)

    def awaits(self, now: float) -> str:
        """Return for whom a run that is ending still waits, and how long at most, in words; nothing where for nobody."""
        left = [name for name, member in self.members.items() if not member.is_gone]
        if not self._ending or not left or not self._deadlines:
            return ""
        seconds = max(self._deadlines[-1][0] - now, 0.0)
        return f"waits for {few(left)} to stop, {seconds:.0f} s at most; Ctrl-C again kills"

    def _heard(self, event: Heard, now: float) -> list[Command]:
        stage, word, body = event
        member = self.members.get(stage)
        if member is None:
            return []
        if (lack := control.missing(word, body)) is not None:
            return self._fail(Failure(stage, member.batch, f"said nonsense: {lack}"), now)
        epoch = body.get("epoch", self.epoch)
        if epoch != self.epoch and (word not in ("failed", "stopped") or epoch < member.born):
            # Of an attempt that is over, or of a process that has been replaced; who has just come is told where we are.
            return [self._rollback(stage)] if word == "hello" and not self._ending else []
        if self.watch is not None:
            self.watch.heard(stage, word, body, now)
        if word == "hello":
            member.endpoint, member.pid = body["endpoint"], body["pid"]
            if self._ending:
                return [Tell(stage, "stop", {})]  # it was not there yet when the others were told
            if all(other.endpoint for other in self.members.values()):
                # Now nobody writes to a later checkpoint any more.
                forget: list[Command] = [] if self._failed_at is None else [Forget(self.newest)]
                return [*forget, *(Tell(name, "peers", self._peers(name)) for name in self.members)]
        elif word == "ready":
            member.is_ready = True
            if not self._ending and all(other.is_ready for other in self.members.values()):
                self.is_running = True
                self._went_on(now)
                if self.watch is not None:
                    self.watch.begin(now)
                return self._tell_all("go")
        elif word == "progress":
            member.batch, member.standing = body["batch"], body
            self.cost = body.get("cost", self.cost)
        elif word == "saved":
            return self._saved_part(stage, dict(body))
        elif word == "done":
            member.done, member.batch = body, body["batches"]
            if not self._ending and all(other.done is not None for other in self.members.values()):
                return self._end("quit", now, QUIT_S)
        elif word == "failed":
            failure = Failure(stage, member.batch, body["error"], body["wrong"])
            return self._gone_wrong(failure, now) if body.get("again") else self._fail(failure, now)
        return []

    def _saved_part(self, stage: str, body: dict[str, Any]) -> list[Command]:
        save = body.pop("save")
        body.pop("epoch", None)
        parts = self._saved.setdefault(save, {})
        parts[stage] = body
        if len(parts) < len(self.members):
            return []
        for older in [each for each in self._saved if each <= save]:
            del self._saved[older]
        self.newest = save
        return [Complete(save, self.epoch, {name: parts[name] for name in self.members})]

    def _went_on(self, now: float) -> None:
        if self._failed_at is not None:
            last = self.recoveries[-1]
            self.recoveries[-1] = last._replace(seconds=now - self._failed_at)
            self._failed_at = None
            self._restarted.clear()

    def _rollback(self, name: str) -> Tell:
        return Tell(name, "rollback", {"epoch": self.epoch, "save": self.newest})

    def _may_recover(self, stage: str) -> bool:
        is_same = self._failed_at is not None and stage not in self._restarted
        return not self._ending and (self.recover > 0 or is_same)

    def _gone_wrong(self, failure: Failure, now: float) -> list[Command]:
        """Restart a worker and let the others roll back, if that is left to do; else the run has failed."""
        stage = failure.stage
        if not self._may_recover(stage):
            return self._fail(failure, now)
        if self.watch is not None:
            self.watch.pause()
        if self._failed_at is None or stage in self._restarted:
            self.recover -= 1
            self._failed_at = now if self._failed_at is None else self._failed_at
        self._restarted.add(stage)
        self.recoveries.append(Recovery(failure, self.newest, 0.0))
        # Always a new epoch: the others may have connected to the one that is gone.
        self.epoch, self.is_running, self.started = self.epoch + 1, False, now
        self._saved.clear()
        for other in self.members.values():
            other.is_ready, other.endpoint, other.done = False, "", None
        self.members[stage].born = self.epoch
        others = [self._rollback(name) for name in self.members if name != stage]
        return [*others, Restart(stage, self.epoch, self.newest)]

    def _peers(self, name: str) -> dict[str, str]:
        number = self.plan.number(name)
        return {self.plan.name(k): self.members[self.plan.name(k)].endpoint for k in self.plan.sources(number)}

    def _exited(self, event: Exited, now: float) -> list[Command]:
        member = self.members[event.stage]
        failure = Failure(event.stage, member.batch, event.why or _how_it_ended(event.code), event.is_wrong_request)
        if self._may_recover(event.stage) and not event.is_wrong_request:
            return self._gone_wrong(failure, now)
        member.is_gone = True
        commands: list[Command] = []
        if not self._ending:
            commands = self._fail(failure, now)
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
        # Who has not said hello does not hear us: it is still importing, and SIGTERM ends it at once.
        deaf = [name for name, member in self.members.items() if not member.endpoint and not member.is_gone]
        return [*self._tell_all(word), *(Signal(name, signal.SIGTERM) for name in deaf)]

    def _tick(self, now: float) -> list[Command]:
        if not self._ending and not self.is_running and now - self.started > self._limit:
            # Who has not even said hello keeps the others waiting.
            late = [name for name, member in self.members.items() if not member.endpoint] or [
                name for name, member in self.members.items() if not member.is_ready
            ]
            text = f"not ready after {self._limit:.0f} s" + (f" (nor is {', '.join(late[1:])})" if late[1:] else "")
            return self._gone_wrong(Failure(late[0], self.members[late[0]].batch, text), now)
        if self.watch is not None and not self._ending and (verdict := self.watch.judge(now)) is not None:
            failure = Failure(verdict.stage, verdict.batch, verdict.text, waits=self.watch.waits(now))
            return [Dump(failure), *self._gone_wrong(failure, now)]
        commands: list[Command] = []
        while self._deadlines and now >= self._deadlines[0][0]:
            commands += self._signal_all(self._deadlines.pop(0)[1])
        return commands

    @property
    def _limit(self) -> float:
        """Seconds in which all have to be ready."""
        if self._failed_at is None:
            return READY_S + self.extra_s
        patience = self.watch.patience_s if self.watch is not None else 0.0
        return min(READY_S, max(BACK_S, patience)) + self.extra_s

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
