"""The stacks of a run's workers: asks for them, reads what they wrote, and shows where somebody is stuck.

A worker writes its stacks to the end of `logs/box-1.stacks` when it is sent SIGUSR1, and when it crashes (`pipeline.stacks`).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import stacks
from pipeline.errors import ConfigError

from . import runs
from .events import Failure
from .process import is_alive, process_state

#: Seconds that workers have to write their stacks, and for how long a file must not grow to be whole.
ASK_S, SETTLED_S = 1.0, 0.1
#: Bytes of a file's end that are read, and the lines of a stack that a failed run shows at once.
TAIL, SHOWN = 1 << 16, 8
#: What begins a crash, and the stacks of one thread.
FATAL, THREADS = "Fatal Python error", ("Current thread ", "Thread ")
ORDER = "newest call first"


class Reach(NamedTuple):
    """How workers are reached: what state one is in, how it is asked, what is done while they write."""

    state: Callable[[str, int], str]
    ask: Callable[[str, int], None]
    pause: Callable[[], None]


def here(folder: Path) -> Reach:
    """Return how workers on this machine are reached."""

    def send(name: str, pid: int) -> None:  # noqa: ARG001
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, stacks.ASKS)

    return Reach(lambda name, pid: process_state(pid, folder.name, name), send, lambda: time.sleep(0.01))


def through(state: Mapping[str, Any]) -> Reach:
    """Return how workers on other hosts are reached: their launcher asks all of them when it is sent SIGUSR1 itself."""
    asked: list[str] = []

    def ask(name: str, pid: int) -> None:  # noqa: ARG001
        if not asked and is_alive(state.get("pid"), state.get("started_ticks")):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(state["pid"]), stacks.ASKS)
        asked.append(name)

    return Reach(lambda name, pid: "unknown", ask, lambda: time.sleep(0.01))  # noqa: ARG005


def ask(folder: Path, pids: Mapping[str, int], reach: Reach | None = None) -> dict[str, str]:
    """Let workers write their stacks and return them by name, after at most ASK_S seconds; who cannot says why instead."""
    reach = reach or here(folder)
    states = {name: reach.state(name, pid) for name, pid in pids.items()}
    found: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for name, pid in pids.items():
        if states[name] in ("stopped", "traced", "gone"):
            found[name] = f"none: {_of_state(states[name], pid)}"
        elif _begins(folder, name, pid) is None:
            found[name] = f"none: process {pid} is not ready to write them"
        else:
            sizes[name] = _size(stacks.file_of(folder, name))
            reach.ask(name, pid)
    ends = _wait(folder, sizes, reach.pause)
    for name, size in sizes.items():
        text = _text(stacks.file_of(folder, name), size, ends[name])
        found[name] = text or f"none: process {pids[name]} did not write them within {ASK_S:g} s"
    return {name: found[name] for name in pids}


def is_ready(folder: Path, stage: str, pid: int) -> bool:
    """Whether a worker has said that it may be asked: before that the signal would end it."""
    return _begins(folder, stage, pid) is not None


def _wait(folder: Path, sizes: Mapping[str, int], pause: Callable[[], None]) -> dict[str, int]:
    """Wait until every file has grown past its size and grows no more; return the sizes then."""
    until = time.monotonic() + ASK_S
    now, since = dict(sizes), time.monotonic()
    while sizes and time.monotonic() < until:
        pause()
        seen = {name: _size(stacks.file_of(folder, name)) for name in sizes}
        if seen != now:
            now, since = seen, time.monotonic()
        if time.monotonic() - since >= SETTLED_S and all(now[name] > size for name, size in sizes.items()):
            break
    return now


def explain(failure: Failure, folder: Path, pids: Mapping[str, int], reach: Reach | None = None) -> None:
    """Add to a failure the stacks of the workers that live, and what the kernel says of the one that is named."""
    reach = reach or here(folder)
    state = reach.state(failure.stage, pids[failure.stage]) if failure.stage in pids else "gone"
    failure.stacks = ask(folder, pids, reach)
    if state in ("stopped", "traced"):
        failure.error += f"; {_of_state(state, pids[failure.stage])}"


def _of_state(state: str, pid: int) -> str:
    return {
        "stopped": f"its process {pid} is stopped (SIGSTOP; kill -CONT {pid} would let it go on)",
        "traced": f"its process {pid} is held by a debugger",
    }.get(state, f"its process {pid} is gone")


def crash(folder: Path, stage: str, pid: int) -> str:
    """Return the stacks that a process wrote when it crashed, or nothing where it did not."""
    begin = _begins(folder, stage, pid)
    text = "" if begin is None else _text(stacks.file_of(folder, stage), begin)
    return text[text.index(FATAL) :].strip() if FATAL in text else ""


def told_of(folder: Path, error: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines with which a failed run tells who waited, where the one that is named is stuck, and where the rest is."""
    yield from error.get("waits", ())
    text = error.get("stacks", {}).get(error.get("stage"), "")
    if not text or text.startswith("none: "):
        return
    lines = main_thread(text)
    yield f"{error['stage']} is at ({ORDER}):"
    yield from (f"  {line}" for line in lines[:SHOWN])
    yield f"all stacks: {folder / 'logs' / 'error.json'}"


