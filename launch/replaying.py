"""`timebox replay`: a recorded run again, and whether it gave the same bits. Reads a run's folder, writes nothing in it.

Before anything is computed the record is held against what the run said of it at its end (its seal), so that a file
that was changed since is told as that. Then every array is held against its sum, and first and final weights against
the checkpoints. Bits depend on more than the program: where the environment is another and the bits are too, that is
told as *not comparable*, with what is different, and is no difference.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import results, trace
from pipeline.actions import Action, parse_action, stage_number
from pipeline.arrays import Array, Weights
from pipeline.config import load as load_config
from pipeline.data import batches as make_batches
from pipeline.errors import ConfigError, RunError, ScheduleError, WireError
from pipeline.files import run_digest
from pipeline.plan import Plan
from pipeline.replay import Moment, Replay
from pipeline.weights import digest

from . import own_files, runs
from .environment import differences

SAME, DIFFERENT, NOT_COMPARABLE = 0, 1, 3

Progress = Callable[[int, int], None]


@dataclass
class _Record:
    """What is on record of a run: its journals, sums and what it said at its end, by stage number."""

    folder: Path
    plan: Plan
    summary: dict[str, Any]
    journals: dict[int, list[Action]]
    sums: dict[int, Array]
    warnings: list[str]

    @property
    def actions(self) -> int:
        return sum(map(len, self.journals.values()))


def document(folder: Path, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Replay a run and return the document of `timebox replay --json`; raises ConfigError for a record that is not whole."""
    began = time.monotonic()
    status = runs.describe(folder)["status"]  # before anything is read: it may end meanwhile
    record, replay = _prepare(folder)
    plan, status = record.plan, record.summary.get("status", status)
    first = _weights_differ(folder, replay, "initial", [plan.name(k) for k in record.journals])
    with np.errstate(all="ignore"):  # a run that flew off does so again
        for _ in replay.run():
            if not replay.actions % 1000:
                progress(replay.actions, record.actions)
    longer = next((plan.name(k) for k in record.journals if replay.sums_left(k)), None)
    if longer and replay.is_whole and replay.difference is None:
        raise ConfigError(f"{folder / 'journal' / longer}.sums: has more sums than the run has arrays")
    is_complete = record.summary.get("status") in ("done", "simulated")
    if is_complete and not replay.is_whole and replay.difference is None:
        why = next((text for k in record.journals if (text := replay.rest(k))), "the journals end before the run does")
        raise ConfigError(f"{folder.name}: its journals are not of this configuration: {why}")
    checkpoints = folder / "checkpoint"
    last = "final" if is_complete or (checkpoints / "final").is_dir() else "interrupted"
    finished = [plan.name(k) for k in record.journals if replay.is_replayed(k)]
    if not is_complete:  # a stage that was killed has left none
        is_there = replay.is_whole or status != "running"  # of one that goes on, what it leaves is of a later moment
        finished = [name for name in finished if is_there and (checkpoints / last / f"{name}.npz").is_file()]
    final = _weights_differ(folder, replay, last, finished)
    found = run_digest([digest(replay.weights(k)) for k in record.journals]) if replay.is_whole else None
    difference: dict[str, Any] | None = first
    if difference is None and replay.difference is not None:
        difference = replay.difference._asdict()
    if difference is None:
        difference = final
    if difference is None and is_complete and found != record.summary.get("digest"):
        difference = {"stage": "all", "action": "end", "array": "the digest of all final weights"}
    if difference is not None:
        difference["far_off"] = (final["far_off"] if final else 0.0) if replay.is_whole else None
    others = differences(runs.read_json(folder / "environment.json")) if difference is not None else []
    return {
        "run": folder.name,
        "same": difference is None,
        "comparable": not others,
        "first_difference": difference,
        "environment": others,
        "digest": found,
        "status": status,
        "actions": replay.actions,
        "recorded_actions": record.actions,
        "arrays": replay.compared,
        "stages": len(record.journals),
        "seconds": time.monotonic() - began,
        "warnings": record.warnings + _left(record, replay, status),
    }


