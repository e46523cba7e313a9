"""A stage's weights: the first ones by seed, how fast each learns, and the digest by which all of them are known. Pure."""

from __future__ import annotations

import hashlib

import numpy as np

from . import cells, heads, oracles
from .arrays import Weights
from .plan import inputs, outputs
from .schema import LABELS, Config


def rng(seed: int, stage: int, what: int) -> np.random.Generator:
    """Return the generator of a stage's first weights: 0 its own, 1 its oracle's. Tied boxes all ask for stage 0."""
    return np.random.default_rng([seed, stage, what])


def box_weights(config: Config, number: int) -> Weights:
    """Return the first weights of a box; those of tied boxes are equal."""
    model = config.model
    own = 0 if model.tied else number
    generator = rng(config.train.seed, own, 0)
    return cells.initial_weights(inputs(config), model.width, model.bias, model.init, generator, model.dtype)


def oracle_weights(config: Config, number: int) -> Weights:
    """Return the first weights of a box's oracle."""
    generator = rng(config.train.seed, number, 1)
    return oracles.initial_weights(
        config.oracle, config.model.width, LABELS[config.data.name], generator, config.model.dtype
    )


def box_rates(config: Config) -> dict[str, float]:
    """Return the learning rate of each weight of a box."""
    return {"Wx": config.train.rate_input, "Wrec": config.train.rate_recurrent, "b": config.train.rate_input}


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
