"""What the kernel says of a process: whether it is there, whether it is still the same one, and what it does.

A number alone does not name a process: once it has ended another may get the number. When it was started tells them apart.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .environment import worker_environment

STATES = {"R": "running", "S": "sleeping", "D": "sleeping", "I": "sleeping", "T": "stopped", "t": "traced"}


#: A process that was there longer before its own code began was something else: Python starts in a fraction of this.
LONGEST_START_NS = 1_000_000_000


def _fields(pid: int) -> list[str]:
    """Return what /proc/PID/stat says after the name, which may itself hold anything; raises OSError."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def is_told() -> bool:
    """Whether this system tells of its processes in /proc."""
    return Path("/proc/self/stat").is_file()


def started_ticks(pid: int) -> int | None:
    """Return when a process was started, in the kernel's ticks since it booted; None where that is not to be had."""
    try:
        return int(_fields(pid)[19])
    except (OSError, IndexError, ValueError):
        return None


def is_alive(pid: object, ticks: object = None) -> bool:
    """Whether a process lives, and is the one that was started then, where that is on record and can be seen."""
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it is another user's
    if not is_told():
        return True
    try:
        fields = _fields(pid)
        return fields[0] not in "ZX" and (not isinstance(ticks, int) or int(fields[19]) == ticks)
    except (OSError, IndexError, ValueError):
        return False


def process_state(pid: object, run: str, stage: str) -> str:
    """Return `running`, `sleeping`, `stopped`, `traced`, `gone`, or `unknown` where there is no /proc.

    A number that now belongs to another process than this worker of this run means that the worker is gone.
    """
    if not is_told() or not isinstance(pid, int):
        return "unknown"
    try:
        letter = _fields(pid)[0]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (OSError, IndexError):
        return "gone"
    is_it = "pipeline.worker" in words and stage in words and any(Path(word).name == run for word in words)
    return STATES.get(letter, "gone") if is_it else "gone"


def stage_state(stage: Mapping[str, Any], run: str) -> str:
    """Return the same of a stage as launcher.json has it; of one on another host nothing is known here."""
    if stage.get("is_elsewhere"):
        return "unknown"
    return process_state(stage.get("pid"), run, str(stage.get("name")))


def process_start_ns(began_ns: int) -> int:
    """Return when this process was started, given when its own code began; both in monotonic nanoseconds.

    Linux tells a process's age, to 10 ms. A shell that replaces itself by its last command hands its own age on, so a gap
    that Python's start cannot explain is not believed.
    """
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return began_ns
    started_ns = time.monotonic_ns() - age_ns
    return started_ns if began_ns - started_ns < LONGEST_START_NS else began_ns


def start_worker(
    folder: Path, stage: str, address: str, sockets: Path, epoch: int, save: int | None, interface: str = ""
) -> subprocess.Popen[bytes]:
    """Start a stage's worker as a child, on a run's folder; the other words are those of `pipeline.worker`."""
    words = [str(folder), stage, address, "--sockets", str(sockets)]
    words += ["--parent", str(os.getpid()), "--epoch", str(epoch)]
    words += [] if save is None else ["--checkpoint", str(save)]
    words += ["--interface", interface] if interface else []
    with (folder / "logs" / f"{stage}.out").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.worker", *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=worker_environment(),
            process_group=0,  # of this session: a worker that is stopped is woken when we die (pipeline.lifeline)
        )


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a worker and whatever it started; a stopped one is woken so that it can go."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
        if number == signal.SIGTERM:
            os.killpg(process.pid, signal.SIGCONT)
