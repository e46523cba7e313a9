"""The usual placer: processes of this machine, children of the launcher."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import control, keys
from pipeline.errors import LESS_MEMORY
from pipeline.schema import Config
from pipeline.transport import ControlServer

from . import memory, stacks
from .events import Failure
from .placers import Ended
from .process import signal_group, start_worker


class LocalPlacer:
    """Processes of this machine."""

    extra_s = 0.0

    def __init__(self, config: Config, folder: Path) -> None:  # noqa: ARG002
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._address = ""
        self._sockets = Path()
        self._kills = memory.kills()

    def lines(self, secret: bytes) -> list[control.Line]:  # noqa: ARG002
        """None: what it starts are children."""
        return []

    def open(self, server: ControlServer, secrets: keys.Keys, sockets: Path) -> None:  # noqa: ARG002
        """Note where the launcher is, and where the run's sockets and secrets are."""
        self._address, self._sockets = server.address, sockets

    def start(self, name: str, epoch: int, save: int | None) -> None:
        """Start a worker; what is left of the old one goes first."""
        if (old := self._processes.get(name)) is not None:
            signal_group(old, signal.SIGKILL)
            old.wait()
        where = self._folder, name, self._address, self._sockets
        self._processes[name] = start_worker(*where, epoch, save)

    def poll(self, name: str) -> Ended | None:
        """Return the process's exit code; and that the system was short of memory, where it has killed since we began."""
        process = self._processes.get(name)
        if process is None or (code := process.poll()) is None:
            return None
        is_short = code == -signal.SIGKILL and memory.kills() > self._kills
        return Ended(code, f"killed by SIGKILL: the system ran out of memory; {LESS_MEMORY}" if is_short else "")

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the process group."""
        signal_group(self._processes[name], number)

    def give_up(self, name: str) -> None:
        """Nothing: it is there at once."""

    def where(self, name: str) -> dict[str, Any]:
        """Return the process, and this machine's name."""
        process = self._processes.get(name)
        return {"pid": None if process is None else process.pid, "host": socket.gethostname()}

    def has_come(self, name: str, saved: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Yes: the worker wrote it there."""
        return True

    def completed(self, save: int) -> None:
        """Nothing: all workers see it."""

    def can_go_back(self, name: str, save: int | None) -> bool:  # noqa: ARG002
        """Yes: it is in the folder."""
        return True

    def hear(self, name: str, frame: bytes) -> None:
        """Nothing comes: it has no lines."""

    def tick(self) -> None:
        """Nothing is ever due."""

    def others(self) -> list[tuple[str, bytes]]:
        """None: it waits for no word."""
        return []

    def explain(self, failure: Failure) -> None:
        """Ask all workers that live for their stacks."""
        pids = {name: process.pid for name, process in self._processes.items() if process.poll() is None}
        stacks.explain(failure, self._folder, pids)

    def end_all(self) -> None:
        """Kill what is left."""
        for process in self._processes.values():
            signal_group(process, signal.SIGKILL)
            process.wait()
