"""What cannot be: keys of a configuration that do not go together, each with the way out. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from . import checks_traced, checks_transport, levels, programs, sizes
from .actions import stage_number
from .errors import ConfigError, ScheduleError, WireError
from .filled import CUTTING, parts
from .plan import CONTROLS, ONE_BY_ONE, rule_of, rules_of
from .schema import BY_STEP, IMAGES, ROWS, TASKS, Config


def check(config: Config) -> None:
    """Check what concerns more than one key; raises ConfigError."""
    _check_task(config)
    _check_data(config)
    checks_transport.check(config)
    checks_traced.check(config)
    _check_schedule(config)
    _check_oracle(config)
    _check_emulation(config)


def _check_task(config: Config) -> None:
    """Check what a cell and a task ask of the rest."""
    model, data, oracle = config.model, config.data, config.oracle
    is_task, by_step = data.name in TASKS, data.name in BY_STEP
    for key, usual, reader in (("length", 0, "adding"), ("bits", 8, "addition")):
        if getattr(data, key) != usual and not by_step and data.name != reader:
            raise ConfigError(
                f"data.{key}: not read by data.name {data.name}; add --data.{key} {usual}, or leave it out"
            )
    if model.cell == "dense" and sizes.is_sequence(config):
        what = "data.reading rows" if not is_task else f"data.name {data.name}"
        raise ConfigError(
            f"model.cell: dense layers see the data once, and {what} is read step by step; use rnn, gru or lstm"
        )
    if model.cell == "dense" and model.tied and model.boxes > 1:
        raise ConfigError("model.tied: dense layers are each box's own; add --model.tied false")
    if model.recurrent == "identity" and model.cell != "rnn":
        raise ConfigError(
            f"model.recurrent: identity is a start for model.cell rnn, not for {model.cell}; leave it out"
        )
    if not is_task:
        if model.loss == "mse":
            raise ConfigError(
                "model.loss: mse tells numbers (data.name adding); for digits use squared, bce or softmax"
            )
        return
    losses = {"adding": ("mse",), "addition": ("bce", "squared")}.get(data.name, ("bce",))
    if model.loss not in losses:
        raise ConfigError(
            f"model.loss: {data.name} needs {' or '.join(losses)}, not {model.loss}; add --model.loss {losses[0]}"
        )
    given = [
        key for key, value, usual in (
            ("source", data.source, "packaged"), ("dir", data.dir, ""), ("reading", data.reading, "vector")
        ) if value != usual
    ]  # fmt: skip
    if given:
        raise ConfigError(f"data.{given[0]}: {data.name} is drawn by seed, it reads no images; leave it out")
    if data.name == "addition" and data.bits < 2:
        raise ConfigError("data.bits: the sum of two numbers has at least 2 bits")
    if data.name == "addition" and data.test + data.validation >= levels.pairs(data.bits):
        raise ConfigError(
            f"data.test: {data.test + data.validation:,} sums are held back, there are only {levels.pairs(data.bits):,} pairs "
            f"with sums of {data.bits} bits; ask for fewer, or more data.bits"
        )
    if by_step:
        _check_by_step(config)
    if data.name == "adding" and (data.length or sizes.USUAL["adding"]) < 2:
        raise ConfigError("data.length: two numbers of a sequence are added; 2 at least")
    if sizes.is_sequence(config):
        steps = sizes.steps(config)
        if model.boxes > steps:
            raise ConfigError(f"model.boxes: {model.boxes} boxes but only {steps} steps; at most {steps} boxes")
        if model.steps_per_box and model.boxes * model.steps_per_box != steps:
            raise ConfigError(
                f"model.steps_per_box: {model.boxes} boxes of {model.steps_per_box} steps make "
                f"{model.boxes * model.steps_per_box} steps, a sequence has {steps}; 0 spreads them evenly"
            )
    if oracle.sees_label and by_step:
        raise ConfigError(
            f"oracle.sees_label: {data.name} has a target at every step, and no label of the whole; leave it out"
        )


def _check_by_step(config: Config) -> None:
    model, data, oracle = config.model, config.data, config.oracle
    steps, length = sizes.steps(config), data.length
    if not levels.longest(data.name, steps):
        raise ConfigError(
            f"model.steps_per_box: {model.boxes} boxes of {model.steps_per_box} make {steps} steps, the shortest {data.name} "
            f"takes {levels.needed(data.name, 1)}; more boxes, or more steps in each"
        )
    if length and levels.needed(data.name, length) > steps:
        raise ConfigError(
            f"data.length: {length} takes {levels.needed(data.name, length)} steps, the boxes have {steps}; "
            f"{levels.longest(data.name, steps)} at most, or more boxes"
        )
    if oracle.kind in ("frozen", "last", "exact"):
        raise ConfigError(
            f"oracle.kind: every box of {data.name} reads its own steps, so that {oracle.kind} is no control; "
            "--oracle.kind local learns from them alone: backpropagation truncated at the boxes' edges"
        )
    if oracle.scale != 1:
        raise ConfigError(
            f"oracle.scale: a box of {data.name} learns from its own losses too, which are no oracle's; leave it out"
        )


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
    if data.judge == "validation" and not data.validation:
        raise ConfigError("data.judge: validation needs images of its own; say how many with data.validation")
    if data.name in TASKS:
        return
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
    tells = sizes.reads(config) and config.data.curriculum and numbers == (boxes + 1, 1)
    if abs(numbers[0] - numbers[1]) > 1 and not are_siblings and not tells:
        raise ConfigError(
            f"{key}: {edge}: there is no such edge; stages send to their neighbours, tied boxes to each other"
        )
