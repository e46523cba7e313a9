"""What two boxes as processes gain over one process that does the same mathematics. `timebox bench process`.

Both train the same untied network: processes by schedule `decoupled`, the one process by the loop of `article`, which updates
and trains oracles just the same. They take turns. Two bounds stand beside the ratio:

    balance    all work ÷ the busier box's, by the arithmetic of each box alone: no pipeline can do better
    machine    two such single processes at once ÷ one alone: what the two processors really have for two processes
"""

from __future__ import annotations

import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from pipeline.config import resolve
from pipeline.schema import Config

from . import calibrate
from .environment import collect
from .live import run
from .spread import ratios, spread, verdict
from .text import table


class Case(NamedTuple):
    """A network and how much of it is trained: how images are read, steps in a box, width, rows in a batch, batches."""

    reading: str
    steps: int
    width: int
    rows: int
    batches: int


#: The first step enters with 0 and has half the work of another one: with one step in a box, the first box has half the work.
CASES = (
    Case("vector", 16, 784, 32, 40),
    Case("vector", 16, 1024, 64, 16),
    Case("rows", 14, 784, 32, 60),
    Case("vector", 1, 784, 32, 240),
    Case("vector", 1, 1024, 64, 100),
)


def measure(repeats: int) -> dict[str, Any]:
    """Measure all cases in turn."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="timebox-bench-") as folder:
        found: dict[Case, dict[str, list[float]]] = {
            case: {"processes": [], "one": [], "machine": []} for case in CASES
        }
        for _ in range(repeats):
            for case in CASES:
                ours, one = config_of(case, "decoupled", folder), config_of(case, "article", folder)
                found[case]["processes"].append(float(run(ours).document["batches_per_s"]))
                found[case]["one"].append(_alone(one))
                found[case]["machine"].append(_at_once(one) / found[case]["one"][-1])
        for case in CASES:
            gain = ratios(found[case]["processes"], found[case]["one"])
            rows.append(
                {
                    **case._asdict(),
                    "processes": spread(found[case]["processes"]).document(),
                    "one_process": spread(found[case]["one"]).document(),
                    "ratio": gain.document(),
                    "verdict": verdict(gain),
                    "machine": spread(found[case]["machine"]).document(),
                    "balance": balance(config_of(case, "decoupled", folder)),
                }
            )
    return {"bench": "process", "repeats": repeats, "rows": rows, "environment": collect()}


def config_of(case: Case, schedule: str, folder: str) -> Config:
    """Return the configuration of a case."""
    return resolve(
        "article",
        flags={
            "schedule.kind": schedule, "model.width": case.width, "model.tied": False, "data.reading": case.reading,
            "model.steps_per_box": case.steps, "data.batch": case.rows, "data.name": "mnist",
            "data.train": case.rows * case.batches, "data.test": 100,
            "model.loss": "softmax", "model.init": 1.0, "train.epochs": 1, "train.evaluate_every": 0, "log.level": "info",
            "run.dir": folder, "run.plot": False, "trace.probe": 0,
        },
    )  # fmt: skip


def _alone(config: Config) -> float:
    return float(run(config, reference=True).document["batches_per_s"])


def _at_once(config: Config) -> float:
    """Return the batches a second of two single processes together."""
    with ThreadPoolExecutor(2) as both:
        return sum(both.map(_alone, (config, config)))


def balance(config: Config) -> float:
    """Return all stages' arithmetic of a batch ÷ that of the busiest one."""
    work: dict[int, float] = {}
    for (k, kind), samples in calibrate.from_arithmetic(config).items():
        if kind != "E":
            work[k] = work.get(k, 0.0) + statistics.median(samples)
    return sum(work.values()) / max(work.values())


def lines(document: dict[str, Any]) -> list[str]:
    """Return the benchmark's document for people."""
    rows = []
    for row in document["rows"]:
        gain, machine = row["ratio"], row["machine"]
        low, high = (gain["least"], gain["most"]) if gain["low"] is None else (gain["low"], gain["high"])
        rows.append(
            (
                row["reading"], row["steps"], row["width"], row["rows"], f"{row['processes']['median']:.1f}",
                f"{row['one_process']['median']:.1f}", f"{gain['median']:.2f}", f"{low:.2f} – {high:.2f}", row["verdict"],
                f"{row['balance']:.2f}", f"{machine['median']:.2f}",
            )
        )  # fmt: skip
    header = (
        "reading",
        "steps",
        "width",
        "rows",
        "batches/s",
        "one process",
        "ratio",
        "95 %",
        "",
        "balance",
        "machine",
    )
    return [
        "two untied boxes and the head as processes, against one process with the same mathematics",
        table(header, rows, left=(0, 8)),
        "balance: all work ÷ the busiest stage's; machine: two single processes at once ÷ one alone",
    ]
