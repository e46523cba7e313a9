"""`timebox report`: gathers one run or several into the document of the offline page (`pack`), and writes it.

A run without a trace, a reference say, still has its curves, predictions and configuration; what a part of the page
would need and is not there is named in `warnings`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import pipeline
from pipeline import faults, steps, trace
from pipeline.actions import ACTIONS, KINDS
from pipeline.arrays import Array
from pipeline.config import load as load_config
from pipeline.errors import ConfigError, RunError, TimeboxError
from pipeline.files import save_text
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.worklog import iso

from . import breakdown, clocks, links, pack, predictions, quality, recording, runs, stats, task_words, window
from .outfile import cannot_write, check_place
from .recording import Recording
from .window import Window

#: The unit of times in the page's columns, in nanoseconds, and from how many of them on a column has to be a wide one: 429 s.
UNIT_NS, WIDE = 100, 2**32
#: How the name of a page ends.
SUFFIXES = (".html", ".htm")
ORIGIN = "time zero is the first worker's go"


def write(folders: Sequence[Path], out: Path | None) -> dict[str, Any]:
    """Write one page on one run or several and return what was made; raises ConfigError, RunError."""
    began = time.monotonic()
    different = list(dict.fromkeys(folder.resolve() for folder in folders))
    path = different[0] / "report.html" if out is None else out
    if not path.name.lower().endswith(SUFFIXES):
        raise ConfigError(f"--out: {path.name!r} is no kind of report; its name ends with {SUFFIXES[0]}")
    check_place(path, "report.html")
    found = [collect(folder) for folder in different]
    twice = sorted({folder.name for folder in different if sum(folder == each.resolve() for each in folders) > 1})
    _save(path, {"runs": found, "sections": None})
    return {
        "out": str(path),
        "runs": [run["run"] for run in found],
        "spans": sum(run["spans"]["count"] for run in found),
        "messages": sum(run["messages"]["count"] for run in found),
        "bytes": path.stat().st_size,
        "seconds": time.monotonic() - began,
        "clock_error_ns": max((run["stats"] or {}).get("clock_error_ns", 0) for run in found),
        "tracing": [{"run": run["run"], **((run["stats"] or {}).get("tracing") or {})} for run in found],
        "notes": [f"{run['run']}: {run['untraced']}" for run in found if run["untraced"]]
        + [f"{name}: was named more than once and is shown once" for name in twice],
        "warnings": [f"{run['run']}: {text}" for run in found for text in run["warnings"]],
    }


def render(made: dict[str, Any]) -> str:
    """Return for people what was written."""
    size = f"{made['bytes'] / 1e6:.1f} MB" if made["bytes"] >= 1e5 else f"{made['bytes'] / 1e3:.0f} kB"
    counts = f"{made['spans']:,} spans and {made['messages']:,} messages of " if made["spans"] else ""
    what = f"{counts}{', '.join(made['runs'])}"
    costs = [tracing["share"] for tracing in made["tracing"] if tracing.get("share") is not None]
    cost = f"; recording took at least {100 * max(costs):.2f} % of the busiest recorder's time" if costs else ""
    how = f"{size}, in {made['seconds']:.1f} s; open it in a browser, it needs no network"
    return "\n".join(
        [f"{_near(Path(made['out']))}: {what}{cost}", *made["notes"], clocks.beside(how, made["clock_error_ns"])]
    )


def _near(path: Path) -> Path:
    """Return a path as one would write it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def write_timeline(found: Recording, out: Path, shown: Window) -> None:
    """Write the page's timeline alone, of what lies in a window."""
    batches = [shown.batches[0], shown.batches[-1]] if len(shown.batches) else None
    part = None if shown.is_whole or batches is None else {"batches": batches}
    warnings = found.warnings + [f"of the batches that were asked for, {shown.lacks} not on record"] * bool(shown.lacks)
    run = _empty(found.folder, found.config) | _columns(found, shown) | {"warnings": warnings, "shown": part}
    _save(out, {"runs": [run], "sections": ["timeline"]})


