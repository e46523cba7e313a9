"""What of a stage's files is put aside before the stage goes on from a checkpoint. Moves files, else pure; no numpy.

journal/box-1.txt, .sums       cut down to what the checkpoint has of them; the rest goes into journal/epoch-0/
metrics/metrics.jsonl          the same, of the head
trace/box-1.trace              goes into trace/epoch-0/ whole: what comes begins a new one
"""

from __future__ import annotations

from pathlib import Path

from . import trace
from .checkpoints import Checkpoint
from .files import cut

METRICS = Path("metrics", "metrics.jsonl")


def put_aside(folder: Path, name: str, begin: Checkpoint | None, epoch: int, *, is_head: bool) -> None:
    """Put aside what the attempt before `epoch` wrote after a checkpoint (None: all that it wrote); raises OSError."""
    before = f"epoch-{epoch - 1}"
    sizes = begin.files(name) if begin is not None else {}
    appended = [folder / "journal" / f"{name}.txt", folder / "journal" / f"{name}.sums"]
    if is_head:
        appended.append(folder / METRICS)
    for path in appended:
        if path.is_file():
            cut(path, sizes.get(path.relative_to(folder).as_posix(), 0), path.parent / before / path.name)
    path = trace.path_of(folder, name)
    if path.is_file():
        (path.parent / before).mkdir(exist_ok=True)
        path.replace(path.parent / before / path.name)
