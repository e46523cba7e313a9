"""How fast a stage's arithmetic is beside a bare loop of the same numpy calls, and beside sgemm. `timebox bench arithmetic`

    stage    `BoxWork.do(action)`, drained: F and B by the true gradient, or F and T with a linear oracle; `HeadWork`'s F
    bare     the same calls written out by hand, in place, into memory that is kept (`bare`)
    sgemm    the matrix products alone, of the same shapes
    square   one product of 1024³: what the machine can do

They take turns in lots of some milliseconds, so that the machine's drift meets all alike; who comes first changes. A repeat
is one lot of each, and what is told of two is their ratio within a repeat; times are the thread's own. A rate counts the
operations of matrix products alone, 2mkn each, over the time of everything. Of one row there are only products of a
vector, bound by memory: their share of the square product's rate says nothing of how well they are written.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from .bare import Case, Products, pair
from .environment import collect, worker_environment
from .spread import ratios, spread
from .text import table

RULES = ("backward", "synthetic", "head")
WIDTHS, ROWS = (64, 784, 1024), (1, 10, 32, 64)
#: How long a lot is, and how many batches at least and at most.
LOT_NS, LEAST, MOST = 15_000_000, 3, 512
SQUARE = 1024
#: The share of the bare loop's speed that a stage's arithmetic is to reach.
WANTED = 0.9


def measure(repeats: int) -> dict[str, Any]:
    """Measure every case in a process with one BLAS thread, as workers have."""
    command = [sys.executable, "-m", "launch.bench_arithmetic", str(repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=worker_environment(), check=True)
    return {"bench": "arithmetic", "repeats": repeats, "rows": json.loads(done.stdout), "environment": collect()}


def cases() -> list[Case]:
    """Return what is measured."""
    return [Case(rule, width, rows) for rule in RULES for width in WIDTHS for rows in ROWS]


def measured(case: Case, repeats: int) -> dict[str, Any]:
    """Return nanoseconds of a batch, rates in GFLOP/s, and ratios with their spread, of lots in turn."""
    staged, bare = pair(case)
    lots = {"stage": staged.lot, "bare": bare.lot, "sgemm": Products(case.products()).lot}
    square = Products([(SQUARE,) * 3]).lot
    counts = {name: max(LEAST, min(MOST, LOT_NS * LEAST // max(lot(0, LEAST), 1))) for name, lot in lots.items()}
    counts["stage"] = counts["bare"]
    ns: dict[str, list[float]] = {name: [] for name in (*lots, "square")}
    for repeat in range(repeats + 1):
        for name in sorted(lots, reverse=repeat % 2 == 0):
            ns[name].append(lots[name](repeat * counts[name], counts[name]) / counts[name])
        ns["square"].append(square(0, 1))
    ns = {name: values[1:] for name, values in ns.items()}  # the first repeat warms up
    operations: dict[str, int] = dict.fromkeys(lots, 2 * sum(m * k * n for m, k, n in case.products())) | {
        "square": 2 * SQUARE**3
    }
    return {
        **case._asdict(),
        "batches_in_lot": counts["bare"],
        "ns": {name: spread(values).document() for name, values in ns.items()},
        "gflops": {name: spread([operations[name] / each for each in ns[name]]).document() for name in ns},
        "of_bare": ratios(ns["bare"], ns["stage"]).document(),
        "of_sgemm": ratios(ns["sgemm"], ns["stage"]).document(),
    }


def lines(document: dict[str, Any]) -> list[str]:
    """Return the table for people, and how many cases reach what is wanted."""
    rows = []
    best = max(row["gflops"]["square"]["median"] for row in document["rows"])
    for row in document["rows"]:
        rates = {name: found["median"] for name, found in row["gflops"].items()}
        rows.append((
            row["rule"], row["width"], row["rows"], *(f"{row['ns'][name]['median'] / 1000:.0f}" for name in ("stage", "bare")),
            f"{row['of_bare']['median']:.2f}", _interval(row["of_bare"]),
            *(f"{rates[name]:.0f}" for name in ("stage", "bare", "sgemm")), f"{100 * rates['stage'] / best:.0f} %",
        ))  # fmt: skip
    header = ("rule", "width", "rows", "µs", "bare", "ratio", "95 %", "GFLOP/s", "bare", "sgemm", "share")
    reached = sum(row["of_bare"]["median"] >= WANTED for row in document["rows"])
    return [
        table(header, rows, left=(0,)),
        f"{reached} of {len(rows)} reach {100 * WANTED:.0f} % of the bare loop",
        f"share: of {best:.0f} GFLOP/s, the rate of one product of {SQUARE}³",
    ]


def _interval(ratio: dict[str, Any]) -> str:
    return "–" if ratio["low"] is None else f"{ratio['low']:.2f} – {ratio['high']:.2f}"


if __name__ == "__main__":
    print(json.dumps([measured(case, int(sys.argv[1])) for case in cases()]))
