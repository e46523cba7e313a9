"""The controls of a comparison: which are missing, which an earlier comparison left, and how they are run.

A comparison of learning without controls proves nothing. Full backpropagation (`locked`), one process and boxes that never
learn (`frozen`) say what the network does anyway; simpler rules (`last`, `noise`, `stale`, `local`, `delayed`) what is won
without prediction, and the true gradient at once (`exact`) what perfect prediction would win. Each control has the
configuration of the run that it stands beside, its seeds too; only what makes it a control is another. One that an earlier
comparison left in `controls` is taken from there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec

from pipeline.config import complete
from pipeline.errors import ConfigError
from pipeline.learning import ONE_BY_ONE
from pipeline.schema import Config, Oracle, Schedule
from pipeline.sizes import reads

from . import live, preflight
from . import runs as folders
from .compare_rows import RULES, Row, is_control
from .compare_runs import REFERENCE, VIRTUAL, WHOLE, Measured, glance, measure

#: In the order in which they run, with what each is, in few words.
CONTROLS = {
    "process": "all in one process",
    "locked": "full backpropagation",
    "exact": "the true gradient at once",
    "frozen": "boxes that never learn",
    "last": "only the last box learns",
    "noise": "random gradients",
    "stale": "the last true gradient",
    "local": "a classifier per box",
    "delayed": "the true gradient, late",
}
#: What `local` is where boxes read their own steps, and controls that say nothing there.
OWN_STEPS = "its own steps' losses alone"
NOT_BY_STEP = ("exact", "frozen", "last")
#: Rules that stand in for an oracle, whose settings they have no use for.
INSTEAD = ("noise", "stale")
#: The folder in the first run's folder of runs that holds them.
FOLDER = "controls"


def plain(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that want controls: those that ran and are none themselves, unless there is nothing else."""
    real = [row for row in rows if row.first.mode != VIRTUAL]
    return [row for row in real if kind_of(row) is None] or real


def kind_of(row: Row) -> str | None:
    """Return which control a row is by itself, if it is one."""
    return next((kind for kind in CONTROLS if is_control(kind, row, row)), row.rule or None)


def is_missing(kind: str, row: Row, rows: Sequence[Row]) -> bool:
    """Whether a row wants a control of a kind and none of some rows is one. What computes nothing wants no learning rule."""
    is_wanted = kind not in RULES or row.first.config.emulate.arithmetic
    return is_wanted and not any(is_control(kind, other, row) for other in rows)


def missing(rows: Sequence[Row], command: Callable[[str | None], str]) -> list[dict[str, Any]]:
    """Return each control that rows are without, which these are, and the command that adds it.

    `command` returns that of this comparison, or of another one that begins with a run.
    """
    wanting, found = plain(rows), []
    for kind, words in CONTROLS.items():
        without = [row for row in wanting if is_missing(kind, row, rows)]
        if not without:
            continue
        names = "" if len(without) == len(wanting) else f" ({', '.join(row.label for row in without)})"
        is_first = rows[0].first.mode != VIRTUAL and is_missing(kind, rows[0], rows)
        beside = rows[0].first if is_first else without[0].first
        how: str | None = command(None if is_first else str(beside.folder))
        why = ""
        try:
            configured(kind, beside)
        except ConfigError as error:
            how, why = None, f": there can be none: {error}"
        words = OWN_STEPS if kind == "local" and reads(beside.config) else words
        what = f"no {_name(kind)}{'' if kind == 'process' else f', {words},'} of this network{names}{why}"
        text = f"{what}: {how}" if how else what
        labels = [row.label for row in without]
        found.append({"control": kind, "rows": labels, "command": how, "what": what, "text": text})
    return found


