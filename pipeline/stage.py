"""The rules of one stage: what has come, what has been done, and therefore what is enabled. Pure: integers only.

What always holds, whatever a schedule chooses:

1. Everything on an edge comes in the order of its batches, and a stage does F, B, T, E and each sibling's U in the order
   of their batches. So a stage is a handful of counters, and a message out of order is refused.
2. F i needs activation i (box 1: the data), fewer than `window` batches in flight (forwarded and not settled), every
   evaluation that stands before it in the line, and the credit to send what it makes.
3. A batch is settled by T (synthetic), by B (backward, own weights), by U (backward, tied) or by F itself (frozen).
4. T i and B i need F i and the target or gradient i. U k.i needs increment i of box k; it may be applied at any time.
   U i, the step on the sum, needs B i and increment i of every sibling.
5. E e needs evaluation e (box 1: the data) and every forward that stands before it in the line. The final evaluation
   follows the drain: everything that this stage has to do is done but for it.
6. An action that is not enabled is refused and changes nothing.
7. Credits belong to an edge and a kind. A stage gives them back when it starts the action that consumes the message,
   half of the edge's credits at a time; so half of them is what a sender can always count on. Targets and gradients
   need none: no more of them can be on their way than the window lets their receiver have in flight.

A driver receives messages, asks `refusal(action)`, calls `start` (credits to give back), does the work, and calls
`finish` (messages to send). What each action sends:

    box F i     activation i → next       synthetic: target i → previous (bootstrapped), increment i → siblings
    head F i    gradient i → last box
    B i         gradient i → previous     tied: increment i → siblings
    T i         gradient i → previous     with true targets
    E e         evaluation e → next
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from . import actions as kind
from .actions import Action, Message, format_journal
from .errors import ScheduleError, WireError
from .plan import Plan

#: How many actions an error's story tells.
STORY = 12


class Stage:
    """Stage `number` of a plan. Counters say how many batches each action has done and each kind has come."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan = plan
        self.number = number
        self.name = plan.name(number)
        self.is_head = number == plan.head
        self.siblings = plan.siblings(number)
        self.settles_with = plan.backward_kind(number)

        self.forwards = 0  # F done; evaluations in the line before it are done
        self.settled = 0  # batches settled; forwards − settled ≤ window
        self.trained = 0  # T or B done; settled ≤ trained ≤ forwards
        self.evaluated = 0  # E done
        self.applied = dict.fromkeys(self.siblings, 0)  # U done, by sibling; ≤ came[increment]

        self.activations = 0  # came; forwards ≤ activations at every stage but box 1
        self.evaluations = 0
        self.backwards = 0  # targets or gradients; trained ≤ backwards ≤ forwards
        self.increments = dict.fromkeys(self.siblings, 0)

        # Credits to send, and messages taken whose credits are not given back yet; always credit + owed ≤ all of them.
        self.activation_credit = plan.activation_credits
        self.increment_credit = dict.fromkeys(self.siblings, plan.increment_credits)
        self.activation_owed = 0
        self.increment_owed = dict.fromkeys(self.siblings, 0)

        self.history: deque[Action] = deque(maxlen=STORY)

    # What comes

    def receive(self, message: Message) -> None:
        """Take note of a message; raises WireError for one that cannot come here or comes out of order."""
        what, _, source, target = message
        if target != self.number:
            raise WireError(f"{self.name}: {message.text(self.plan.boxes)} is not for this stage")
        if what == kind.ACTIVATION and source == self.number - 1 >= 1:
            self._in_order(message, self.activations, self.plan.batches)
            self.activations += 1
        elif what == kind.EVALUATION and source == self.number - 1 >= 1:
            self._in_order(message, self.evaluations, self.plan.evaluations)
            self.evaluations += 1
        elif what == self.settles_with and source == self.number + 1:
            self._in_order(message, self.backwards, self.forwards)
            self.backwards += 1
        elif what == kind.INCREMENT and source in self.increments:
            self._in_order(message, self.increments[source], self.plan.batches)
            self.increments[source] += 1
        elif what == kind.CREDIT_ACTIVATION and source == self.number + 1 <= self.plan.head:
            self.activation_credit = self._credited(message, self.activation_credit, self.plan.activation_credits)
        elif what == kind.CREDIT_INCREMENT and source in self.increments:
            have = self.increment_credit[source]
            self.increment_credit[source] = self._credited(message, have, self.plan.increment_credits)
        else:
            raise WireError(f"{self.name}: {message.text(self.plan.boxes)} cannot come here; {self.story()}")

    def _in_order(self, message: Message, came: int, limit: int) -> None:
        if message.batch != came or came >= limit:
            expected = f"batch {came}" if came < limit else "none yet" if limit < self.plan.batches else "no more"
            text = message.text(self.plan.boxes)
            raise WireError(f"{self.name}: {text} came out of order, {expected} was expected; {self.story()}")

    def _credited(self, message: Message, have: int, most: int) -> int:
        if not 0 < message.batch <= most - have:
            raise WireError(
                f"{self.name}: {message.text(self.plan.boxes)} gives back more than was sent; {self.story()}"
            )
        return have + message.batch

    # What is enabled

    def refusal(self, action: Action) -> str | None:
        """Return None if `action` is enabled, else why not."""
        what, batch, sibling = action
        if sibling and what != "U":
            return "only U names a sibling"
        if what == "F":
            return self.forward_refusal() if batch == self.forwards else self._order("F", batch, self.forwards)
        if what == "E":
            return self.evaluate_refusal() if batch == self.evaluated else self._order("E", batch, self.evaluated)
        if what == "U" and sibling:
            if sibling not in self.applied:
                return f"box {sibling} is no sibling that shares increments"
            done = self.applied[sibling]
            return self.apply_refusal(sibling) if batch == done else self._order(f"U{sibling}.", batch, done)
        if what == "U":
            return self.sum_refusal() if batch == self.settled else self._order("U", batch, self.settled)
        if what == ("T" if self.plan.rule == "synthetic" else "B"):
            return self.settle_refusal() if batch == self.trained else self._order(what, batch, self.trained)
        return f"{what} is no action of a stage whose boxes learn by the rule {self.plan.rule!r}"

    def forward_refusal(self) -> str | None:
        """Return why F of the next batch is not enabled, or None."""
        if self.forwards == self.plan.batches:
            return "every batch has been forwarded"
        if self.evaluated < self.plan.due(self.forwards):
            return f"E{self.evaluated} comes before F{self.forwards}"
        if not self.is_head and self.forwards - self.settled >= self.plan.window:
            return f"the window of {self.plan.window} is full; waiting: {self._settling()}"
        if self.number > 1 and self.activations == self.forwards:
            return f"waiting: activation {self.forwards} from {self.plan.name(self.number - 1)}"
        if self.is_head:
            return None
        if self.activation_credit == 0:
            return self._no_credit("activation", self.number + 1)
        if self.plan.rule == "synthetic":
            return self._increment_refusal()
        return None

    def settle_refusal(self) -> str | None:
        """Return why the next T or B is not enabled, or None."""
        if self.is_head or self.settles_with is None:
            return "nothing comes back to this stage"
        if self.trained == self.plan.batches:
            return "every batch is settled"
        if self.trained == self.forwards:
            return f"F{self.forwards} comes before {'T' if self.plan.rule == 'synthetic' else 'B'}{self.trained}"
        if self.backwards == self.trained:
            return f"waiting: {self.settles_with} {self.trained} from {self.plan.name(self.number + 1)}"
        return self._increment_refusal() if self.plan.rule == "backward" else None

    def apply_refusal(self, sibling: int) -> str | None:
        """Return why the next U of `sibling` is not enabled, or None."""
        if self.plan.sums_gradients:
            return f"tied backpropagation makes one step on the sum, U{self.settled}"
        if self.applied[sibling] == self.increments[sibling]:
            return f"waiting: increment {self.applied[sibling]} from {self.plan.name(sibling)}"
        return None

    def sum_refusal(self) -> str | None:
        """Return why the next step on the sum of all boxes' gradients is not enabled, or None."""
        if self.is_head or not self.plan.sums_gradients:
            return "this stage makes no step on a sum"
        if self.settled == self.trained:
            return f"B{self.settled} comes before U{self.settled}"
        for sibling, came in self.increments.items():
            if came == self.settled:
                return f"waiting: increment {came} from {self.plan.name(sibling)}"
        return None

    def evaluate_refusal(self) -> str | None:
        """Return why the next E is not enabled, or None."""
        if self.evaluated == self.plan.evaluations:
            return "every evaluation is done"
        if self.evaluated >= self.plan.due(self.forwards):
            return f"F{self.forwards} comes before E{self.evaluated}"
        if self.number > 1 and self.evaluations == self.evaluated:
            return f"waiting: evaluation {self.evaluated} from {self.plan.name(self.number - 1)}"
        if self.evaluated >= self.plan.final_evaluation and not self.is_drained:
            return f"the final evaluation follows the drain; {self._undrained()}"
        if not self.is_head and self.activation_credit == 0:
            return self._no_credit("evaluation", self.number + 1)
        return None

    def _increment_refusal(self) -> str | None:
        for sibling, credit in self.increment_credit.items():
            if credit == 0:
                return self._no_credit("increment", sibling)
        return None

    def _no_credit(self, what: str, target: int) -> str:
        return f"no credit to send an {what}; waiting: credit from {self.plan.name(target)}"

    def _order(self, what: str, batch: int, done: int) -> str:
        return f"{what}{batch} is done already" if batch < done else f"{what}{done} comes before {what}{batch}"

    def _settling(self) -> str:
        if self.plan.sums_gradients and self.settled < self.trained:
            return f"U{self.settled}"
        return f"{self.settles_with} {self.trained} from {self.plan.name(self.number + 1)}"

    def _undrained(self) -> str:
        if self.forwards < self.plan.batches:
            return f"F{self.forwards} is to do"
        if self.settled < self.plan.batches:
            return f"waiting: {self._settling()}"
        behind = next(k for k in self.siblings if self.applied[k] < self.plan.batches)
        return f"waiting: increment {self.applied[behind]} from {self.plan.name(behind)}"

    @property
    def is_drained(self) -> bool:
        """Whether every batch is forwarded, settled, and every sibling's increment is applied."""
        batches = self.plan.batches
        if self.forwards < batches or (not self.is_head and self.settled < batches):
            return False
        return self.plan.sums_gradients or all(done == batches for done in self.applied.values())

    @property
    def is_done(self) -> bool:
        """Whether this stage has nothing more to do."""
        return self.evaluated == self.plan.evaluations and self.is_drained

    def enabled(self) -> Iterator[Action]:
        """Yield every enabled action: settling first, then increments, then forwards and evaluations."""
        if self.settle_refusal() is None:
            yield Action("T" if self.plan.rule == "synthetic" else "B", self.trained)
        if self.sum_refusal() is None:
            yield Action("U", self.settled)
        for sibling in self.siblings:
            if self.apply_refusal(sibling) is None:
                yield Action("U", self.applied[sibling], sibling)
        if self.forward_refusal() is None:
            yield Action("F", self.forwards)
        if self.evaluate_refusal() is None:
            yield Action("E", self.evaluated)

    def waiting(self) -> str:
        """Return in words what this stage waits for: who, what, which batch."""
        if self.is_done:
            return "nothing: done"
        reasons = [self.settle_refusal(), self.sum_refusal(), self.forward_refusal(), self.evaluate_refusal()]
        reasons += [self.apply_refusal(k) for k in self.siblings]
        texts = [text for text in reasons if text and "waiting: " in text]
        return "; ".join(dict.fromkeys(text.partition("waiting: ")[2] for text in texts)) or "its schedule"

    def story(self) -> str:
        """Return the last actions and what is waited for, for an error's text."""
        did = format_journal(self.history)
        return f"did {'… ' if len(self.history) == STORY else ''}{did or 'nothing'}; waiting: {self.waiting()}"

    # What is done

    def start(self, action: Action) -> list[Message]:
        """Begin an enabled action and return the credits to give back; raises ScheduleError and changes nothing."""
        why = self.refusal(action)
        if why is not None:
            raise ScheduleError(f"{self.name}: {action} is not enabled: {why}; {self.story()}")
        what, _, sibling = action
        if what in "FE" and self.number > 1:
            self.activation_owed += 1
            lot = self.plan.activation_credits // 2
            if self.activation_owed == lot:
                self.activation_owed = 0
                return [Message(kind.CREDIT_ACTIVATION, lot, self.number, self.number - 1)]
        elif what == "U":
            return [credit for k in ((sibling,) if sibling else self.siblings) for credit in self._owe_increment(k)]
        return []

    def _owe_increment(self, sibling: int) -> list[Message]:
        self.increment_owed[sibling] += 1
        lot = self.plan.increment_credits // 2
        if self.increment_owed[sibling] < lot:
            return []
        self.increment_owed[sibling] = 0
        return [Message(kind.CREDIT_INCREMENT, lot, self.number, sibling)]

    def finish(self, action: Action) -> list[Message]:
        """End the action that was started and return the messages to send, in their order."""
        what, batch, sibling = action
        self.history.append(action)
        if what == "F":
            return self._finish_forward(batch)
        if what == "U":
            if sibling:
                self.applied[sibling] += 1
            else:
                self.settled += 1
            return []
        if what == "E":
            self.evaluated += 1
            if self.is_head:
                return []
            self.activation_credit -= 1
            return [Message(kind.EVALUATION, batch, self.number, self.number + 1)]
        self.trained += 1
        if not self.plan.sums_gradients:
            self.settled += 1
        passes_on = what == "B" or self.plan.target == "true"
        back = [Message(kind.GRADIENT, batch, self.number, self.number - 1)] if passes_on and self.number > 1 else []
        return back + (self._increment(batch) if what == "B" else [])

    def _finish_forward(self, batch: int) -> list[Message]:
        self.forwards += 1
        if self.is_head:
            if self.plan.rule == "frozen":
                return []
            return [Message(kind.GRADIENT, batch, self.number, self.number - 1)]
        self.activation_credit -= 1
        sends = [Message(kind.ACTIVATION, batch, self.number, self.number + 1)]
        if self.plan.rule == "frozen":
            self.settled += 1
        elif self.plan.rule == "synthetic":
            if self.plan.target == "bootstrapped" and self.number > 1:
                sends.append(Message(kind.TARGET, batch, self.number, self.number - 1))
            sends += self._increment(batch)
        return sends

    def _increment(self, batch: int) -> list[Message]:
        for sibling in self.siblings:
            self.increment_credit[sibling] -= 1
        return [Message(kind.INCREMENT, batch, self.number, sibling) for sibling in self.siblings]
