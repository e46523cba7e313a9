"""What came of a run, for its document: accuracy and costs, speed, attempts, the first failure. Reads the run's files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from pipeline import trace
from pipeline.checkpoints import batch_of
from pipeline.errors import RunError
from pipeline.files import save_json
from pipeline.plan import Plan
from pipeline.schema import Config

from . import clocks, runs, stacks
from .events import Failure
from .spawn import LiveRun
from .supervise import Supervisor

#: Batches at the start of a run that the steady throughput leaves out, as a share.
WARM_UP = 0.1
#: Lines of a failed worker's log that its error shows.
TAIL = 5


def epochs(folder: Path, config: Config) -> dict[str, Any]:
    """Return accuracy and costs, epoch by epoch, as far as there are any."""
    if not config.emulate.arithmetic:
        return {"accuracy": None, "costs": []}  # of zeros
    epochs = runs.read_metrics(folder)
    last = epochs[-1] if epochs else {}
    more: dict[str, Any] = {name: last[name] for name in ("whole", "level") if name in last}
    return {"accuracy": last.get("accuracy"), **more, "costs": [epoch["cost"] for epoch in epochs]}


def attempts(live: LiveRun) -> dict[str, Any]:
    """Return from which batch the run went on last, if it was taken up again, and what it has survived."""
    plan, attempts = live.plan, live.attempts
    recoveries = [
        {
            "stage": failure.stage,
            "batch": failure.batch,
            "error": failure.error,
            "from_batch": 0 if save is None else batch_of(plan, save),
            "seconds": round(seconds, 6),
        }
        for failure, save, seconds in live.supervisor.recoveries
    ]
    resumed_from = attempts[-1]["from_batch"] if len(attempts) > 1 else None
    return {"resumed_from": resumed_from, "attempts": len(attempts), "recoveries": recoveries}


def timing(folder: Path, plan: Plan, since_ns: int, seconds: float | None, begun: int | None) -> dict[str, Any]:
    """Return the steady throughput, from the head's forwards, and when the first update of a box had ended.

    It is in batches of the data; with micro-batches their last one counts, for the head goes through them by fits and starts.
    Without a trace the throughput is that of the whole run, `seconds` from go to the head's last action. `begun`: the batch
    from which a run went on that was taken up again.
    """
    try:
        ends = [
            (span.action.batch // plan.micro, span.end_ns)
            for span in trace.read_spans(folder, "head")
            if span.action.kind == "F" and span.part == "forward" and (span.action.batch + 1) % plan.micro == 0
        ]
        lines = clocks.read(folder)
        names = [plan.name(k) for k in range(1, plan.boxes + 1)]
        first = {name: _first_update(folder, name) for name in names}
    except RunError:
        whole = (plan.steps - (begun or 0)) / seconds if seconds else None
        return {"batches_per_s": whole, "first_update_s": None, "first_update_ns": None}
    warm = int(len(ends) * WARM_UP)
    batches_per_s = None
    if len(ends) > warm + 1:
        (batch, began), (last, ended) = ends[warm], ends[-1]
        batches_per_s = (last - batch) / ((ended - began) / 1e9)
    updates = [lines.get(name, clocks.OWN).launcher_time(end) for name, end in first.items() if end is not None]
    return {
        "batches_per_s": batches_per_s,
        # Of a run that was taken up again that was in another attempt.
        "first_update_s": (min(updates) - since_ns) / 1e9 if updates and begun is None else None,
        "first_update_ns": min(updates, default=None),
    }


def _first_update(folder: Path, stage: str) -> int | None:
    return next((span.end_ns for span in trace.read_spans(folder, stage) if span.is_update), None)


def failed(folder: Path, state: Supervisor, failure: Failure) -> dict[str, Any]:
    """Write error.json, the first failure, and return what the document says of it."""
    pid = state.members[failure.stage].pid if failure.stage in state.members else os.getpid()
    text = f"{failure.stage} (process {pid}), last heard of at batch {failure.batch}: {failure.error}"
    tail = log_tail(folder, failure.stage)
    error = {"stage": failure.stage, "pid": pid, "batch": failure.batch, "error": failure.error, "log": tail}
    if not failure.stacks and (crash := stacks.crash(folder, failure.stage, pid)):
        failure.stacks[failure.stage] = crash
    error |= {"waits": failure.waits, "stacks": failure.stacks}
    with contextlib.suppress(OSError):
        save_json(folder / "logs" / "error.json", error)
    return {"error": text, "first_failure": error, "wrong_request": failure.is_wrong_request}


def log_tail(folder: Path, stage: str, lines: int = TAIL) -> list[str]:
    """Return the last lines that a worker logged, and the last that it printed besides."""
    found: list[str] = []
    for suffix in (".log", ".out"):
        path = folder / "logs" / f"{stage}{suffix}"
        if path.is_file():
            found += path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return found
