"""The fan chart of a study: a panel for each case, the smoothed cost of its runs by batch; matplotlib is imported inside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.files import save

from .palette import INK, LINES, MUTED, SETTINGS
from .stability import Run
from .stability_rules import CLASSES

#: Most panels, and panels in a row.
MOST, COLUMNS = 12, 4
#: From so many runs on there is a band in place of every run's line.
BAND = 10
#: The least cost that is drawn, as a share of the largest.
FLOOR = 1e-5
COLOURS = dict(zip(CLASSES, (LINES[0], LINES[4], LINES[3], LINES[1]), strict=True))


def draw(made: Mapping[str, Any], runs: Sequence[Run], path: Path) -> list[str]:
    """Draw the study; return a warning where it has more cases than panels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = list(enumerate(made["cases"]))[:MOST]
    columns = min(COLUMNS, len(shown)) if len(shown) != COLUMNS else 2
    rows = -(-len(shown) // columns)
    size = (max(3.1 * columns, 5.6), (2.3 if rows > 1 else 3.2) * rows + 0.5)
    limits, drawn = _limits(runs), set[str]()
    with matplotlib.rc_context(SETTINGS):
        figure, axes = pyplot.subplots(rows, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
        for place, (panel, (number, case)) in enumerate(zip(axes.flat, shown, strict=False)):
            mine = [run for run in runs if run.case == number and run.row["class"] and len(run.curve)]
            drawn |= {run.row["class"] for run in mine if _is_thin(run, mine)}
            _panel(panel, mine, limits, case["batches"])
            counts = ", ".join(f"{count} {name}" for name, count in case["counts"].items() if count)
            panel.set_title(f"{case['name']}\n", fontsize=8.5, loc="left", color=INK, fontweight="bold", pad=3)
            panel.annotate(
                counts or "no run", (0, 1), (0, 3), "axes fraction", "offset points", fontsize=7.5, color=MUTED
            )
            if place + columns >= len(shown):
                panel.set_xlabel("batches")
        for panel in axes.flat[len(shown) :]:
            panel.set_visible(False)
        for panel in axes[:, 0]:
            panel.set_ylabel("cost")
        handles = _handles(drawn, runs)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
        kind = path.suffix[1:].lower()
        save(path, lambda stream: figure.savefig(stream, format=kind, dpi=150, metadata=metadata))
        pyplot.close(figure)
    hidden = len(made["cases"]) - len(shown)
    return [f"--out: the picture has {MOST} panels; {hidden} more cases are in the table alone"] if hidden else []


def _handles(drawn: set[str], runs: Sequence[Run]) -> list[Any]:
    """Return the legend's entries for what is drawn."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=COLOURS[name], label=name, linewidth=1.6) for name in CLASSES if name in drawn]
    counts = Counter(run.case for run in runs if not run.row["error"])
    band = ", 10 to 90 %" if any(count >= BAND for count in counts.values()) else ""
    if any(count > 1 for count in counts.values()):
        handles.append(Line2D([], [], color=INK, linewidth=1.8, label=f"median{band}"))
    if any(run.row["error"] for run in runs):
        cross: dict[str, Any] = {"marker": "x", "markersize": 5, "linestyle": "none"}
        handles.append(Line2D([], [], color=INK, label="stopped by the guard", **cross))
    return handles


def _is_thin(run: Run, runs: Sequence[Run]) -> bool:
    """Whether a run has a line of its own: where there are few, and where it flew off."""
    return len(runs) < BAND or run.row["class"] == "flew off" or sum(not each.row["error"] for each in runs) < BAND


def _panel(panel: Any, runs: Sequence[Run], limits: tuple[float, float], batches: int) -> None:
    """Draw the runs of a case: thin lines or a band, and the median of those that came to their end."""
    least, top = limits
    for run in (run for run in runs if _is_thin(run, runs)):
        x, y = run.batches, np.clip(np.nan_to_num(run.curve, nan=top, posinf=top), least, top)
        colour = COLOURS[run.row["class"]]
        panel.plot(x, y, color=colour, linewidth=0.9, alpha=0.85)
        if run.row["error"]:
            panel.plot(
                x[-1:], y[-1:], color=colour, marker="x", markersize=5, linestyle="none", zorder=4, clip_on=False
            )
    whole = [run for run in runs if not run.row["error"]]
    if len(whole) > 1:
        curves = np.clip(np.nan_to_num([run.curve for run in whole], nan=top, posinf=top), least, top)
        if len(whole) >= BAND:
            low, high = np.percentile(curves, (10, 90), axis=0)
            panel.fill_between(whole[0].batches, low, high, color=LINES[0], alpha=0.2, linewidth=0)
        panel.plot(whole[0].batches, np.median(curves, axis=0), color=INK, linewidth=1.5, zorder=3)
    panel.set_yscale("log")
    panel.set_ylim(least, top * 1.6)  # what is lower lies on the axis
    panel.set_xlim(0, batches * 1.02)
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)


def _limits(runs: Sequence[Run]) -> tuple[float, float]:
    """Return the least and the largest cost that are drawn."""
    costs = np.concatenate([np.ones(0), *(run.curve for run in runs)])
    costs = costs[np.isfinite(costs) & (costs > 0)]
    if not len(costs):
        return FLOOR, 1.0
    top = float(costs.max())
    return max(top * FLOOR, float(costs.min()) / 1.6), top
