"""What the launcher's supervisor hears of, and what it wants done: values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass
class Failure:
    """The first thing that went wrong."""

    stage: str
    batch: int
    error: str
    is_wrong_request: bool = False
    waits: list[str] = field(default_factory=list)  # who waited for whom, in words
    stacks: dict[str, str] = field(default_factory=dict)  # by worker, where they were asked for


class Heard(NamedTuple):
    """A worker said something."""

    stage: str
    word: str
    body: dict[str, Any]


class Exited(NamedTuple):
    """A worker's process has ended; `why`: what there is to say beyond its exit code, as that its host does not answer."""

    stage: str
    code: int
    why: str = ""
    is_wrong_request: bool = False


class Interrupted(NamedTuple):
    """The user asked to stop (Ctrl-C, SIGTERM)."""


class Tick(NamedTuple):
    """Time has passed."""


class Trouble(NamedTuple):
    """The launcher itself could not do what it was to do."""

    error: str


Event = Heard | Exited | Interrupted | Trouble | Tick


class Tell(NamedTuple):
    """Say a word to a worker."""

    stage: str
    word: str
    body: dict[str, Any]


class Signal(NamedTuple):
    """Send a signal to a worker's process group."""

    stage: str
    number: int


class Dump(NamedTuple):
    """Let every worker that lives write its stacks, before anything else is done to them, for a failure to show."""

    failure: Failure


class Restart(NamedTuple):
    """Start a worker anew, whatever is left of it, under an epoch and from a checkpoint (None: from the first weights)."""

    stage: str
    epoch: int
    save: int | None


class Complete(NamedTuple):
    """A checkpoint is complete: what each stage said of its part."""

    save: int
    epoch: int
    stages: dict[str, Any]


class Finish(NamedTuple):
    """All workers are gone; the run has ended."""

    status: str


Command = Tell | Signal | Dump | Restart | Complete | Finish
