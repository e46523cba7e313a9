"""The edge of the launcher for a reference: one process that trains in a plain loop."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.plan import Plan
from pipeline.schema import Config

from .environment import worker_environment
from .events import Failure
from .interruptions import interruptions
from .process import signal_group
from .spawn import TICK_MS, Observer, save_state
from .supervise import Member, Supervisor


class ReferenceRun:
    """The same run in one process of its own: one BLAS thread must be set before numpy is imported."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.folder = folder
        self.supervisor = Supervisor(Plan.of(config), time.monotonic())
        self.supervisor.members = {"reference": Member()}
        self.done: dict[str, Any] = {}

    def run(self, observe: Observer, on_go: Callable[[], None]) -> Supervisor:
        """Run it to its end and return what became of it."""
        state = self.supervisor
        command = [sys.executable, "-m", "pipeline.reference", str(self.folder), str(os.getpid())]
        with interruptions() as interrupted, (self.folder / "logs" / "reference.out").open("wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=out, env=worker_environment(),
                process_group=0,
            )  # fmt: skip
            stages = [{"name": "reference", "pid": process.pid}]
            try:
                save_state(self.folder, stages)
                state.is_running = True
                on_go()
                self._listen(process, interrupted, observe)
            finally:
                signal_group(process, signal.SIGKILL)
                process.wait()
        if state.status == "done" and not self.done:
            state.status = "failed"
            state.failure = state.failure or Failure("reference", state.members["reference"].batch, "it died")
        return state

    def _listen(self, process: subprocess.Popen[bytes], interrupted: list[int], observe: Observer) -> None:
        state, member = self.supervisor, self.supervisor.members["reference"]
        assert process.stdout is not None
        member.pid = process.pid
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if interrupted:
                    state.status = "interrupted"
                    signal_group(process, signal.SIGTERM if len(interrupted) == 1 else signal.SIGKILL)
                if selector.select(TICK_MS / 1000):
                    line = process.stdout.readline()
                    if not line:
                        return
                    document = json.loads(line)
                    if document["word"] == "done":
                        self.done = document
                    elif document["word"] == "failed":
                        wrong = bool(document["wrong"])
                        state.status, state.failure = (
                            "failed",
                            Failure("reference", member.batch, document["error"], wrong),
                        )
                    member.batch = document.get("batch", member.batch)
                    state.cost = document.get("cost", state.cost)
                observe(state)
