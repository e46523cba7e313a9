"""The picture of a comparison: throughput, accuracy by time and by images, where the boxes' time went. Draws with matplotlib.

Every row has one colour and one dash in all panels. Controls of learning that came by themselves are thin grey lines with
their names at the end, and have no bars: nobody asked how fast they are. A bar ends at the median and its whisker spans the
95 % interval; fewer repeats than `spread.LEAST` have none, and a dotted line spans their range. A line joins the medians of an
evaluation, and its band spans the repeats.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from . import task_words
from .compare_runs import REFERENCE, SHARES
from .compare_text import is_asked
from .outfile import cannot_write
from .palette import BLOCKED, BLOCKED_LINE, COPY, INK, LINES, MARKS, MUTED, PART_COLOURS, SETTINGS, STARVED
from .spread import LEAST

#: They tell rows apart where colours come again.
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
#: What a box's time went to: fill, edge and hatch.
FILLS = {
    "compute": (PART_COLOURS["forward"][0], None, ""),
    "messages": (COPY, None, ""),
    "starved": (STARVED, None, ""),
    "blocked": (BLOCKED, BLOCKED_LINE, "/////"),
    "other": ("#ffffff", "#a9b1ba", "....."),
}
#: What the line across a bar's end is, as the axis says.
INTERVAL, RANGE = "whisker: 95 % interval", f"dotted: range, under {LEAST} repeats"
#: More evaluations than this have no marks: they would hide the line.
MARKED = 20
#: Where the axis of accuracies ends.
TOP = 1.03
#: Lines of controls; how far apart their names are, as a share of the height.
GREY, APART = "#9aa4ae", 0.055
#: Most names in a line of the legend.
ACROSS = 4


def draw(document: dict[str, Any], path: Path) -> None:
    """Draw a comparison as .svg or .png; raises ConfigError for a file that cannot be written."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in document["rows"] if is_asked(row)]
    grey = [row for row in document["rows"] if not is_asked(row)]
    with matplotlib.rc_context(SETTINGS):
        tall = 0.32 * len(rows)
        figure, grid = pyplot.subplots(
            2,
            2,
            figsize=(10.5, 3.6 + 1.6 + max(tall, 1.2)),
            layout="constrained",
            height_ratios=(3.0, 0.7 + max(tall, 1.2)),
        )
        by_time, by_images, speed, time = grid.ravel()
        unit, right = document.get("unit", "images"), document.get("right", task_words.IMAGES_RIGHT)
        _curves(by_time, rows, grey, "seconds", unit, right)
        _curves(by_images, rows, grey, "images", unit, right)
        _throughput(speed, rows, unit)
        _shares(time, rows)
        handles, names = by_images.get_legend_handles_labels()
        if handles:
            lines = -(-len(names) // ACROSS)
            figure.legend(handles, names, loc="outside upper center", ncols=-(-len(names) // lines), frameon=False)
        try:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
        except OSError as error:
            raise cannot_write(path, error.strerror) from None
        finally:
            pyplot.close(figure)


def _name(row: dict[str, Any]) -> str:
    return textwrap.fill(f"{row['label']} (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{row['repeats']})", 28)


def points(row: dict[str, Any], axis: str) -> list[tuple[float, float, float, float]]:
    """Return for each evaluation that all repeats have: where it is on an axis, and the median, least and most accuracy."""
    found = []
    for repeats in zip(*row["evaluations"], strict=False):
        places, right = [each[axis] for each in repeats], [each["accuracy"] for each in repeats]
        if None not in places:
            found.append((median(places), median(right), min(right), max(right)))
    return found


def _grey(axes: Any, rows: Sequence[dict[str, Any]], axis: str) -> list[float]:
    """Draw the controls in the background, by images each named right of its end, and return where these ends are."""
    found = [(row["label"], curve) for row in rows if (curve := points(row, axis))]
    for _, curve in found:
        x, middle, _, _ = zip(*curve, strict=True)
        mark = "." if len(x) <= MARKED else None
        axes.plot(x, middle, color=GREY, linewidth=0.8, marker=mark, markersize=3, zorder=1.5)
    # By time they end anywhere, and names would hide what is drawn.
    ends = {name: curve[-1][1] for name, curve in found} if axis == "images" else {}
    for name, height in apart(ends).items():
        axes.annotate(
            textwrap.shorten(name, 24, placeholder="…"),
            (1.005, ends[name] / TOP),
            (1.05, height / TOP),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            color=MUTED,
            fontsize=7,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 0},
        )
    return [curve[-1][0] for _, curve in found]


def apart(ends: dict[str, float]) -> dict[str, float]:
    """Return heights for names beside the ends of curves, in the same order and far enough apart to be read."""
    names = sorted(ends, key=lambda name: ends[name])
    found: dict[str, float] = {}
    low = 0.0
    for name in names:  # upward, each above the one before
        found[name] = max(ends[name], low)
        low = found[name] + APART
    high = 1.0
    for name in reversed(names):  # and down again from the top, where that was too high
        found[name] = min(found[name], high)
        high = found[name] - APART
    return found


def _curves(
    axes: Any, rows: Sequence[dict[str, Any]], grey: Sequence[dict[str, Any]], axis: str, unit: str, right: str
) -> None:  # fmt: skip
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ends = _grey(axes, grey, axis)
    for place, row in enumerate(rows):
        found = points(row, axis)
        if not found:
            continue
        x, middle, low, high = zip(*found, strict=True)
        colour = LINES[place % len(LINES)]
        dashes = DASHES[(place + place // len(LINES)) % len(DASHES)]
        mark = MARKS[place % len(MARKS)] if len(x) <= MARKED else None
        axes.plot(
            x, middle, color=colour, linestyle=dashes, marker=mark, markersize=3.5, linewidth=1.5, label=_name(row)
        )
        if row["repeats"] > 1:
            axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
        ends.append(max(x))
    is_time = axis == "seconds"
    what = "time" if is_time else f"{unit} seen"
    told = f"accuracy by {what}" + (", controls in grey" if grey else "")
    axes.set_title(told, loc="left", fontsize=9)
    spans = " (median; band: all repeats)" if any(row["repeats"] > 1 for row in rows) else ""
    axes.set_xlabel(("seconds since the first go" if is_time else f"training {unit} seen") + spans)
    axes.set_ylabel(f"test {right}")
    axes.yaxis.set_major_formatter(_percent)
    axes.set_ylim(0, TOP)
    # A fast row would be a dash at the edge beside one that takes many times as long.
    if is_time and ends and min(ends) > 0 and max(ends) > 8 * min(ends):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(ends) < 1e3 * min(ends) else (1,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_xlabel(f"seconds since the first go, logarithmic{spans}")
    if not is_time:
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_xlim(left=0)
    if not ends:
        axes.text(
            0.5, 0.5, "no evaluation is on record", ha="center", va="center", transform=axes.transAxes, color=MUTED
        )
    _bare(axes, "both")


def _throughput(axes: Any, rows: Sequence[dict[str, Any]], unit: str) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    is_images = len({row["batch"] for row in rows}) > 1
    name = "images_per_s" if is_images else "batches_per_s"
    kinds: set[str] = set()
    for place, row in enumerate(rows):
        found = row["spread"].get(name)
        if found is None:
            continue
        value = found["median"]
        axes.barh(place, value, height=0.62, color=LINES[place % len(LINES)])
        kind, low, high = INTERVAL, found["low"], found["high"]
        if low is None:
            kind, low, high = RANGE, found["least"], found["most"]
        if found["repeats"] > 1:
            dashes, mark = ("-", "|") if kind == INTERVAL else (":", "")
            axes.plot((low, high), (place, place), color=INK, linewidth=1, linestyle=dashes, marker=mark, markersize=7)
            kinds.add(kind)
        axes.annotate(f"{value:,.0f}" if value >= 10 else f"{value:.2f}", (max(value, high), place), (4, 0),
                      textcoords="offset points", va="center", color=INK)  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    _lanes(axes, rows)
    axes.margins(x=0.16)
    axes.set_xlim(left=0)
    axes.set_title("steady throughput", loc="left", fontsize=9)
    told = "; ".join(("median", *sorted(kinds, reverse=True)))
    axes.set_xlabel(f"{unit if is_images else 'batches'} a second ({told})")
    _bare(axes, "x")


def _shares(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    from matplotlib.patches import Patch

    for place, row in enumerate(rows):
        if not row["shares"]:
            axes.text(
                0.01, place, "no boxes" if row["mode"] == REFERENCE else "not on record", va="center", color=MUTED
            )
            continue
        left = 0.0
        for part in SHARES:
            fill, edge, hatch = FILLS[part]
            width = row["shares"].get(part, 0.0)
            axes.barh(place, width, left=left, height=0.62, color=fill, edgecolor=edge, hatch=hatch, linewidth=0)
            left += width
    _lanes(axes, rows)
    axes.set_yticklabels([])  # they stand beside the bars of throughput, in the same lanes
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(_percent)
    axes.set_title("where a box's time went", loc="left", fontsize=9)
    axes.set_xlabel("of its time (mean over boxes and repeats)")
    handles = [
        Patch(facecolor=fill, edgecolor=edge or fill, hatch=hatch, linewidth=0.4, label=part)
        for part, (fill, edge, hatch) in FILLS.items()
    ]
    axes.figure.legend(handles=handles, loc="outside lower right", ncols=len(handles), frameon=False)
    _bare(axes, "x")


def _percent(share: float, _: int) -> str:
    return f"{100 * share:.0f} %"


def _lanes(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    axes.set_yticks(range(len(rows)), [_name(row) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _bare(axes: Any, grid: str) -> None:
    axes.grid(alpha=0.25, axis=grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
