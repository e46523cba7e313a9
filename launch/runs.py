"""The folder of runs: make one, find one, list them. Reads and writes files; knows no process.

runs/20261122-030405-article/     the run's id is the folder's name
runs/latest                       a link to the newest
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import faults
from pipeline.actions import Action
from pipeline.config import dump, load
from pipeline.errors import ConfigError, RunError
from pipeline.files import save_text
from pipeline.plan import Plan
from pipeline.schema import TASKS, Config
from pipeline.trace import read_journal

from .process import is_alive

LATEST = "latest"
#: What is said of a run whose end was written down and cannot be read.
UNREADABLE = "summary.json cannot be read"


def make_run(config: Config, label: str) -> Path:
    """Make a run's folder with its configuration in it; raises ConfigError for a folder that cannot be written."""
    parent = Path(config.run.dir).expanduser()
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{config.run.name or label}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = _new_folder(parent, stamp)
        (folder / "logs").mkdir()
    except OSError as error:
        raise _cannot_write(parent, error.strerror) from None
    save_text(folder / "config.toml", dump(config))
    point_latest(parent, folder)
    return folder


def check_is_folder(parent: Path, key: str) -> None:
    """Raise ConfigError if something that is not a folder is in the place of the folder of runs."""
    with contextlib.suppress(OSError):
        if parent.exists() and not parent.is_dir():
            raise ConfigError(f"{key}: {parent} is not a folder; choose another with --run.dir")


def check_parent(config: Config) -> None:
    """Raise ConfigError if a run's folder could not be made where the configuration wants it."""
    parent = Path(config.run.dir).expanduser()
    check_is_folder(parent, "run.dir")
    try:
        nearest = next(path for path in (parent, *parent.absolute().parents) if path.exists())
    except OSError as error:
        raise _cannot_write(parent, error.strerror) from None
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise _cannot_write(parent, f"{nearest} is read-only" if nearest.is_dir() else f"{nearest} is not a folder")


def _cannot_write(parent: Path, why: str | None) -> ConfigError:
    return ConfigError(f"run.dir: cannot write to {parent}: {why}; choose another folder with --run.dir")


def _new_folder(parent: Path, stamp: str) -> Path:
    for attempt in range(1000):
        folder = parent / (f"{stamp}-{attempt}" if attempt else stamp)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise ConfigError(f"run.dir: a thousand runs are called {stamp}; name them apart with --run.name")


def point_latest(parent: Path, folder: Path) -> None:
    """Let the link `latest` point to a run; a file system without links goes without."""
    link = parent / f".{LATEST}.{os.getpid()}"
    with contextlib.suppress(OSError):
        link.symlink_to(folder.name)
        link.replace(parent / LATEST)


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    with contextlib.suppress(OSError):  # a name that is too long, say
        return (folder / "config.toml").is_file() and (folder / "logs").is_dir()
    return False


def find(run: str, parent: Path) -> Path:
    """Return the folder of a run given by id, name, path or `latest`; raises ConfigError that lists the newest runs."""
    for folder in (parent / run, Path(run).expanduser()):
        if is_run(folder):
            return folder.resolve()
    named = [folder for folder in all_runs(parent) if _name(folder) == run or folder.name.startswith(run)]
    if len(named) == 1 or (named and all(_name(folder) == run for folder in named)):
        return named[-1].resolve()
    if named:
        raise ConfigError(f"{run!r} may be any of {', '.join(folder.name for folder in named)}; say more of its id")
    known = [folder.name for folder in all_runs(parent)][-3:]
    hint = (
        f"the newest are {', '.join(reversed(known))}"
        if known
        else f"there is none in {parent}; `timebox run` makes one"
    )
    raise ConfigError(f"no run {run!r}: {hint}")


def all_runs(parent: Path) -> list[Path]:
    """Return the folders of all runs, oldest first."""
    with contextlib.suppress(OSError):
        if not parent.is_dir():
            return []
    there = (path for path in parent.iterdir() if not path.name.startswith(".") and not path.is_symlink())
    return sorted(path for path in there if is_run(path))


def _name(folder: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, AttributeError):
        return str(tomllib.loads((folder / "config.toml").read_text(encoding="utf-8")).get("run", {}).get("name", ""))
    return ""


