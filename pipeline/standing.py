"""Where a stage stands: its counters, and by the rules of `stage` what is enabled and what it lacks. Pure: integers only.

Nothing here changes a counter (`counters`). `Stage` does, when messages come and actions are done; `reckon` counts journals.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import actions as kind
from .actions import Action, format_journal
from .counters import STORY, Counters
from .lacks import (
    BACKWARD_FIRST,
    BARRIER,
    CORRECTED,
    CREDIT,
    DRAIN,
    DRAIN_FORWARD,
    EVALUATED,
    EVALUATED_SO_FAR,
    EVALUATION_BEFORE_SAVE,
    EVALUATION_FIRST,
    FOREIGN,
    FORWARD_FIRST,
    FORWARDED,
    MESSAGE,
    NO_SUM,
    NOT_SIBLING,
    NOTHING_BACK,
    ORDER,
    SAVE_BEFORE_LATER,
    SAVE_FIRST,
    SAVED,
    SAVED_SO_FAR,
    SETTLED,
    STRANGER,
    SUM_ONLY,
    TRAIN_FIRST,
    WINDOW,
    Lack,
    awaited,
    explain,
)


class Standing(Counters):
    """Stage `number` of a plan at one moment."""

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
        if what == "S":
            return self.save_lack() if batch == self.saved else Lack(ORDER, "S", batch, self.saved)
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
        if self.saved < self.save_due:
            return SAVE_FIRST
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
        if self.applied[sibling] == self.applicable[sibling] and self.saved < self._saves:
            return SAVE_BEFORE_LATER
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
            return self._undrained(DRAIN, self._batches)
        if not self.is_head and self.activation_credit == 0:
            return Lack(CREDIT, kind.EVALUATION, self.evaluated, self.number + 1)
        return None

    def save_lack(self) -> Lack | None:
        """Return what the next S lacks, or None: nothing that was forwarded is in flight, at this stage."""
        if self.saved == self._saves:
            return SAVED
        if self.saved >= self.save_due:
            return SAVED_SO_FAR
        if self.evaluated < self.due:
            return EVALUATION_BEFORE_SAVE
        if not self._has_settled(self.forwards):
            return self._undrained(BARRIER, self.forwards)
        # How long later sequences are is told ahead of its time: it is saved, hence it has to be there.
        if self.number == 1 and self.lengths < self.plan.lengths_after(self.forwards):
            return Lack(BARRIER, kind.LENGTH, self.lengths, self.plan.head)
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

    def _undrained(self, why: str, batches: int) -> Lack:
        if self.forwards < batches:
            return DRAIN_FORWARD
        if self.settled < batches and not self.is_head:
            return self._settling(why)
        behind = next(k for k in self.siblings if self.applied[k] < self.plan.updates(k, batches))
        return Lack(why, kind.INCREMENT, self.applied[behind], behind)

    def intake(self) -> Lack | None:
        """Return what keeps this stage from going on where it takes what comes: the next batch, else what is left to do.

        A stage that could take on a batch waits for its activation, whatever else it could do meanwhile; one whose window
        or credits are used up waits for what frees them. None: it could go on.
        """
        lack = self.forward_lack()
        if lack is EVALUATION_FIRST:
            return self.evaluate_lack()
        if lack is SAVE_FIRST:
            return self.save_lack()
        if lack is not FORWARDED:
            return lack
        if self.trained < self.plan.batches and self.settles_with is not None:
            return self.settle_lack()
        if self.corrects and self.corrected < self.plan.batches:
            return self.correct_lack()
        if not self.is_drained:
            return self._undrained(DRAIN, self._batches)
        return self.evaluate_lack()

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
        if self.save_lack() is None:
            yield Action("S", self.saved)

    def waiting(self) -> str:
        """Return in words what this stage waits for: who, what, which batch."""
        if self.is_done:
            return "nothing: done"
        lacks = [self.settle_lack(), self.sum_lack(), self.forward_lack(), self.evaluate_lack()]
        lacks += [self.correct_lack()] if self.corrects else []
        lacks += [self.apply_lack(k) for k in self.siblings]
        lacks += [self.save_lack()] if self.saved < self.save_due else []
        texts = [text for lack in lacks if lack and (text := awaited(self, lack))]
        return "; ".join(dict.fromkeys(texts)) or "its schedule"

    def story(self) -> str:
        """Return the last actions and what is waited for, for an error's text."""
        did = format_journal(self.history)
        return f"did {'… ' if len(self.history) == STORY else ''}{did or 'nothing'}; waiting: {self.waiting()}"
