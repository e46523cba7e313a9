"""`timebox compare`: is one schedule, rule or width better than another? The document; `compare_text` tells it.

    compare_runs      what each run is: figures, evaluations in time, environment
    compare_rows      which runs are repeats, what rows are called, which row is whose baseline
    compare_controls  which controls are missing, which are there from before, and how they are run
    compare_learning  what is learnt, at marks that all rows have, and beside controls
    compare           medians and intervals, ratios, verdicts, warnings           this file

Nothing is claimed where intervals meet, where there are fewer than `spread.LEAST` repeats, which have no interval, or where
times come from different machines.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from pipeline.errors import ConfigError

from . import compare_controls, task_words
from .compare_learning import LEARNING, beside_local, common, difference, gap, learning
from .compare_rows import Row, baseline, grouped, pairs
from .compare_runs import REFERENCE, TIMES, VIRTUAL, Measured, choose, measure
from .outfile import check_picture
from .spread import LEAST, Spread, ratio_of_medians, ratios, scaled, spread, verdict

INCOMPARABLE = "not comparable: other machines or versions"
#: Figures that stand in a row by their own name; the others stand in a group, as `bubble.of_busy`.
FIGURES = ("seconds", "training_s", "batches_per_s", "images_per_s", "accuracy")
#: What a row's accuracies are of, as far as they could be of something else.
DATA = ("name", "source", "train", "test", "judge", "reading", "batch", "bits", "length", "curriculum", "bound")
#: Controls whose speed is beside the point: they do less, or what no processes could.
NO_SPEED = ("exact", "frozen", "last")


def document(
    words: Sequence[str],
    parent: Path,
    *,
    out: Path | None = None,
    controls: bool = False,
    repeats: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Compare runs and return the document of `timebox compare --json`; raises ConfigError for a wrong request.

    Controls that earlier comparisons left beside the runs are added. With `controls` the missing ones run first, at most
    `repeats` of each; `say` hears of their progress.
    """
    if repeats is not None and repeats < 1:
        raise ConfigError(f"--repeats: {repeats} repeats show nothing; at least 1")
    if repeats is not None and not controls:
        raise ConfigError("--repeats: goes with --controls, whose repeats it limits")
    if out is not None:
        check_picture(out, "compare.png")
    folders, left_out = choose(words, parent)
    measured: list[Measured] = []
    for folder in folders:
        try:
            measured.append(measure(folder))
        except ConfigError as error:
            left_out.append((folder.name, str(error)))
    if not measured:
        raise ConfigError(f"no run to compare: {'; '.join(text for _, text in left_out)}; name others")
    named = {run.folder for run in measured}
    if controls:
        measured += _new(compare_controls.run(grouped(measured), repeats, say), measured)
    measured += _new(compare_controls.earlier(grouped(measured)), measured)
    rows = grouped(measured)

    def command(first: str | None) -> str:
        runs = list(words) if first is None else [first]
        where = [] if parent == Path("runs") or first is not None else ["--run.dir", str(parent)]
        return shlex.join(["timebox", "compare", *runs, *where, "--controls"])

    made = compared(rows)
    for row, each in zip(rows, made["rows"], strict=True):
        each["is_added"] = not any(run.folder in named for run in row.runs)
    missing = compare_controls.missing(rows, command)
    made |= {
        "controls": compare_controls.table(rows, missing),
        "missing_controls": missing,
        "left_out": [{"run": name, "why": why} for name, why in left_out],
        "warnings": [f"{name} is left out: {why}" for name, why in left_out] + warnings(rows),
        "more_repeats": _more_repeats(rows, repeats),
        "out": None,
    }
    if out is not None:
        from . import compare_plots

        compare_plots.draw(made, out)
        made["out"] = str(out)
    return made


def _new(found: Sequence[Measured], there: Sequence[Measured]) -> list[Measured]:
    """Return the runs that are not there yet, each once."""
    folders = {run.folder for run in there}
    return list({run.folder: run for run in found if run.folder not in folders}.values())


def _more_repeats(rows: Sequence[Row], limit: int | None) -> str | None:
    """Return how to come to more repeats where a row has too few for an interval, or None."""
    if all(len(row.runs) >= LEAST for row in rows):
        return None
    is_limited = limit is not None and limit < LEAST <= len(rows[0].runs)
    return f"--repeats {LEAST}" if is_limited else "timebox sweep"


