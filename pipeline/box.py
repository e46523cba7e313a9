"""The arithmetic of one stage's actions: its weights, what it keeps of batches in flight, what it sends. No clock, no socket.

`do(action)` yields after each part of the action, so that a driver can time the parts; when it has ended, `outputs` has
the arrays of the messages that the stage's `finish` names, by kind. A part says which version of the weights it read and
which it wrote. Arrays that are sent are never written to again: a transport may alias them.

    F   forward · update      box: activation; with an oracle the update on ĝ, target or trace, increment · head: loss, gradient
    B   backward              the update; on sums the increment · micro-batch: added to the batch's gradient
    T   train                 the oracle's update; with true or mixed targets the gradient to the box before
    C   correct               an update by the true gradient less the synthetic one
    U   apply                 a sibling's increment, or one step on the sum of boxes' or micro-batches' gradients
    E   evaluate              forward only
    S   save                  the state, which is what has changed: so the sums of a run cover all of it at each checkpoint
"""

from __future__ import annotations

from collections.abc import Iterator

from . import readout, traces
from .actions import ACTIVATION, EVALUATION, GRADIENT, INCREMENT, LENGTH, TARGET, Action, Message, Part
from .arrays import Array, Scratch, Weights
from .cells import Factors, Trail
from .classifier import Classifier
from .data import Batches
from .drawn import Examples
from .guard import Guard
from .learning import EARLY
from .plan import Plan
from .schema import Config
from .stash import Flight
from .state import Saved, copies, counts, under
from .stepper import Stepper
from .weights import make_fitting
from .work import Arrays