def _save(path: Path, document: dict[str, Any]) -> None:
    made = iso(time.time_ns()).partition(".")[0] + "Z"
    document = {"format": pack.FORMAT, "made": made, "version": pipeline.__version__, **document}
    try:
        save_text(path, pack.page(document))
    except OSError as error:
        raise cannot_write(path, error.strerror) from None


def collect(folder: Path) -> dict[str, Any]:
    """Return everything that the page shows of a run; raises RunError where there is nothing to show."""
    config = load_config(folder / "config.toml")
    run = _empty(folder, config)
    warnings = [links.in_plain_text(config)] * links.is_open(config)
    if told := faults.texts(config.fault):
        warnings.append(f"something went wrong in it on purpose: {', '.join(told)}")
    if not run["untraced"]:
        try:
            found = recording.load(folder)
            run |= _columns(found, window.whole(found))
            run["stats"] = stats.document(found)
            warnings += run["stats"]["warnings"]
        except TimeboxError as error:
            warnings.append(str(error))
    try:
        run["epochs"] = runs.read_metrics(folder)
    except TimeboxError as error:
        warnings.append(str(error))
    run["right_words"], run["cost_words"] = task_words.right(config.data), task_words.cost(config.data)
    run["partial"] = runs.partial_epoch(folder, run["status"], run["epochs"], Plan.of(config)) or None
    try:
        run["oracle"] = quality.read(folder, Plan.of(config))
    except TimeboxError as error:
        warnings.append(str(error))
    run["predictions"] = predictions.collect(folder, config, run["epochs"], warnings)
    if run["stats"] is None and not run["epochs"]:
        raise RunError(f"{folder.name}: nothing to report: {'; '.join([*warnings, *filter(None, [run['untraced']])])}")
    return run | {"warnings": warnings}


def _untraced(config: Config, *, is_reference: bool) -> str | None:
    """Return why a run has no trace where that was asked for: no fault, and no warning."""
    if is_reference:
        return "the reference is one process: there are no stages, no messages and no trace"
    if config.trace.level == "off":
        return "it ran with trace.level off: there is no timeline, and nothing that is made from a trace"
    return None


def _empty(folder: Path, config: Config) -> dict[str, Any]:
    """Return a run's facts, with nothing in its columns."""
    plan = Plan.of(config)
    summary = runs.read_json(folder / "summary.json") or {}
    described = runs.describe(folder)
    is_reference = bool(described["reference"] or summary.get("reference"))
    return {
        "run": folder.name,
        "name": config.run.name,
        "status": described["status"],
        "reference": is_reference,
        "untraced": _untraced(config, is_reference=is_reference),
        "schedule": config.schedule.kind,
        "error": summary.get("error"),
        "stages": [plan.name(k) for k in range(1, plan.head + 1)],
        "batches": plan.batches,
        "warnings": [],
        "config": msgspec.to_builtins(config),
        "environment": runs.read_json(folder / "environment.json") or {},
        "summary": summary,
        "epochs": [],
        "partial": None,
        "steps": [
            {
                "number": step.number,
                "stage": plan.name(step.stage),
                "action": step.action,
                "part": step.part,
                "text": step.text,
            }
            for step in steps.steps(plan)
        ],
        "parts": trace.PARTS,
        "kinds": KINDS,
        "unit_ns": UNIT_NS,
        "origin": ORIGIN,
        **_packed([], [], [], None),
        "shown": None,
        "stats": None,
        "oracle": [],
        "predictions": None,
    }


