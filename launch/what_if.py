"""What is to be simulated: a run or a configuration, with changes, and the costs that go with it. Reads traces.

costs     from a run's trace, actions and messages as distributions; from a file; else the arithmetic, measured here
what if   changes the configuration (model.boxes=8) or the world (latency_ms=5, cores=2), one or several
faults    of a configuration that take time (slow, hang for so long) happen in virtual time too, others are refused. Those that
          a recorded run had are in its times: they are taken out of these, and happen again at their batches. So the prediction
          has each one once, `fault.slow=` tells what the run would have been without it, and another text takes its place.
          What else had happened to the run on purpose, a kill or a lost message, is left out, and it is said
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from pipeline import faults, grid
from pipeline.config import changed, parse_value
from pipeline.costs import Costs
from pipeline.emulation import Emulation
from pipeline.errors import ConfigError
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.schema_emulate import Emulate
from pipeline.schema_run import Fault

from . import calibrate, costs_file, emulated_costs, recording, runs
from .recording import Recording

#: What can be changed of the world, and its unit in the model's.
WORLD: dict[str, float] = {
    "latency_ms": 1e6,
    "jitter_ms": 1e6,
    "bandwidth_mb_s": 1e6,
    "cores": 1,
    "straggle": 1,
    "factor": 1,
}
#: What changes how long arithmetic takes.
COMPUTE = ("model", "data", "oracle")


class Request(NamedTuple):
    """What is to be simulated: the plan's configuration, its costs, and where they are from."""

    config: Config
    costs: Costs
    origin: str
    measured: Recording | None
    label: str
    notes: Sequence[str] = ()


def of_run(folder: Path, calibration: Path | None, changes: Sequence[str]) -> Request:
    """Return the request to predict a recorded run, by its own trace or another run's, with changes; raises ConfigError."""
    found = recording.load(folder)
    source = found if calibration is None else recording.load(calibration)
    timed, others = faults.apart(found.config.fault, found.plan)
    base = msgspec.structs.replace(found.config, fault=timed)
    made = _request(base, source, changes, found if not changes else None, folder.name)
    notes = [f"{text} happened to {folder.name} on purpose and takes no time of its own: left out" for text in others]
    return made._replace(notes=[*made.notes, *notes])


def of_costs(config: Config, file: Path, changes: Sequence[str]) -> Request:
    """Return the request to simulate a configuration at the costs that a file gives; raises ConfigError."""
    config, plan, besides = _changed(config, changes)
    return Request(config, replace(costs_file.read(plan, file), **besides), str(file), None, "simulated")


def of_config(config: Config, calibration: Path | None, changes: Sequence[str]) -> Request:
    """Return the request to simulate a configuration, by a run's trace or by measured arithmetic; raises ConfigError."""
    source = None if calibration is None else recording.load(calibration)
    return _request(config, source, changes, None, "simulated")


def _request(
    base: Config, source: Recording | None, changes: Sequence[str], measured: Recording | None, label: str
) -> Request:
    config, plan, besides = _changed(base, changes)
    notes = []
    if source is None:
        costs = Costs(calibrate.from_arithmetic(config))
        origin = f"each action's arithmetic, measured here over {calibrate.TRIED} batches; messages are free"
    else:
        costs, origin = emulated_costs.bare(calibrate.from_trace(source), source), f"the trace of {source.folder.name}"
        notes = _doubts(source, plan)
        if msgspec.structs.replace(source.config, fault=config.fault) != config:
            ratios = _ratios(source.config, config)
            costs = calibrate.fitted(costs, source.plan, plan, ratios)
            origin += ", arithmetic scaled by what it takes here" if ratios else ", fitted to the changed stages"
        costs, more = emulated_costs.padded(costs, source, config, plan)
        notes += more
    return Request(config, replace(costs, **besides), origin, measured, label, notes)


