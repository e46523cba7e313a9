"""Which runs of a folder go, and their removal. Never one that goes on, never what is no run, never through a link.

A folder with a config.toml and with logs may be anybody's work: it goes only if its configuration is one of ours, and if it
has no folder that no run has. A run that says neither that it goes on nor how it ended may be about to begin, or belong to
another machine: it stays while something is written in it.
"""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import read_toml
from pipeline.errors import ConfigError, plain

from . import runs

#: The folders that a run may have.
FOLDERS = ("checkpoint", "journal", "logs", "metrics", "probe", "trace")
#: Seconds after which a run in which nothing was written has died.
STILL_S = 60.0


class Choice(NamedTuple):
    """What is to go: all but so many of the newest, what is older than so many days, and of these only what went wrong."""

    keep: int | None = None
    older_than: float | None = None
    failed: bool = False


def prune(parent: Path, choice: Choice, *, yes: bool) -> dict[str, Any]:
    """Remove the chosen runs, or without `yes` tell which they are; raises ConfigError where nothing was chosen."""
    if choice == Choice():
        raise ConfigError("prune: nothing is chosen; say --keep N, --older-than DAYS or --failed")
    for name, value in (("--keep", choice.keep), ("--older-than", choice.older_than)):
        if value is not None and not 0 <= value < float("inf"):
            raise ConfigError(f"{name}: a number from 0 on is wanted, not {value:g}")
    runs.check_is_folder(parent, "--run.dir")
    found = sorted(runs.all_runs(parent), key=_made)
    gone, kept, failed = [], [], 0
    for folder in chosen(found, choice):
        row = _of(folder)
        if why := _why_not(folder, row["status"]):
            kept.append(f"{folder.name} {why}, and stays")
            continue
        try:
            if yes:
                _remove(folder)
            gone.append(row)
        except ConfigError as error:
            kept.append(f"{folder.name} {error}, and stays")
        except OSError as error:
            failed += 1
            kept.append(f"{folder.name} cannot be removed: {plain(error)}; what is left of it stays")
    if yes:
        _mend_latest(parent)
    return {
        "runs": gone, "bytes": sum(row["bytes"] for row in gone), "removed": yes, "left": len(found) - len(gone),
        "failed": failed, "warnings": kept,
    }  # fmt: skip


def chosen(found: list[Path], choice: Choice) -> list[Path]:
    """Return what a choice says of runs, which come the oldest first. Each part of it spares some; what no part spares goes."""
    gone = found[: max(len(found) - choice.keep, 0)] if choice.keep is not None else list(found)
    if choice.older_than is not None:
        limit = datetime.now(UTC) - timedelta(days=min(choice.older_than, 1e5))
        gone = [folder for folder in gone if _made(folder) < limit]
    if choice.failed:
        gone = [folder for folder in gone if runs.describe(folder)["status"] not in ("done", "simulated", "running")]
    return gone


def _made(folder: Path) -> datetime:
    """Return when a run was made, which its id tells; of one with another name, when it was last changed."""
    try:
        return datetime.strptime(folder.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(folder.stat().st_mtime, UTC)


def _of(folder: Path) -> dict[str, Any]:
    status = runs.describe(folder)["status"]
    return {"run": folder.name, "status": status, "bytes": runs.size(folder)}


def _why_not(folder: Path, status: str) -> str:
    """Return why a run must not go; nothing where it may."""
    if status == "running":
        return "goes on"
    try:
        if (
            not read_toml(folder / "config.toml").keys() >= {"model", "schedule"}
            or status == "config.toml cannot be read"
        ):
            return "has not the config.toml of a run"
    except (ConfigError, OSError):
        return "has not the config.toml of a run"
    if others := sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in FOLDERS):
        return f"holds {others[0]}, which no run has"
    written = [folder / "config.toml", *folder.glob("*.json"), *(folder / "logs").iterdir()]
    if status == "died" and time.time() - max(path.lstat().st_mtime for path in written) < STILL_S:
        return f"may go on, for it was written in less than {STILL_S:.0f} s ago"
    return ""


def _remove(folder: Path) -> None:
    """Remove a run; raises ConfigError where somebody takes it up again meanwhile, OSError where it cannot be removed.

    It is moved aside first: where its own folder may be written to and the one around it may not, nothing is lost.
    """
    aside = folder.with_name(f".{folder.name}.removed")
    with runs.alone(folder):
        if runs.describe(folder)["status"] == "running":
            raise ConfigError(f"goes on; `timebox stop {folder.name}` ends it")
        folder.rename(aside)
    try:
        shutil.rmtree(aside)
    except OSError as error:
        aside.rename(folder)  # what is left of it is to be seen
        raise OSError(error.errno, error.strerror, str(error.filename).replace(aside.name, folder.name)) from None


def _mend_latest(parent: Path) -> None:
    """Let `latest` point to the newest run that is left, if what it pointed to is gone."""
    link = parent / runs.LATEST
    if link.is_symlink() and not link.exists():
        left = sorted(runs.all_runs(parent), key=_made)
        link.unlink()
        if left:
            runs.point_latest(parent, left[-1])


def render(document: dict[str, Any]) -> str:
    """Return what `timebox prune` prints."""
    lines = [f"{row['run']}  {row['status']}, {row['bytes'] / 1e6:.1f} MB" for row in document["runs"]]
    count, left = f"{len(lines)} run{'s' * (len(lines) != 1)}", f"{document['left']} left"
    if not lines:
        return f"{'nothing was removed' if document['failed'] else 'no run is chosen by this'}; {left}"
    if document["removed"]:
        return "\n".join([*lines, f"removed {count}, {document['bytes'] / 1e6:.1f} MB; {left}"])
    return "\n".join([*lines, f"would remove {count}, {document['bytes'] / 1e6:.1f} MB; add --yes to do it; {left}"])
