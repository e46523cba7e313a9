"""The colours of a timeline's picture, and its legend. Pure but for matplotlib, which is imported inside.

Parts have Okabe and Ito's colours, which every kind of colour vision tells apart; the report's page has the same.
"""

from __future__ import annotations

from typing import Any

#: Fill, and ink on it.
PART_COLOURS = {
    "forward": ("#0072b2", "#ffffff"),
    "update": ("#e69f00", "#201600"),
    "train": ("#009e73", "#00150f"),
    "backward": ("#cc79a7", "#200818"),
    "apply": ("#d55e00", "#ffffff"),
    "evaluate": ("#7b8794", "#ffffff"),
    "probe": ("#56b4e9", "#00131f"),
    "correct": ("#f0e442", "#1f1d00"),
    "save": ("#6a4c93", "#ffffff"),
}
#: Of lines and bars: Okabe and Ito's, which every kind of colour vision tells apart, the darker ones first; and their marks.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#59626c", "#1b1f24")
MARKS = "osD^vPX*"
STARVED, BLOCKED, BLOCKED_LINE, COPY, INK, MUTED = "#dde3e9", "#f6dcd3", "#d99a84", "#59626c", "#1b1f24", "#59626c"
#: Colour and dashes of arrows.
ARROWS: dict[str, tuple[str, Any]] = {
    "activation": (INK, "solid"),
    "gradient": ("#b3261e", "solid"),
    "target": ("#b3261e", (0, (4, 1.6))),
    "increment": ("#8a6a00", (0, (1.2, 1.2))),
    "evaluation": (MUTED, (0, (4, 1.6))),
}
#: The first words of what a circle is in the legend; the batch follows.
STEP = "step of batch"


def circle(size: float) -> dict[str, Any]:
    """Return the style of a step's circle."""
    return {"marker": "o", "markersize": size, "markerfacecolor": "white", "markeredgecolor": INK}


def legend(shown: set[str]) -> list[Any]:
    """Return the legend's entries for what a picture shows, in the order of this file."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    patches = {name: Patch(facecolor=fill, label=name) for name, (fill, _) in PART_COLOURS.items()}
    patches["copy"] = Patch(facecolor=COPY, label="send, take")
    patches["starved"] = Patch(facecolor=STARVED, label="starved")
    patches["blocked"] = Patch(facecolor=BLOCKED, edgecolor=BLOCKED_LINE, hatch="/////", lw=0, label="blocked")
    lines = {
        kind: Line2D([], [], color=colour, linestyle=dashes, linewidth=0.9, label=kind)
        for kind, (colour, dashes) in ARROWS.items()
    }
    steps = {
        text: Line2D([], [], linestyle="none", label=text, **circle(6.5))
        for text in sorted(shown)
        if text.startswith(STEP)
    }
    return [handle for name, handle in [*patches.items(), *lines.items(), *steps.items()] if name in shown]


#: What is said, and drawn, where nothing is on record.
UNRECORDED, UNRECORDED_LINE = "not on record", "#a9b1ba"
#: matplotlib's: text stays text, and the same picture gives the same bytes.
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "timebox",
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "hatch.linewidth": 0.6,
    "axes.linewidth": 0.6,
    "figure.dpi": 100,
}
