"""Whether live runs replay to the bit, over random configurations, and what recording their sums costs. `timebox bench replay`

Each repeat throws a decoupled configuration by dice, the repeat's number being the seed: 2 to 7 boxes, window 1, 4 or 16,
ipc or tcp, tied or not, and more. It runs live, in processes, and is replayed by `timebox replay` in a process of its own. The
folder of a run whose replay gave other bits is kept and told.

    live      box-1 ─ box-2 ─ … ─ head      each its own process; what comes first is decided by the machine
    replay    journals and sums             one process, no clock: every array against its sum

What sums cost is measured in one process, on the work of one box in a loop: F, T and U of a batch and after each of them
what a worker adds. Before each the caches are emptied by a sweep over memory, as a stage finds them that has waited; in a
tight loop both take about half as long. A batch's time is that of a live run of preset article, decoupled.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.actions import ACTIVATION, GRADIENT, INCREMENT, Action, Message
from pipeline.box import BoxWork
from pipeline.config import resolve
from pipeline.data import Batches, load
from pipeline.errors import ConfigError
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.sums import Sums

from .environment import collect, worker_environment
from .live import Result, run
from .text import share, table

#: The widths at which recording is timed, and the epochs of the live run beside it.
WIDTHS = {64: 40, 784: 10}
#: Batches that are timed, and the bytes that empty the caches before each.
TIMED, SWEPT = 200, 16_000_000


def replay(repeats: int) -> dict[str, Any]:
    """Run and replay so many configurations, and measure what recording costs."""
    folder = Path(tempfile.mkdtemp(prefix="timebox-bench-"))
    rows = [_case(seed, folder) for seed in range(repeats)]
    costs = [_recording(width, epochs, folder) for width, epochs in WIDTHS.items()]
    if all(row["same"] for row in rows):
        shutil.rmtree(folder)
    total = {key: sum(row[key] for row in rows) for key in ("same", "actions", "arrays", "run_s", "replay_s")}
    return {
        "bench": "replay",
        "repeats": repeats,
        "rows": rows,
        "total": total,
        "recording": costs,
        "environment": collect(),
    }


def configuration(seed: int, folder: Path) -> Config:
    """Return a configuration by dice that trains in about a second."""
    rng = random.Random(f"bench replay {seed}")
    batch = rng.choice((1, 1, 2, 4))
    flags = {
        "model.boxes": rng.randint(2, 7),
        "model.width": rng.randint(4, 48),
        "model.tied": rng.random() < 0.5,
        "model.bias": rng.random() < 0.3,
        "oracle.sees_label": rng.random() < 0.3,
        "oracle.init": rng.choice(("zero", "random")),
        "oracle.target": rng.choice(("bootstrapped", "bootstrapped", "true")),
        "data.batch": batch,
        "data.train": 40 * batch - batch // 2,
        "data.test": 10,
        "data.reading": rng.choice(("vector", "rows")),
        "train.epochs": rng.randint(2, 5),
        "train.seed": seed,
        "schedule.kind": "decoupled",
        "schedule.window": rng.choice((1, 4, 16)),
        "transport.kind": rng.choice(("ipc", "tcp")),
        "log.level": "info",
        "run.dir": str(folder),
        "run.plot": False,
    }
    return resolve(flags=flags)


def _case(seed: int, folder: Path) -> dict[str, Any]:
    config = configuration(seed, folder)
    result = _run(config)
    found = _replayed(result)
    if found["same"]:
        shutil.rmtree(result.folder)
    return {
        "seed": seed,
        "boxes": config.model.boxes,
        "window": config.schedule.window,
        "transport": config.transport.kind,
        "tied": config.model.tied,
        "actions": found["actions"],
        "arrays": found["arrays"],
        "same": found["same"],
        "first_difference": found["first_difference"],
        "kept": None if found["same"] else str(result.folder),
        "run_s": result.document["seconds"],
        "replay_s": found["seconds"],
    }


def _run(config: Config) -> Result:
    result = run(config)
    if result.status == "interrupted":
        raise KeyboardInterrupt
    return result


def _replayed(result: Result) -> dict[str, Any]:
    """Return what came of a replay; a record that is not whole is a difference too."""
    try:
        return result.replay()
    except ConfigError as error:
        return {"same": False, "first_difference": str(error), "actions": 0, "arrays": 0, "seconds": 0.0}


def _recording(width: int, epochs: int, folder: Path) -> dict[str, Any]:
    """Return what recording the sums of a batch takes at one box, beside its own work and beside a live batch."""
    config = _article(width, epochs, folder)
    result = _run(config)
    shutil.rmtree(result.folder)
    batch_ns = 1e9 / result.document["batches_per_s"]
    command = [sys.executable, "-m", "launch.bench_replay", str(width)]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=worker_environment(), check=True)
    message, sums, work = json.loads(done.stdout)
    added = statistics.median(sums)
    return {
        "width": width,
        "message_ns": message,
        "sums_ns": added,
        "sums_quartiles_ns": statistics.quantiles(sums, n=4)[::2],
        "of_work": statistics.median(a / b for a, b in zip(sums, work, strict=True)),
        "batch_ns": batch_ns,
        "of_batch": added / batch_ns,
    }


def _article(width: int, epochs: int, folder: Path) -> Config:
    flags = {
        "model.width": width,
        "schedule.kind": "decoupled",
        "train.epochs": epochs,
        "log.level": "info",
        "run.dir": str(folder),
        "run.plot": False,
    }
    return resolve("article", flags=flags)


def timed_batches(config: Config) -> tuple[list[int], list[int]]:
    """Return, batch by batch, the nanoseconds of adding to the sums at box 2 of two, and of its F, T and U themselves."""
    plan = Plan.of(config)
    work, sums, sweep = BoxWork(config, plan, 2, Batches(config, load(config.data))), Sums(), _sweep()
    rng = np.random.default_rng(0)
    adding, doing = [], []
    for batch in range(TIMED):
        h, g, delta = rng.standard_normal((3, 1, config.model.width)).astype(config.model.dtype)
        work.keep(Message(ACTIVATION, batch, 1, 2), (np.tanh(h),))
        work.keep(Message(GRADIENT, batch, 3, 2), (g / 1000,))
        work.keep(Message(INCREMENT, batch, 1, 2), (delta / 1000,))
        added = did = 0
        for action in (Action("F", batch), Action("T", batch), Action("U", batch, 1)):
            sweep()
            began = time.perf_counter_ns()
            for _ in work.do(action):
                pass
            ended = time.perf_counter_ns()
            sums.add(work.outputs, work.changes)
            added += time.perf_counter_ns() - ended
            did += ended - began
        adding.append(added)
        doing.append(did)
    return adding, doing


def timed_message(config: Config) -> float:
    """Return the median nanoseconds of adding one message of one array of the model's width."""
    sums, sweep, found = Sums(), _sweep(), []
    outputs = {ACTIVATION: (np.ones((1, config.model.width), config.model.dtype),)}
    for _ in range(TIMED):
        sweep()
        began = time.perf_counter_ns()
        sums.add(outputs, {})
        found.append(time.perf_counter_ns() - began)
    return statistics.median(found)


