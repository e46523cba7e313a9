"""What decoupling does to other cells and tasks, with controls. `timebox bench family`, `copy`, `repeat-copy`.

    family         presets dense, addition (8 and 12 bits), adding: backpropagation, oracles, local classifiers, frozen boxes
    copy           presets copy and repeat-copy with boxes of 2, 3 and 5 steps: how long the sequences get that are learnt, by
    repeat-copy    oracles, and by backpropagation truncated at the boxes' edges; all see the same batches, and each box steps
                   once for each: smaller boxes step more often, backpropagation through all steps once a batch

Each run is one process that follows the order of `article`, or of `locked`; processes that follow them end with the same bits.
Rates of `family` were chosen on validation examples; those of `copy` on the oracle with bootstrapped targets, for all.
Runs that are there are not run again (folder sweeps/family and so on).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pipeline.config import resolve
from pipeline.data import batches
from pipeline.errors import DivergedError
from pipeline.levels import lengths, needed
from pipeline.reference import Reference
from pipeline.schema import Config

from . import sweep
from .environment import collect
from .rule_cost import multiply_adds
from .spawn import Observer
from .sweep_points import Point, Request

Flags = Mapping[str, Any]

NO_LABEL = {"oracle.sees_label": False}
LOCKED, LOCAL, FROZEN = {"schedule.kind": "locked"}, {"oracle.kind": "local"}, {"oracle.kind": "frozen"}
MLP = {"oracle.kind": "mlp", "oracle.bias": False}


class Case(NamedTuple):
    """A rule on a preset: one row of a table."""

    preset: str
    what: str  # of the preset's task
    rule: str
    flags: Flags

    def config(self) -> Config:
        """Return its configuration, in the order of `article` if it names no other."""
        quiet = {"schedule.kind": "article", "train.evaluate_every": 0, "log.level": "info"}
        return resolve(self.preset, flags=quiet | dict(self.flags))


def family() -> Iterator[Case]:
    """Yield the rows of `family`."""
    name = "images right, %"
    yield Case("dense", name, "backpropagation", {**LOCKED, "train.rate_input": 3e-4})
    yield Case("dense", name, "linear oracle, sees labels", {})
    yield Case("dense", name, "linear oracle, no labels", NO_LABEL)
    yield Case("dense", name, "mlp oracle, sees labels", {**MLP, "oracle.hidden": 256, "train.rate_oracle": 3e-4})
    yield Case("dense", name, "local classifiers", LOCAL)
    yield Case("dense", name, "frozen boxes", FROZEN)
    for bits in (8, 12):
        name, wide = f"{bits} bits: bits right, %", {"data.bits": bits}
        yield Case("addition", name, "backpropagation", {**wide, **LOCKED})
        yield Case("addition", name, "linear oracle, sees labels", wide)
        yield Case("addition", name, "linear oracle, no labels", {**wide, **NO_LABEL})
        yield Case("addition", name, "local classifiers", {**wide, **LOCAL})
        yield Case("addition", name, "frozen boxes", {**wide, **FROZEN})
    name = "50 numbers: mean squared error"
    yield Case("adding", name, "backpropagation", LOCKED)
    yield Case("adding", name, "mlp oracle, sees labels", {})
    yield Case("adding", name, "mlp oracle, no labels", NO_LABEL)
    yield Case("adding", name, "local classifiers", LOCAL)
    yield Case("adding", name, "frozen boxes", FROZEN)


#: Steps a box, and how many boxes hold the longest sequences.
STEPS = (2, 3, 5)
LONGEST = {"copy": 12, "repeat-copy": 7}
EPOCHS = {"copy": 400, "repeat-copy": 200}


def by_step(name: str) -> Iterator[Case]:
    """Yield the rows of `copy` or `repeat-copy`."""
    total = needed(name, LONGEST[name])
    for steps in STEPS:
        size = {
            "model.steps_per_box": steps, "model.boxes": -(-total // steps), "data.length": LONGEST[name],
            "train.epochs": EPOCHS[name],
        }  # fmt: skip
        yield Case(name, f"boxes of {steps}", "oracle", size)
        yield Case(name, f"boxes of {steps}", "oracle, true targets", {**size, "oracle.target": "true"})
        yield Case(name, f"boxes of {steps}", "truncated at the edges", {**size, **LOCAL})
    yield Case(name, "through all steps", "backpropagation", {**size, **LOCKED})


def request(name: str, repeats: int, cases: list[Case]) -> Request:
    """Return a sweep's request of cases; another seed each repeat."""
    found, document = [], {}
    for number, case in enumerate(cases, 1):
        values = {"preset": case.preset, "what": case.what, "rule": case.rule}
        found.append(Point(number, "reference", values, case.config()))
        # Of what a preset says too: rows of another one are not gone on with.
        network = msgspec.to_builtins(case.config(), str_keys=True)
        said = json.dumps(
            {key: network[key] for key in ("model", "oracle", "data", "train", "schedule")}, sort_keys=True
        )
        document[str(number)] = values | {"configuration": hashlib.sha256(said.encode()).hexdigest()[:16]}
    return Request(
        f"bench {name}", name, repeats, 0, True, "", "", ("preset", "what", "rule"), found,
        {"name": name, "repeats": repeats, "point": document},
    )  # fmt: skip


