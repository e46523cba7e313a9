"""What a learning rule costs: multiply-adds of all boxes for one batch, counted from the configuration. Pure.

A product of (m, k) and (k, n) is m·k·n of them; what is done to every entry once is not counted. Transport is not either.

    forward     every step: x Wx, h Wrec, in a GRU three times, in an LSTM four times as wide; or each dense layer
    backward    every step: the gradients of both, and the way back through Wrec, at the first step only where it is passed on
    readout     of a box that reads its own steps: forward, gradient and the way back, at the targets of the longest sequences
    linear      predict: h L (and y M, which selects a row); a step: the same and its gradient; h is the cell's whole state
    mlp         predict: three products and the classifier; a step: predict, and four products; replays are steps as well
    local       the classifier's forward, its gradient, the way back; of a box that reads its own steps nothing more
    traced      predict; but for box 1 the gradient of the shared oracle; between the first and the last the trace, from box to
                box, and before it the product of the steps' derivatives
"""

from __future__ import annotations

from pipeline import levels
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.sizes import box_steps, classes, most, outputs, reads, state
from pipeline.weights import make_cell


def multiply_adds(config: Config) -> int:
    """Return the multiply-adds of all boxes in one batch of the data; for `exact` with the rest of the network."""
    plan, rows = Plan.of(config), config.data.batch
    boxes = range(1, plan.head)
    if plan.rule == "exact":
        head = outputs(config) * config.model.width
        # Box k goes through all boxes from it on and the head, forward and back.
        through = [_forward(config, k) + _back(config, k, True) for k in boxes]
        rest = sum(sum(through[k - 1 :]) + 2 * head for k in boxes)
        own = sum(_gradients(config, k) for k in boxes)
        return rows * (rest + own - sum(_passed(config, k) for k in boxes))
    return rows * (sum(_box(config, plan, k) for k in boxes) + _readout(config))


def _products(config: Config, number: int) -> dict[str, int]:
    """Return the multiply-adds of each weight of a box's cell for one row."""
    shapes = make_cell(config, number).shapes()
    return {name: shape[0] * shape[1] for name, shape in shapes.items() if len(shape) == 2}


def _forward(config: Config, number: int) -> int:
    once = sum(_products(config, number).values())
    return once if config.model.cell == "dense" else box_steps(config)[number - 1] * once


def _gradients(config: Config, number: int) -> int:
    return _forward(config, number)


def _passed(config: Config, number: int) -> int:
    """Return the multiply-adds of the way back through one step, or through one layer behind the first."""
    return _products(config, number).get("Wrec", config.model.width**2)


def _back(config: Config, number: int, passes_on: bool) -> int:
    return (box_steps(config)[number - 1] - 1 + passes_on) * _passed(config, number)


def _readout(config: Config) -> int:
    """Return the multiply-adds of reading all boxes' own steps for one row."""
    if not reads(config):
        return 0
    name, level = config.data.name, most(config)
    targets = levels.needed(name, level) - levels.lengths(name, level)[0] - 1  # all steps behind the delimiter
    return 3 * targets * config.model.width * outputs(config)


def _box(config: Config, plan: Plan, number: int) -> int:
    """Return the multiply-adds of one box for one row."""
    rule = plan.learns(number)
    forward, gradients = _forward(config, number), _gradients(config, number)
    passes_on = number > 1 and plan.wants_gradients(number - 1)
    if rule == "frozen":
        return forward
    if rule == "local":
        classifier = 0 if plan.reads else 3 * config.model.width * outputs(config)
        return forward + gradients + _back(config, number, False) + classifier
    if plan.rule == "traced":  # what leaves box 1 has no past
        return forward + gradients + _back(config, number, number > 1) + _traced(config, plan, number)
    if rule == "backward":
        return forward + gradients + _back(config, number, passes_on)
    is_early = plan.target == "bootstrapped"
    found = forward + gradients + _back(config, number, passes_on and is_early) + _predict(config)
    found += _fit(config)
    if passes_on and not is_early:  # the true gradient goes back through the box once more
        found += _back(config, number, True)
        found += _predict(config) if plan.target == "mixed" else 0
    if plan.settles_by(number) == "C":
        found += gradients + _back(config, number, passes_on and is_early)
    return found


def _traced(config: Config, plan: Plan, number: int) -> int:
    """Return the multiply-adds of a box's predictions and of what its trace takes, for one row."""
    width = config.model.width
    size = width * width * (width + config.oracle.bias)  # of a trace
    is_between = 1 < number < plan.boxes and config.oracle.mix > 0
    found = width * width if number < plan.boxes else 0  # the last box has the head's word
    found += size if number > 1 else 0
    steps = box_steps(config)[number - 1]
    return found + (width * size + (steps - 1) * width**3 if is_between else 0)


def _predict(config: Config) -> int:
    oracle, width = config.oracle, state(config)
    if oracle.kind == "mlp":
        features, labels = _features(config)
        return (features + width) * oracle.hidden + features * width + width * labels
    return {"linear": width * width}.get(oracle.kind, width)


def _fit(config: Config) -> int:
    """Return the multiply-adds of fitting an oracle to one target, with what it replays."""
    oracle, width = config.oracle, state(config)
    if oracle.kind == "mlp":
        features, labels = _features(config)
        # The gradients of U, V and L, and the way back through V.
        step = _predict(config) + features * (oracle.hidden + width) + 2 * width * oracle.hidden
        return (1 + oracle.replays) * step + 2 * width * labels
    return {"linear": (1 + oracle.replays) * 2 * width * width}.get(oracle.kind, width)


def _features(config: Config) -> tuple[int, int]:
    labels = classes(config) if config.oracle.sees_label else 0
    return state(config) + 2 * labels + 1, labels
