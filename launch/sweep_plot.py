"""A sweep's picture: rates and accuracies along a numeric key, with a bar for each interval; matplotlib is imported inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError

from . import spread
from .outfile import check_picture
from .palette import LINES, MARKS
from .sweep_text import label, value

#: Names of curves that are shorter than this stand in two columns.
SHORT = 44


def check_plot(path: Path, numeric: str) -> None:
    """Raise ConfigError before the first run for a picture that could not be drawn after the last."""
    check_picture(path, "rates.svg", "--plot")
    if not numeric:
        raise ConfigError("--plot: no key of [grid] has numbers alone to draw along; leave --plot out")


def draw(made: Mapping[str, Any], key: str, path: Path) -> None:
    """Draw rates, and accuracies where there are any, along a numeric key: a line for each combination of the others."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, LogLocator

    panels = [("batches_per_s", "batches a second", 1)]
    if any(point["accuracy"] for point in made["points"]):
        panels.append(("accuracy", f"test {made.get('right', 'images right')}, %", 100))
    marks = sorted({point[key] for point in made["points"]})
    curves: dict[str, list[Mapping[str, Any]]] = {}
    telling = _telling(made, key)
    for point in sorted(made["points"], key=lambda point: point[key]):
        others = {each: point[each] for each in telling}
        curves.setdefault(label(others, point["mode"] if _varies(made, "mode") else ""), []).append(point)
    size = (7.2, 1.0 + 3.2 * len(panels))
    figure, axes = pyplot.subplots(len(panels), 1, sharex=True, figsize=size, layout="constrained", squeeze=False)
    for (figure_key, title, unit), panel in zip(panels, axes[:, 0], strict=True):
        for place, (name, points) in enumerate(curves.items()):
            style = {"label": name, "color": LINES[place % len(LINES)], "marker": MARKS[place % len(MARKS)]}
            places = [place_of(point[key], marks, place - (len(curves) - 1) / 2) for point in points]
            _curve(panel, [*zip(places, (point[figure_key] for point in points), strict=True)], unit, style)
        panel.set_ylabel(title)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xscale("log" if _scale(marks) == "log" else "linear")
    axes[-1, 0].set_xticks([place_of(each, marks) for each in marks], [f"{each:g}" for each in marks])
    axes[-1, 0].xaxis.minorticks_off()
    if axes[0, 0].get_ylim()[1] < 30 * max(axes[0, 0].dataLim.y0, 1e-9):
        axes[0, 0].set_ylim(bottom=0)
    else:
        axes[0, 0].set_yscale("log")  # else the lowest lines would lie on the axis
        axes[0, 0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda each, _: f"{each:,g}"))
        axes[0, 0].yaxis.minorticks_off()
    if len(panels) > 1:
        low, high = axes[1, 0].get_ylim()
        axes[1, 0].set_ylim(low, min(high, 101))  # of a share there is no more than all
    axes[-1, 0].set_xlabel(key)
    if len(curves) > 1:
        handles, names = axes[0, 0].get_legend_handles_labels()
        columns = 2 if max(map(len, names)) < SHORT else 1
        figure.legend(handles, names, frameon=False, fontsize=8, loc="outside lower center", ncols=columns)
    axes[0, 0].set_title(f"{made['sweep']}: {_bars(made['repeats'])}", fontsize=10, loc="left")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _bars(repeats: int) -> str:
    """Return what marks and bars are."""
    if repeats == 1:
        return "one run each"
    return f"medians of {repeats}, {'95 % intervals' if repeats >= spread.LEAST else 'ranges'}"


def _telling(made: Mapping[str, Any], key: str) -> list[str]:
    """Return the keys that tell curves apart: those that vary, and that no single one of those before them determines."""
    found: list[str] = []
    for each in made["varied"]:
        if each == key or not _varies(made, each):
            continue
        pairs = [{(value(point[other]), value(point[each])) for point in made["points"]} for other in found]
        if all(len(pair) > len({first for first, _ in pair}) for pair in pairs):
            found.append(each)
    return found


def _varies(made: Mapping[str, Any], key: str) -> bool:
    return len({value(point[key]) for point in made["points"]}) > 1


def _curve(
    panel: Any, found: Sequence[tuple[float, Mapping[str, Any] | None]], unit: int, style: Mapping[str, Any]
) -> None:
    """Draw a line with a bar for each interval, or for the range of repeats that are too few for one."""
    told = [(x, each) for x, each in found if each is not None]
    middles = [unit * each["median"] for _, each in told]
    lows = [unit * (each["least"] if each["low"] is None else each["low"]) for _, each in told]
    highs = [unit * (each["most"] if each["high"] is None else each["high"]) for _, each in told]
    # A bootstrap's ends are never beyond the median, but for the last bit.
    below = [max(middle - low, 0.0) for middle, low in zip(middles, lows, strict=True)]
    above = [max(high - middle, 0.0) for middle, high in zip(middles, highs, strict=True)]
    looks = {"markersize": 5, "linewidth": 1.6, "elinewidth": 1.0, "capsize": 3}
    panel.errorbar([x for x, _ in told], middles, yerr=(below, above), **looks, **style)


def _scale(marks: Sequence[float]) -> str:
    """Return how an axis goes through its marks: `log` where they span much, `even` where one of those is 0, `linear`."""
    above = [each for each in marks if each > 0]
    if not above or marks[0] < 0 or marks[-1] < 8 * above[0]:
        return "linear"
    return "log" if marks[0] > 0 else "even"


def place_of(x: float, marks: Sequence[float], aside: float = 0.0) -> float:
    """Return where a mark stands on its axis, moved by some steps so that no line's bars hide another's."""
    step = 0.008 * aside
    if _scale(marks) == "log":
        return float(x * (marks[-1] / marks[0]) ** step)
    if _scale(marks) == "even":
        return marks.index(x) + step * (len(marks) - 1)
    return x + step * (marks[-1] - marks[0])
