"""`timebox report`: gathers one run or several into the document of the offline page (`pack`), and writes it.

A run without a trace, a reference say, still has its curves, predictions and configuration; what a part of the page
would need and is not there is named in `warnings`.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import pipeline
from pipeline import data, steps, trace
from pipeline.actions import KINDS
from pipeline.arrays import Array
from pipeline.config import load as load_config
from pipeline.errors import ConfigError, RunError, TimeboxError
from pipeline.files import save_text
from pipeline.lacks import WAITS
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.worklog import iso

from . import pack, quality, recording, runs, stats
from .recording import Recording, StageRecords

#: The unit of times in the page's columns, in nanoseconds, and the largest time that fits a column.
UNIT_NS, MOST = 100, 2**32 - 1
#: Most test images that are drawn; wrong ones come first.
IMAGES = 80


def write(folders: Sequence[Path], out: Path | None) -> dict[str, Any]:
    """Write one page on one run or several and return what was made; raises ConfigError, RunError."""
    began = time.monotonic()
    path = folders[0] / "report.html" if out is None else out
    found = [collect(folder) for folder in folders]
    _save(path, {"runs": found, "sections": None})
    return {
        "out": str(path),
        "runs": [run["run"] for run in found],
        "spans": sum(run["spans"]["count"] for run in found),
        "messages": sum(run["messages"]["count"] for run in found),
        "bytes": path.stat().st_size,
        "seconds": time.monotonic() - began,
        "tracing": [{"run": run["run"], **((run["stats"] or {}).get("tracing") or {})} for run in found],
        "warnings": [f"{run['run']}: {text}" for run in found for text in run["warnings"]],
    }


def render(made: dict[str, Any]) -> str:
    """Return for people what was written."""
    size = f"{made['bytes'] / 1e6:.1f} MB" if made["bytes"] >= 1e5 else f"{made['bytes'] / 1e3:.0f} kB"
    what = f"{made['spans']:,} spans and {made['messages']:,} messages of {', '.join(made['runs'])}"
    costs = [tracing["share"] for tracing in made["tracing"] if tracing.get("share") is not None]
    cost = f"; recording took {100 * max(costs):.2f} % of the busiest recorder's time" if costs else ""
    return f"{made['out']}: {what}{cost}\n{size}, in {made['seconds']:.1f} s; open it in a browser, it needs no network"


def write_timeline(found: Recording, out: Path, batches: range | None) -> None:
    """Write the page's timeline alone, of all batches or some."""
    run = _empty(found.folder, found.config) | _columns(found, batches) | {"warnings": found.warnings}
    _save(out, {"runs": [run], "sections": ["timeline"]})


def _save(path: Path, document: dict[str, Any]) -> None:
    made = iso(time.time_ns()).partition(".")[0] + "Z"
    document = {"format": pack.FORMAT, "made": made, "version": pipeline.__version__, **document}
    try:
        save_text(path, pack.page(document))
    except OSError as error:
        raise ConfigError(f"--out: cannot write {path}: {error.strerror}; choose another file with --out") from None


def collect(folder: Path) -> dict[str, Any]:
    """Return everything that the page shows of a run; raises RunError where there is nothing to show."""
    config = load_config(folder / "config.toml")
    run = _empty(folder, config)
    warnings: list[str] = []
    try:
        found = recording.load(folder)
        run |= _columns(found, None)
        run["stats"] = stats.document(found)
        warnings += run["stats"]["warnings"]
    except TimeboxError as error:
        warnings.append(str(error))
    run["epochs"] = runs.read_metrics(folder)
    run["oracle"] = quality.read(folder, Plan.of(config))
    run["predictions"] = _predictions(folder, config, warnings)
    if run["stats"] is None and not run["epochs"]:
        raise RunError(f"{folder.name}: nothing to report: {'; '.join(warnings)}")
    return run | {"warnings": warnings}


def _empty(folder: Path, config: Config) -> dict[str, Any]:
    """Return a run's facts, with nothing in its columns."""
    plan = Plan.of(config)
    summary = runs.read_json(folder / "summary.json") or {}
    return {
        "run": folder.name,
        "name": config.run.name,
        "status": runs.describe(folder)["status"],
        "schedule": config.schedule.kind,
        "error": summary.get("error"),
        "stages": [plan.name(k) for k in range(1, plan.head + 1)],
        "warnings": [],
        "config": msgspec.to_builtins(config),
        "environment": runs.read_json(folder / "environment.json") or {},
        "summary": summary,
        "epochs": [],
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
        "origin": "time zero is the first worker's go",
        **_packed([], None, 0),
        "stats": None,
        "oracle": [],
        "predictions": None,
    }


