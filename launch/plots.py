"""Pictures of a run for people; matplotlib (extra `plot`) is imported inside."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def is_available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_costs(folder: Path, epochs: list[dict[str, Any]], title: str) -> Path:
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
    cost.set_ylabel("cost (mean per image)")
    cost.set_ylim(bottom=0)
    cost.legend(frameon=False)
    cost.set_title(title, fontsize=10, loc="left")
    right.plot(tested, [row["accuracy"] for row in judged], marker=marker, color="#d1702a")
    right.set_ylabel("test images right")
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.set_ylim(0, 1.04)
    right.set_xlabel("epoch")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (cost, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    path = folder / "metrics" / "costs.png"
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path
