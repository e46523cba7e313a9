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
        found.append((k, "F", "forward", _forward(plan, k)))
        if (update := _early(plan, k)) is not None:
            found.append((k, "F", "update", update))
        if k > 1 and plan.backward_kind(k - 1) == TARGET:
            found.append((k - 1, "T", "train", f"train oracle {k - 1} on the target from {plan.name(k)}"))
    found += [(plan.head, "F", part, text) for part, text in zip(("forward", "update"), _head(plan), strict=True)]
    for k in range(last, 0, -1):
        if plan.backward_kind(k) == GRADIENT and plan.learns(k) == "synthetic":
            what = "mixed target" if plan.target == "mixed" and k < last else "true gradient"
            found.append((k, "T", "train", f"train oracle {k} on the {what}"))
        elif plan.goes_back(k):
            own = "its own steps' losses and " if plan.reads else ""
            found.append((k, "B", "backward", f"backward on {own}the true gradient"))
        if plan.settles_by(k) == "C":
            found.append((k, "C", "correct", "correct: the true gradient less the synthetic one"))
    if plan.sums_gradients:
        found += [(k, "U", "apply", SUM) for k in range(1, last + 1)]
    return [Step(number, *rest) for number, rest in enumerate(found, 1)]


def _forward(plan: Plan, k: int) -> str:
    """Return what a box computes: by a layer of its own, or a cell that enters with the state of the box before."""
    if plan.cell == "dense":
        return f"h{k} = dense{k}({f'h{k - 1}' if k > 1 else 'x'}), its {plan.function} layers"
    if plan.cell == "rnn":
        return f"h{k} = tanh(x Wx{f' + h{k - 1} Wrec' if k > 1 else ''})"
    names = ("h", "c") if plan.cell == "lstm" else ("h",)
    leaving = ", ".join(f"{name}{k}" for name in names)
    entering = "".join(f", {name}{k - 1}" for name in names) if k > 1 else ""
    name = "cell" if plan.cell == "own" else plan.cell.upper()
    return f"{leaving} = {name}(x{entering})"


def _early(plan: Plan, k: int) -> str | None:
    """Return what a box updates on before any gradient has come to it, or None where it waits for one."""
    rule = plan.learns(k)
    if plan.reads:
        texts = {"local": "the losses of its own steps", "synthetic": f"its own steps' losses and oracle {k}"}
    else:
        texts = {"local": f"the loss of classifier {k}", "synthetic": f"oracle {k}", "traced": "the shared oracle"}
    return f"update on {texts[rule]}" if rule in texts else None


def _head(plan: Plan) -> tuple[str, str]:
    """Return what the head does to forward and to update; where boxes read their own steps it has no layer."""
    if plan.reads:
        says = (
            "nothing to learn; after an epoch, how long sequences are" if plan.grows else "nothing: it has no weights"
        )
        return "add up what the boxes say", says
    if plan.micro > 1:
        return f"y from h{plan.boxes} Wfc", "add to the batch's gradient; the last part of it updates"
    return f"y from h{plan.boxes} Wfc", "update on the true loss"


def describe(action: str, part: str, sibling: int) -> str:
    """Return in words what an action's part is that has no number of its own."""
    if action == "U":
        return f"apply box {sibling}'s increment" if sibling else SUM
    return {"E": "evaluate", "S": "save a checkpoint"}.get(action, part)
