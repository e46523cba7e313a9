"""One stream from all workers' logs: merged by the monotonic clock, filtered, rendered for people. Reads files only."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import steps, trace
from pipeline.actions import ACTIONS, parse_action
from pipeline.config import load
from pipeline.errors import ConfigError, ScheduleError
from pipeline.plan import Plan
from pipeline.worklog import iso

from . import runs

Line = dict[str, Any]
#: How often a followed run's files are looked at, in seconds.
FOLLOW_S = 0.2


class Filter(NamedTuple):
    """Which lines to show; None shows all."""

    stage: str | None = None
    batch: int | None = None
    action: str | None = None

    def __call__(self, line: Line) -> bool:
        """Whether to show a line. `--action F` takes all forwards, `--action F3` that of batch 3."""
        if self.stage is not None and line.get("stage") != self.stage:
            return False
        if self.batch is not None and line.get("batch") != self.batch:
            return False
        if self.action is None:
            return True
        action = str(line.get("action", ""))
        return action == self.action or (self.action.isalpha() and action.startswith(self.action))


def check(folder: Path, wanted: Filter) -> None:
    """Raise ConfigError for a stage that the run has not, or an action that there cannot be."""
    if wanted.action is not None and wanted.action not in ACTIONS:
        try:
            parse_action(wanted.action)
        except ScheduleError as error:
            raise ConfigError(f"--action: {error}, or one of {', '.join(ACTIONS)} for all of a kind") from None
    plan = Plan.of(load(folder / "config.toml"))
    names = [*(plan.name(k) for k in range(1, plan.head + 1)), "launcher"]
    if wanted.stage is not None and wanted.stage not in names:
        raise ConfigError(f"--stage: {wanted.stage!r} has no log in {folder.name}; there are {', '.join(names)}")


def merged(folder: Path, wanted: Filter) -> Iterator[Line]:
    """Yield all workers' lines in the order of their times; steps that are not logged come from the trace."""
    tells_actions = load(folder / "config.toml").log.level == "action"
    streams = [_lines(path) for path in sorted((folder / "logs").glob("*.log"))]
    if not tells_actions:
        plan = Plan.of(load(folder / "config.toml"))
        streams += [_from_trace(folder, plan, name) for name in runs.stages(folder, "trace", ".trace")]
    return (line for line in heapq.merge(*streams, key=lambda line: line["mono_ns"]) if wanted(line))


def follow(folder: Path, wanted: Filter, show: Callable[[Line], None]) -> None:
    """Show lines as they come until the run has ended."""
    places: dict[Path, int] = {}
    while True:
        has_ended = (folder / "summary.json").is_file() or runs.describe(folder)["status"] != "running"
        fresh: list[Line] = []
        for path in sorted((folder / "logs").glob("*.log")):
            with path.open("rb") as stream:
                stream.seek(places.get(path, 0))
                whole, _, _ = stream.read().rpartition(b"\n")
                places[path] = places.get(path, 0) + (len(whole) + 1 if whole else 0)
            fresh += [line for text in whole.splitlines() if (line := _parse(text)) is not None and wanted(line)]
        for line in sorted(fresh, key=lambda line: line["mono_ns"]):
            show(line)
        if has_ended:
            return
        time.sleep(FOLLOW_S)


def _lines(path: Path) -> Iterator[Line]:
    with path.open("rb") as stream:
        for text in stream:
            if (line := _parse(text)) is not None:
                yield line


def _parse(text: bytes) -> Line | None:
    """Return a log's line, or None for one that its writer did not finish."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("mono_ns"), int) else None


def _from_trace(folder: Path, plan: Plan, name: str) -> Iterator[Line]:
    header = trace.read_header(folder, name)
    number = plan.number(name)
    known = {(step.action, step.part): step for step in steps.steps(plan) if step.stage == number}
    shift = header["wall_ns"] - header["mono_ns"]
    for span in trace.read_spans(folder, name):
        action = span.action
        step = known.get((action.kind, span.part)) if not action.sibling else None
        yield {
            "ts": iso(span.end_ns + shift),
            "mono_ns": span.end_ns,
            "stage": name,
            "level": "action",
            "action": str(action),
            "part": span.part,
            "evaluation" if action.kind == "E" else "batch": action.batch,
            **({"step": step.number} if step else {}),
            "read": span.read,
            "written": span.written,
            "ms": round((span.end_ns - span.start_ns) / 1e6, 3),
            "text": step.text if step else steps.describe(action.kind, span.part, action.sibling),
        }


def render(line: Line) -> str:
    """Return a line for people."""
    at = str(line["ts"])[11:26]
    if "action" in line:
        version = f"v{line['read']}" if line["read"] == line["written"] else f"v{line['read']}→{line['written']}"
        step = f"step {line['step']}: " if "step" in line else ""
        what = f"{line['action']:<6} {line['part']:<8} {version:>9} {line['ms']:8.3f} ms"
        return f"{at} {line['stage']:>8}  {what}  {step}{line['text']}"
    skip = {"ts", "mono_ns", "stage", "level", "text", "source", "traceback"}
    rest = " ".join(f"{key}={value}" for key, value in line.items() if key not in skip)
    level = "" if line.get("level") == "info" else f"{line.get('level')}: "
    return f"{at} {line['stage']:>8}  {level}{line['text']}{'  ' + rest if rest else ''}"


def render_text(text: str) -> str:
    """Return a log's line for people, or the text itself where it is none."""
    line = _parse(text.encode())
    return text if line is None or "ts" not in line else render(line)
