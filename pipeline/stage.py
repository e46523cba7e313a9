"""The rules of one stage: what has come, what has been done, and therefore what is enabled. Pure: integers only.

What always holds, whatever a schedule chooses:

1. Everything on an edge comes in the order of its batches, and a stage does F, B, T, C, E and each sibling's U in the order
   of their batches. So a stage is a handful of counters, and a message out of order is refused.
2. F i needs activation i (box 1: the data, and the head's word of how long sequences are, where they grow), fewer than
   `window` batches in flight (forwarded and not settled), every evaluation that stands before it in the line, and the credit
   to send what it makes.
3. A batch is settled by T (synthetic), by C (synthetic, corrected), by B (backward, each updates), by U (backward, gradients
   are summed: of tied boxes, of micro-batches) or by F itself (frozen, local, traced).
4. T i and B i need F i and the target or gradient i, C i needs T i and the gradient i. U k.i needs increment i of box k; it
   may be applied at any time. Increments are counted as they are made: with corrections a batch makes two.
   U i, the step on the sum, needs B i and increment i of every sibling; with M micro-batches, where U counts updates and
   all else micro-batches, it needs B (i + 1) M − 1.
5. E e needs evaluation e (box 1: the data) and every forward that stands before it in the line. The final evaluation
   follows the drain: everything that this stage has to do is done but for it.
6. S c, a checkpoint, needs every forward and evaluation that stands before it in the line, all that was forwarded settled,
   and every sibling's increment of it applied. F goes no further before, nor does U: a sibling that has saved may be at later
   batches already. So what was sent before its sender's S is consumed
   before its receiver's, and what is sent after it only after that: nothing in flight has to be saved.
7. An action that is not enabled is refused and changes nothing.
8. Credits belong to an edge and a kind. A stage gives them back when it starts the action that consumes the message,
   half of the edge's credits at a time; so half of them is what a sender can always count on. Targets and gradients
   need none: no more of them can be on their way than the window lets their receiver have in flight.

A driver receives messages, asks `lack(action)`, calls `start` (credits to give back), does the work, and calls
`finish` (messages to send). What each action sends:

    box F i     activation i → next       synthetic: target i → previous (bootstrapped); updates early: an increment
    head F i    gradient i → last box     sequences that grow: a length → box 1 after each epoch
    B i         gradient i → previous     tied: increment i → siblings (with M micro-batches: their sum, after the last)
    T i         gradient i → previous     with true or mixed targets
    C i         gradient i → previous     with bootstrapped targets; tied: an increment → siblings
    E e         evaluation e → next
    S c         nothing
"""

from __future__ import annotations

from . import actions as kind
from .actions import Action, Message
from .errors import ScheduleError, WireError
from .standing import Standing

_new = tuple.__new__  # a NamedTuple's own is written in Python, and slower


