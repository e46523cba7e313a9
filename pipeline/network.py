"""The network in one process: all boxes' weights and oracles, the head, and what is done to each. Pure arithmetic.

The loops over it are in `reference`. Nothing of the workers' loops, rules or messages is used here.
"""

from __future__ import annotations

import numpy as np

from . import cells, head, heads, readout, sizes, traces, weights
from .actions import GRADIENT
from .arrays import Array, Scratch, Weights, accumulate
from .data import Batches
from .drawn import Examples
from .guard import Guard
from .ledger import Judged, Ledger
from .optimizers import Optimizer, Pace, take
from .plan import Plan
from .schema import Config


class Network:
    """The network's weights, and the costs and judgements of a run so far."""

    def __init__(self, config: Config, batches: Batches | Examples) -> None:
        self.config = config
        self.plan = Plan.of(config)
        self.batches = batches
        self.loss = config.model.loss
        boxes = range(1, config.model.boxes + 1)
        self.kinds = {k: weights.make_cell(config, k) for k in boxes}
        self.width = config.model.width
        shared = weights.box_weights(config, 1)
        self.cells = {k: shared if config.model.tied else weights.box_weights(config, k) for k in boxes}
        # Each box has an optimizer of its own; tied boxes that step on their sum have equal ones, of which one will do.
        train = config.train
        rates = {k: weights.box_rates(config, cell) for k, cell in self.cells.items()}
        self.optimizers = {k: Optimizer(train.optimizer, train, rates[k], train.clip) for k in boxes}
        self.fittings = {k: weights.make_fitting(config, k) for k in boxes if self.plan.learns(k) == "synthetic"}
        self.oracle_optimizers = {k: weights.oracle_optimizer(config, cell) for k, cell in self.cells.items()}
        own = [k for k in boxes if self.plan.learns(k) == "local" and not self.plan.reads]
        self.local = {k: weights.local_weights(config, k) for k in own}
        self.local_optimizers = {k: weights.head_optimizer(config, each) for k, each in self.local.items()}
        self.layer = weights.head_weights(config)
        self.head_optimizer = weights.head_optimizer(config, self.layer)
        self.pace = Pace(train, self.plan.steps, rises=True)
        self.head_pace = Pace(train, self.plan.steps, rises=False)
        self.guards = {k: Guard(self.plan.name(k), train.limit) for k in range(1, self.plan.head + 1)}
        self.scratch = Scratch()
        self._head: Weights = {}
        self.curriculum = readout.Curriculum(config.data, sizes.most(config)) if self.plan.reads else None
        self.ledger = Ledger(self.plan, self.levels)
        self._tally: Array  # of the batch that is on its way

    def forward(self, k: int, batch: int, h: Array | None) -> cells.Trail:
        """Take a batch through box k."""
        level = self._level(batch)
        x = self._inputs(k, batch, level)
        trail = self.kinds[k].forward(self.cells[k], x, h, self.scratch)
        if level and isinstance(self.batches, Examples):
            trail = self._read(k, trail, *self.batches.targets(batch, k, level), level)
        self.check(k, "F", batch, "its activation", trail.h)
        return trail

    @property
    def costs(self) -> list[float]:
        """What the batches of the present epoch have cost; of the whole run, where the ledger keeps all."""
        return self.ledger.costs

    @property
    def judged(self) -> list[Judged]:
        """What the head said in the present round of evaluations; in the whole run, where the ledger keeps all."""
        return self.ledger.judged

    @property
    def levels(self) -> list[int]:
        """How long sequences are, epoch by epoch as far as it is decided; nothing of other data."""
        return [] if self.curriculum is None else self.curriculum.levels

    def _level(self, batch: int) -> int:
        """Return how long a batch's sequences are; 0 where they are all alike."""
        return 0 if self.curriculum is None else self.curriculum.level(batch // self.plan.epoch_batches)

    def _inputs(self, k: int, batch: int, level: int) -> Array | None:
        if not self.kinds[k].takes_inputs:
            return None
        return self.batches.inputs(batch, k, level)

    def _read(self, k: int, trail: cells.Trail, y: Array, wanted: Array, level: int) -> cells.Trail:
        """Let box k read its own steps."""
        if k == 1:
            self._tally = readout.first_tally(wanted.shape[1], level, trail.leaving.dtype)
        own, self._tally = readout.read(self.cells[k], trail, self.width, y, wanted, self._tally, self.plan.micro)
        return trail._replace(own=own)

    def gradient(self, k: int, batch: int, h: Array) -> Array | None:
        """Return the gradient on which box k updates at once, or None."""
        if k in self.fittings:
            g = self.fittings[k].oracle.predict(h, self.label(batch), batch)
            self.check(k, "F", batch, "the synthetic gradient", g)
            return g
        if self.plan.learns(k) == "traced":
            g = traces.guess(self.cells[k], h)
            self.check(k, "F", batch, "the synthetic gradient", g)
            return g
        if self.plan.learns(k) != "local":
            return None
        if k not in self.local:
            return np.zeros_like(h)
        y = self.batches.wanted(self.batches.labels(batch))
        dense, g = heads.classify(self.local[k], h, self.width, y, self.loss)
        take(self.local[k], self.local_optimizers[k].step(dense, self.head_pace.at(batch)))
        self.check(k, "F", batch, "the gradient of its classifier", g)
        return g

    def update(
        self, k: int, batch: int, trail: cells.Trail, g: Array, came: traces.Traced | None
    ) -> traces.Traced | None:
        """Let box k learn by BP(λ) from g and what came with the activation before, and return what travels on."""
        is_last, cell, oracle = k == self.plan.boxes, self.cells[k], self.config.oracle
        if is_last:
            self.check_back(k, "B", batch, g)
        factors, target = self.kinds[k].backward(cell, trail, g, passes_on=came is not None, scratch=self.scratch)
        if oracle.scale != 1 and not is_last:
            factors.scale(oracle.scale)
        onward = None if is_last else traces.onward(cell, trail, g, came, oracle.mix)
        if dense := traces.learn(came, target):
            self.check(k, "B" if is_last else "F", batch, "the oracle's gradient", dense["oracle_L"])
            take(cell, self.oracle_optimizers[k].step(dense))
        self.descend(k, batch, factors)
        return onward

    def descend(self, k: int, batch: int, factors: cells.Factors) -> None:
        """Take box k's step on a gradient."""
        optimizer, pace = self.optimizers[k], self.pace.at(self.plan.step(batch))
        if optimizer.is_plain:
            rates = {name: rate * pace for name, rate in optimizer.rates.items()}
            self.kinds[k].descend(self.cells[k], factors, rates, self.scratch)
        else:
            take(self.cells[k], optimizer.step(self.kinds[k].gradient(factors, self.cells[k]), pace))

    def check(self, k: int, action: str, batch: int, what: str, array: Array) -> None:
        """Stop where numbers fly off."""
        self.guards[k].check(action, batch, what, array)

    def check_back(self, k: int, action: str, batch: int, array: Array) -> None:
        """Stop where what comes back to box k flies off."""
        kind = self.plan.backward_kind(k) if action == "T" else GRADIENT
        self.check(k, action, batch, f"the {kind} from {self.plan.name(k + 1)}", array)

    def check_weights(self) -> None:
        """Stop where the weights have gone bad at the end."""
        for number, each in enumerate(self.weights(), 1):
            self.guards[number].check_weights(each)

    def head(self, batch: int, h: Array) -> Array:
        """Step the head on the true loss and return the gradient at its entrance."""
        if self.curriculum is not None:
            return self._add_up(batch, h)
        state, h = h.shape[1], h[:, : self.width]
        a, y_hat = heads.forward(self.layer, h, self.loss)
        y = self.batches.wanted(self.batches.labels(batch))
        cost = heads.cost(a, y, self.loss, y_hat)
        self.guards[self.plan.head].check_number("F", batch, "the cost", cost)
        self.ledger.add(cost)
        micro = self.plan.micro
        dense, g = heads.backward(self.layer, h, y_hat, y, self.loss, micro)
        self.check(self.plan.head, "F", batch, "the gradient", g)
        self._head = accumulate(self._head, dense)
        if (batch + 1) % micro == 0:
            take(self.layer, self.head_optimizer.step(self._head, self.head_pace.at(self.plan.step(batch))))
            self._head = {}
        return heads.widened(g, state)

    def _add_up(self, batch: int, h: Array) -> Array:
        """Take note of what the boxes' own losses are; nothing comes after the last box."""
        cost = readout.cost(self._tally)
        self.guards[self.plan.head].check_number("F", batch, "the cost", cost)
        self.ledger.add(cost)
        assert self.curriculum is not None, "a head adds up where boxes read"
        self.curriculum.after(self.plan, batch, self.ledger.present)
        return np.zeros_like(h)

    def fit(self, k: int, batch: int, h: Array, target: Array) -> None:
        """Fit oracle k to a target gradient at h."""
        self.check_back(k, "T", batch, target)
        error = self.fittings[k].fit(batch, h, self.label(batch), target, self.scratch)
        self.check(k, "T", batch, "the oracle's error", error)

    def label(self, batch: int) -> Array | None:
        """Return the one-hot labels of a batch where the oracles see them."""
        return self.batches.one_hot(self.batches.labels(batch)) if self.config.oracle.sees_label else None

    def evaluate(self, evaluation: int) -> None:
        """Judge one batch of test images."""
        h: Array | None = None
        level = self._level(self.ledger.forwards - 1)
        for k, cell in self.cells.items():
            trail = self.kinds[k].forward(cell, self._evaluation_inputs(k, evaluation, level), h, self.scratch)
            if level and isinstance(self.batches, Examples):
                self._read(k, trail, *self.batches.evaluation_targets(evaluation, k, level), level)
            h = trail.h
        assert h is not None
        if level:
            judged = head.judge_tally(self.batches, evaluation, self._tally, sizes.most(self.config))
        else:
            name, hidden = self.config.data.name, h[:, : self.width]
            judged = head.judge(self.layer, hidden, self.batches, evaluation, self.loss, name)
        self.guards[self.plan.head].check_number("E", evaluation, "the cost", judged.cost)
        self.ledger.judge(judged)

    def _evaluation_inputs(self, k: int, evaluation: int, level: int) -> Array | None:
        if not self.kinds[k].takes_inputs:
            return None
        return self.batches.evaluation_inputs(evaluation, k, level)

    def weights(self) -> list[Weights]:
        """Return each stage's weights by the names that checkpoints use, in stage order."""
        boxes = []
        for k, cell in self.cells.items():
            oracle = self.fittings[k].oracle.weights if k in self.fittings else {}
            learnt = cell | {f"oracle_{name}": array for name, array in oracle.items()}
            boxes.append(learnt | {f"local_{name}": array for name, array in self.local.get(k, {}).items()})
        return [*boxes, dict(self.layer)]