def run(config: Config, mode: str, label: str, repeat: int, observe: Observer) -> tuple[dict[str, Any], Path | None]:  # noqa: ARG001
    """Train in this process and return what the row tells."""
    began = time.perf_counter()
    reference = Reference(config, batches(config))
    try:
        for _ in reference.run():
            pass
    except DivergedError as error:
        passed = {} if reference.curriculum is None else {"level": reference.curriculum.passed}
        return {"status": "failed", "error": str(error), **passed}, None
    took = time.perf_counter() - began
    plan = reference.plan
    last = reference.ledger.rows()[-1]
    found = {
        "status": "done", "batches": plan.steps, "batches_per_s": plan.steps / took, "makespan_s": took,
        "accuracy": last.get("accuracy"), "last_cost": last.get("test_cost"),
    }  # fmt: skip
    if reference.curriculum is not None:
        found["level"] = reference.curriculum.passed
    return found, None


def _measure(name: str, repeats: int, cases: list[Case]) -> dict[str, Any]:
    made = sweep.sweep(request(name, repeats, cases), measure=run)
    rows = []
    for number, case in enumerate(cases, 1):
        mine = [row for row in made["rows"] if row["point"] == number]
        values = {
            key: [row[key] for row in mine if row.get(key) is not None] for key in ("accuracy", "last_cost", "level")
        }
        config = case.config()
        like = resolve(case.preset, flags={**case.flags, **LOCKED, "oracle.kind": "linear"})
        told = {"failed": sum(row["status"] == "failed" for row in mine), "boxes": config.model.boxes}
        cost = multiply_adds(config) / multiply_adds(like)
        rows.append({"preset": case.preset, "what": case.what, "rule": case.rule, "cost": cost, **values, **told})
    document = {"bench": name, "repeats": repeats, "rows": rows, "environment": collect()}
    if name in LONGEST:
        data, size = cases[0].config().data, EPOCHS[name]
        document |= {"longest": LONGEST[name], "epochs": size, "batches": size * data.train // data.batch}
        document |= {"bound": data.bound, "lengths": _lengths(name)}
    return document


def _lengths(name: str) -> list[list[int]]:
    """Return length and repeats of each level."""
    return [list(lengths(name, level)) for level in range(1, LONGEST[name] + 1)]


def measure(repeats: int) -> dict[str, Any]:
    """Run every case of `family` and return the table's document."""
    return _measure("family", repeats, list(family()))


def copy(repeats: int) -> dict[str, Any]:
    """Run every case of `copy`."""
    return _measure("copy", repeats, list(by_step("copy")))


def repeat_copy(repeats: int) -> dict[str, Any]:
    """Run every case of `repeat-copy`."""
    return _measure("repeat-copy", repeats, list(by_step("repeat-copy")))
