"""Programs as data: what each stage does, in which order, as text that can be written, read, drawn and changed. Pure.

A stage's line names its actions in their order. What stands before a bar is done once, at the start; the rest is repeated,
each time so many batches on as it has forwards. Without a bar all of it is repeated:

    # article, two tied boxes
    box-1: F0 T0 U2.0
    box-2: U1.0 F0 T0
    head:  F0

    # 1f1b, two boxes
    box-1: F0 F1 F2 | B0 F3
    box-2: F0 F1 | B0 F2
    head:  F0

An action whose batch is beyond the last one is left out: the second box-1 ends `… B7 B8 B9`. A bar at the end says that
nothing is repeated. Evaluations and checkpoints stand in no line. Where some are due, the program comes to its end, they
follow, and it starts again with the next batch; so every stage evaluates, and saves, the same weights. The journals' short
form is read as well.

With `schedule.micro_batches` M, F and B count micro-batches, and U counts batches: U0 is the step on the sum of the first
M gradients of this box and, with tied weights, of all of them.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from .actions import Action, format_journal, parse_journal, stage_names
from .errors import ScheduleError
from .plan import Plan

_LINE = re.compile(r"\s*([\w-]+)\s*:(.*)")


class Pattern(NamedTuple):
    """A stage's program: what it does once, and what it repeats with later batches."""

    start: tuple[Action, ...]
    again: tuple[Action, ...]

    def __str__(self) -> str:
        if not self.start:
            return format_journal(self.again)
        return f"{format_journal(self.start)} | {format_journal(self.again)}".rstrip()


def unroll(pattern: Pattern, first: int, count: int, micro: int) -> Iterator[Action]:
    """Yield the actions for `count` batches from `first` on; both are multiples of `micro`."""
    assert first % micro == count % micro == 0, "a batch of micro-batches is whole"
    steps, first_step = count // micro, first // micro
    for kind, batch, sibling in pattern.start:
        is_step = kind == "U" and not sibling
        if batch < (steps if is_step else count):
            yield Action(kind, batch + (first_step if is_step else first), sibling)
    shift = sum(kind == "F" for kind, _, _ in pattern.again)
    # Each place of the part that repeats has its own first batch, stride and end.
    places = [
        (kind, sibling, batch, shift // micro, steps, first_step)
        if kind == "U" and not sibling
        else (kind, sibling, batch, shift, count, first)
        for kind, batch, sibling in pattern.again
    ]
    turn, is_on = 0, bool(shift)
    while is_on:
        is_on = False
        for kind, sibling, batch, stride, end, offset in places:
            if (at := batch + turn * stride) < end:
                is_on = True
                yield Action(kind, at + offset, sibling)
        turn += 1


# The known ones


def article(plan: Plan, number: int) -> Pattern:
    """Return the eight steps, generalised to any number of boxes, one batch after the other."""
    siblings, rule = plan.siblings(number), plan.learns(number)
    settle = {"synthetic": [Action("T", 0)], "backward": [Action("B", 0)]}.get(rule, [])
    settle += [Action("C", 0)] if plan.settles_by(number) == "C" else []
    before = [Action("U", 0, k) for k in siblings if k < number]
    after = [Action("U", 0, k) for k in siblings if k > number]
    if plan.rule == "backward":  # the last box is the first to update
        return Pattern((), (Action("F", 0), *after[::-1], *settle, *before[::-1]))
    # With true targets T comes last: it then reads the weights that every update of the batch has gone into.
    rest = [*settle, *after] if plan.target == "bootstrapped" or rule == "backward" else [*after, *settle]
    return Pattern((), (*before, Action("F", 0), *rest))


def locked(plan: Plan, number: int) -> Pattern:
    """Return full backpropagation through time, one batch in flight."""
    return gpipe(plan, number)  # with one micro-batch it is


def gpipe(plan: Plan, number: int) -> Pattern:
    """Return GPipe's order: all micro-batches forward, all of them backward, one step (Huang et al. 2019)."""
    return _flushed(plan, number, plan.micro)


def one_f_one_b(plan: Plan, number: int) -> Pattern:
    """Return 1F1B: as many forwards as there are stages from here on, then one backward, one forward, in turn.

    Without micro-batches it never flushes, and every B updates (PipeDream, Narayanan et al. 2019); with them the batch ends
    in one step (PipeDream-Flush, Narayanan et al. 2021).
    """
    ahead = plan.head - number + 1
    return _flushed(plan, number, ahead) if plan.micro > 1 else _alternating(plan, number, ahead)


def delayed(plan: Plan, number: int) -> Pattern:
    """Return after each F the B of the batch `delay` before: true gradients so many batches late (DDG, Huo et al. 2018).

    DDG's lateness falls from box to box, as that of 1f1b does. Here it is the same at every box, so that learning rules can be
    held against each other at one lateness; the price is a round trip through all stages for each batch, as with `locked`.
    """
    return _alternating(plan, number, plan.delay + 1)


def _flushed(plan: Plan, number: int, ahead: int) -> Pattern:
    """Return a batch of micro-batches, `ahead` of them forwarded before the first B, and the step that ends it."""
    if not plan.goes_back(number):
        return Pattern((), (Action("F", 0),))
    order = [Action("F", m) for m in range(min(ahead, plan.micro))]
    for m in range(plan.micro):
        order.append(Action("B", m))
        if m + ahead < plan.micro:
            order.append(Action("F", m + ahead))
    return Pattern((), (*order, *([Action("U", 0)] if plan.sums_gradients else [])))


def _alternating(plan: Plan, number: int, ahead: int) -> Pattern:
    if not plan.goes_back(number):
        return Pattern((), (Action("F", 0),))
    return Pattern(tuple(Action("F", i) for i in range(ahead)), (Action("B", 0), Action("F", ahead)))


def own(plan: Plan, number: int) -> Pattern:
    """Return the user's program; raises ScheduleError."""
    return _parsed(plan.program, plan.boxes)[plan.name(number)]


@functools.cache
def _parsed(text: str, boxes: int) -> dict[str, Pattern]:
    return parse(text, boxes)  # once for all its stages


PROGRAMS: dict[str, Callable[[Plan, int], Pattern]] = {
    "article": article,
    "locked": locked,
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
    "delayed": delayed,
    "own": own,
}


def program(plan: Plan, number: int, first: int = 0) -> Iterator[Action]:
    """Yield all actions of stage `number` by the plan's program, evaluations and checkpoints where they are due.

    With `first` those that follow the checkpoint after so many batches.
    """
    pattern = PROGRAMS[plan.schedule](plan, number)
    for end in _ends(plan):
        if end <= first:
            continue
        yield from unroll(pattern, first, end - first, plan.micro)
        # All evaluations that stand before the forward of batch `first` are done.
        yield from (Action("E", e) for e in range(plan.due(first), plan.due(end)))
        yield from (Action("S", c) for c in range(plan.saves_before(first), plan.saves_before(end)))
        first = end


def _ends(plan: Plan) -> Iterator[int]:
    """Yield after how many batches evaluations or a checkpoint are due."""
    strides = [stride for stride in (plan.epoch_batches * plan.evaluate_every, plan.save_every) if stride]
    ends = heapq.merge(*(range(stride, plan.batches, stride) for stride in strides))
    yield from (end for end, _ in itertools.groupby(ends))
    yield plan.batches


# The text form


def render(patterns: Mapping[str, Pattern]) -> str:
    """Return programs as text, a line a stage: the inverse of `parse`."""
    widest = max(map(len, patterns)) + 1
    return "".join(f"{f'{name}:':<{widest}} {pattern}\n" for name, pattern in patterns.items())


def parse(text: str, boxes: int) -> dict[str, Pattern]:
    """Return every stage's program; raises ScheduleError that names the line and what is wrong with it."""
    names = stage_names(boxes)
    found: dict[str, Pattern] = {}
    for place, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0]
        if not content.strip():
            continue
        match = _LINE.fullmatch(content)
        if match is None:
            raise ScheduleError(f"line {place}: {line.strip()[:60]!r} is no program; lines look like 'box-1: F0 B0'")
        name, actions = match.groups()
        if name not in names:
            raise ScheduleError(f"line {place}: there is no {name}; the stages are {', '.join(names)}")
        if name in found:
            raise ScheduleError(f"line {place}: {name} has a program already; one line a stage is wanted")
        found[name] = _pattern(actions, f"line {place}, {name}")
    missing = [name for name in names if name not in found]
    if missing:
        raise ScheduleError(f"no program for {', '.join(missing)}; a line for each of {', '.join(names)} is wanted")
    return {name: found[name] for name in names}


