"""How stale every update was, from the journals: three kinds, never mixed. Pure.

    update      B i, C i, or the step U i on the sum of all gradients: the box's updates between the forward that made the
                gradient's batch and this one
    target      T i: the box's updates between the forward of batch i (its own update not counted) and the training of the
                oracle on that batch's target
    increment   U k.i: the updates that this replica had seen and box k had not when it made the increment, counted box by
                box (two replicas see the same increments in different orders, so one number a replica would not do)

Each also in batches: how many later batches the box had forwarded by then. An update on a synthetic gradient has no
staleness. Zero is what the order of one process would give.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.actions import Action
from pipeline.learning import EARLY
from pipeline.plan import Plan

Histogram = dict[str, dict[str, int]]


class _Box:
    """What a box had done by each moment of its journal."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan = plan
        self.number = number
        self.forwards = 0
        self.updates = 0
        self.seen = [0] * (plan.boxes + 1)  # increments applied, by box; the own ones too
        self.read: list[int] = []  # updates before the forward of each batch
        self.clocks: list[tuple[int, ...]] = []  # what was seen then
        #: Of each increment of its own: its batch, and what the forward of that batch had seen.
        self.made: list[tuple[int, tuple[int, ...]]] = []
        self.found: dict[str, tuple[Counter[int], Counter[int]]] = {}

    def count(self, kind: str, updates: int, batch: int) -> None:
        """Count one update of a kind, so many updates stale, on batch `batch`."""
        by_updates, by_batches = self.found.setdefault(kind, (Counter(), Counter()))
        by_updates[max(updates, 0)] += 1
        by_batches[max(self.forwards - 1 - batch, 0)] += 1

    def update(self, of: int) -> None:
        """Take note of an update by an increment of box `of`."""
        self.updates += 1
        self.seen[of] += 1

    def update_own(self, batch: int) -> None:
        """Take note of an update by an increment of its own, made of a batch."""
        self.made.append((batch, self.clocks[batch]))
        self.update(self.number)

    def is_own(self, kind: str) -> bool:
        """Whether an action makes an increment that siblings apply one by one."""
        rule = self.plan.learns(self.number)
        return kind == "C" or (kind == "F" and rule in EARLY) or (kind == "B" and rule == "backward")


def staleness(plan: Plan, journals: Mapping[int, Sequence[Action]]) -> dict[int, dict[str, Histogram]]:
    """Return each box's histograms by kind: {"updates": {"0": 50, …}, "batches": {…}}.

    Increments of a box whose journal is not there are left out.
    """
    boxes = {k: _Box(plan, k) for k in journals if k != plan.head}
    for k, box in boxes.items():
        _walk(box, journals[k])
    if plan.shares_increments and not plan.sums_gradients:
        for k, box in boxes.items():
            _increments(box, journals[k], boxes)
    return {k: {kind: _histogram(*counts) for kind, counts in box.found.items()} for k, box in boxes.items()}


def _walk(box: _Box, journal: Sequence[Action]) -> None:
    plan = box.plan
    for kind, batch, sibling in journal:
        if kind == "F":
            box.forwards += 1
            box.read.append(box.updates)
            box.clocks.append(tuple(box.seen))
            if plan.learns(box.number) in EARLY:
                box.update_own(batch)
        elif kind == "T" and batch < len(box.read):
            box.count("target", box.updates - box.read[batch] - 1, batch)
        elif kind == "U" and sibling:
            box.update(sibling)
        elif kind in ("U" if plan.sums_gradients else "B", "C"):
            # A step on micro-batches is as stale as the first of them.
            first = batch * plan.micro if kind == "U" else batch
            if first < len(box.read):
                last = first + plan.micro - 1 if kind == "U" else first
                box.count("update", box.updates - box.read[first] - (kind == "C"), last)
                box.update_own(first)


def _increments(box: _Box, journal: Sequence[Action], boxes: Mapping[int, _Box]) -> None:
    """Count the increments that a box applied, once every box's clocks are known."""
    seen, forwards = [0] * (box.plan.boxes + 1), 0
    for kind, batch, sibling in journal:
        forwards += kind == "F"
        if box.is_own(kind):
            seen[box.number] += 1
        elif kind == "U" and sibling:
            maker = boxes.get(sibling)
            if maker is not None and batch < len(maker.made):
                made, clock = maker.made[batch]
                stale = sum(max(have - had, 0) for have, had in zip(seen, clock, strict=True))
                box.forwards = forwards
                box.count("increment", stale, made)
            seen[sibling] += 1


def _histogram(by_updates: Counter[int], by_batches: Counter[int]) -> Histogram:
    return {
        "updates": {str(value): by_updates[value] for value in sorted(by_updates)},
        "batches": {str(value): by_batches[value] for value in sorted(by_batches)},
    }


def summary(histogram: Mapping[str, int]) -> dict[str, Any]:
    """Return count, median and largest value of a histogram."""
    pairs = sorted((int(value), count) for value, count in histogram.items())
    total, below = sum(count for _, count in pairs), 0
    for value, count in pairs:
        below += count
        if 2 * below >= total:
            return {"count": total, "median": value, "most": pairs[-1][0]}
    return {"count": 0, "median": None, "most": None}
