"""Recordings made by hand, for tests of what is computed from them: times in microseconds, chosen so that sums are round."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.actions import Action, Message, Part, parse_action
from pipeline.config import dump, resolve
from pipeline.lacks import Lack
from pipeline.plan import Plan
from pipeline.recorder import Recorder
from pipeline.schema import Config
from pipeline.trace import DONE, GO

#: Where the monotonic clock stands when a hand-made run begins.
ZERO = 5_000_000_000


def make_folder(folder: Path, flags: Mapping[str, Any] | None = None) -> Config:
    """Make a run's folder with its configuration; by default two untied boxes and a head, two batches, decoupled."""
    config = resolve(
        flags={
            "schedule.kind": "decoupled",
            "model.tied": False,
            "model.width": 4,
            "data.train": 2,
            "data.test": 2,
            "train.epochs": 1,
            **(flags or {}),
        }
    )
    (folder / "logs").mkdir(parents=True)
    (folder / "config.toml").write_text(dump(config))
    return config


class Hand:
    """Writes one stage's records one after the other; every call says how long it took, in microseconds."""

    def __init__(self, folder: Path, name: str, plan: Plan, *, pid: int = 100) -> None:
        self.number = plan.number(name)
        self.recorder = Recorder(folder, name, {"pid": pid, "wall_ns": 10**18 + ZERO, "mono_ns": ZERO})
        self.now = ZERO
        self._sent: dict[int, int] = {}
        self._taken: dict[int, int] = {}
        self.recorder.tape.mark(GO, self.now)

    def _pass(self, us: float) -> tuple[int, int]:
        start, self.now = self.now, self.now + round(us * 1000)
        return start, self.now

    def idle(self, us: float) -> Hand:
        """Let time pass that is not on record."""
        self._pass(us)
        return self

    def part(self, text: str, name: str, us: float, read: int = 0, written: int = 0) -> Hand:
        """Do a part of an action, `F0` say."""
        self.recorder.tape.part(parse_action(text), Part(name, read, written), *self._pass(us))
        return self

    def wait(self, us: float, lack: Lack | None) -> Hand:
        """Wait for something."""
        self.recorder.tape.waited(lack, *self._pass(us))
        return self

    def send(self, kind: str, batch: int, target: int, us: float, *, encode: float = 1, size: int = 100) -> Hand:
        """Send a message: encode for so long, of `us` in all."""
        start, end = self._pass(us)
        sequence = self._sent.get(target, 0)
        self._sent[target] = sequence + 1
        message = Message(kind, batch, self.number, target)
        self.recorder.tape.sent(message, size, 0, sequence, start, start + round(encode * 1000), end)
        return self

    def take(self, kind: str, batch: int, source: int, us: float, *, receive: float = 0, size: int = 100) -> Hand:
        """Take a message: receive for so long, 0 where it was waited for, of `us` in all."""
        start, end = self._pass(us)
        sequence = self._taken.get(source, 0)
        self._taken[source] = sequence + 1
        message = Message(kind, batch, source, self.number)
        self.recorder.tape.taken(message, size, 0, sequence, start, start + round(receive * 1000), end)
        return self

    def journal(self, text: str) -> Hand:
        """Take actions into the journal: `F0 T0`."""
        for word in text.split():
            self.recorder.journal(Action(*parse_action(word)), lambda: self.now)
        return self

    def done(self, record_ns: int = 500, cpu_ms: int = 1, log_ms: int = 0) -> None:
        """End."""
        self.recorder.done(DONE, self.now, cost_ns=record_ns, cpu_ms=cpu_ms, log_ms=log_ms)
        self.recorder.close()


def hands(folder: Path, config: Config) -> list[Hand]:
    """Return a hand for each stage, the head last."""
    plan = Plan.of(config)
    return [Hand(folder, plan.name(k), plan, pid=100 + k) for k in range(1, plan.head + 1)]
