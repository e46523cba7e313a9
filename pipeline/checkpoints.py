"""Checkpoints that a run goes on from: one folder each, a file a stage, and a manifest that makes it complete.

    checkpoint/batch-000000300/box-1.npz       what the stage knows after 300 batches: weights by their names, and the rest
                               head.npz        of its state by dotted ones (`optimizer.M_Wx`); nothing is in flight then
                               manifest.json   sha256 and bytes of each file; how much of journal, sums and metrics is of it

Each stage writes its own file when it does S. When all have said so, the launcher writes the manifest. A folder without one,
or with a file that is not what its manifest says, is none: whole or not at all. Writes files, else pure.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from .errors import RunError
from .files import save, save_json
from .plan import Plan

if TYPE_CHECKING:
    from .arrays import Weights

FORMAT = "timebox-checkpoint-1"
MANIFEST = "manifest.json"
#: What is read of a file at a time.
_CHUNK = 1 << 20


class Checkpoint(NamedTuple):
    """A complete checkpoint: its number, the batches (of the data) before it, where it lies, and its manifest."""

    save: int
    batch: int
    folder: Path
    manifest: dict[str, Any]

    def files(self, stage: str) -> dict[str, int]:
        """Return how many bytes of each file that a stage appends to are of this checkpoint, by path in the run's folder."""
        return {name: int(part["bytes"]) for name, part in self.manifest["stages"][stage]["appended"].items()}


def batch_of(plan: Plan, number: int) -> int:
    """Return how many batches of the data come before a checkpoint."""
    return plan.barrier(number) // plan.micro


def folder_of(run: Path, plan: Plan, number: int) -> Path:
    """Return where a checkpoint lies."""
    return run / "checkpoint" / f"batch-{batch_of(plan, number):09d}"


def write_stage(run: Path, plan: Plan, number: int, stage: str, state: Weights) -> dict[str, Any]:
    """Write one stage's file, whole and on the disk; return its bytes and sha256. Raises OSError."""
    import numpy as np  # the launcher, which only writes manifests, goes without

    packed = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(array, order="C") for name, array in state.items()}
    np.savez(packed, **arrays)
    content = packed.getbuffer()
    save(folder_of(run, plan, number) / f"{stage}.npz", lambda stream: stream.write(content), sync=True)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def absorb(seal: Any, stream: BinaryIO, most: int) -> int:
    """Read at most so many bytes into a digest, and return how many there were."""
    left = most
    while left > 0 and (part := stream.read(min(left, _CHUNK))):
        seal.update(part)
        left -= len(part)
    return most - left


def beginning(path: Path, size: int) -> dict[str, Any]:
    """Return bytes and sha256 of the first `size` bytes of a file that is appended to; raises RunError for a shorter one."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            left = size - absorb(found, stream, size)
    except OSError as error:
        raise RunError(f"{path}: cannot read it: {error.strerror}") from None
    if left:
        raise RunError(f"{path}: has {size - left:,} bytes where a checkpoint has {size:,}: it was cut")
    return {"bytes": size, "sha256": found.hexdigest()}


def write_manifest(run: Path, plan: Plan, number: int, epoch: int, stages: dict[str, Any]) -> None:
    """Make a checkpoint complete, of which every stage has said what it wrote. Raises OSError."""
    manifest = {
        "format": FORMAT,
        "checkpoint": number,
        "batch": batch_of(plan, number),
        "epoch": epoch,
        "config": _digest(run / "config.toml"),
        "stages": stages,
    }
    save_json(folder_of(run, plan, number) / MANIFEST, manifest, sync=True)


def complete(run: Path, plan: Plan) -> Iterator[Checkpoint]:
    """Yield the checkpoints that have a manifest, the newest first; whether their files are whole is for `check`."""
    for number in _there(run, plan):
        folder = folder_of(run, plan, number)
        if (folder / MANIFEST).is_file():
            yield Checkpoint(number, batch_of(plan, number), folder, _manifest(folder))


def _there(run: Path, plan: Plan) -> list[int]:
    """Return the numbers of the checkpoints that have a folder, the newest first."""
    found = []
    for path in (run / "checkpoint").glob("batch-*"):
        if plan.save_every and path.name[6:].isdigit():
            number = int(path.name[6:]) * plan.micro // plan.save_every - 1
            if 0 <= number < plan.saves and folder_of(run, plan, number) == path:
                found.append(number)
    return sorted(found, reverse=True)


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return dict(manifest)
    except (OSError, ValueError, TypeError):
        return {}


def check(run: Path, plan: Plan, found: Checkpoint) -> str:
    """Return what is wrong with a checkpoint and with what the run's files have of it; nothing where nothing is."""
    manifest = found.manifest
    try:
        if manifest.get("format") != FORMAT or manifest["checkpoint"] != found.save:
            return f"{found.folder / MANIFEST}: is no manifest of this version"
        if manifest["config"] != _digest(run / "config.toml"):
            return f"{run / 'config.toml'}: was changed after {found.folder.name} was saved"
        for k in range(1, plan.head + 1):
            stage = manifest["stages"][plan.name(k)]
            path = found.folder / f"{plan.name(k)}.npz"
            if path.stat().st_size != stage["bytes"] or beginning(path, stage["bytes"])["sha256"] != stage["sha256"]:
                return f"{path}: is not what was saved"
            for name, part in stage["appended"].items():
                if beginning(run / name, part["bytes"])["sha256"] != part["sha256"]:
                    return f"{run / name}: is not what it was at batch {found.batch}"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except RunError as error:
        return str(error)
    except (KeyError, TypeError, AttributeError, ValueError):
        return f"{found.folder / MANIFEST}: damaged: it does not tell of every stage"
    return ""


def newest(run: Path, plan: Plan) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint that is whole, and what was wrong with newer ones."""
    faults: list[str] = []
    for found in complete(run, plan):
        if not (fault := check(run, plan, found)):
            return found, faults
        faults.append(fault)
    return None, faults


def prune(run: Path, plan: Plan, keep: int) -> None:
    """Remove what is older than the newest `keep` checkpoints, and those of them that are not complete."""
    kept = {found.folder for _, found in zip(range(keep), complete(run, plan), strict=False)}
    oldest = min(kept, default=None)
    for path in (run / "checkpoint").glob("batch-*"):
        if path not in kept and oldest is not None and path < oldest:
            (path / MANIFEST).unlink(missing_ok=True)  # first: what is left of it is no checkpoint
            shutil.rmtree(path, ignore_errors=True)


def forget_later(run: Path, plan: Plan, number: int | None) -> None:
    """Remove checkpoints after the one that a run goes on from, complete or not: what comes is written anew."""
    first = "" if number is None else folder_of(run, plan, number).name
    for path in (run / "checkpoint").glob("batch-*"):
        if path.name > first:
            (path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
