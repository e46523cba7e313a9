"""A run's timeline as a picture for papers: a lane a stage, spans, waits, messages, numbered steps. Needs matplotlib (`plot`).

    box-1   ▐F7▐▐update▐ ░░starved░░ ▐T7▐        ①②  the steps of the batch in the middle
                  ╲            ╱
    box-2          ▐F7▐▐update▐                  arrows: from where a message was sent to where it was taken

Parts fill a lane's height; what sending and taking cost is a strip at its foot. A wait for no message in particular leaves the
lane empty, as all does that is `other` in `breakdown`. Credits have no arrow, or they would hide
the others. The same run gives the same bytes; text stays text.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline import steps
from pipeline.actions import ACTIONS, KINDS, Action
from pipeline.arrays import Array
from pipeline.errors import ConfigError
from pipeline.trace import GAP, PARTS

from . import breakdown, clocks, palette
from .palette import ARROWS, BLOCKED, BLOCKED_LINE, COPY, INK, MUTED, PART_COLOURS, STARVED
from .recording import Recording
from .window import Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Inches: the picture's width, a lane, and what stands left, right, above and below of the lanes.
WIDTH, LANE, LEFT, RIGHT, ABOVE, BELOW = 9.0, 0.8, 0.62, 0.12, 0.42, 0.95
#: Half a span's height in lanes, and where the strip of copies begins.
HALF, STRIP = 0.27, 0.17
#: Points: the size of text in spans, a letter's width in sizes, and a circle's diameter.
SIZE, LETTER, CIRCLE = 6.5, 0.64, 9.0
#: Points: the least width of a span.
THINNEST = 0.6
LANE_POINTS = LANE * 72


class Picture(NamedTuple):
    """A picture, how many spans and arrows it shows, and how many spans are in its busiest lane."""

    content: bytes
    spans: int
    messages: int
    busiest: int


def draw(found: Recording, window: Window, kind: str) -> Picture:
    """Return a window of a run as `svg` or `png`; raises ConfigError where matplotlib is missing."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError(f"--out: .{kind} needs matplotlib; pip install 'timebox[plot]', or write .html") from None
    lanes = found.plan.head
    height = ABOVE + lanes * LANE + BELOW
    with matplotlib.rc_context(palette.SETTINGS):
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.add_axes((LEFT / WIDTH, BELOW / height, (WIDTH - LEFT - RIGHT) / WIDTH, lanes * LANE / height))
        axes.set_xlim(0, (window.last_ns - window.first_ns) / 1e6)
        axes.set_ylim(lanes + 0.5, 0.5)
        painter = Painter(found, window, axes)
        painter.frame()
        counts = [painter.lane(stage.number, window.within(stage.array)) for stage in found.stages]
        arrows = painter.messages()
        painter.steps()
        figure.legend(
            handles=[*palette.legend(painter.shown), *unrecorded(painter.shown)],
            loc="lower center",
            ncols=7,
            frameon=False,
            fontsize=7,
            handlelength=1.8,
            columnspacing=1.4,
            bbox_to_anchor=(0.5, 0.0),
        )
        stream = io.BytesIO()
        dates: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(stream, format=kind, dpi=200, metadata=dates)
    return Picture(stream.getvalue(), sum(counts), arrows, max(counts))


def unrecorded(shown: set[str]) -> list[Any]:
    """Return the legend's entry for time of which nothing is on record, where a picture shows such time."""
    from matplotlib.patches import Patch

    style: dict[str, Any] = {"facecolor": "white", "edgecolor": palette.UNRECORDED_LINE, "hatch": "xxxx", "lw": 0}
    return [Patch(label=palette.UNRECORDED, **style)] if palette.UNRECORDED in shown else []


