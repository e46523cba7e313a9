"""Ends a run from elsewhere: asks its launcher as Ctrl-C does, and waits until it has ended.

A number on record is never trusted alone: the process must be the one that was started then (`launch.process`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import RunError

from . import runs
from .process import is_alive, stage_state
from .supervise import INTERRUPT_S, TERM_S

#: Seconds after which something is said, after which a second request follows with `--now`, and at which patience ends.
WORD_S, AGAIN_S, MOST_S = 1.0, 0.3, INTERRUPT_S + TERM_S + 21.0


def stop(folder: Path, *, now: bool, tell: Callable[[str], None]) -> dict[str, Any]:
    """Stop a run and return the document of `timebox stop`; raises RunError where it does not end."""
    state = runs.read_json(folder / "launcher.json") or {}
    pid, ticks = state.get("pid"), state.get("started_ticks")
    was_running = str(runs.describe(folder)["status"]) == "running" and is_alive(pid, ticks)
    began = time.monotonic()
    if was_running:
        assert isinstance(pid, int), "it is alive"
        _ask(pid, ticks, now=now, tell=tell)
    ended = _end_workers(folder, state)
    summary = runs.read_json(folder / "summary.json") or {}
    return {
        "run": folder.name,
        "status": runs.describe(folder)["status"],
        "was_running": was_running,
        "seconds": round(time.monotonic() - began, 3),
        "batches": {stage.get("name"): stage.get("batches") for stage in runs.stages_of(summary)},
        "ended_workers": ended,
        "warnings": [],
    }


def _ask(pid: int, ticks: object, *, now: bool, tell: Callable[[str], None]) -> None:
    began = time.monotonic()
    has_told = has_repeated = False
    _send(pid, signal.SIGTERM)
    while is_alive(pid, ticks):
        waited = time.monotonic() - began
        if now and not has_repeated and waited >= AGAIN_S:  # two at once would be one to the kernel
            has_repeated = True
            _send(pid, signal.SIGTERM)
        if waited >= WORD_S and not has_told:
            has_told = True
            way_out = "" if now else f", {INTERRUPT_S + TERM_S:.0f} s at most for its workers; --now kills them"
            tell(f"waits for the run to stop and keep what is there{way_out}")
        if waited >= MOST_S:
            raise RunError(
                f"the launcher (process {pid}) has not ended after {MOST_S:.0f} s; kill -KILL {pid} ends it all"
            )
        time.sleep(0.02)


def _send(pid: int, number: int) -> None:
    """Send a signal to the launcher; one that is stopped is woken."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)


def _end_workers(folder: Path, state: dict[str, Any]) -> list[str]:
    """Kill workers that outlived their launcher, which none should, and return their names."""
    found = []
    for stage in runs.stages_of(state):
        pid, name = stage.get("pid"), stage.get("name")
        if isinstance(pid, int) and stage_state(stage, folder.name) not in ("gone", "unknown"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
                found.append(str(name))
    return found


def render(document: dict[str, Any]) -> str:
    """Return in words how a run ended that was to stop."""
    run, status = document["run"], document["status"]
    if document["was_running"]:
        batches = [count for count in document["batches"].values() if count is not None]
        where = f" at batch {min(batches):,}" if batches and status == "interrupted" else ""
        text = f"{run}: {status}{where}, after {document['seconds']:.1f} s"
    else:
        text = f"{run}: has ended already: {status}"
    if document["ended_workers"]:
        text += f"; killed {', '.join(document['ended_workers'])}, which had outlived the launcher"
    return text
