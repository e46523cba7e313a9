"""Another machine than this one: how long actions and messages are made to take. The same live and in virtual time. Pure.

    F, B, T of a box    padded to `compute_ms`, then `slow` more for an F, then `factor` times as long for a straggler
    a message           leaves when its link has carried what was given to it before (`bandwidth`), arrives `delay_ms` and up to
                        `jitter` later, and never before one that left earlier on its edge

What is drawn has a stream of its own for each edge and for each kind of action of a stage, from `emulate.seed`, in the order of
messages and actions. That order is the same wherever they happen, and so is what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .plan import Plan
from .schema_emulate import Emulate

NS = 1e6  # a millisecond's
#: What emulated compute takes the place of; U, E and the head keep their own.
PADDED = "FBT"


def of_each(value: float | Mapping[str, float], name: str) -> float:
    """Return what a key says of one name: its own value, else that of `all`, else the single one; 0 where there is none."""
    if isinstance(value, Mapping):
        return float(value.get(name, value.get("all", 0.0)))
    return float(value)


class Link:
    """What one directed edge does to its messages. All in nanoseconds."""

    def __init__(self, delay_ns: int, jitter_ns: int, ns_a_byte: float, rng: np.random.Generator) -> None:
        self._delay = delay_ns
        self._jitter = jitter_ns
        self.ns_a_byte = ns_a_byte
        self._rng = rng
        self._free = 0  # when it has carried what it was given
        self._last = 0  # the arrival before

    def arrival(self, sent_ns: int, size: int) -> int:
        """Return when a message of `size` bytes, the next one on this edge, arrives."""
        self._free = max(sent_ns, self._free) + round(size * self.ns_a_byte)
        at = self._free + self._delay
        if self._jitter:
            at += int(self._rng.integers(0, self._jitter + 1))
        self._last = max(at, self._last)
        return self._last


class Stragglers:
    """How many times as long the next action of a kind takes."""

    def __init__(self, chance: float, factor: float, rng: np.random.Generator) -> None:
        self._chance = chance
        self._factor = factor
        self._rng = rng

    def stretch(self) -> float:
        """Return the factor of the next action."""
        return self._factor if self._rng.random() < self._chance else 1.0


class Emulation:
    """What a configuration emulates."""

    def __init__(self, emulate: Emulate, plan: Plan) -> None:
        self.emulate = emulate
        self.plan = plan

    def pad_ns(self, number: int, kind: str) -> int:
        """Return how long an action takes at least."""
        if number == self.plan.head or kind not in PADDED:
            return 0
        return round(of_each(self.emulate.compute_ms, kind) * NS)

    def slow_ns(self, number: int, kind: str) -> int:
        """Return how much longer an action takes."""
        return round(self.emulate.slow.get(self.plan.name(number), 0.0) * NS) if kind == "F" else 0

    def stragglers(self, number: int, kind: str) -> Stragglers | None:
        """Return what makes actions of a kind stragglers, or None."""
        if number == self.plan.head or kind not in PADDED or not self.emulate.straggle:
            return None
        rng = np.random.default_rng([self.emulate.seed, 1, number, ord(kind)])
        return Stragglers(self.emulate.straggle, self.emulate.factor, rng)

    def link(self, source: int, target: int) -> Link | None:
        """Return a new edge as it is emulated, or None where it is left as it is."""
        emulate, edge = self.emulate, f"{self.plan.name(source)}>{self.plan.name(target)}"
        delay, jitter = of_each(emulate.delay_ms, edge), of_each(emulate.jitter, edge)
        bandwidth = of_each(emulate.bandwidth, edge)
        if not (delay or jitter or bandwidth):
            return None
        rng = np.random.default_rng([emulate.seed, 2, source, target])
        return Link(round(delay * NS), round(jitter * NS), 1e3 / bandwidth if bandwidth else 0.0, rng)

    @property
    def is_constant(self) -> bool:
        """Whether actions take the same time always, and edges are left as they are."""
        return not (self.emulate.straggle or self.changes_messages)

    @property
    def changes_messages(self) -> bool:
        """Whether any edge is emulated."""
        return bool(self.emulate.delay_ms or self.emulate.jitter or self.emulate.bandwidth)
