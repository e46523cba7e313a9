"""`timebox simulate`: a configuration, or a recorded run, in virtual time. What would happen elsewhere, and how good a guess.

    costs     from a run's trace, actions and messages as distributions; else each action's arithmetic, measured here
    what if   changes the configuration (model.boxes=8) or the world (latency_ms=5, cores=2), one or several
    a run     is predicted and held against what it did: makespan, each stage's work, each kind of action

With arithmetic the numbers of the run are computed in simulated order: cost, accuracy and digest are then those of a
machine with these costs, the same on every call.
"""

from __future__ import annotations

import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from pipeline import results
from pipeline.actions import ACTIONS, KINDS, Action, Message, Part
from pipeline.box import BoxWork, Work, digest
from pipeline.config import dump, parse_value, resolve
from pipeline.costs import Costs, Samples
from pipeline.data import Batches
from pipeline.data import load as load_data
from pipeline.errors import ConfigError, WireError
from pipeline.files import run_digest, save, save_json, save_text
from pipeline.head import HeadWork
from pipeline.lacks import Lack
from pipeline.payloads import Payloads
from pipeline.plan import Plan
from pipeline.recorder import Recorder
from pipeline.schema import Config
from pipeline.simulate import Simulated, simulate
from pipeline.trace import DONE, GO

from . import calibrate, chrome, recording, runs, text, window
from .environment import collect
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
#: What `--out` calls a file, and not a folder.
TRACES = (".json", ".json.gz")
Weigh = Callable[[Message], int]
#: So many seeds tell how much a prediction depends on what is drawn.
SEEDS = 5
#: Virtual time begins here: a record's time is never zero.
ZERO = 1_000_000_000


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
    config = _changed(config, keys)
    plan = Plan.of(config)
    slow = {plan.number(name): round(ms * 1e6) for name, ms in config.emulate.slow.items()}
    return Request(config, replace(given_costs(plan, file), slow=slow, **world), str(file), None, "simulated")


def given_costs(plan: Plan, file: Path) -> Costs:
    """Return the costs of a TOML file in milliseconds, one number or several to draw from; raises ConfigError.

    `[actions]` by kind for every box (`F = 1.5`) or for one stage (`"head.F" = [0.2, 0.3]`); `[sends]` and `[takes]` by
    message kind in the same way; `[hops]` by edge (`"box-1>box-2" = 0.1`) or for all of them (`all = 0.1`).
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--costs: {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--costs: {file}: {error}") from None
    if unknown := sorted(document.keys() - {"actions", "sends", "takes", "hops"}):
        raise ConfigError(f"--costs: {file}: there is no group {unknown[0]}; groups are actions, sends, takes, hops")
    stages = range(1, plan.head + 1)
    tables: dict[str, dict[Any, Samples]] = {"actions": {}, "sends": {}, "takes": {}, "hops": {}}
    for group, table in document.items():
        for key, value in (table if isinstance(table, dict) else {"": None}).items():
            where, samples = f"--costs: {file}: {group}.{key}", _samples(value)
            if samples is None:
                raise ConfigError(f"{where}: milliseconds are wanted, at least 0: one number, or a list of them")
            for place in _places(plan, group, key, where):
                tables[group][place] = samples
    hops = {(k, j): samples for k in stages for j in plan.sources(k) if (samples := tables["hops"].get((0, 0)))}
    hops |= {edge: samples for edge, samples in tables["hops"].items() if edge != (0, 0)}
    return Costs(tables["actions"], tables["sends"], tables["takes"], hops)


def _samples(value: Any) -> Samples | None:
    values = value if isinstance(value, list) else [value]
    if not values or not all(type(each) in (int, float) and 0 <= each < 1e9 for each in values):
        return None
    return tuple(round(each * 1e6) for each in values)


def _places(plan: Plan, group: str, key: str, where: str) -> list[Any]:
    """Return the places in a table that a key of the file names; raises ConfigError."""
    try:
        if group == "hops":
            if key == "all":
                return [(0, 0)]
            source, arrow, target = key.partition(">")
            if arrow:
                return [(plan.number(source), plan.number(target))]
        else:
            name, dot, kind = key.rpartition(".")
            if kind in (ACTIONS if group == "actions" else KINDS) and len(kind) > (group != "actions"):
                return [(k, kind) for k in ([plan.number(name)] if dot else range(1, plan.boxes + 1))]
    except WireError as error:
        raise ConfigError(f"{where}: {error}") from None
    wanted = {"actions": "F or head.F", "hops": "all or box-1>box-2"}.get(group, "activation or head.activation")
    raise ConfigError(f"{where}: {wanted} is how such a key looks")


def of_config(config: Config, calibration: Path | None, changes: Sequence[str]) -> Request:
    """Return the request to simulate a configuration, by a run's trace or by measured arithmetic; raises ConfigError."""
    source = None if calibration is None else recording.load(calibration)
    return _request(config, source, changes, None, "simulated")


