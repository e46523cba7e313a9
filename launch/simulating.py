"""`timebox simulate`: a configuration, or a recorded run, in virtual time. What would happen elsewhere, and how good a guess.

`what_if` says what is simulated, at which costs; `virtual_run` leaves it as a run. A recorded run is predicted and held against
what it did: makespan, each stage's work, each kind of action.

With arithmetic the numbers of the run are computed in simulated order: cost, accuracy and digest are then those of a
machine with these costs, the same on every call.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import faults
from pipeline.costs import Costs
from pipeline.data import batches as make_batches
from pipeline.errors import ConfigError
from pipeline.files import run_digest
from pipeline.head import HeadWork
from pipeline.plan import Plan
from pipeline.simulate import Simulated, simulate
from pipeline.weights import digest
from pipeline.work import Work
from pipeline.works import make_work

from . import calibrate, recording, runs, text, virtual_run
from .recording import Recording
from .what_if import Request

#: What `--out` calls a file, and not a folder.
TRACES = (".json", ".json.gz")
#: A range is wide whose end is so many times its beginning.
WIDE = 1.25
#: So many seeds tell how much a prediction depends on what is drawn.
SEEDS = 5


def document(request: Request, *, seed: int = 0, arithmetic: bool = False, out: Path | None = None) -> dict[str, Any]:
    """Simulate and return the document of `timebox simulate --json`; with `out` leave a run folder there."""
    if out is not None and out.name.endswith(TRACES):
        return _with_timelines(request, seed, out)
    config, plan = request.config, Plan.of(request.config)
    works: dict[int, Work] = {}
    if arithmetic:
        data = make_batches(config)
        works = {k: make_work(config, plan, k, data) for k in range(1, plan.head + 1)}
    observers = {} if out is None else virtual_run.begin(out, config, plan, works)
    weigh = virtual_run.weigher(config, plan)
    began = time.perf_counter()
    found = simulate(plan, request.costs, seed=seed, works=works, weigh=weigh, observers=observers)
    seconds = time.perf_counter() - began
    made: dict[str, Any] = {
        "run": request.label,
        "schedule": plan.schedule,
        "boxes": plan.boxes,
        "batches": plan.steps,
        "micro_batches": plan.micro,
        "costs": request.origin,
        "seed": seed,
        "cores": request.costs.cores,
        "faults": faults.texts(request.config.fault),
        "warnings": list(request.notes),
        "makespan_s": found.makespan_ns / 1e9,
        "batches_per_s": plan.steps / found.makespan_ns * 1e9 if found.makespan_ns else None,
        "actions": found.actions,
        "seconds": seconds,
        "actions_per_s": found.actions / seconds,
        "stages": [_stage(plan, found, k) for k in range(1, plan.head + 1)],
    }
    if works:
        made |= _learned(plan, works)
    if not arithmetic and out is None and not request.costs.is_constant:
        others = [simulate(plan, request.costs, seed=seed + place, weigh=weigh) for place in range(1, SEEDS)]
        spans = sorted(each.makespan_ns / 1e9 for each in (found, *others))
        made["range_s"] = [spans[0], spans[-1]]
    if request.measured is not None and _is_whole(request.measured):
        made |= _errors(request, found)
    if out is not None:
        virtual_run.end(out, plan, works, observers, made)
        made["out"] = str(out)
    return made


def _with_timelines(request: Request, seed: int, out: Path) -> dict[str, Any]:
    """Simulate into a folder that nobody keeps and draw it below the run that it predicts."""
    if request.measured is None:
        raise ConfigError(f"--out: {out.name}: a trace shows a run and its prediction; give a RUN and no --what-if")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out: there is no folder {out.parent}")
    with tempfile.TemporaryDirectory(prefix="timebox-") as temporary:
        folder = Path(temporary) / "simulated"
        made = document(request, seed=seed, out=folder)
        made["spans"] = virtual_run.write_timelines(request.measured, recording.load(folder), out)
    return made | {"out": str(out)}


def _is_whole(found: Recording) -> bool:
    """Whether a run came to its end and all its stages tell of it: a part is not to be held against the whole."""
    return found.is_whole and runs.describe(found.folder)["status"] in ("done", "simulated")


def _stage(plan: Plan, found: Simulated, k: int) -> dict[str, Any]:
    busy, makespan = found.busy_ns[k], found.makespan_ns
    return {"name": plan.name(k), "busy_s": busy / 1e9, "bubble": 1 - busy / makespan if makespan else None}


def _learned(plan: Plan, works: Mapping[int, Any]) -> dict[str, Any]:
    head: HeadWork = works[plan.head]
    epochs = head.ledger.rows()
    return {
        "accuracy": epochs[-1].get("accuracy"),
        "epoch_costs": [row["cost"] for row in epochs],
        "digest": run_digest([digest(works[k].weights()) for k in range(1, plan.head + 1)]),
    }


def _errors(request: Request, found: Simulated) -> dict[str, Any]:
    """Return what was measured beside what was predicted, and the relative errors."""
    measured = request.measured
    assert measured is not None
    real = calibrate.from_trace(measured)
    seconds = (measured.end_ns - measured.origin_ns) / 1e9
    kinds: dict[str, list[float]] = {}
    stages: dict[str, float | None] = {}
    for (k, kind), samples in real.actions.items():
        mean = float(np.mean(samples))
        guess = float(np.mean(_emulated(request.costs, k, kind, measured.plan.batches)))
        kinds.setdefault(kind, []).append(guess / mean - 1 if mean else 0.0)
    for stage in measured.stages:
        busy = 0 if len(stage.of("g")) else calibrate.busy_ns(stage)
        stages[stage.name] = found.busy_ns[stage.number] / busy - 1 if busy > 0 else None
    return {
        "measured_s": seconds,
        "errors": {
            "makespan": found.makespan_ns / 1e9 / seconds - 1 if seconds else 0.0,
            "per_action": {kind: float(np.mean(errors)) for kind, errors in sorted(kinds.items())},
            "per_stage": stages,
        },
    }


def _emulated(costs: Costs, k: int, kind: str, batches: int) -> list[float]:
    """Return what an action costs with what is emulated, a straggler's time by its chance, and with its faults on average."""
    samples, emulation = costs.actions.get((k, kind), (0,)), costs.emulation
    own = [each for each in costs.faults if each.stage == k] if kind == "F" else []
    late = sum(faults.late_ns(own, batch) for batch in range(batches)) / batches if own else 0.0
    if emulation is None:
        return [each + late for each in samples]
    straggle = emulation.emulate.straggle if emulation.stragglers(k, kind) else 0.0
    stretch = 1 + straggle * (emulation.emulate.factor - 1)
    pad, slow = emulation.pad_ns(k, kind), emulation.slow_ns(k, kind)
    return [stretch * (max(each, pad) + slow) + late for each in samples]


