"""Whether runs survive being killed, at random moments, whoever it is. `timebox bench kills`

Each repeat starts a run of one of four schedules, in turn, with checkpoints, and kills one of its processes by SIGKILL: a
worker, or the launcher itself. Then either `timebox resume` takes the run up again, or, every fourth time, the run was
started with `--recover 1` and has to go on by itself (the launcher is spared then). Held against a run of the same
configuration that nobody disturbed:

    programs     final weights bit for bit, and every row of the metrics to the byte
    all          it goes on from the newest checkpoint that is complete; each epoch has one row; the whole replays to the bit

Victim, moment and configuration are drawn by the repeat's number. A moment is a share of the undisturbed run's time, from
the command on, so that some kills come before the first checkpoint: those begin anew, and are counted by themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline import checkpoints
from pipeline.config import load
from pipeline.errors import RunError
from pipeline.plan import Plan

from . import runs
from .environment import collect, worker_environment
from .text import table

#: Keys of a run that takes some seconds and has some ten checkpoints.
KEYS = {
    "model.width": 32,
    "data.train": 400,
    "train.epochs": 12,
    "checkpoint.every": 40,
    "log.level": "info",
    "run.plot": "false",
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "article": {},
    "locked": {},
    "1f1b": {"model.tied": "false"},
    "decoupled": {"schedule.window": 4},
}
#: After the launcher has been killed no worker may be alive so many seconds later.
ORPHANS_S = 2.0
#: Moments of kills, as a share of the undisturbed run's time from its command to its end.
EARLIEST, LATEST = 0.1, 0.95


def kills(repeats: int) -> dict[str, Any]:
    """Kill so many runs, and return what became of each."""
    with tempfile.TemporaryDirectory(prefix="timebox-bench-") as temporary:
        folder = Path(temporary)
        wholes = {schedule: undisturbed(schedule, folder) for schedule in SCHEDULES}
        rows = [kill(number, folder, wholes) for number in range(repeats)]
    return {
        "bench": "kills",
        "repeats": repeats,
        "rows": rows,
        "total": [_total(schedule, rows) for schedule in SCHEDULES],
        "recovery_s": sorted(row["recovery_s"] for row in rows if row["recovery_s"] is not None),
        "environment": collect(),
    }


def undisturbed(schedule: str, folder: Path) -> dict[str, Any]:
    """Return the digest, the metrics and the seconds of a run that nobody disturbs."""
    began = time.monotonic()
    run = _start(schedule, folder / f"undisturbed-{schedule}", [])
    document = _document(run)
    rows = _rows(Path(document["folder"]))
    return {"digest": document["digest"], "rows": rows, "seconds": time.monotonic() - began}


def kill(number: int, folder: Path, wholes: dict[str, Any]) -> dict[str, Any]:
    """Kill one run and see what becomes of it; a run that had ended before is tried again, and killed earlier."""
    rng = random.Random(f"bench kills {number}")
    schedule = list(SCHEDULES)[number % len(SCHEDULES)]
    recovers = number // len(SCHEDULES) % 4 == 3
    whole = wholes[schedule]
    place = folder / f"kill-{number}"
    victims = ["box-1", "box-2", "head"] + ["launcher"] * (not recovers)
    victim, share = rng.choice(victims), rng.uniform(EARLIEST, LATEST)
    for attempt in range(10):
        parent = place / str(attempt)
        began = time.monotonic()
        run = _start(schedule, parent, ["--recover", "1"] if recovers else [])
        time.sleep(share * whole["seconds"])
        is_killed, killed = _kill(run, parent, victim), time.monotonic()
        document = _document(run)
        if is_killed and (document["status"] != "done" or document["recoveries"]):
            break
        share *= 0.8
    else:
        raise RunError(f"repeat {number}: the run had ended before it could be killed, ten times")
    run_folder = (parent / runs.LATEST).resolve()
    row = {
        "number": number,
        "schedule": schedule,
        "victim": victim,
        "after_s": round(killed - began, 3),
        "recovery_s": None,
    }
    if recovers:
        recoveries = document["recoveries"]
        newest = recoveries[0]["from_batch"] if recoveries else None
        row["recovery_s"] = recoveries[0]["seconds"] if recoveries else None
    else:
        row["orphans"] = _orphans(run_folder) if victim == "launcher" else 0
        found, _ = checkpoints.newest(run_folder, Plan.of(load(run_folder / "config.toml")))
        newest = 0 if found is None else found.batch
        document = _document(_command(["resume", "latest", "--run.dir", str(parent), "--json"]))
    replayed = _document(_command(["replay", "latest", "--run.dir", str(parent), "--json"]))
    rows = _rows(run_folder)
    epochs = [json.loads(line)["epoch"] for line in rows]
    is_program = schedule != "decoupled"
    row |= {
        "how": "recover" if recovers else "resume",
        "from_batch": document.get("resumed_from"),
        "newest": newest,
        "done": document["status"] == "done",
        "from_newest": document.get("resumed_from") == newest,
        "bit_equal": document["digest"] == whole["digest"] if is_program else None,
        "metrics_equal": rows == whole["rows"] if is_program else epochs == list(range(1, KEYS["train.epochs"] + 1)),  # type: ignore[operator]
        "replays": replayed.get("same") is True and replayed.get("digest") == document["digest"],
        "error": document.get("error"),
    }
    row["survived"] = all(
        row[key] is not False for key in ("done", "from_newest", "bit_equal", "metrics_equal", "replays")
    )
    row["survived"] = row["survived"] and not row.get("orphans")
    return row


def _start(schedule: str, parent: Path, more: list[str]) -> subprocess.Popen[str]:
    keys = KEYS | SCHEDULES[schedule] | {"schedule.kind": schedule, "run.dir": parent}
    flags = [word for key, value in keys.items() for word in (f"--{key}", str(value))]
    return _command(["run", "--preset", "digits", *flags, *more, "--json"])


def _command(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "launch", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=worker_environment(), start_new_session=True,
    )  # fmt: skip


def _document(run: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a command and return its document; what it says instead, where it has none."""
    printed, said = run.communicate()
    try:
        return dict(json.loads(printed))
    except ValueError:
        return {"status": "killed", "digest": None, "error": said.strip()}