def _request(
    base: Config, source: Recording | None, changes: Sequence[str], measured: Recording | None, label: str
) -> Request:
    keys, world = _parse(changes)
    config = _changed(base, keys)
    plan = Plan.of(config)
    notes = []
    if source is None:
        costs = Costs(calibrate.from_arithmetic(config))
        origin = f"each action's arithmetic, measured here over {calibrate.TRIED} batches; messages are free"
    else:
        costs, origin = _without_slow(calibrate.from_trace(source), source), f"the trace of {source.folder.name}"
        notes = _doubts(source, plan)
        if source.config != config:
            ratios = _ratios(source.config, config)
            costs = calibrate.fitted(costs, source.plan, plan, ratios)
            origin += ", arithmetic scaled by what it takes here" if ratios else ", fitted to the changed stages"
    slow = {plan.number(name): round(ms * 1e6) for name, ms in config.emulate.slow.items()}
    return Request(config, replace(costs, slow=slow, **world), origin, measured, label, notes)


def _without_slow(costs: Costs, source: Recording) -> Costs:
    """Return a run's costs without what was emulated in it: that is added for the stages of the configuration."""
    actions = dict(costs.actions)
    for name, ms in source.config.emulate.slow.items():
        place = source.plan.number(name), "F"
        actions[place] = tuple(max(each - round(ms * 1e6), 0) for each in actions.get(place, (0,)))
    return replace(costs, actions=actions)


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
    if any(key.startswith(("model.boxes", "schedule.kind")) for key in keys) and "schedule.window" not in keys:
        flags.pop("schedule.window", None)  # its default follows from them
    return resolve(flags=flags | dict(keys))


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


