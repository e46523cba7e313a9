"""What `timebox stats` prints for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import clocks
from .staleness import summary
from .text import table

#: Most bars of a histogram in a line of text, and most rows of waits.
BARS, WAITS = 24, 12
_BLOCKS = "▁▂▃▄▅▆▇█"
#: What a run's time is, by its status; of all others nobody knows but what is on record.
_UNTIL = {
    "done": "from go to done",
    "simulated": "from go to done, in virtual time",
    "running": "from go to the last record so far",
}


def render(document: dict[str, Any]) -> str:
    """Return the tables of one run's statistics."""
    blocks = [_head(document), _times(document), _waits(document), _staleness(document)]
    blocks += [_path(document), _messages(document), _tracing(document)]
    return "\n\n".join(block for block in blocks if block)


def _head(document: dict[str, Any]) -> str:
    status = document["status"]
    way = _UNTIL.get(status, "from go to the last record")
    return f"{document['run']}: {document['schedule']}, {status}; {document['makespan_s']:.2f} s {way}"


def _times(document: dict[str, Any]) -> str:
    rows = []
    for stage in document["stages"]:
        total = stage["total_s"]
        starved, blocked = sum(stage["starved_s"].values()), sum(stage["blocked_s"].values())
        values = [stage["compute_s"], stage["copy_s"], starved, blocked, stage["other_s"]]
        if any(each["missing_s"] for each in document["stages"]):
            values.append(stage["missing_s"])
        cpu = "–" if stage["cpu_s"] is None else f"{stage['cpu_s']:.2f}"
        rows.append((stage["name"], f"{total:.2f}", *(_share(value, total) for value in values), cpu))
    missing = ("missing",) if len(rows[0]) > 8 else ()
    header = ("", "seconds", "compute", "messages", "starved", "blocked", "else", *missing, "cpu s")
    error = clocks.told(document["clock_error_ns"])
    lines = [table(header, rows, left=(0,)), *([error] if error else []), "", _bubbles(document)]
    return "\n".join(lines)


def _bubbles(document: dict[str, Any]) -> str:
    rows = []
    for stage in document["stages"]:
        bubble = stage["bubble"]
        rows.append(
            (
                stage["name"],
                _percent(bubble["of_makespan"]),
                _percent(bubble["theory_of_makespan"]),
                _ratio(bubble["of_busy"]),
                _ratio(bubble["theory_of_busy"]),
            )
        )
    header = ("bubble", "idle ÷ makespan", "by the schedule", "idle ÷ busy", "by the schedule")
    note = "by the schedule: the same actions at their mean times, messages free, a processor for each stage"
    return f"{table(header, rows, left=(0,))}\n{note}"


def _waits(document: dict[str, Any]) -> str:
    found = [(stage, wait) for stage in document["stages"] for wait in stage["waits"] if wait["seconds"] > 0]
    found.sort(key=lambda pair: -float(pair[1]["seconds"]))
    rows = []
    for stage, wait in found[:WAITS]:
        by = f"{wait['way']} by {wait['from']}" if wait["from"] else "its schedule"
        why = {"message": "", "window": "window full", "credit": "no credit", "drain": "drain"}.get(wait["why"], "")
        share = _share(wait["seconds"], stage["total_s"])
        times = f"{wait['count']:,}"
        rows.append((stage["name"], by, wait["for"], why, times, f"{wait['seconds']:.3f}", share))
    if not rows:
        return ""
    header = ("waits", "", "for", "why", "times", "seconds", "of its time")
    more = f"\nand {len(found) - WAITS} shorter ones" if len(found) > WAITS else ""
    return table(header, rows, left=(0, 1, 2, 3)) + more


def _staleness(document: dict[str, Any]) -> str:
    rows = []
    for stage in document["stages"]:
        for kind, histograms in stage["staleness"].items():
            for unit in ("updates", "batches"):
                found = summary(histograms[unit])
                bars = histogram(histograms[unit])
                rows.append((stage["name"], kind, unit, f"{found['count']:,}", found["median"], found["most"], bars))
    if not rows:
        return "No update was made on a late gradient, target or increment."
    return table(("staleness", "of", "in", "count", "median", "most", "from 0"), rows, left=(0, 1, 2, 6))


def histogram(counts: Mapping[str, int]) -> str:
    """Return a histogram of small whole numbers as a line of bars, from 0 to the largest."""
    values = {int(value): count for value, count in counts.items()}
    if not values:
        return ""
    width = -(-(max(values) + 1) // BARS)
    bins = [0] * (max(values) // width + 1)
    for value, count in values.items():
        bins[value // width] += count
    most = max(bins)
    bars = "".join(_BLOCKS[(7 * count + most - 1) // most] if count else " " for count in bins)
    return f"|{bars}|" + (f" {width} a bar" if width > 1 else "")


def _path(document: dict[str, Any]) -> str:
    path = document["critical_path"]

    def shares(rows: list[dict[str, Any]], key: str) -> str:
        return ", ".join(f"{row[key]} {_percent(row['share'])}" for row in rows if row["share"] >= 0.001)

    return (
        f"critical path, {path['seconds']:.2f} s with {path['hops']:,} hops\n"
        f"  by stage  {shares(path['by_stage'], 'stage')}\n"
        f"  by kind   {shares(path['by_kind'], 'kind')}"
    )


def _messages(document: dict[str, Any]) -> str:
    rows = [
        (
            f"{row['from']} → {row['to']}",
            row["kind"],
            f"{row['count']:,}",
            f"{row['bytes']:,}",
            *(_micro(row[key]) for key in ("hop_median_s", "hop_p99_s", "awaited_hop_median_s")),
        )
        for row in document["messages"]
    ]
    note = "a hop: from encoded to received, as median and 99th percentile; awaited: the median hop where the receiver waited"
    header = ("messages", "", "count", "bytes", "hop µs", "99 % µs", "awaited µs")
    return f"{table(header, rows, left=(0, 1))}\n{note}" if rows else ""


def _tracing(document: dict[str, Any]) -> str:
    tracing = document["tracing"]
    if document["status"] == "simulated":
        return f"{tracing['records']:,} records, which cost a simulated run no time"
    if tracing["share"] is None:
        return f"{tracing['records']:,} records; what they cost was not measured: no worker came to its end"
    return (
        f"recording took at least {100 * tracing['share']:.2f} % of the busiest recorder's time: "
        f"{tracing['records']:,} records, {tracing['record_ns'] / 1000:.2f} µs each"
    )


def _share(value: float, total: float) -> str:
    return _percent(value / total if total else None)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _micro(value: float | None) -> str:
    return "–" if value is None else f"{value * 1e6:,.0f}"