def _changed(base: Config, changes: Sequence[str]) -> tuple[Config, Plan, dict[str, Any]]:
    """Return the changed configuration, its plan, and what it says of costs besides actions and hops; raises ConfigError."""
    keys, world = _parse(changes)
    config = changed(base, keys)
    grid.check(config)
    plan = Plan.of(config)
    _check_world(config, world)
    return config, plan, {"emulation": emulated(config, plan), "faults": faults.in_virtual_time(config, plan), **world}


def _check_world(config: Config, world: Mapping[str, Any]) -> None:
    """Raise ConfigError for processors that would be held by boxes that sleep."""
    emulate = config.emulate
    if world.get("cores") and (emulate.compute_ms or emulate.slow or emulate.straggle or config.fault != Fault()):
        raise ConfigError(
            "--what-if: cores: emulated compute sleeps and holds no processor, and so does a fault; leave out cores, or these"
        )


def emulated(config: Config, plan: Plan) -> Emulation | None:
    """Return what a configuration emulates, or None where it is this machine."""
    return None if config.emulate == Emulate() else Emulation(config.emulate, plan)


def _doubts(source: Recording, plan: Plan) -> list[str]:
    """Return what to think of when a crowded run's costs are taken for another plan."""
    cores = (runs.read_json(source.folder / "environment.json") or {}).get("cores")
    if not isinstance(cores, int) or source.plan.head <= cores:
        return []
    if (source.plan.schedule, source.plan.head) == (plan.schedule, plan.head):
        return []
    return [
        f"{source.folder.name} had {source.plan.head} stages on {cores} processors: its hops hold waits for a processor, "
        f"which {plan.schedule} with {plan.head} stages need not have; calibrate with a run like the one that is asked for"
    ]


def _parse(changes: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the changes of the configuration, and those of the world, in the model's units; raises ConfigError."""
    keys: dict[str, Any] = {}
    world: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--what-if: {change!r}: say KEY=VALUE, as model.boxes=8 or latency_ms=5")
        if "." in key:
            keys[key] = parse_value(key, value, "flag")
        elif key in WORLD:
            world[key.rpartition("_ms")[0] + "_ns" if key.endswith("_ms") else key] = _number(key, value)
        else:
            raise ConfigError(
                f"--what-if: there is no {key!r}; it takes keys of the configuration and {', '.join(WORLD)}"
            )
    if "bandwidth_mb_s" in world:
        world["bandwidth"] = float(world.pop("bandwidth_mb_s"))
    return keys, world


def parse_world(changes: Sequence[str]) -> dict[str, Any]:
    """Return the changes of the world, in the cost model's units; raises ConfigError."""
    return _parse(changes)[1]


def _number(key: str, value: str) -> float | int:
    try:
        number = float(value)
    except ValueError:
        raise ConfigError(f"--what-if: {key}={value}: {value!r} is no number") from None
    least = 1 if key == "cores" else 0
    if not number >= least or number > 1e9 or (key == "straggle" and number > 1):
        most = " and at most 1" if key == "straggle" else ""
        raise ConfigError(f"--what-if: {key}={value}: at least {least}{most} is wanted")
    if key == "cores" and number != int(number):
        raise ConfigError(f"--what-if: cores={value}: a whole number is wanted")
    return number * WORLD[key] if key in ("straggle", "factor") else round(number * WORLD[key])


def _ratios(old: Config, new: Config) -> dict[tuple[int, str], float]:
    """Return how many times as long each action's arithmetic takes, measured here; empty where that cannot have changed."""
    before, after = msgspec.to_builtins(old), msgspec.to_builtins(new)
    if all(before[group] == after[group] for group in COMPUTE):
        return {}
    one, other = calibrate.from_arithmetic(old), calibrate.from_arithmetic(new)
    plan, old_plan = Plan.of(new), Plan.of(old)
    found = {}
    for (k, kind), samples in other.items():
        like = calibrate.role(plan, k, old_plan)
        known = next((one[like, each] for each in (kind, *"TBF") if (like, each) in one), None)
        if known:
            found[k, kind] = float(np.median(samples) / max(np.median(known), 1))
    return found
