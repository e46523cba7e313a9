"""Thousands of stages in virtual time: what `simulate` does, an action of every stage at a time. Pure arithmetic on arrays.

An event costs 20 to 30 µs, so 10,000 stages whose pipeline is to be full, some 10⁸ actions, would take hours. Here a
*round* lets every stage that safely can do its next action, in a few dozen array operations. Nothing is approximated: the
draws, the order at each stage and the times are those of `simulate`, to the nanosecond; a test compares them.

    program (locked, 1f1b)   the next action is known; it starts when the stage is free and its message has come
    decoupled                a target goes first. Which of T and F comes next depends on what has come by then, so a stage
                             decides only what no message that is still to be sent can change

Such a message is bounded from below (conservative simulation, Chandy and Misra 1979): it needs an action, and a hop, for each
stage on its way, so from stage m it comes to stage k no sooner than when m may act next, and |k − m| times (shortest action +
shortest hop) later. That is a running minimum from each side.

Only what is next to each other talks: untied boxes, bootstrapped targets or true gradients. Credits never bind: a batch that is
settled was taken by the next stage, whose credit left before its target (`stage`, rule 8). Evaluations are left out.

    stage  1 ── activation i, at end of F + hop ──▶  2  ──▶ … ──▶  head
           1 ◀── target i (of F), gradient i (of B) ──  2  ◀── …
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .costs import Costs, Dice
from .errors import ConfigError, ScheduleError
from .plan import Plan

Times = NDArray[np.int64]
Counts = NDArray[np.int64]

NEVER = 1 << 60
#: A queue of arrivals begins with so many places a stage.
PLACES = 8
#: Is told of actions that are done: kind, stages (numbers less one), their batches, start and end, and how late T or B is.
Tell = Callable[[str, Counts, Counts, Times, Times, Counts], None]


class Abreast(NamedTuple):
    """What came of it: its length and each stage's work and end, in nanoseconds, and the actions and rounds it took."""

    makespan_ns: int
    busy_ns: Times
    ended_ns: Times
    actions: int
    rounds: int


class _Queue:
    """When messages arrive at each stage, in their order: a ring a stage, which grows where more are on their way."""

    def __init__(self, stages: int) -> None:
        self._stages = stages
        self._resize(np.zeros((stages, PLACES), np.int64))

    def _resize(self, rings: Times) -> None:
        self._size = rings.shape[1]  # a power of two
        self._ring = rings.ravel()
        self._first = np.arange(self._stages, dtype=np.int64) * self._size

    def put(self, stages: Counts, numbers: Counts, at: Times, taken: Counts) -> None:
        """Let message `numbers` arrive, where so many were taken before."""
        while int((numbers - taken).max()) >= self._size:
            # A number's place modulo twice the size is one of two, and both hold it.
            rings = self._ring.reshape(self._stages, self._size)
            self._resize(np.concatenate([rings, rings], axis=1))
        self._ring[self._first[stages] + (numbers & (self._size - 1))] = at

    def at(self, stages: slice, numbers: Counts) -> Times:
        """Return when a message of each stage arrives (whatever stands there, where it was not sent yet)."""
        came: Times = self._ring.take(self._first[stages] + (numbers & (self._size - 1)))
        return came


def abreast(plan: Plan, costs: Costs, *, seed: int = 0, tell: Tell | None = None) -> Abreast:
    """Run a plan in virtual time, all stages abreast; raises ConfigError for what it does not know."""
    return _Abreast(plan, costs, seed, tell).run()


