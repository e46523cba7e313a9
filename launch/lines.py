"""Lines of a trace's records: when each one was, which message it sends or takes, and how it reads. Pure, with numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline import steps, trace
from pipeline.actions import ACTIONS, COUNTED, CREDIT_ACTIVATION, CREDIT_INCREMENT, EVALUATION, KINDS, Action
from pipeline.arrays import Array
from pipeline.lacks import CREDIT, DRAIN, WAITS, WINDOW
from pipeline.plan import Plan
from pipeline.recorder import BURST
from pipeline.schema import Config
from pipeline.worklog import iso

from .aligned import SAME, Shift
from .logs import Filter, Line

#: The last moment that a line's `ts` can tell, in nanoseconds since 1970.
LAST_NS = 253_402_300_799 * 1_000_000_000


def keys_of(number: int, array: Array, kind: int) -> Array:
    """Return a number for each message that a stage sent or took: source, target and place on that edge; 0 for others."""
    mine, other = np.full(len(array), number, np.uint64), array["peer"].astype(np.uint64)
    source, target = (other, mine) if kind == trace.TAKEN else (mine, other)
    found: Array = (source << np.uint64(48)) | (target << np.uint64(32)) | array["d"]
    return np.where(array["kind"] == kind, found, np.uint64(0))


def times_of(array: Array) -> Array:
    """Return when each record's line was: a message when it had been encoded or received, all else when it had ended."""
    is_message = np.isin(array["kind"], (trace.SENT, trace.TAKEN))
    times: Array = np.where(is_message, array["start"] + array["c"].astype(np.int64), array["end"])
    return times


def left_out(array: Array) -> int:
    """Return how many records the gaps among these tell to be missing."""
    return int(array["a"][array["kind"] == trace.GAP].sum())


def why_left_out(config: Config) -> str:
    """Return what leaves records out of a run's trace; it does not tell which of it did."""
    if config.trace.every > 1:
        return f"trace.every records one burst of {BURST} batches in {config.trace.every}, trace.most_mb or a full disk fewer"
    return f"beyond half of trace.most_mb ({config.trace.most_mb} MB a stage) batches are sampled, or the disk was full"