def _columns(found: Recording, shown: Window) -> dict[str, Any]:
    """Return spans, waits and messages as the page's columns, as far as they lie in a window.

    A wait for no message in particular is left out: it is `other` in `breakdown`, and so the page leaves its lane empty.
    """
    spans: list[tuple[int, Array]] = []
    waits: list[tuple[int, Array]] = []
    gaps: list[tuple[int, Array]] = []
    for stage in found.stages:
        array = shown.within(stage.array)
        own = array[array["kind"] == trace.WAITED]
        spans.append((stage.number, array[np.isin(array["kind"], [ord(letter) for letter in ACTIONS])]))
        waits.append((stage.number, own[breakdown.ways(own, stage.number) != breakdown.NOBODY]))
        gaps.append((stage.number, shown.clipped(array[array["kind"] == trace.GAP])))
    times = {"length_ms": (found.end_ns - found.origin_ns) / 1e6, "origin": clocks.beside(ORIGIN, found.clock_error_ns)}
    return _packed(spans, waits, gaps, (found, shown)) | times


def _packed(
    spans: list[tuple[int, Array]],
    waits: list[tuple[int, Array]],
    gaps: list[tuple[int, Array]],
    of: tuple[Recording, Window] | None,
) -> dict[str, Any]:
    """Return each stage's spans, waits and gaps of the record, and the messages of a window, as columns."""
    origin = of[0].origin_ns if of else 0
    span_stage, span, span_times = _placed(spans, origin)
    wait_stage, wait, wait_times = _placed(waits, origin)
    gap_stage, _, gap_times = _placed(gaps, origin)
    is_blocked = [breakdown.ways(wait[wait_stage == k], k) == breakdown.BLOCKED for k in np.unique(wait_stage).tolist()]
    changed = np.where(span["kind"] == ord("T"), 1, span["b"] - span["a"])
    return {
        "spans": pack.columns(
            {
                "stage": ("u2", span_stage),
                "action": ("u1", span["kind"]),
                "part": ("u1", span["code"]),
                "sibling": ("u2", span["peer"]),
                "batch": ("u4", span["batch"]),
                **span_times,
                "read": ("u4", span["a"]),
                "changed": ("u1", np.minimum(changed, 255)),
            }
        ),
        "waits": pack.columns(
            {
                "stage": ("u2", wait_stage),
                "blocked": ("u1", np.concatenate([np.zeros(0, bool), *is_blocked])),
                "kind": ("u1", wait["code"]),
                "source": ("u2", wait["peer"]),
                "batch": ("u4", wait["batch"]),
                **wait_times,
            }
        ),
        "gaps": pack.columns({"stage": ("u2", gap_stage), **gap_times}),
        "messages": _messages(*of) if of else _no_messages(),
    }


def _placed(records: list[tuple[int, Array]], origin: int) -> tuple[Array, Array, dict[str, tuple[str, Array]]]:
    """Return the stages' numbers and records, sorted by begin, and the columns that place them in time."""
    ordered = [(number, own[np.argsort(own["start"], kind="stable")]) for number, own in records]
    stage, array = recording.stacked(ordered)
    start = pack.gaps(_units(array["start"] - origin), stage)
    return stage, array, {"start": _times(start), "took": _times(_units(array["end"] - array["start"]))}


def _messages(found: Recording, shown: Window) -> dict[str, Any]:
    messages = found.messages
    inside = shown.holds(messages)
    sent = messages.sent[inside]
    return pack.columns(
        {
            "kind": ("u1", messages.kind[inside]),
            "source": ("u2", messages.source[inside]),
            "target": ("u2", messages.target[inside]),
            "batch": ("u4", messages.batch[inside]),
            "sent": _times(pack.gaps(_units(sent - found.origin_ns))),
            "hop": _times(_units(messages.taken[inside] - sent)),
        }
    )


def _no_messages() -> dict[str, Any]:
    names = {"kind": "u1", "source": "u2", "target": "u2", "batch": "u4", "sent": "u4", "hop": "u4"}
    return pack.columns({name: (kind, np.zeros(0, np.int64)) for name, kind in names.items()})


def _units(ns: Array) -> Array:
    units: Array = np.maximum(ns, 0) // UNIT_NS
    return units


def _times(units: Array) -> tuple[str, Array]:
    """Return a column of times with its type, wide only where one of them is that long."""
    return ("f8" if (units >= WIDE).any() else "u4"), units
