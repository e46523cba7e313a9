"""Where every stage stands by all stages' journals, as if each message that has been sent had arrived. Pure: integers only.

A stage's own journal tells what it has done; what has come to it is what the others have done:

    activation, evaluation       F, E of the stage before
    target, gradient             F of the stage after (bootstrapped, or the head), else its T or B; for C its C
    increment                    F (synthetic, local, traced) or B of the sibling, and its C
    credits                      all, less what was sent, and what its receiver has consumed, in lots
    length                       F of the head, epoch by epoch

Journals are written now and then, each at its own time, so one may lag behind what another one has consumed. What was
consumed was sent, what was sent had room, and what was done was enabled: `settle` raises the counters to the least that
all of that can be true of. For a program they are raised to the least beginning of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from .actions import TARGET, Action
from .counters import STORY
from .done import Done, count, drain, until
from .lacks import Lack
from .plan import Plan
from .programs import PROGRAMS, program
from .stage import Stage
from .standing import Standing


def reckon(plan: Plan, journals: Mapping[int, Iterable[Action]]) -> dict[int, Standing]:
    """Return every stage's standing by the journals; one that is missing counts as far as the others imply it."""
    actions = {k: list(journals.get(k, ())) for k in range(1, plan.head + 1)}
    done = {k: count(plan, k, each) for k, each in actions.items()}
    settle(plan, done)
    standings = {k: Standing(plan, k) for k in done}
    for k, standing in standings.items():
        _set(plan, standing, done)
        standing.history.extend(actions[k][-STORY:])
    return standings


def stage_after(plan: Plan, number: int, save: int) -> Stage:
    """Return a stage as it stands after a checkpoint, once all credits that were given back by then have arrived."""
    stage = Stage(plan, number)
    _set(plan, stage, {k: until(plan, k, save) for k in range(1, plan.head + 1)})
    return stage


def next_action(standing: Standing) -> Action | None:
    """Return what a stage takes next by the plan's schedule, or None where it waits or is done."""
    if standing.plan.schedule not in PROGRAMS:
        return next(standing.enabled(), None)
    action = _in_program(standing)
    return action if action is not None and standing.lack(action) is None else None


def lack(standing: Standing) -> Lack | None:
    """Return what a stage waits for by the plan's schedule; None: it could go on, or is done."""
    if standing.is_done or next_action(standing) is not None:
        return None
    action = _in_program(standing) if standing.plan.schedule in PROGRAMS else None
    return standing.intake() if action is None else standing.lack(action)


def _in_program(standing: Standing) -> Action | None:
    done = standing.forwards + standing.trained + standing.corrected + standing.evaluated + standing.saved
    done += sum(standing.applied.values())
    if standing.plan.sums_gradients:
        done += standing.stepped
    return next(itertools.islice(program(standing.plan, standing.number), done, None), None)


# What implies what


def settle(plan: Plan, done: dict[int, Done]) -> None:
    """Raise the counters to the least that the rules allow, given that all of it was done."""
    known: dict[int, int] = {}
    positions = {k: _Position(plan, k) for k in done} if plan.schedule in PROGRAMS else {}
    while (now := {k: each.actions for k, each in done.items()}) != known:
        known = now
        for k in done:
            _own(plan, k, done[k])
            _others(plan, k, done)
        for k, position in positions.items():
            position.reach(done[k])


class _Position:
    """How far a stage's program has come."""

    def __init__(self, plan: Plan, number: int) -> None:
        self._program = program(plan, number)
        self._reached = count(plan, number, ())

    def reach(self, done: Done) -> None:
        """Raise `done` to the least beginning of the program that covers it."""
        reached = self._reached
        while not reached.covers(done) and (action := next(self._program, None)) is not None:
            reached.add(action)
        done.forwards, done.trained, done.corrected = reached.forwards, reached.trained, reached.corrected
        done.summed, done.evaluated, done.applied = reached.summed, reached.evaluated, dict(reached.applied)
        done.saved = reached.saved


