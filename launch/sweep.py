"""`timebox sweep`: runs over a grid of configuration keys, in turn, a row of one CSV file for each. Knows files and runs.

    [set]      keys of every run             [grid]   every combination, the first key slowest, as the file has them
    [[also]]   single points besides         repeats  all points once, then all again: A B C A B C, so that the machine's
                                                      drift meets all of them alike

- Every point is resolved and checked before the first run starts.
- A row is written and on disk once its run has ended, and what has a row is not run again, a failed run neither. The same
  command goes on where it was stopped; half a row, as a kill may leave it, is dropped.
- The folder belongs to one request. Another one is refused, but for more repeats, which are added.
- A run's folder is deleted when its row is written, unless it failed: a sweep makes many. `keep_runs` keeps them.

    sweep_points  the request: points, each resolved
    sweep_rows    runs.csv
    sweep         the runs, one after the other        this file
    sweep_text    progress, figures, tables
    sweep_plot    the picture
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from pipeline import mnist
from pipeline.config import read_toml
from pipeline.errors import ConfigError, TimeboxError
from pipeline.files import save_json, save_text
from pipeline.plan import Plan
from pipeline.schema import Config

from . import environment, runs, sweep_text, task_words
from .live import Result, launch
from .preflight import check
from .spawn import Observer
from .sweep_points import Point, Request, refused
from .sweep_rows import Rows

#: What rates depend on besides the configuration, by its place in environment.json.
SAME = ("processor", "cores", "packages", "blas")

#: Runs a configuration in a mode, as the repeat of a label, and returns the row's figures and the run's folder.
Measure = Callable[[Config, str, str, int, Observer], tuple[dict[str, Any], Path | None]]


def measure(
    config: Config, mode: str, label: str, repeat: int, observe: Observer
) -> tuple[dict[str, Any], Path | None]:
    """Run a configuration once, or simulate it, and return the row's figures and the run's folder."""
    plan = Plan.of(config)
    if mode == "simulate":
        from . import simulating, what_if

        made = simulating.document(what_if.of_config(config, None, ()), seed=repeat)
        bubbles = [stage["bubble"] for stage in made["stages"] if stage["bubble"] is not None]
        found = {key: made[key] for key in ("batches_per_s", "makespan_s")} | {"batches": plan.steps}
        return {"status": "done", "bubble": sum(bubbles) / len(bubbles) if bubbles else None, **found}, None
    result = launch(config, reference=mode == "reference", label=label, observe=observe)
    told, stages = result.document, result.document["stages"]
    figures = {"run": told["run"], "status": told["status"], "batches": (stages[-1]["batches"] or 0) // plan.micro}
    if result.status != "done":
        return figures | {"error": told.get("error")}, result.folder
    took = [stage.get("seconds") or stage.get("busy_s") or 0.0 for stage in stages]
    figures |= {"batches_per_s": told["batches_per_s"], "makespan_s": max(took), "bubble": _bubble(result)}
    figures["lateness"] = _late(result, plan)
    if config.emulate.arithmetic:  # else nothing was computed, and these would mean nothing
        figures |= {"accuracy": told["accuracy"], "last_cost": (told["costs"] or [None])[-1]}
        figures |= {"level": told["level"]} if "level" in told else {}
    return figures, result.folder


def _late(result: Result, plan: Plan) -> float | None:
    """Return by how many batches what boxes learn from was late, in the mean over T, B and C; None without journals."""
    from . import staleness

    journals = {plan.number(name): journal for name, journal in result.journal.items()}
    counted = [
        (int(batches), count)
        for each in staleness.staleness(plan, journals).values()
        for kind in ("update", "target")
        for batches, count in each.get(kind, {}).get("batches", {}).items()
    ]
    total = sum(count for _, count in counted)
    return sum(batches * count for batches, count in counted) / total if total else None


def _bubble(result: Result) -> float | None:
    """Return the mean over all stages of idle ÷ makespan, as `timebox stats` has it; None without a trace."""
    from . import breakdown, recording, stats

    try:
        found = recording.load(result.folder)
    except TimeboxError:
        return None
    makespan = (found.end_ns - found.origin_ns) / breakdown.NS
    each = [stats.bubble(makespan, breakdown.breakdown(stage, found.plan))["of_makespan"] for stage in found.stages]
    return None if None in each else sum(filter(None, each)) / len(each)


def sweep(
    request: Request, out: Path | None = None, *, keep_runs: bool = False, quiet: bool = False,
    measure: Measure = measure,
) -> dict[str, Any]:  # fmt: skip
    """Do the runs that are missing and return the document of `timebox sweep --json`; raises ConfigError before the first.

    Ctrl-C ends it with what is there; the document's status is then `interrupted`.
    """
    out = Path("sweeps") / request.name if out is None else out
    located: set[tuple[str, str]] = set()
    for point in request.points:
        _check(request, point, out, located)
    here = environment.collect()
    warnings = _claim(request, out, here)
    with Rows(out / "runs.csv", request) as rows:
        status, have = "done", rows.places
        numbers = range(1, request.repeats + 1)
        todo = [(point, repeat) for repeat in numbers for point in request.points if (point.number, repeat) not in have]
        try:
            _do(request, rows, todo, out, keep_runs, quiet, measure)
        except KeyboardInterrupt:
            status = "interrupted"
        finally:
            _tidy(out / "runs")
        found = sorted(rows.rows, key=lambda row: (row["repeat"], row["point"]))
    failed = [row for row in found if row["status"] == "failed"]
    right = task_words.rights(point.config.data for point in request.points)
    return {
        "sweep": request.name, "out": str(out), "status": "failed" if failed and status == "done" else status,
        "repeats": request.repeats, "warmup": request.warmup if todo else 0, "seeds": request.seeds,
        "rate": "whole" if request.is_whole else "steady", "beside": request.beside, "varied": list(request.varied),
        "runs": len(request.points) * request.repeats, "failed": len(failed), "environment": here,
        "points": [_summary(request, point, found) for point in request.points], "rows": found, "warnings": warnings,
    } | ({} if right == task_words.IMAGES_RIGHT else {"right": right})  # fmt: skip


def _summary(request: Request, point: Point, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    told = sweep_text.summarise(rows, point.number, point.against, seeds=request.seeds)
    return {"point": point.number, "mode": point.mode, **point.values, **told}


def exit_code(made: dict[str, Any]) -> int:
    """Return the exit code of a sweep: 0, 1 where a run failed, 130 where it was interrupted."""
    return {"done": 0, "failed": 1, "interrupted": 130}[made["status"]]


def _check(request: Request, point: Point, out: Path, located: set[tuple[str, str]]) -> None:
    """Raise ConfigError that names the point for what would be refused when its run starts."""
    try:
        for repeat in {1, request.repeats}:
            config = request.config(point, repeat, out)
            files = config.data.source, config.data.dir
            if files not in located:  # to check them takes a while
                mnist.locate(config.data)
                located.add(files)
            if point.mode != "simulate":
                check(config, reference=point.mode == "reference")
    except ConfigError as error:
        raise refused(request.source, point.number, point.values, error) from None


def _claim(request: Request, out: Path, here: dict[str, Any]) -> list[str]:
    """Make the sweep's folder, or see that it is this request's; return what is another than when it began."""
    import tomli_w

    kept = out / "sweep.toml"
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out: {out} is not a folder; use another --out")
    if kept.is_file():
        if difference := request.difference(read_toml(kept)):
            raise ConfigError(f"{out} holds another sweep: {difference}; use another --out")
    elif out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"--out: {out} is not empty and holds no sweep; use another --out")
    there = runs.read_json(out / "environment.json")
    try:
        save_text(kept, tomli_w.dumps(request.document))
        if there is None:
            save_json(out / "environment.json", here)
    except OSError as error:
        raise ConfigError(f"--out: cannot write to {out}: {error.strerror}; use another --out") from None
    there = there or here
    return [f"{key}: {there.get(key)} when it began, {here[key]} now" for key in SAME if there.get(key) != here[key]]


def _do(
    request: Request, rows: Rows, todo: list[tuple[Point, int]], out: Path, keep: bool, quiet: bool, measure: Measure
) -> None:  # fmt: skip
    """Warm up, then do the runs one after the other; raises KeyboardInterrupt when one is interrupted."""
    took = [(row["point"], row["seconds"]) for row in rows.rows if row["seconds"]]
    with sweep_text.Progress(len(todo), took, quiet=quiet) as progress:
        for _ in range(request.warmup if todo else 0):
            progress.begin(0, "warm-up", [point.number for point, _ in todo])
            _one(request, todo[0][0], 1, "warm-up", out, False, progress, measure)
        for place, (point, repeat) in enumerate(todo):
            label = f"{sweep_text.label(point.values, point.mode)}, repeat {repeat}"
            progress.begin(place + 1, label, [later.number for later, _ in todo[place:]])
            figures = _one(request, point, repeat, f"{point.number}-{repeat}", out, keep, progress, measure)
            progress.end(rows.add(point, repeat, figures))


def _one(
    request: Request, point: Point, repeat: int, label: str, out: Path, keep: bool, observe: Observer, measure: Measure
) -> dict[str, Any]:  # fmt: skip
    """Do one run and return its figures; its folder is gone, unless it failed or is to be kept."""
    config = request.config(point, repeat, out)
    figures: dict[str, Any] = {
        "cores": environment.cores(),
        "load": round(os.getloadavg()[0], 2),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    began, made = monotonic(), None
    try:
        told, made = measure(config, point.mode, label, repeat, observe)
    except TimeboxError as error:  # found at its start, as a port that another program has taken by now
        told = {"status": "failed", "error": str(error)}
    if request.is_whole and told.get("makespan_s"):
        told["batches_per_s"] = told["batches"] / told["makespan_s"]
    if made is not None and told["status"] != "failed" and not keep:
        shutil.rmtree(made, ignore_errors=True)
    if told["status"] == "interrupted":
        raise KeyboardInterrupt
    return figures | {"seconds": round(monotonic() - began, 6)} | told


def _tidy(folder: Path) -> None:
    """Remove the link to a run that is gone, and the folder where it holds none."""
    latest = folder / runs.LATEST
    if latest.is_symlink() and not latest.exists():
        latest.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
