"""A stage's weights: the first ones by seed, how fast each learns, and the digest by which all of them are known. Pure."""

from __future__ import annotations

import hashlib

import numpy as np

from . import cells, heads
from .arrays import Weights
from .fitting import Fitting, make_oracle
from .optimizers import Optimizer
from .oracles import Shape
from .plan import inputs, outputs
from .schema import LABELS, Config


def rng(seed: int, stage: int, what: int) -> np.random.Generator:
    """Return a generator of first weights: 0 a stage's own, 1 its oracle's, 2 its classifier's; tied boxes are stage 0."""
    return np.random.default_rng([seed, stage, what])


def box_weights(config: Config, number: int) -> Weights:
    """Return the first weights of a box; those of tied boxes are equal."""
    model = config.model
    own = 0 if model.tied else number
    generator = rng(config.train.seed, own, 0)
    return cells.initial_weights(
        inputs(config), model.width, model.bias, model.init, generator, model.dtype, model.recurrent
    )


def make_fitting(config: Config, number: int) -> Fitting:
    """Return a box's oracle with its first weights, and what trains it."""
    generator = rng(config.train.seed, number, 1)
    shape = Shape(config.model.width, LABELS[config.data.name], config.model.dtype)
    return Fitting(config, make_oracle(config, shape, generator), generator)


def local_weights(config: Config, number: int) -> Weights:
    """Return the first weights of a box's own classifier, for the rule `local`."""
    model = config.model
    generator = rng(config.train.seed, number, 2)
    return heads.initial_weights(model.width, outputs(config), model.bias, model.init, generator, model.dtype)


def box_rates(config: Config) -> dict[str, float]:
    """Return the learning rate of each weight of a box."""
    return {"Wx": config.train.rate_input, "Wrec": config.train.rate_recurrent, "b": config.train.rate_input}


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
    """Return the first weights of the head."""
    model = config.model
    generator = rng(config.train.seed, model.boxes + 1, 0)
    return heads.initial_weights(model.width, outputs(config), model.bias, model.init, generator, model.dtype)