def _own(plan: Plan, number: int, done: Done) -> None:
    """Raise what a stage must have done before what it did."""
    settles = plan.wants_gradients(number)
    done.trained = max(done.trained, done.summed * plan.micro, done.corrected)
    done.forwards = max(done.forwards, done.trained)
    if done.saved:
        done.forwards = max(done.forwards, plan.barrier(done.saved - 1))
    for k, applied in done.applied.items():  # later increments are applied after the checkpoint
        while done.saved < plan.saves and applied > plan.updates(k, plan.barrier(done.saved)):
            done.saved += 1
    if done.forwards:
        done.evaluated = max(done.evaluated, plan.due(done.forwards - 1))
        done.saved = max(done.saved, plan.saves_before(done.forwards - 1))
    while done.evaluated > plan.due(done.forwards):
        done.forwards = min(_next_round(plan, done.forwards), plan.batches)
    if done.evaluated > plan.final_evaluation:
        done.forwards, done.saved = plan.batches, plan.saves
        drain(plan, number, done, plan.batches)
    if done.saved:
        done.evaluated = max(done.evaluated, plan.due(plan.barrier(done.saved - 1)))
        drain(plan, number, done, plan.barrier(done.saved - 1))
    if settles:
        # Of what is in flight the window has room for no more.
        settled = max(done.forwards - plan.window, 0)
        if plan.sums_gradients:
            done.summed = max(done.summed, -(-settled // plan.micro))
            settled = done.summed * plan.micro
        done.trained = max(done.trained, settled)
        if plan.settles_by(number) == "C":
            done.corrected = max(done.corrected, settled)


def _next_round(plan: Plan, forwards: int) -> int:
    """Return after how many forwards there is more to evaluate."""
    return (forwards // plan.epoch_batches + 1) * plan.epoch_batches


def _others(plan: Plan, number: int, done: dict[int, Done]) -> None:
    """Raise what others must have done: sent what the stage consumed, and consumed what it sent beyond its credits."""
    mine = done[number]
    if number > 1:
        before = done[number - 1]
        before.forwards = max(before.forwards, mine.forwards)
        before.evaluated = max(before.evaluated, mine.evaluated)
    elif mine.forwards:
        told = min(plan.lengths_before(mine.forwards - 1), plan.lengths)
        done[plan.head].forwards = max(done[plan.head].forwards, told * plan.epoch_batches)
    if number != plan.head and mine.trained:
        after = done[number + 1]
        if _comes_with_forward(plan, number):
            after.forwards = max(after.forwards, mine.trained)
        else:
            after.trained = max(after.trained, mine.trained)
        if _awaits_truth(plan, number):
            after.corrected = max(after.corrected, mine.corrected)
    for k in plan.siblings(number):
        _make(plan, k, done[k], _applied(plan, mine, k))
    most = _in_lots(plan.increment_credits, _increments(plan, number, mine))
    for k in plan.replicas(number):
        sibling = done[k]
        if plan.sums_gradients:
            sibling.summed = max(sibling.summed, most)
        else:
            sibling.applied[number] = max(sibling.applied[number], most)
    if number < plan.head:
        _take(plan, done[number + 1], _in_lots(plan.activation_credits, mine.taken))


def _make(plan: Plan, number: int, done: Done, increments: int) -> None:
    """Raise what a box must have done to have made so many increments."""
    if plan.learns(number) == "backward":
        done.trained, increments = max(done.trained, increments * plan.micro), 0
    if plan.settles_by(number) == "C":
        # F and C make them, in an order that is not known: each has made at least its share.
        done.corrected = max(done.corrected, -(-(increments - plan.window) // 2), increments - plan.batches)
        increments = max(-(-increments // 2), increments - plan.batches)
    done.forwards = max(done.forwards, increments)


def _take(plan: Plan, done: Done, taken: int) -> None:
    """Raise forwards and evaluations, in their one line, to `taken` of them."""
    while done.taken < min(taken, plan.batches + plan.evaluations):
        if done.evaluated < plan.due(done.forwards):
            done.evaluated += min(taken - done.taken, plan.due(done.forwards) - done.evaluated)
        else:
            until = min(_next_round(plan, done.forwards), plan.batches)
            done.forwards += min(taken - done.taken, until - done.forwards)


def _in_lots(credits: int, sent: int) -> int:
    """Return how many messages must have been consumed for so many to have been sent; credits come back by the half."""
    return max(-(-(sent - credits) // (lot := credits // 2)), 0) * lot


def _comes_with_forward(plan: Plan, number: int) -> bool:
    """Whether what settles a batch here is sent by the next stage's forward, else by its T or B."""
    return number + 1 == plan.head or plan.backward_kind(number) == TARGET


def _awaits_truth(plan: Plan, number: int) -> bool:
    """Whether the gradient that C takes is another message than what T takes."""
    return plan.settles_by(number) == "C" and plan.backward_kind(number) == TARGET


def _increments(plan: Plan, number: int, done: Done) -> int:
    """Return how many increments a box has sent to each of the others."""
    return done.trained // plan.micro if plan.learns(number) == "backward" else done.forwards + done.corrected


def _applied(plan: Plan, done: Done, sibling: int) -> int:
    """Return how many increments of a sibling a stage has consumed."""
    return done.summed if plan.sums_gradients else done.applied[sibling]


# What stands


def _set(plan: Plan, standing: Standing, done: Mapping[int, Done]) -> None:
    """Set a stage's counters."""
    number, mine = standing.number, done[standing.number]
    standing.forwards, standing.trained, standing.evaluated = mine.forwards, mine.trained, mine.evaluated
    standing.due, standing.save_due = plan.due(mine.forwards), plan.saves_before(mine.forwards)
    standing.saved = mine.saved
    standing.applicable = standing.until_next_save()
    standing.applied = dict(mine.applied)
    if not standing.is_head:
        by = plan.settles_by(number)
        counts = {"F": mine.forwards, "C": mine.corrected, "U": mine.summed * plan.micro}
        standing.settled, standing.corrected = counts.get(by, mine.trained), mine.corrected
    if number > 1:
        before = done[number - 1]
        standing.activations, standing.evaluations = before.forwards, before.evaluated
        standing.activation_owed = mine.taken % (plan.activation_credits // 2)
    else:
        standing.lengths = plan.lengths_after(done[plan.head].forwards)
        standing.lengths_due = min(plan.lengths_before(mine.forwards), plan.lengths)
    if standing.settles_with is not None:
        after = done[number + 1]
        standing.backwards = after.forwards if _comes_with_forward(plan, number) else after.trained
        standing.truths = after.corrected if _awaits_truth(plan, number) else 0
    lot = plan.increment_credits // 2
    for k in standing.siblings:
        standing.increments[k] = max(_increments(plan, k, done[k]), _applied(plan, mine, k))
        standing.increment_owed[k] = _applied(plan, mine, k) % lot
    for k in standing.replicas:
        back = _applied(plan, done[k], number) // lot * lot
        standing.increment_credit[k] = plan.increment_credits - _increments(plan, number, mine) + back
    if not standing.is_head:
        back = done[number + 1].taken
        back -= back % (plan.activation_credits // 2)
        standing.activation_credit = plan.activation_credits - mine.taken + back
