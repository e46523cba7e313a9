"""Every learning rule beside every control on ten digits read row by row. `timebox bench rules`, `timebox bench rates`.

Preset `rows`: 4 boxes of 7 steps, width 128, 10,000 images, 3 epochs. Live processes at several windows, but for `exact`, which
is one process by its nature, and for the rows in virtual time that are held against the live ones. `late`: every message that
goes back takes so long that the window is always full: what boxes learn from is then about a window late, at every box.

    rates    each rule at several rates, judged on validation images: what a rule can do is not the question before that
    rules    each rule at its best rate, judged on test images; it goes on where it was stopped (folder sweeps/rules)

The share of the gap is (rule − frozen) ÷ (locked − frozen), by medians. Cost is in multiply-adds, beside locked (`rule_cost`).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from pipeline.config import changed
from pipeline.schema import Config

from . import fallback, simulating, sweep, what_if
from .environment import collect
from .rule_cost import multiply_adds
from .spawn import Observer
from .sweep_points import Point, Request

#: The rate of boxes and head that was best on validation images, tied and untied (`timebox bench rates`).
RATES = {
    "locked": (0.3, 0.2), "exact": (0.1, 0.2), "frozen": (0.8, 0.8), "last": (0.2, 0.3), "local": (0.3, 0.3),
    "noise": (0.05, 0.05), "stale": (0.3, 0.2), "linear": (0.05, 0.05), "oracle": (0.3, 0.3),
    "delayed": (0.1, 0.3), "delayed, window 16": (0.05, 0.05), "delayed, late": (0.01, 0.02),
}  # fmt: skip
TRIED, LOW = (0.05, 0.1, 0.2, 0.3, 0.4, 0.8), (0.01, 0.02)
VALIDATION = 5_000
BOXES = 4
#: How late `late` makes messages that go back, in milliseconds: longer than sixteen batches take.
LATE_MS = 150
PLAIN = {"oracle.memory": 0, "oracle.replays": 0, "oracle.target": "true"}
AT_ONCE = {"train.warmup": 0}

#: name: how it is set, beside preset rows; the first word of a name has its rate.
RULES: dict[str, dict[str, Any]] = {
    "locked": {"schedule.kind": "locked", **AT_ONCE},
    "exact": {"oracle.kind": "exact", "schedule.kind": "article", **AT_ONCE},
    "frozen": {"oracle.kind": "frozen", **AT_ONCE},
    "last": {"oracle.kind": "last", **AT_ONCE},
    "local": {"oracle.kind": "local", **AT_ONCE},
    "noise": {"oracle.kind": "noise", **PLAIN, **AT_ONCE},
    "stale": {"oracle.kind": "stale", **PLAIN, **AT_ONCE},
    "linear": {"oracle.kind": "linear", "oracle.memory": 0, "oracle.replays": 0},
    "delayed": {"oracle.kind": "delayed", **AT_ONCE},
    "oracle": {},
    "oracle, true targets": {"oracle.target": "true"},
    "oracle, mixed targets": {"oracle.target": "mixed"},
    "oracle, corrected later": {"oracle.correct": True},
}
#: Whose result hangs on how late gradients are, and the windows at which they run; the others run at one.
WINDOWS: dict[str, tuple[int, ...]] = {
    "delayed": (1, 4, 16), "oracle": (1, 2, 4, 8, 16), "oracle, true targets": (1, 4, 16),
    "oracle, mixed targets": (16,), "oracle, corrected later": (1, 16),
}  # fmt: skip
LATE = ("delayed", "oracle")
#: Beside live runs, in virtual time, at these windows.
VIRTUAL = (1, 4, 16)
#: More boxes, of fewer steps, at window 1.
MORE, MORE_BOXES = ("last", "locked", "oracle"), (7, 14)


class Case(NamedTuple):
    """A rule at one window, tied or not: one row of a table."""

    rule: str
    tied: bool
    boxes: int = BOXES
    window: int = 0  # 0: it makes no difference
    late: bool = False
    mode: str = "run"

    @property
    def label(self) -> str:
        """Its name in the table."""
        return self.rule + (", in virtual time" if self.mode == "simulate" else "")


def cases() -> Iterator[Case]:
    """Yield every case of `rules`, tied ones first."""
    for tied in (True, False):
        for rule in RULES:
            mode = "reference" if rule == "exact" else "run"
            for window in WINDOWS.get(rule, (0,)):
                yield Case(rule, tied, window=window, mode=mode)
            if rule in LATE:
                yield Case(rule, tied, window=16, late=True)
        yield from (Case("oracle", tied, window=window, mode="simulate") for window in VIRTUAL if tied)
        yield from (Case(rule, tied, boxes, int(rule == "oracle")) for boxes in MORE_BOXES for rule in MORE if tied)


def configured(case: Case, rate: float, judge: str = "test") -> Config:
    """Return a case's configuration at a rate."""
    flags: dict[str, Any] = {
        "model.tied": case.tied, "model.boxes": case.boxes, "train.evaluate_every": 0, "log.level": "info",
        "trace.probe": 0, "data.judge": judge, "data.validation": VALIDATION if judge == "validation" else 0,
        **{f"train.rate_{name}": rate for name in ("input", "recurrent", "head")},
    }  # fmt: skip
    if case.late:
        back = [f"box-{k + 1}>box-{k}" for k in range(1, case.boxes)]
        flags["emulate.delay_ms"] = dict.fromkeys([*back, f"head>box-{case.boxes}"], LATE_MS)
    flags |= RULES[case.rule]
    if flags.get("schedule.kind", "decoupled") == "decoupled":
        flags["schedule.window"] = case.window or 1
    return changed(_base(flags["data.validation"]), flags)


