"""One stream from all workers: which lines there are, which are wanted, and how they read. Reads files only.

    level     lines                                            from
    message   sent, taken, waited: what passed between workers  trace
    action    each part of each action; what the trace left out log, or trace where the log does not tell it
    info      milestones: go, done, …                           log
    warning   error                                             log

`causal` puts them in their order; `follow` does so while a run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.actions import ACTIONS, parse_action
from pipeline.config import load
from pipeline.errors import ConfigError, ScheduleError
from pipeline.plan import Plan
from pipeline.schema import Config

Line = dict[str, Any]
#: What a line may weigh, the lightest first.
LEVELS = ("message", "action", "info", "warning", "error")
_WEIGHTS = {level: weight for weight, level in enumerate(LEVELS)}
#: What every line has, and what one on an action has besides.
_KEYS = {"ts": str, "mono_ns": int, "stage": str, "level": str, "text": str}
_ACTION_KEYS = {"action": str, "part": str, "read": int, "written": int, "ms": (int, float)}
#: What a line for people leaves out, or says in its text.
_SKIPPED = {"ts", "mono_ns", "stage", "level", "text", "source", "traceback"}


class Filter(NamedTuple):
    """Which lines to show: those of a level or above it, and of these those that fit; None fits all."""

    stage: str | None = None
    batch: int | None = None
    action: str | None = None
    level: str = "action"
    micro: int = 1  # U counts steps of so many batches

    def __call__(self, line: Line) -> bool:
        """Whether to show a line. `--action F` takes all forwards, `--action F3` that of batch 3."""
        if _WEIGHTS.get(line["level"], len(LEVELS)) < _WEIGHTS[self.level]:
            return False
        if self.stage is not None and line["stage"] != self.stage:
            return False
        if self.batch is not None and line.get("batch") != self._index(line):
            return False
        if self.action is None:
            return True
        action = str(line.get("action", ""))
        return action == self.action or (self.action.isalpha() and action.startswith(self.action))

    def _index(self, line: Line) -> int | None:
        """Return what a line of the wanted batch calls it."""
        is_step = str(line.get("action", "")).startswith("U") and "." not in str(line["action"])
        return self.batch // self.micro if is_step and self.batch is not None else self.batch

    def takes(self, level: str) -> bool:
        """Whether lines of a level can be wanted at all."""
        return _WEIGHTS[level] >= _WEIGHTS[self.level] and (level != "message" or self.action is None)


def of_run(folder: Path, wanted: Filter) -> Filter:
    """Return a filter that knows how many batches a step of the run has, where its configuration can be read."""
    if wanted.batch is None:
        return wanted
    try:
        return wanted._replace(micro=Plan.of(load(folder / "config.toml")).micro)
    except ConfigError:
        return wanted


def check(folder: Path, wanted: Filter) -> None:
    """Raise ConfigError for a stage that the run has not, or an action or level that there cannot be."""
    if wanted.action is not None and wanted.action not in ACTIONS:
        try:
            parse_action(wanted.action)
        except ScheduleError as error:
            raise ConfigError(f"--action: {error}, or one of {', '.join(ACTIONS)} for all of a kind") from None
    if wanted.level not in LEVELS:
        raise ConfigError(f"--level: {wanted.level!r} is none of {', '.join(LEVELS)}")
    plan = Plan.of(load(folder / "config.toml"))
    names = [*(plan.name(k) for k in range(1, plan.head + 1)), "launcher"]
    if wanted.stage is not None and wanted.stage not in names:
        raise ConfigError(f"--stage: {wanted.stage!r} has no log in {folder.name}; there are {', '.join(names)}")


def absent(folder: Path, config: Config, wanted: Filter) -> Iterator[str]:
    """Yield of which wanted lines a run can have none, because it ran with a low level of log or trace."""
    if config.trace.level == "full":
        return
    if wanted.level == "message":
        yield f"{folder.name} has no trace, hence no messages: it ran with trace.level off"
    if config.log.level != "action" and (wanted.batch, wanted.action) != (None, None):
        yield f"{folder.name} has no lines on batches and actions: it ran with log.level info and trace.level off"


def parse(text: bytes) -> Line | None:
    """Return a log's line, or None for one that its writer did not finish or that makes no sense."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not _has(line, _KEYS):
        return None
    return line if "action" not in line or _has(line, _ACTION_KEYS) else None


def _has(line: Line, keys: dict[str, Any]) -> bool:
    return all(isinstance(line.get(key), kind) for key, kind in keys.items())


def render(line: Line) -> str:
    """Return a line for people."""
    start = f"{line['ts'][11:26]} {line['stage']:>8}  "
    if "action" in line:
        version = f"v{line['read']}" if line["read"] == line["written"] else f"v{line['read']}→{line['written']}"
        step = f"step {line['step']}: " if "step" in line else ""
        what = f"{line['action']:<6} {line['part']:<8} {version:>9} {line['ms']:8.3f} ms"
        return f"{start}{what}  {step}{line['text']}"
    if "event" in line:
        return f"{start}{line['text']}"
    rest = " ".join(f"{key}={value}" for key, value in line.items() if key not in _SKIPPED)
    level = "" if line["level"] == "info" else f"{line['level']}: "
    return f"{start}{level}{line['text']}{'  ' + rest if rest else ''}"


def render_text(text: str) -> str:
    """Return a log's line for people, or the text itself where it is none."""
    line = parse(text.encode())
    return text if line is None else render(line)