class _Abreast:
    """The state of all stages: arrays over them, the head last."""

    def __init__(self, plan: Plan, costs: Costs, seed: int, tell: Tell | None) -> None:
        _check(plan, costs)
        self.plan, self.tell, count = plan, tell, plan.head
        self.is_greedy = plan.schedule == "decoupled"
        self.settling = "T" if self.is_greedy else "B"
        self.times = {kind: _constants(costs, plan, kind) for kind in "F" + self.settling}
        self.slow = {kind: np.array([round(int(t) * costs.factor) for t in each]) for kind, each in self.times.items()}
        self.dice = _straggling(plan, costs, seed, tuple(self.times))
        self.hop_down = np.array([_hop(costs, k, k + 1) for k in range(1, count)] + [0], np.int64)
        self.hop_up = np.array([0] + [_hop(costs, k, k - 1) for k in range(2, count + 1)], np.int64)
        self.most = np.full(count, plan.window)  # batches in flight
        if plan.schedule == "1f1b":
            self.most = np.arange(count, 0, -1)
        self.most[-1] = plan.batches + 1  # the head settles nothing
        boxes = {kind: each[:-1] if kind == self.settling else each for kind, each in self.times.items()}
        hops = np.concatenate([self.hop_down[:-1], self.hop_up[1:]])
        self.step = int(min(each.min() for each in boxes.values()) + hops.min())
        self.forwards = np.zeros(count, np.int64)
        self.settled = np.zeros(count, np.int64)
        self.free = np.zeros(count, np.int64)
        self.busy = np.zeros(count, np.int64)
        self.activations, self.backwards = _Queue(count), _Queue(count)
        self.places = np.arange(count, dtype=np.int64)

    def run(self) -> Abreast:
        """Go on, round by round, until all is done; stages that are done or not yet reached are left out."""
        plan, head, rounds = self.plan, self.plan.head, 0
        low, high = 0, min(2, head)  # who is looked at
        while low < head:
            did = self._round(low, high)
            rounds += 1
            if not did:
                raise ScheduleError(f"comes to a standstill in virtual time after {rounds:,} rounds")
            if high < head and self.forwards[high - 1]:
                high += 1
            while low < head and self._is_done(low):
                low += 1
        actions = int(self.forwards.sum() + self.settled.sum())
        assert actions == plan.batches * (2 * plan.boxes + 1)
        return Abreast(int(self.free.max()), self.busy, self.free, actions, rounds)

    def _is_done(self, k: int) -> bool:
        all_of_them = self.plan.batches
        return bool(self.forwards[k] == all_of_them and (k == self.plan.boxes or self.settled[k] == all_of_them))

    def _round(self, low: int, high: int) -> bool:
        """Let every stage of low … high − 1 that can do one action, and return whether any did."""
        here = slice(low, high)
        forwards, settled, free = self.forwards[here], self.settled[here], self.free[here]
        forward_at, settle_at = self._candidates(here)
        if self.is_greedy:
            is_settling = settle_at <= forward_at
            start = np.where(is_settling, settle_at, forward_at)
            places = self.places[here] * self.step
            before = np.full(high - low, NEVER)
            before[1:] = np.minimum.accumulate(start - places)[:-1] + places[1:]
            after = np.full(high - low, NEVER)
            after[:-1] = np.minimum.accumulate((start + places)[::-1])[::-1][1:] - places[:-1]
            # A target goes first, also one that comes when an activation does. What is known to come later decides too.
            is_full = (forwards - settled >= self.most[here]) | (forwards == self.plan.batches)
            may_settle = (start <= before) | (settle_at == free) | (forward_at < NEVER) | is_full
            may_forward = (start < after) | (settled == forwards) | (settle_at < NEVER)
            can = np.where(is_settling, may_settle, may_forward) & (start < NEVER)
        else:
            is_settling = settle_at < NEVER  # at most one of them is next
            start = np.minimum(settle_at, forward_at)
            can = start < NEVER
        for kind, which in (("F", can & ~is_settling), (self.settling, can & is_settling)):
            stages = np.flatnonzero(which)
            if len(stages):
                self._do(kind, stages + low, start[stages])
        return bool(can.any())

    def _candidates(self, here: slice) -> tuple[Times, Times]:
        """Return when each stage's next F, and T or B, starts by what is known: NEVER where something is missing."""
        low, high, batches = here.start, here.stop, self.plan.batches
        forwards, settled, free = self.forwards[here], self.settled[here], self.free[here]
        can = (forwards < batches) & (forwards - settled < self.most[here])
        is_next = can.copy()  # by a program
        if low == 0:
            can[1:] &= forwards[1:] < forwards[:-1]
        else:
            can &= forwards < self.forwards[low - 1 : high - 1]
        came = self.activations.at(here, forwards)
        if low == 0:
            came[0] = 0  # the data
        forward_at = np.where(can, np.maximum(free, came), NEVER)
        sent = np.zeros(high - low, np.int64)  # what comes back: of F (targets, the head's gradient) or of B
        stop = min(high + 1, self.plan.head)
        source = self.forwards if self.is_greedy else self.settled
        sent[: stop - low - 1] = source[low + 1 : stop]
        if stop == self.plan.head and stop - low >= 2:
            sent[stop - low - 2] = self.forwards[-1]
        can = (settled < forwards) & (settled < sent)
        if not self.is_greedy:
            can &= ~is_next
        settle_at = np.where(can, np.maximum(free, self.backwards.at(here, settled)), NEVER)
        return forward_at, settle_at

    def _do(self, kind: str, stages: Counts, start: Times) -> None:
        """Do an action of each of these stages, and let its messages leave."""
        is_forward, head = kind == "F", self.plan.head - 1
        counts = self.forwards if is_forward else self.settled
        batches = counts[stages]
        took = self.times[kind][stages]
        if (drawn := self.dice.get(kind)) is not None:
            is_slow = (drawn[stages, batches >> 3] >> (7 - (batches & 7)).astype(np.uint8)) & 1
            took = np.where(is_slow, self.slow[kind][stages], took)
        end = start + took
        self.free[stages] = end
        self.busy[stages] += took
        if self.tell is not None:
            self.tell(kind, stages, batches, start, end, self.forwards[stages] - 1 - batches)
        counts[stages] += 1
        if is_forward:
            onward = stages < head
            self._send(self.activations, self.forwards, stages[onward], batches[onward], end[onward], +1)
        # A target leaves with F, a gradient with B; only the head's F sends one at once.
        back = stages > 0 if is_forward == self.is_greedy else (stages == head) & is_forward
        self._send(self.backwards, self.settled, stages[back], batches[back], end[back], -1)

    def _send(self, queue: _Queue, taken: Counts, stages: Counts, numbers: Counts, at: Times, way: int) -> None:
        if len(stages):
            hops = self.hop_down if way > 0 else self.hop_up
            queue.put(stages + way, numbers, at + hops[stages], taken[stages + way])


