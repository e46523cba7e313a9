"""Removes a run's private folder when its launcher is gone and nobody else is left to do it: killed before it had started a
worker, or after all had ended. A shell that waits for the end of a pipe; it needs nothing that has to be imported.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

#: What it does: the pipe ends with the launcher, however that ends. What stops a terminal's processes does not stop it.
_SWEEP = 'trap "" INT TERM HUP; read -r _; rm -rf -- "$1"'


class Sweeper:
    """Sees to it that a folder does not outlive this process."""

    def __init__(self, folder: Path) -> None:
        """Begin to wait."""
        words = ["/bin/sh", "-c", _SWEEP, "sh", str(folder)]
        self._shell = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            start_new_session=True,
        )  # fmt: skip

    def close(self) -> None:
        """Remove the folder now."""
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait()