def table(rows: Sequence[Row], absent: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each row that is a control of another one, and after those of its kind the one that is missing, if it is."""
    wanting, found = plain(rows), []
    without = {each["control"] for each in absent}
    reading = any(reads(row.first.config) for row in wanting)
    for kind, what in (CONTROLS | ({"local": OWN_STEPS} if reading else {})).items():
        for row in rows:
            if any(is_control(kind, row, of) for of in wanting):
                right = row.values("accuracy")
                accuracy = median(right) if right else None
                repeats = len(row.runs)
                found.append(
                    {"control": kind, "label": row.label, "accuracy": accuracy, "repeats": repeats, "what": what}
                )
        if kind in without:
            found.append({"control": kind, "label": None, "accuracy": None, "repeats": 0, "what": what})
    return found


def _name(kind: str) -> str:
    return "one-process run" if kind == "process" else f"`{kind}` control"


def configured(kind: str, of: Measured) -> tuple[Config, bool]:
    """Return the configuration of a run's control, and whether it is one process; raises ConfigError for one there cannot be.

    The schedule stays where it can. One process and frozen boxes come to `locked` where the schedule has no place for them,
    the other rules to `decoupled`, in one process to `article`. What a learning rule is to a run in one process, is one too.
    """
    config = of.config
    if kind in NOT_BY_STEP and reads(config):
        raise ConfigError(f"every box of {config.data.name} reads its own steps; local learns from them alone")
    is_reference = kind in ("process", "exact") or (kind in RULES and of.mode == REFERENCE)
    inside = of.folder.parent if of.folder.parent.name == FOLDER else of.folder.parent / FOLDER
    run = msgspec.structs.replace(config.run, dir=str(inside), name=kind, plot=False)
    changed = msgspec.structs.replace(config, run=run, oracle=_oracle(kind, config))
    oracle = msgspec.structs.replace(changed.oracle, correct=False, target=_target(config))
    locked = msgspec.structs.replace(changed, oracle=oracle, schedule=Schedule(kind="locked"))
    if kind == "locked":
        return _checked(locked, is_reference=False), False
    if kind in RULES:
        changed = msgspec.structs.replace(changed, schedule=_schedule(kind, config, is_reference=is_reference))
    if kind not in ("process", "frozen"):
        return _checked(changed, is_reference=is_reference), is_reference
    try:
        return _checked(changed, is_reference=is_reference), is_reference
    except ConfigError:
        return _checked(locked, is_reference=is_reference), is_reference


def _oracle(kind: str, config: Config) -> Oracle:
    """Return what takes the place of a run's oracle in its control."""
    oracle, usual = config.oracle, Oracle()
    if kind not in RULES:  # which need an oracle's kind at most
        return msgspec.structs.replace(oracle, kind=usual.kind) if oracle.kind in RULES else oracle
    changed = msgspec.structs.replace(oracle, kind=kind, target=_target(config), correct=False, code="", file="")
    if kind not in INSTEAD:
        return changed
    without = {name: getattr(usual, name) for name in ("memory", "replays", "cap", "mix")}
    return msgspec.structs.replace(changed, target="true", last=True, **without)


def _target(config: Config) -> Literal["bootstrapped", "true", "mixed", "traced"]:
    """Return a run's targets, but for traced ones: they are a rule of their own, and what stands in its place has none."""
    return "bootstrapped" if config.oracle.target == "traced" else config.oracle.target


def _schedule(kind: str, config: Config, *, is_reference: bool) -> Schedule:
    """Return a learning rule's schedule: the run's, if the rule has a place in it."""
    given = config.schedule
    if kind == "exact" or (is_reference and kind != "frozen"):
        return Schedule(kind="article")
    if given.kind not in ONE_BY_ONE:
        return given if kind == "frozen" else Schedule(kind="decoupled")
    # Weights are kept for late gradients. What repairs an update needs them, and no control does.
    is_late = kind not in ("frozen", "local") and not config.oracle.correct
    window = given.window if given.kind == "decoupled" else None
    return Schedule(kind=given.kind, window=window, weights=given.weights if is_late else None)


def _checked(config: Config, *, is_reference: bool) -> Config:
    """Return a complete configuration; raises ConfigError. Its images, which its run had, are looked for when it runs."""
    made = complete(config)
    data = msgspec.structs.replace(made.data, source="packaged", dir="")
    preflight.check(msgspec.structs.replace(made, data=data), reference=is_reference)
    return made


def run(rows: Sequence[Row], repeats: int | None, say: Callable[[str], None]) -> list[Measured]:
    """Run the controls that the first row is without, as often as it has repeats or `repeats` at most, and measure them.

    They take turns, so that what the machine does besides falls on all alike; those that are there from before are taken as
    they are. Raises ConfigError where the first row was simulated, KeyboardInterrupt where a control was interrupted.
    """
    first = rows[0]
    if first.first.mode == VIRTUAL:
        raise ConfigError("--controls: the first run was simulated; name one first that ran as processes")
    kinds: list[str] = []
    refused: dict[str, list[str]] = {}
    for kind in CONTROLS:
        if is_missing(kind, first, rows):
            try:
                configured(kind, first.first)
                kinds.append(kind)
            except ConfigError as error:
                refused.setdefault(str(error), []).append(_name(kind))
    for why, names in refused.items():
        say(f"no {', '.join(names)}: {why}")
    chosen = first.runs if repeats is None else first.runs[:repeats]
    there, place = _there(first.first), 0
    found: list[Measured] = []
    for beside in chosen:
        for kind in kinds:
            place += 1
            config, is_reference = configured(kind, beside)
            earlier = _same(there, config, is_reference, beside)
            if earlier is not None:
                there.remove(earlier)
                found.append(measure(earlier.folder))
                continue
            say(f"control {place} of {len(chosen) * len(kinds)}: {_name(kind)} beside {beside.folder.name}")
            result = live.launch(config, reference=is_reference, label=kind)
            if result.status == "interrupted":
                raise KeyboardInterrupt
            if result.status in WHOLE:
                found.append(measure(Path(result.folder).resolve()))
            else:
                say(f"{result.folder.name}: {result.status}: {result.document.get('error')}; it is left out")
    return found


def earlier(rows: Sequence[Row]) -> list[Measured]:
    """Return the controls that rows are without and an earlier comparison left beside their runs, in the order of kinds."""
    found: dict[str, list[Measured]] = {kind: [] for kind in CONTROLS}
    for row in plain(rows):
        there = _there(row.first)
        for kind, taken in found.items():
            # Those of an earlier row may be this one's too.
            if not is_missing(kind, row, [*rows, *(Row("", [run]) for run in taken)]):
                continue
            alike = [run for run in there if is_control(kind, Row("", [run]), row)]
            for beside in row.runs if alike else ():
                with contextlib.suppress(ConfigError):
                    same = _same(alike, *configured(kind, beside), beside)
                    if same is not None:
                        alike.remove(same)
                        taken.append(measure(same.folder))
    return [run for taken in found.values() for run in taken]


def _there(beside: Measured) -> list[Measured]:
    """Return the controls that earlier comparisons left beside a run, without their figures; those alone that ended well."""
    parent = beside.folder.parent
    found = []
    for folder in folders.all_runs(parent if parent.name == FOLDER else parent / FOLDER):
        if folders.describe(folder)["status"] in WHOLE:
            with contextlib.suppress(ConfigError):
                found.append(glance(folder.resolve()))
    return found


def _same(there: Sequence[Measured], config: Config, is_reference: bool, beside: Measured) -> Measured | None:
    """Return the run that is what a control would be, on the same machine; only its name may be another."""
    for run in there:
        is_equal = msgspec.structs.replace(run.config, run=config.run) == config
        if is_equal and (run.mode == REFERENCE) == is_reference and run.machine == beside.machine:
            return run
    return None
