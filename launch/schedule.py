"""`timebox schedule`: a configuration's schedule as text, to be changed and loaded again, and drawn as a staircase."""

from __future__ import annotations

from typing import Any

from pipeline.config import resolve
from pipeline.errors import ConfigError
from pipeline.grid import COLUMNS, check, of_program
from pipeline.learning import CONTROLS, rule_of
from pipeline.plan import Plan
from pipeline.programs import PROGRAMS, render
from pipeline.schema import Config

#: Batches that are drawn, in steps' worth of micro-batches.
DRAWN = 6


def document(config: Config) -> dict[str, Any]:
    """Return the document of `timebox schedule --json`; raises ConfigError for a schedule that does not get through."""
    plan = Plan.of(config)
    if plan.schedule not in PROGRAMS:
        raise ConfigError(
            f"schedule.kind: {plan.schedule} takes what comes and has no order; draw one of a run: timebox order"
        )
    check(config)
    patterns = {plan.name(k): PROGRAMS[plan.schedule](plan, k) for k in range(1, plan.head + 1)}
    batches = min(plan.batches, max(plan.window + DRAWN // 2, -(-DRAWN // plan.micro) * plan.micro))
    grid = of_program(plan, batches - batches % plan.micro)
    return {
        "schedule": plan.schedule,
        "run": _command(config),
        "micro_batches": plan.micro,
        "window": plan.window,
        "weights": plan.weights,
        "text": render(patterns),
        "grid": grid.cells,
        "drawing": grid.draw(COLUMNS),
    }


def _command(config: Config) -> str:
    """Return the command that runs this schedule from its text, or as it is where the text alone does not tell the rule."""
    needs: dict[str, Any] = {"model.boxes": config.model.boxes, "model.tied": config.model.tied}
    needs |= {f"oracle.{key}": getattr(config.oracle, key) for key in ("last", "correct", "target")}
    needs["oracle.file" if config.oracle.kind == "own" else "oracle.kind"] = config.oracle.file or config.oracle.kind
    is_told = config.oracle.kind not in (*CONTROLS, "exact") and not (config.oracle.correct and config.model.tied)
    if (config.schedule.micro_batches or 1) > 1:
        needs |= {"data.batch": config.data.batch, "schedule.micro_batches": config.schedule.micro_batches}
    is_late = (config.schedule.micro_batches or 1) == 1 and rule_of(config) == "backward"
    if config.schedule.weights != ("stash" if is_late or config.oracle.correct else "latest"):
        needs["schedule.weights"] = config.schedule.weights
    usual = resolve()
    flags = [
        f"--{key} {str(value).lower()}"
        for key, value in needs.items()
        if key == "schedule.weights" or value != getattr(getattr(usual, key.partition(".")[0]), key.partition(".")[2])
    ]
    how = "--schedule.file FILE" if is_told else f"--schedule.kind {config.schedule.kind}"
    return " ".join([f"timebox run {how}", *flags, *(["--reference"] if config.oracle.kind == "exact" else [])])


def text(made: dict[str, Any]) -> str:
    """Return it for people: the text can be saved, changed, and given to `--schedule.file`."""
    notes = [f"# {made['schedule']}: {made['window']} in flight at most"]
    if made["micro_batches"] > 1:
        notes[0] += f", {made['micro_batches']} micro-batches a step"
    notes.append(f"# {made['run']}")
    drawn = "\n".join(f"#{line}" for line in made["drawing"].splitlines())
    return "\n".join((*notes, made["text"], "# every action one unit of time, messages none", drawn))