class BoxWork:
    """A box's weights, its oracle, and the batches in flight."""

    def __init__(self, config: Config, plan: Plan, number: int, batches: Batches | Examples) -> None:
        self.number, self.plan, self.batches = number, plan, batches
        self.rule = plan.learns(number)
        self.oracle_version = 0
        self.outputs: dict[str, Arrays] = {}
        self.saved: Weights = {}  # the state at the last checkpoint, in a fixed order
        self._scratch = Scratch()
        self.stepper = Stepper(config, plan, number, batches, self._scratch)
        self.kind = self.stepper.kind
        self.fitting = make_fitting(config, number) if self.rule == "synthetic" else None
        self._classifier = Classifier(config, plan, number, batches)
        self._mix, self._trust, self._sees_label = config.oracle.mix, config.oracle.scale, config.oracle.sees_label
        self._is_mixed, self._is_bootstrapped = plan.target == "mixed", plan.target == "bootstrapped"
        self._corrects = plan.settles_by(number) == "C"
        self._passes_on = number > 1 and plan.wants_gradients(number - 1)
        self._came: traces.Traced | None = None  # with the last activation
        self._guard = Guard(plan.name(number), config.train.limit)
        self.last_trail: Trail  # of the last forward, for the probe
        self._width = config.model.width
        self._lengths = readout.Lengths(config, plan, number)
        self._inbox: dict[tuple[str, int, int], Arrays] = {}
        self._flights: dict[int, Flight] = {}

    @property
    def cell(self) -> Weights:
        """The weights of its cell."""
        return self.stepper.cell

    @property
    def version(self) -> int:
        """The version of these weights: updates so far, own and siblings'."""
        return self.stepper.version

    @property
    def changes(self) -> dict[str, Array]:
        """What the last action's update was made of, by name."""
        return self.stepper.changes

    def weights(self) -> Weights:
        """Return all arrays that this stage learns, by the names that checkpoints use."""
        oracle = self.fitting.oracle.weights if self.fitting else {}
        found = self.cell | {f"oracle_{name}": array for name, array in oracle.items()}
        return found | {f"local_{name}": array for name, array in self._classifier.weights.items()}

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Keep what a message brought."""
        if arrays and message.kind == LENGTH:
            self._lengths.keep(message.batch, arrays[0])
        elif arrays:
            self._inbox[message.kind, message.batch, message.source] = arrays

    def kept(self, kind: str, batch: int, source: int) -> Arrays:
        """Return what a message brought that waits for its action; nothing where none does."""
        return self._lengths.kept(batch) if kind == LENGTH else self._inbox.get((kind, batch, source), ())

    def trail(self, batch: int) -> Trail:
        """Return what the forward of a batch in flight has left behind."""
        return self._flights[batch].trail

    def _receive(self, kind: str, batch: int, source: int) -> Arrays:
        return self._inbox.pop((kind, batch, source))

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action, yielding after each part; `outputs` is complete at the end."""
        self.outputs, self.stepper.changes = {}, {}
        kind, batch, sibling = action
        if kind == "U":
            return self._apply(batch, sibling) if sibling else self._step(batch)
        if kind == "S":
            return self._save()
        does = {"F": self._forward, "T": self._train, "B": self._backward, "C": self._correct, "E": self._evaluate}
        return does[kind](batch)

    def _save(self) -> Iterator[Part]:
        self.saved = self.stepper.changes = self.state()
        yield Part("save", self.version, self.version)

    def state(self) -> Weights:
        """Return copies of all that decides later numbers, weights by their own names, at a barrier: nothing is in flight."""
        assert not self._flights, f"in flight: {[*self._flights]}"
        found = copies(self.weights()) | self.stepper.state() | counts(oracle_version=self.oracle_version)
        found |= under("local_optimizer", self._classifier.state()) | under("lengths", self._lengths.state())
        return found | (under("fitting", self.fitting.state()) if self.fitting else {})

    def restore(self, state: Weights) -> None:
        """Go on from a state, before the first action; raises RunError for an array that is missing, unknown or unfit."""
        saved = Saved(state, self.plan.name(self.number))
        for name, array in self.weights().items():
            saved.fill(name, array)
        self.oracle_version = saved.count("oracle_version")
        self.stepper.restore(saved)
        self._classifier.restore(saved.under("local_optimizer"))
        self._lengths.restore(saved.under("lengths"))
        if self.fitting:
            self.fitting.restore(saved.under("fitting"))
        saved.end()

    def _forward(self, batch: int) -> Iterator[Part]:
        trail = self._go(ACTIVATION, batch)
        read = self.version
        self._guard.check("F", batch, "its activation", trail.h)
        self.last_trail = trail
        yield Part("forward", read, read)
        if self.updates_early:
            yield self._update_early(batch, trail, read)
        elif self.rule == "backward":
            self._fly(batch, Flight(trail, read, self.cell, came=self._came))

    def _go(self, kind: str, batch: int) -> Trail:
        """Take a batch, or an evaluation, through the steps of the box, and put out its activation."""
        number, batches, is_judged = self.number, self.batches, kind == EVALUATION
        arrays = self._receive(kind, batch, number - 1) if number > 1 else ()
        entering = arrays[0] if arrays else None
        if not self.plan.reads:
            x = None
            if self.kind.takes_inputs:
                x = batches.evaluation_inputs(batch, number) if is_judged else batches.inputs(batch, number)
            trail = self.kind.forward(self.cell, x, entering, self._scratch)
            self.outputs[kind] = (trail.h,)
            self._came = traces.Traced(*arrays[1:]) if len(arrays) > 1 else None
            return trail
        assert isinstance(batches, Examples), "only a task that is drawn has targets at every step"
        lengths = self._lengths
        level = lengths.told(arrays[1][:, readout.LEVEL], batch) if arrays else lengths.first(batch, is_judged)
        x = (batches.evaluation_inputs if is_judged else batches.inputs)(batch, number, level)
        trail = self.kind.forward(self.cell, x, entering, self._scratch)
        tally = arrays[1] if arrays else readout.first_tally(x.shape[1], level, x.dtype)
        y, wanted = (batches.evaluation_targets if is_judged else batches.targets)(batch, number, level)
        own, tally = readout.read(self.cell, trail, self._width, y, wanted, tally, self.plan.micro)
        self.outputs[kind] = (trail.h, tally)
        return trail._replace(own=own)

    @property
    def updates_early(self) -> bool:
        """Whether it updates before any gradient has come to it."""
        return self.rule in EARLY

    def _fly(self, batch: int, flight: Flight) -> None:
        """Keep what a batch needs until it is settled."""
        stash = self.stepper.stash
        self._flights[batch] = flight._replace(weights=stash.keep()) if stash else flight

    def _update_early(self, batch: int, trail: Trail, read: int) -> Part:
        """Update on the word of the oracle, or of the box's own classifier."""
        is_local = self.rule == "local"
        g = self._classifier.train(batch, trail.h) if is_local else self.guess(batch, trail.h)
        self._guard.check("F", batch, "the gradient of its classifier" if is_local else "the synthetic gradient", g)
        came, sends_target = self._came, self._passes_on and self._is_bootstrapped
        is_wanted = sends_target or came is not None
        # The target uses the weights that the forward read, so backward comes before the update.
        factors, target = self.kind.backward(self.cell, trail, g, passes_on=is_wanted, scratch=self._scratch)
        if sends_target and target is not None:
            self.outputs[TARGET] = (target,)
        if not is_local and self._trust != 1:
            factors.scale(self._trust)
        if self.rule == "synthetic":
            self._fly(batch, Flight(trail, read, self.cell, factors if self._corrects else None))
        elif self.rule == "traced":
            self.outputs[ACTIVATION] = trail.h, *traces.onward(self.cell, trail, g.copy(), came, self._mix)
        self._update(batch, factors, came, target)
        return Part("update", read, self.version)

    def guess(self, batch: int, h: Array) -> Array:
        """Return the gradient that the box updates on before the true one is there; it may lie in a scratch."""
        if self.rule == "local":
            return self._classifier.gradient(batch, h)[1]
        out = self._scratch.array("guess", h.shape, h.dtype)
        if self.fitting is None:
            return traces.guess(self.cell, h, out)
        return self.fitting.oracle.predict(h, self.label(batch), batch, out)

    def label(self, batch: int) -> Array | None:
        """Return the one-hot labels of a batch where the oracle sees them."""
        return self.batches.one_hot(self.batches.labels(batch)) if self._sees_label else None

    def _update(
        self, batch: int, factors: Factors, came: traces.Traced | None = None, target: Array | None = None
    ) -> None:
        """Take one step on an own gradient, with that of an oracle that boxes share, and put out what the siblings get."""
        oracle = traces.learn(came, target)
        if oracle:
            action = "B" if self.rule == "backward" else "F"
            self._guard.check(action, batch, "the oracle's gradient", oracle["oracle_L"])
        increment = self.stepper.own(batch, factors, oracle)
        if increment:
            self.outputs[INCREMENT] = increment

    def _train(self, batch: int) -> Iterator[Part]:
        assert self.fitting is not None, "T belongs to a box with an oracle"
        kind = self.plan.backward_kind(self.number)
        assert kind is not None, "something comes back to a box with an oracle"
        keeps = self._corrects and kind == GRADIENT  # C takes it
        (target,) = self.kept(kind, batch, self.number + 1) if keeps else self._receive(kind, batch, self.number + 1)
        self._guard.check("T", batch, f"the {kind} from {self.plan.name(self.number + 1)}", target)
        flight = self._flights[batch] if self._corrects else self._land(batch)
        trail, read = flight.trail, self.oracle_version
        mixed = target
        if self._is_mixed and self._passes_on:
            mixed = self.fitting.oracle.predict(trail.h, self.label(batch), batch)
            mixed *= 1 - self._mix
            mixed += self._mix * target
        error = self.fitting.fit(batch, trail.h, self.label(batch), target, self._scratch)
        self._guard.check("T", batch, "the oracle's error", error)
        self.changes["oracle's error"] = error
        self.oracle_version += 1
        if not self._is_bootstrapped and self._passes_on:
            self._pass_on(flight, mixed)
        yield Part("train", read, self.oracle_version)

    def _pass_on(self, flight: Flight, g: Array) -> tuple[Factors, Array | None]:
        is_wanted = self._passes_on or flight.came is not None
        found = self.kind.backward(flight.weights, flight.trail, g, passes_on=is_wanted, scratch=self._scratch)
        if self._passes_on and found[1] is not None:
            self.outputs[GRADIENT] = (found[1],)
        return found

    def _correct(self, batch: int) -> Iterator[Part]:
        (g,) = self._receive(GRADIENT, batch, self.number + 1)
        flight = self._land(batch)
        assert flight.early is not None, "C corrects an early update"
        self._guard.check("C", batch, f"the gradient from {self.plan.name(self.number + 1)}", g)
        passes_on, self._passes_on = self._passes_on, self._passes_on and self._is_bootstrapped
        factors, _ = self._pass_on(flight, g)
        self._passes_on = passes_on
        factors.subtract(flight.early)
        self._update(batch, factors)
        yield Part("correct", flight.read, self.version)

    def _land(self, batch: int) -> Flight:
        """Return a batch that is in flight no longer."""
        flight = self._flights.pop(batch)
        if self.stepper.stash:
            self.stepper.stash.give_back(flight.weights)
        return flight

    def _backward(self, batch: int) -> Iterator[Part]:
        (g,) = self._receive(GRADIENT, batch, self.number + 1)
        self._guard.check("B", batch, f"the gradient from {self.plan.name(self.number + 1)}", g)
        flight = self._land(batch)
        factors, target = self._pass_on(flight, g)
        if not self.plan.sums_gradients:
            self._update(batch, factors, flight.came, target)
        elif increment := self.stepper.add(batch, factors):
            self.outputs[INCREMENT] = increment
        yield Part("backward", flight.read, self.version)

    def _apply(self, batch: int, sibling: int) -> Iterator[Part]:
        read = self.version
        self.stepper.sibling(batch, sibling, self._receive(INCREMENT, batch, sibling))
        yield Part("apply", read, self.version)

    def _step(self, batch: int) -> Iterator[Part]:
        read = self.version
        self.stepper.sum(batch, lambda k: self._receive(INCREMENT, batch, k))
        yield Part("apply", read, self.version)

    def _evaluate(self, evaluation: int) -> Iterator[Part]:
        self._guard.check("E", evaluation, "its activation", self._go(EVALUATION, evaluation).h)
        yield Part("evaluate", self.version, self.version)