def _sweep() -> Callable[[], None]:
    memory = np.zeros(SWEPT, np.uint8)

    def sweep() -> None:
        np.add(memory, 1, out=memory)

    return sweep


def lines(document: dict[str, Any]) -> list[str]:
    """Return the tables for people, a line on all runs, and one for each that gave other bits."""
    rows = [
        (
            row["seed"], row["boxes"], row["window"], row["transport"], "yes" if row["tied"] else "no",
            f"{row['actions']:,}", f"{row['arrays']:,}", "yes" if row["same"] else "NO", f"{row['run_s']:.1f}",
            f"{row['replay_s']:.1f}",
        )
        for row in document["rows"]
    ]  # fmt: skip
    total = document["total"]
    return [
        table(
            ("seed", "boxes", "window", "transport", "tied", "actions", "arrays", "same", "run s", "replay s"),
            rows,
            left=(3,),
        ),
        f"{total['same']} of {document['repeats']} gave the same bits: {total['actions']:,} actions, "
        f"{total['arrays']:,} arrays compared; runs {total['run_s']:.1f} s, replays {total['replay_s']:.1f} s",
        *(f"{row['seed']}: {row['first_difference']}; kept: {row['kept']}" for row in document["rows"] if row["kept"]),
        "",
        "recording the sums, at a box, from cold caches:",
        _costs(document["recording"]),
    ]


def _costs(recording: list[dict[str, Any]]) -> str:
    rows = []
    for row in recording:
        low, high = row["sums_quartiles_ns"]
        rows.append((
            row["width"], f"{row['message_ns'] / 1000:.1f}", f"{row['sums_ns'] / 1000:.1f}",
            f"{low / 1000:.1f} – {high / 1000:.1f}", share(row["of_work"]), f"{row['batch_ns'] / 1000:.0f}",
            share(row["of_batch"]),
        ))  # fmt: skip
    return table(("width", "µs a message", "µs a batch", "quartiles", "of its work", "live batch µs", "of it"), rows)


if __name__ == "__main__":
    _config = _article(int(sys.argv[1]), 1, Path())
    print(json.dumps([timed_message(_config), *timed_batches(_config)]))