def main_thread(text: str) -> list[str]:
    """Return a stack's lines of the thread that computes, which faulthandler names last where it is not the current one."""
    threads: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith(THREADS):
            threads.append([])
        elif line.startswith("  "):
            threads[-1].append(line.strip())
    return next((lines for lines in threads if any("pipeline/worker.py" in line for line in lines)), threads[-1])


def collect(folder: Path) -> dict[str, Any]:
    """Return the document of `timebox stacks`: what every worker is at, and its stacks; raises ConfigError for a reference."""
    from . import why, why_text  # they import numpy, which a run that starts does without

    state = runs.read_json(folder / "launcher.json") or {}
    if state.get("reference"):
        raise ConfigError(f"{folder.name} is a reference: one process, which writes no stacks")
    status = str(runs.describe(folder)["status"])
    try:
        document = why.collect(folder)
    except FileNotFoundError as error:
        raise ConfigError(f"{folder.name} has no workers: {error.filename} is missing") from None
    pids = {stage["name"]: stage["pid"] for stage in document["stages"] if isinstance(stage["pid"], int)}
    elsewhere = {stage["name"] for stage in runs.stages_of(state) if stage.get("is_elsewhere")}
    if elsewhere:
        found = ask(folder, pids, through(state)) if status == "running" else {}
    else:
        alive = {name: pid for name, pid in pids.items() if process_state(pid, folder.name, name) != "gone"}
        found = ask(folder, alive)
    stages = []
    for stage in document["stages"]:
        name = stage["name"]
        left = _text(stacks.file_of(folder, name)) if name not in found else ""
        stages.append(
            {
                "name": name,
                "pid": stage["pid"],
                "process": stage["process"],
                "host": stage["host"],
                "is_elsewhere": stage["name"] in elsewhere,
                "at": why_text.of_itself(stage, status),
                "stacks": found.get(name) or _written(left),
            }
        )
    return {"run": folder.name, "status": status, "order": ORDER, "stages": stages, "warnings": document["warnings"]}


def _written(text: str) -> str | None:
    """Return what of a file are stacks, without the line that says what it is for; None where there is none."""
    headers = stacks.HEADER.partition("{pid}")[2].strip()
    kept = [line for line in text.splitlines() if not line.endswith(headers)]
    return "\n".join(kept).strip() or None


def render(document: Mapping[str, Any]) -> str:
    """Return the stacks for people."""
    lines = [f"{document['run']}: {document['status']}; stacks with the {document['order'].replace(' call', ' call')}"]
    for stage in document["stages"]:
        where = f"process {stage['pid']}, {stage['process']}" if stage["pid"] else "no process"
        if stage["is_elsewhere"]:
            where = f"process {stage['pid']} on {stage['host']}"
        lines += ["", f"{stage['name']} ({where}) {stage['at']}"]
        text = stage["stacks"] or "none: it wrote none before it ended"
        lines += [f"  {line}" for line in text.splitlines()]
    return "\n".join(lines)


def _begins(folder: Path, stage: str, pid: int) -> int | None:
    """Return from where on a stage's file holds what this process wrote, in bytes; None where it has not said so."""
    with contextlib.suppress(OSError):
        place = stacks.file_of(folder, stage).read_bytes().rfind(stacks.HEADER.format(pid=pid).encode())
        return place if place >= 0 else None
    return None


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _text(path: Path, begin: int = 0, end: int | None = None) -> str:
    """Return what a file holds between two places, of it at most the last TAIL bytes; nothing where there is none."""
    try:
        return path.read_bytes()[begin:end][-TAIL:].decode(errors="replace").strip()
    except OSError:
        return ""
