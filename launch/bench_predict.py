"""How good predictions are: runs, and what another run of the same configuration says of them. `timebox bench predict`

Each configuration runs some times. Every run is predicted from the trace of the one before it (the first from the last),
so no run predicts itself. Beside the errors stands *copied*: how far a run's own time is from that of the one before it. No
prediction from another run can be better than that.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config import resolve
from pipeline.errors import RunError
from pipeline.simulate import simulate

from . import calibrate, recording
from .environment import collect
from .live import launch
from .text import table

#: What is predicted: schedule, boxes, width, epochs that give some seconds, and what is emulated.
SCHEDULES = ("article", "decoupled", "locked")
EPOCHS = {64: 80, 256: 50, 784: 20}
SLOW_MS = 4


def cases() -> list[dict[str, Any]]:
    """Return the configurations, as flags."""
    found: list[dict[str, Any]] = []
    for schedule in SCHEDULES:
        for boxes in (1, 2):
            found += [_flags(schedule, boxes, width, epochs) for width, epochs in EPOCHS.items()]
        found.append(_flags(schedule, 4, 64, 15))
        emulated = {f"box-{k}": float(SLOW_MS) for k in range(1, 9)}
        found.append(_flags(schedule, 8, 64, 4) | {"emulate.slow": emulated, "model.tied": False})
    return found


def _flags(schedule: str, boxes: int, width: int, epochs: int) -> dict[str, Any]:
    return {"schedule.kind": schedule, "model.boxes": boxes, "model.width": width, "train.epochs": epochs}


def measure(repeats: int, progress: Callable[[int, int], None] = lambda *_: None) -> dict[str, Any]:
    """Run each configuration so many times and predict every run from another one."""
    rows, wanted = [], cases()
    with tempfile.TemporaryDirectory(prefix="timebox-bench-") as folder:
        for place, flags in enumerate(wanted):
            rows.append(_case(flags, max(repeats, 2), Path(folder)))
            progress(place + 1, len(wanted))
    return {"bench": "predict", "repeats": max(repeats, 2), "rows": rows, "environment": collect()}


def _case(flags: dict[str, Any], repeats: int, folder: Path) -> dict[str, Any]:
    more = {"train.evaluate_every": 0, "run.dir": str(folder), "run.plot": False, "log.level": "info"}
    config = resolve("article", flags={**flags, **({"model.tied": True} if "model.tied" not in flags else {}), **more})
    found = []
    for _ in range(repeats):
        result = launch(config)
        if result.status != "done":
            raise RunError(f"bench predict: {flags} ended as {result.status}")
        found.append(recording.load(result.folder))
    seconds = [(each.end_ns - each.origin_ns) / 1e9 for each in found]
    guesses = [simulate(each.plan, calibrate.from_trace(each), seed=1).makespan_ns / 1e9 for each in found]
    errors = [guesses[place - 1] / real - 1 for place, real in enumerate(seconds)]
    middle = statistics.median(seconds)
    return {
        "schedule": config.schedule.kind,
        "boxes": config.model.boxes,
        "width": config.model.width,
        "emulated": bool(config.emulate.slow),
        "seconds": middle,
        "copied": statistics.median(abs(seconds[place - 1] / real - 1) for place, real in enumerate(seconds)),
        "spread": statistics.median(abs(each / middle - 1) for each in seconds),
        "error": statistics.median(map(abs, errors)),
        "errors": sorted(errors),
        "own_error": statistics.median(guess / real - 1 for guess, real in zip(guesses, seconds, strict=True)),
        "bar": bar(config.model.boxes, is_emulated=bool(config.emulate.slow)),
    }


def bar(boxes: int, *, is_emulated: bool) -> float:
    """Return the error that is aimed at: 3 % of emulated compute, 15 % with more workers than cores, else 5 %."""
    return 0.03 if is_emulated else 0.15 if boxes > 2 else 0.05


def lines(document: dict[str, Any]) -> list[str]:
    """Return the table for people."""
    rows = []
    for row in document["rows"]:
        allowed = max(row["bar"], 2 * row["spread"])
        is_met = "yes" if row["error"] <= allowed else "no"
        width = f"{row['width']}{f' +{SLOW_MS} ms' if row['emulated'] else ''}"
        low, high = row["errors"][0], row["errors"][-1]
        rows.append(
            (
                *(row["schedule"], row["boxes"], width, f"{row['seconds']:.2f}"),
                *(f"{100 * row[name]:.1f} %" for name in ("spread", "copied", "error")),
                *(f"{100 * low:+.1f} – {100 * high:+.1f}", f"{100 * row['own_error']:+.1f} %"),
                *(f"{100 * allowed:.0f} %", is_met),
            )
        )
    header = (
        "schedule",
        "boxes",
        "width",
        "seconds",
        "spread",
        "copied",
        "error",
        "from – to",
        "of itself",
        "aim",
        "met",
    )
    errors = [row["error"] for row in document["rows"] if row["boxes"] <= 2]
    return [
        table(header, rows, left=(0, 2)),
        f"median error with 1 and 2 boxes: {100 * statistics.median(errors):.1f} %",
    ]
