"""The same training in one process, a plain loop in its own order over the same cell functions.

It shares with the workers the functions of `cells`, `oracles` and `heads`, the first weights and the batches, and nothing
of their loops, rules or messages. Program-scheduled runs must end with its weights bit for bit.

`python -m pipeline.reference RUN_FOLDER PARENT_PID` trains and tells its progress as JSON lines on standard output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from . import cells, head, heads, oracles, results, weights
from .arrays import Array, Scratch, Weights, accumulate, descend, total
from .config import load
from .data import Batches
from .data import load as load_data
from .errors import ConfigError, TimeboxError
from .lifeline import Lifeline
from .plan import Plan
from .schema import Config


def refuse(config: Config) -> None:
    """Raise ConfigError for a schedule that has no loop here."""
    kind = config.schedule.kind
    if kind in ("decoupled", "own"):
        why = "takes what comes" if kind == "decoupled" else "is a text"
        raise ConfigError(
            f"schedule.kind: {kind} {why} and has no order that a reference could follow; "
            "--reference goes with article, locked, gpipe, 1f1b and delayed"
        )


class Reference:
    """The network's weights and the costs and judgements of a run so far."""

    def __init__(self, config: Config, batches: Batches) -> None:
        refuse(config)
        self.config = config
        self.plan = Plan.of(config)
        self.batches = batches
        self.loss = config.model.loss
        boxes = range(1, config.model.boxes + 1)
        shared = weights.box_weights(config, 1)
        self.cells = {k: shared if config.model.tied else weights.box_weights(config, k) for k in boxes}
        self.oracles = {k: weights.oracle_weights(config, k) for k in boxes} if self.plan.rule == "synthetic" else {}
        self.layer = weights.head_weights(config)
        self.rates = weights.box_rates(config)
        self.scratch = Scratch()
        self.costs: list[float] = []
        self.judged: list[head.Judged] = []
        self.late = Late(self) if config.schedule.kind in ("1f1b", "delayed") and self.plan.micro == 1 else None
        self._parts: dict[int, list[cells.Factors]] = {}  # of a batch's micro-batches so far, by box
        self._head: Weights = {}

    def run(self) -> Iterator[int]:
        """Train, yielding after every batch."""
        train = {"synthetic": self.synthetic, "backward": self.backward, "frozen": self.frozen}[self.plan.rule]
        if self.late is not None and self.plan.rule == "backward":
            train = self.late.forward
        evaluations = 0
        for batch in range(self.plan.batches):
            train(batch)
            due = self.plan.due(batch + 1)
            if self.late is not None and due > evaluations:
                self.late.settle_all()
            for evaluation in range(evaluations, due):
                self.evaluate(evaluation)
                evaluations += 1
            yield batch

    def synthetic(self, batch: int) -> None:
        """The eight steps, generalised: every box updates on its oracle's word before the next one starts."""
        h: Array | None = None
        trails = {}
        passing: dict[int, Weights] = {}
        for k, cell in self.cells.items():
            if self.plan.weights == "stash":
                passing[k] = {"Wrec": cell["Wrec"].copy()}
            trail = trails[k] = cells.forward(cell, self.batches.inputs(batch, k), h, self.scratch)
            g = oracles.predict(self.oracles[k], trail.h, self.label(batch))
            bootstraps = k > 1 and self.plan.target == "bootstrapped"
            factors, target = cells.backward(cell, trail, g, passes_on=bootstraps, scratch=self.scratch)
            cells.descend(cell, factors, self.rates, self.scratch)
            if target is not None:
                self.train_oracle(k - 1, batch, trails[k - 1].h, target)
            h = trail.h
        back = self.head(batch, trail.h)
        self.train_oracle(self.plan.boxes, batch, trail.h, back)
        if self.plan.target == "true":
            stashed = passing or {k: self.cells[k] for k in self.cells}
            for k in range(self.plan.boxes - 1, 0, -1):
                _, entering = cells.backward(stashed[k + 1], trails[k + 1], back, passes_on=True, scratch=self.scratch)
                assert entering is not None
                back = entering
                self.train_oracle(k, batch, trails[k].h, back)

    def backward(self, batch: int) -> None:
        """Full backpropagation through time; tied boxes make one step on the sum of their gradients."""
        h: Array | None = None
        trails = {}
        for k, cell in self.cells.items():
            trails[k] = cells.forward(cell, self.batches.inputs(batch, k), h, self.scratch)
            h = trails[k].h
        g: Array | None = self.head(batch, trails[self.plan.boxes].h)
        for k in range(self.plan.boxes, 0, -1):
            assert g is not None
            factors, g = cells.backward(self.cells[k], trails[k], g, passes_on=k > 1, scratch=self.scratch)
            if not self.plan.sums_gradients:
                cells.descend(self.cells[k], factors, self.rates, self.scratch)
                continue
            self._parts.setdefault(k, []).append(factors)
        if not self.plan.sums_gradients or (batch + 1) % self.plan.micro:
            return
        # Micro-batches are stacked, boxes are summed, the last one first.
        sums = {k: cells.stack(parts) if len(parts) > 1 else parts[0] for k, parts in self._parts.items()}
        self._parts = {}
        if self.plan.tied:
            descend(self.cells[1], total(cells.gradient(each, self.cells[1]) for each in sums.values()), self.rates)
            return
        for k, each in sums.items():
            cells.descend(self.cells[k], each, self.rates, self.scratch)

    def frozen(self, batch: int) -> None:
        """The control: only the head learns."""
        h: Array | None = None
        for k, cell in self.cells.items():
            h = cells.forward(cell, self.batches.inputs(batch, k), h, self.scratch).h
        assert h is not None
        self.head(batch, h)

    def head(self, batch: int, h: Array) -> Array:
        """Step the head on the true loss and return the gradient at its entrance."""
        a, y_hat = heads.forward(self.layer, h, self.loss)
        y = self.batches.wanted(self.batches.labels(batch))
        self.costs.append(heads.cost(a, y, self.loss, y_hat))
        micro = self.plan.micro
        dense, g = heads.backward(self.layer, h, y_hat, y, self.loss, micro)
        self._head = accumulate(self._head, dense)
        if (batch + 1) % micro == 0:
            descend(self.layer, self._head, dict.fromkeys(dense, self.config.train.rate_head))
            self._head = {}
        return g

    def train_oracle(self, k: int, batch: int, h: Array, target: Array) -> None:
        """Fit oracle k to a target gradient at h."""
        oracles.train(self.oracles[k], h, self.label(batch), target, self.config.train.rate_oracle, self.scratch)

    def label(self, batch: int) -> Array | None:
        """Return the one-hot labels of a batch where the oracles see them."""
        return self.batches.one_hot(self.batches.labels(batch)) if self.config.oracle.sees_label else None

    def evaluate(self, evaluation: int) -> None:
        """Judge one batch of test images."""
        h: Array | None = None
        for k, cell in self.cells.items():
            h = cells.forward(cell, self.batches.evaluation_inputs(evaluation, k), h, self.scratch).h
        assert h is not None
        self.judged.append(head.judge(self.layer, h, self.batches, evaluation, self.loss))

    def weights(self) -> list[Weights]:
        """Return each stage's weights by the names that checkpoints use, in stage order."""
        boxes = [
            self.cells[k] | {f"oracle_{name}": array for name, array in self.oracles.get(k, {}).items()}
            for k in self.cells
        ]
        return [*boxes, dict(self.layer)]