def exit_code(found: dict[str, Any]) -> int:
    """Return 0 for the same bits, 1 for a difference, 3 where the environment is another."""
    return SAME if found["same"] else DIFFERENT if found["comparable"] else NOT_COMPARABLE


def is_comparable(folder: Path) -> bool:
    """Whether bits that differ say something: the environment is that of the run."""
    return not differences(runs.read_json(folder / "environment.json"))


def moment(folder: Path, until: str, progress: Progress = lambda *_: None) -> tuple[Moment, dict[str, Any] | None]:
    """Replay as far as `box-1:T17`; return what is there then, and the first difference from the run's record, if any.

    Raises ConfigError for what never happened.
    """
    record, replay = _prepare(folder)
    name, _, text = until.partition(":")
    try:
        number, action = stage_number(name, record.plan.boxes), parse_action(text)
    except (ScheduleError, WireError) as error:
        raise ConfigError(f"--until: {until!r}: {error}; say STAGE:ACTION, as box-1:T17") from None
    if action not in record.journals[number]:
        raise ConfigError(f"--until: {name} never did {action}; its journal has {_span(record.journals[number])}")
    progress(0, record.actions)
    first = _weights_differ(folder, replay, "initial", [record.plan.name(k) for k in record.journals])
    try:
        with np.errstate(all="ignore"):
            found = replay.until(number, action)
    except ScheduleError as error:
        raise ConfigError(f"{folder.name}: {error}") from None
    return found, first or (None if replay.difference is None else replay.difference._asdict())


def named(found: Moment) -> dict[str, Array]:
    """Return a moment's arrays by their names in its npz: `after.Wx`, `before.Wx`, `activation`, `synthetic`, …"""
    weights = {f"after.{name}": array for name, array in found.weights.items()}
    return weights | {f"before.{name}": array for name, array in found.weights_before.items()} | found.arrays


def save_moment(found: Moment, path: Path) -> Path:
    """Write a moment's arrays as npz and return the path; raises ConfigError for a path that is none."""
    if path.suffix != ".npz" or path.is_dir():
        raise ConfigError(f"--out: {path}: a file whose name ends in .npz is wanted")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--out: there is no folder {path.parent}")
    results.save_weights(path, named(found))
    return path


def _span(journal: list[Action]) -> str:
    if not journal:
        return "no action"
    last = {(action.kind, action.sibling): action for action in journal}
    return ", ".join(f"{action._replace(batch=0)} to {action}" for _, action in sorted(last.items()))


def _prepare(folder: Path) -> tuple[_Record, Replay]:
    config = load_config(folder / "config.toml")
    plan = Plan.of(config)
    if not (folder / "journal").is_dir():
        raise ConfigError(
            f"{folder.name} has no journals: a reference, or a run that never began; `timebox run` records them"
        )
    summary = runs.read_json(folder / "summary.json") or {}
    record = _Record(folder, plan, summary, {}, {}, list(own_files.changed(config)))
    if record.summary.get("status") == "simulated" and not (folder / "checkpoint").is_dir():
        raise ConfigError(
            f"{folder.name} was simulated without arithmetic: it has no bits; `simulate --arithmetic` computes them"
        )
    try:
        sealed = {stage["name"]: stage.get("seal") for stage in record.summary.get("stages", [])}
    except (TypeError, KeyError, AttributeError):
        raise ConfigError(f"{folder / 'summary.json'}: damaged: it does not list its stages") from None
    for k in range(1, plan.head + 1):
        _read(record, k, sealed.get(plan.name(k)))
    return record, Replay(config, make_batches(config), record.journals, record.sums)


