"""`timebox stats`: where every worker's time went, how stale updates were, what messages cost, what the path was.

Everything is computed from the run's trace and journals; nothing is guessed. What could not be read is in `warnings`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline import trace
from pipeline.actions import KINDS
from pipeline.costs import Costs
from pipeline.errors import RunError, ScheduleError
from pipeline.plan import Plan
from pipeline.simulate import simulate

from . import breakdown, critical, runs, staleness
from .recording import Recording, StageRecords

#: The schedule's own bubble is computed over so many batches, and at most so many actions of all stages.
BATCHES, ACTIONS = 300, 20_000


def document(recording: Recording) -> dict[str, Any]:
    """Return the document of `timebox stats --json`."""
    plan, warnings = recording.plan, list(recording.warnings)
    makespan = (recording.end_ns - recording.origin_ns) / breakdown.NS
    stages = [breakdown.breakdown(stage, plan) for stage in recording.stages]
    warnings += [text for found in stages if (text := breakdown.fault(found))]
    stale = _staleness(recording, warnings)
    theory = theoretical_bubbles(plan, breakdown.mean_durations(recording.stages)) if _is_whole(recording) else {}
    for stage, found in zip(recording.stages, stages, strict=True):
        found["bubble"] = bubble(makespan, found) | theory.get(stage.number, {})
        found["staleness"] = stale.get(stage.number, {})
        found["records"] = len(stage.array)
        found["recording_s"] = len(stage.array) * stage.record_ns / breakdown.NS
    summary = runs.describe(recording.folder)
    return {
        "run": recording.folder.name,
        "schedule": plan.schedule,
        "status": summary["status"],
        "makespan_s": makespan,
        "clock_error_ns": recording.clock_error_ns,
        "stages": stages,
        "critical_path": critical.document(critical.steps(recording)),
        "messages": _messages(recording),
        "tracing": tracing(recording.stages),
        "warnings": warnings,
    }


def _is_whole(recording: Recording) -> bool:
    return len(recording.stages) == recording.plan.head


def bubble(makespan: float, found: dict[str, Any]) -> dict[str, float | None]:
    """Return a stage's measured bubble from its breakdown, in both definitions; what the theory says is left open.

    Whether a stage was busy in time that is not on record nobody knows, so that time is left out of idle, busy and
    makespan alike. None where nothing is left.
    """
    recorded = found["total_s"] - found["missing_s"]
    busy = recorded - breakdown.idle(found)
    makespan -= found["missing_s"]
    idle = makespan - busy
    return {
        "of_makespan": idle / makespan if recorded > 0 and makespan > 0 else None,
        "of_busy": idle / busy if recorded > 0 and busy > 0 else None,
        "theory_of_makespan": None,
        "theory_of_busy": None,
    }


def theoretical_bubbles(plan: Plan, durations: dict[tuple[int, str], int]) -> dict[int, dict[str, float | None]]:
    """Return each stage's bubble where messages are free and every stage has a processor, at the measured mean times.

    The schedule runs in virtual time, over a part of a long run and without evaluations: there is none in between, and
    the last one takes no time.
    """
    costs = Costs({key: (took,) for key, took in durations.items() if key[1] != "E"})
    per_batch = plan.head * (2 + (plan.boxes if plan.shares_increments else 0))
    batches = max(1, min(plan.batches, BATCHES, ACTIONS // per_batch))
    batches = max(plan.micro, batches - batches % plan.micro)
    try:
        found = simulate(plan._replace(batches=batches, epoch_batches=batches, evaluate_every=0), costs)
    except ScheduleError:
        return {}
    makespan = found.makespan_ns
    return {
        number: {
            "theory_of_makespan": 1 - busy / makespan if makespan else None,
            "theory_of_busy": makespan / busy - 1 if busy else None,
        }
        for number, busy in found.busy_ns.items()
    }


def _staleness(recording: Recording, warnings: list[str]) -> dict[int, dict[str, staleness.Histogram]]:
    journals = {}
    for number in range(1, recording.plan.head):
        try:
            journals[number] = trace.read_journal(recording.folder, recording.plan.name(number))
        except RunError as error:
            warnings.append(str(error))
    return staleness.staleness(recording.plan, journals)


def _messages(recording: Recording) -> list[dict[str, Any]]:
    """Return counts, bytes and hops of the messages of each kind on each edge."""
    messages, plan, found = recording.messages, recording.plan, []
    hops = (messages.taken - messages.sent) / breakdown.NS
    for stage in recording.stages:
        sends = stage.of("s")
        for code, target in sorted({*zip(sends["code"].tolist(), sends["peer"].tolist(), strict=True)}):
            mine = sends[(sends["code"] == code) & (sends["peer"] == target)]
            is_one = (messages.kind == code) & (messages.source == stage.number) & (messages.target == target)
            hop = hops[is_one]
            was_awaited = is_one & (messages.taken == messages.received)
            found.append(
                {
                    "kind": KINDS[code],
                    "from": stage.name,
                    "to": plan.name(target),
                    "count": len(mine),
                    "bytes": int(mine["a"].sum()),
                    "hop_median_s": float(np.median(hop)) if len(hop) else None,
                    "hop_p99_s": float(np.percentile(hop, 99)) if len(hop) else None,
                    "awaited": int(was_awaited.sum()),
                    "awaited_hop_median_s": float(np.median(hops[was_awaited])) if was_awaited.any() else None,
                }
            )
    return found


def tracing(stages: list[StageRecords]) -> dict[str, Any]:
    """Return what recording cost at least: each stage's records, by what one cost in a loop that its worker timed at its end.

    Between messages a record costs more than in such a loop, because its code and data are cold; `timebox bench trace`
    tells how much recording really adds.
    """
    shares = [len(stage.array) * stage.record_ns / max(stage.total_ns, 1) for stage in stages]
    costs = [stage.record_ns for stage in stages if stage.record_ns]
    return {
        "records": sum(len(stage.array) for stage in stages),
        "record_ns": int(np.median(costs)) if costs else None,
        "share": max(shares) if costs else None,
        "left_out": sum(int(stage.of("g")["a"].sum()) for stage in stages),
    }
