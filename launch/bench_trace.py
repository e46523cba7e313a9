"""What recording costs: bursts of batches with and without it, in turn, within one run. `timebox bench trace`

With `trace.every = 2` every second burst of 64 batches is recorded. What lies between leaves a gap record with its times, so
the trace itself tells how long a burst took with recording and how long without. Neighbours meet the same weather: an
unrecorded burst is held against the mean of the recorded ones before and after it, and no burst is used twice. The time
is the head's, which sees every batch. Two whole runs, one with and one without, differ more by chance than by the trace.

    burst    0 ┆ 1 ┆ 2    3    4 ┆ 5 ┆ 6    7    8 ┆ 9 ┆ 10
    kept     on off on    –   on off on     –   on off on       three figures; – is not used

The probe looks at single batches, in both kinds of bursts; on record are its copies in the recorded ones. A stage's time
for these is multiplied by the probed batches for each one on record, and the sum over all stages is told as a share of
the run. Where copies take as long in either kind of burst, it is the most that they can have cost.
"""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import Array
from pipeline.config import resolve
from pipeline.errors import RunError
from pipeline.probe import probed
from pipeline.recorder import BURST
from pipeline.trace import PART_CODE

from . import recording
from .environment import collect
from .live import Result, launch
from .recording import Recording
from .text import table

#: What is measured: widths and schedules of preset article, and the epochs that give some seconds of steady work.
CASES = ((64, "article", 120), (64, "decoupled", 160), (784, "article", 40), (784, "decoupled", 60))
#: Bursts at the start that are not counted.
WARM = 2


def trace(repeats: int) -> dict[str, Any]:
    """Measure what recording adds to the time of a batch, and return it with its spread."""
    with tempfile.TemporaryDirectory(prefix="timebox-bench-") as folder:
        rows = [_case(*case, repeats, Path(folder)) for case in CASES]
    return {"bench": "trace", "repeats": repeats, "rows": rows, "environment": collect()}


def _case(width: int, schedule: str, epochs: int, repeats: int, folder: Path) -> dict[str, Any]:
    costs, speeds, probes, runs = [], [], [], []
    for _ in range(repeats):
        found = _run(width, schedule, epochs, folder)
        head = next(stage for stage in found.stages if stage.name == "head")
        on, off = bursts(head.of("g"))
        runs.append(statistics.median(added(on, off)))
        costs += added(on, off)
        speeds.append(BURST / float(np.median(off)) * 1e9)
        batches = len(probed(found.plan, found.config.trace.probe))
        probes.append(sum(probe_ns(stage.parts, batches) for stage in found.stages) / head.total_ns)
    return {
        "width": width,
        "schedule": schedule,
        "batches_per_s_off": statistics.median(speeds),
        "bursts": len(costs),
        "cost": statistics.median(costs),
        "cost_interval": interval(costs),
        "cost_quartiles": statistics.quantiles(costs, n=4)[::2],
        "cost_of_each_run": runs,
        "probe_at_most": statistics.median(probes),
    }


def bursts(gaps: Array) -> tuple[list[int], list[int]]:
    """Return how long the bursts with and without recording took in turn, in nanoseconds; first and last are with it.

    A gap is a burst without; what lies between two gaps is one with. What is before the first gaps and after the last
    is left out: starting, stopping and the arrays' first use are not the trace's cost.
    """
    starts, ends = gaps["start"].tolist()[WARM:], gaps["end"].tolist()[WARM:]
    off = [end - start for start, end in zip(starts, ends, strict=True)][1:-1]
    on = [start - end for end, start in zip(ends, starts[1:], strict=False)]
    return on, off


def added(on: list[int], off: list[int]) -> list[float]:
    """Return by which share a burst takes longer with recording: the mean of two, against the one between them.

    No burst is in two of the values, so that they are independent of each other: every second one without is left out.
    """
    triples = zip(on[::2], off[::2], on[1::2], strict=False)
    return [(before + after) / (2 * middle) - 1 for before, middle, after in triples]


def interval(values: list[float]) -> tuple[float, float]:
    """Return the 95 % interval of a median, by the order of the values: no assumption but that the values are independent.

    As many values are cut off at either end as leave the interval at 95 % or more by the binomial distribution. Of less
    than six values the least and the largest are returned, and that is less than 95 %.
    """
    ordered, count = sorted(values), len(values)
    below = itertools.accumulate(math.comb(count, k) for k in range(count + 1))  # of 2ⁿ: at most k are below the median
    cut = max(sum(40 * ways <= 2**count for ways in below) - 1, 0)  # a fortieth, 2.5 %, at either end
    return ordered[cut], ordered[count - 1 - cut]


def probe_ns(parts: Array, batches: int) -> float:
    """Return how long a stage's probe took for all `batches` that it looked at, by those of them that are on record."""
    looks = parts[parts["code"] == PART_CODE["probe"]]
    seen = len(np.unique(looks["batch"]))
    return float((looks["end"] - looks["start"]).sum()) * batches / seen if seen else 0.0


def _run(width: int, schedule: str, epochs: int, folder: Path) -> Recording:
    flags = {
        "model.width": width,
        "schedule.kind": schedule,
        "train.epochs": epochs,
        "train.evaluate_every": 0,
        "trace.every": 2,
        "log.level": "info",
        "run.dir": str(folder),
        "run.plot": False,
    }
    return recorded(launch(resolve("article", flags=flags)))


def recorded(result: Result) -> Recording:
    """Return what is on record of a run; raises RunError where it is not done or a stage left no trace: it tells no cost."""
    if result.status != "done":
        error = f": {result.document['error']}" if "error" in result.document else ""
        raise RunError(f"bench trace: a run is {result.status}, not done, and tells no cost{error}")
    found = recording.load(result.folder)
    if len(found.stages) < found.plan.head:
        raise RunError(f"bench trace: a stage left no trace: {'; '.join(found.warnings)}")
    return found


def lines(document: dict[str, Any]) -> list[str]:
    """Return the table for people."""
    rows = []
    for row in document["rows"]:
        (low, high), each = row["cost_interval"], row["cost_of_each_run"]
        rows.append((
            row["width"], row["schedule"], f"{row['batches_per_s_off']:.0f}", row["bursts"], f"{100 * row['cost']:.1f} %",
            f"{100 * low:.1f} – {100 * high:.1f}", f"{100 * min(each):.1f} – {100 * max(each):.1f}",
            f"{100 * row['probe_at_most']:.2f} %",
        ))  # fmt: skip
    header = ("width", "schedule", "batches/s off", "bursts", "trace costs", "95 %", "runs", "probe ≤")
    return [table(header, rows, left=(1,))]
