"""`timebox simulate --map`: where decoupling pays, by the number of boxes and by how long a hop takes beside the compute.

Each cell is two simulations of one network under one cost model, `decoupled` and another schedule, a processor for each
stage: the speed-up of the first over the second. Compute is one unit a box for each of F, B and T, and one for the
head's F; a hop takes the given multiple of it. Messages cost no processor time, so this is the most that can be had;
pass a run to take its own costs, where every message is paid for.

The crossover of a number of boxes is the hop at which the speed-up passes one, between two columns by their logarithms.
Over one process, which sends no messages, decoupling gains little hops and loses by long ones.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.costs import Costs
from pipeline.errors import ConfigError
from pipeline.maxplus import recur
from pipeline.plan import Plan
from pipeline.simulate import simulate

from . import calibrate, plots, text
from .recording import Recording

BOXES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
RATIOS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
#: With a run's own costs every message is an event of its own.
RUN_BOXES = (1, 2, 3, 4, 6, 8, 12)
PROCESS = "one process"
#: Batches of one simulation: enough that filling and draining the pipeline weigh little.
BATCHES = 200
UNIT_NS = 1_000_000
SUFFIXES = (".csv", ".svg", ".png", ".json")


def make_plan(schedule: str, boxes: int, *, window: int | None = None, tied: bool = False) -> Plan:
    """Return a plan of some boxes without evaluations in between."""
    rule = "backward" if schedule == "locked" else "synthetic"
    return Plan(
        boxes=boxes, batches=BATCHES, epoch_batches=BATCHES, evaluate_every=0, chunks=1,
        window=(window or 2 * (boxes + 1)) if schedule == "decoupled" else 1,
        tied=tied, rule=rule, target="bootstrapped", schedule=schedule, train=BATCHES, batch=1, test=1,
    )  # fmt: skip


def document(
    source: Recording | None = None,
    *,
    other: str = "locked",
    boxes: Sequence[int] = (),
    cores: int = 0,
    ratios: Sequence[float] = RATIOS,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Return the map: a row for each number of boxes, a cell for each hop, and the crossover."""
    costs = None if source is None else calibrate.from_trace(source)
    unit = UNIT_NS if costs is None else _unit(costs)
    tied = source is not None and source.plan.tied
    rows = []
    boxes = boxes or (BOXES if source is None else RUN_BOXES)
    for place, count in enumerate(boxes):
        cells = []
        for ratio in ratios:
            hop = round(ratio * unit)
            world: dict[str, Any] = {"latency_ns": hop, "cores": cores}
            fast = _makespan(make_plan("decoupled", count, tied=tied), costs, source, world, seed)
            if other == PROCESS:
                slow = _alone(make_plan("locked", count, tied=tied), costs, source)
            else:
                slow = _makespan(make_plan(other, count, tied=tied), costs, source, world, seed)
            cells.append({"hop": ratio, "decoupled_s": fast / 1e9, "other_s": slow / 1e9, "speedup": slow / fast})
        rows.append({"boxes": count, "cells": cells, "crossover": crossover(cells)})
        progress(place + 1, len(boxes))
    origin = "one unit for each F, B and T; messages cost no processor time" if source is None else source.folder.name
    return {
        "map": f"decoupled over {other}",
        "other": other,
        "costs": origin,
        "cores": cores,
        "unit_s": unit / 1e9,
        "seed": seed,
        "rows": rows,
    }


def _unit(costs: Costs) -> int:
    """Return what a box's F takes in a run, the median of all boxes."""
    found = sorted(each for (_, kind), samples in costs.actions.items() if kind == "F" for each in samples)
    return max(found[len(found) // 2], 1)


def _units(plan: Plan) -> Costs:
    boxes = {(k, kind): (UNIT_NS,) for k in range(1, plan.head) for kind in "FBT"}
    return Costs(boxes | {(plan.head, "F"): (UNIT_NS,)})


def _makespan(plan: Plan, costs: Costs | None, source: Recording | None, world: dict[str, Any], seed: int) -> int:
    if costs is None or source is None:
        known = replace(_units(plan), **world)
        if plan.schedule != "decoupled" and not (world["cores"] or plan.grows):
            return recur(plan, known).makespan_ns
        return simulate(plan, known, seed=seed).makespan_ns
    known = replace(calibrate.fitted(costs, source.plan, plan, {}), **world)
    return simulate(plan, known, seed=seed).makespan_ns


def _alone(plan: Plan, costs: Costs | None, source: Recording | None) -> int:
    """Return what the same backpropagation takes in one process: the actions one after the other, and no message."""
    known = _units(plan) if costs is None or source is None else calibrate.fitted(costs, source.plan, plan, {})
    return round(BATCHES * sum(sum(found) / len(found) for (_, kind), found in known.actions.items() if kind in "FB"))


def crossover(cells: Sequence[dict[str, Any]]) -> float | None:
    """Return the hop at which the speed-up passes one, up or down; None where it does not."""
    for before, after in reversed([*itertools.pairwise(cells)]):  # the last one: chance may cross it more than once
        if (before["speedup"] < 1) != (after["speedup"] < 1):
            share = (1 - before["speedup"]) / (after["speedup"] - before["speedup"])
            if before["hop"] <= 0:
                return float(share * after["hop"])
            low, high = math.log(before["hop"]), math.log(after["hop"])
            return math.exp(low + share * (high - low))
    return None


def render(made: dict[str, Any]) -> str:
    """Return the map as a table."""
    rows = [[row["boxes"], *(f"{cell['speedup']:.2f}" for cell in row["cells"]), _cross(row)] for row in made["rows"]]
    hop = "hop" if made["costs"].startswith("one unit") else "what is added to a hop"
    header = ["boxes", *(f"{cell['hop']:g}" for cell in made["rows"][0]["cells"]), "pays"]
    return "\n".join(
        [
            f"speed-up of {made['map']}, by {hop} ÷ compute ({made['unit_s'] * 1e3:.4g} ms)",
            f"costs: {made['costs']}; {text.processors(made['cores'])}",
            "",
            text.table(header, rows),
            *(["", f"written: {made['out']}"] if "out" in made else []),
        ]
    )


def _cross(row: dict[str, Any]) -> str:
    pays_first, at = row["cells"][0]["speedup"] >= 1, row["crossover"]
    if at is None:
        return f"to {row['cells'][-1]['hop']:g} and on" if pays_first else "never"
    return f"{'up to' if pays_first else 'from'} {at:.2g}"


def write(made: dict[str, Any], path: Path) -> None:
    """Write the map as .csv, .json, .svg or .png; raises ConfigError for another name."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"--out: {path.name}: a map is written as {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--out: there is no folder {path.parent}")
    if suffix == ".csv":
        files.save_text(path, as_csv(made))
    elif suffix == ".json":
        files.save_json(path, made)
    else:
        plots.draw_map(made, path)


def as_csv(made: dict[str, Any]) -> str:
    """Return a row for each cell."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["boxes", "hop", "decoupled_s", f"{made['other']}_s", "speedup"])
    for row in made["rows"]:
        table.writerows([row["boxes"], *map(repr, cell.values())] for cell in row["cells"])
    return stream.getvalue()
