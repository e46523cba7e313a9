"""What traced targets do not go together with, each with the way out. Pure."""

from __future__ import annotations

import math

from . import sizes
from .errors import ConfigError
from .learning import ONE_BY_ONE
from .schema import BY_STEP, Config

#: The largest trace that a message may carry, in bytes.
MOST_BYTES = 256_000_000
#: The most that may wait on one edge: boxes below the last settle at once, so that credits alone hold them back.
MOST_WAITING = 1_000_000_000


def check(config: Config) -> None:
    """Check what BP(λ) asks for: a linear oracle that tied boxes share, a trace that messages can carry; raises ConfigError."""
    if config.oracle.target != "traced":
        return
    model, oracle, data = config.model, config.oracle, config.data
    size = math.prod(sizes.trace(config, data.batch)) * (8 if model.dtype == "float64" else 4)
    window = (config.schedule.window or 2 * (model.boxes + 1)) if config.schedule.kind == "decoupled" else 1
    waiting = 2 * window * size  # as many as there are credits
    refused = {
        "schedule.kind": (
            config.schedule.kind not in ONE_BY_ONE,
            f"{config.schedule.kind} has no place for traced targets; use {' or '.join(ONE_BY_ONE)}",
        ),
        "oracle.kind": (oracle.kind != "linear", f"a trace is of a linear oracle, not of {oracle.kind}; use linear"),
        "data.name": (
            data.name in BY_STEP,
            f"a box of {data.name} reads its own steps, which no trace knows; use bootstrapped, true or mixed targets",
        ),
        "model.cell": (model.cell != "rnn", f"traces go through model.cell rnn, not {model.cell}; use rnn"),
        "model.tied": (not model.tied, "boxes share one oracle as they share the cell; add --model.tied true"),
        "oracle.sees_label": (oracle.sees_label, "a trace knows no labels; add --oracle.sees_label false"),
        "oracle.correct": (oracle.correct, "nothing comes back that could correct; leave it out"),
        "oracle.memory": (oracle.memory > 0, "no target is ever whole, to be kept; add --oracle.memory 0"),
        "oracle.replays": (oracle.replays > 0, "no target is ever whole, to be replayed; add --oracle.replays 0"),
        "oracle.cap": (oracle.cap > 0, "no target is ever whole, to be cut; leave it out"),
        "train.optimizer_oracle": (
            config.train.optimizer_oracle == "nlms",
            "nlms steps by one activation, a trace has many; use adam, momentum or sgd",
        ),
        "model.width, data.batch": (
            size > MOST_BYTES,
            f"a trace of {model.width} units and {data.batch} rows takes {size / 1e6:,.0f} MB a message, "
            f"{MOST_BYTES / 1e6:,.0f} at most; fewer of either",
        ),
        "schedule.window": (
            waiting > MOST_WAITING,
            f"up to {2 * window} traces of {size / 1e6:,.0f} MB may wait between two boxes, {MOST_WAITING / 1e6:,.0f} MB are "
            "the most; a smaller window, fewer units or rows",
        ),
    }
    for key, (is_wrong, why) in refused.items():
        if is_wrong:
            raise ConfigError(f"{key}: with oracle.target traced {why}")
