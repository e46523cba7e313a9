"""A program's times without events: they are a linear recurrence in (max, +). Pure arithmetic on arrays of stages.

In a program every stage's order is fixed, so when an action starts is the latest of when its stage is free and when its
messages have come, and it ends its time later: only max and + (Baccelli et al. 1992, Synchronization and Linearity). A
batch's forwards run down the stages; with D the running sum of their times,

    end_k = max(end_{k−1} + hop, free_k) + d_k     =     D_k + max over j ≤ k of (free_j − D_{j−1})

which is one cumulative sum and one running maximum for all stages at once. Backwards run up in the same way, and what
does not run (the bootstrapped targets) is one maximum of two arrays. All times are integers, nanoseconds.

Costs are constants: the time of each action by stage and kind, one hop by edge. Credits count: a stage waits for room
at the next one as it does in `stage`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .costs import Costs
from .errors import ConfigError
from .plan import Plan

Times = NDArray[np.int64]


class Run(NamedTuple):
    """The length of a run and each stage's work, in nanoseconds, its actions, and their ends where they were wanted.

    `ends[kind]` is (batches, stages), E, S: (evaluations, stages), U (batches, boxes, siblings in their order).
    """

    makespan_ns: int
    busy_ns: Times
    actions: int
    ends: dict[str, Times]


def recur(plan: Plan, costs: Costs, *, keep_ends: bool = False) -> Run:
    """Return when everything happens in a program with constant costs; raises ConfigError for anything else."""
    return _Recurrence(plan, costs, keep_ends).run()


def _constants(plan: Plan, costs: Costs, kind: str) -> Times:
    found = [costs.actions.get((k, kind), (0,)) for k in range(1, plan.head + 1)]
    if any(len(samples) != 1 for samples in found):
        raise ConfigError(f"max-plus: {kind} has a distribution; the recurrence takes constants")
    times = [samples[0] for samples in found]
    if (emulation := costs.emulation) is not None:
        stages = range(1, plan.head + 1)
        times = [
            max(t, emulation.pad_ns(k, kind)) + emulation.slow_ns(k, kind) for k, t in zip(stages, times, strict=True)
        ]
    return np.array(times, np.int64)


class _Recurrence:
    """The recurrence of one plan, batch by batch. Arrays are over the stages, the head last."""

    def __init__(self, plan: Plan, costs: Costs, keep_ends: bool) -> None:
        if plan.schedule not in ("article", "locked"):
            raise ConfigError(f"max-plus: {plan.schedule} has no fixed order; it takes article and locked")
        if plan.grows:
            raise ConfigError(
                "max-plus: it knows nothing of the head's word, for which box 1 waits; simulate growing sequences"
            )
        own = "backward" if plan.schedule == "locked" else "synthetic"
        if plan.rule not in (own, "frozen") or plan.last or plan.corrects:
            raise ConfigError(
                "max-plus: it knows boxes that all learn by an oracle, by locked, or not at all; simulate the others"
            )
        if (
            not costs.is_plain
            or costs.straggle
            or not (costs.emulation is None or costs.emulation.is_constant)
            or 0 < costs.cores < plan.head
        ):
            raise ConfigError(
                "max-plus: free messages, constant hops and a processor for each stage are what it can do"
            )
        self.plan = plan
        self.n = plan.head
        self.time = {kind: _constants(plan, costs, kind) for kind in "FTBUES"}
        self.hops = {key: samples for key, samples in costs.hops.items() if len(samples) > 1}
        if self.hops:
            raise ConfigError("max-plus: a hop has a distribution; the recurrence takes constants")
        self._costs = costs
        self.down = self._edge(range(1, self.n), +1)  # stage k to k + 1, for k = 1 … n − 1
        self.up = self._edge(range(2, self.n + 1), -1)  # stage k to k − 1, for k = 2 … n
        # A running sum of times and hops turns the run down, or up, the stages into a running maximum.
        self.down_sum = {kind: self._running(self.time[kind], self.down) for kind in "FE"}
        self.up_sum = {kind: self._running(self.time[kind][:-1][::-1], self.up[::-1][1:]) for kind in "BT"}
        self.free = np.zeros(self.n, np.int64)
        self.began: list[Times] = []  # when the last activations and evaluations were started to be consumed
        self.ends: dict[str, list[Times]] = {kind: [] for kind in "FTBUES"} if keep_ends else {}
        self.siblings = plan.shares_increments
        self.between = self._between() if self.siblings else np.zeros((0, 0), np.int64)

    def _hop(self, source: int, target: int) -> int:
        return self._costs.hops.get((source, target), (0,))[0] + self._costs.latency_ns

    def _edge(self, stages: range, step: int) -> Times:
        return np.array([self._hop(k, k + step) for k in stages], np.int64)

    def _between(self) -> Times:
        boxes = range(1, self.plan.boxes + 1)
        return np.array([[self._hop(j, k) if j != k else 0 for k in boxes] for j in boxes], np.int64)

    @staticmethod
    def _running(times: Times, hops: Times) -> tuple[Times, Times]:
        """Return D_k, and D_{k−1} with the hop: what a stage's start is measured from."""
        hops = np.concatenate([np.zeros(1, np.int64), hops[: len(times) - 1]])
        ends = np.cumsum(times + hops)
        return ends, ends - times

    def run(self) -> Run:
        """Go through all batches and evaluations."""
        plan, evaluations = self.plan, 0
        one = {"article": self._synthetic, "locked": self._backward}[plan.schedule]
        step = self._forward if plan.rule == "frozen" else one
        for batch in range(plan.batches):
            step()
            for _ in range(evaluations, plan.due(batch + 1)):
                self._pass_down("E")
                evaluations += 1
            if plan.saves_before(batch + 1) > plan.saves_before(
                batch
            ):  # a batch has gone through: nothing is in flight
                self.free = self.free + self.time["S"]
                self._note("S", self.free)
        counts = self._counts()
        busy = sum((self.time[kind] * count for kind, count in counts.items()), np.zeros(self.n, np.int64))
        actions = int(sum(int(count.sum()) for count in counts.values()))
        ends = {kind: np.array(arrays) for kind, arrays in self.ends.items() if arrays}
        return Run(int(self.free.max()), busy, actions, ends)

    def _counts(self) -> dict[str, Times]:
        plan, boxes = self.plan, np.arange(self.n) < self.plan.boxes
        learns = plan.rule != "frozen"
        sibling = (plan.boxes - 1) * self.siblings if plan.rule == "synthetic" else int(plan.sums_gradients)
        none = np.zeros(self.n, np.int64)
        return {
            "F": none + plan.batches,
            "E": none + plan.evaluations,
            "S": none + plan.saves,
            "T": none + plan.batches * boxes * (plan.rule == "synthetic"),
            "B": none + plan.batches * boxes * (plan.rule == "backward"),
            "U": none + plan.batches * boxes * sibling * learns,
        }

    def _note(self, kind: str, ends: Times) -> None:
        if self.ends:
            self.ends[kind].append(ends.copy())

    def _pass_down(self, kind: str) -> Times:
        """Let a message run down all stages, each doing F or E with it, and return the ends."""
        ready = self._with_credit(self.free)
        ends_sum, starts_sum = self.down_sum[kind]
        ends = np.maximum.accumulate(ready - starts_sum) + ends_sum
        return self._passed(kind, ends)

    def _passed(self, kind: str, ends: Times) -> Times:
        self.began = [*self.began[-(self.plan.activation_credits - 1) :], ends - self.time[kind]]
        self.free = ends
        self._note(kind, ends)
        return ends

    def _with_credit(self, free: Times) -> Times:
        """Return when each stage is free and has room at the next: with one batch in flight a credit comes back at once."""
        credits = self.plan.activation_credits
        if len(self.began) < credits:
            return free
        ready = free.copy()
        np.maximum(ready[:-1], self.began[-credits][1:] + self.up, out=ready[:-1])
        return ready

    def _forward(self) -> None:
        self._pass_down("F")

    def _synthetic(self) -> None:
        if self.siblings:
            self._tied()
        else:
            forwards = self._pass_down("F")
            self._train(forwards, forwards)

    def _train(self, forwards: Times, free: Times) -> None:
        """Let every box train its oracle: on the next one's bootstrapped target, or on the true one that runs up."""
        took = self.time["T"][:-1]
        if self.plan.target != "bootstrapped":
            ends = self._pass_up("T", forwards[-1], free[:-1])
        else:
            ends = np.maximum(free[:-1], forwards[1:] + self.up) + took
        self.free = np.concatenate([ends, forwards[-1:]])
        self._note("T", ends)

    def _pass_up(self, kind: str, head: Any, free: Times) -> Times:
        """Let a gradient run up all boxes, and return the ends."""
        ready = free[::-1].copy()
        ready[0] = max(ready[0], head + self.up[-1])
        ends_sum, starts_sum = self.up_sum[kind]
        return (np.maximum.accumulate(ready - starts_sum) + ends_sum)[::-1]

    def _backward(self) -> None:
        forwards = self._pass_down("F")
        ends = self._pass_up("B", forwards[-1], forwards[:-1])
        self._note("B", ends)
        if self.plan.sums_gradients:
            came = (ends[:, None] + self.between).max(axis=0) if self.siblings else ends
            ends = np.maximum(ends, came) + self.time["U"][:-1]
            self._note("U", ends)
        self.free = np.concatenate([ends, forwards[-1:]])

    def _tied(self) -> None:
        """Do a batch of tied boxes: increments of boxes before, F, T at once or at the end, increments of boxes after."""
        plan, boxes, took = self.plan, self.plan.boxes, self.time["U"]
        free, ready = self.free, self._with_credit(self.free)
        forwards = np.zeros(self.n, np.int64)
        applied = np.zeros((boxes, boxes), np.int64)  # end of U j.i at box k, [k, j]
        for k in range(boxes):
            at = free[k]
            if k:  # a run over the siblings: each one's increment must have come
                ends = _in_turn(at, forwards[:k] + self.between[:k, k], took[k])
                applied[k, :k] = ends
                at = ends[-1]
            at = max(at, ready[k], forwards[k - 1] + self.down[k - 1] if k else 0)
            forwards[k] = at + self.time["F"][k]
        forwards[-1] = max(free[-1], forwards[-2] + self.down[-1]) + self.time["F"][-1]
        self._passed("F", forwards)
        trains_last = plan.target != "bootstrapped"
        if not trains_last:
            self._train(forwards, forwards)
        ends = self.free[:-1].copy()
        for k in range(boxes - 1):
            applied[k, k + 1 :] = _in_turn(ends[k], forwards[k + 1 : boxes] + self.between[k + 1 :, k], took[k])
            ends[k] = applied[k, -1]
        self.free = np.concatenate([ends, forwards[-1:]])
        self._note("U", applied)
        if trains_last:
            self._train(forwards, self.free)


def _in_turn(free: int, came: Times, took: int) -> Times:
    """Return the ends of actions of one stage that follow each other, each when its message has come."""
    places = np.arange(len(came) + 1, dtype=np.int64) * took
    begun = np.maximum.accumulate(np.concatenate([[free], came - places[:-1]]))
    ends: Times = begun[1:] + places[1:]
    return ends