@functools.cache
def _base(validation: int) -> Config:
    """Return preset rows, with images held back. Whether the full set can be had is asked once: that takes a while."""
    return fallback.resolve("rows", None, {"data.validation": validation}, _say)


def _say(text: str) -> None:
    print(f"timebox: warning: {text}", file=sys.stderr)


def rate_of(case: Case) -> float:
    """Return the rate that a case runs at."""
    return RATES[_rated(case)][not case.tied]


def _rated(case: Case) -> str:
    """Return by which name a case has its rate."""
    if case.rule == "delayed" and case.window == 16:
        return "delayed, late" if case.late else "delayed, window 16"
    return case.rule.partition(",")[0]


def request(name: str, repeats: int, points: Mapping[tuple[Case, float], str]) -> Request:
    """Return a sweep's request of cases, each at a rate and judged on some images; another seed each repeat."""
    found, document = [], {}
    for number, ((case, rate), judge) in enumerate(points.items(), 1):
        values = {"rule": case.rule, "tied": case.tied, "boxes": case.boxes, "window": case.window, "late": case.late}
        config = configured(case, rate, judge)
        found.append(Point(number, case.mode, values | {"rate": rate}, config))
        document[str(number)] = values | {"rate": rate, "mode": case.mode}
    return Request(
        f"bench {name}", name, repeats, 0, True, "", "", ("rule", "tied", "boxes", "window", "late", "rate"), found,
        {"name": name, "repeats": repeats, "point": document},
    )  # fmt: skip


def run(config: Config, mode: str, label: str, repeat: int, observe: Observer) -> tuple[dict[str, Any], Path | None]:
    """Run a point live or in one process; in virtual time with its arithmetic, at costs measured here."""
    if mode != "simulate":
        return sweep.measure(config, mode, label, repeat, observe)
    made = simulating.document(what_if.of_config(config, None, ("cores=2",)), seed=repeat, arithmetic=True)
    keys = ("batches_per_s", "makespan_s", "batches", "accuracy")
    return {"status": "done", **{key: made[key] for key in keys}}, None


def rates(repeats: int) -> dict[str, Any]:
    """Run every rule at every rate on validation images and return the tables' document."""
    chosen = [case for case in cases() if case.boxes == BOXES and case.mode != "simulate"]
    points = {
        (case, rate): "validation" for case in chosen if case.rule in RATES and case.window in (0, 4) for rate in TRIED
    }
    # What comes late wants a smaller rate, and is not to be beaten by a wrong one.
    points |= {
        (case, rate): "validation"
        for case in chosen
        if case.rule == "delayed" and case.window == 16
        for rate in (LOW if case.late else LOW[1:]) + TRIED[: 3 if case.late else 4]
    }
    made = sweep.sweep(request("rates", repeats, points), measure=run)
    rows = [
        {"rule": _rated(case)} | {key: each[key] for key in ("tied", "rate", "accuracy")}
        for (case, _), each in zip(points, made["points"], strict=True)
    ]
    return {"bench": "rates", "repeats": repeats, "rows": rows, "environment": collect()}


def measure(repeats: int) -> dict[str, Any]:
    """Run every case and return the table's document."""
    every = list(cases())
    made = sweep.sweep(request("rules", repeats, {(case, rate_of(case)): "test" for case in every}), measure=run)
    late: dict[int, list[float]] = {}
    for row in made["rows"]:
        if row["lateness"] is not None:
            late.setdefault(row["point"], []).append(row["lateness"])
    rows = []
    for number, (case, point) in enumerate(zip(every, made["points"], strict=True), 1):
        config = configured(case, rate_of(case))
        like = configured(Case("locked", case.tied, case.boxes), 0.1)
        rows.append(
            case._asdict()
            | {"label": case.label, "rate": rate_of(case), "accuracy": point["accuracy"]}
            | {"batches_per_s": point["batches_per_s"], "cost": multiply_adds(config) / multiply_adds(like)}
            | {"mean_late": median(late[number]) if number in late else None}
        )
    data = msgspec.to_builtins(configured(every[0], 0.1).data)
    return {"bench": "rules", "repeats": repeats, "data": data, "rows": with_gaps(rows), "environment": collect()}


def with_gaps(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with the share of the gap between frozen and locked that each recovers, tied and untied apart; pure."""
    found = []
    for row in rows:
        ends = {
            each["rule"]: each["accuracy"]["median"]
            for each in rows
            if each["tied"] == row["tied"]
            and each["boxes"] == BOXES
            and each["accuracy"]
            and each["rule"] in ("frozen", "locked")
        }
        gap = None
        if row["accuracy"] and len(ends) == 2 and ends["locked"] > ends["frozen"] and row["boxes"] == BOXES:
            gap = (row["accuracy"]["median"] - ends["frozen"]) / (ends["locked"] - ends["frozen"])
        found.append(row | {"gap_recovered": gap})
    return found
