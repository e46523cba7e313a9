"""What a configuration means in counts: stages, batches, evaluations, messages, credits. Pure integers, no array.

The learning rule of the boxes decides what travels backward and what settles a batch:

    rule        F also updates   consumes                 settles by   sends back
    synthetic   yes              T: a target              T            target at F (bootstrapped), or gradient at T
      corrected                  T, and C: a gradient     C            target at F and gradient at C, or gradient at T
    backward    no               B: a gradient            B, or U      gradient at B
    local       yes              nothing                  F            nothing
    traced      yes              nothing                  F            nothing
    frozen      no               nothing                  F            nothing

All boxes learn alike, but for the last one: the head is next to it, so that it may do without an oracle among boxes that have
one, or learn where the others do not. A gradient goes back to a box that has a use for it.

With micro-batches the unit that travels, a "batch" to stages and messages, is one of them, and `micro` of them make one
update. A batch of the data is then a *step*. Everywhere else micro is 1, and a step is a batch.

Evaluations are batches of test images, numbered through the whole run: `rounds` times `chunks` of them. They stand in
one line with the forwards: `due(f)` says how many evaluations come before the forward of batch f.

Checkpoints stand in it too, each a barrier: after every `save_every` batches, behind the evaluations that are due there, all
that has been forwarded is settled at every stage and every increment applied, and then each stage saves. None follows the last
batch: the final weights are there then.
"""

from __future__ import annotations

from typing import NamedTuple

from .actions import GRADIENT, TARGET, stage_name, stage_number
from .learning import ONE_BY_ONE, rules_of, target_of
from .schema import Config
from .sizes import judged, reads

