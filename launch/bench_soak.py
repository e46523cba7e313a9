"""Whether the memory of a long run is flat: ten minutes at full speed with checkpoints. `timebox bench soak`

Each repeat is one run of preset article, `decoupled`, whose processes are looked at every second (VmRSS), and which is stopped
at the end. What they have in the last minute is held against the second minute: in the first one Python, numpy and ZeroMQ still
take what they need.
"""

from __future__ import annotations

import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline.errors import RunError

from . import runs
from .environment import collect, worker_environment
from .text import table

#: Seconds of a run, those at its start that are not counted, and those that are compared at either end.
SECONDS, WARM_S, SPAN_S = 600.0, 60.0, 60.0
#: Memory is flat within this share.
FLAT = 0.05
KEYS = {
    "model.width": 64, "schedule.kind": "decoupled", "train.epochs": 10_000_000, "checkpoint.every": 5000,
    "log.level": "info", "run.plot": "false",
}  # fmt: skip


def measure(repeats: int, seconds: float = SECONDS) -> dict[str, Any]:
    """Return how the memory of each process went, in so many runs."""
    rows = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(prefix="timebox-bench-") as folder:
            rows += _soak(Path(folder), seconds)
    return {"bench": "soak", "repeats": repeats, "seconds": seconds, "rows": rows, "environment": collect()}


def _soak(folder: Path, seconds: float) -> list[dict[str, Any]]:
    flags = [word for key, value in KEYS.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "launch", "run", *flags, "--run.dir", str(folder), "--json"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=worker_environment())
    seen: dict[str, list[tuple[float, float]]] = {}
    began = time.monotonic()
    try:
        while (at := time.monotonic() - began) < seconds and run.poll() is None:
            state = runs.read_json(folder / runs.LATEST / "launcher.json") or {}
            for name, pid in [("launcher", run.pid), *((s["name"], s["pid"]) for s in state.get("stages", []))]:
                if megabytes := _resident(pid):
                    seen.setdefault(name, []).append((at, megabytes))
            time.sleep(1.0)
        checkpoints = len(list(folder.glob("*/logs/launcher.log"))) and _checkpoints(folder)
        run.send_signal(signal.SIGINT)
        printed, said = run.communicate(timeout=30)
    finally:
        run.kill()
        run.wait()
    try:
        document = json.loads(printed)
    except ValueError:
        raise RunError(f"the run ended early: {said.strip()}") from None
    if document["status"] != "interrupted":
        raise RunError(f"the run ended early: {document.get('error', document['status'])}")
    batches = document["stages"][-1]["batches"]
    return [
        _row(name, samples, seconds) | {"batches": batches, "checkpoints": checkpoints}
        for name, samples in seen.items()
    ]


def _row(name: str, samples: list[tuple[float, float]], seconds: float) -> dict[str, Any]:
    warm, span = min(WARM_S, seconds / 4), min(SPAN_S, seconds / 4)
    early = statistics.median(mb for at, mb in samples if warm <= at < warm + span)
    late = statistics.median(mb for at, mb in samples if at >= seconds - span)
    growth = late / early - 1
    return {
        "process": name, "early_mb": early, "late_mb": late, "most_mb": max(mb for _, mb in samples), "growth": growth,
        "is_flat": abs(growth) <= FLAT,
    }  # fmt: skip


def _resident(pid: int) -> float:
    """Return the memory of a process that is in use, in MB; 0 where it cannot be told."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    match = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(match[1]) / 1024 if match else 0.0


def _checkpoints(folder: Path) -> int:
    return (folder / runs.LATEST / "logs" / "launcher.log").read_text().count("a checkpoint is complete")


def lines(made: dict[str, Any]) -> list[str]:
    """Return the table."""
    rows = [
        (
            row["process"], f"{row['early_mb']:.1f}", f"{row['late_mb']:.1f}", f"{row['most_mb']:.1f}",
            f"{100 * row['growth']:+.1f} %", "yes" if row["is_flat"] else "no",
        )
        for row in made["rows"]
    ]  # fmt: skip
    heads = ("process", "MB early", "MB late", "MB at most", "growth", "within 5 %")
    told = made["rows"][0]
    return [
        table(heads, rows, left=(0, 5)),
        f"{made['seconds']:.0f} s a run, {told['batches']:,} batches, {told['checkpoints']} checkpoints in the first; "
        f"early: the second minute, late: the last",
    ]
