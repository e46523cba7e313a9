"""What a head keeps of costs and judgements: those of the present epoch and of the present round. Pure.

    costs       a batch each; when the epoch has ended and was evaluated where that is due, they become its row
    judged      an evaluation each; the last round stays, for the table of predictions
    rows        epoch, cost, test_cost and accuracy where it was evaluated; of bits `whole`, of sequences that grow `level`

So the memory of a long run is flat, if somebody takes the rows: a worker appends them to its file as they come. What is taken
is not in the ledger's state: at a checkpoint the file has `epochs` rows, and a run that goes on from it has no others. A test
or a study that wants every cost and judgement sets `keeps_all` before the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Weights
from .plan import Plan
from .state import Saved, counts, under


class Judged(NamedTuple):
    """What the head said of one evaluation's images, or examples, row by row.

    Of numbers, label and prediction are the numbers; of bits the number that they are; of sequences how many bits were
    wanted and how many were right.
    """

    places: NDArray[np.int64]
    labels: NDArray[Any]
    predictions: NDArray[Any]
    outputs: Array  # (rows, outputs): ŷ
    cost: float
    rights: NDArray[Any] | None = (
        None  # (rows,): the share of each that is right; None: where label and prediction agree
    )
    level: int = 0  # of sequences that grow

    @property
    def right(self) -> float:
        """How many images were told right; of bits, the sum of each example's share."""
        rights = self.predictions == self.labels if self.rights is None else self.rights
        return float(rights.sum())


def summary(judged: Sequence[Judged]) -> dict[str, float]:
    """Return cost and accuracy of one evaluation; of sequences their level, of bits the share of wholes that are right."""
    images = sum(len(part.labels) for part in judged)
    cost = sum(part.cost * len(part.labels) for part in judged) / images
    found = {"test_cost": cost, "accuracy": sum(part.right for part in judged) / images}
    if judged[0].level:
        found["level"] = judged[0].level
    if judged[0].rights is not None and judged[0].rights.dtype.kind == "f":  # of bits
        found["whole"] = sum(int((part.rights == 1).sum()) for part in judged if part.rights is not None) / images
    return found