def _pattern(text: str, where: str) -> Pattern:
    parts = text.split("|")
    if len(parts) > 2:
        raise ScheduleError(f"{where}: one bar at most is wanted, between what is done once and what is repeated")
    try:
        # Read as one, so that the short form may go on beyond the bar.
        start = parse_journal(parts[0]) if len(parts) == 2 else []
        whole = parse_journal(text.replace("|", " "))
    except ScheduleError as error:
        raise ScheduleError(f"{where}: {error}") from None
    for kind, what, key in (("E", "evaluations", "train.evaluate_every"), ("S", "checkpoints", "checkpoint.every")):
        if any(action.kind == kind for action in whole):
            raise ScheduleError(f"{where}: {what} stand in no program; they follow by {key}")
    again = whole[len(start) :]
    if not whole or (again and not any(action.kind == "F" for action in again)):
        raise ScheduleError(f"{where}: what is repeated needs a forward, as in 'F0 F1 | B0 F2'")
    return Pattern(tuple(start), tuple(again))


def learning_rule(patterns: Mapping[str, Pattern], last_waits: bool = False) -> str:
    """Return how boxes learn by a user's program: T: synthetic, B: backward, neither: frozen; raises ScheduleError.

    The last box may have B where the others have T, if it waits for its gradient.
    """
    kinds = {
        name: {action.kind for action in (*pattern.start, *pattern.again)}
        for name, pattern in patterns.items()
        if name != "head"
    }
    for name, has in kinds.items():
        if {"T", "B"} <= has:
            raise ScheduleError(f"{name}: T and B in one program; a box learns by its oracle (T) or by B")
    rules = {name: "synthetic" if "T" in has else "backward" if "B" in has else "frozen" for name, has in kinds.items()}
    first = next(iter(rules))
    if last_waits and len(rules) > 1 and rules[first] == "synthetic" and rules[list(rules)[-1]] == "backward":
        rules.popitem()
    for name, rule in rules.items():
        if rule != rules[first]:
            settles = {"synthetic": "T", "backward": "B", "frozen": "neither B nor T"}
            raise ScheduleError(
                f"{first} has {settles[rules[first]]} in its line, {name} has {settles[rule]}; all boxes learn alike"
            )
    return rules[first]


def widest(actions: Iterable[Action], settles: str, micro: int) -> int:
    """Return the most batches that a box has forwarded and not settled, by its program."""
    flying = most = 0
    for kind, _, sibling in actions:
        if kind == "F":
            flying += 1
            most = max(most, flying)
        elif kind == settles and not sibling:
            flying -= micro if kind == "U" else 1
    return most
