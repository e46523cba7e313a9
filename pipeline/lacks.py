"""What a stage lacks for an action: values that cost little to make, and their texts on request. Pure.

A lack says why (one of the words below) and, where a message would help, which: its kind, its batch, and from whom. A
stage that lacks a message waits for it. It is *starved* while it waits for what comes from a stage before it, *blocked*
while it waits for a stage after it, or for anybody to give back credit:

    why       waits for                                     where the message comes from
    message   what the action consumes                      a stage before: starved · a stage after: blocked
    window    the target, gradient or increment that        the stage after: blocked
              settles the oldest batch in flight
    credit    room to send what the action makes            whoever receives it: blocked
    drain     what has to be done before the last E         as for message
    barrier   what has to be done before S                  as for message
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .actions import GRADIENT
from .plan import Plan

MESSAGE, WINDOW, CREDIT, DRAIN, BARRIER = "message", "window", "credit", "drain", "barrier"
ORDER, STRANGER, FOREIGN, FIRST = "order", "stranger", "foreign", "first"
#: The reasons for which a stage waits for a message, in the order of their codes in a trace.
WAITS = (MESSAGE, WINDOW, CREDIT, DRAIN, BARRIER)


class Lack(NamedTuple):
    """Why an action is not enabled. With a `source` a message of `kind` and `batch` from that stage is awaited.

    For `order`, `kind` is the action's letter and `source` the batch whose turn it is.
    """

    why: str
    kind: str = ""
    batch: int = 0
    source: int = 0

    @property
    def is_wait(self) -> bool:
        """Whether a message would help."""
        return self.why in WAITS and self.source > 0

    def is_blocked(self, number: int) -> bool:
        """Whether stage `number` is blocked by the source; else it is starved by it."""
        return self.why == CREDIT or self.source > number


FORWARDED = Lack("every batch has been forwarded")
SETTLED = Lack("every batch is settled")
CORRECTED = Lack("every batch is corrected")
EVALUATED = Lack("every evaluation is done")
NOTHING_BACK = Lack("nothing comes back to this stage")
NO_SUM = Lack("this stage makes no step on a sum")
NOT_SIBLING = Lack("only U names a sibling")
SUM_ONLY = Lack("sum only")
EVALUATION_FIRST = Lack(FIRST, "evaluation")
EVALUATED_SO_FAR = Lack(FIRST, "forward")
SAVED = Lack("every checkpoint is saved")
SAVE_FIRST = Lack(FIRST, "save")
SAVED_SO_FAR = Lack(FIRST, "forward before save")
SAVE_BEFORE_LATER = Lack(FIRST, "save before later increments")
EVALUATION_BEFORE_SAVE = Lack(FIRST, "evaluation before save")
FORWARD_FIRST = Lack(FIRST, "settling")
BACKWARD_FIRST = Lack(FIRST, "sum")
TRAIN_FIRST = Lack(FIRST, "correcting")
DRAIN_FORWARD = Lack(DRAIN, "forward")


class Counters(Protocol):
    """What the texts need to know of a stage."""

    plan: Plan
    forwards: int
    trained: int
    corrected: int
    settled: int
    micro: int
    evaluated: int
    saved: int
    settling_action: str
    rule: str

    @property
    def stepped(self) -> int:
        """Updates of its own."""


def explain(stage: Counters, lack: Lack) -> str:
    """Return in words why an action is not enabled."""
    why, kind, batch, source = lack
    if why == ORDER:
        return f"{kind}{batch} is done already" if batch < source else f"{kind}{source} comes before {kind}{batch}"
    if why == STRANGER:
        return f"box {source} is no sibling that shares increments"
    if why == FOREIGN:
        return f"{kind} is no action of a stage {f'that learns by the rule {stage.rule!r}' if stage.rule else 'like the head'}"
    if why == FIRST:
        return {
            "evaluation": f"E{stage.evaluated} comes before F{stage.forwards}",
            "save": f"S{stage.saved} comes before F{stage.forwards}",
            "save before later increments": f"S{stage.saved} comes before increments of later batches",
            "forward before save": f"F{stage.forwards} comes before S{stage.saved}",
            "evaluation before save": f"E{stage.evaluated} comes before S{stage.saved}",
            "forward": f"F{stage.forwards} comes before E{stage.evaluated}",
            "correcting": f"T{stage.corrected} comes before C{stage.corrected}",
            "settling": f"F{stage.forwards} comes before {stage.settling_action}{stage.trained}",
            "sum": f"B{(stage.stepped + 1) * stage.micro - 1} comes before U{stage.stepped}",
        }[kind]
    if lack is SUM_ONLY:
        return f"boxes make one step on the sum of their gradients, U{stage.stepped}"
    if lack is DRAIN_FORWARD:
        return f"the final evaluation follows the drain; F{stage.forwards} is to do"
    if why not in WAITS:
        return why
    before = {
        MESSAGE: "",
        WINDOW: f"the window of {stage.plan.window} is full; ",
        CREDIT: f"no credit to send an {kind}; ",
        DRAIN: "the final evaluation follows the drain; ",
        BARRIER: "a checkpoint follows when nothing is in flight; ",
    }[why]
    return f"{before}waiting: {awaited(stage, lack)}"


def awaited(stage: Counters, lack: Lack) -> str:
    """Return in words which message a lack waits for, or nothing."""
    if lack.why == WINDOW and not lack.source:
        return f"{'C' if lack.kind == GRADIENT else 'U'}{lack.batch}"
    if not lack.is_wait:
        return ""
    name = stage.plan.name(lack.source)
    return f"credit from {name}" if lack.why == CREDIT else f"{lack.kind} {lack.batch} from {name}"