def size(folder: Path) -> int:
    """Return how many bytes the files of a run have."""
    found = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # a file that went while the run goes on
            found += path.lstat().st_size if path.is_file() and not path.is_symlink() else 0
    return found


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON document, or None where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        document = json.loads(path.read_text(encoding="utf-8"))
        return document if isinstance(document, dict) else None
    return None


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return a run's epochs, as many as there are; raises RunError for what is no table of them."""
    path = folder / "metrics" / "metrics.jsonl"
    if not path.is_file():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if all(isinstance(row["epoch"], int) and "cost" in row for row in rows):
            return rows
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        pass
    raise RunError(f"{path}: damaged: its lines are not those of epochs")


def _figure(summary: dict[str, Any] | None, key: str) -> float | None:
    """Return a figure of a summary; None where there is none, or something else in its place: a table of runs has them all."""
    found = (summary or {}).get(key)
    return found if isinstance(found, int | float) else None


def stages_of(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what launcher.json or summary.json tells of stages; what cannot be read as a stage with a name is left out."""
    found = state.get("stages")
    told = found if isinstance(found, list) else []
    return [stage for stage in told if isinstance(stage, dict) and isinstance(stage.get("name"), str)]


def partial_epoch(folder: Path, status: str, epochs: Sequence[dict[str, Any]], plan: Plan) -> str:
    """Return what there is of the last epoch of a run that did not come to its end; nothing where that is all of it."""
    if status in ("done", "simulated") or not epochs:
        return ""
    last, size = epochs[-1], plan.epoch_batches
    try:
        forwards = sum(action.kind == "F" for action in read_journal(folder, plan.name(plan.head)))
    except RunError:  # a reference, which evaluates at once where an evaluation is due
        end = min(last["epoch"] * size, plan.batches)
        return "a part" if plan.due(end) > plan.due(end - size) and "accuracy" not in last else ""
    done = forwards - (last["epoch"] - 1) * size
    return f"{done} of its {size} batches" if 0 < done < size else ""


def describe(folder: Path) -> dict[str, Any]:
    """Return what `timebox list` tells of one run.

    Its status is `running`, `done`, `failed`, `interrupted`; `died` where nobody wrote how it ended; or what cannot be read.
    """
    summary = read_json(folder / "summary.json")
    state = read_json(folder / "launcher.json") or {}
    status = "running" if is_alive(state.get("pid"), state.get("started_ticks")) else "died"
    if summary is not None or (folder / "summary.json").is_file():
        status = str((summary or {}).get("status", UNREADABLE))
    try:
        config = load(folder / "config.toml")
    except ConfigError:
        config, status = None, "config.toml cannot be read"
    task, level = config.data.name if config and config.data.name in TASKS else "", (summary or {}).get("level")
    return {
        "run": folder.name,
        "name": config.run.name if config else "",
        "status": status,
        "schedule": config.schedule.kind if config else "",
        "boxes": config.model.boxes if config else "",
        "accuracy": _figure(summary, "accuracy"),
        "seconds": _figure(summary, "seconds"),
        "bytes": size(folder),
        "reference": bool(state.get("reference")),
        "stages": [
            {"name": stage.get("name"), "pid": stage.get("pid"), "host": stage.get("host")}
            for stage in stages_of(summary or {}) or stages_of(state)
        ],
        "resumed_from": resumed_from(state),
        "faults": faults.texts(config.fault) if config else [],
        **({"task": f"{task}, level {level}" if level else task} if task else {}),
    }


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the run, so that nobody else takes it up or removes it at the same time; raises ConfigError if somebody does."""
    with (folder / "config.toml").open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"{folder.name} is being resumed by another command; `timebox list` tells when that has ended"
            ) from None
        yield


def resumed_from(state: dict[str, Any]) -> int | None:
    """Return the batch (of the data) from which a run went on when it was last taken up again; None where it never was."""
    attempts = state.get("attempts")
    if not isinstance(attempts, list) or len(attempts) < 2 or not isinstance(attempts[-1], dict):
        return None
    batch = attempts[-1].get("from_batch")
    return batch if isinstance(batch, int) else None


def last_save(folder: Path, plan: Plan) -> Action | None:
    """Return the checkpoint with which a run's present trace begins; None where it is whole."""
    batch = resumed_from(read_json(folder / "launcher.json") or {})
    return Action("S", batch * plan.micro // plan.save_every - 1) if batch and plan.save_every else None


def stages(folder: Path, part: str, suffix: str) -> Iterator[str]:
    """Yield the names of the stages that have a file in a part of the run, boxes first and in their order."""
    names = [path.name.removesuffix(suffix) for path in (folder / part).glob(f"*{suffix}")]
    boxes = sorted((name for name in names if name.startswith("box-")), key=lambda name: int(name[4:]))
    yield from boxes
    yield from (name for name in names if name == "head")