def _read(record: _Record, number: int, seal: dict[str, Any] | None) -> None:
    """Read one stage's journal and sums, and hold them against the seal that the stage set on them at its end."""
    name = record.plan.name(number)
    path = record.folder / "journal" / f"{name}.txt"
    try:
        record.journals[number] = trace.read_journal(record.folder, name)
        record.sums[number] = trace.read_sums(record.folder, name)
    except RunError as error:
        raise ConfigError(f"{error}; a run replays from the journals of all its stages") from None
    if seal is None:
        if record.summary.get("status") == "done":
            raise ConfigError(
                f"{record.folder.name}: {name} has left no seal on its journal; the run is of an older version"
            )
        return
    if not isinstance(seal, dict) or not {"journal", "sums"} <= seal.keys():
        raise ConfigError(f"{record.folder / 'summary.json'}: damaged: the seal of {name} makes no sense")
    for part, suffix in (("journal", ".txt"), ("sums", ".sums")):
        file = path.with_suffix(suffix)
        if hashlib.sha256(file.read_bytes()).hexdigest() != seal[part]:
            raise ConfigError(f"{file}: is not what {name} wrote: it was changed or cut after the run")


def _weights_differ(folder: Path, replay: Replay, checkpoint: str, names: list[str]) -> dict[str, Any] | None:
    """Return how weights differ from a checkpoint's: where first, and by how much at most; None where they do not."""
    found: dict[str, Any] | None = None
    for name in names:
        path = folder / "checkpoint" / checkpoint / f"{name}.npz"
        try:
            stored = results.load_weights(path)
        except RunError as error:
            raise ConfigError(str(error)) from None
        now = replay.weights(replay.plan.number(name))
        for array, off in _distances(stored, now):
            if found is None:
                text = f"{array} of checkpoint/{checkpoint}"
                found = {
                    "stage": name,
                    "action": "start" if checkpoint == "initial" else "end",
                    "array": text,
                    "far_off": off,
                }
            found["far_off"] = max(found["far_off"], off)
    return found


def _distances(stored: Weights, now: Weights) -> list[tuple[str, float]]:
    """Return the arrays that are not the same to the bit, and how far they are apart at most."""
    found = []
    for name in sorted({*stored, *now}):
        one, other = stored.get(name), now.get(name)
        if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
            found.append((name, float("inf")))
        elif one.tobytes() != other.tobytes():
            with np.errstate(invalid="ignore"):
                off = np.abs(one.astype(float) - other.astype(float))
                off[np.isnan(one) != np.isnan(other)] = np.inf
                found.append((name, float(np.nanmax(off, initial=0.0))))
    return found


def _left(record: _Record, replay: Replay, status: str) -> list[str]:
    """Return what of a run that had not come to its end could not be replayed, and why."""
    left = record.actions - replay.actions
    if not left:
        return []
    why = next((text for k in record.journals if (text := replay.rest(k))), "")
    lost = "for what was lost with the run's end" if record.summary.get("status") != "done" else "in vain"
    if status == "running":
        lost = "for what was not yet on record"
    return [f"{left:,} of {record.actions:,} recorded actions wait {lost}: {why}"]


# From Python, where numpy may have been imported with other settings: in a process of its own


def replay(folder: Path) -> dict[str, Any]:
    """Replay a run in a process of its own and return the document; raises ConfigError for a record that is not whole."""
    done = _command(folder)
    found: dict[str, Any] = json.loads(done)
    return found


def replay_until(folder: Path, until: str) -> dict[str, Array]:
    """Replay a run as far as `box-1:T17` in a process of its own and return the arrays there, by name; raises ConfigError."""
    with tempfile.TemporaryDirectory(prefix="timebox-") as temporary:
        path = Path(temporary) / "moment.npz"
        _command(folder, "--until", until, "--out", str(path))
        return results.load_weights(path)


def _command(folder: Path, *more: str) -> str:
    command = [sys.executable, "-m", "launch", "replay", str(folder), "--json", *more]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", errors="surrogateescape", check=False
    )
    if done.returncode not in (SAME, DIFFERENT, NOT_COMPARABLE) or not done.stdout:
        raise ConfigError(done.stderr.strip().removeprefix("timebox: ") or f"replay ended with {done.returncode}")
    return done.stdout
