"""What time things take in virtual time: actions, messages and hops, as distributions, drawn by seed. Pure.

    actions   (stage, kind)             from the choice to the first message: the work and what surrounds it
    sends     (stage, message kind)     the sender's processor: encode and send
    takes     (stage, message kind)     the receiver's processor: receive, decode, keep
    hops      (source, target)          on the way; a receiver that sleeps wakes at its end
    pauses    stage                     from the end of its work to its sleep: seeing that there is nothing to do, records
    starts    stage                     before its first action or message: not drawn, all stages start at once

All in nanoseconds, each a tuple of samples, one is a constant; what is not named costs nothing. Samples of a run stand by
its batches, and what was slow at one batch was so everywhere. So it is batches that are drawn, in blocks that keep their
order (the circular block bootstrap, Politis and Romano 1992), and everything that is done for a batch costs what it did
for the drawn one. Drawn one by one, samples would be as many independent chances, and who waits for the latest of several
would wait too long.

A link of some bandwidth carries one message after the other; jitter adds up to so much to a hop, evenly; messages of an
edge never overtake each other. A straggler is an action that takes `factor` times as long, by chance. What a configuration
emulates is added to all that, and draws from its own seed, as it does live (`emulation`). What goes wrong on purpose (`faults`)
and takes time does so at its batch, which is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .emulation import Emulation, Link, Stragglers
from .faults import AtStage, late_ns

Samples = tuple[int, ...]
#: Gives the time of what is done for a batch.
Draw = Callable[[int], int]
#: Into so many blocks a run is cut that is drawn from.
BLOCKS = 64


@dataclass(frozen=True)
class Costs:
    """What everything costs; see the module. `cores` 0: a processor for each stage."""

    actions: Mapping[tuple[int, str], Samples] = field(default_factory=dict)
    sends: Mapping[tuple[int, str], Samples] = field(default_factory=dict)
    takes: Mapping[tuple[int, str], Samples] = field(default_factory=dict)
    hops: Mapping[tuple[int, int], Samples] = field(default_factory=dict)
    hops_of: Mapping[tuple[int, int, str], Samples] = field(default_factory=dict)  # by message kind; go before `hops`
    pauses: Mapping[int, Samples] = field(default_factory=dict)
    starts: Mapping[int, int] = field(default_factory=dict)
    latency_ns: int = 0  # added to every hop
    jitter_ns: int = 0
    bandwidth: float = 0.0  # bytes a second of every link; 0: no limit
    cores: int = 0
    emulation: Emulation | None = None
    straggle: float = 0.0  # the chance of an action to be a straggler
    factor: float = 10.0
    faults: tuple[AtStage, ...] = ()  # on purpose, those that take time

    @property
    def is_constant(self) -> bool:
        """Whether messages are free, actions and hops constant: nothing is drawn, and nothing takes turns on a link."""
        if self.emulation is not None and not self.emulation.is_constant:
            return False
        return self.is_plain and not self.straggle and not self.faults and self.has_constants

    @property
    def is_plain(self) -> bool:
        """Whether actions and hops are all that takes time, whatever is emulated, straggles or goes wrong on purpose."""
        is_free = not (self.sends or self.takes or self.hops_of or self.jitter_ns or self.bandwidth)
        return is_free and not self.pauses and not self.starts

    @property
    def has_constants(self) -> bool:
        """Whether each action and each hop always takes the same."""
        return all(len(samples) == 1 for table in (self.actions, self.hops) for samples in table.values())


def _stretched(draw: Draw, stragglers: Stragglers) -> Draw:
    return lambda batch: round(draw(batch) * stragglers.stretch())


def _late(draw: Draw, faults: tuple[AtStage, ...]) -> Draw:
    return lambda batch: draw(batch) + late_ns(faults, batch)


class Dice:
    """Draws from a cost model. Jitter and stragglers have streams of their own, so what is added disturbs no other."""

    def __init__(self, costs: Costs, seed: int, batches: int) -> None:
        self._costs = costs
        self._seed = seed
        tables = (costs.actions, costs.sends, costs.takes, costs.hops, costs.hops_of, costs.pauses)
        self._recorded = max((len(samples) for table in tables for samples in table.values()), default=1)
        length = max(1, self._recorded // BLOCKS)
        starts = self._rng(0).integers(0, self._recorded, -(-batches // length))
        # Blocks go round the end, so that every batch is as likely as any other. Batch: the one that is drawn for it.
        self._batches: list[int] = ((starts[:, None] + np.arange(length)) % self._recorded).ravel().tolist()

    def action(self, stage: int, kind: str) -> Draw:
        """Return what draws the time of an action."""
        costs = self._costs
        samples, stragglers = costs.actions.get((stage, kind), (0,)), None
        if costs.emulation is not None:
            pad, slow = costs.emulation.pad_ns(stage, kind), costs.emulation.slow_ns(stage, kind)
            samples = tuple(max(each, pad) + slow for each in samples)
            stragglers = costs.emulation.stragglers(stage, kind)
        draw = self._draw(samples)
        if stragglers is not None:
            draw = _stretched(draw, stragglers)
        draw = self._straggling(draw, stage, ord(kind)) if costs.straggle else draw
        faults = tuple(each for each in costs.faults if each.stage == stage) if kind == "F" else ()
        return _late(draw, faults) if faults else draw

    def send(self, stage: int, kind: str) -> Draw:
        """Return what draws the sender's time for a message."""
        return self._draw(self._costs.sends.get((stage, kind), (0,)))

    def take(self, stage: int, kind: str) -> Draw:
        """Return what draws the receiver's time for a message."""
        return self._draw(self._costs.takes.get((stage, kind), (0,)))

    def pause(self, stage: int) -> Draw:
        """Return what draws the time from the end of a stage's work to its sleep."""
        return self._draw(self._costs.pauses.get(stage, (0,)))

    def hop(self, source: int, target: int, kind: str = "") -> Draw:
        """Return what draws a message's time on its way, but for its size."""
        costs = self._costs
        samples = costs.hops_of.get((source, target, kind)) or costs.hops.get((source, target), (0,))
        draw = self._draw(tuple(each + costs.latency_ns for each in samples))
        return self._jittering(draw, source, target) if costs.jitter_ns else draw

    def straggling(self, stage: int, kind: str, count: int) -> NDArray[np.bool_]:
        """Return which of the first actions of a kind are stragglers: the draws of `action` in `simulate`, all at once.

        There the first draw is made when a stage is made, to see what a constant would be, and is nobody's.
        """
        return self._rng(1, stage, ord(kind)).random(count + 1)[1:] < self._costs.straggle

    def link(self, source: int, target: int) -> Link | None:
        """Return an edge as it is emulated, or None where it is not."""
        emulation = self._costs.emulation
        return None if emulation is None else emulation.link(source, target)

    def _rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *what])

    def _draw(self, samples: Samples) -> Draw:
        """Return the samples of the batches that are drawn; a shorter table is stretched over the run."""
        count, recorded = len(samples), self._recorded
        table = [samples[batch * count // recorded] for batch in self._batches] if count > 1 else [*samples]
        size = len(table)
        return lambda batch: table[batch % size]

    def _straggling(self, draw: Draw, *what: int) -> Draw:
        rng, chance, factor = self._rng(1, *what), self._costs.straggle, self._costs.factor
        return lambda batch: round(draw(batch) * factor) if rng.random() < chance else draw(batch)

    def _jittering(self, draw: Draw, *what: int) -> Draw:
        rng, most = self._rng(2, *what), self._costs.jitter_ns + 1
        return lambda batch: draw(batch) + int(rng.integers(0, most))
