"""`timebox stability`: many seeds of one or several configurations, each run classed by stated rules.

    stability_study      what is asked for                     stability_rules   classes, onset, first cause: pure
    stability_engines    one run, watched                      stability_text    progress, table, CSV
    stability            the runs, side by side   this file    stability_plot    the fan chart

Run k of a case has train.seed and data.seed k further. A run is done in one process and depends on nothing but its case
and its seed, so runs go side by side; what comes of them is put in order at the end. Ctrl-C ends with the runs that are
there. Virtual time measures the costs of a case once, for all of its seeds.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from pipeline.arrays import Array
from pipeline.errors import ConfigError, RunError
from pipeline.plan import Plan

from . import environment, spread, stability_engines, stability_rules, stability_text
from .stability_engines import Found
from .stability_rules import CLASSES
from .stability_study import Case, Study

#: At most so many processes for each processor.
MOST_JOBS = 2


class Run(NamedTuple):
    """One run of a case: which, its row of the document, and its smoothed cost with the batch at each of its points."""

    case: int
    k: int
    row: dict[str, Any]
    batches: list[int]
    curve: Array


class Task(NamedTuple):
    """A run that is to be done."""

    case: int
    k: int


def check_jobs(jobs: int | None) -> int:
    """Return how many processes there are to be; raises ConfigError."""
    most = MOST_JOBS * environment.cores()
    if jobs is not None and not 1 <= jobs <= most:
        raise ConfigError(f"--jobs: {jobs}: from 1 to {most}, {MOST_JOBS} for each processor, are wanted")
    return environment.cores() if jobs is None else jobs


def study(asked: Study, *, jobs: int, live: bool, quiet: bool) -> tuple[dict[str, Any], list[Run]]:
    """Do the runs and return the document of `timebox stability --json`, and the runs with their curves."""
    kinds = [stability_engines.engine(case, live=live) for case in asked.cases]
    costs, origins = {}, {}
    for number, (case, kind) in enumerate(zip(asked.cases, kinds, strict=True)):
        if kind == "virtual":
            costs[number], origins[number] = stability_engines.costs_of(case.config)
    tasks = [Task(number, k) for k in range(asked.seeds) for number in range(len(asked.cases))]
    runs: list[Run] = []
    status = "done"
    with tempfile.TemporaryDirectory(prefix="timebox-") as folder, stability_text.Progress(len(tasks), quiet) as told:
        given = [(asked.cases[n], k, kinds[n], costs.get(n), folder) for n, k in tasks]
        try:
            for place, found in _do(given, 1 if live else min(jobs, len(tasks))):
                task = tasks[place]
                runs.append(judge(asked.cases[task.case], task, found))
                told(f"{asked.cases[task.case].name}, seed {runs[-1].row['seed']}: {runs[-1].row['class'] or 'failed'}")
        except KeyboardInterrupt:
            status = "interrupted"
    runs.sort(key=lambda run: (run.case, run.k))
    cases = []
    for number, case in enumerate(asked.cases):
        rows = [run.row for run in runs if run.case == number]
        engine = stability_engines.describe(kinds[number], origins.get(number, ""))
        cases.append(
            {
                "name": case.name,
                "engine": kinds[number],
                "told": engine,
                "batches": Plan.of(case.config).batches,
                "runs": rows,
            }
            | _summary(rows)
        )
    if status == "done" and any(run.row["class"] is None for run in runs):
        status = "failed"
    return {
        "study": asked.name, "status": status, "seeds": asked.seeds, "cases": cases, "rules": stability_rules.rules(),
        "warnings": [f"{run.row['case']}, seed {run.row['seed']}: {run.row['error']}" for run in runs if not run.row["class"]],
    }, runs  # fmt: skip


def exit_code(made: dict[str, Any]) -> int:
    """Return the exit code of a study: 0, 1 where a run could not be done, 130 where it was interrupted."""
    return {"done": 0, "failed": 1, "interrupted": 130}[made["status"]]


def judge(case: Case, task: Task, found: Found) -> Run:
    """Return a run as its row and its smoothed curve; pure."""
    plan = Plan.of(case.config)
    width = 1 if found.every > 1 else stability_rules.window(plan.batches, plan.epoch_batches, plan.batch)
    verdict = stability_rules.classify(found.costs, width, stopped=bool(found.diverged))
    onset = None if verdict.onset is None else verdict.onset * found.every
    why = stability_rules.cause(found.synthetic, found.true, 1 if found.every > 1 else width, onset)
    row = {
        "case": case.name,
        "seed": case.config.train.seed + task.k,
        "class": None if found.failed else verdict.name,
        "accuracy": found.accuracy,
        "start_cost": _finite(verdict.start),
        "end_cost": _finite(verdict.end),
        "onset": onset,
        "cause": None if why is None else why._asdict() | {"ratio": why.ratio, "is_ratio": found.every > 1},
        "error": found.diverged or found.failed or None,
    }
    curve = stability_rules.smooth(found.costs, width)
    ends = [end * found.every for end in stability_rules.ends(len(found.costs), width)]
    return Run(task.case, task.k, row, ends, curve)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    right = [row["accuracy"] for row in rows if row["accuracy"] is not None]
    counts = {name: sum(row["class"] == name for row in rows) for name in CLASSES}
    return {"counts": counts, "accuracy": spread.spread(right).document() if right else None}


Given = tuple[Case, int, str, Any, str]


def _do(given: Sequence[Given], jobs: int) -> Iterator[tuple[int, Found]]:
    """Do the runs and yield each as it ends, with its place; raises RunError where a process died."""
    if jobs == 1:
        for place, each in enumerate(given):
            yield place, stability_engines.run(*each)
        return
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _deaf)
    try:
        places = {pool.submit(stability_engines.run, *each): place for place, each in enumerate(given)}
        for future in as_completed(places):
            yield places[future], future.result()
    except BrokenProcessPool:
        raise RunError("a process that did a run has died, for want of memory perhaps; fewer --jobs may do") from None
    finally:
        processes = [*(pool._processes or {}).values()]
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


def _deaf() -> None:
    """Leave Ctrl-C to the command: it ends its processes itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