class Teller:
    """Makes lines of one stage's records; on another host these have the launcher's times, and `ts` is that host's own."""

    def __init__(
        self, plan: Plan, name: str, header: dict[str, Any], shift: Shift = SAME, *, tells_parts: bool
    ) -> None:
        self.plan = plan
        self.name = name
        self.number = plan.number(name)
        numbers = (header.get("wall_ns"), header.get("mono_ns"))
        self.shift = numbers[0] - numbers[1] if isinstance(numbers[0], int) and isinstance(numbers[1], int) else 0
        self.clock = shift
        self.tells_parts = tells_parts
        self._steps = {(step.action, step.part): step for step in steps.steps(plan) if step.stage == self.number}

    def sensible(self, array: Array) -> Array:
        """Return which records can be told: of stages that there are, at times that a calendar has."""
        head, kind, peer = self.plan.head, array["kind"], array["peer"]
        is_message = (kind == trace.SENT) | (kind == trace.TAKEN)
        ends = np.maximum(array["end"], times_of(array)).astype(float) + self.shift
        found: Array = (peer <= head) & (~is_message | ((peer > 0) & (peer != self.number)))
        found &= (ends >= 0) & (ends < LAST_NS)
        return found

    def may_tell(self, wanted: Filter) -> bool:
        """Whether a record of this stage can make a wanted line at all."""
        is_told = wanted.takes("message") or (self.tells_parts and wanted.takes("action"))
        return is_told and wanted.stage in (None, self.name)

    def wanted(self, array: Array, wanted: Filter) -> Array:
        """Return which records can make a wanted line; the filter itself has the last word."""
        kind = array["kind"]
        is_event = np.isin(kind, (trace.SENT, trace.TAKEN, trace.WAITED))
        is_part = np.isin(kind, np.frombuffer(ACTIONS.encode(), np.uint8))
        found: Array = is_event if wanted.takes("message") else np.zeros(len(array), bool)
        if self.tells_parts and wanted.takes("action"):
            found = found | is_part | (kind == trace.GAP)
        if wanted.batch is not None:
            found = found & (array["batch"] == wanted.batch)
        return found if wanted.stage in (None, self.name) else np.zeros(len(array), bool)

    def line(self, record: tuple[int, ...], sent_ns: int) -> Line | None:
        """Return a record's line, or None where it has none; `sent_ns` is when a message that was taken had been sent."""
        kind, code, peer, batch, a, b, c, _, start, end = record
        if kind in (trace.SENT, trace.TAKEN):
            return self._message(record, start + c, sent_ns)
        line: Line = {"ts": iso(self.clock.host_time(end) + self.shift), "mono_ns": end, "stage": self.name}
        if kind == trace.WAITED:
            return line | self._wait(code, peer, batch, WAITS[a] if a < len(WAITS) else "", (end - start) / 1e6)
        if kind == trace.GAP:
            text = f"{a:,} records of {(end - start) / 1e9:.3f} s were left out of the trace here"
            return line | {"level": "action", "event": "gap", "records": a, "text": text}
        if kind == trace.MARK or not self.tells_parts:
            return None
        action, part = Action(chr(kind), batch, peer), trace.PARTS[code]
        step = self._steps.get((action.kind, part)) if not action.sibling else None
        return line | {
            "level": "action",
            "action": str(action),
            "part": part,
            COUNTED.get(action.kind, "batch"): batch,
            **({"step": step.number} if step else {}),
            "read": a,
            "written": b,
            "ms": round((end - start) / 1e6, 3),
            "text": step.text if step else steps.describe(action.kind, part, action.sibling),
        }

    def _message(self, record: tuple[int, ...], at: int, sent_ns: int) -> Line:
        kind, code, peer, batch, size, version, _, sequence, _, _ = record
        is_sent, other, what = kind == trace.SENT, self.plan.name(peer), KINDS[code]
        line: Line = {
            "ts": iso(self.clock.host_time(at) + self.shift),
            "mono_ns": at,
            "stage": self.name,
            "level": "message",
        }
        line |= {"event": "sent" if is_sent else "taken", "message": what, _counted(what): batch}
        line |= {"from": self.name if is_sent else other, "to": other if is_sent else self.name}
        line |= {"sequence": sequence, "bytes": size, "version": version}
        if is_sent:
            return line | {"text": f"sent {what} {batch} to {other} ({size:,} bytes, v{version})"}
        text = f"took {what} {batch} from {other}"
        if not sent_ns:
            return line | {"text": f"{text}; its sending is not on record"}
        hop_ms = round((at - sent_ns) / 1e6, 3)
        hop = f"after {hop_ms:.3f} ms" if hop_ms >= 0 else f"{-hop_ms:.3f} ms before it was sent, by clocks that differ"
        return line | {"hop_ms": hop_ms, "text": f"{text} {hop}"}

    def _wait(self, code: int, peer: int, batch: int, why: str, wait_ms: float) -> Line:
        line: Line = {"level": "message", "event": "waited", "wait_ms": round(wait_ms, 3)}
        text = f"waited {wait_ms:.3f} ms"
        if not peer:
            return line | {"text": text}
        what, other = KINDS[code], self.plan.name(peer)
        line |= {"message": what, _counted(what): batch, "from": other, "to": self.name, "why": why}
        if why == CREDIT:
            return line | {"text": f"{text} for a credit from {other} to send {what} {batch}"}
        told = {WINDOW: ": its window is full", DRAIN: ": the last evaluation follows the drain"}.get(why, "")
        return line | {"text": f"{text} for {what} {batch} from {other}{told}"}


def _counted(what: str) -> str:
    """Return what a message's number counts."""
    return {EVALUATION: "evaluation", CREDIT_ACTIVATION: "credits", CREDIT_INCREMENT: "credits"}.get(what, "batch")
