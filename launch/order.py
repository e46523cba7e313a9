"""The execution-order diagram of one batch, from the journal and the trace of a run: what happened, in the order it did.

Numbers are those of the original's steps; the order is that of the times. What is not on record is named: a burst that was
left out, a trace that is missing, damaged, or at odds with its journal. Times of several hosts are the launcher's (`aligned`).
Pure but for reading the run; `order_text` draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline import steps, trace
from pipeline.actions import ACTIONS, COUNTED, Action
from pipeline.arrays import Array
from pipeline.config import load
from pipeline.errors import ConfigError, RunError
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.trace import Span

from . import aligned, runs
from .aligned import Shift
from .lines import why_left_out

#: Most spans that are no step of the batch, from the first one on, that a diagram shows.
MOST_OTHERS = 24


class Row(NamedTuple):
    """One span of the diagram; step is 0 for what has no number."""

    step: int
    span: Span
    mark: str


class Order(NamedTuple):
    """What happened between the first and the last span of a batch, as far as it is on record."""

    folder: Path
    plan: Plan
    batch: int
    rows: list[Row]
    forward_end_ns: int | None
    left_out: int  # spans of other batches that the diagram does not show, after the last one that it does
    unrecorded: list[int]  # steps that were done and are not on record, by their numbers
    clock_error_ns: int  # how far times of stages on different hosts may be off against each other; 0: one host
    warnings: list[str]


class Track(NamedTuple):
    """What is on record of a stage: the parts of its actions, where records were left out, and what its journal tells."""

    name: str
    parts: Array
    gaps: Array
    journal: list[Action] | None  # None: it cannot be read

    def between(self, first_ns: int, last_ns: int) -> list[Span]:
        """Return the parts that lie in a time, at least in part."""
        return self._spans(self.parts[(self.parts["start"] < last_ns) & (self.parts["end"] > first_ns)])

    def of(self, batch: int, step: int) -> list[Span]:
        """Return the parts of a batch, and the step that its gradient goes into."""
        parts = self.parts
        is_step = (parts["kind"] == ord("U")) & (parts["peer"] == 0)
        indices = np.where(is_step, step, batch)
        return self._spans(
            parts[(parts["batch"] == indices) & ~np.isin(parts["kind"], [ord(kind) for kind in COUNTED])]
        )

    def has_done(self, action: Action) -> bool:
        """Whether the stage did an action, whatever its trace has of that; as far as one knows."""
        return action in self.journal if self.journal is not None else not len(self.parts)

    def _spans(self, parts: Array) -> list[Span]:
        return [
            Span(self.name, Action(chr(kind), batch, peer), trace.PARTS[code], read, written, start, end)
            for kind, code, peer, batch, read, written, _, _, start, end in parts.tolist()
        ]


def collect(folder: Path, batch: int) -> Order:
    """Return the order of a batch in a run; raises ConfigError where there is no record, RunError for an unreadable one."""
    config = load(folder / "config.toml")
    plan = Plan.of(config)
    _check_has_trace(folder, config)
    if not 0 <= batch < plan.batches:
        raise ConfigError(f"--batch: {folder.name} has no batch {batch}; it has {plan.batches} batches, from 0")
    begin, alignment = runs.last_save(folder, plan), aligned.of_run(folder, plan)
    warnings = list(alignment.warnings)
    names = [plan.name(k) for k in range(1, plan.head + 1)]
    tracks = [_track(folder, name, begin, alignment.of(name), warnings) for name in names]
    if not any(len(track.parts) for track in tracks) and warnings:
        raise RunError(f"{folder.name}: nothing of its trace can be read: {'; '.join(warnings)}")
    own = [span for track in tracks for span in track.of(batch, plan.step(batch))]
    if not own:
        raise _not_on_record(folder, config, batch, tracks, warnings)
    end = next((s.end_ns for s in own if s.stage == "head" and s.part == "forward"), None)
    numbered = [span for span in own if not span.action.sibling]
    limits = numbered or own
    first, last = min(span.start_ns for span in limits), max(span.end_ns for span in limits)
    others = [span for track in tracks for span in track.between(first, last) if not is_of(span, batch, plan)]
    left_out = max(0, len(others) - MOST_OTHERS)
    numbers = {(step.stage, step.action, step.part): step.number for step in steps.steps(plan)}
    rows = []
    for span in sorted(numbered + sorted(others, key=lambda s: s.start_ns)[:MOST_OTHERS], key=lambda s: s.start_ns):
        is_own = is_of(span, batch, plan)
        step = numbers.get((plan.number(span.stage), span.action.kind, span.part), 0) if is_own else 0
        rows.append(Row(step, span, _mark(span, end) if step else ""))
    shown = {row.step for row in rows}
    unrecorded = [
        step.number
        for step in steps.steps(plan)
        if step.number not in shown and tracks[step.stage - 1].has_done(action_of(step, batch, plan))
    ]
    if left := [t.name for t in tracks if ((t.gaps["start"] < last) & (t.gaps["end"] > first)).any()]:
        warnings.append(f"in this time {', '.join(left)} left records out: {why_left_out(config)}")
    return Order(folder, plan, batch, rows, end, left_out, unrecorded, alignment.error_ns, warnings)


def action_of(step: steps.Step, batch: int, plan: Plan) -> Action:
    """Return a step's action: of micro-batches it is their batch that U counts."""
    return Action(step.action, plan.step(batch) if step.action == "U" else batch)