class Painter:
    """Draws one window on axes whose x is milliseconds since its begin and whose y is a stage's number."""

    def __init__(self, found: Recording, window: Window, axes: Axes) -> None:
        self.found = found
        self.window = window
        self.axes = axes
        self.most = (window.last_ns - window.first_ns) / 1e6
        self.points = (WIDTH - LEFT - RIGHT) * 72 / self.most  # points in a millisecond
        self.shown: set[str] = set()

    def ms(self, ns: Array) -> Array:
        """Return times as milliseconds since the window's begin."""
        since: Array = (ns - self.window.first_ns) / 1e6
        return since

    def frame(self) -> None:
        """Draw what is around the spans."""
        found, axes, batches = self.found, self.axes, self.window.batches
        plan = found.plan
        which = f"batch {batches[0]}" if len(batches) == 1 else f"batches {batches[0]} to {batches[-1]}"
        boxes = "1 box" if plan.boxes == 1 else f"{plan.boxes} {'tied' if plan.tied else 'untied'} boxes"
        if self.window.lacks:
            which += f" ({self.window.lacks} not on record)"
        axes.set_title(f"{found.folder.name}: {plan.schedule}, {boxes}, {which}", fontsize=9, loc="left", pad=8)
        axes.set_yticks(range(1, plan.head + 1), found.names, fontsize=8.5)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", width=0.6, labelsize=7.5)
        axes.set_xlabel(clocks.beside(f"ms since batch {batches[0]} began", found.clock_error_ns), fontsize=8)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color="#e8ebee", linewidth=0.6)
        axes.set_axisbelow(True)
        known = {stage.number for stage in found.stages}
        for number in range(1, plan.head + 1):
            self.bars(np.array([0.0]), np.array([self.most]), number, -HALF, HALF, "#f6f7f9", 0.5)
            if number not in known:
                axes.text(self.most / 2, number, "no trace", color=MUTED, ha="center", va="center", fontsize=8)

    def bars(
        self, begins: Array, ends: Array, y: float, top: float, foot: float, colour: str, order: float, **more: Any
    ) -> None:
        """Draw rectangles of one lane and one colour, no thinner than can be seen."""
        from matplotlib.collections import PolyCollection

        begins, ends = np.clip(begins, 0, self.most), np.clip(ends, 0, self.most)
        ends = np.maximum(ends, begins + THINNEST / self.points)
        corners = [
            [(a, y + top), (b, y + top), (b, y + foot), (a, y + foot)]
            for a, b in zip(begins.tolist(), ends.tolist(), strict=True)
        ]
        style: dict[str, Any] = {"edgecolors": "none", "linewidths": 0.0} | more
        self.axes.add_collection(PolyCollection(corners, facecolors=colour, zorder=order, **style), autolim=False)

    def lane(self, number: int, records: Array) -> int:
        """Draw a stage's waits, parts and copies; return how many parts."""
        waits = records[records["kind"] == ord("w")]
        ways = breakdown.ways(waits, number)
        for name, colour, more in (
            (breakdown.STARVED, STARVED, {}),
            (breakdown.BLOCKED, BLOCKED, {"hatch": "/////", "edgecolors": BLOCKED_LINE}),
        ):
            rows = waits[ways == name]
            if len(rows):
                self.shown.add(name)
                self.bars(self.ms(rows["start"]), self.ms(rows["end"]), number, -HALF, HALF, colour, 1, **more)
        parts = records[np.isin(records["kind"], [ord(letter) for letter in ACTIONS])]
        for code, name in enumerate(PARTS):
            rows = parts[parts["code"] == code]
            if len(rows):
                self.shown.add(name)
                fill = PART_COLOURS[name][0]
                self.bars(self.ms(rows["start"]), self.ms(rows["end"]), number, -HALF, HALF, fill, 2)
        gaps = records[records["kind"] == GAP]
        if len(gaps):
            self.shown.add(palette.UNRECORDED)
            begins, ends = np.clip(self.ms(gaps["start"]), 0, self.most), np.clip(self.ms(gaps["end"]), 0, self.most)
            style = {"hatch": "xxxx", "edgecolors": palette.UNRECORDED_LINE}
            self.bars(begins, ends, number, -HALF, HALF, "white", 1, **style)
            wide = (ends - begins) * self.points > LETTER * SIZE * len(palette.UNRECORDED) + 6
            for middle in ((begins + ends) / 2)[wide].tolist():
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
                self.axes.text(
                    middle,
                    number,
                    palette.UNRECORDED,
                    color=MUTED,
                    fontsize=SIZE,
                    ha="center",
                    va="center",
                    bbox=box,
                    zorder=5,
                )
        copies = records[np.isin(records["kind"], [ord("s"), ord("t")])]
        if len(copies):
            self.shown.add("copy")
            self.bars(self.ms(copies["start"]), self.ms(copies["end"]), number, STRIP, HALF, COPY, 3)
        for row in parts:
            self.label(row, number)
        return len(parts)

    def label(self, row: Any, number: int) -> None:
        """Write an action into its span: along it, else upright, else not at all."""
        begin, end = self.visible(row)
        room = (end - begin) * self.points
        text = str(Action(chr(row["kind"]), int(row["batch"]), int(row["peer"])))
        length = LETTER * SIZE * len(text)
        if length + 2 <= room:
            turned, size = 0, SIZE
        elif room >= SIZE and length <= 2 * HALF * LANE_POINTS:
            turned, size = 90, SIZE - 0.5
        else:
            return
        ink = PART_COLOURS[PARTS[row["code"]]][1]
        y = number - 0.03
        self.axes.text(
            (begin + end) / 2, y, text, color=ink, fontsize=size, ha="center", va="center_baseline" if not turned else "center",
            rotation=turned, zorder=5, clip_on=True,
        )  # fmt: skip

    def visible(self, row: Any) -> tuple[float, float]:
        """Return from when to when a span is seen."""
        begin, end = self.ms(row["start"]), self.ms(row["end"])
        return max(0.0, float(begin)), min(self.most, float(end))

    def messages(self) -> int:
        """Draw an arrow for every message but credits; return how many."""
        from matplotlib.collections import LineCollection, PolyCollection

        messages, window = self.found.messages, self.window
        inside = window.holds(messages)
        count = 0
        for code, kind in enumerate(KINDS):
            if kind not in ARROWS or not (rows := inside & (messages.kind == code)).any():
                continue
            self.shown.add(kind)
            colour, dashes = ARROWS[kind]
            source, target = messages.source[rows].astype(float), messages.target[rows].astype(float)
            edge = np.sign(target - source) * HALF
            x = np.stack([self.ms(messages.sent[rows]), self.ms(messages.taken[rows])], 1)
            y = np.stack([source + edge, target - edge], 1)
            lines = np.stack([x, y], 2)
            style: dict[str, Any] = {"colors": colour, "linestyles": [dashes], "linewidths": 0.8, "alpha": 0.85}
            self.axes.add_collection(LineCollection(list(lines), zorder=6, **style), autolim=False)
            heads = list(self.heads(lines))
            self.axes.add_collection(PolyCollection(heads, facecolors=colour, linewidths=0, zorder=6.5), autolim=False)
            count += len(lines)
        return count

    def heads(self, lines: Array, length: float = 5.0, width: float = 1.7) -> Iterator[Array]:
        """Yield triangles at the ends of lines; both in points, for in the axes' own units they would be askew."""
        scale = np.array([self.points, LANE_POINTS])
        for tail, tip in lines * scale:
            along = tip - tail
            along = along / max(float(np.hypot(*along)), 1e-9)
            across = np.array([-along[1], along[0]]) * width
            foot = tip - along * length
            yield np.array([tip, foot + across, foot - across]) / scale

    def steps(self) -> None:
        """Put the numbers of the original's steps of the middle batch in circles over their spans."""
        known = [self.window.within(stage.parts) for stage in self.found.stages]
        batches = np.unique(np.concatenate([parts["batch"][parts["kind"] == ord("F")] for parts in known]))
        batches = batches[(batches >= self.window.batches[0]) & (batches <= self.window.batches[-1])]
        if not len(batches):
            return
        batch = int(batches[len(batches) // 2])
        wanted = {(step.stage, step.action, step.part): step.number for step in steps.steps(self.found.plan)}
        for stage in self.found.stages:
            rows = self.window.within(stage.parts)
            rows = rows[(rows["batch"] == batch) & (rows["peer"] == 0)]
            found = []
            for row in rows:
                number = wanted.get((stage.number, chr(row["kind"]), PARTS[row["code"]]))
                if number:
                    found.append((sum(self.visible(row)) / 2, number))
            found.sort()
            if found:
                self.shown.add(f"{palette.STEP} {batch}")
            places = apart([x * self.points for x, _ in found], CIRCLE + 1.5)
            for (x, number), place in zip(found, places, strict=True):
                self.circle(place / self.points, x, stage.number, number)

    def circle(self, x: float, over: float, lane: int, number: int) -> None:
        """Draw a number in a circle, with a line to the span it belongs to."""
        y = lane - HALF - 0.7 * CIRCLE / LANE_POINTS
        self.axes.plot([x, over], [y, lane - HALF + 0.02], color=INK, linewidth=0.6, zorder=7)
        style = palette.circle(CIRCLE)
        self.axes.plot([x], [y], markeredgewidth=0.7, zorder=8, clip_on=False, **style)
        size = 6.5 if number < 10 else 5.5
        self.axes.text(x, y, str(number), fontsize=size, ha="center", va="center_baseline", zorder=9)


def apart(wanted: list[float], distance: float) -> list[float]:
    """Return places in the given, rising order that are at least so far apart, and else as near as can be to those wanted."""
    groups: list[list[float]] = []  # of places less what is before them at the least: each group shares its mean
    for number, place in enumerate(wanted):
        groups.append([place - number * distance])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    means = itertools.chain.from_iterable([float(np.mean(group))] * len(group) for group in groups)
    return [mean + number * distance for number, mean in enumerate(means)]
