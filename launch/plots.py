"""Pictures of a run for people; matplotlib (extra `plot`) is imported inside."""

from __future__ import annotations

import importlib.util
import itertools
import math
from pathlib import Path
from typing import Any


def is_available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_costs(
    folder: Path,
    epochs: list[dict[str, Any]],
    title: str,
    cost_words: str = "mean per image",
    right_words: str = "test images right",
) -> Path:
    """Draw cost and accuracy by epoch into metrics/costs.png and return its path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure, (cost, right) = pyplot.subplots(
        2, 1, sharex=True, figsize=(6.4, 5.2), height_ratios=(3, 2), layout="constrained"
    )
    numbers = [row["epoch"] for row in epochs]
    marker = "o" if len(numbers) < 15 else None
    cost.plot(numbers, [row["cost"] for row in epochs], marker=marker, color="#2456a6", label="training")
    judged = [row for row in epochs if "accuracy" in row]
    tested = [row["epoch"] for row in judged]
    cost.plot(
        tested, [row["test_cost"] for row in judged], marker=marker, color="#d1702a", label="test", linestyle="--"
    )
    cost.set_ylabel(f"cost ({cost_words})")
    cost.set_ylim(bottom=0)
    cost.legend(frameon=False)
    cost.set_title(title, fontsize=10, loc="left")
    right.plot(tested, [row["accuracy"] for row in judged], marker=marker, color="#d1702a")
    right.set_ylabel(right_words)
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.set_ylim(0, 1.04)
    right.set_xlabel("epoch")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    pairs = itertools.pairwise(epochs)
    for later in (b for a, b in pairs if a.get("level") and b.get("level") != a["level"]):
        for axes in (cost, right):  # a cost that jumps is no harm there: the sequences are longer
            axes.axvline(later["epoch"] - 0.5, color="#888888", linewidth=0.8, linestyle=":")
        cost.annotate(
            f"level {later['level']}", (later["epoch"] - 0.5, 1), xycoords=("data", "axes fraction"), fontsize=7,
            xytext=(2, -9), textcoords="offset points", color="#666666",
        )  # fmt: skip
    for axes in (cost, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    path = folder / "metrics" / "costs.png"
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path


def draw_map(made: dict[str, Any], path: Path) -> None:
    """Draw where decoupling pays: speed-up by boxes and hop, purple above one and orange below, with the crossover line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import CenteredNorm

    rows = made["rows"]
    hops = [cell["hop"] for cell in rows[0]["cells"]]
    values = [[cell["speedup"] for cell in row["cells"]] for row in rows]
    shades = [[math.log2(value) for value in row] for row in values]
    figure, axes = pyplot.subplots(figsize=(1.6 + 0.72 * len(hops), 1.8 + 0.42 * len(rows)), layout="constrained")
    norm = CenteredNorm(0, max(1.0, max(max(map(abs, row)) for row in shades)))
    axes.imshow(shades, cmap="PuOr", norm=norm, aspect="auto", origin="lower")
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            is_dark = abs(norm(shades[y][x]) - 0.5) > 0.33
            color = "white" if is_dark else "#222222"
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color, zorder=3)
    points = [(_column(row["crossover"], hops), y) for y, row in enumerate(rows) if row["crossover"] is not None]
    if points:
        axes.plot(
            [x for x, _ in points], [y for _, y in points], color="#111111", linewidth=2, marker="o", markersize=3
        )
    axes.set_xticks(range(len(hops)), [f"{hop:g}" for hop in hops])
    axes.set_yticks(range(len(rows)), [row["boxes"] for row in rows])
    axes.set_xlabel("hop ÷ compute of an action")
    axes.set_ylabel("boxes")
    line = "; the line is where it passes 1" if points else ""
    axes.set_title(f"speed-up of {made['map']}{line}", fontsize=10, loc="left")
    axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _column(hop: float, hops: list[float]) -> float:
    """Return the place of a hop on the columns' axis, between two of them by their logarithms."""
    for place, (low, high) in enumerate(itertools.pairwise(hops)):
        if hop <= high:
            if low <= 0:
                return place + hop / high
            return place + math.log(hop / low) / math.log(high / low)
    return len(hops) - 1.0
