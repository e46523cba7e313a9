"""Experiments whose figures the README quotes: programs, run by hand. `python -m launch.experiments article --seeds 20`

article   preset `article` at many seeds, live, beside frozen boxes at the same rates and first weights: how many of the
          original's 20 test images are right, and how many of 1,000 further images that nobody has seen
digits    preset `digits`, decoupled, at many seeds and several windows, live: how many seeds converge, to 99 % of 400 images
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipeline.config import resolve

from .live import Result, launch
from .text import share, table

TESTED, UNSEEN = 20, 1_000
#: A run has flown off when an epoch's mean cost is not a number or this many times the first epoch's.
FLEW_OFF = 4.0


def article(seeds: int, where: Path) -> list[dict[str, Any]]:
    """Run preset article and its frozen control at each seed and return a row for each."""
    rows = []
    for seed in range(seeds):
        row: dict[str, Any] = {"seed": seed}
        for kind in ("linear", "frozen"):
            flags = {
                "oracle.kind": kind,
                "train.seed": seed,
                "data.seed": seed,
                "data.test": TESTED + UNSEEN,
                "train.evaluate_every": 0,
                "log.level": "info",
                "run.dir": str(where),
                "run.plot": False,
            }
            row[kind] = judge(launch(resolve("article", flags=flags), label=f"{kind}-{seed}"))
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


#: The windows at which digits run, and the share of test images from which on a run has converged.
WINDOWS, CONVERGED = (1, 2, 4, 8, 16), 0.99


def digits(seeds: int, where: Path) -> list[dict[str, Any]]:
    """Run preset digits at each seed and window and return a row for each."""
    rows = []
    for seed in range(seeds):
        for window in WINDOWS:
            flags = {"schedule.window": window, "train.seed": seed, "data.seed": seed, "train.evaluate_every": 0}
            own = {"log.level": "info", "run.dir": str(where), "run.plot": False, "trace.level": "off"}
            result = launch(resolve("digits", flags=flags | own), label=f"digits-{window}-{seed}")
            row = {"seed": seed, "window": window, "accuracy": result.accuracy, "status": result.status}
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def render_digits(rows: list[dict[str, Any]]) -> str:
    """Return the table of digits."""
    lines = []
    for window in WINDOWS:
        found = [row["accuracy"] or 0.0 for row in rows if row["window"] == window]
        converged = sum(accuracy >= CONVERGED for accuracy in found)
        spread = f"{share(min(found))} – {share(max(found))}"
        lines.append((window, f"{converged} of {len(found)}", share(statistics.median(found)), spread))
    return table(("window", f"seeds at {share(CONVERGED)} or more", "median", "min – max"), lines)


def judge(result: Result) -> dict[str, Any]:
    """Return how a run did on the 20 test images, on the unseen ones, and whether its cost flew off."""
    with (result.folder / "metrics" / "predictions.csv").open(newline="") as stream:
        right = [row["right"] == "true" for row in csv.DictReader(stream)]
    costs = result.costs
    return {
        "tested": sum(right[:TESTED]) / TESTED,
        "unseen": sum(right[TESTED:]) / len(right[TESTED:]),
        "first_cost": costs[0],
        "last_cost": costs[-1],
        "flew_off": has_flown_off(costs),
    }


def has_flown_off(costs: list[float]) -> bool:
    """Whether an epoch's mean cost is not a number, or many times the first one."""
    return not all(cost < FLEW_OFF * costs[0] for cost in costs)


def render(rows: list[dict[str, Any]]) -> str:
    """Return the experiment's table."""
    lines = []
    for kind, name in (("linear", "article"), ("frozen", "frozen boxes")):
        found = [row[kind] for row in rows]
        tested, unseen = [row["tested"] for row in found], [row["unseen"] for row in found]
        lines.append(
            (
                name,
                share(statistics.median(tested)),
                share(min(tested)),
                share(statistics.median(unseen)),
                f"{share(min(unseen))} – {share(max(unseen))}",
                sum(row["flew_off"] for row in found),
            )
        )
    better = sum(row["linear"]["unseen"] > row["frozen"]["unseen"] for row in rows)
    head = ("", "20 images: median", "worst", "1,000 unseen: median", "min – max", "flew off")
    return (
        f"{table(head, lines, left=(0,))}\nbetter than frozen boxes on the unseen images: {better} of {len(rows)} seeds"
    )


def main() -> int:
    """Run an experiment and print its table."""
    parser = argparse.ArgumentParser(prog="python -m launch.experiments", description=__doc__)
    parser.add_argument("name", choices=("article", "digits"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--run.dir", dest="run_dir", type=Path, help="keep the runs in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="timebox-experiment-") as folder:
        where = options.run_dir or Path(folder)
        if options.name == "article":
            print(render(article(options.seeds, where)))
        else:
            print(render_digits(digits(options.seeds, where)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