class Late:
    """Backpropagation whose updates come late: before box k goes on to batch i, it settles batch i − ahead.

    How far each box is ahead is all there is to 1F1B without a flush (the stages from it on) and to `delayed`.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        plan = reference.plan
        is_delayed = plan.schedule == "delayed"
        self.ahead = {k: plan.delay + 1 if is_delayed else plan.head - k + 1 for k in reference.cells}
        self.stashes = plan.weights == "stash"
        self._flights: dict[
            tuple[int, int], tuple[cells.Trail, Array]
        ] = {}  # box, batch: trail, Wrec as its forward read it
        self._gradients: dict[tuple[int, int], Array] = {}  # at the activation of box, batch
        self._settled = dict.fromkeys(reference.cells, 0)
        self._forwards = 0

    def forward(self, batch: int) -> None:
        """Take a batch through all boxes and the head, and settle at each box what is due before it."""
        reference = self.reference
        h: Array | None = None
        for k, cell in reference.cells.items():
            self.settle(k, batch - self.ahead[k])
            trail = cells.forward(cell, reference.batches.inputs(batch, k), h, reference.scratch)
            self._flights[k, batch] = trail, cell["Wrec"].copy() if self.stashes else cell["Wrec"]
            h = trail.h
        assert h is not None
        self._gradients[reference.plan.boxes, batch] = reference.head(batch, h)
        self._forwards = batch + 1

    def settle(self, k: int, last: int) -> None:
        """Update box k by all gradients up to batch `last`, in their order."""
        reference = self.reference
        while self._settled[k] <= last:
            batch = self._settled[k]
            if (k, batch) not in self._gradients:
                self.settle(k + 1, batch)
            trail, Wrec = self._flights.pop((k, batch))
            g = self._gradients.pop((k, batch))
            factors, entering = cells.backward({"Wrec": Wrec}, trail, g, passes_on=k > 1, scratch=reference.scratch)
            if entering is not None:
                self._gradients[k - 1, batch] = entering
            cells.descend(reference.cells[k], factors, reference.rates, reference.scratch)
            self._settled[k] += 1

    def settle_all(self) -> None:
        """Come to the end: settle what is in flight."""
        for k in reversed(self.reference.cells):
            self.settle(k, self._forwards - 1)


#: Seconds between two lines of progress.
ROUND_S = 0.2


def main(arguments: list[str] | None = None) -> int:
    """Train in this process and leave the results in the run folder; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    folder, line, is_stopped = Path(words[0]), Lifeline(int(words[1])), False
    try:
        config = load(folder / "config.toml")
        reference = Reference(config, Batches(config, load_data(config.data)))
        _save(reference, folder / "checkpoint" / "initial")
        ends, said = [time.monotonic()], 0.0
        for batch in reference.run():
            ends.append(time.monotonic())
            if ends[-1] - said > ROUND_S:
                said = ends[-1]
                _say(word="progress", batch=batch + 1, cost=reference.costs[-1])
            if line.should_stop:
                is_stopped = True
                break
        _save(reference, folder / "checkpoint" / ("interrupted" if is_stopped else "final"))
        results.save_metrics(folder, reference.plan, reference.costs, reference.judged)
    except TimeboxError as error:
        _say(word="failed", error=str(error), wrong=isinstance(error, ConfigError))
        return 1
    if is_stopped:
        _say(word="stopped")
        return 0
    digests = [weights.digest(each) for each in reference.weights()]
    warm = len(ends) // 10
    steady = (len(ends) - 1 - warm) / max(ends[-1] - ends[warm], 1e-9) / reference.plan.micro
    _say(word="done", batches=len(reference.costs), busy_s=ends[-1] - ends[0], digests=digests, batches_per_s=steady)
    return 0


def _save(reference: Reference, folder: Path) -> None:
    for number, each in enumerate(reference.weights(), 1):
        results.save_weights(folder / f"{reference.plan.name(number)}.npz", each)


def _say(**document: object) -> None:
    sys.stdout.write(json.dumps({"pid": os.getpid(), **document}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