def compared(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the rows with their figures, and how each stands beside the first."""
    marks = common(rows)
    found = [_row(row, rows, marks) for row in rows]
    data = [row.first.config.data for row in rows]
    words = {"unit": task_words.units(data), "right": task_words.rights(data)}
    return {
        "rows": found,
        **(words if words["unit"] != "images" else {}),
        "beside_first": [_beside(row, rows[0]) for row in rows[1:]],
        "marks": marks,
        "beside_local": beside_local(rows, compare_controls.plain(rows)),
        "environment": rows[0].first.environment | {"same": len(_machines(rows)) < 2},
    }


def faster(row: Row, than: Row) -> tuple[Spread, str] | None:
    """Return by how much a row is faster than another one, in images a second, and what that shows; None without figures."""
    of, to = row.values("images_per_s"), than.values("images_per_s")
    if not of or not to:
        return None
    paired = pairs(row, than, "images_per_s")
    ratio = ratios(*paired) if paired else ratio_of_medians(of, to)
    return ratio, verdict(ratio) if len(_machines([row, than])) < 2 else INCOMPARABLE


def _row(row: Row, rows: Sequence[Row], marks: dict[str, float | int | None]) -> dict[str, Any]:
    first = row.first
    learnt = [learning(run, marks) for run in row.runs]
    series = {name: row.values(name) for run in row.runs for name in run.values}
    series |= {name: [value for each in learnt if (value := each[name]) is not None] for name in LEARNING}
    spreads = {name: spread(values) for name, values in series.items() if values}
    verdicts, against = {}, {}
    for kind in ("process", "locked"):
        other = baseline(kind, row, rows)
        found = None if other is None or row.rule in NO_SPEED else faster(row, other)
        if other is not None and found is not None:
            spreads[f"speed_up_{kind}"], verdicts[f"speed_up_{kind}"] = found
            against[kind] = other.label
    more = {"level": _median(spreads, "level")} if "level" in spreads else {}
    cores = first.environment.get("cores")
    ideal = min(first.workers, cores) if isinstance(cores, int) and cores > 0 else None
    if (gain := spreads.get("speed_up_process")) is not None and first.mode != REFERENCE:
        spreads["efficiency"] = scaled(gain, 1 / first.workers)
        if ideal is not None:
            spreads["efficiency_cores"] = scaled(gain, 1 / ideal)
    frozen = baseline("frozen", row, rows)
    if frozen is not None and row.rule != "frozen" and "accuracy" in spreads and frozen.values("accuracy"):
        against["frozen"] = frozen.label
        verdicts["accuracy"] = difference(spreads["accuracy"], spread(frozen.values("accuracy")))
    control, recovered = compare_controls.kind_of(row), None
    if control is None:
        recovered, verdicts["gap_recovered"] = gap(row, frozen, baseline("locked", row, rows))
    figures: dict[str, Any] = {name: _median(spreads, name) for name in (*FIGURES, *LEARNING)}
    for name in ("speed_up_process", "speed_up_locked", "efficiency", "efficiency_cores"):
        figures[name] = _median(spreads, name)
    for group in ("bubble", "staleness", "shares"):
        names = [name for name in spreads if name.startswith(f"{group}.")]
        # Shares are means, so that they make a whole.
        middle = fmean if group == "shares" else median
        figures[group] = {name.partition(".")[2]: middle(series[name]) for name in names}
    return {
        "label": row.label,
        "runs": [run.folder.name for run in row.runs],
        "repeats": len(row.runs),
        "mode": first.mode,
        "schedule": first.config.schedule.kind,
        "boxes": first.config.model.boxes,
        "batch": first.config.data.batch,
        "workers": first.workers,
        "cores": cores,
        "ideal": ideal,
        "control": control,
        **figures,
        **more,
        "gap_recovered": recovered,
        "spread": {name: each.document() for name, each in spreads.items()},
        "against": against,
        "verdicts": {name: said for name, said in verdicts.items() if said},
        "evaluations": [[each._asdict() for each in run.evaluations] for run in row.runs],
        "is_estimated": any(run.is_estimated for run in row.runs),
    }


def _median(spreads: dict[str, Spread], name: str) -> float | None:
    return spreads[name].median if name in spreads else None


def _beside(row: Row, first: Row) -> dict[str, Any]:
    """Return what a row shows beside the first one: its speed, and its accuracy at the end."""
    found = faster(row, first)
    mine, its = row.values("accuracy"), first.values("accuracy")
    return {
        "label": row.label,
        "first": first.label,
        "speed_up": None if found is None else found[0].document(),
        "speed": None if found is None else found[1],
        "accuracy": difference(spread(mine), spread(its)) if mine and its else None,
    }


def _machines(rows: Sequence[Row]) -> set[tuple[str, ...]]:
    return {run.machine for row in rows for run in row.runs}


def warnings(rows: Sequence[Row]) -> list[str]:
    """Return what makes the figures of some rows less than they seem."""
    found = [text for row in rows for run in row.runs for text in run.warnings]
    measured = [run for row in rows for run in row.runs if run.mode != VIRTUAL]
    if len({run.machine for run in measured}) > 1:
        names = [*TIMES, "timebox", "numpy", "pyzmq", "BLAS"]
        others = [
            f"{name} {' and '.join(dict.fromkeys(values))}"
            for name, values in zip(names, zip(*(run.machine for run in measured), strict=False), strict=False)
            if len(set(values)) > 1
        ]
        found.append(f"times are not comparable: {'; '.join(others) or 'environments differ'}")
    if 0 < len(measured) < sum(len(row.runs) for row in rows):
        found.append("times are not comparable: some runs were simulated, in virtual time")
    data = {tuple(sorted(_data(row).items())) for row in rows}
    units = task_words.units(row.first.config.data for row in rows)
    if len({dict(each)["batch"] for each in data}) > 1:
        found.append(f"batches differ in size: speeds are compared in {units} a second")
    if len({tuple(item for item in each if item[0] != "batch") for each in data}) > 1:
        found.append(f"the data differ: accuracies are not of the same {units}")
    if len({(row.first.config.trace, row.first.config.log) for row in rows}) > 1:
        found.append("trace or log settings differ between rows, and recording takes time")
    usual = [row for row in rows if row.first.mode != VIRTUAL and not row.rule] or rows
    shared = [row for row in usual if row.first.mode != VIRTUAL and row.first.workers > _cores(row.first)]
    if shared:
        told = ", ".join(f"{row.label} ({row.first.workers} on {_cores(row.first)})" for row in shared)
        found.append(f"more workers than cores, so they share and times tell less than they could: {told}")
    return list(dict.fromkeys(found))


def _cores(run: Measured) -> int:
    cores = run.environment.get("cores")
    return cores if isinstance(cores, int) else run.workers


def _data(row: Row) -> dict[str, Any]:
    data = row.first.config.data
    return {name: getattr(data, name) for name in DATA}
