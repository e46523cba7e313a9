"""What a configuration means in counts: stages, batches, evaluations, messages, credits. Pure integers, no array.

The learning rule of the boxes decides what travels backward and what settles a batch:

    rule        F also updates   consumes       settles by   sends back
    synthetic   yes              T: a target    T            target at F (bootstrapped) or gradient at T (true)
    backward    no               B: a gradient  B, or U      gradient at B
    frozen      no               nothing        F            nothing

With micro-batches the unit that travels, a "batch" to stages and messages, is one of them, and `micro` of them make one
update. A batch of the data is then a *step*. Everywhere else micro is 1, and a step is a batch.

Evaluations are batches of test images, numbered through the whole run: `rounds` times `chunks` of them. They stand in
one line with the forwards: `due(f)` says how many evaluations come before the forward of batch f.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .actions import GRADIENT, TARGET, stage_name, stage_number
from .schema import LABELS, ROWS, Config

#: Schedules whose boxes learn by the true gradient.
BACKWARD = ("locked", "gpipe", "1f1b", "delayed")

#: Most test images in one evaluation.
EVALUATION_ROWS = 500


class Plan(NamedTuple):
    """The counts that stages and schedules work with."""

    boxes: int
    batches: int
    epoch_batches: int
    evaluate_every: int
    chunks: int
    window: int
    tied: bool
    rule: str
    target: str
    schedule: str
    train: int
    batch: int
    test: int
    micro: int = 1  # batches, as they travel, in one update
    weights: str = "latest"  # through which a late gradient passes: those that its forward read (stash), or the latest
    delay: int = 0  # of schedule `delayed`, in batches
    program: str = ""  # the text of schedule `own`

    @classmethod
    def of(cls, config: Config) -> Plan:
        """Return the plan of a complete configuration."""
        schedule = config.schedule
        micro = schedule.micro_batches or 1
        batch = config.data.batch // micro
        epoch_batches = -(-config.data.train // batch)
        assert schedule.window is not None, "the configuration is not complete"
        return cls(
            boxes=config.model.boxes,
            batches=config.train.epochs * epoch_batches,
            epoch_batches=epoch_batches,
            evaluate_every=config.train.evaluate_every,
            chunks=-(-config.data.test // EVALUATION_ROWS),
            window=schedule.window,
            tied=config.model.tied,
            rule=rule_of(config),
            target=config.oracle.target,
            schedule=schedule.kind,
            train=config.data.train,
            batch=batch,
            test=config.data.test,
            micro=micro,
            weights=schedule.weights or "latest",
            delay=schedule.delay or 0,
            program=schedule.program,
        )

    @property
    def head(self) -> int:
        """The number of the head."""
        return self.boxes + 1

    @property
    def steps(self) -> int:
        """How many updates each box makes of its own: batches, or with micro-batches the batches of the data."""
        return self.batches // self.micro

    def step(self, batch: int) -> int:
        """Return which update a batch goes into: what U without a sibling, and increments of micro-batches, count."""
        return batch // self.micro

    def goes_back(self, number: int) -> bool:
        """Whether a stage has a B for every batch."""
        return number != self.head and self.rule == "backward"

    @property
    def sums_gradients(self) -> bool:
        """Whether several gradients make one step, the action `U3`: of all tied boxes, or of a batch's micro-batches."""
        return self.rule == "backward" and (self.tied or self.micro > 1)

    @property
    def shares_increments(self) -> bool:
        """Whether increments travel between siblings."""
        return self.tied and self.boxes > 1 and self.rule != "frozen"

    def name(self, number: int) -> str:
        """Return a stage's name."""
        return stage_name(number, self.boxes)

    def number(self, name: str) -> int:
        """Return a stage's number."""
        return stage_number(name, self.boxes)

    def siblings(self, number: int) -> tuple[int, ...]:
        """Return the other boxes that share a box's weights, in their order."""
        if not self.shares_increments or number == self.head:
            return ()
        return tuple(k for k in range(1, self.boxes + 1) if k != number)

    def backward_kind(self, number: int) -> str | None:
        """Return the kind of message that settles a batch at a box: gradient, target or none."""
        if number == self.head or self.rule == "frozen":
            return None
        if self.rule == "synthetic" and self.target == "bootstrapped" and number < self.boxes:
            return TARGET
        return GRADIENT

    def sources(self, number: int) -> tuple[int, ...]:
        """Return the stages that send to stage `number` (data or credits), in their order."""
        near = {k for k in (number - 1, number + 1) if 1 <= k <= self.head}
        return tuple(sorted(near.union(self.siblings(number))))

    @property
    def activation_credits(self) -> int:
        """How many activations and evaluations of one edge may be on their way or waiting.

        Twice the window, because credits come back by the half (`Stage`).
        """
        return 2 * self.window

    @property
    def increment_credits(self) -> int:
        """How many increments of one edge may be on their way or waiting.

        Box j leads box k by at most window·|k − j|, so with window·boxes + 1 of them increments never block a stage whose
        sibling takes what has come; twice as many are given because credits come back by the half (`Stage`).
        """
        return 2 * (self.window * self.boxes + 1)

    def most_waiting(self) -> int:
        """Return how many messages of one edge can be on their way at most, of all kinds: a bound for the high-water mark."""
        return self.activation_credits + self.window + (self.increment_credits if self.shares_increments else 0) + 4

    def rows(self, batch: int) -> int:
        """Return how many images are in a batch; the last one of an epoch may be smaller."""
        return min(self.batch, self.train - batch % self.epoch_batches * self.batch)

    def evaluation_rows(self, evaluation: int) -> int:
        """Return how many images are in an evaluation."""
        return min(EVALUATION_ROWS, self.test - evaluation % self.chunks * EVALUATION_ROWS)

    def due(self, forwards: int) -> int:
        """Return how many evaluations come before the forward of batch `forwards`."""
        if forwards == self.batches:
            return self.evaluations
        return self.chunks * (forwards // self.epoch_batches // self.evaluate_every) if self.evaluate_every else 0

    @property
    def evaluations(self) -> int:
        """All evaluations of the run. The last round always follows the last batch."""
        epochs = self.batches // self.epoch_batches
        if not self.evaluate_every:
            return self.chunks
        return self.chunks * -(-epochs // self.evaluate_every)

    @property
    def final_evaluation(self) -> int:
        """The first evaluation of the last round: it follows the drain."""
        return self.evaluations - self.chunks


def rule_of(config: Config) -> str:
    """Return how boxes learn: by their oracles (synthetic), by the true gradient (backward), or not at all (frozen)."""
    if config.oracle.kind == "frozen":
        return "frozen"
    if config.schedule.kind == "own":
        has = set(re.findall(r"(?<![\w-])([TB])\d*\b", re.sub("#.*", "", config.schedule.program)))
        return "synthetic" if "T" in has else "backward" if "B" in has else "frozen"
    return "backward" if config.schedule.kind in BACKWARD else "synthetic"


def box_steps(config: Config) -> tuple[int, ...]:
    """Return the time steps of each box; rows are spread evenly, the first boxes take one more."""
    boxes, steps = config.model.boxes, config.model.steps_per_box
    if steps:
        return (steps,) * boxes
    if config.data.reading == "vector":
        return (1,) * boxes
    share, more = divmod(ROWS, boxes)
    return tuple(share + (k < more) for k in range(boxes))


def inputs(config: Config) -> int:
    """Return the number of inputs of one step: a whole image, or a row of it."""
    return ROWS if config.data.reading == "rows" else ROWS * ROWS


def outputs(config: Config) -> int:
    """Return the head's outputs: one sigmoid for two digits, else one a digit."""
    labels = LABELS[config.data.name]
    return 1 if labels == 2 and config.model.loss != "softmax" else labels