def _columns(found: Recording, batches: range | None) -> dict[str, Any]:
    """Return spans, waits and messages as the page's columns; with `batches`, of the time from the first to the last."""
    stages = found.stages
    window = (0, 2**62)
    if batches is not None:
        mine = [
            stage.parts[np.isin(stage.parts["batch"], batches) & (stage.parts["kind"] != ord("E"))] for stage in stages
        ]
        mine = [parts for parts in mine if len(parts)]
        if mine:
            window = (min(int(p["start"].min()) for p in mine), max(int(p["end"].max()) for p in mine))
    return _packed([(stage, _within(stage.array, *window)) for stage in stages], (found, window), found.origin_ns)


def _within(array: Array, first: int, last: int) -> Array:
    found: Array = array[(array["end"] > first) & (array["start"] < last)]
    return found


def _packed(
    stages: list[tuple[StageRecords, Array]], found: tuple[Recording, tuple[int, int]] | None, origin: int
) -> dict[str, Any]:
    spans, waits = [], []
    for stage, array in stages:
        parts = array[np.isin(array["kind"], [ord(letter) for letter in "FBTUE"])]
        spans.append((stage.number, parts[np.argsort(parts["start"], kind="stable")]))
        waits.append((stage.number, array[array["kind"] == trace.WAITED]))
    span_stage, span = recording.stacked(spans)
    wait_stage, wait = recording.stacked(waits)
    is_credit = wait["a"] == WAITS.index("credit")
    changed = np.where(span["kind"] == ord("T"), 1, span["b"] - span["a"])
    return {
        "spans": pack.columns(
            {
                "stage": ("u2", span_stage),
                "action": ("u1", span["kind"]),
                "part": ("u1", span["code"]),
                "sibling": ("u2", span["peer"]),
                "batch": ("u4", span["batch"]),
                "start": ("u4", _clipped(pack.gaps(_units(span["start"] - origin), span_stage))),
                "took": ("u4", _clipped(_units(span["end"] - span["start"]))),
                "read": ("u4", span["a"]),
                "changed": ("u1", np.minimum(changed, 255)),
            }
        ),
        "waits": pack.columns(
            {
                "stage": ("u2", wait_stage),
                "blocked": ("u1", is_credit | (wait["peer"] > wait_stage)),
                "kind": ("u1", wait["code"]),
                "source": ("u2", wait["peer"]),
                "batch": ("u4", wait["batch"]),
                "start": ("u4", _clipped(pack.gaps(_units(wait["start"] - origin), wait_stage))),
                "took": ("u4", _clipped(_units(wait["end"] - wait["start"]))),
            }
        ),
        "messages": _messages(*found, origin) if found else _no_messages(),
    }


def _messages(found: Recording, window: tuple[int, int], origin: int) -> dict[str, Any]:
    messages = found.messages
    inside = (messages.taken > window[0]) & (messages.sent < window[1])
    sent = messages.sent[inside]
    return pack.columns(
        {
            "kind": ("u1", messages.kind[inside]),
            "source": ("u2", messages.source[inside]),
            "target": ("u2", messages.target[inside]),
            "batch": ("u4", messages.batch[inside]),
            "sent": ("u4", _clipped(pack.gaps(_units(sent - origin)))),
            "hop": ("u4", _clipped(_units(messages.taken[inside] - sent))),
        }
    )


def _no_messages() -> dict[str, Any]:
    names = {"kind": "u1", "source": "u2", "target": "u2", "batch": "u4", "sent": "u4", "hop": "u4"}
    return pack.columns({name: (kind, np.zeros(0, np.int64)) for name, kind in names.items()})


def _units(ns: Array) -> Array:
    units: Array = np.maximum(ns, 0) // UNIT_NS
    return units


def _clipped(values: Array) -> Array:
    clipped: Array = np.clip(values, 0, MOST)
    return clipped


def _predictions(folder: Path, config: Config, warnings: list[str]) -> dict[str, Any] | None:
    """Return the final predictions with their images, wrong ones first; None where there are none."""
    path = folder / "metrics" / "predictions.csv"
    if not path.is_file():
        return None
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    try:
        split = data.load(config.data)
    except TimeboxError as error:
        warnings.append(f"the predictions are not drawn: {error}")
        return None
    places = {int(place): row for row, place in enumerate(split.test_places)}
    shown = sorted(rows, key=lambda row: row["right"] == "true")[:IMAGES]
    pixels = [split.test_images[places[int(row["image"])]] for row in shown]
    return {
        "pixels": pack.encoded(np.stack(pixels).astype(np.uint8).tobytes()) if pixels else "",
        "labels": [int(row["label"]) for row in shown],
        "predictions": [int(row["prediction"]) for row in shown],
        "places": [int(row["image"]) for row in shown],
        "total": len(rows),
        "right": sum(row["right"] == "true" for row in rows),
    }