# For people


def render(made: Mapping[str, Any]) -> str:
    """Return what came of a simulation as text."""
    rows = []
    errors = made.get("errors", {})
    for stage in made["stages"]:
        row = [stage["name"], f"{stage['busy_s']:.3f}", text.share(stage["bubble"])]
        if errors:
            row.append(_signed(errors["per_stage"].get(stage["name"])))
        rows.append(row)
    header = ["stage", "busy s", "bubble", *(["work against measured"] if errors else [])]
    lines = [
        f"{made['schedule']}, {made['boxes']} boxes, {made['batches']:,} batches in virtual time: "
        f"{made['makespan_s']:.4g} s{_range(made)}, {text.number(made['batches_per_s'], 1)} batches a second",
        f"costs: {made['costs']}; {text.processors(made['cores'])}",
        *([f"faults on purpose: {', '.join(made['faults'])}"] if made.get("faults") else []),
        f"seed {made['seed']}; {made['actions']:,} actions, {made['actions_per_s']:,.0f} a second",
        "",
        text.table(header, rows, left=(0,)),
    ]
    low, high = made.get("range_s", (0.0, 0.0))
    if high > WIDE * low > 0:
        lines += [
            "",
            f"what is drawn decides much: of {SEEDS} seeds the longest is {high / low:.1f} times the shortest",
        ]
    if errors:
        kinds = ", ".join(f"{kind} {_signed(error)}" for kind, error in errors["per_action"].items())
        is_other = any(abs(error) > 1e-9 for error in errors["per_action"].values())  # else they are its own
        lines += [
            "",
            f"measured: {made['measured_s']:.4g} s; predicted {_signed(errors['makespan'])}"
            + (f"; actions: {kinds}" if is_other else ""),
        ]
    if "digest" in made:
        lines += ["", f"accuracy {text.number(made['accuracy'])}, digest {made['digest']}"]
    if "spans" in made:
        lines += ["", f"{made['out']}: {made['spans']:,} spans, measured above simulated; open it in ui.perfetto.dev"]
    elif "out" in made:
        lines += ["", f"look into it: timebox stats {made['out']}, timebox report {made['out']}"]
    return "\n".join(lines)


def _range(made: Mapping[str, Any]) -> str:
    low, high = made.get("range_s", (0.0, 0.0))
    return f" ({low:.4g} to {high:.4g} over {SEEDS} seeds)" if high > low else ""


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f} %"
