"""Agents that come by themselves: started by hand, by srun, mpirun or Kubernetes, with the run's join file."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline import keys

from . import joining


class EnvRecruiter:
    """Writes the join file and says what is to be run on the other hosts."""

    def __init__(self) -> None:
        self._path = Path()

    def open(self, meeting: joining.Meeting, folder: Path) -> None:
        """Write the join file, and tell where it is."""
        self._path = (folder / joining.FILE).resolve()
        self._path.unlink(missing_ok=True)  # of a launcher that was killed
        keys.write_private(self._path, joining.line(meeting) + "\n")
        count = meeting.boxes + 1
        print(
            f"{folder.name} waits at {meeting.address} for {count} hosts, one for each of box-1 … head. On each of them:\n"
            f"  TIMEBOX_STAGE=box-1 timebox join {self._path}\n"
            "The file is as good as a key: where there is no shared disk, copy it (scp -p) for as long as the run lasts.",
            file=sys.stderr,
            flush=True,
        )

    def recruit(self, name: str) -> None:
        """Nothing: whoever started the first one may start another."""

    def fault(self, name: str) -> str:  # noqa: ARG002
        """Nothing is known of who may come."""
        return ""

    def dismiss(self, name: str) -> None:
        """Nothing: it ends by itself."""

    def close(self) -> None:
        """Remove the join file."""
        self._path.unlink(missing_ok=True) if self._path != Path() else None
