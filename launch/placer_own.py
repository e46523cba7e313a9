"""A user's placer: a class `Placer` in a Python file that starts a stage's agent on a host, by ssh, docker or kubectl say.

    class Placer:
        def start(self, stage, words, line):     # "box-1", ["…/python", "-m", "launch", "join", "-", …], the join line
            agent = subprocess.Popen(["ssh", HOSTS[stage], f"timebox join - --stage {stage}"], stdin=subprocess.PIPE)
            …                                    # `line` goes to the standard input of what is started
            return agent                         # anything with poll() and terminate(); None: nothing is known of it

`start` must not wait: the launcher does. It is called for each stage, and once more where `run.recover` lets another host take
the place of one that is lost. What it returns is asked, until the agent has joined, whether it has ended, and is ended when
the agent is lost or the run is over. From its first word on an agent is like any other (`launch.hands`).
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, RunError
from pipeline.own_code import Source
from pipeline.schema import Config

from . import joining

SHOWN = "launch/examples/own_placer.py"
#: Seconds in which what was started should end by itself at the end of a run, and after it was told to.
FAREWELL_S = 2.0


def check(config: Config) -> None:
    """Make a user's placer, and start nothing; raises ConfigError."""
    _made(config)


def _made(config: Config) -> tuple[Source, Any]:
    """Return a user's file and the object that its class makes; raises ConfigError."""
    source = Source(config.placer.code, config.placer.file or "placer.code", "Placer")
    try:
        own = source.call("__init__", source.found(("start",), SHOWN))
    except RunError as error:
        raise ConfigError(str(error)) from None
    try:
        inspect.signature(own.start).bind("box-1", [], "")
    except TypeError as error:
        raise ConfigError(
            f"{source.name}: Placer.start(self, stage, words, line) is called with three arguments: {error}"
        ) from None
    return source, own


class OwnRecruiter:
    """Lets a user's class start an agent for each stage, and another one where one is lost."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._line = ""
        self._started: dict[str, Any] = {}
        self._faults: dict[str, str] = {}  # why nothing could be started

    def open(self, meeting: joining.Meeting, folder: Path) -> None:  # noqa: ARG002
        """Make the user's object; raises ConfigError."""
        self._source, self._own = _made(self._config)
        self._line = joining.line(meeting)

    def recruit(self, name: str) -> None:
        """Let an agent be started."""
        self.dismiss(name)
        words = [sys.executable, "-m", "launch", "join", "-", "--stage", name]
        try:
            started = self._source.call("start", self._own.start, name, words, self._line)
            lacks = [each for each in ("poll", "terminate") if not callable(getattr(started, each, None))]
            if started is not None and lacks:
                raise RunError(
                    f"{self._source.name}: Placer.start returned {type(started).__name__} for {name}, which has no "
                    f"{' and no '.join(lacks)}; what subprocess.Popen makes has both, and None does as well"
                )
        except RunError as error:
            self._faults[name] = str(error)
            return
        if started is not None:
            self._started[name] = started

    def fault(self, name: str) -> str:
        """Return why nothing was started, or how it has ended; that it has ended well is none: a job may be queued so."""
        if name in self._faults or name not in self._started:
            return self._faults.get(name, "")
        try:
            code = self._poll(self._started[name])
        except RunError as error:
            return str(error)
        return f"what {self._source.name} started for it ended with exit code {code}" if code else ""

    def _poll(self, started: Any) -> Any:
        return self._source.call("start(…).poll", started.poll)

    def dismiss(self, name: str) -> None:
        """End what was started for a stage."""
        self._faults.pop(name, None)
        if (started := self._started.pop(name, None)) is not None:
            self._end([started])

    def close(self) -> None:
        """End what has not ended by itself."""
        started, self._started = list(self._started.values()), {}
        self._have_ended(started)
        self._end(started)

    def _end(self, started: Sequence[Any]) -> None:
        for each in started:
            with contextlib.suppress(RunError):  # its agent goes by itself once nobody speaks to it
                if self._poll(each) is None:
                    self._source.call("start(…).terminate", each.terminate)
        self._have_ended(started)

    def _have_ended(self, started: Sequence[Any]) -> None:
        """Wait a while until all have ended."""
        until = time.monotonic() + FAREWELL_S
        with contextlib.suppress(RunError):
            while any(self._poll(each) is None for each in started) and time.monotonic() < until:
                time.sleep(0.02)
