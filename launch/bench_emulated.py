"""What schedules do to eight boxes whose compute is emulated, beside what theory says. `timebox bench emulated`.

F, B and T of every box take 20 ms, asleep, so eight boxes fit on two cores and nothing but the order of actions decides.
Each figure is of a live run, in steady state; the kinds take turns. Bubbles are held against their closed forms.

    decoupled over locked    ideal: the number of boxes
    gpipe, 1f1b in M parts   a box is idle (S − 1) ÷ (M + S − 1) of a batch (Huang et al. 2019; Narayanan et al. 2021)
    1f1b without a flush     the same with the N batches of the whole run: it fills once and drains once
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import resolve

from . import recording
from .environment import collect
from .live import Result, run
from .spread import ratios, spread
from .text import table

BOXES, COMPUTE_MS, PARTS = 8, 20.0, 16
#: Schedule, batches of the data, rows in each; enough of them that the run takes some seconds.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "locked": ("locked", {"data.train": 24}),
    "decoupled": ("decoupled", {"data.train": 200}),
    "gpipe": ("gpipe", {"data.train": 6 * PARTS, "data.batch": PARTS, "schedule.micro_batches": PARTS}),
    "1f1b, flush": ("1f1b", {"data.train": 6 * PARTS, "data.batch": PARTS, "schedule.micro_batches": PARTS}),
    "1f1b": ("1f1b", {"data.train": 120}),
}


def measure(repeats: int) -> dict[str, Any]:
    """Run every kind in turn and return rates, the speed-up of `decoupled`, and bubbles beside their closed forms."""
    rates: dict[str, list[float]] = {name: [] for name in KINDS}
    bubbles: dict[str, list[float]] = {name: [] for name in KINDS}
    with tempfile.TemporaryDirectory(prefix="timebox-bench-") as folder:
        for _ in range(repeats):
            for name in KINDS:
                result = _run(name, Path(folder))
                # As they travel: with micro-batches a batch of the data is so many of them.
                rates[name].append(
                    float(result.document["batches_per_s"]) * KINDS[name][1].get("schedule.micro_batches", 1)
                )
                bubbles[name].append(bubble(result.folder))
    rows = [
        {
            "kind": name,
            "batches_per_s": spread(rates[name]).document(),
            "bubble": spread(bubbles[name]).document(),
            "closed_form": closed_form(name),
        }
        for name in KINDS
    ]
    gain = ratios(rates["decoupled"], rates["locked"])
    return {
        "bench": "emulated",
        "repeats": repeats,
        "boxes": BOXES,
        "compute_ms": COMPUTE_MS,
        "rows": rows,
        "decoupled_over_locked": gain.document(),
        "of_ideal": gain.median / BOXES,
        "environment": collect(),
    }


def _run(name: str, folder: Path) -> Result:
    kind, flags = KINDS[name]
    common = {
        "schedule.kind": kind, "model.boxes": BOXES, "model.width": 32, "model.tied": False, "data.test": 1,
        "train.epochs": 1, "train.evaluate_every": 0, "emulate.compute_ms": COMPUTE_MS, "log.level": "info",
        "run.dir": str(folder), "run.plot": False,
    }  # fmt: skip
    return run(resolve("article", flags=common | flags))


def closed_form(name: str) -> float | None:
    """Return the share of its time that a box is idle by theory, or None where there is no theory."""
    if name == "locked":
        return 1 - 1 / BOXES
    if name == "decoupled":
        return None
    units = KINDS[name][1]["data.train"] if name == "1f1b" else PARTS
    return float((BOXES - 1) / (units + BOXES - 1))


def bubble(folder: Path) -> float:
    """Return the mean share of the boxes' time that F, B and T leave idle, from the first one's begin to the last one's end."""
    found = recording.load(folder)
    works = {stage.name: stage.parts for stage in found.stages if stage.number != found.plan.head}
    busy_kinds = [ord(kind) for kind in "FBT"]
    spans = [parts[np.isin(parts["kind"], busy_kinds)] for parts in works.values()]
    first = min(int(parts["start"].min()) for parts in spans)
    last = max(int(parts["end"].max()) for parts in spans)
    return statistics.mean(1 - float((parts["end"] - parts["start"]).sum()) / (last - first) for parts in spans)


def lines(document: dict[str, Any]) -> list[str]:
    """Return the benchmark's document for people."""
    rows = []
    for row in document["rows"]:
        rate, idle, theory = row["batches_per_s"], row["bubble"], row["closed_form"]
        rows.append(
            (
                row["kind"],
                f"{rate['median']:.2f}",
                f"{rate['least']:.2f} – {rate['most']:.2f}",
                f"{100 * idle['median']:.1f} %",
                f"{100 * idle['least']:.1f} – {100 * idle['most']:.1f}",
                "–" if theory is None else f"{100 * theory:.1f} %",
            )
        )
    gain = document["decoupled_over_locked"]
    return [
        f"{document['boxes']} boxes, F, B and T of {document['compute_ms']:.0f} ms each; batches as they travel",
        table(("schedule", "batches/s", "range", "bubble", "range", "closed form"), rows, left=(0,)),
        f"decoupled over locked: {gain['median']:.2f} ({gain['least']:.2f} – {gain['most']:.2f}), "
        f"{100 * document['of_ideal']:.1f} % of the ideal {document['boxes']}",
    ]