class Stage(Standing):
    """Stage `number` of a plan: takes note of messages and does actions."""

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
        elif what == kind.GRADIENT and self.awaits_truth and source == self.number + 1:
            self._in_order(message, self.truths, self.forwards)
            self.truths += 1
        elif what == kind.INCREMENT and source in self.increments:
            self._in_order(message, self.increments[source], self.plan.updates(source))
            self.increments[source] += 1
        elif what == kind.LENGTH and self.number == 1 and source == self.plan.head:
            self._in_order(message, self.lengths, self.plan.lengths_after(self.forwards))
            self.lengths += 1
        elif what == kind.CREDIT_ACTIVATION and source == self.number + 1 <= self.plan.head:
            self.activation_credit = self._credited(message, self.activation_credit, self.plan.activation_credits)
        elif what == kind.CREDIT_INCREMENT and source in self.increment_credit:
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

    # What is done

    def first_enabled(self) -> Action | None:
        """Return the first of the enabled actions: the short way of a loop that asks for every action."""
        if self.settles_with is not None and self.trained < self.backwards and self.settle_lack() is None:
            return _new(Action, (self.settling_action, self.trained, 0))
        if self.corrected < self.trained and self.corrects and self.correct_lack() is None:
            return _new(Action, ("C", self.corrected, 0))
        if self.sums and self.sum_lack() is None:
            return _new(Action, ("U", self.stepped, 0))
        if not self.sums:
            for sibling, done in self.applied.items():
                if done < self.increments[sibling] and done < self.applicable[sibling]:
                    return _new(Action, ("U", done, sibling))
        if self.forward_lack() is None:
            return _new(Action, ("F", self.forwards, 0))
        if self.evaluated < self.due and self.evaluate_lack() is None:
            return _new(Action, ("E", self.evaluated, 0))
        if self.saved < self.save_due and self.save_lack() is None:
            return _new(Action, ("S", self.saved, 0))
        return None

    def start(self, action: Action) -> list[Message]:
        """Begin an enabled action and return the credits to give back; raises ScheduleError and changes nothing."""
        if (why := self.refusal(action)) is not None:
            raise ScheduleError(f"{self.name}: {action} is not enabled: {why}; {self.story()}")
        what, _, sibling = action
        if what in "FE" and self.number > 1:
            self.activation_owed += 1
            lot = self.plan.activation_credits // 2
            if self.activation_owed == lot:
                self.activation_owed = 0
                return [_new(Message, (kind.CREDIT_ACTIVATION, lot, self.number, self.number - 1))]
        elif what == "U":
            return [credit for k in ((sibling,) if sibling else self.siblings) for credit in self._owe_increment(k)]
        return []

    def _owe_increment(self, sibling: int) -> list[Message]:
        self.increment_owed[sibling] += 1
        lot = self.plan.increment_credits // 2
        if self.increment_owed[sibling] < lot:
            return []
        self.increment_owed[sibling] = 0
        return [_new(Message, (kind.CREDIT_INCREMENT, lot, self.number, sibling))]

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
                self.settled += self.micro
            return []
        if what == "E":
            self.evaluated += 1
            if self.is_head:
                return []
            self.activation_credit -= 1
            return [_new(Message, (kind.EVALUATION, batch, self.number, self.number + 1))]
        if what == "S":
            self.saved += 1
            self.applicable = self.until_next_save()
            return []
        if what == "C":
            self.corrected += 1
            self.settled += 1
        else:
            self.trained += 1
            if not (self.sums or self.corrects):
                self.settled += 1
        back = self._back(kind.GRADIENT, batch) if self.passes_on(what) else []
        if what == "T" or (batch + 1) % self.micro:
            return back
        return back + self._increment(self._made if what == "C" else batch // self.micro)

    def passes_on(self, what: str) -> bool:
        """Whether B, T or C sends the gradient on to the stage before."""
        if what == "B":
            return self.plan.wants_gradients(self.number - 1)
        return (self.plan.target == "bootstrapped") == (what == "C")

    def _back(self, what: str, batch: int) -> list[Message]:
        return [_new(Message, (what, batch, self.number, self.number - 1))] if self.number > 1 else []

    def _finish_forward(self, batch: int) -> list[Message]:
        self.forwards += 1
        self.due = self.plan.due(self.forwards)
        self.save_due = self.plan.saves_before(self.forwards)
        if self.is_head:
            back = self._back(kind.GRADIENT, batch) if self.plan.wants_gradients(self.number - 1) else []
            return back + self._length() if self.plan.grows else back
        if self.plan.grows and self.number == 1:
            self.lengths_due = min(self.plan.lengths_before(self.forwards), self.plan.lengths)
        self.activation_credit -= 1
        sends = [_new(Message, (kind.ACTIVATION, batch, self.number, self.number + 1))]
        if self.settles_with is None:
            self.settled += 1
        if self.rule == "synthetic":
            if self.plan.target == "bootstrapped":
                sends += self._back(kind.TARGET, batch)
            return sends + self._increment(self._made)
        return sends + self._increment(batch) if self._updates_early else sends

    def _length(self) -> list[Message]:
        """Return the word of how long sequences are, after an epoch."""
        number, rest = divmod(self.forwards, self.plan.epoch_batches)
        if rest or number > self.plan.lengths:
            return []
        return [_new(Message, (kind.LENGTH, number - 1, self.number, 1))]

    @property
    def _made(self) -> int:
        """The number of the update that was made last, of those before and after the true gradient."""
        return self.forwards + self.corrected - 1

    def _increment(self, number: int) -> list[Message]:
        for replica in self.replicas:
            self.increment_credit[replica] -= 1
        return [_new(Message, (kind.INCREMENT, number, self.number, replica)) for replica in self.replicas]