def is_of(span: Span, batch: int, plan: Plan) -> bool:
    """Whether a span is the batch's own: no other batch, no evaluation or checkpoint, no increment of another box."""
    kind, index, sibling = span.action
    return index == (plan.step(batch) if kind == "U" else batch) and kind not in COUNTED and not sibling


def _check_has_trace(folder: Path, config: Config) -> None:
    if (runs.read_json(folder / "launcher.json") or {}).get("reference"):
        why = "a reference runs in one process, in the order of its loop"
    elif config.trace.level == "off":
        why = "it ran with trace.level off"
    elif not (folder / "trace").is_dir():
        why = "it has not begun"
    else:
        return
    raise ConfigError(f"{folder.name} has no trace: {why}")


def _track(folder: Path, name: str, begin: Action | None, shift: Shift, warnings: list[str]) -> Track:
    """Return what can be read of a stage; what cannot, and what its journal does not confirm, is added to `warnings`."""
    try:
        _, array, faults, _ = trace.read_records(folder, name)
    except RunError as error:
        array, faults = np.zeros(0, trace.FIELDS), [str(error)]
    warnings += faults
    array = shift.records(array)
    is_part, is_gap = np.isin(array["kind"], np.frombuffer(ACTIONS.encode(), np.uint8)), array["kind"] == trace.GAP
    try:
        journal = trace.read_journal(folder, name)
    except RunError as error:
        journal = None
        warnings.append(str(error))
    if journal is not None and "damaged" not in "".join(faults):  # else it differs wherever a record is missing
        first = journal.index(begin) + 1 if begin in journal else 0  # of a run that was taken up again
        text = _difference(journal[first:], array[is_part], is_gap.cumsum()[is_part])
        warnings += [f"{name}: {text}; the diagram follows the trace"] if text else []
    return Track(name, array[is_part], array[is_gap], journal)


def _difference(journal: list[Action], parts: Array, gaps: Array) -> str:
    """Return where a trace tells other actions than the journal, or nothing; `gaps`: how many gaps are before each part.
    After a gap the trace goes on at some later action. Either file may end before the other does."""
    places = {action: place for place, action in enumerate(journal)} if len(gaps) and gaps[-1] else {}
    at = passed = 0
    before: Action | None = None
    for kind, batch, peer, gap in zip(*(parts[key].tolist() for key in ("kind", "batch", "peer")), gaps, strict=True):
        action = Action(chr(kind), batch, peer)
        if gap == passed and action == before:
            continue  # another part of it
        if gap != passed:
            at = max(places.get(action, len(journal)), at - (action == before))
        if at < len(journal) and journal[at] != action:
            return f"journal and trace differ at action {at}: {journal[at]} and {action}"
        at, passed, before = at + 1, gap, action
    return ""


def _not_on_record(
    folder: Path, config: Config, batch: int, tracks: Sequence[Track], warnings: Sequence[str]
) -> ConfigError:
    """Return what to say of a batch of which no stage has a record."""
    journals = [track.journal for track in tracks if track.journal is not None]
    if journals and not any(Action("F", batch) in journal for journal in journals):
        return ConfigError(f"--batch: no stage of {folder.name} has begun batch {batch}")
    why = why_left_out(config) if any(len(track.gaps) for track in tracks) else "the trace ends before it"
    if (begin := runs.resumed_from(runs.read_json(folder / "launcher.json") or {})) is not None:
        why = f"the run was taken up again from batch {begin}, what was recorded before is in {folder / 'trace' / 'epoch-…'}"
    found = np.unique(np.concatenate([track.parts["batch"][track.parts["kind"] == ord("F")] for track in tracks]))
    near = [*found[found < batch][-1:].tolist(), *found[found > batch][:1].tolist()]
    nearest = f"; the nearest on record: {' and '.join(map(str, near))}" if near else ""
    return ConfigError(f"--batch: batch {batch} is not on record: {'; '.join([*warnings, why])}{nearest}")


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
        "unrecorded": order.unrecorded,
        "clock_error_ns": order.clock_error_ns,
        "warnings": order.warnings,
    }
