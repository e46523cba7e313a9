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

from . import cells, heads, results, weights
from .actions import GRADIENT
from .arrays import Array, Weights, total
from .config import load
from .data import Batches
from .data import batches as make_batches
from .drawn import Examples
from .errors import ConfigError, TimeboxError, plain
from .learning import ONE_BY_ONE
from .lifeline import Lifeline
from .network import Network
from .optimizers import take
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


class Reference(Network):
    """The network and the loops over it."""

    def __init__(self, config: Config, batches: Batches | Examples) -> None:
        refuse(config)
        super().__init__(config, batches)
        self.late = Late(self) if config.schedule.kind in ("1f1b", "delayed") and self.plan.micro == 1 else None
        self._parts: dict[int, list[cells.Factors]] = {}  # of a batch's micro-batches so far, by box

    def run(self) -> Iterator[int]:
        """Train, yielding after every batch."""
        train = {"exact": self.exact, "traced": self.traced}.get(self.plan.rule, self.one_by_one)
        if self.plan.rule == "backward" and self.config.schedule.kind not in ONE_BY_ONE:
            train = self.late.forward if self.late is not None else self.backward
        evaluations = saves = 0
        for batch in range(self.plan.batches):
            train(batch)
            due = self.plan.due(batch + 1)
            drains, saves = self.plan.saves_before(batch + 1) > saves, self.plan.saves_before(batch + 1)
            if self.late is not None and (due > evaluations or drains):
                self.late.settle_all()
            for evaluation in range(evaluations, due):
                self.evaluate(evaluation)
                evaluations += 1
            yield batch

    def traced(self, batch: int) -> None:
        """BP(λ): each box but the last learns at once, by what came with the activation; nothing goes back between boxes."""
        h = came = None
        for k in self.cells:
            trail = self.forward(k, batch, h)
            h = trail.h
            g = self.gradient(k, batch, h) if k < self.plan.boxes else self.head(batch, h)
            assert g is not None, "every box has an oracle or the head"
            came = self.update(k, batch, trail, g, came)

    def one_by_one(self, batch: int) -> None:
        """The eight steps, generalised: every box that learns at once does so before the next one starts."""
        plan, h = self.plan, None
        trails: dict[int, cells.Trail] = {}
        early: dict[int, cells.Factors] = {}
        passing: dict[int, Weights] = {}
        for k, cell in self.cells.items():
            passing[k] = self.passing(k) if plan.weights == "stash" else cell
            trail = trails[k] = self.forward(k, batch, h)
            h = trail.h
            if (g := self.gradient(k, batch, h)) is None:
                continue
            bootstraps = k > 1 and plan.wants_gradients(k - 1) and plan.target == "bootstrapped"
            factors, target = self.kinds[k].backward(cell, trail, g, passes_on=bootstraps, scratch=self.scratch)
            if self.config.oracle.scale != 1 and plan.learns(k) == "synthetic":
                factors.scale(self.config.oracle.scale)
            early[k] = factors
            self.descend(k, batch, factors)
            if target is not None:
                self.fit(k - 1, batch, trails[k - 1].h, target)
        assert h is not None
        back: Array | None = self.head(batch, h)
        # Boxes that wait for their gradient step before it is passed on to anyone else.
        for k in range(plan.boxes, 0, -1):
            if back is None:
                break
            back = self.settle(k, batch, trails[k], back, passing[k], early.get(k))

    def settle(
        self, k: int, batch: int, trail: cells.Trail, g: Array, passing: Weights, early: cells.Factors | None
    ) -> Array | None:
        """Let box k make of the gradient at its activation what it can, and return what it passes on."""
        plan, rule = self.plan, self.plan.learns(k)
        passes_on = k > 1 and plan.wants_gradients(k - 1)
        if rule == "backward":
            self.check_back(k, "B", batch, g)
            factors, before = self.kinds[k].backward(passing, trail, g, passes_on=passes_on, scratch=self.scratch)
            self.descend(k, batch, factors)
            return before
        if rule != "synthetic":
            return None
        if plan.backward_kind(k) == GRADIENT:
            mixed = g
            if plan.target == "mixed" and passes_on:
                mixed = (1 - self.config.oracle.mix) * self.fittings[k].oracle.predict(
                    trail.h, self.label(batch), batch
                )
                mixed += self.config.oracle.mix * g
            self.fit(k, batch, trail.h, g)
            g = mixed
        if not plan.corrects:
            if plan.target == "bootstrapped" or not passes_on:
                return None
            return self.kinds[k].backward(passing, trail, g, passes_on=True, scratch=self.scratch)[1]
        self.check_back(k, "C", batch, g)
        factors, before = self.kinds[k].backward(passing, trail, g, passes_on=passes_on, scratch=self.scratch)
        assert early is not None
        factors.subtract(early)
        self.descend(k, batch, factors)
        return before

    def passing(self, k: int) -> Weights:
        """Return copies of the weights that a gradient passes through at box k."""
        return {name: self.cells[k][name].copy() for name in self.kinds[k].passing}

    def exact(self, batch: int) -> None:
        """The ceiling: each box updates at once on the true gradient, of the loss through the weights that are there then."""
        h: Array | None = None
        y = self.batches.wanted(self.batches.labels(batch))
        for k in self.cells:
            entering, trails = h, {}
            for j in range(k, self.plan.boxes + 1):
                trails[j] = self.forward(j, batch, entering)
                entering = trails[j].h
            assert entering is not None
            hidden = entering[:, : self.width]
            _, y_hat = heads.forward(self.layer, hidden, self.loss)
            g = heads.backward(self.layer, hidden, y_hat, y, self.loss)[1]
            back: Array | None = heads.widened(g, entering.shape[1])
            for j in range(self.plan.boxes, k - 1, -1):
                assert back is not None
                factors, back = self.kinds[j].backward(
                    self.cells[j], trails[j], back, passes_on=j > k, scratch=self.scratch
                )
            self.descend(k, batch, factors)
            h = trails[k].h
        assert h is not None
        self.head(batch, h)

    def backward(self, batch: int) -> None:
        """Full backpropagation through time; tied boxes make one step on the sum of their gradients."""
        h: Array | None = None
        trails = {}
        for k in self.cells:
            trails[k] = self.forward(k, batch, h)
            h = trails[k].h
        g: Array | None = self.head(batch, trails[self.plan.boxes].h)
        for k in range(self.plan.boxes, 0, -1):
            assert g is not None
            self.check_back(k, "B", batch, g)
            factors, g = self.kinds[k].backward(self.cells[k], trails[k], g, passes_on=k > 1, scratch=self.scratch)
            if not self.plan.sums_gradients:
                self.descend(k, batch, factors)
                continue
            self._parts.setdefault(k, []).append(factors)
        if not self.plan.sums_gradients or (batch + 1) % self.plan.micro:
            return
        # Micro-batches are stacked, boxes are summed, the last one first.
        sums = {k: self.kinds[k].stack(parts) if len(parts) > 1 else parts[0] for k, parts in self._parts.items()}
        self._parts = {}
        if self.plan.tied:
            summed = total(self.kinds[k].gradient(each, self.cells[1]) for k, each in sums.items())
            take(self.cells[1], self.optimizers[1].step(summed, self.pace.at(self.plan.step(batch))))
            return
        for k, each in sums.items():
            self.descend(k, batch, each)


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
        # By box and batch: the trail, and what the gradient passes through as its forward read it.
        self._flights: dict[tuple[int, int], tuple[cells.Trail, Weights]] = {}
        self._gradients: dict[tuple[int, int], Array] = {}  # at the activation of box, batch
        self._settled = dict.fromkeys(reference.cells, 0)
        self._forwards = 0

    def forward(self, batch: int) -> None:
        """Take a batch through all boxes and the head, and settle at each box what is due before it."""
        reference = self.reference
        h: Array | None = None
        for k, cell in reference.cells.items():
            self.settle(k, batch - self.ahead[k])
            trail = reference.forward(k, batch, h)
            self._flights[k, batch] = trail, reference.passing(k) if self.stashes else cell
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
            trail, passing = self._flights.pop((k, batch))
            g = self._gradients.pop((k, batch))
            reference.check_back(k, "B", batch, g)
            kind = reference.kinds[k]
            factors, entering = kind.backward(passing, trail, g, passes_on=k > 1, scratch=reference.scratch)
            if entering is not None:
                self._gradients[k - 1, batch] = entering
            reference.descend(k, batch, factors)
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
        reference = Reference(config, make_batches(config))
        _save(reference, folder / "checkpoint" / "initial")
        ends, said = [time.monotonic()], 0.0
        for batch in reference.run():
            ends.append(time.monotonic())
            if ends[-1] - said > ROUND_S:
                said = ends[-1]
                _say(word="progress", batch=batch + 1, cost=reference.costs[-1])
                results.append_rows(folder, reference.ledger)
            if is_stopped := line.should_stop:
                break
        if not is_stopped:
            reference.check_weights()
        _save(reference, folder / "checkpoint" / ("interrupted" if is_stopped else "final"))
        results.save_metrics(folder, reference.ledger)
    except (TimeboxError, OSError, MemoryError) as error:  # a full disk, say
        _say(word="failed", error=plain(error), wrong=isinstance(error, ConfigError))
        return 1
    if is_stopped:
        _say(word="stopped")
        return 0
    digests, warm = [weights.digest(each) for each in reference.weights()], len(ends) // 10
    steady = (len(ends) - 1 - warm) / max(ends[-1] - ends[warm], 1e-9) / reference.plan.micro
    _say(word="done", batches=len(ends) - 1, busy_s=ends[-1] - ends[0], digests=digests, batches_per_s=steady)
    return 0


def _save(reference: Reference, folder: Path) -> None:
    for number, each in enumerate(reference.weights(), 1):
        results.save_weights(folder / f"{reference.plan.name(number)}.npz", each)


def _say(**document: object) -> None:
    sys.stdout.write(json.dumps({"pid": os.getpid(), **document}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
