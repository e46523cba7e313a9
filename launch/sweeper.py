"""Removes a private folder when its owner is gone and nobody else is left to do it: a launcher that was killed before it had
started a worker, or after all had ended; an agent. A shell that waits for the end of a pipe: it imports nothing.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

#: What it does: the pipe ends with the launcher, however that ends. What stops a terminal's processes does not stop it.
_SWEEP = 'trap "" INT TERM HUP; read -r _; sleep "$2"; rm -rf -- "$1"'


class Sweeper:
    """Sees to it that a folder does not outlive this process."""

    def __init__(self, folder: Path, wait_s: int = 0) -> None:
        """Begin to wait for this process to end; what lives in the folder has `wait_s` seconds more."""
        words = ["/bin/sh", "-c", _SWEEP, "sh", str(folder), str(wait_s)]
        self._shell = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            start_new_session=True,
        )  # fmt: skip

    def close(self) -> None:
        """Wait no more: the folder has been removed."""
        self._shell.kill()
        self._shell.communicate()