def document(request: Request, *, seed: int = 0, arithmetic: bool = False, out: Path | None = None) -> dict[str, Any]:
    """Simulate and return the document of `timebox simulate --json`; with `out` leave a run folder there."""
    if out is not None and out.name.endswith(TRACES):
        return _with_timelines(request, seed, out)
    config, plan = request.config, Plan.of(request.config)
    works: dict[int, Work] = {}
    if arithmetic:
        data = Batches(config, load_data(config.data))
        works = {k: calibrate.make_work(config, plan, k, data) for k in range(1, plan.head + 1)}
    observers = {} if out is None else _folder(out, config, plan, works)
    began = time.perf_counter()
    found = simulate(plan, request.costs, seed=seed, works=works, weigh=_weigher(config, plan), observers=observers)
    seconds = time.perf_counter() - began
    made: dict[str, Any] = {
        "run": request.label,
        "schedule": plan.schedule,
        "boxes": plan.boxes,
        "batches": plan.batches,
        "costs": request.origin,
        "seed": seed,
        "cores": request.costs.cores,
        "warnings": list(request.notes),
        "makespan_s": found.makespan_ns / 1e9,
        "batches_per_s": plan.batches / found.makespan_ns * 1e9 if found.makespan_ns else None,
        "actions": found.actions,
        "seconds": seconds,
        "actions_per_s": found.actions / seconds,
        "stages": [_stage(plan, found, k) for k in range(1, plan.head + 1)],
    }
    if works:
        made |= _learned(plan, works)
    if not arithmetic and out is None and not request.costs.is_constant:
        others = [
            simulate(plan, request.costs, seed=seed + place, weigh=_weigher(config, plan)) for place in range(1, SEEDS)
        ]
        spans = sorted(each.makespan_ns / 1e9 for each in (found, *others))
        made["range_s"] = [spans[0], spans[-1]]
    if request.measured is not None and _is_whole(request.measured):
        made |= _errors(request, found)
    if out is not None:
        for observer in observers.values():
            observer.close(found.makespan_ns)
        _checkpoint(out, "final", plan, works)
        if works:
            head: Any = works[plan.head]
            results.save_metrics(out, plan, head.costs, head.judged)
        save_json(out / "environment.json", collect())
        save_json(out / "summary.json", _summary(made, out, observers))
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
        made["spans"] = write_timelines(request.measured, recording.load(folder), out)
    return made | {"out": str(out)}


def _is_whole(found: Recording) -> bool:
    """Whether a run came to its end and all its stages tell of it: a part is not to be held against the whole."""
    is_told = len(found.stages) == found.plan.head and all(stage.is_whole for stage in found.stages)
    return is_told and runs.describe(found.folder)["status"] in ("done", "simulated")


def _stage(plan: Plan, found: Simulated, k: int) -> dict[str, Any]:
    busy, makespan = found.busy_ns[k], found.makespan_ns
    return {"name": plan.name(k), "busy_s": busy / 1e9, "bubble": 1 - busy / makespan if makespan else None}


def _learned(plan: Plan, works: Mapping[int, Any]) -> dict[str, Any]:
    head: HeadWork = works[plan.head]
    epochs = results.epochs(plan, head.costs, head.judged)
    return {
        "accuracy": epochs[-1].get("accuracy"),
        "epoch_costs": [row["cost"] for row in epochs],
        "digest": run_digest([digest(works[k].weights()) for k in range(1, plan.head + 1)]),
    }


def _weigher(config: Config, plan: Plan) -> Weigh:
    payloads = Payloads(config, plan)
    return lambda message: payloads.expected(message).size


def _errors(request: Request, found: Simulated) -> dict[str, Any]:
    """Return what was measured beside what was predicted, and the relative errors."""
    measured = request.measured
    assert measured is not None
    real = calibrate.from_trace(measured)
    seconds = (measured.end_ns - measured.origin_ns) / 1e9
    kinds: dict[str, list[float]] = {}
    stages: dict[str, float | None] = {}
    for (k, kind), samples in real.actions.items():
        guess = request.costs.actions.get((k, kind), (0,))
        mean = float(np.mean(samples))
        kinds.setdefault(kind, []).append(float(np.mean(guess)) / mean - 1 if mean else 0.0)
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


def write_timelines(measured: Recording, simulated: Recording, path: Path) -> int:
    """Write both runs one above the other as one Chrome trace, .json or .json.gz, and return how many spans it shows."""
    made = [
        chrome.events(found, window.whole(found), label=label, place=place)
        for place, (found, label) in enumerate(((measured, "measured"), (simulated, "simulated")))
    ]
    both = chrome.Made(
        [text for each in made for text in each.texts],
        sum(each.spans for each in made),
        sum(each.messages for each in made),
        [text for each in made for text in each.warnings],
    )
    save(path, lambda stream: chrome.write(measured, both, stream, is_packed=path.suffix == ".gz"))
    return both.spans


# A simulated run as a folder that every other command reads