def _check(plan: Plan, costs: Costs) -> None:
    kinds = {"decoupled": ("synthetic", "bootstrapped"), "locked": ("backward",), "1f1b": ("backward",)}
    known = kinds.get(plan.schedule)
    if known is None or plan.rule != known[0] or plan.last or plan.corrects or plan.tied or plan.micro > 1:
        raise ConfigError(
            "abreast: it knows untied boxes by decoupled (with oracles), locked and 1f1b without micro-batches"
        )
    if (plan.target not in known and plan.rule == "synthetic") or plan.grows or plan.save_every:
        raise ConfigError(
            "abreast: it knows bootstrapped targets, sequences of one length, and no checkpoints; simulate the others"
        )
    if plan.schedule == "1f1b" and plan.window < plan.head:
        raise ConfigError(f"abreast: 1f1b needs a window of {plan.head} batches, not {plan.window}")
    is_more = costs.emulation is not None or costs.faults or 0 < costs.cores < plan.head
    if is_more or not costs.is_plain or not costs.has_constants:
        raise ConfigError(
            "abreast: constant actions and hops, stragglers, and a processor for each stage are what it can"
        )


def _constants(costs: Costs, plan: Plan, kind: str) -> Times:
    return np.array([costs.actions.get((k, kind), (0,))[0] for k in range(1, plan.head + 1)], np.int64)


def _hop(costs: Costs, source: int, target: int) -> int:
    return costs.hops.get((source, target), (0,))[0] + costs.latency_ns


def _straggling(plan: Plan, costs: Costs, seed: int, kinds: tuple[str, ...]) -> dict[str, NDArray[np.uint8]]:
    """Return which actions are stragglers, a bit a batch, in rows of stages; nothing where none is."""
    if not costs.straggle:
        return {}
    dice = Dice(costs, seed, 1)
    return {
        kind: np.array([np.packbits(dice.straggling(k, kind, plan.batches)) for k in range(1, plan.head + 1)])
        for kind in kinds
    }
