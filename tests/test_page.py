"""The report page in a real browser: what it shows, what it answers to, and that nothing odd in a run breaks it.

Times and frames are measured and printed (`pytest -s -m browser`); this machine is noisy, so only far bounds are asserted.
"""

from __future__ import annotations

import base64
import functools
import random
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launch import pack

sync_api = pytest.importorskip("playwright.sync_api", reason="needs chromium")
CHROMIUM = next((path for path in ("/usr/bin/chromium", shutil.which("chromium")) if path and Path(path).exists()), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]

QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PARTS = ["forward", "update", "train", "backward", "apply", "evaluate", "probe"]
KINDS = ["activation", "gradient", "target", "increment", "evaluation", "credit:activation", "credit:increment"]
ODD = """</script><script>window.broken = true</script> <!-- "quoted" & 'so' {{data}}"""


@functools.cache
def pipeline(stages: int, batches: int) -> dict[str, Any]:
    """Return the columns of a made-up run: every batch is forwarded, updated on and trained on by a stage after the other."""
    chance = random.Random(1)
    free = [0] * (stages + 1)
    spans: list[list[tuple[int, ...]]] = [[] for _ in free]
    waits: list[list[tuple[int, ...]]] = [[] for _ in free]
    messages = []

    def work(k: int, action: str, part: int, batch: int, ready: int, took: int, sibling: int = 0) -> int:
        if ready > free[k] + 20:
            source = k + 1 if action == "T" else max(1, k - 1)
            waits[k].append((k, batch % 7 == 0, int(action == "T"), source, batch, free[k] + 5, ready - free[k] - 10))
        start = max(free[k], ready)
        free[k] = start + max(1, int(took * chance.uniform(0.7, 1.6)))
        spans[k].append((k, ord(action), part, sibling, batch, start, free[k] - start, batch, int(part in (1, 4))))
        return free[k]

    def send(kind: int, source: int, target: int, batch: int, sent: int) -> int:
        hop = chance.randint(700, 2500)
        messages.append((kind, source, target, batch, sent, hop))
        return sent + hop

    for batch in range(batches):
        arrived = 0
        for k in range(1, stages + 1):
            work(k, "F", 0, batch, arrived, 4000)
            done = work(k, "F", 1, batch, 0, 9000)
            if k < stages:
                arrived = send(0, k, k + 1, batch, done)
            if k > 1:
                target = send(2 if k < stages else 1, k, k - 1, batch, done)
                trained = work(k - 1, "T", 2, batch, target, 7000)
                work(k - 1, "U", 4, batch, send(3, k, k - 1, batch, trained), 2500, sibling=k)
                send(5, k - 1, k, batch, trained)
        if batch % 50 == 49:
            work(stages, "E", 5, batch // 50, 0, 20000)
    return {
        "spans": columns("stage action part sibling batch start took read changed", "u2 u1 u1 u2 u4 u4 u4 u4 u1", spans),
        "waits": columns("stage blocked kind source batch start took", "u2 u1 u1 u2 u4 u4 u4", waits),
        "messages": columns("kind source target batch sent hop", "u1 u2 u2 u4 u4 u4", [sorted(messages, key=lambda m: m[4])]),
    }


def columns(names: str, kinds: str, rows: list[list[tuple[int, ...]]]) -> dict[str, Any]:
    """Return rows, sorted by stage, then begin, as packed columns."""
    flat = [row for own in rows for row in own]
    table = dict(zip(names.split(), np.array(flat or np.zeros((0, len(names.split()))), np.int64).T, strict=True))
    for grows in table.keys() & {"start", "sent"}:
        table[grows] = pack.gaps(table[grows], table.get("stage"))
    return pack.columns({name: (kind, table[name]) for name, kind in zip(table, kinds.split(), strict=True)})


def statistics_of(stages: list[str]) -> dict[str, Any]:
    """Return made-up statistics of these stages."""
    shares = {"of_makespan": 0.41, "of_busy": 0.7, "theory_of_makespan": 0.3, "theory_of_busy": 0.5}
    stale = {"updates": {"0": 50, "1": 20, "3": 4}, "batches": {"0": 60, "1": 14}}
    return {
        "makespan_s": 1.2,
        "stages": [
            {
                "name": name,
                "total_s": 1.2,
                "compute_s": 0.45 + 0.02 * (k % 9),
                "copy_s": 0.1,
                "starved_s": {other: 0.12 for other in stages[max(0, k - 1) : k + 2] if other != name},
                "blocked_s": {stages[-1]: 0.1},
                "other_s": 0.1,
                "missing_s": 0.01,
                "cpu_s": 0.7,
                "bubble": shares,
                "staleness": {"target": stale, "increment": stale} if name != "head" else {},
            }
            for k, name in enumerate(stages)
        ],
        "critical_path": {
            "seconds": 1.1,
            "by_stage": [{"stage": name, "seconds": 1.1 / len(stages), "share": 1 / len(stages)} for name in stages],
            "by_kind": [{"kind": "forward", "seconds": 0.3, "share": 0.27}, {"kind": "hop", "seconds": 0.2, "share": 0.18}],
        },
        "messages": [
            {"kind": "activation", "from": "box-1", "to": "box-2", "count": 50, "bytes": 156800, "hop_median_s": 1e-4, "hop_p99_s": 1e-3}
        ],
        "tracing": {"records": 12034, "record_ns": 600, "share": 0.004},
    }


def steps_of(stages: list[str]) -> list[dict[str, Any]]:
    """Return the numbered steps of a batch: two for each stage, one more for each box."""
    found = []
    for k, stage in enumerate(stages, 1):
        found += [(stage, "F", "forward", f"h{k} = tanh(x Wx)"), (stage, "F", "update", f"update on oracle {k}")]
        if k > 1:
            found.append((stages[k - 2], "T", "train", f"train oracle {k - 1}"))
    return [dict(zip(("number", "stage", "action", "part", "text"), (at, *row), strict=True)) for at, row in enumerate(found, 1)]


def a_run(boxes: int = 2, batches: int = 30, **changes: Any) -> dict[str, Any]:
    """Return a run as the page reads it."""
    stages = [*(f"box-{k}" for k in range(1, boxes + 1)), "head"]
    digits = np.random.default_rng(1).integers(0, 255, (60, 28, 28)) * (np.hypot(*np.mgrid[-14:14, -14:14]) < 9)
    labels = [at % 10 for at in range(60)]
    return {
        "run": "20261125-101112-article", "name": "", "status": "done", "schedule": "article", "error": None,
        "stages": stages, "steps": steps_of(stages), "parts": PARTS, "kinds": KINDS, "unit_ns": 100,
        "origin": "the go of the run", "warnings": ["3 processes on 2 cores: they share, so times tell less than they could"],
        "config": {"model": {"width": 784, "boxes": boxes, "tied": True}, "train": {"epochs": 30, "rate": 0.01}},
        "environment": {"python": "3.11.7", "processor": {"model": "Xeon", "cores": 2}},
        "summary": {"seconds": 3.2, "batches_per_s": 610.2, "accuracy": 0.97, "digest": "9f2c11d0a7"},
        "epochs": [{"epoch": e, "cost": 0.3 / e**1.5, "test_cost": 0.4 / e, "accuracy": 1 - 0.6 / e} for e in range(1, 31)],
        "stats": statistics_of(stages),
        "oracle": [
            {"batch": b, "box": k, "cosine": 0.9 - 0.3 / (1 + b / 99) - k / 9, "norm_ratio": 0.02 * k + b / 900}
            for b in range(0, 900, 30) for k in range(1, boxes + 1)
        ],
        "predictions": {
            "pixels": base64.b64encode(digits.astype(np.uint8).tobytes()).decode(), "labels": labels,
            "predictions": [7 if at in (13, 44) else label for at, label in enumerate(labels)],
            "places": list(range(60)), "total": 400, "right": 398,
        },
        **pipeline(boxes + 1, batches), **changes,
    }  # fmt: skip


def report(*runs: dict[str, Any], sections: list[str] | None = None) -> str:
    """Return the page of these runs."""
    document = {"format": pack.FORMAT, "made": "2026-11-25T10:00:00Z", "version": "0.1.0", "sections": sections}
    return pack.page({**document, "runs": list(runs)})


class Visit:
    """A page that is open, with what it complained of and asked for."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page, self.complaints, self.requests = page, [], []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        self.url = path.as_uri()

    def open(self, address: str = "") -> Any:
        """Go to the page and wait until it has drawn."""
        self.page.goto(self.url + address)
        self.page.evaluate("window.timebox.ready")
        return self.page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Return a function that opens a page; at the end, no page may have complained or asked for anything but itself."""
    visits = []

    def opened(content: str, address: str = "", **context: Any) -> Any:
        path = tmp_path / f"report-{len(visits)}.html"
        path.write_text(content, encoding="utf-8")
        visits.append(Visit(browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **context}).new_page(), path))
        return visits[-1].open(address)

    yield opened
    for one in visits:
        one.page.context.close()
        assert one.complaints == []
        assert [url for url in one.requests if not url.startswith(("data:", one.url))] == []


def overflow(page: Any) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def on_canvas(page: Any, place: dict[str, float]) -> tuple[float, float]:
    """Return where a place of the canvas is in the window."""
    page.locator("canvas.lanes").scroll_into_view_if_needed()
    box = page.locator("canvas.lanes").bounding_box()
    return box["x"] + place["x"], box["y"] + place["y"]


def view(page: Any) -> tuple[float, float]:
    """Return the timeline's window, after the frame that is due."""
    window = page.evaluate("new Promise((done) => requestAnimationFrame(() => done(timebox.timeline.view())))")
    return window["start"], window["end"]
