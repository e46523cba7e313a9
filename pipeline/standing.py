"""Where a stage stands: its counters, and by the rules of `stage` what is enabled and what it lacks. Pure: integers only.

Nothing here changes a counter. `Stage` does, when messages come and actions are done; `at` counts them from journals.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from . import actions as kind
from .actions import Action, format_journal
from .lacks import (
    BACKWARD_FIRST,
    CORRECTED,
    CREDIT,
    DRAIN,
    DRAIN_FORWARD,
    EVALUATED,
    EVALUATED_SO_FAR,
    EVALUATION_FIRST,
    FOREIGN,
    FORWARD_FIRST,
    FORWARDED,
    MESSAGE,
    NO_SUM,
    NOT_SIBLING,
    NOTHING_BACK,
    ORDER,
    SETTLED,
    STRANGER,
    SUM_ONLY,
    TRAIN_FIRST,
    WINDOW,
    Lack,
    awaited,
    explain,
)
from .plan import EARLY, Plan

#: How many actions an error's story tells.
STORY = 12


class Standing:
    """Stage `number` of a plan at one moment. Counters say how many batches each action has done and each kind has come."""

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

        self.forwards = 0  # F done; evaluations in the line before it are done
        self.settled = 0  # batches settled; forwards − settled ≤ window
        self.trained = 0  # T or B done; settled ≤ trained ≤ forwards
        self.corrected = 0  # C done; ≤ trained
        self.due = plan.due(0)  # E that stand before the next F; goes with `forwards`
        self.evaluated = 0  # E done
        self.applied = dict.fromkeys(self.siblings, 0)  # U done, by sibling; ≤ came[increment]

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

    # What is enabled

    def lack(self, action: Action) -> Lack | None:
        """Return None if `action` is enabled, else what it lacks."""
        what, batch, sibling = action
        if sibling and what != "U":
            return NOT_SIBLING
        if what == "F":
            return self.forward_lack() if batch == self.forwards else Lack(ORDER, "F", batch, self.forwards)
        if what == "E":
            return self.evaluate_lack() if batch == self.evaluated else Lack(ORDER, "E", batch, self.evaluated)
        if what == "U" and sibling:
            if sibling not in self.applied:
                return Lack(STRANGER, "", batch, sibling)
            done = self.applied[sibling]
            return self.apply_lack(sibling) if batch == done else Lack(ORDER, f"U{sibling}.", batch, done)
        if what == "U":
            if not self.sums:
                return NO_SUM
            return self.sum_lack() if batch == self.stepped else Lack(ORDER, "U", batch, self.stepped)
        if what == "C" and self.corrects:
            return self.correct_lack() if batch == self.corrected else Lack(ORDER, "C", batch, self.corrected)
        if what == self.settling_action:
            return self.settle_lack() if batch == self.trained else Lack(ORDER, what, batch, self.trained)
        return Lack(FOREIGN, what)

    def refusal(self, action: Action) -> str | None:
        """Return None if `action` is enabled, else why not, in words."""
        lack = self.lack(action)
        return None if lack is None else explain(self, lack)

    def forward_lack(self) -> Lack | None:
        """Return what F of the next batch lacks, or None."""
        forwards = self.forwards
        if forwards == self._batches:
            return FORWARDED
        if self.evaluated < self.due:
            return EVALUATION_FIRST
        if not self.is_head and forwards - self.settled >= self.plan.window:
            return self._settling(WINDOW)
        if self.number > 1 and self.activations == forwards:
            return Lack(MESSAGE, kind.ACTIVATION, forwards, self.number - 1)
        if self.lengths < self.lengths_due:
            return Lack(MESSAGE, kind.LENGTH, self.lengths, self.plan.head)
        if self.is_head:
            return None
        if self.activation_credit == 0:
            return Lack(CREDIT, kind.ACTIVATION, forwards, self.number + 1)
        if self.increment_credit and self._updates_early:
            return self._increment_lack(forwards)
        return None

    def settle_lack(self) -> Lack | None:
        """Return what the next T or B lacks, or None."""
        if self.settles_with is None:
            return NOTHING_BACK
        trained = self.trained
        if trained == self._batches:
            return SETTLED
        if trained == self.forwards:
            return FORWARD_FIRST
        if self.backwards == trained:
            return Lack(MESSAGE, self.settles_with, trained, self.number + 1)
        if self.rule != "backward" or (trained + 1) % self.micro:
            return None
        return self._increment_lack(trained // self.micro)

    def correct_lack(self) -> Lack | None:
        """Return what the next C lacks, or None."""
        corrected = self.corrected
        if corrected == self._batches:
            return CORRECTED
        if corrected == self.trained:
            return TRAIN_FIRST
        if self.awaits_truth and self.truths == corrected:
            return Lack(MESSAGE, kind.GRADIENT, corrected, self.number + 1)
        return self._increment_lack(corrected)

    def apply_lack(self, sibling: int) -> Lack | None:
        """Return what the next U of `sibling` lacks, or None."""
        if self.plan.sums_gradients:
            return SUM_ONLY
        if self.applied[sibling] == self.increments[sibling]:
            return Lack(MESSAGE, kind.INCREMENT, self.applied[sibling], sibling)
        return None

    def sum_lack(self) -> Lack | None:
        """Return what the next step on the sum of all boxes' gradients lacks, or None."""
        if self.is_head or not self.plan.sums_gradients:
            return NO_SUM
        if self.trained < self.settled + self.micro:
            return BACKWARD_FIRST
        for sibling, came in self.increments.items():
            if came == self.stepped:
                return Lack(MESSAGE, kind.INCREMENT, came, sibling)
        return None

    def evaluate_lack(self) -> Lack | None:
        """Return what the next E lacks, or None."""
        if self.evaluated == self._evaluations:
            return EVALUATED
        if self.evaluated >= self.due:
            return EVALUATED_SO_FAR
        if self.number > 1 and self.evaluations == self.evaluated:
            return Lack(MESSAGE, kind.EVALUATION, self.evaluated, self.number - 1)
        if self.evaluated >= self._final_evaluation and not self.is_drained:
            return self._undrained()
        if not self.is_head and self.activation_credit == 0:
            return Lack(CREDIT, kind.EVALUATION, self.evaluated, self.number + 1)
        return None

    def _increment_lack(self, batch: int) -> Lack | None:
        for sibling, credit in self.increment_credit.items():
            if credit == 0:
                return Lack(CREDIT, kind.INCREMENT, batch, sibling)
        return None

    def _settling(self, why: str) -> Lack:
        """Return the lack of whatever settles the oldest batch in flight."""
        if self.plan.sums_gradients and self.settled + self.micro <= self.trained:
            behind = next((k for k, came in self.increments.items() if came == self.stepped), 0)
            return Lack(why, kind.INCREMENT, self.stepped, behind)
        assert self.settles_with is not None, "where nothing comes back a batch is settled at once"
        if self.corrects and self.corrected < self.trained:
            return Lack(why, kind.GRADIENT, self.corrected, self.number + 1 if self.awaits_truth else 0)
        return Lack(why, self.settles_with, self.trained, self.number + 1)

    def _undrained(self) -> Lack:
        if self.forwards < self.plan.batches:
            return DRAIN_FORWARD
        if self.settled < self.plan.batches and not self.is_head:
            return self._settling(DRAIN)
        behind = next(k for k in self.siblings if self.applied[k] < self.plan.updates(k))
        return Lack(DRAIN, kind.INCREMENT, self.applied[behind], behind)

    def intake(self) -> Lack | None:
        """Return what keeps this stage from going on where it takes what comes: the next batch, else what is left to do.

        A stage that could take on a batch waits for its activation, whatever else it could do meanwhile; one whose window
        or credits are used up waits for what frees them. None: it could go on.
        """
        lack = self.forward_lack()
        if lack is EVALUATION_FIRST:
            return self.evaluate_lack()
        if lack is not FORWARDED:
            return lack
        if self.trained < self.plan.batches and self.settles_with is not None:
            return self.settle_lack()
        if self.corrects and self.corrected < self.plan.batches:
            return self.correct_lack()
        if not self.is_drained:
            return self._undrained()
        return self.evaluate_lack()

    @property
    def stepped(self) -> int:
        """How many updates this stage has made of its own: batches settled, or batches' worth of micro-batches."""
        return self.settled // self.micro

    @property
    def is_drained(self) -> bool:
        """Whether every batch is forwarded, settled, and every sibling's increment is applied."""
        batches = self.plan.batches
        if self.forwards < batches or (not self.is_head and self.settled < batches):
            return False
        return self.plan.sums_gradients or all(done == self.plan.updates(k) for k, done in self.applied.items())

    @property
    def is_done(self) -> bool:
        """Whether this stage has nothing more to do."""
        return self.evaluated == self._evaluations and self.is_drained

    def enabled(self) -> Iterator[Action]:
        """Yield every enabled action: settling first, then increments, then forwards and evaluations."""
        if self.settles_with is not None and self.settle_lack() is None:
            yield Action(self.settling_action, self.trained)
        if self.corrects and self.correct_lack() is None:
            yield Action("C", self.corrected)
        if self.sums and self.sum_lack() is None:
            yield Action("U", self.stepped)
        for sibling in self.siblings:
            if self.apply_lack(sibling) is None:
                yield Action("U", self.applied[sibling], sibling)
        if self.forward_lack() is None:
            yield Action("F", self.forwards)
        if self.evaluate_lack() is None:
            yield Action("E", self.evaluated)

    def waiting(self) -> str:
        """Return in words what this stage waits for: who, what, which batch."""
        if self.is_done:
            return "nothing: done"
        lacks = [self.settle_lack(), self.sum_lack(), self.forward_lack(), self.evaluate_lack()]
        lacks += [self.correct_lack()] if self.corrects else []
        lacks += [self.apply_lack(k) for k in self.siblings]
        texts = [text for lack in lacks if lack and (text := awaited(self, lack))]
        return "; ".join(dict.fromkeys(texts)) or "its schedule"

    def story(self) -> str:
        """Return the last actions and what is waited for, for an error's text."""
        did = format_journal(self.history)
        return f"did {'… ' if len(self.history) == STORY else ''}{did or 'nothing'}; waiting: {self.waiting()}"
