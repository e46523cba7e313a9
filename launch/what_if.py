"""What is to be simulated: a run or a configuration, with changes, and the costs that go with it. Reads traces.

costs     from a run's trace, actions and messages as distributions; from a file; else the arithmetic, measured here
what if   changes the configuration (model.boxes=8) or the world (latency_ms=5, cores=2), one or several
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from pipeline.actions import Message
from pipeline.config import parse_value, resolve
from pipeline.costs import Costs, Samples
from pipeline.emulation import NS, Emulation, of_each
from pipeline.errors import ConfigError
from pipeline.grid import rehearse
from pipeline.payloads import Payloads
from pipeline.plan import Plan
from pipeline.schema import Config, Emulate

from . import calibrate, costs_file, recording, runs
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
    return _request(found.config, source, changes, found if not changes else None, folder.name)


def of_costs(config: Config, file: Path, changes: Sequence[str]) -> Request:
    """Return the request to simulate a configuration at the costs that a file gives; raises ConfigError."""
    keys, world = _parse(changes)
    config = _rehearsed(_changed(config, keys))
    plan = Plan.of(config)
    costs = replace(costs_file.read(plan, file), emulation=emulated(config, plan), **world)
    return Request(config, costs, str(file), None, "simulated")


def of_config(config: Config, calibration: Path | None, changes: Sequence[str]) -> Request:
    """Return the request to simulate a configuration, by a run's trace or by measured arithmetic; raises ConfigError."""
    source = None if calibration is None else recording.load(calibration)
    return _request(config, source, changes, None, "simulated")


def _request(
    base: Config, source: Recording | None, changes: Sequence[str], measured: Recording | None, label: str
) -> Request:
    keys, world = _parse(changes)
    config = _rehearsed(_changed(base, keys))
    plan = Plan.of(config)
    notes = []
    if source is None:
        costs = Costs(calibrate.from_arithmetic(config))
        origin = f"each action's arithmetic, measured here over {calibrate.TRIED} batches; messages are free"
    else:
        costs, origin = _without_emulation(calibrate.from_trace(source), source), f"the trace of {source.folder.name}"
        notes = _doubts(source, plan)
        if source.config != config:
            ratios = _ratios(source.config, config)
            costs = calibrate.fitted(costs, source.plan, plan, ratios)
            origin += ", arithmetic scaled by what it takes here" if ratios else ", fitted to the changed stages"
    return Request(config, replace(costs, emulation=emulated(config, plan), **world), origin, measured, label, notes)


def emulated(config: Config, plan: Plan) -> Emulation | None:
    """Return what a configuration emulates, or None where it is this machine."""
    return None if config.emulate == Emulate() else Emulation(config.emulate, plan)


def _without_emulation(costs: Costs, source: Recording) -> Costs:
    """Return a run's costs without what was emulated in it: that is added for the stages of the configuration.

    Of an action that was padded its own time is not known, only that it was less: nothing is left of it but what it took
    beyond the padding. Stragglers cannot be told from slow actions, so they are taken for one: the median stands for all.
    """
    emulation = Emulation(source.config.emulate, source.plan)
    actions = dict(costs.actions)
    for (k, kind), samples in costs.actions.items():
        added, pad = emulation.slow_ns(k, kind), emulation.pad_ns(k, kind)
        if emulation.stragglers(k, kind) is not None:
            samples = (round(float(np.median(samples))),)
        left = tuple(max(each - added, 0) for each in samples)
        # A little more than the padding is the sleep's lateness, and comes again.
        actions[k, kind] = tuple(each for each in left) if pad == 0 else tuple(max(each, pad) for each in left)
    return replace(costs, actions=actions, **_without_links(costs, source, emulation))


def _without_links(costs: Costs, source: Recording, emulation: Emulation) -> dict[str, Any]:
    """Return the hops of a run without its emulated edges.

    What was drawn for a message is not on record. The quickest one of its kind had next to no jitter and a free link, so what
    it took beyond delay and bandwidth is the hop's own time.
    """
    if not emulation.changes_messages:
        return {}
    plan, payloads = source.plan, Payloads(source.config, source.plan)

    def own(samples: Samples, j: int, k: int, kind: str) -> Samples:
        link = emulation.link(j, k)
        if link is None:
            return samples
        size = payloads.expected(Message(kind, 0, j, k)).size if kind else 0
        delay = of_each(source.config.emulate.delay_ms, f"{plan.name(j)}>{plan.name(k)}") * NS
        return (max(min(samples) - round(delay + size * link.ns_a_byte), 0),)

    return {
        "hops": {(j, k): own(samples, j, k, "") for (j, k), samples in costs.hops.items()},
        "hops_of": {(j, k, kind): own(samples, j, k, kind) for (j, k, kind), samples in costs.hops_of.items()},
    }


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


def _changed(base: Config, keys: Mapping[str, Any]) -> Config:
    if not keys:
        return base
    flags = _flat(base)
    # What follows from the keys that change is worked out anew.
    if base.schedule.kind != "decoupled" or any(key in keys for key in ("model.boxes", "schedule.kind")):
        flags.pop("schedule.window", None)
    if keys.get("schedule.kind", base.schedule.kind) != base.schedule.kind:
        for key in ("micro_batches", "weights", "delay", "file", "program"):
            flags.pop(f"schedule.{key}", None)
    return resolve(flags=flags | dict(keys))


def _rehearsed(config: Config) -> Config:
    """Return a configuration whose schedule, if it is a user's, gets through; raises ConfigError."""
    if config.schedule.kind == "own":
        rehearse(Plan.of(config), config.schedule.file or "schedule.program")
    return config


def _flat(config: Config) -> dict[str, Any]:
    document = msgspec.to_builtins(config)
    return {
        f"{group}.{key}": value
        for group, values in document.items()
        for key, value in values.items()
        if value is not None
    }


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
