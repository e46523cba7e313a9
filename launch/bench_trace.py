"""What recording costs: the same run with the trace on and off, in turn. `timebox bench trace`

Throughput is batches over the time from go to the last worker's end. A pair meets the same weather; the two of a pair
change places from one pair to the next. Besides the trace as it comes, with its probe, it is measured without the probe.
The processor time of a batch, of all workers together, is told as well: other programs on the machine disturb it less.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

from pipeline.config import resolve

from .environment import collect
from .live import launch
from .text import table

#: What is measured: widths and schedules of preset article, and the epochs that give some seconds of steady work.
CASES = ((64, "article", 60), (64, "decoupled", 80), (784, "article", 20), (784, "decoupled", 30))
WAYS: dict[str, dict[str, Any]] = {
    "off": {"trace.level": "off"},
    "trace": {"trace.probe": 0},
    "trace and probe": {},
}


def trace(repeats: int) -> dict[str, Any]:
    """Measure the throughput with and without recording, in turn, and return ratios with their spread."""
    with tempfile.TemporaryDirectory(prefix="timebox-bench-") as folder:
        rows = [row for case in CASES for row in _case(*case, repeats, Path(folder))]
    return {"bench": "trace", "repeats": repeats, "rows": rows, "environment": collect()}


def _case(width: int, schedule: str, epochs: int, repeats: int, folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, tuple[float, float]]] = []
    for repeat in range(repeats):
        ways = list(WAYS) if repeat % 2 else list(reversed(WAYS))
        found.append({way: _throughput(width, schedule, epochs, way, folder) for way in ways})
    rows = []
    for way in ("trace", "trace and probe"):
        ratios = sorted(pair[way][0] / pair["off"][0] for pair in found)
        cpu = sorted(pair[way][1] / pair["off"][1] for pair in found)
        rows.append(
            {
                "width": width,
                "schedule": schedule,
                "way": way,
                "batches_per_s": statistics.median(pair[way][0] for pair in found),
                "batches_per_s_off": statistics.median(pair["off"][0] for pair in found),
                "cost": 1 - statistics.median(ratios),
                "cost_quartiles": [1 - ratios[-1 - len(ratios) // 4], 1 - ratios[len(ratios) // 4]],
                "cost_error": _error(ratios),
                "cpu_cost": statistics.median(cpu) - 1,
                "cpu_cost_quartiles": [cpu[len(cpu) // 4] - 1, cpu[-1 - len(cpu) // 4] - 1],
            }
        )
    return rows


def _error(ratios: list[float]) -> float | None:
    """Return the standard error of the ratios' mean: what a difference must exceed to be seen."""
    return statistics.stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else None


def _throughput(width: int, schedule: str, epochs: int, way: str, folder: Path) -> tuple[float, float]:
    """Return batches a second, and the seconds of processor time that a batch took."""
    flags = {
        "model.width": width,
        "schedule.kind": schedule,
        "train.epochs": epochs,
        "train.evaluate_every": 0,
        "log.level": "info",
        "run.dir": str(folder),
        "run.plot": False,
        **WAYS[way],
    }
    result = launch(resolve("article", flags=flags), label=way.replace(" ", "-"))
    stages = result.document["stages"]
    batches = max(stage["batches"] for stage in stages)
    return batches / max(stage["seconds"] for stage in stages), sum(stage["cpu_s"] for stage in stages) / batches


def lines(document: dict[str, Any]) -> list[str]:
    """Return the table for people."""
    rows = []
    for row in document["rows"]:
        low, high = row["cost_quartiles"]
        error = "–" if row["cost_error"] is None else f"{100 * row['cost_error']:.1f}"
        speeds = [f"{row['batches_per_s_off']:.0f}", f"{row['batches_per_s']:.0f}"]
        figures = (f"{100 * row['cost']:.1f} %", f"{100 * low:.1f} – {100 * high:.1f}", error)
        rows.append((row["width"], row["schedule"], row["way"], *speeds, *figures, f"{100 * row['cpu_cost']:.1f} %"))
    header = ("width", "schedule", "recorded", "batches/s off", "on", "cost", "quartiles", "± s.e.", "cpu cost")
    return [table(header, rows, left=(1, 2))]
