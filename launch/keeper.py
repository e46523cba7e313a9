"""What a Ray actor does on its node: it keeps an agent. Knows nothing of Ray."""

from __future__ import annotations

import os
import subprocess
import sys

from . import joining


class Keeper:
    """What an actor does on its node: it starts an agent, which ends when this process does."""

    def __init__(self, line: str, stage: str, host: str, root: str) -> None:
        """Start an agent with a join line; `root` is where this package is, if it is not installed there."""
        environment = {**os.environ, joining.HOST: host}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "launch.agent", "-", "--stage", stage, "--parent", str(os.getpid())]
        self._agent = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        assert self._agent.stdin is not None
        self._agent.stdin.write(f"{line}\n".encode())
        self._agent.stdin.close()

    def poll(self) -> int | None:
        """Return the agent's exit code, or None while it is there."""
        return self._agent.poll()
