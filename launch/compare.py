"""`timebox compare`: is one schedule, rule or width better than another? The document; `compare_text` tells it.

    compare_runs      what each run is: figures, evaluations in time, environment
    compare_rows      which runs are repeats, what rows are called, which row is whose baseline
    compare_controls  which controls are missing, and how they are run
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

from . import compare_controls
from .compare_rows import Row, baseline, grouped, pairs
from .compare_runs import REFERENCE, TIMES, VIRTUAL, Measured, choose, measure
from .outfile import check_picture
from .spread import LEAST, NO_DIFFERENCE, Spread, overlap, ratio_of_medians, ratios, scaled, spread, verdict

INCOMPARABLE = "not comparable: other machines or versions"
#: Figures that stand in a row by their own name; the others stand in a group, as `bubble.of_busy`.
FIGURES = ("seconds", "training_s", "batches_per_s", "images_per_s", "accuracy")
LEARNING = ("accuracy_at_time", "seconds_to_accuracy", "accuracy_at_images")


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

    With `controls` the missing ones run first, at most `repeats` of each; `say` hears of their progress.
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
        raise ConfigError(f"no run to compare: {'; '.join(text for _, text in left_out)}")
    if controls:
        added = compare_controls.run(grouped(measured), repeats, say)
        measured += [run for run in added if run.folder not in {each.folder for each in measured}]
    rows = grouped(measured)

    def command(first: str | None) -> str:
        named = list(words) if first is None else [first]
        where = [] if parent == Path("runs") or first is not None else ["--run.dir", str(parent)]
        return shlex.join(["timebox", "compare", *named, *where, "--controls"])

    made = compared(rows)
    made |= {
        "missing_controls": compare_controls.missing(rows, command),
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
    return {
        "rows": found,
        "beside_first": [_beside(row, rows[0]) for row in rows[1:]],
        "marks": marks,
        "environment": rows[0].first.environment | {"same": len(_machines(rows)) < 2},
    }


def common(rows: Sequence[Row]) -> dict[str, float | int | None]:
    """Return where learning is compared: an accuracy that all reached, when the fastest ended, images that all have seen.

    Boxes that never learn set no mark, or all would reach it at once; nor does one process set when the fastest ended, if
    there are others. None where there is no such thing: the rows were not all evaluated.
    """
    learnt = [row for row in rows if not row.is_frozen] or list(rows)
    processes = [row for row in learnt if row.first.mode != REFERENCE] or learnt
    curves = [run.evaluations for row in rows for run in row.runs]
    if not all(curves):
        return {"accuracy": None, "seconds": None, "images": None}
    ends = [run.evaluations[-1].seconds for row in processes for run in row.runs]
    return {
        "accuracy": min(max(each.accuracy for each in run.evaluations) for row in learnt for run in row.runs),
        "seconds": None if None in ends else min(end for end in ends if end is not None),
        "images": min(curve[-1].images for curve in curves),
    }


def learning(run: Measured, marks: dict[str, float | int | None]) -> dict[str, float | None]:
    """Return a run's accuracy at the common time and after the common images, and how long it took to the common accuracy.

    Between two evaluations the earlier one counts; before the first there is nothing.
    """
    found: dict[str, float | None] = dict.fromkeys(LEARNING)
    seconds, images, wanted = marks["seconds"], marks["images"], marks["accuracy"]
    for each in run.evaluations:
        if seconds is not None and each.seconds is not None and each.seconds <= seconds:
            found["accuracy_at_time"] = each.accuracy
        if images is not None and each.images <= images:
            found["accuracy_at_images"] = each.accuracy
        if wanted is not None and each.accuracy >= wanted and found["seconds_to_accuracy"] is None:
            found["seconds_to_accuracy"] = each.seconds
    return found


def difference(a: Spread, b: Spread) -> str:
    """Return what the intervals of two rows show of a's height beside b's: higher, lower, or no difference shown."""
    repeats = min(a.repeats, b.repeats)
    if repeats < LEAST:
        return f"{NO_DIFFERENCE} ({repeats} repeat{'s' * (repeats > 1)}, {LEAST} are needed)"
    return NO_DIFFERENCE if overlap(a, b) else "higher" if a.median > b.median else "lower"


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
        found = None if other is None or row.is_frozen else faster(row, other)
        if other is not None and found is not None:
            spreads[f"speed_up_{kind}"], verdicts[f"speed_up_{kind}"] = found
            against[kind] = other.label
    cores = first.environment.get("cores")
    ideal = min(first.workers, cores) if isinstance(cores, int) and cores > 0 else None
    if (gain := spreads.get("speed_up_process")) is not None and first.mode != REFERENCE:
        spreads["efficiency"] = scaled(gain, 1 / first.workers)
        if ideal is not None:
            spreads["efficiency_cores"] = scaled(gain, 1 / ideal)
    frozen = baseline("frozen", row, rows)
    if frozen is not None and not row.is_frozen and "accuracy" in spreads and frozen.values("accuracy"):
        against["frozen"] = frozen.label
        verdicts["accuracy"] = difference(spreads["accuracy"], spread(frozen.values("accuracy")))
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
        **figures,
        "spread": {name: each.document() for name, each in spreads.items()},
        "against": against,
        "verdicts": verdicts,
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
    if len({dict(each)["batch"] for each in data}) > 1:
        found.append("batches differ in size: speeds are compared in images a second")
    if len({tuple(item for item in each if item[0] != "batch") for each in data}) > 1:
        found.append("the data differ: accuracies are not of the same images")
    if len({(row.first.config.trace, row.first.config.log) for row in rows}) > 1:
        found.append("trace or log settings differ between rows, and recording takes time")
    shared = [row for row in rows if row.first.mode != VIRTUAL and row.first.workers > _cores(row.first)]
    if shared:
        told = ", ".join(f"{row.label} ({row.first.workers} on {_cores(row.first)})" for row in shared)
        found.append(f"more workers than cores, so they share and times tell less than they could: {told}")
    return list(dict.fromkeys(found))


def _cores(run: Measured) -> int:
    cores = run.environment.get("cores")
    return cores if isinstance(cores, int) else run.workers


def _data(row: Row) -> dict[str, Any]:
    data = row.first.config.data
    return {name: getattr(data, name) for name in ("name", "source", "train", "test", "reading", "batch")}
