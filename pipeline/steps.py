"""The numbered steps of one batch, as the original counts them, for any number of boxes. Pure.

With an oracle, boxes T = 2 (the eight steps):

    1 box-1 forward    2 box-1 update on oracle 1    3 box-2 forward    4 box-2 update on oracle 2
    5 box-1 train oracle 1    6 head forward    7 head update    8 box-2 train oracle 2

Numbers follow the reference's order. What really happened is in the trace; steps 5 and 6, say, are concurrent.
"""

from __future__ import annotations

from typing import NamedTuple

from .actions import GRADIENT, TARGET
from .plan import Plan

SUM = "step on the sum of gradients"


class Step(NamedTuple):
    """A numbered step: whose, which action and which part of it, and what it is in words."""

    number: int
    stage: int
    action: str
    part: str
    text: str


def steps(plan: Plan) -> list[Step]:
    """Return the steps of one batch in the reference's order."""
    found: list[tuple[int, str, str, str]] = []
    last = plan.boxes
    for k in range(1, last + 1):
        found.append((k, "F", "forward", f"h{k} = tanh(x Wx{f' + h{k - 1} Wrec' if k > 1 else ''})"))
        if plan.learns(k) == "synthetic":
            found.append((k, "F", "update", f"update on oracle {k}"))
        elif plan.learns(k) == "local":
            found.append((k, "F", "update", f"update on the loss of classifier {k}"))
        if k > 1 and plan.backward_kind(k - 1) == TARGET:
            found.append((k - 1, "T", "train", f"train oracle {k - 1} on the target from {plan.name(k)}"))
    found.append((plan.head, "F", "forward", f"y from h{last} Wfc"))
    update = (
        "update on the true loss" if plan.micro == 1 else "add to the batch's gradient; the last part of it updates"
    )
    found.append((plan.head, "F", "update", update))
    for k in range(last, 0, -1):
        if plan.backward_kind(k) == GRADIENT and plan.learns(k) == "synthetic":
            what = "mixed target" if plan.target == "mixed" and k < last else "true gradient"
            found.append((k, "T", "train", f"train oracle {k} on the {what}"))
        elif plan.goes_back(k):
            found.append((k, "B", "backward", "backward on the true gradient"))
        if plan.settles_by(k) == "C":
            found.append((k, "C", "correct", "correct: the true gradient less the synthetic one"))
    if plan.sums_gradients:
        found += [(k, "U", "apply", SUM) for k in range(1, last + 1)]
    return [Step(number, *rest) for number, rest in enumerate(found, 1)]


def describe(action: str, part: str, sibling: int) -> str:
    """Return in words what an action's part is that has no number of its own."""
    if action == "U":
        return f"apply box {sibling}'s increment" if sibling else SUM
    return {"E": "evaluate"}.get(action, part)
