"""How good the oracles were: each synthetic gradient beside the true one, at the batches that the probe looked at.

A local classifier's gradient stands in an oracle's place, where boxes learn by those.

The probe left what only the stages knew (`pipeline.probe`). From it the true gradient of the batch's loss follows by
backpropagation from the head to every box, through the weights that the forwards had read:

    cosine       ĝ·g / ‖ĝ‖‖g‖, over all rows and units       1 the same direction, 0 none, −1 the opposite one
    norm ratio   ‖ĝ‖ / ‖g‖

A low cosine does not mean low accuracy, and box 1 cannot see what later steps read: this is a health check, no score.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import results
from pipeline.arrays import Array, Weights
from pipeline.cells import Cell, Form
from pipeline.config import load
from pipeline.errors import RunError
from pipeline.files import save_text
from pipeline.learning import EARLY
from pipeline.plan import Plan
from pipeline.probe import trail_of
from pipeline.sizes import PARTS
from pipeline.weights import KINDS, cell_of

FILE = Path("metrics") / "oracle.csv"
NAMES = ("batch", "box", "cosine", "norm_ratio")


def judge(folder: Path, plan: Plan) -> list[dict[str, Any]]:
    """Return a row for each box at each probed batch, in their order.

    A batch is left out where some stage did not keep it, or not all of its arrays, or arrays that do not fit together.
    """
    looks = {k: results.read_looks(folder / "probe" / f"{plan.name(k)}.looks") for k in range(1, plan.head + 1)}
    whole = set.intersection(*(set(each) for each in looks.values()))
    make = _maker(folder, plan)
    rows = []
    for batch in sorted(whole):
        own = {k: each[batch] for k, each in looks.items()}
        if not all(_wanted(plan, k) <= look.keys() for k, look in own.items()):
            continue
        try:
            pairs = _compare(plan, own, make)
        except ValueError:  # as numpy says that shapes do not fit
            continue
        rows += [{"batch": batch, "box": box, **pair} for box, pair in pairs]
    return rows


def _wanted(plan: Plan, k: int) -> set[str]:
    """Return the arrays that are wanted of a stage. A box that waits for its gradient guesses none."""
    if k == plan.head:
        return {"g"}
    guess = {"g"} if plan.learns(k) in EARLY else set()
    return guess | ({"entering", "leaving"} if k > 1 else {"leaving"})


def _maker(folder: Path, plan: Plan) -> Callable[[Form], Cell]:
    """Return what makes a cell of the run's kind: a user's is in its configuration."""
    return partial(cell_of, load(folder / "config.toml")) if plan.cell == "own" else KINDS[plan.cell]


def _compare(
    plan: Plan, looks: dict[int, Weights], make: Callable[[Form], Cell]
) -> list[tuple[int, dict[str, float | None]]]:
    """Return cosine and norm ratio of each box that updates before its gradient is there, box 1 first."""
    true: Array = looks[plan.head]["g"]
    found = []
    for k in range(plan.boxes, 0, -1):
        look = looks[k]
        if "g" in look:
            found.append((k, _pair(look["g"], true)))
        if k > 1:
            trail = trail_of(look)
            steps, _, state = trail.leaving.shape
            parts = PARTS.get(plan.cell, 1)
            form = Form(
                0, state // parts, steps, is_first=False, function=plan.function, dtype=str(trail.leaving.dtype)
            )
            cell = make(form)
            if not set(cell.passing) <= look.keys():
                raise ValueError("a weight is missing")
            _, entering = cell.backward(look, trail, true, passes_on=True)
            assert entering is not None
            true = entering
    return found[::-1]


def _pair(synthetic: Array, true: Array) -> dict[str, float | None]:
    if synthetic.shape != true.shape:
        raise ValueError(f"a gradient of shape {synthetic.shape} is none of shape {true.shape}")
    ours, theirs = synthetic.astype(np.float64).ravel(), true.astype(np.float64).ravel()
    norm, true_norm = float(np.linalg.norm(ours)), float(np.linalg.norm(theirs))
    if not (np.isfinite(norm) and np.isfinite(true_norm)) or not true_norm:
        return {"cosine": None, "norm_ratio": None}
    cosine = float(ours @ theirs) / (norm * true_norm) if norm else None
    return {"cosine": cosine, "norm_ratio": norm / true_norm}


def settle(folder: Path, plan: Plan) -> None:
    """Write what the probe found as metrics/oracle.csv, and remove what it had left, which is large."""
    if not (folder / "probe").is_dir():
        return
    rows = judge(folder, plan)
    table = [
        ",".join(NAMES),
        *(",".join("" if row[name] is None else str(row[name]) for name in NAMES) for row in rows),
    ]
    save_text(folder / FILE, "\n".join(table) + "\n")
    shutil.rmtree(folder / "probe")


def read(folder: Path, plan: Plan) -> list[dict[str, Any]]:
    """Return the rows of a run: from its table, or from what the probe left where the run did not come to its end.

    Raises RunError for a table that cannot be read or is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        # Who only looks at a run runs none of its code.
        return judge(folder, plan) if (folder / "probe").is_dir() and plan.cell != "own" else []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return [
                {
                    "batch": int(row["batch"]),
                    "box": int(row["box"]),
                    "cosine": None if row["cosine"] == "" else float(row["cosine"]),
                    "norm_ratio": None if row["norm_ratio"] == "" else float(row["norm_ratio"]),
                }
                for row in csv.DictReader(stream)
            ]
    except OSError as error:
        raise RunError(f"{path}: cannot read the oracles' table: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, csv.Error) as error:  # TypeError: a row that is too short
        raise RunError(f"{path}: damaged: its rows are not those of oracles: {error}") from None