#: Most test images in one evaluation.
EVALUATION_ROWS = 500
#: How many epochs after one sequences may be longer for its cost. With one in between, no stage waits for the decision.
LAG = 2


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
    last: str = ""  # the rule of the last box, where it is another
    corrects: bool = False  # whether a box with an oracle corrects its update when the true gradient comes
    cell: str = "rnn"
    function: str = "tanh"  # of dense layers
    reads: bool = False  # whether boxes read their own steps: a target at every step, and no layer at the head
    grows: bool = False  # whether the head tells box 1, epoch by epoch, how long sequences are
    save_every: int = 0  # batches, as they travel, between two checkpoints; 0: there are none

    @classmethod
    def of(cls, config: Config) -> Plan:
        """Return the plan of a complete configuration."""
        schedule, (rule, last) = config.schedule, rules_of(config)
        micro = schedule.micro_batches or 1
        batch = config.data.batch // micro
        epoch_batches = -(-config.data.train // batch)
        assert schedule.window is not None, "the configuration is not complete"
        return cls(
            boxes=config.model.boxes,
            batches=config.train.epochs * epoch_batches,
            epoch_batches=epoch_batches,
            evaluate_every=config.train.evaluate_every,
            chunks=-(-judged(config.data) // EVALUATION_ROWS),
            window=schedule.window,
            tied=config.model.tied,
            rule=rule,
            target=target_of(config),
            schedule=schedule.kind,
            train=config.data.train,
            batch=batch,
            test=judged(config.data),
            micro=micro,
            weights=schedule.weights or "latest",
            delay=schedule.delay or 0,
            program=schedule.program,
            last=last if last != rule else "",
            corrects=config.oracle.correct and rule == "synthetic",
            cell=config.model.cell,
            function=config.model.function,
            reads=reads(config),
            grows=reads(config) and config.data.curriculum,
            save_every=config.checkpoint.every * micro,
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

    def learns(self, number: int) -> str:
        """Return the rule by which a box learns; of the head, nothing."""
        if number == self.head:
            return ""
        return self.last or self.rule if number == self.boxes else self.rule

    def goes_back(self, number: int) -> bool:
        """Whether a stage has a B for every batch."""
        return self.learns(number) == "backward"

    def wants_gradients(self, number: int) -> bool:
        """Whether anything is to come back to a stage."""
        return self.learns(number) in ("synthetic", "backward")

    def settles_by(self, number: int) -> str:
        """Return the action that settles a batch at a box: T, C, B, U, or F itself."""
        rule = self.learns(number)
        if rule == "synthetic":
            return "C" if self.corrects else "T"
        if rule == "backward":
            return "U" if self.sums_gradients else "B"
        return "F"

    @property
    def sums_gradients(self) -> bool:
        """Whether several gradients make one step, the action `U3`: of all tied boxes, or of a batch's micro-batches."""
        return self.rule == "backward" and self.schedule not in ONE_BY_ONE and (self.tied or self.micro > 1)

    @property
    def shares_increments(self) -> bool:
        """Whether increments travel between siblings."""
        return self.tied and self.boxes > 1 and self.learns(self.boxes) != "frozen"

    def updates(self, number: int, batches: int | None = None) -> int:
        """Return how many updates a box makes of its own in so many batches, or in the whole run."""
        rule, batches = self.learns(number), self.batches if batches is None else batches
        if rule == "backward":
            return batches // self.micro
        return batches * {"synthetic": 1 + self.corrects, "local": 1, "traced": 1}.get(rule, 0)

    def name(self, number: int) -> str:
        """Return a stage's name."""
        return stage_name(number, self.boxes)

    def number(self, name: str) -> int:
        """Return a stage's number."""
        return stage_number(name, self.boxes)

    def siblings(self, number: int) -> tuple[int, ...]:
        """Return the other boxes whose increments a box applies to the weights that they share, in their order."""
        if not self.shares_increments or number == self.head:
            return ()
        return tuple(k for k in range(1, self.boxes + 1) if k != number and self.learns(k) != "frozen")

    def replicas(self, number: int) -> tuple[int, ...]:
        """Return the other boxes that apply a box's increments, in their order."""
        if not self.shares_increments or self.learns(number) in ("", "frozen"):
            return ()
        return tuple(k for k in range(1, self.boxes + 1) if k != number)

    def backward_kind(self, number: int) -> str | None:
        """Return the kind of message that T or B takes at a box: gradient, target or none."""
        if not self.wants_gradients(number):
            return None
        is_early = self.learns(number + 1) == "synthetic" and self.target == "bootstrapped"
        return TARGET if is_early and self.learns(number) == "synthetic" else GRADIENT

    def sources(self, number: int) -> tuple[int, ...]:
        """Return the stages that send to stage `number` (data or credits), in their order."""
        near = {k for k in (number - 1, number + 1) if 1 <= k <= self.head}
        if self.grows and number in (1, self.head):  # the head tells box 1 how long sequences are
            near.add(self.boxes + 2 - number)
        return tuple(sorted(near.union(self.siblings(number), self.replicas(number))))

    @property
    def lengths(self) -> int:
        """How many times the head tells box 1 how long sequences are: once for each epoch that may be longer for its cost."""
        return max(self.batches // self.epoch_batches - LAG, 0) if self.grows else 0

    def lengths_before(self, batch: int) -> int:
        """Return how many of these must have come before box 1 forwards a batch."""
        return max(batch // self.epoch_batches - LAG + 1, 0) if self.grows else 0

    def lengths_after(self, forwards: int) -> int:
        """Return how many of these the head has sent after so many forwards."""
        return min(forwards // self.epoch_batches, self.lengths)

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
        sibling takes what has come; twice as many are given because credits come back by the half (`Stage`), and twice that
        where a batch makes two.
        """
        return 2 * (self.window * self.boxes + 1) * (1 + self.corrects)

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
    def saves(self) -> int:
        """How many checkpoints the run has."""
        return (self.batches - 1) // self.save_every if self.save_every else 0

    def saves_before(self, forwards: int) -> int:
        """Return how many checkpoints come before the forward of batch `forwards`."""
        return min(forwards // self.save_every, self.saves) if self.save_every else 0

    def barrier(self, save: int) -> int:
        """Return after how many batches a checkpoint is taken."""
        return (save + 1) * self.save_every

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
