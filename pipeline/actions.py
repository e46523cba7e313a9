"""What a stage does and what stages say to each other: values with a text form and its inverse. Pure.

An action belongs to one stage, a message to one directed edge. Both name a batch by its index; no array is in them.

    F3      forward of batch 3; with an oracle also the update      activation 3 box-1>box-2
    B3      backward of batch 3 on the true gradient                gradient 3 head>box-2
    T3      train the oracle on the target of batch 3               target 3 box-2>box-1
    C3      correct: the true gradient less the synthetic one       gradient 3 box-2>box-1
    U1.3    apply box 1's increment of batch 3                      increment 3 box-1>box-2
    U3      one step on a sum of gradients (boxes', parts')         evaluation 3 box-1>box-2
    E3      evaluate: forward only, on test batch 3                 credit:activation 6 box-2>box-1
    S3      save checkpoint 3: nothing is in flight                 length 3 head>box-1 (of epoch 3's cost)

The head is stage boxes + 1 and is called `head`, so a stage's name needs the number of boxes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from .errors import ScheduleError, WireError

ACTIONS = "FBTCUES"
#: What the actions count that are of no batch.
COUNTED = {"E": "evaluation", "S": "checkpoint"}

#: What may travel. A credit says how many messages of its kind the sender of the credit has taken.
ACTIVATION, GRADIENT, TARGET, INCREMENT, EVALUATION = "activation", "gradient", "target", "increment", "evaluation"
CREDIT_ACTIVATION, CREDIT_INCREMENT = "credit:activation", "credit:increment"
#: How long sequences are from an epoch on, as the head says by its cost; numbered by the epoch that it judged.
LENGTH = "length"
KINDS = (ACTIVATION, GRADIENT, TARGET, INCREMENT, EVALUATION, CREDIT_ACTIVATION, CREDIT_INCREMENT, LENGTH)

# One text for one value: no leading zeros, no digits of other scripts, no sibling 0, no endless number.
_COUNT, _FROM_ONE = r"(0|[1-9][0-9]{0,98})", r"([1-9][0-9]{0,98})"
_ACTION = re.compile(rf"([FBTCES]){_COUNT}|U(?:{_FROM_ONE}\.)?{_COUNT}")
_SHORT = re.compile(rf"[FBTCUES]|U{_FROM_ONE}\.")
_MESSAGE = re.compile(rf"(\S+) {_COUNT} (\S+)>(\S+)")
_BOX = re.compile(rf"box-{_FROM_ONE}")


class Action(NamedTuple):
    """One action of a stage: its kind (one of `ACTIONS`), its batch, and for U the sibling (0: all of them)."""

    kind: str
    batch: int
    sibling: int = 0

    def __str__(self) -> str:
        return f"{self.kind}{self.sibling}.{self.batch}" if self.sibling else f"{self.kind}{self.batch}"


class Part(NamedTuple):
    """One part of an action: its name, the version of the weights it read, and the one it left."""

    name: str
    read: int
    written: int


def parse_action(text: str) -> Action:
    """Return the action that `text` names; raises ScheduleError."""
    match = _ACTION.fullmatch(text)
    if match is None:
        raise ScheduleError(f"{text!r} is no action; actions look like F3, T3, B3, U1.3, U3, E3")
    kind, batch, sibling, increment = match.groups()
    if kind:
        return Action(kind, int(batch))
    return Action("U", int(increment), int(sibling or 0))


def format_journal(actions: Iterable[Action]) -> str:
    """Return actions as one line of text, in their order."""
    return " ".join(map(str, actions))


def shorten_journal(actions: Iterable[Action], last: dict[tuple[str, int], int]) -> str:
    """Return a line of a journal: an action that follows the last one of its kind goes without its batch: `F0 T0 F T F`.

    Every kind's first one in a line tells its batch. `last` holds the batches that were written last, by kind and sibling.
    """
    words, told = [], set()
    for kind, batch, sibling in actions:
        line = kind, sibling
        follows, last[line] = last.get(line, -1) + 1 == batch, batch
        word = f"{kind}{sibling}." if sibling else kind
        words.append(word if follows and line in told else f"{word}{batch}")
        told.add(line)
    return " ".join(words)


def parse_journal(text: str) -> list[Action]:
    """Return the actions that `text` lists, separated by white space; raises ScheduleError.

    Without its batch an action is the next of its kind, from 0 on: `F T U2. F` says `F0 T0 U2.0 F1`.
    """
    last: dict[tuple[str, int], int] = {}
    found = []
    for word in text.split():
        match = _SHORT.fullmatch(word)
        if match is None:
            action = parse_action(word)
        else:
            kind, sibling = word[0], int(match[1] or 0)
            action = Action(kind, last.get((kind, sibling), -1) + 1, sibling)
        last[action.kind, action.sibling] = action.batch
        found.append(action)
    return found


def stage_name(number: int, boxes: int) -> str:
    """Return the name of stage `number` (1 … boxes + 1)."""
    return f"box-{number}" if number <= boxes else "head"


def stage_names(boxes: int) -> list[str]:
    """Return the names of all stages of a run with so many boxes, in their order."""
    return [stage_name(number, boxes) for number in range(1, boxes + 2)]


def stage_number(name: str, boxes: int) -> int:
    """Return the number of the stage called `name`; raises WireError when there is none."""
    if name == "head":
        return boxes + 1
    match = _BOX.fullmatch(name)
    if match is None or int(match[1]) > boxes:
        raise WireError(f"{name!r} is no stage of this run; stages are box-1 … box-{boxes} and head")
    return int(match[1])


class Message(NamedTuple):
    """One message on the directed edge source > target. Its arrays, if any, travel beside it."""

    kind: str
    batch: int
    source: int
    target: int

    def text(self, boxes: int) -> str:
        """Return the message as text: `activation 3 box-1>box-2`."""
        return f"{self.kind} {self.batch} {stage_name(self.source, boxes)}>{stage_name(self.target, boxes)}"


def parse_message(text: str, boxes: int) -> Message:
    """Return the message that `text` names; raises WireError."""
    match = _MESSAGE.fullmatch(text)
    if match is None or match[1] not in KINDS:
        raise WireError(f"{text!r} is no message; messages look like 'activation 3 box-1>box-2'")
    return Message(match[1], int(match[2]), stage_number(match[3], boxes), stage_number(match[4], boxes))
