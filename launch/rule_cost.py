"""What a learning rule costs: multiply-adds of all boxes for one batch, counted from the configuration. Pure.

A product of (m, k) and (k, n) is m·k·n of them; what is done to every entry once is not counted. Transport is not either.

    forward     every step: x Wx, h Wrec
    backward    every step: the gradients of both, and the way back through Wrec, at the first step only where it is passed on
    linear      predict: h L (and y M, which selects a row); a step: the same and its gradient
    mlp         predict: three products and the classifier; a step: predict, and four products; replays are steps as well
    local       the classifier's forward, its gradient, the way back
"""

from __future__ import annotations

from pipeline.plan import Plan
from pipeline.schema import LABELS, Config
from pipeline.sizes import box_steps, inputs, outputs


def multiply_adds(config: Config) -> int:
    """Return the multiply-adds of all boxes in one batch of the data; for `exact` with the rest of the network."""
    plan, rows = Plan.of(config), config.data.batch
    steps = box_steps(config)
    if plan.rule == "exact":
        width, head = config.model.width, outputs(config) * config.model.width
        # Box k goes through all boxes from it on and the head, forward and back.
        through = [_forward(config, steps[j]) + _back(config, steps[j], True) for j in range(len(steps))]
        rest = sum(sum(through[k:]) + 2 * head for k in range(len(steps)))
        own = sum(_gradients(config, count) for count in steps)
        return rows * (rest + own) - rows * width * width * len(steps)
    return rows * sum(_box(config, plan, k, steps[k - 1]) for k in range(1, plan.head))


def _forward(config: Config, steps: int) -> int:
    width = config.model.width
    return steps * (inputs(config) + width) * width


def _gradients(config: Config, steps: int) -> int:
    return _forward(config, steps)


def _back(config: Config, steps: int, passes_on: bool) -> int:
    return (steps - 1 + passes_on) * config.model.width**2


def _box(config: Config, plan: Plan, number: int, steps: int) -> int:
    """Return the multiply-adds of one box for one row."""
    rule, width = plan.learns(number), config.model.width
    forward = _forward(config, steps)
    passes_on = number > 1 and plan.wants_gradients(number - 1)
    if rule == "frozen":
        return forward
    if rule == "local":
        return forward + _gradients(config, steps) + _back(config, steps, False) + 3 * width * outputs(config)
    if rule == "backward":
        return forward + _gradients(config, steps) + _back(config, steps, passes_on)
    is_early = plan.target == "bootstrapped"
    found = forward + _gradients(config, steps) + _back(config, steps, passes_on and is_early) + _predict(config)
    found += _fit(config)
    if passes_on and not is_early:  # the true gradient goes back through the box once more
        found += _back(config, steps, True)
        found += _predict(config) if plan.target == "mixed" else 0
    if plan.settles_by(number) == "C":
        found += _gradients(config, steps) + _back(config, steps, passes_on and is_early)
    return found


def _predict(config: Config) -> int:
    oracle, width = config.oracle, config.model.width
    if oracle.kind == "mlp":
        features, classes = _features(config)
        return (features + width) * oracle.hidden + features * width + width * classes
    return {"linear": width * width}.get(oracle.kind, width)


def _fit(config: Config) -> int:
    """Return the multiply-adds of fitting an oracle to one target, with what it replays."""
    oracle, width = config.oracle, config.model.width
    if oracle.kind == "mlp":
        features, classes = _features(config)
        # The gradients of U, V and L, and the way back through V.
        step = _predict(config) + features * (oracle.hidden + width) + 2 * width * oracle.hidden
        return (1 + oracle.replays) * step + 2 * width * classes
    return {"linear": (1 + oracle.replays) * 2 * width * width}.get(oracle.kind, width)


def _features(config: Config) -> tuple[int, int]:
    classes = LABELS[config.data.name] if config.oracle.sees_label else 0
    return config.model.width + 2 * classes + 1, classes
