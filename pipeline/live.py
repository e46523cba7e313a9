"""What a live worker adds to `drive.advance`: messages over ZeroMQ, and a clock that watches and records."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from . import steps
from .actions import ACTIVATION, COUNTED, Action, Message, Part
from .frames import Frame
from .lacks import Lack
from .plan import Plan
from .recorder import Recorder
from .tape import Tape
from .wire import Decoder, Encoder
from .work import Arrays
from .worklog import WorkLog

_now = time.monotonic_ns
#: Strangers' messages that are looked at before a stage goes on with its own work: a flood delays it and cannot stop it.
MOST_DROPPED = 64


class Versioned(Protocol):
    """A stage's arithmetic, as far as messages tell of it."""

    @property
    def version(self) -> int:
        """The version of its weights."""


class Edges(Protocol):
    """A stage's edges: its data sockets, or those as they are emulated."""

    def send(self, target: int, frames: Sequence[Frame]) -> None:
        """Send frames to another stage."""

    def receive(self, wait: bool) -> list[Frame] | None:
        """Return the next message's frames or None, which `wait` puts off for a short time."""


class LivePort:
    """A stage's messages over ZeroMQ. Every wait and every message is recorded, and waits are added up."""

    def __init__(
        self,
        links: Edges,
        encoder: Encoder,
        decoder: Decoder,
        work: Versioned,
        recorder: Recorder,
        number: int,
    ) -> None:
        self._links = links
        self._encoder = encoder
        self._decoder = decoder
        self._work = work
        self._tape = recorder.tape
        self._number = number
        self._may_wait = False
        self.sent, self.taken = encoder.sequence, decoder.sequence  # messages by target, by source
        self.lack: Lack | None = None  # what is waited for now
        self.waited_ns: dict[tuple[str, int], int] = {}  # by starved or blocked, and by whom

    @property
    def is_waiting(self) -> bool:
        """Whether the stage could do nothing when it looked last."""
        return self._may_wait

    @property
    def held(self) -> Mapping[int, int]:
        """How many messages have come and are held back until their emulated arrival, by source."""
        held_back = getattr(self._links, "held_back", None)  # sockets hold nothing back
        return {} if held_back is None else held_back()

    @property
    def damaged(self) -> list[int]:
        """The stages of which a message is awaited that seems to have come, damaged."""
        return self._decoder.damaged

    def wait(self, lack: Lack | None) -> None:
        """Let the next `arrived` sleep for a message; `lack` says for which."""
        self._may_wait = True
        self.lack = lack

    def arrived(self) -> Iterable[tuple[Message, Arrays]]:
        """Yield all that has come; the first one may be waited for, if no stranger's comes before it."""
        may_wait, self._may_wait = self._may_wait, False
        receive, decode, tape = self._links.receive, self._decoder.decode, self._tape
        decoder, dropped, may_sleep = self._decoder, 0, may_wait
        start = _now()
        while (frames := receive(may_sleep)) is not None:
            taken = _now()
            may_sleep = False
            received = decode(frames)
            if received is None:
                dropped += 1
                if dropped == MOST_DROPPED:
                    break
                continue
            if may_wait:
                self._waited(start, taken)
                may_wait, start = False, taken
            message, version, arrays, size = received
            yield message, arrays
            if tape.is_on:
                sequence = decoder.sequence[message.source] - 1
                end = _now()
                tape.taken(message, size, version, sequence, start, taken, end)
                start = end
            else:
                tape.left_out += 1
        if may_wait:
            self._waited(start, _now())

    def _waited(self, start: int, end: int) -> None:
        lack = self.lack
        self._tape.waited(lack, start, end)
        if lack is not None and lack.is_wait:
            key = ("blocked" if lack.is_blocked(self._number) else "starved", lack.source)
            self.waited_ns[key] = self.waited_ns.get(key, 0) + end - start

    def send(self, message: Message, arrays: Arrays) -> None:
        """Encode and send a message."""
        version, target, tape = self._work.version, message.target, self._tape
        if not tape.is_on:
            tape.left_out += 1
            self._links.send(target, self._encoder.encode(message, version, arrays))
            return
        start = _now()
        frames = self._encoder.encode(message, version, arrays)
        sent = _now()
        self._links.send(target, frames)
        encoder = self._encoder
        tape.sent(message, encoder.size, version, encoder.sequence[target] - 1, start, sent, _now())


class LiveWatcher:
    """Times every part of every action, for the trace and, if asked, for the log."""

    def __init__(self, recorder: Recorder, log: WorkLog, plan: Plan, number: int) -> None:
        self._recorder = recorder
        self._log = log
        self._steps = {(step.action, step.part): step for step in steps.steps(plan) if step.stage == number}
        self._tells = log.tells_actions
        self._since = 0
        self.busy_ns = 0
        self.log_ns = 0
        self.actions = 0  # that have ended

    def begin(self, action: Action) -> None:  # noqa: ARG002
        """Start the clock."""
        self._since = _now()

    def part(self, action: Action, part: Part) -> None:
        """Record a part that has ended; the next one begins."""
        now = _now()
        self._recorder.tape.part(action, part, self._since, now)
        self.busy_ns += now - self._since
        if self._tells:
            self._tell(action, part, now)
            told = _now()  # the log's own time is nobody's work
            self.log_ns += told - now
            now = told
        self._since = now

    def _tell(self, action: Action, part: Part, now: int) -> None:
        step = self._steps.get((action.kind, part.name)) if not action.sibling else None
        number = {"step": step.number} if step else {}
        self._log.action(
            step.text if step else steps.describe(action.kind, part.name, action.sibling),
            mono_ns=now,
            action=str(action),
            part=part.name,
            **{COUNTED.get(action.kind, "batch"): action.batch},
            **number,
            read=part.read,
            written=part.written,
            ms=round((now - self._since) / 1e6, 3),
        )

    def end(self, action: Action) -> None:
        """Add the action to the journal."""
        self.actions += 1
        self._recorder.journal(action, _now)


def cost_of_a_record() -> int:
    """Return what recording one message costs here, in nanoseconds: clock and all, the median of some lots."""
    message, tape, lots = Message(ACTIVATION, 0, 1, 2), Tape(), []
    for _ in range(5):
        began = _now()
        for _ in range(100):
            tape.sent(message, 256, 1, 1, _now(), _now(), _now())
        tape.write()
        lots.append(_now() - began)
    return sorted(lots)[2] // 100
