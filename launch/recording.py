"""A run's trace as columns: every stage's records, and the messages with both their ends. Reads files, imports numpy.

What cannot be read is left out and named in `warnings`; only where nothing is left is that an error. Times of several hosts
are the launcher's (`aligned`), to within `clock_error_ns`; a message that was taken before it was sent stays what it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline import trace
from pipeline.actions import ACTIONS
from pipeline.arrays import Array
from pipeline.config import load as load_config
from pipeline.errors import ConfigError, RunError
from pipeline.plan import Plan
from pipeline.schema import Config

from . import aligned, lines, runs
from .aligned import Shift


@dataclass(frozen=True)
class StageRecords:
    """One stage's records in the order of their ends, as `trace.FIELDS` names them; times in monotonic nanoseconds."""

    name: str
    number: int
    pid: int
    array: Array
    go_ns: int
    end_ns: int  # done, or the end of the last record
    is_whole: bool  # whether it tells its own end
    record_ns: int  # what a record cost, 0: not told
    cpu_s: float | None
    log_s: float  # what writing log lines for every action took
    shift_ns: int  # from the monotonic clock to the wall clock of its host

    @cached_property
    def parts(self) -> Array:
        """The parts of actions."""
        return self.of(*ACTIONS)

    def of(self, *kinds: str) -> Array:
        """Return the records of some kinds, by their letters."""
        return self.array[np.isin(self.array["kind"], np.frombuffer("".join(kinds).encode(), np.uint8))]

    @property
    def total_ns(self) -> int:
        """The stage's time, from go to its end."""
        return self.end_ns - self.go_ns


class Messages(NamedTuple):
    """The messages of a run with both ends on record, in the order in which they were sent; arrays of one length.

    start: encoding began; sent: encoded; returned: send had returned; received: receiving began; taken: received; kept:
    decoded and handed to the rules. Monotonic nanoseconds.
    """

    kind: Array
    source: Array
    target: Array
    batch: Array
    size: Array
    sequence: Array
    start: Array
    sent: Array
    returned: Array
    received: Array
    taken: Array
    kept: Array


@dataclass
class Recording:
    """What is on record of a run."""

    folder: Path
    config: Config
    plan: Plan
    stages: list[StageRecords]  # those that could be read, in stage order
    warnings: list[str] = field(default_factory=list)
    clock_error_ns: int = 0  # how far times of two stages on different hosts may be off against each other; 0: one host

    @property
    def is_whole(self) -> bool:
        """Whether it tells of the run from its first batch on, to the end of every stage."""
        is_begun = runs.resumed_from(runs.read_json(self.folder / "launcher.json") or {}) is None
        return is_begun and len(self.stages) == self.plan.head and all(stage.is_whole for stage in self.stages)

    @property
    def names(self) -> list[str]:
        """The names of all stages of the run, whether on record or not."""
        return [self.plan.name(k) for k in range(1, self.plan.head + 1)]

    @property
    def origin_ns(self) -> int:
        """Time zero: the first stage's go."""
        return min(stage.go_ns for stage in self.stages)

    @property
    def end_ns(self) -> int:
        """The end of the last stage."""
        return max(stage.end_ns for stage in self.stages)

    @property
    def gaps(self) -> int:
        """How many records were left out, by sampling or because the disk did not keep up."""
        return sum(int(stage.of("g")["a"].sum()) for stage in self.stages)

    @cached_property
    def messages(self) -> Messages:
        """The messages whose sending and taking are both on record."""
        sends = stacked([(stage.number, stage.of("s")) for stage in self.stages])
        takes = stacked([(stage.number, stage.of("t")) for stage in self.stages])
        # One number for an edge and a place on it: source, target, sequence.
        sent_keys = _keys(sends[0], sends[1]["peer"], sends[1]["d"])
        taken_keys = _keys(takes[1]["peer"], takes[0], takes[1]["d"])
        _, here, there = np.intersect1d(sent_keys, taken_keys, return_indices=True)
        s, t = sends[1][here], takes[1][there]
        order = np.argsort(s["start"] + s["c"], kind="stable")
        s, t, source = s[order], t[order], sends[0][here][order]
        return Messages(
            kind=s["code"], source=source, target=s["peer"], batch=s["batch"], size=s["a"], sequence=s["d"],
            start=s["start"], sent=s["start"] + s["c"], returned=s["end"],
            received=t["start"], taken=t["start"] + t["c"], kept=t["end"],
        )  # fmt: skip


