"""A stage's weights: the first ones by seed, how fast each learns, and the digest by which all of them are known. Pure."""

from __future__ import annotations

import hashlib

import numpy as np

from . import heads, oracles
from .arrays import Weights
from .cell_own import OwnCell
from .cells import Cell, Form
from .cells_dense import Dense
from .cells_gated import Gru, Lstm
from .cells_rnn import Rnn
from .checks_own import cell_source
from .fitting import Fitting, make_oracle, shape_of
from .learning import rule_of
from .optimizers import Optimizer
from .schema import Config
from .sizes import box_steps, classes, inputs, outputs, reads

#: Our kinds of cells by `model.cell`.
KINDS: dict[str, type[Cell]] = {"rnn": Rnn, "gru": Gru, "lstm": Lstm, "dense": Dense}


def rng(seed: int, stage: int, what: int) -> np.random.Generator:
    """Return a generator of first weights: 0 a stage's own, 1 its oracle's, 2 its classifier's; tied boxes are stage 0."""
    return np.random.default_rng([seed, stage, what])


def make_cell(config: Config, number: int) -> Cell:
    """Return the arithmetic of a box's cell."""
    model = config.model
    form = Form(
        inputs=inputs(config),
        width=model.width,
        steps=box_steps(config)[number - 1],
        is_first=number == 1,
        bias=model.bias,
        scale=model.init,
        recurrent=model.recurrent,
        function=model.function,
        dtype=model.dtype,
    )
    return cell_of(config, form)


def cell_of(config: Config, form: Form) -> Cell:
    """Return the arithmetic of a cell of a configuration's kind, of any form; raises ConfigError for a user's that is none."""
    kind = config.model.cell
    return OwnCell(form, cell_source(config)) if kind == "own" else KINDS[kind](form)


def box_weights(config: Config, number: int) -> Weights:
    """Return the first weights of a box; those of tied boxes are equal. A box that reads its own steps has Wfc as well,
    one of boxes with a shared oracle that oracle's weights.
    """
    model = config.model
    own = 0 if model.tied else number
    generator = rng(config.train.seed, own, 0)
    weights = make_cell(config, number).first_weights(generator)
    if reads(config):
        weights |= heads.initial_weights(model.width, outputs(config), model.bias, model.init, generator, model.dtype)
    return weights | (oracle_weights(config) if rule_of(config) == "traced" else {})


def oracle_weights(config: Config) -> Weights:
    """Return the first weights of the linear oracle that all boxes share, by the names that checkpoints use."""
    model = config.model
    first = oracles.initial_weights(
        config.oracle, model.width, classes(config), rng(config.train.seed, 0, 1), model.dtype
    )
    return {f"oracle_{name}": each for name, each in first.items()}


def make_fitting(config: Config, number: int) -> Fitting:
    """Return a box's oracle with its first weights, and what trains it."""
    generator = rng(config.train.seed, number, 1)
    return Fitting(config, make_oracle(config, shape_of(config), generator), generator)


def local_weights(config: Config, number: int) -> Weights:
    """Return the first weights of a box's own classifier, for the rule `local`."""
    model = config.model
    generator = rng(config.train.seed, number, 2)
    return heads.initial_weights(model.width, outputs(config), model.bias, model.init, generator, model.dtype)


def box_rates(config: Config, weights: Weights) -> dict[str, float]:
    """Return the learning rate of each weight of a box: the input's, but for Wrec, a readout of its own, and an oracle."""
    train = config.train
    own = {"Wrec": train.rate_recurrent, "Wfc": train.rate_head, "bfc": train.rate_head}
    own |= {"oracle_L": train.rate_oracle, "oracle_c": train.rate_oracle}
    return {name: own.get(name, train.rate_input) for name in weights}


def oracle_optimizer(config: Config, weights: Weights) -> Optimizer:
    """Return what makes a box's steps of the oracle that all boxes share, whose weights are among the box's."""
    train = config.train
    return Optimizer(train.optimizer_oracle, train, box_rates(config, weights))


def head_optimizer(config: Config, weights: Weights) -> Optimizer:
    """Return what makes the steps of the head's weights, or of a box's own classifier."""
    train = config.train
    return Optimizer(train.optimizer_head, train, dict.fromkeys(weights, train.rate_head), train.clip)


def digest(weights: Weights) -> str:
    """Return the sha256 (hexadecimal) over one stage's weights: names, dtypes, shapes and bytes in the names' order."""
    found = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(array.data)
    return found.hexdigest()


def head_weights(config: Config) -> Weights:
    """Return the first weights of the head; none where boxes read their own steps."""
    if reads(config):
        return {}
    model = config.model
    generator = rng(config.train.seed, model.boxes + 1, 0)
    return heads.initial_weights(model.width, outputs(config), model.bias, model.init, generator, model.dtype)
