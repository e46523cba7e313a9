"""What a checkpoint costs: stretches of batches with and without one, in turn, within one run. `timebox bench checkpoints`

A barrier drains the pipeline, and beside the loop a thread packs, writes and waits for the disk. Both lie in the stretch of
batches that begins with the checkpoint; the next stretch has none of it. The head sees every batch, so its times tell:

    stretch    S ……………… ┆ ……………… ┆ S ……………… ┆ ……………… ┆ S ……………… ┆ ………
    kept          with      without      with      without      with

A stretch with a checkpoint is held against the mean of those before and after it, which meet the same weather. Checkpoints are
taken far more often than anybody would, about once a second, so that many can be measured. The share that is told is what one
would cost that is taken every ten seconds.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import trace
from pipeline.config import resolve
from pipeline.errors import RunError
from pipeline.plan import Plan

from .environment import collect
from .live import launch
from .spread import interval
from .text import table

#: What is measured: width, schedule, batches of a stretch, about half a second each.
CASES = ((64, "article", 400), (64, "decoupled", 800), (784, "article", 130), (784, "decoupled", 220))
#: Checkpoints in a run, and those at its start that are not counted.
COUNT, WARM = 16, 1
#: How often a checkpoint is taken where its share is told, in seconds.
EVERY_S = 10.0


def measure(repeats: int) -> dict[str, Any]:
    """Return what a checkpoint adds to the time of a run, in so many runs of each case."""
    with tempfile.TemporaryDirectory(prefix="timebox-bench-") as folder:
        rows = [_case(*case, repeats, Path(folder)) for case in CASES]
    return {"bench": "checkpoints", "repeats": repeats, "rows": rows, "every_s": EVERY_S, "environment": collect()}


def _case(width: int, schedule: str, stretch: int, repeats: int, folder: Path) -> dict[str, Any]:
    added: list[float] = []
    rates, sizes = [], 0
    for _ in range(repeats):
        every = 2 * stretch
        flags = {
            "model.width": width, "schedule.kind": schedule, "checkpoint.every": every, "log.level": "info",
            "data.train": 50, "train.epochs": -(-every * (COUNT + 1) // 50), "train.evaluate_every": 0,
            "trace.probe": 0, "run.dir": str(folder), "run.plot": False,
        }  # fmt: skip
        config = resolve("article", flags=flags)
        result = launch(config)
        if result.status != "done":
            raise RunError(f"width {width}, {schedule}: {result.document.get('error', result.status)}")
        ends = _ends(result.folder)
        added += _added(ends, stretch, Plan.of(config))
        rates.append(result.document["batches_per_s"])
        sizes = sum(path.stat().st_size for path in sorted(result.folder.glob("checkpoint/batch-*"))[-1].glob("*.npz"))
    low, high = interval(added)
    share = statistics.median(added) / 1000 / EVERY_S
    return {
        "width": width, "schedule": schedule, "checkpoints": len(added), "megabytes": sizes / 1e6,
        "batches_per_s": statistics.median(rates), "added_ms": statistics.median(added), "low_ms": low, "high_ms": high,
        "mean_ms": statistics.fmean(added), "share": share, "high_share": high / 1000 / EVERY_S,
    }  # fmt: skip


def _ends(folder: Path) -> list[int]:
    """Return when each of the head's forwards ended, by batch."""
    spans = trace.read_spans(folder, "head")
    return [span.end_ns for span in spans if span.action.kind == "F" and span.part == "update"]


def _added(ends: list[int], stretch: int, plan: Plan) -> Iterator[float]:
    """Yield by how many milliseconds each stretch with a checkpoint was longer than its neighbours."""
    for save in range(WARM, plan.saves - 1):
        # The last batch before the barrier ends the stretch before.
        first = plan.barrier(save) - 1
        before, during, after = (
            (ends[first + (place + 1) * stretch] - ends[first + place * stretch]) / 1e6 for place in (-1, 0, 1)
        )
        yield during - (before + after) / 2


def lines(made: dict[str, Any]) -> list[str]:
    """Return the table."""
    heads = ("width", "schedule", "batches/s", "checkpoints", "MB each", "adds ms", "95 %", "mean ms", "every 10 s")
    rows = [
        (
            row["width"], row["schedule"], f"{row['batches_per_s']:.0f}", row["checkpoints"], f"{row['megabytes']:.1f}",
            f"{row['added_ms']:.0f}", f"{row['low_ms']:.0f} – {row['high_ms']:.0f}", f"{row['mean_ms']:.0f}",
            f"{100 * row['share']:.2f} %",
        )
        for row in made["rows"]
    ]  # fmt: skip
    return [table(heads, rows, left=(1,))]