class _Tracer:
    """Writes what a simulated stage does as a live one's trace and journal."""

    def __init__(self, folder: Path, plan: Plan, number: int, work: Work | None, weigh: Weigh) -> None:
        self._work = work
        self._weigh = weigh
        header = {"pid": number, "wall_ns": time.time_ns(), "mono_ns": ZERO}
        self._recorder = Recorder(folder, plan.name(number), header)
        self._recorder.tape.mark(GO, ZERO)
        self._now = ZERO

    def part(self, action: Action, part: Part, start_ns: int, end_ns: int) -> None:
        self._recorder.tape.part(action, part, ZERO + start_ns, ZERO + end_ns)

    def sent(self, message: Message, sequence: int, start_ns: int, end_ns: int) -> None:
        end = ZERO + end_ns
        self._recorder.tape.sent(message, self._weigh(message), 0, sequence, ZERO + start_ns, end, end)

    def taken(self, message: Message, sequence: int, arrived_ns: int, start_ns: int, end_ns: int) -> None:  # noqa: ARG002
        start = ZERO + start_ns
        self._recorder.tape.taken(message, self._weigh(message), 0, sequence, start, start, ZERO + end_ns)

    def waited(self, lack: Lack | None, start_ns: int, end_ns: int) -> None:
        self._recorder.tape.waited(lack, ZERO + start_ns, ZERO + end_ns)

    def ended(self, action: Action, end_ns: int) -> None:
        self._now = ZERO + end_ns
        self._recorder.journal(action, lambda: self._now)
        if isinstance(self._work, (BoxWork, HeadWork)):
            self._recorder.sums.add(self._work.outputs, self._work.changes)

    def close(self, makespan_ns: int) -> None:
        self._recorder.done(DONE, ZERO + makespan_ns)
        self._recorder.close()

    @property
    def seal(self) -> dict[str, Any] | None:
        return self._recorder.seal if self._work is not None else None


def _folder(out: Path, config: Config, plan: Plan, works: Mapping[int, Work]) -> dict[int, _Tracer]:
    if (out / "config.toml").exists():
        raise ConfigError(f"--out: {out} holds a run already; choose another folder")
    try:
        (out / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out: cannot make {out}: {error.strerror}") from None
    # The name stays with the run that was predicted.
    config = msgspec.structs.replace(config, run=msgspec.structs.replace(config.run, name=""))
    save_text(out / "config.toml", dump(config))
    _checkpoint(out, "initial", plan, works)
    weigh = _weigher(config, plan)
    return {k: _Tracer(out, plan, k, works.get(k), weigh) for k in range(1, plan.head + 1)}


def _checkpoint(out: Path, name: str, plan: Plan, works: Mapping[int, Any]) -> None:
    for k, work in works.items():
        results.save_weights(out / "checkpoint" / name / f"{plan.name(k)}.npz", work.weights())


def _summary(made: Mapping[str, Any], out: Path, observers: Mapping[int, _Tracer]) -> dict[str, Any]:
    stages = [
        {"name": stage["name"], "pid": None, "busy_s": stage["busy_s"], "seal": observers[k].seal}
        for k, stage in enumerate(made["stages"], 1)
    ]
    return {
        "run": out.name,
        "folder": str(out),
        "status": "simulated",
        "seconds": made["makespan_s"],
        "reference": False,
        "schedule": made["schedule"],
        "accuracy": made.get("accuracy"),
        "costs": made.get("epoch_costs", []),
        "batches_per_s": made["batches_per_s"],
        "digest": made.get("digest"),
        "stages": stages,
    }


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
        f"costs: {made['costs']}; {_processors(made['cores'])}",
        f"seed {made['seed']}; {made['actions']:,} actions, {made['actions_per_s']:,.0f} a second",
        "",
        text.table(header, rows, left=(0,)),
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


def _processors(cores: int) -> str:
    return f"{cores} processor{'s' * (cores > 1)}" if cores else "a processor for each stage"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f} %"
