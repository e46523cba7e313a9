"""What `timebox run`, `list` and `doctor` print for people."""

from __future__ import annotations

import csv
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import faults
from pipeline.learning import rule_of, target_of
from pipeline.plan import Plan
from pipeline.schema import TASKS, Config, Data
from pipeline.sizes import judged, reads

from . import logs, plots, runs, stacks, task_words
from .environment import cores
from .live import Result
from .terminal import say
from .text import few, number, share, table

if TYPE_CHECKING:
    from .doctor import Check  # with it comes the report, and with that numpy

#: Most epochs, and most images, that are printed; the files have them all.
MOST_EPOCHS, MOST_IMAGES = 12, 40


def announce(config: Config, plan: Plan, *, reference: bool) -> None:
    """Say what is about to run."""
    data = config.data
    say(f"{config.schedule.kind}: {task_words.network(config)}")
    images = f"{data.train:,} training and {judged(data):,} {data.judge} {task_words.unit(data)}"
    epochs, batches = _count(config.train.epochs, "epoch"), _count(plan.epoch_batches // plan.micro, "batch")
    if plan.micro > 1:
        batches += f", each in {plan.micro} micro-batches, which are what travels"
    say(f"{task_words.task(config)}: {images}; {epochs} of {batches}")
    say(f"boxes learn by {rule(config)}")
    if told := faults.texts(config.fault):
        say(f"faults on purpose: {', '.join(told)}")
    if reference:
        print("one process, the reference loop")
    elif plan.head > cores():
        say(f"{plan.head} processes on {cores()} cores: they share, so times tell less than they could")
    else:
        print(f"{plan.head} processes on {cores()} cores")
    sys.stdout.flush()


def rule(config: Config) -> str:
    """Return in words what boxes learn by."""
    oracle, how = config.oracle, rule_of(config)
    if how == "local" and reads(config):
        return "their own steps' losses alone: backpropagation truncated at their edges"
    if how == "backward" and config.schedule.kind != "own":
        return "the true gradient" + (", when it comes" if oracle.kind == "delayed" else f", by {config.schedule.kind}")
    if how != "synthetic":
        return {"frozen": "nothing" if oracle.kind != "last" else "nothing, but for the last one", "local": "a classifier each",
                "exact": "the exact gradient at once",
                "traced": "one linear oracle that they share, traced targets"}.get(how, "the true gradient")  # fmt: skip
    parts = [f"{oracle.kind} oracles", f"{target_of(config)} targets"]
    parts += ["labels seen"] * oracle.sees_label + ["the last box waits for its gradient"] * (not oracle.last)
    parts += ["corrected later"] * oracle.correct
    return ", ".join(parts) + (f"; window {config.schedule.window}" if config.schedule.kind == "decoupled" else "")


def _count(number: int, word: str) -> str:
    plural = {"batch": "batches"}.get(word, f"{word}s")
    return f"{number:,} {word if number == 1 else plural}"


def draw_picture(result: Result, config: Config) -> Path | None:
    """Draw the cost curve where that is wanted and possible, and return its path."""
    if not config.run.plot or not plots.is_available() or not result.metrics:
        return None
    words = task_words.cost(config.data), task_words.right(config.data)
    return plots.draw_costs(result.folder, result.metrics, result.folder.name, *words)


def result(outcome: Result, plan: Plan, picture: Path | None, data: Data | None = None) -> None:
    """Print the tables of a run."""
    data = data or Data()
    document = outcome.document
    is_computed = document.get("costs") != []  # with boxes that compute nothing there is nothing to tell
    epochs = outcome.metrics
    if epochs and is_computed:
        print()
        print(_epoch_table(epochs, runs.partial_epoch(outcome.folder, outcome.status, outcome.metrics, plan), data))
        print()
    predictions = outcome.folder / "metrics" / "predictions.csv"
    if predictions.is_file() and is_computed:
        is_task = data.name in TASKS
        print(
            "\n".join(task_words.predictions(predictions, data, epochs))
            if is_task
            else _predictions(predictions, data.judge)
        )
        print()
    ended = f"{document['status']} in {document['seconds']:.1f} s"
    if document["batches_per_s"]:
        ended += f", {document['batches_per_s']:.0f} batches a second"
    if document["first_update_s"]:
        ended += f", first update {document['first_update_s']:.2f} s after the command"
    say(ended)
    if document.get("resumed_from") is not None:
        times = _count(document["attempts"] - 1, "time")
        print(f"taken up again {times}, last from batch {document['resumed_from']:,}")
    if outcome.digest:
        say(f"digest {outcome.digest}\n  (equal digests: equal weights, bit for bit)")
    say(f"run {outcome.folder}" + (f", cost curve {picture.relative_to(outcome.folder)}" if picture else ""))
    if outcome.status == "interrupted":
        batches = document["stages"][-1]["batches"]
        # A reference that is stopped does not tell its batch.
        where = "before its end" if batches is None else f"at batch {batches} of {plan.batches}"
        print(f"stopped {where}; what was there is kept in the run's folder")
        if late := _late(outcome.folder):
            say(f"{late} when told to stop: timebox logs {_name(outcome.folder)} --why")
    elif outcome.status == "done" and not document["reference"]:
        say(f"look into it: {_ways_in(outcome.folder)}")
    sys.stdout.flush()


def _name(folder: Path) -> str:
    """Return what a command takes for a run."""
    is_usual = folder.parent in (Path("runs"), Path("runs").resolve())
    return shlex.quote(folder.name if is_usual else str(folder))


def _ways_in(folder: Path) -> str:
    """Return what there is to see of a run; without a trace that is its logs."""
    if not (folder / "trace").is_dir():
        return f"timebox logs {_name(folder)}"
    return f"timebox stats {_name(folder)}; likewise order, report, timeline, logs"


def _late(folder: Path) -> str:
    """Return who had to be made to go, and after how long, or nothing."""
    from .vitals import sent_away  # it imports numpy

    texts = [f"{name} did not answer for {seconds:.0f} s" for name, seconds in sent_away(folder).unanswered_s.items()]
    return few(texts)


def _epoch_table(epochs: Sequence[dict[str, Any]], partial: str, data: Data) -> str:
    """Return the table of epochs; `partial` says what there is of the last one, where it is not whole."""
    stride = -(-len(epochs) // MOST_EPOCHS)
    chosen = [row for row in epochs if row["epoch"] == 1 or row["epoch"] % stride == 0 or row is epochs[-1]]
    rows = []
    more = [name for name in ("whole", "level") if any(name in row for row in epochs)]
    if data.name == "own" and all(row.get("whole") == row.get("accuracy") for row in epochs):
        more = []  # examples are right or not, and nothing between
    for row in chosen:
        epoch = f"partial {row['epoch']}" if partial and row is epochs[-1] else row["epoch"]
        own = [share(row.get(name)) if name == "whole" else str(row.get(name, "–")) for name in more]
        rows.append((epoch, number(row["cost"]), number(row.get("test_cost")), share(row.get("accuracy")), *own))
    note = f"\nof epoch {epochs[-1]['epoch']} there is only {partial}" if partial else ""
    titles = [{"whole": "wholly right", "level": "level"}[name] for name in more]
    return table(("epoch", "cost", f"{data.judge} cost", task_words.right(data), *titles), rows) + note


def _predictions(path: Path, judge: str) -> str:
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    right = sum(row["right"] == "true" for row in rows)
    lines = [f"{right} of {len(rows)} {judge} images right ({share(right / len(rows))})"]
    shown = rows if len(rows) <= MOST_IMAGES else [row for row in rows if row["right"] == "false"][:MOST_IMAGES]
    if len(shown) < len(rows):
        lines[0] += (
            f"; {'all' if len(shown) == len(rows) - right else f'the first {len(shown)}'} wrong ones:" if shown else ""
        )
    for start in range(0, len(shown), 20):
        part = shown[start : start + 20]
        lines.append("  label       " + " ".join(row["label"] for row in part))
        lines.append("  prediction  " + " ".join(row["prediction"] for row in part))
        if any(row["right"] == "false" for row in part):
            lines.append("              " + " ".join("^" if row["right"] == "false" else " " for row in part).rstrip())
    return "\n".join(lines)


def failure(outcome: Result) -> None:
    """Tell the first failure, on standard error."""
    document = outcome.document
    sys.stdout.flush()
    print(f"timebox: {document['error']}", file=sys.stderr)
    first = document["first_failure"]
    for line in first["log"]:
        print(f"  | {logs.render_text(line)}", file=sys.stderr)
    for text in stacks.told_of(outcome.folder, first):
        print(f"  {text}", file=sys.stderr)
    if not document["reference"] and not document.get("wrong_request"):
        print(f"  who waited for whom: timebox logs {_name(outcome.folder)} --why", file=sys.stderr)
    print(f"  logs: {outcome.folder / 'logs'}", file=sys.stderr)
    if any((outcome.folder / "checkpoint").glob("batch-*")):
        print(f"  go on from the newest checkpoint: timebox resume {_name(outcome.folder)}", file=sys.stderr)


def run_table(found: Sequence[dict[str, Any]]) -> str:
    """Return the table of `timebox list`."""
    rows: list[tuple[object, ...]] = [
        (
            item["run"],
            item["schedule"] + (" (reference)" if item["reference"] else ""),
            item["boxes"],
            share(item["accuracy"]),
            number(item["seconds"], 1),
            f"{item['bytes'] / 1e6:.1f}",
            item["status"] + (", faults on purpose" if item.get("faults") else ""),
        )
        for item in found
    ]
    heads: tuple[str, ...] = ("run", "schedule", "boxes", "right", "seconds", "MB", "status")
    left = (0, 1, 6)
    if any(item["resumed_from"] is not None for item in found):
        rows = [(*row, number(item["resumed_from"], 0)) for row, item in zip(rows, found, strict=True)]
        heads = (*heads, "resumed from batch")
    if any("task" in item for item in found):
        tasks = [item.get("task", "digits") for item in found]
        rows = [(*row, task) for row, task in zip(rows, tasks, strict=True)]
        return table((*heads, "task"), rows, left=(*left, len(heads)))
    return table(heads, rows, left=left)


def check_table(checks: Sequence[Check]) -> str:
    """Return the table of `timebox doctor`."""
    width = max(len(check.name) for check in checks)
    return "\n".join(f"{check.state:>7}  {check.name.ljust(width)}  {check.text}" for check in checks)