class Ledger:
    """Costs and judgements of a run, epoch by epoch. `levels` are those of sequences that grow, and may grow with them."""

    def __init__(self, plan: Plan, levels: Sequence[int] = (), *, keeps_all: bool = False) -> None:
        self.plan = plan
        self.keeps_all = keeps_all
        self.costs: list[float] = []  # of the present epoch
        self.judged: list[Judged] = []  # of the present round, until its epoch's row is made
        self.epochs = 0  # whose rows are made
        self.evaluations = 0
        self._levels = levels
        self._start = 0  # the first batch of the present epoch
        self._first = 0  # the batch of the first cost that is kept
        self._rows: list[dict[str, Any]] = []  # made and not taken

    @property
    def forwards(self) -> int:
        """How many batches have told their cost."""
        return self._first + len(self.costs)

    @property
    def taken(self) -> int:
        """How many rows were taken."""
        return self.epochs - len(self._rows)

    @property
    def present(self) -> list[float]:
        """The costs of the present epoch, which is the last one until another has begun."""
        return self.costs[self._start - self._first :]

    @property
    def is_whole(self) -> bool:
        """Whether the present epoch has ended."""
        return self.forwards == self._start + self.plan.epoch_batches

    @property
    def _is_made(self) -> bool:
        """Whether the row of the present epoch is made."""
        return self.epochs * self.plan.epoch_batches > self._start

    @property
    def final(self) -> list[Judged]:
        """The run's last round of evaluations; nothing before it has ended."""
        return self.judged[-self.plan.chunks :] if self.evaluations == self.plan.evaluations else []

    def add(self, cost: float) -> None:
        """Take what the next batch has cost."""
        if self.is_whole:  # its costs stayed until now, to be looked at
            self._settle(is_over=True)
            self._start = self.forwards
            if not self.keeps_all:
                self.costs.clear()
                self._first = self._start
        self.costs.append(cost)
        self._settle()

    def judge(self, judged: Judged) -> None:
        """Take what the head says of the next evaluation."""
        self.judged.append(judged)
        self.evaluations += 1
        self._settle()

    def ended(self) -> list[dict[str, Any]]:
        """Return the rows of epochs that have ended, and were evaluated where that is due; those that were not taken."""
        return list(self._rows)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows that were not taken, and that of an epoch that has begun."""
        return self._rows + ([] if self._is_made or not self.present else [self._row()])

    def take(self, count: int) -> None:
        """Forget so many rows of `ended()`: they are in a file."""
        del self._rows[:count]

    def _settle(self, *, is_over: bool = False) -> None:
        """Make the row of an epoch that has ended, once it was evaluated, or will not be."""
        plan = self.plan
        if self.is_whole and not self._is_made and (is_over or self.evaluations >= plan.due(self.forwards)):
            self._rows.append(self._row())
            self.epochs += 1
            if not self.keeps_all and self.forwards < plan.batches:
                self.judged.clear()

    def _row(self) -> dict[str, Any]:
        plan, start, part = self.plan, self._start, self.present
        epoch = start // plan.epoch_batches + 1
        weights = [plan.rows(start + place) for place in range(len(part))]
        row: dict[str, Any] = {"epoch": epoch, "cost": float(np.average(part, weights=weights))}
        before, due = plan.due(start), plan.due(start + plan.epoch_batches)
        if due > before and self.evaluations >= due and self.is_whole:
            row |= summary(self.judged[-plan.chunks :])
        if self._levels:
            row["level"] = self._levels[min(epoch, len(self._levels)) - 1]
        return row

    @property
    def _waiting(self) -> list[Judged]:
        """The judgements that go into the present epoch's row, which is not made, or into the table of predictions."""
        is_over = self._is_made and self.forwards < self.plan.batches
        count = 0 if is_over else self.evaluations - self.plan.due(self._start)
        return self.judged[len(self.judged) - count :]

    def state(self) -> Weights:
        """Return copies of the present costs and judgements, and how many there were before; of rows only how many."""
        found = counts(forwards=self.forwards, evaluations=self.evaluations, epochs=self.epochs)
        found["costs"] = np.array(self.present, np.float64)
        waiting = self._waiting
        found |= counts(judged=len(waiting))
        for place, judged in enumerate(waiting):
            told = judged._replace(rights=np.zeros(0) if judged.rights is None else judged.rights)._asdict()
            told |= {"cost": np.array([judged.cost]), "level": np.array([judged.level], np.int64)}
            found |= under(f"judged.{place}", told)
        return found

    def restore(self, saved: Saved) -> None:
        """Go on from a saved state, before the first cost; raises RunError."""
        plan, size = self.plan, self.plan.epoch_batches
        forwards, costs = saved.count("forwards", plan.batches), saved.take("costs", (None,), np.float64)
        self._start = self._first = forwards - len(costs)
        self.costs[:] = costs.tolist()
        self.epochs = saved.count("epochs")
        self.evaluations = saved.count("evaluations", plan.evaluations)
        before, epoch = plan.due(self._start) if forwards else 0, self._start // size
        if self._start % size or not bool(forwards) <= len(costs) <= size:
            saved.refuse("costs", f"are {len(costs)} of {forwards} batches, with epochs of {size}")
        if not epoch <= self.epochs <= epoch + self.is_whole:
            saved.refuse("epochs", f"is {self.epochs} after {forwards} batches, with epochs of {size}")
        if not before <= self.evaluations <= plan.due(forwards):
            saved.refuse("evaluations", f"is {self.evaluations} after {forwards} batches")
        first = self.evaluations - (0 if self._is_made and forwards < plan.batches else self.evaluations - before)
        if saved.count("judged") != self.evaluations - first:
            saved.refuse("judged", f"is not {self.evaluations - first}")
        for place, evaluation in enumerate(range(first, self.evaluations)):
            self.judged.append(_judged(saved.under(f"judged.{place}"), plan.evaluation_rows(evaluation)))


def _judged(saved: Saved, rows: int) -> Judged:
    """Return an evaluation of so many rows as it was saved."""
    labels, predictions = saved.take("labels", (rows,), None), saved.take("predictions", (rows,), None)
    rights = saved.take("rights", (None,), None)
    if len(rights) not in (0, rows):
        saved.refuse("rights", f"has {len(rights)} rows, not {rows}")
    return Judged(
        saved.take("places", (rows,), np.int64), labels, predictions, saved.take("outputs", (rows, None), None),
        float(saved.take("cost", (1,), np.float64)[0]), rights if len(rights) else None, saved.count("level"),
    )  # fmt: skip
