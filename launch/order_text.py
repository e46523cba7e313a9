"""The execution-order diagram of one batch as text: a lane a worker, a row a part, and what the steps are. Pure."""

from __future__ import annotations

from pipeline import steps
from pipeline.actions import COUNTED

from . import clocks
from .order import MOST_OTHERS, Order, action_of, is_of

#: Width of a worker's lane, and of what stands before the lanes.
LANE, MARGIN = 17, 26


def draw(order: Order, width: int) -> str:
    """Return the diagram as text: a lane a worker where `width` columns allow it, else a column with its name."""
    plan = order.plan
    tied = "tied" if plan.tied else "untied"
    boxes = "1 box" if plan.boxes == 1 else f"{plan.boxes} {tied} boxes"
    zero = order.rows[0].span.start_ns
    times = clocks.beside("times in ms", order.clock_error_ns)
    lines = [f"batch {order.batch} of {order.folder.name}: {plan.schedule}, {boxes}; {times}", ""]
    has_lanes = MARGIN + LANE * plan.head <= width
    names = [plan.name(k) for k in range(1, plan.head + 1)]
    head = "".join(name.ljust(LANE) for name in names) if has_lanes else "worker    what"
    lines.append(f" step   begins     took   {head}".rstrip())
    for row in order.rows:
        span = row.span
        number = str(row.step) if row.step else "·"
        begins, took = (span.start_ns - zero) / 1e6, (span.end_ns - span.start_ns) / 1e6
        what = f"{span.action} {span.part} {row.mark}".rstrip()
        indent = names.index(span.stage) * LANE
        place = " " * indent + what if has_lanes else f"{span.stage:<9} {what}"
        lines.append(f"{number:>5} {begins:8.3f} {took:8.3f}   {place}")
    return "\n".join([*lines, "", *_legend(order, zero)]) + "\n"


def _legend(order: Order, zero: int) -> list[str]:
    lines = [f"  !  {text}" for text in order.warnings]
    if order.forward_end_ns is not None:
        end = (order.forward_end_ns - zero) / 1e6
        early = [str(row.step) for row in order.rows if row.mark == "★"]
        lines.append(f"The forward pass of batch {order.batch} ended at {end:.3f} ms, in the head.")
        known = ", by what is on record" if order.unrecorded else ""
        if early:
            which = f"step{'s' * (len(early) > 1)} {', '.join(early)}"
            lines.append(f"  ★  weights that had changed before that{known}: {which}")
        else:
            lines.append(f"     By this batch no weight had changed before that{known}.")
        if any(row.mark == "☆" for row in order.rows):
            lines.append("  ☆  weights that were being changed at that moment")
    elif order.unrecorded:
        lines.append(f"When the forward pass of batch {order.batch} ended is not on record: nothing is marked.")
    lines += _others(order, zero)
    lines.append("")
    shown = {row.step for row in order.rows}
    for step in steps.steps(order.plan):
        missing = "   (not on record)" if step.number in order.unrecorded else "   (not reached)"
        whose, action = order.plan.name(step.stage), action_of(step, order.batch, order.plan)
        told = "" if step.number in shown else missing
        lines.append(f"{step.number:>5}  {whose:<8} {action} {step.part:<9} {step.text}{told}")
    return lines


def _others(order: Order, zero: int) -> list[str]:
    """Return what the rows without a number are, and which of them are shown."""
    spans = [row.span for row in order.rows if not row.step]
    whose = {
        "other batches": any(s.action.batch != order.batch and s.action.kind not in COUNTED for s in spans),
        "evaluations (E)": any(s.action.kind == "E" for s in spans),
        "checkpoints (S)": any(s.action.kind == "S" for s in spans),
        "the probe": any(s.part == "probe" for s in spans),
    }
    what = ", ".join(text for text, is_there in whose.items() if is_there)
    lines = [f"  ·  no step of batch {order.batch}: {what}"] if what else []
    if any(span.action.sibling for span in spans):
        lines.append("  ·  U k.b: box k's increment of batch b to the weights that all boxes share")
    if order.left_out:
        last = max(span.start_ns for span in spans if not is_of(span, order.batch, order.plan))
        after = f"{(last - zero) / 1e6:.3f} ms"
        lines.append(f"  ·  the first {MOST_OTHERS} of these are shown; {order.left_out} after {after} are left out")
    return lines
