"""The execution-order diagram of one batch, from the journal and the trace of a run: what happened, in the order it did.

Numbers are those of the original's steps; the order is that of the times. Pure but for reading the run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import steps, trace
from pipeline.config import load
from pipeline.errors import ConfigError, RunError
from pipeline.plan import Plan
from pipeline.trace import Span

#: Width of a worker's lane, and of what stands before the lanes.
LANE, MARGIN = 17, 26
#: Most spans of other batches that a diagram shows.
MOST_OTHERS = 24


class Row(NamedTuple):
    """One span of the diagram; step is 0 for what has no number."""

    step: int
    span: Span
    mark: str


class Order(NamedTuple):
    """What happened between the first and the last span of a batch."""

    folder: Path
    plan: Plan
    batch: int
    rows: list[Row]
    forward_end_ns: int | None
    left_out: int


def collect(folder: Path, batch: int) -> Order:
    """Return the order of a batch in a run; raises ConfigError for a batch that was never begun, RunError for no trace."""
    plan = Plan.of(load(folder / "config.toml"))
    if not (folder / "trace").is_dir():
        raise ConfigError(f"{folder.name} has no trace: a reference runs in one process, in the order of its loop")
    spans = [span for k in range(1, plan.head + 1) for span in _checked(folder, plan.name(k))]
    own = [span for span in spans if span.action.batch == batch and span.action.kind != "E"]
    if not own:
        raise ConfigError(
            f"--batch: no stage of {folder.name} has begun batch {batch}; it has {plan.batches} batches, from 0"
        )
    numbers = {(step.stage, step.action, step.part): step.number for step in steps.steps(plan)}
    end = next((s.end_ns for s in own if s.stage == "head" and s.part == "forward"), None)
    numbered = [span for span in own if not span.action.sibling]
    first, last = min(span.start_ns for span in numbered), max(span.end_ns for span in numbered)
    others = [s for s in spans if s not in set(numbered) and s.start_ns < last and s.end_ns > first]
    left_out = max(0, len(others) - MOST_OTHERS)
    rows = []
    for span in sorted(numbered + sorted(others, key=lambda s: s.start_ns)[:MOST_OTHERS], key=lambda s: s.start_ns):
        is_own = span.action.batch == batch and not span.action.sibling
        step = numbers.get((plan.number(span.stage), span.action.kind, span.part), 0) if is_own else 0
        rows.append(Row(step, span, _mark(span, end) if step else ""))
    return Order(folder, plan, batch, rows, end, left_out)


def _checked(folder: Path, stage: str) -> list[Span]:
    """Return a stage's spans after holding them against its journal."""
    spans = list(trace.read_spans(folder, stage))
    journal = trace.read_journal(folder, stage)
    taken = [span.action for place, span in enumerate(spans) if place == 0 or spans[place - 1].action != span.action]
    whole = min(len(journal), len(taken))
    if journal[:whole] != taken[:whole]:
        at = next(place for place in range(whole) if journal[place] != taken[place])
        raise RunError(f"{stage}: journal and trace differ at action {at}: {journal[at]} and {taken[at]}")
    return spans


def _mark(span: Span, forward_end_ns: int | None) -> str:
    """Mark a change of weights that had ended (★) or begun (☆) before the forward pass had ended."""
    if span.written == span.read or forward_end_ns is None or span.start_ns >= forward_end_ns:
        return ""
    return "★" if span.end_ns <= forward_end_ns else "☆"


def document(order: Order) -> dict[str, Any]:
    """Return the diagram as a JSON document."""
    return {
        "run": order.folder.name,
        "schedule": order.plan.schedule,
        "batch": order.batch,
        "forward_end_ns": order.forward_end_ns,
        "rows": [
            {
                "step": row.step or None,
                "stage": row.span.stage,
                "action": str(row.span.action),
                "part": row.span.part,
                "batch": row.span.action.batch,
                "start_ns": row.span.start_ns,
                "end_ns": row.span.end_ns,
                "read": row.span.read,
                "written": row.span.written,
                "before_forward_end": row.mark == "★",
            }
            for row in order.rows
        ],
        "left_out": order.left_out,
    }


def draw(order: Order, width: int) -> str:
    """Return the diagram as text: a lane a worker where `width` columns allow it, else a column with its name."""
    plan = order.plan
    tied = "tied" if plan.tied else "untied"
    boxes = "1 box" if plan.boxes == 1 else f"{plan.boxes} {tied} boxes"
    zero = order.rows[0].span.start_ns
    lines = [f"batch {order.batch} of {order.folder.name}: {plan.schedule}, {boxes}; times in ms", ""]
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
    lines = []
    if order.left_out:
        lines.append(f"  ·  {order.left_out} more spans of other batches in this time are left out")
    if order.forward_end_ns is not None:
        end = (order.forward_end_ns - zero) / 1e6
        early = [str(row.step) for row in order.rows if row.mark == "★"]
        lines.append(f"The forward pass of batch {order.batch} ended at {end:.3f} ms, in the head.")
        if early:
            lines.append(f"  ★  weights that had changed before that: step{'s' * (len(early) > 1)} {', '.join(early)}")
        else:
            lines.append("     No weight had changed before that.")
        if any(row.mark == "☆" for row in order.rows):
            lines.append("  ☆  weights that were being changed at that moment")
    if any(row.span.action.sibling for row in order.rows):
        lines.append("  ·  U k.b: box k's increment of batch b to the weights that all boxes share")
    lines.append("")
    shown = {row.step for row in order.rows}
    for step in steps.steps(order.plan):
        missing = "" if step.number in shown else "   (not reached)"
        lines.append(
            f"{step.number:>5}  {order.plan.name(step.stage):<8} {step.action}{order.batch} {step.part:<9} {step.text}{missing}"
        )
    return lines


def terminal_width() -> int:
    """Return the columns of the terminal, 80 where there is none."""
    import shutil

    return shutil.get_terminal_size((80, 24)).columns if os.environ.get("COLUMNS") or os.isatty(1) else 80
