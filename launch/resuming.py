"""`timebox resume`: a run that was cut off goes on, in its own folder, from its newest complete checkpoint.

What was done after that is done again; what an earlier attempt wrote of it is kept beside (`journal/epoch-0`, `trace/epoch-0`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pipeline import checkpoints
from pipeline.checkpoints import Checkpoint
from pipeline.config import dump, load
from pipeline.errors import ConfigError
from pipeline.plan import Plan
from pipeline.schema import Config

from . import runs
from .live import Result, carry_out
from .preflight import check
from .process import stage_state
from .spawn import LiveRun, Observer, attempt

#: How long workers of a launcher that died may take to be gone before they are killed, in seconds.
ORPHANS_S = 3.0


class Request(NamedTuple):
    """A run that can go on: where from, after which attempts, and what is to be said of it."""

    folder: Path
    config: Config
    plan: Plan
    begin: Checkpoint | None
    attempts: list[dict[str, Any]]
    why: str
    warnings: list[str]
    recover: int | None = None  # what was asked for
    anew: bool = False

    @property
    def batch(self) -> int:
        """The batch (of the data) from which it goes on."""
        return 0 if self.begin is None else self.begin.batch


def prepare(folder: Path, recover: int | None = None, *, anew: bool = False) -> Request:
    """Return how a run can go on; raises ConfigError for one that cannot, and has changed nothing.

    `anew`: begin at the first batch if none of its checkpoints is whole.
    """
    config = load(folder / "config.toml")
    state = runs.read_json(folder / "launcher.json") or {}
    summary = runs.read_json(folder / "summary.json") or {}
    status = str(runs.describe(folder)["status"])
    if state.get("reference"):
        raise ConfigError(f"{folder.name} is a reference: one process without checkpoints; run it again")
    if status == "running":
        raise ConfigError(f"{folder.name} is running; `timebox stop {folder.name}` ends it")
    if status == "done":
        raise ConfigError(f"{folder.name} is done: nothing is left to go on with; `timebox run` begins a new one")
    if status == "simulated":
        raise ConfigError(f"{folder.name} was simulated: nothing is left to go on with; `timebox run` trains")
    if recover is not None:
        config = msgspec.structs.replace(config, run=msgspec.structs.replace(config.run, recover=recover))
    plan = Plan.of(config)
    begin, warnings = checkpoints.newest(folder, plan)
    if begin is None and warnings and not anew:
        raise ConfigError(f"{folder.name}: no checkpoint of it is whole: {'; '.join(warnings)}; --anew gives them up")
    strange = [] if begin or anew else sorted((folder / "checkpoint").glob(f"batch-*/{checkpoints.MANIFEST}"))
    if strange:  # they would be removed, by a configuration that was emptied or cut, say
        raise ConfigError(
            f"{folder / 'config.toml'}: was changed after {strange[-1].parent.name} was saved; put back what it was, "
            "or --anew gives its checkpoints up"
        )
    if begin is None and not anew and (lost := _lost(folder / "config.toml", config)):
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise ConfigError(
            f"{folder / 'config.toml'}: lacks {lost[0]}{more}: it was cut, or is an older version's; put back what it was, "
            "or --anew trains by what is left"
        )
    if begin is None:
        warnings.append(
            "there is no complete checkpoint: it begins anew; --checkpoint.every sets how often one is taken"
        )
    told = state.get("attempts")
    attempts = [each for each in told if _is_attempt(each)] if isinstance(told, list) else []
    why = str(summary.get("error") or f"it {status}" if status == "died" else f"it was {status}")
    return Request(folder, config, plan, begin, attempts, why, warnings, recover, anew)


def _lost(path: Path, config: Config) -> list[str]:
    """Return the keys that a run's file does not have, and for which what is usual would be taken: a run has them all."""
    kept = tomllib.loads(path.read_text(encoding="utf-8"))
    whole = tomllib.loads(dump(config))
    return [f"{part}.{key}" for part, keys in whole.items() for key in keys if key not in kept.get(part, {})]


def _is_attempt(told: object) -> bool:
    return isinstance(told, dict) and isinstance(told.get("epoch", 0), int)


def resume(
    request: Request, observe: Observer = lambda _: None, on_checked: Callable[[], None] = lambda: None
) -> Result:
    """Let a run go on and return what became of it; raises ConfigError before it starts."""
    folder, since_ns = request.folder, time.monotonic_ns()
    with runs.alone(folder):
        _end_orphans(folder)
        request = prepare(folder, request.recover, anew=request.anew)  # another command may have taken it up meanwhile
        plan, begin = request.plan, request.begin
        check(request.config, reference=False)
        on_checked()
        save = None if begin is None else begin.save
        # At least one more than any that has left a trace of itself: launcher.json may be lost.
        known = [each.get("epoch", 0) for each in request.attempts]
        epoch = max([0, *known, *([int(begin.manifest["epoch"])] if begin is not None else [])]) + 1
        _put_aside(folder, epoch - 1)
        checkpoints.forget_later(folder, plan, save)
        live = LiveRun(request.config, folder, epoch, save)
        live.attempts = [*request.attempts, attempt(plan, epoch, save, request.why)]
        runs.point_latest(folder.parent, folder)
        return carry_out(live, request.config, observe, since_ns)


def _end_orphans(folder: Path) -> None:
    """Wait for workers whose launcher has died, and kill those that do not go: they must not write beside the new ones."""
    stages = runs.stages_of(runs.read_json(folder / "launcher.json") or {})
    deadline = time.monotonic() + ORPHANS_S
    for stage in stages:
        pid = stage.get("pid")
        while isinstance(pid, int) and stage_state(stage, folder.name) not in ("gone", "unknown"):
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            time.sleep(0.02)


def _put_aside(folder: Path, epoch: int) -> None:
    """Put aside what tells how the attempt before ended, which is not how the run ends, and remove what it wrote by half."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)
    for path in (folder / "summary.json", folder / "logs" / "error.json"):
        if path.is_file():
            path.replace(path.with_name(f"{path.stem}.epoch-{epoch}.json"))
    for name in ("interrupted", "final"):
        shutil.rmtree(folder / "checkpoint" / name, ignore_errors=True)
