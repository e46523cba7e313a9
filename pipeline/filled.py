"""What a schedule and an emulation need of a configuration: what follows from other keys, and what cannot be. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from . import programs
from .actions import stage_number
from .errors import ConfigError, ScheduleError, WireError
from .plan import Plan, rule_of
from .schema import Config, Schedule

#: Schedules that may cut a batch into micro-batches.
CUTTING = ("gpipe", "1f1b", "own")
#: The most parts that `gpipe` cuts a batch into if it is not told.
USUAL_PARTS = 8


def schedule(config: Config) -> Schedule:
    """Return the schedule of a checked configuration with what depends on other keys filled in."""
    given, boxes, micro = config.schedule, config.model.boxes, _parts(config)
    is_late = given.kind in ("1f1b", "delayed", "own") and micro == 1 and rule_of(config) == "backward"
    delay = (boxes if given.delay is None else given.delay) if given.kind == "delayed" else 0
    whole = msgspec.structs.replace(
        given, micro_batches=micro, weights=given.weights or ("stash" if is_late else "latest"), delay=delay
    )
    if given.kind == "decoupled":
        window = given.window or 2 * (boxes + 1)
    else:
        window = _window(msgspec.structs.replace(config, schedule=msgspec.structs.replace(whole, window=1)))
        if given.window not in (None, window):
            raise ConfigError(
                f"schedule.window: {given.kind} has {window} batch{'es' * (window > 1)} in flight by its order; "
                "leave it out, or use decoupled"
            )
    return msgspec.structs.replace(whole, window=window)


def _parts(config: Config) -> int:
    """Return into how many micro-batches a batch is cut."""
    given = config.schedule
    if given.kind == "gpipe" and given.micro_batches is None:
        return max(parts for parts in range(1, USUAL_PARTS + 1) if config.data.batch % parts == 0)
    return given.micro_batches or 1


#: What `schedule` fills in.
DERIVED = ("window", "micro_batches", "weights", "delay")


def _window(config: Config) -> int:
    """Return the most batches in flight at any box, by the programs."""
    plan = Plan.of(config)
    if plan.rule == "frozen":
        return 1
    settles = "T" if plan.rule == "synthetic" else "U" if plan.sums_gradients else "B"
    # Long enough that the part which repeats has come round.
    most = 1
    for k in range(1, plan.head):
        pattern = programs.PROGRAMS[plan.schedule](plan, k)
        count = (len(pattern.start) + 2 * len(pattern.again)) * plan.micro
        most = max(most, programs.widest(programs.unroll(pattern, 0, count, plan.micro), settles, plan.micro))
        if plan.schedule != "own":
            break  # the first box runs ahead farthest
    return most


def check(config: Config) -> None:
    """Check what concerns the schedule and the emulation; raises ConfigError."""
    _check_schedule(config)
    _check_emulation(config)


def _check_schedule(config: Config) -> None:
    given, data = config.schedule, config.data
    micro = given.micro_batches or 1
    if micro > 1 and given.kind not in CUTTING:
        raise ConfigError(
            f"schedule.micro_batches: {given.kind} does not cut batches; leave it out, or use {', '.join(CUTTING)}"
        )
    if data.batch % micro:
        raise ConfigError(
            f"schedule.micro_batches: {micro} parts do not divide data.batch, {data.batch} rows; "
            f"{_divisors(data.batch)} do"
        )
    if _parts(config) > 1 and data.train % data.batch:
        raise ConfigError(
            f"data.train: with micro-batches every batch must be whole, and {data.train:,} images are no multiple of "
            f"data.batch {data.batch}; {data.train - data.train % data.batch:,} are"
        )
    if given.delay and given.kind != "delayed":
        raise ConfigError(f"schedule.delay: only read by delayed, not by {given.kind}; leave it out, or use delayed")
    if given.kind == "own":
        if not given.program:
            raise ConfigError("schedule.file: schedule.kind own needs a schedule's text; name its file")
    elif given.file or given.program:
        raise ConfigError(
            f"schedule.file: only read by schedule.kind own, not by {given.kind}; leave out one of the two"
        )
    rule = _own_rule(config) if given.kind == "own" else rule_of(config)
    if rule == "synthetic" and micro > 1:
        raise ConfigError(
            f"schedule.micro_batches: boxes that learn by their oracles (T) update at once, so {micro} parts cannot make one "
            "update; leave it out"
        )
    if given.weights == "stash" and rule != "backward" and config.oracle.target != "true":
        raise ConfigError(
            f"schedule.weights: no gradient comes late by {given.kind} with bootstrapped targets; leave it out, or use "
            "1f1b, delayed, or --oracle.target true"
        )
    if config.model.tied and rule == "backward" and micro == 1 and given.kind in ("1f1b", "delayed"):
        way_out = "add --model.tied false" + (", or micro-batches" if given.kind == "1f1b" else "")
        raise ConfigError(
            f"model.tied: by {given.kind} each box steps at a time of its own, which shared weights cannot; {way_out}"
        )


def _own_rule(config: Config) -> str:
    """Return how boxes learn by the user's program; raises ConfigError for a text that is none."""
    name = config.schedule.file or "schedule.program"
    try:
        found = programs.learning_rule(programs.parse(config.schedule.program, config.model.boxes))
    except ScheduleError as error:
        raise ConfigError(f"{name}: {error}") from None
    return "frozen" if config.oracle.kind == "frozen" else found


def _divisors(rows: int) -> str:
    return ", ".join(str(parts) for parts in range(1, rows + 1) if rows % parts == 0)


def _check_emulation(config: Config) -> None:
    emulate, boxes = config.emulate, config.model.boxes
    for name in emulate.slow:
        try:
            stage_number(name, boxes)
        except WireError as error:
            raise ConfigError(f"emulate.slow: {error}") from None
    if isinstance(emulate.compute_ms, dict):
        for kind in emulate.compute_ms:
            if kind not in ("F", "B", "T", "all"):
                raise ConfigError(f"emulate.compute_ms: {kind!r} is not padded; it takes F, B, T, or all")
    for key in ("delay_ms", "jitter", "bandwidth"):
        value = getattr(emulate, key)
        for edge in value if isinstance(value, Mapping) else ():
            if edge != "all":
                _check_edge(f"emulate.{key}", edge, config)
    if not emulate.arithmetic and not emulate.compute_ms:
        raise ConfigError(
            "emulate.arithmetic: false computes nothing; say with emulate.compute_ms what takes its place"
        )


def _check_edge(key: str, edge: str, config: Config) -> None:
    boxes = config.model.boxes
    source, arrow, target = edge.partition(">")
    if not arrow:
        raise ConfigError(f"{key}: {edge!r} is no edge; edges look like box-1>box-2, or all")
    try:
        numbers = stage_number(source, boxes), stage_number(target, boxes)
    except WireError as error:
        raise ConfigError(f"{key}: {edge}: {error}") from None
    if numbers[0] == numbers[1]:
        raise ConfigError(f"{key}: {edge}: no stage sends to itself")
    are_siblings = config.model.tied and rule_of(config) != "frozen" and boxes + 1 not in numbers
    if abs(numbers[0] - numbers[1]) > 1 and not are_siblings:
        raise ConfigError(
            f"{key}: {edge}: there is no such edge; stages send to their neighbours, tied boxes to each other"
        )
