"""What a stage counts: what it has done, what has come, what it may send. Pure: integers only."""

from __future__ import annotations

from collections import deque

from . import actions as kind
from .actions import Action
from .learning import EARLY
from .plan import Plan

#: How many actions an error's story tells.
STORY = 12


class Counters:
    """Stage `number` of a plan at one moment. They say how many batches each action has done and each kind has come."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan = plan
        self.number = number
        self.name = plan.name(number)
        self.is_head = number == plan.head
        self.siblings = plan.siblings(number)
        self.replicas = plan.replicas(number)
        self.rule = plan.learns(number)
        self.settles_with = plan.backward_kind(number)
        self.settling_action = "T" if self.rule == "synthetic" else "B"
        self.corrects = plan.corrects and self.rule == "synthetic"
        #: Whether the gradient that C takes is another message than what T takes.
        self.awaits_truth = self.corrects and self.settles_with == kind.TARGET
        self._updates_early = self.rule in EARLY
        self.sums = plan.sums_gradients and not self.is_head
        self.micro = plan.micro
        self._batches = plan.batches
        self._evaluations = plan.evaluations
        self._final_evaluation = plan.final_evaluation
        self._saves = plan.saves

        self.forwards = 0  # F done; evaluations in the line before it are done
        self.settled = 0  # batches settled; forwards − settled ≤ window
        self.trained = 0  # T or B done; settled ≤ trained ≤ forwards
        self.corrected = 0  # C done; ≤ trained
        self.due = plan.due(0)  # E that stand before the next F; goes with `forwards`
        self.evaluated = 0  # E done
        self.save_due = 0  # S that stand before the next F; goes with `forwards`
        self.saved = 0  # S done
        self.applied = dict.fromkeys(self.siblings, 0)  # U done, by sibling; ≤ came[increment]
        self.applicable = self.until_next_save()  # those that are no later than the next S; goes with `saved`

        self.activations = 0  # came; forwards ≤ activations at every stage but box 1
        self.evaluations = 0
        self.backwards = 0  # targets or gradients; trained ≤ backwards ≤ forwards
        self.truths = 0  # gradients for C where T has a target; corrected ≤ truths ≤ forwards
        self.lengths = 0  # at box 1, of a task whose sequences grow: how long they are from some epoch on
        self.lengths_due = plan.lengths_before(0) if number == 1 else 0  # those that F needs; goes with `forwards`
        self.increments = dict.fromkeys(self.siblings, 0)

        # Credits to send, and messages taken whose credits are not given back yet; always credit + owed ≤ all of them.
        self.activation_credit = plan.activation_credits
        self.increment_credit = dict.fromkeys(self.replicas, plan.increment_credits)
        self.activation_owed = 0
        self.increment_owed = dict.fromkeys(self.siblings, 0)

        self.history: deque[Action] = deque(maxlen=STORY)

    def until_next_save(self) -> dict[int, int]:
        """Return how many increments of each sibling there are before the next checkpoint, or the end."""
        batches = self.plan.barrier(self.saved) if self.saved < self.plan.saves else self.plan.batches
        return {k: self.plan.updates(k, batches) for k in self.siblings}

    @property
    def stepped(self) -> int:
        """How many updates this stage has made of its own: batches settled, or batches' worth of micro-batches."""
        return self.settled // self.micro

    @property
    def is_drained(self) -> bool:
        """Whether every batch is forwarded, settled, and every sibling's increment is applied."""
        return self.forwards == self._batches and self._has_settled(self._batches)

    def _has_settled(self, batches: int) -> bool:
        """Whether so many batches are settled, and every sibling's increment of them is applied."""
        if self.settled < batches and not self.is_head:
            return False
        plan = self.plan
        return plan.sums_gradients or all(done >= plan.updates(k, batches) for k, done in self.applied.items())

    @property
    def is_done(self) -> bool:
        """Whether this stage has nothing more to do."""
        return self.evaluated == self._evaluations and self.is_drained
