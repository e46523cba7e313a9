"""The published code's arithmetic as it is written, its five errors included. Pure numpy, a loop of its own.

Two boxes that share Wx and Wrec, two linear oracles, one sigmoid, one image a batch, arrays of one dimension (J. D. Seo,
*Only Numpy: Decoupled Recurrent Neural Network*, 2018). What is wrong in it, each to be corrected by its name:

    product   aᵀδ of one-dimensional arrays is an inner product: one number, taken to every weight of a box or an oracle.
              Corrected: the outer product. (The head's step has always been one: its δ is a number already.)
    sign      a box adds its synthetic gradient. Corrected: it subtracts it.
    rate      Wx learns at the rate of Wrec. Corrected: at its own, train.rate_input.
    start     oracles start at 0.2 · randn(width, width). Corrected: at zero.
    target    the target of oracle 1 goes through Wrec after the update. Corrected: as the forward of box 2 read it.

With all five corrected it is preset `article`, to rounding: same data, same first weights, same order of the eight steps.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from pipeline import weights
from pipeline.arrays import Array
from pipeline.config import fields
from pipeline.data import Batches
from pipeline.errors import ConfigError
from pipeline.guard import Guard
from pipeline.oracles import RANDOM_SCALE
from pipeline.plan import Plan
from pipeline.schema import ROWS, Config

#: What can be corrected, and what becomes of it.
CORRECTIONS = {
    "product": "outer products in place of numbers",
    "sign": "boxes descend",
    "rate": "Wx at its own rate",
    "start": "oracles start at zero",
    "target": "the target through the weights that the forward read",
}
#: Keys that this loop knows; all others must be as they are by default.
KNOWN = {
    *("model.width", "model.init", "model.dtype", "train.epochs", "train.seed", "train.limit", "train.evaluate_every"),
    *("train.rate_input", "train.rate_recurrent", "train.rate_head", "train.rate_oracle", "oracle.init"),
    *("data.source", "data.dir", "data.train", "data.test", "data.validation", "data.judge", "data.seed"),
}
#: Groups that decide no number.
QUIET = ("transport", "log", "trace", "emulate", "run", "fault", "checkpoint", "placer")


class Step(NamedTuple):
    """What came of one batch: its cost, and for each box the norms of the synthetic and of the true gradient."""

    cost: float
    synthetic: tuple[float, float]
    true: tuple[float, float]


def check(config: Config, corrected: Collection[str] = ()) -> None:
    """Raise ConfigError for a configuration that the published code could not be."""
    if "product" not in corrected and config.model.width != ROWS * ROWS:
        raise ConfigError(
            f"model.width: an inner product with an image takes a box as wide as one, {ROWS * ROWS}, not "
            f'{config.model.width}; leave it out, or have "product" corrected'
        )
    for field in fields():
        group, _, item = field.key.partition(".")
        value = getattr(getattr(config, group), item)
        wanted = {"schedule.window": value}.get(field.key, field.default)
        if group in QUIET or field.key in KNOWN or value == wanted or (field.default is None and value is not None):
            continue
        raise ConfigError(
            f'{field.key}: the published arithmetic is written for {wanted!r} alone; leave it out, or leave out "arithmetic"'
        )


class Published:
    """The published network and its training; `corrected` names what of it is corrected (`CORRECTIONS`)."""

    def __init__(self, config: Config, batches: Batches, corrected: Collection[str] = ()) -> None:
        check(config, corrected)
        assert set(corrected) <= set(CORRECTIONS)
        self.batches, self.corrected, self.plan = batches, frozenset(corrected), Plan.of(config)
        box, train, width = weights.box_weights(config, 1), config.train, config.model.width
        self.Wx, self.Wrec = box["Wx"], box["Wrec"]  # (784, width), (width, width)
        self.Wfc = weights.head_weights(config)["Wfc"][:, 0].copy()  # (width,)
        self.L: list[Array] = []  # of each oracle, (width, width)
        for k in (1, 2):
            L = np.zeros((width, width), config.model.dtype)
            if "start" not in self.corrected:
                L[:] = weights.rng(train.seed, k, 1).standard_normal((width, width)) * RANDOM_SCALE
            self.L.append(L)
        self.rate_input = train.rate_input if "rate" in self.corrected else train.rate_recurrent
        self.rate_recurrent, self.rate_head, self.rate_oracle = train.rate_recurrent, train.rate_head, train.rate_oracle
        self.guards = [Guard(self.plan.name(k), train.limit) for k in (1, 2, 3)]

    def _add(self, W: Array, a: Array, delta: Array, rate: float) -> None:
        """W += η aᵀδ, where a.T.dot(δ) of one-dimensional arrays is a number, unless that is corrected."""
        if "product" in self.corrected:
            G = np.outer(a, delta)
            G *= rate
            W += G
        else:
            W += W.dtype.type(rate * a.T.dot(delta))

    def _check(self, k: int, action: str, batch: int, what: str, array: Array) -> None:
        self.guards[k - 1].check(action, batch, what, array)

    def step(self, batch: int) -> Step:
        """Do the eight steps of a batch; raises DivergedError where a number flies off."""
        x, y = self.batches.inputs(batch, 1)[0, 0], self.batches.wanted(self.batches.labels(batch))[0, 0]
        L1, L2 = self.L
        way = -1 if "sign" in self.corrected else 1
        h1 = np.tanh(x @ self.Wx)  # 1
        g1 = h1 @ L1
        self._check(1, "F", batch, "the synthetic gradient", g1)
        delta1 = g1 * (1 - h1 * h1)
        self._add(self.Wx, x, delta1, way * self.rate_input)  # 2; h0 = 0 leaves Wrec alone
        h2 = np.tanh(x @ self.Wx + h1 @ self.Wrec)  # 3
        g2 = h2 @ L2
        self._check(2, "F", batch, "the synthetic gradient", g2)
        delta2 = g2 * (1 - h2 * h2)
        t1 = self.Wrec @ delta2
        self._add(self.Wrec, h1, delta2, way * self.rate_recurrent)  # 4
        self._add(self.Wx, x, delta2, way * self.rate_input)
        if "target" not in self.corrected:
            t1 = self.Wrec @ delta2
        self._check(1, "T", batch, "the target from box-2", t1)
        self._add(L1, h1, g1 - t1, -self.rate_oracle)  # 5
        y_hat = 0.5 * np.tanh(0.5 * (h2 @ self.Wfc)) + 0.5  # 6
        error = y_hat - y
        self.guards[2].check_number("F", batch, "the cost", float(0.5 * error * error))
        delta3 = error * y_hat * (1 - y_hat)
        t2 = self.Wfc * delta3
        self.Wfc -= self.Wfc.dtype.type(self.rate_head) * h2 * delta3  # 7
        self._add(L2, h2, g2 - t2, -self.rate_oracle)  # 8
        true1 = self.Wrec @ (t2 * (1 - h2 * h2))
        return Step(float(0.5 * error * error), (_norm(g1), _norm(g2)), (_norm(true1), _norm(t2)))

    def accuracy(self) -> float:
        """Return the share of test images that it tells right now."""
        right = 0
        for evaluation in range(self.plan.final_evaluation, self.plan.evaluations):
            x = self.batches.evaluation_inputs(evaluation, 1)[0]  # (rows, 784)
            h2 = np.tanh(x @ self.Wx + np.tanh(x @ self.Wx) @ self.Wrec)
            right += int(((h2 @ self.Wfc > 0) == self.batches.evaluation_labels(evaluation)).sum())
        return right / self.plan.test


def _norm(array: Array) -> float:
    return float(np.linalg.norm(array))
