"""What a schedule and an emulation need of a configuration: what follows from other keys, and what cannot be. Pure."""

from __future__ import annotations

import msgspec

from . import programs
from .errors import ConfigError
from .plan import ONE_BY_ONE, Plan, rule_of
from .schema import Config, Schedule
from .schema_run import Transport

#: Schedules that may cut a batch into micro-batches.
CUTTING = ("gpipe", "1f1b", "own")
#: The most parts that `gpipe` cuts a batch into if it is not told.
USUAL_PARTS = 8


def transport(config: Config) -> Transport:
    """Return how messages travel: between hosts a folder's sockets do not do."""
    wanted = config.transport
    return wanted if config.placer.kind == "local" else msgspec.structs.replace(wanted, kind="tcp")


def schedule(config: Config) -> Schedule:
    """Return the schedule of a checked configuration with what depends on other keys filled in."""
    given, boxes, micro = config.schedule, config.model.boxes, parts(config)
    is_late = given.kind not in (*ONE_BY_ONE, "locked") and micro == 1 and rule_of(config) == "backward"
    is_late = is_late or config.oracle.correct  # what repairs an update goes through the weights that it went through
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


def parts(config: Config) -> int:
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
    if not any(plan.wants_gradients(k) for k in range(1, plan.head)):
        return 1
    # Long enough that the part which repeats has come round.
    most = 1
    for k in range(1, plan.head):
        settles = plan.settles_by(k)
        if settles == "F":
            continue
        pattern = programs.PROGRAMS[plan.schedule](plan, k)
        count = (len(pattern.start) + 2 * len(pattern.again)) * plan.micro
        most = max(most, programs.widest(programs.unroll(pattern, 0, count, plan.micro), settles, plan.micro))
        if plan.schedule != "own":
            break  # the first box runs ahead farthest
    return most
