"""What a study of stability says: its progress, its table with the rules below it, and its CSV."""

from __future__ import annotations

import csv
import io
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from . import spread, terminal, text
from .stability_rules import CLASSES, CONVERGED, FLOWN, HIGH, SPIKE, WILD, rules
from .sweep_text import duration

#: How wide the name of a case may be.
NAME = 24
COLUMNS = ("case", "seed", "class", "accuracy", "start_cost", "end_cost", "onset")
OF_CAUSE = ("box", "batch", "synthetic", "true", "ratio")


class Progress:
    """How many runs have ended and what came of the last one: in place on a terminal, a line a run elsewhere."""

    def __init__(self, runs: int, quiet: bool) -> None:
        self._runs, self._quiet, self._done = runs, quiet, 0
        self._is_terminal = terminal.draws_over()
        self._began = time.monotonic()

    def __enter__(self) -> Progress:
        if self._is_terminal:
            self._show(f"0 of {self._runs} runs")
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal and not self._quiet:
            terminal.over("")

    def __call__(self, what: str) -> None:
        """Tell that a run has ended."""
        self._done += 1
        left = (time.monotonic() - self._began) / self._done * (self._runs - self._done)
        rest = f"; about {duration(left)} left" if self._done < self._runs else ""
        self._show(f"run {self._done} of {self._runs}: {what}{rest}")

    def _show(self, line: str) -> None:
        if not self._quiet:
            (terminal.over if self._is_terminal else terminal.say_aside)(line)


def render(made: Mapping[str, Any]) -> str:
    """Return a study as text: a row for each case, what each began with, the rules and the engines."""
    rows, causes = [], []
    for case in made["cases"]:
        counts = case["counts"]
        rows.append([
            case["name"][:NAME], len(case["runs"]), *(counts[name] or "–" for name in CLASSES), accuracy(case["accuracy"])
        ])  # fmt: skip
        causes.append(f"  {case['name'][:NAME]:{NAME}}  {causes_of(case['runs'])}")
    lines = [text.table(("case", "seeds", *CLASSES, "accuracy"), rows, left=(0, 6)), ""]
    lines += [
        "first cause (the middle one of the runs of each case's commonest class)",
        *causes,
        "",
        *footnote(),
    ]
    engines: dict[str, list[str]] = {}
    for case in made["cases"]:
        engines.setdefault(case["told"], []).append(case["name"])
    lines += [
        f"engine: {told}" + (f" ({len(names)} cases)" if len(engines) > 1 else "") for told, names in engines.items()
    ]
    for case in made["cases"]:
        stopped = [row for row in case["runs"] if row["class"] == "flew off" and row["error"]]
        if stopped:
            lines.append(f"{case['name']}, seed {stopped[0]['seed']}: {stopped[0]['error'].partition(';')[0]}")
    lines += [f"{made[key]}: {what}" for key, what in (("out", "the fan chart"), ("csv", "a row a run")) if key in made]
    return "\n".join(lines)


def accuracy(found: Mapping[str, Any] | None) -> str:
    """Return the spread of accuracies, or a dash where no run came to its end."""
    return "–" if found is None else spread.Spread(**found).text("{:.3f}")


def causes_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what the runs of a case began with: that of the middle run of the commonest class."""
    if not rows:
        return "no run has ended"
    name = Counter(row["class"] for row in rows).most_common(1)[0][0]
    like = [row for row in rows if row["class"] == name]
    middle = like[len(like) // 2]
    return cause(middle["cause"], middle["onset"])


def cause(found: Mapping[str, Any] | None, onset: int | None) -> str:
    """Return a cause in words: `box 1's oracle, 142 to 0.05 at batch 0`; a run without a rise has none."""
    if found is None:
        return "no oracle beside a true gradient"
    where = f"at batch {found['batch']}"
    size = f"{found['synthetic']:.3g} to {found['true']:.3g} {where}"
    if found["is_ratio"]:
        size = f"{found['synthetic']:.3g} times the true one {where}"
    if onset is None:
        return f"no rise; at most box {found['box']}'s oracle, {size}"
    return f"{'' if found['is_wild'] else 'not the oracles: at most '}box {found['box']}'s oracle, {size}"


def footnote() -> list[str]:
    """Return the rules of the classes in lines that a terminal of 80 columns nearly holds."""
    return [
        f"cost: the mean of a window, {rules()['window']}",
        f"flew off: stopped by the guard, not finite, or ends above {FLOWN:g} × its start",
        f"converged: ends below {CONVERGED:g} × its start; stalled: the rest",
        f"spiked: rose above {SPIKE:g} × its least and {HIGH:g} × its start, came down, and converged",
        f"first cause: the first oracle, up to the rise, over {WILD:g} × as long as the true gradient; both norms of a window",
    ]


def table(made: Mapping[str, Any]) -> str:
    """Return the runs as CSV, a row for each."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*COLUMNS, *(f"cause_{key}" for key in OF_CAUSE), "error"])
    for case in made["cases"]:
        for row in case["runs"]:
            why = row["cause"] or {}
            writer.writerow(
                [_cell(row[key]) for key in COLUMNS] + [_cell(why.get(key)) for key in OF_CAUSE] + [_cell(row["error"])]
            )
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return value
