"""The controls of a comparison: which are missing, and how they are run.

A comparison of learning without controls proves nothing: boxes that never learn (`frozen`), full backpropagation
(`locked`) and one process say what the network does anyway. Each control has the configuration of the run that it stands
beside, its seeds too; only what makes it a control is another. One that an earlier comparison left in `controls` is taken
from there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pipeline.config import complete
from pipeline.errors import ConfigError
from pipeline.schema import Config, Oracle, Schedule

from . import live
from . import runs as folders
from .compare_rows import Row, is_control
from .compare_runs import REFERENCE, VIRTUAL, WHOLE, Measured, measure

#: In the order in which they run, with what each is.
CONTROLS = {
    "process": "one-process run",
    "locked": "`locked` control, full backpropagation,",
    "frozen": "`frozen` control, boxes that never learn,",
}
#: The folder in the first run's folder of runs that holds them.
FOLDER = "controls"


def missing(rows: Sequence[Row], command: Callable[[str | None], str]) -> list[dict[str, Any]]:
    """Return each control that rows are without, which these are, and the command that adds it.

    `command` returns that of this comparison, or of another one that begins with a run. Rows that are controls themselves
    need none, unless there is nothing else.
    """
    real = [row for row in rows if row.first.mode != VIRTUAL]
    plain = [row for row in real if not any(is_control(kind, row, row) for kind in CONTROLS)] or real
    found = []
    for kind, words in CONTROLS.items():
        without = [row for row in plain if is_missing(kind, row, rows)]
        if not without:
            continue
        names = "" if len(without) == len(plain) else f" ({', '.join(row.label for row in without)})"
        first = without[0]
        is_first = is_missing(kind, rows[0], rows)
        how: str | None = command(None if is_first else str(first.first.folder))
        try:
            configured(kind, rows[0].first if is_first else first.first)
        except ConfigError as error:
            how, why = None, str(error)
        what = f"no {words} of this network{names}" + ("" if how else f": there can be none: {why}")
        text = f"{what}: {how}" if how else what
        labels = [row.label for row in without]
        found.append({"control": kind, "rows": labels, "command": how, "what": what, "text": text})
    return found


def _name(kind: str) -> str:
    return CONTROLS[kind].partition(",")[0]


def is_missing(kind: str, row: Row, rows: Sequence[Row]) -> bool:
    """Whether none of some rows is a row's control of a kind."""
    return not any(is_control(kind, other, row) for other in rows)


def configured(kind: str, of: Measured) -> tuple[Config, bool]:
    """Return the configuration of a run's control, and whether it is one process; raises ConfigError for one there cannot be.

    The schedule stays where it can; one process and frozen boxes come to `locked` where the schedule has no place for them.
    """
    config, is_reference = of.config, kind == "process" or (kind == "frozen" and of.mode == REFERENCE)
    run = msgspec.structs.replace(config.run, dir=str(of.folder.parent / FOLDER), name=kind, plot=False)
    if of.folder.parent.name == FOLDER:
        run = msgspec.structs.replace(run, dir=str(of.folder.parent))
    oracle = config.oracle
    if kind == "frozen":
        oracle = msgspec.structs.replace(oracle, kind="frozen")
    elif oracle.kind == "frozen":
        oracle = msgspec.structs.replace(oracle, kind=Oracle().kind)
    changed = msgspec.structs.replace(config, run=run, oracle=oracle)
    locked = msgspec.structs.replace(changed, schedule=Schedule(kind="locked"))
    if kind == "locked":
        made = complete(locked)
        live.check(made, reference=False)
        return made, False
    try:
        made = complete(changed)
        live.check(made, reference=is_reference)
    except ConfigError:
        made = complete(locked)
        live.check(made, reference=is_reference)
    return made, is_reference


def run(rows: Sequence[Row], repeats: int | None, say: Callable[[str], None]) -> list[Measured]:
    """Run the controls that the first row is without, as often as it has repeats or `repeats` at most, and measure them.

    They take turns, so that what the machine does besides falls on all alike; those that are there from before are taken as
    they are. Raises ConfigError where the first row was simulated, KeyboardInterrupt where a control was interrupted.
    """
    first = rows[0]
    if first.first.mode == VIRTUAL:
        raise ConfigError("--controls: the first run was simulated; name one first that ran as processes")
    kinds = []
    for kind in CONTROLS:
        if is_missing(kind, first, rows):
            try:
                configured(kind, first.first)
                kinds.append(kind)
            except ConfigError as error:
                say(f"no {_name(kind)}: {error}")
    chosen = first.runs if repeats is None else first.runs[:repeats]
    there = _there(Path(configured(kinds[0], first.first)[0].run.dir)) if kinds else []
    found, place = [], 0
    for beside in chosen:
        for kind in kinds:
            place += 1
            config, is_reference = configured(kind, beside)
            earlier = next((each for each in there if _is_same(each, config, is_reference, beside)), None)
            if earlier is not None:
                there.remove(earlier)
                found.append(earlier)
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


def _there(parent: Path) -> list[Measured]:
    """Return the controls that earlier comparisons left in a folder, but those that did not end well."""
    found = []
    for folder in folders.all_runs(parent):
        if folders.describe(folder)["status"] in WHOLE:
            with contextlib.suppress(ConfigError):
                found.append(measure(folder.resolve()))
    return found


def _is_same(there: Measured, config: Config, is_reference: bool, beside: Measured) -> bool:
    """Whether a run is what a control would be, on the same machine; only its name may be another."""
    is_equal = msgspec.structs.replace(there.config, run=config.run) == config
    return is_equal and (there.mode == REFERENCE) == is_reference and there.machine == beside.machine
