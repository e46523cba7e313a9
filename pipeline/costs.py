"""What time things take in virtual time: actions, messages and hops, as distributions, drawn by seed. Pure.

    actions   (stage, kind)             from the choice to the first message: the work and what surrounds it
    sends     (stage, message kind)     the sender's processor: encode and send
    takes     (stage, message kind)     the receiver's processor: receive, decode, keep
    hops      (source, target)          on the way; a receiver that sleeps wakes at its end

All in nanoseconds, each a tuple of samples: one is a constant, more are drawn from with equal chance. What is not named
costs nothing. A link of some bandwidth carries one message after the other; jitter adds up to so much to a hop, evenly;
messages of an edge never overtake each other. A straggler is an action that takes `factor` times as long, by chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

Samples = tuple[int, ...]
Draw = Callable[[], int]
#: Numbers drawn at a time.
LOT = 1024


@dataclass(frozen=True)
class Costs:
    """What everything costs; see the module. `cores` 0: a processor for each stage."""

    actions: Mapping[tuple[int, str], Samples] = field(default_factory=dict)
    sends: Mapping[tuple[int, str], Samples] = field(default_factory=dict)
    takes: Mapping[tuple[int, str], Samples] = field(default_factory=dict)
    hops: Mapping[tuple[int, int], Samples] = field(default_factory=dict)
    latency_ns: int = 0  # added to every hop
    jitter_ns: int = 0
    bandwidth: float = 0.0  # bytes a second of every link; 0: no limit
    cores: int = 0
    slow: Mapping[int, int] = field(default_factory=dict)  # stage: nanoseconds added to each F
    straggle: float = 0.0  # the chance of an action to be a straggler
    factor: float = 10.0


class Dice:
    """Draws from a cost model. Every source of chance has its own stream, so what is added disturbs no other."""

    def __init__(self, costs: Costs, seed: int) -> None:
        self._costs = costs
        self._seed = seed

    def action(self, stage: int, kind: str) -> Draw:
        """Return what draws the time of an action."""
        costs = self._costs
        samples = costs.actions.get((stage, kind), (0,))
        if kind == "F" and stage in costs.slow:
            samples = tuple(each + costs.slow[stage] for each in samples)
        if not costs.straggle:
            return self._draw(samples, 0, stage, ord(kind))
        return self._straggling(samples, stage, ord(kind)).__next__

    def send(self, stage: int, kind: str, code: int) -> Draw:
        """Return what draws the sender's time for a message."""
        return self._draw(self._costs.sends.get((stage, kind), (0,)), 1, stage, code)

    def take(self, stage: int, kind: str, code: int) -> Draw:
        """Return what draws the receiver's time for a message."""
        return self._draw(self._costs.takes.get((stage, kind), (0,)), 2, stage, code)

    def hop(self, source: int, target: int) -> Draw:
        """Return what draws a message's time on its way, but for its size."""
        costs = self._costs
        samples = tuple(each + costs.latency_ns for each in costs.hops.get((source, target), (0,)))
        if not costs.jitter_ns:
            return self._draw(samples, 3, source, target)
        return self._jittering(samples, source, target).__next__

    def _rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *what])

    def _draw(self, samples: Samples, *what: int) -> Draw:
        if len(samples) == 1:
            return itertools.repeat(samples[0]).__next__
        return self._drawing(samples, *what).__next__

    def _drawing(self, samples: Samples, *what: int) -> Iterator[int]:
        rng, array = self._rng(*what), np.array(samples, np.int64)
        while True:
            yield from array[rng.integers(0, len(array), LOT)].tolist()

    def _straggling(self, samples: Samples, *what: int) -> Iterator[int]:
        rng, factor = self._rng(4, *what), self._costs.factor
        for took in self._drawing(samples, 0, *what):
            yield round(took * factor) if rng.random() < self._costs.straggle else took

    def _jittering(self, samples: Samples, *what: int) -> Iterator[int]:
        rng = self._rng(5, *what)
        for took in self._drawing(samples, 3, *what):
            yield took + int(rng.integers(0, self._costs.jitter_ns + 1))