def stacked(parts: list[tuple[int, Array]]) -> tuple[Array, Array]:
    """Return stage numbers and records of several stages as two arrays of one length."""
    if not parts:
        return np.zeros(0, np.uint64), np.zeros(0, trace.FIELDS)
    numbers = np.concatenate([np.full(len(records), number, np.uint64) for number, records in parts])
    return numbers, np.concatenate([records for _, records in parts])


def _keys(source: Array, target: Array, sequence: Array) -> Array:
    keys: Array = (source.astype(np.uint64) << np.uint64(48)) | (target.astype(np.uint64) << np.uint64(32)) | sequence
    return keys


def load(folder: Path) -> Recording:
    """Return what can be read of a run's trace; raises ConfigError where it has none, RunError where nothing can be."""
    config = load_config(folder / "config.toml")
    plan = Plan.of(config)
    recording = Recording(folder, config, plan, [])
    if config.trace.level == "off":
        raise ConfigError(f"{folder.name} has no trace: it ran with trace.level off; with `full` it has one")
    if not (folder / "trace").is_dir():
        raise ConfigError(
            f"{folder.name} has no trace: a reference, or a run that never began; `timebox run` records one"
        )
    alignment = aligned.of_run(folder, plan)
    recording.warnings += alignment.warnings
    recording.clock_error_ns = alignment.error_ns
    for number in range(1, plan.head + 1):
        name = plan.name(number)
        try:
            header, array, faults, _ = trace.read_records(folder, name)
        except RunError as error:
            recording.warnings.append(str(error))
            continue
        recording.warnings += faults
        if not len(array):
            recording.warnings.append(f"{trace.path_of(folder, name)}: has no record")
            continue
        recording.stages.append(_stage(name, number, header, array, alignment.of(name)))
        if not recording.stages[-1].is_whole:
            recording.warnings.append(f"{name}: its trace ends before the run did, at its last flush")
    if not recording.stages:
        raise RunError(f"{folder.name}: nothing of its trace can be read: {'; '.join(recording.warnings)}")
    if alignment.has_hosts and (text := _backward(recording)):
        recording.warnings.append(text)
    begun = runs.resumed_from(runs.read_json(folder / "launcher.json") or {})
    if begun is not None:
        before = ", ".join(f"trace/{path.name}" for path in sorted((folder / "trace").glob("epoch-*"))) or "nowhere"
        recording.warnings.append(
            f"the run was taken up again from batch {begun:,}: its trace begins there; what was recorded before is in {before}"
        )
    if recording.gaps:
        recording.warnings.append(f"{recording.gaps:,} records were left out: {lines.why_left_out(config)}")
    return recording


def _backward(recording: Recording) -> str:
    """Return how many messages were taken before they were sent, by more than clocks of several hosts may be off."""
    early = recording.messages.sent - recording.messages.taken
    count = int((early > recording.clock_error_ns).sum())
    if not count:
        return ""
    most = f"{early.max() / 1e6:,.3f} ms"
    return f"{count:,} messages were taken up to {most} before they were sent, beyond what the hosts' clocks may be off"


def _stage(name: str, number: int, header: dict[str, object], array: Array, shift: Shift) -> StageRecords:
    array = shift.records(array)
    marks = array[array["kind"] == trace.MARK]
    go, done = marks[marks["code"] == trace.GO], marks[marks["code"] == trace.DONE]
    last = done[-1] if len(done) else None
    numbers = {key: value if isinstance(value := header.get(key), int) else 0 for key in ("pid", "wall_ns", "mono_ns")}
    return StageRecords(
        name=name,
        number=number,
        pid=numbers["pid"],
        array=array,
        go_ns=int(go[0]["start"]) if len(go) else int(array["start"].min()),
        end_ns=int(last["start"]) if last is not None else int(array["end"].max()),
        is_whole=last is not None,
        record_ns=int(last["a"]) if last is not None else 0,
        cpu_s=int(last["c"]) / 1000 if last is not None else None,
        log_s=int(last["d"]) / 1000 if last is not None else 0.0,
        shift_ns=numbers["wall_ns"] - shift.time(numbers["mono_ns"]),
    )
