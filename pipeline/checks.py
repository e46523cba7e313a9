"""What cannot be: keys of a configuration that do not go together, each with the way out. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from . import programs
from .actions import stage_number
from .errors import ConfigError, ScheduleError, WireError
from .filled import CUTTING, parts
from .plan import CONTROLS, ONE_BY_ONE, rule_of, rules_of
from .schema import IMAGES, ROWS, Config


def check(config: Config) -> None:
    """Check what concerns more than one key; raises ConfigError."""
    _check_data(config)
    _check_schedule(config)
    _check_oracle(config)
    _check_emulation(config)


def _check_data(config: Config) -> None:
    model, data = config.model, config.data
    if data.reading == "rows":
        if model.boxes > ROWS:
            raise ConfigError(
                f"model.boxes: {model.boxes} boxes but only {ROWS} steps (rows of an image); at most {ROWS} boxes"
            )
        if model.steps_per_box and model.boxes * model.steps_per_box != ROWS:
            raise ConfigError(
                f"model.steps_per_box: {model.boxes} boxes of {model.steps_per_box} steps make "
                f"{model.boxes * model.steps_per_box} steps, an image has {ROWS} rows; 0 spreads them evenly"
            )
    if data.batch > data.train:
        raise ConfigError(
            f"data.batch: a batch of {data.batch} from data.train {data.train} images; at most {data.train}"
        )
    if data.dir and data.source != "full":
        raise ConfigError("data.dir: only read with data.source full; add --data.source full, or leave data.dir out")
    if config.transport.port and config.transport.kind != "tcp":
        raise ConfigError(
            "transport.port: only read with transport.kind tcp; add --transport.kind tcp, or leave it out"
        )
    train, test = IMAGES[data.name, data.source]
    held = f" + {data.validation:,}" if data.validation else ""
    keys = "data.train, data.test" + (", data.validation" if held else "")
    if data.source == "packaged" and data.train + data.test + data.validation > train:
        raise ConfigError(
            f"{keys}: {data.train:,} + {data.test:,}{held} images wanted, {train:,} of {data.name} are packaged; "
            "ask for fewer, or use --data.source full"
        )
    if data.train + data.validation > train or data.test > test:
        wanted = f"{data.train:,}{held} and {data.test:,} images wanted"
        raise ConfigError(f"{keys}: {wanted}, the full {data.name} has {train:,} and {test:,}; ask for fewer")
    if data.judge == "validation" and not data.validation:
        raise ConfigError("data.judge: validation needs images of its own; say how many with data.validation")


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
    if parts(config) > 1 and data.train % data.batch:
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
    late = "backward" in rules_of(config) or config.oracle.correct
    if rule == "synthetic" and micro > 1:
        raise ConfigError(
            f"schedule.micro_batches: boxes that learn by their oracles (T) update at once, so {micro} parts cannot make one "
            "update; leave it out"
        )
    if given.weights == "stash" and rule != "backward" and config.oracle.target == "bootstrapped" and not late:
        raise ConfigError(
            f"schedule.weights: no gradient comes late by {given.kind} with bootstrapped targets; leave it out, or use "
            "1f1b, delayed, or --oracle.target true"
        )
    if config.model.tied and rule == "backward" and micro == 1 and given.kind in ("1f1b", "delayed"):
        way_out = "add --model.tied false" + (", or micro-batches" if given.kind == "1f1b" else "")
        raise ConfigError(
            f"model.tied: by {given.kind} each box steps at a time of its own, which shared weights cannot; {way_out}"
        )


def _check_oracle(config: Config) -> None:
    oracle, schedule = config.oracle, config.schedule.kind
    has_oracles = "synthetic" in rules_of(config)
    if oracle.kind == "own" and not oracle.code:
        raise ConfigError("oracle.file: oracle.kind own needs a Python file with a class Oracle; name it")
    if oracle.kind != "own" and (oracle.file or oracle.code):
        raise ConfigError(f"oracle.file: only read by oracle.kind own, not by {oracle.kind}; leave out one of the two")
    if oracle.kind in CONTROLS and schedule not in ONE_BY_ONE:
        raise ConfigError(
            f"oracle.kind: {oracle.kind} is a learning rule of its own, and {schedule} brings its own; "
            f"use --schedule.kind {' or '.join(ONE_BY_ONE)}"
        )
    if oracle.kind == "exact" and schedule != "article":
        raise ConfigError(
            "oracle.kind: exact computes what nobody can know in time; it goes with --schedule.kind article"
        )
    if oracle.replays and not oracle.memory:
        raise ConfigError("oracle.replays: nothing is kept to be replayed; say how many batches with oracle.memory")
    if oracle.correct and not has_oracles:
        raise ConfigError(
            f"oracle.correct: there is no early update to correct by {oracle.kind} and {schedule}; leave it out"
        )
    if oracle.correct and oracle.target == "mixed":
        raise ConfigError(
            "oracle.correct: needs the true gradient, and mixed targets pass on another one; use bootstrapped or true"
        )
    if oracle.correct and config.model.tied and config.model.boxes > 1 and schedule in ("article", "own"):
        raise ConfigError(
            f"oracle.correct: {schedule} has no place for the second increments of tied boxes; use --schedule.kind decoupled, "
            "or --model.tied false"
        )
    if config.train.optimizer_oracle == "nlms" and has_oracles and oracle.kind in ("mlp", "own"):
        raise ConfigError(
            f"train.optimizer_oracle: nlms is for linear oracles, not for {oracle.kind}; use adam, momentum or sgd"
        )


def _own_rule(config: Config) -> str:
    """Return how boxes learn by the user's program; raises ConfigError for a text that is none."""
    name = config.schedule.file or "schedule.program"
    try:
        found = programs.learning_rule(
            programs.parse(config.schedule.program, config.model.boxes), not config.oracle.last
        )
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
    are_siblings = config.model.tied and rules_of(config)[1] != "frozen" and boxes + 1 not in numbers
    if abs(numbers[0] - numbers[1]) > 1 and not are_siblings:
        raise ConfigError(
            f"{key}: {edge}: there is no such edge; stages send to their neighbours, tied boxes to each other"
        )