def _kill(run: subprocess.Popen[str], parent: Path, victim: str) -> bool:
    """Kill a process of a run, as soon as it is there; return whether the run was still going on."""
    while run.poll() is None:
        state = runs.read_json(parent / runs.LATEST / "launcher.json") or {}
        pids = {stage["name"]: stage["pid"] for stage in state.get("stages", [])}
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill((pids | {"launcher": run.pid})[victim], signal.SIGKILL)
                return not (parent / runs.LATEST / "summary.json").is_file()
            return False
        time.sleep(0.01)
    return False


def _orphans(folder: Path) -> int:
    """Return how many workers are alive some time after their launcher was killed."""
    from .process import process_state

    stages = (runs.read_json(folder / "launcher.json") or {}).get("stages", [])
    deadline = time.monotonic() + ORPHANS_S
    while True:
        left = [s for s in stages if process_state(s["pid"], folder.name, s["name"]) not in ("gone", "unknown")]
        if not left or time.monotonic() > deadline:
            return len(left)
        time.sleep(0.02)


def _rows(folder: Path) -> list[str]:
    path = folder / "metrics" / "metrics.jsonl"
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _total(schedule: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [row for row in rows if row["schedule"] == schedule]
    found: dict[str, Any] = {"schedule": schedule, "kills": len(mine)}
    for key in ("survived", "from_newest", "bit_equal", "metrics_equal", "replays"):
        found[key] = sum(row[key] is True for row in mine)
    found["from_checkpoint"] = sum(bool(row["newest"]) for row in mine)
    found["launchers"] = sum(row["victim"] == "launcher" for row in mine)
    found["recovered"] = sum(row["how"] == "recover" for row in mine)
    return found


def lines(made: dict[str, Any]) -> list[str]:
    """Return the counts as a table."""
    heads = (
        "schedule", "kills", "of launchers", "by --recover", "from a checkpoint", "from the newest", "bit-equal",
        "metrics equal", "replays", "survived",
    )  # fmt: skip
    rows = [
        (
            t["schedule"], t["kills"], t["launchers"], t["recovered"], t["from_checkpoint"], t["from_newest"],
            "–" if t["schedule"] == "decoupled" else t["bit_equal"], t["metrics_equal"], t["replays"], t["survived"],
        )
        for t in made["total"]
    ]  # fmt: skip
    found = [table(heads, rows, left=(0,))]
    if seconds := made["recovery_s"]:
        found.append(
            f"from a failure with --recover until all go on: median {statistics.median(seconds):.2f} s "
            f"({seconds[0]:.2f} – {seconds[-1]:.2f})"
        )
    found += [
        f"repeat {row['number']} did not survive: {json.dumps(row)}" for row in made["rows"] if not row["survived"]
    ]
    return found
