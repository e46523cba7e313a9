"""Where a run's stages are: what the launcher asks of whoever starts their processes.

local     a process of this machine, a child of the launcher; it writes into the run's folder itself (`launch.placer_local`)
else      an agent on another host, that starts the process and sends back what it writes (`launch.remote`)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pipeline import control, keys
from pipeline.transport import ControlServer

from .events import Failure


class Ended(NamedTuple):
    """How a stage's process has ended: its exit code, and what there is to say beyond that."""

    code: int
    why: str = ""
    is_wrong_request: bool = False


class Placer(Protocol):
    """Starts the processes of a run's stages, wherever that is, and knows what has become of them."""

    #: Seconds that a stage may take, beyond what a process takes, until it is there.
    extra_s: float

    def lines(self, secret: bytes) -> list[control.Line]:
        """Return the lines that it needs to the launcher's socket, beside those of the workers."""

    def open(self, server: ControlServer, secrets: keys.Keys, sockets: Path) -> None:
        """Begin, with the socket that is bound and the run's private folder; raises ConfigError."""

    def start(self, name: str, epoch: int, save: int | None) -> None:
        """Start a stage's process, under an epoch and from a checkpoint; what is left of an earlier one goes first."""

    def poll(self, name: str) -> Ended | None:
        """Return how a stage's process has ended, or None while it has not."""

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a stage's process and whatever it started."""

    def give_up(self, name: str) -> None:
        """A stage was told to stop: one that is not there yet need not come any more."""

    def where(self, name: str) -> dict[str, Any]:
        """Return a stage's `pid` and `host`."""

    def has_come(self, name: str, saved: Mapping[str, Any]) -> bool:
        """Whether a stage's part of a checkpoint is in the run's folder, as it says."""

    def completed(self, save: int) -> None:
        """A checkpoint is complete."""

    def can_go_back(self, name: str, save: int | None) -> bool:
        """Whether a stage has all that it needs to go back to a checkpoint."""

    def hear(self, name: str, frame: bytes) -> None:
        """Take in a word that came on one of its lines; raises OSError where the run's folder cannot be written."""

    def tick(self) -> None:
        """Do what is due."""

    def others(self) -> list[tuple[str, bytes]]:
        """Return the words of workers that came while it waited for one of its own."""

    def explain(self, failure: Failure) -> None:
        """Add to a failure the stacks of the workers that live."""

    def end_all(self) -> None:
        """End what is left, whatever brought us here."""
