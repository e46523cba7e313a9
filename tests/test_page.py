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
from launch.shown import Page

sync_api = pytest.importorskip("playwright.sync_api", reason="needs chromium")
CHROMIUM = next(
    (path for path in ("/usr/bin/chromium", shutil.which("chromium")) if path and Path(path).exists()), None
)
pytestmark = [pytest.mark.browser, pytest.mark.patient, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
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
        "spans": columns(
            "stage action part sibling batch start took read changed", "u2 u1 u1 u2 u4 u4 u4 u4 u1", spans
        ),
        "waits": columns("stage blocked kind source batch start took", "u2 u1 u1 u2 u4 u4 u4", waits),
        "messages": columns(
            "kind source target batch sent hop", "u1 u2 u2 u4 u4 u4", [sorted(messages, key=lambda m: m[4])]
        ),
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
                "waits": [
                    {
                        "way": "starved",
                        "for": "gradient",
                        "from": "head",
                        "why": "message",
                        "count": 50,
                        "seconds": 0.1,
                    },
                    {"way": "schedule", "for": "", "from": "", "why": "", "count": 5, "seconds": 0.01},
                ],
                "bubble": shares,
                "staleness": {"target": stale, "increment": stale} if name != "head" else {},
            }
            for k, name in enumerate(stages)
        ],
        "critical_path": {
            "seconds": 1.1,
            "by_stage": [{"stage": name, "seconds": 1.1 / len(stages), "share": 1 / len(stages)} for name in stages],
            "by_kind": [
                {"kind": "forward", "seconds": 0.3, "share": 0.27},
                {"kind": "hop", "seconds": 0.2, "share": 0.18},
            ],
        },
        "messages": [
            {
                "kind": "activation",
                "from": "box-1",
                "to": "box-2",
                "count": 50,
                "bytes": 156800,
                "hop_median_s": 1e-4,
                "hop_p99_s": 1e-3,
            }
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
    return [
        dict(zip(("number", "stage", "action", "part", "text"), (at, *row), strict=True))
        for at, row in enumerate(found, 1)
    ]


def a_run(boxes: int = 2, batches: int = 30, **changes: Any) -> dict[str, Any]:
    """Return a run as the page reads it."""
    stages = [*(f"box-{k}" for k in range(1, boxes + 1)), "head"]
    digits = np.random.default_rng(1).integers(0, 255, (60, 28, 28)) * (np.hypot(*np.mgrid[-14:14, -14:14]) < 9)
    labels = [at % 10 for at in range(60)]
    return {
        "run": "20261125-101112-article", "name": "", "status": "done", "schedule": "article", "error": None,
        "stages": stages, "steps": steps_of(stages), "parts": PARTS, "kinds": KINDS, "unit_ns": 100,
        "origin": "time zero is the go of the run",
        "warnings": ["3 processes on 2 cores: they share, so times tell less than they could"],
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
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
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
    visits: list[Visit] = []

    def opened(content: str, address: str = "", **context: Any) -> Any:
        path = tmp_path / f"report-{len(visits)}.html"
        path.write_text(content, encoding="utf-8")
        visits.append(
            Visit(browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **context}).new_page(), path)
        )
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


@pytest.fixture(scope="module")
def small() -> str:
    """A page of one run of 30 batches."""
    return report(a_run())


def test_a_run_is_shown_whole(visit: Any, small: str) -> None:
    page = visit(small)
    assert page.title() == "Timebox: 20261125-101112-article"
    assert page.locator("h2").all_text_contents() == [
        "Timeline", "Cost and test images right", "Where the time went", "Critical path", "Messages", "Staleness", "Oracles",
        "Predictions", "Configuration and environment",
    ]  # fmt: skip
    text = page.locator("body").inner_text()
    for words in (
        "97.0 %",
        "3 processes on 2 cores",
        "Recording this run took at least 0.4 % of the busiest worker's time; 12,034 records of 0.6 µs.",
        "398 of 400 test images right",
        "A low cosine does not mean few test images right",
        "by the schedule",
        "Waits by reason",
        "the true gradient vanishes",
        "training cost from 0.3",
        "idle ÷ busy",
    ):
        assert words in text
    wrong = page.locator(".digits li").first
    assert "wrong" in wrong.get_attribute("class")
    assert wrong.inner_text().split() == ["3", "→", "7", "✗"]
    page.get_by_role("button", name="logarithmic").click()
    page.get_by_role("button", name="in batches").click()
    assert "0 to 1 batches" in page.locator("#staleness").inner_text()


def test_the_timeline_alone_has_one_section(visit: Any) -> None:
    page = visit(report(a_run(stats=None, epochs=[], oracle=[], predictions=None), sections=["timeline"]))
    assert page.locator("h2").all_text_contents() == ["Timeline"]
    assert page.title() == "Timebox timeline: 20261125-101112-article"
    assert "report" not in page.locator("#top").inner_text()
    assert page.evaluate("timebox.timeline.stats().spans") > 0


def test_a_part_of_a_run_says_which_part_and_how_long_the_run_is(visit: Any) -> None:
    """It once said that it was the whole run, with the time at which the part ended."""
    run = a_run(shown={"batches": [5, 9]}, length_ms=5000.0) | {"batches": 30}
    page = visit(report(run, sections=["timeline"]))
    assert "Timebox timeline: batches 5 to 9" in page.locator("#top").inner_text()
    page.get_by_role("button", name="all of this part").click()
    page.get_by_text("Shown: batches 5 to 9,").wait_for()
    assert "of the run's 5 s" in page.locator("#timeline-now").inner_text()
    page.get_by_label("batch, 5 to 9").fill("3000")
    page.get_by_role("button", name="Go to batch").click()
    assert "There is no batch 3000" in page.locator("#timeline-batch").inner_text()


def sampled(every: int = 8, batches: int = 40) -> dict[str, Any]:
    """Return a run of one stage of which every other burst of batches is on record."""
    rows = [
        (1, 70, part, 0, batch, 1000 * batch + 400 * part, 300, batch, part)
        for batch in range(batches)
        if batch // every % 2 == 0
        for part in (0, 1)
    ]
    gaps = [(1, 1000 * first, 1000 * every) for first in range(every, batches, 2 * every)]
    names = "stage action part sibling batch start took read changed"
    return a_run(
        0, 0, spans=columns(names, "u2 u1 u1 u2 u4 u4 u4 u4 u1", [rows]), stats=None,
        gaps=columns("stage start took", "u2 u4 u4", [gaps]),
    )  # fmt: skip


def test_a_sampled_run_opens_on_a_recorded_batch_and_steps_from_one_to_the_next(visit: Any) -> None:
    """It once opened with `There is no batch 223`, which merely was not on record."""
    page = visit(report({**sampled(), "batches": 48}))
    field, about = page.get_by_label("batch, 0 to 39"), page.locator("#timeline-batch")

    def go(batch: int) -> str:
        field.fill(str(batch))
        page.keyboard.press("Enter")
        return str(about.inner_text())

    opened = page.evaluate("timebox.timeline.focus().batch")
    assert opened // 8 % 2 == 0
    assert field.input_value() == str(opened)
    assert "Batch 10 is not on record; the nearest that are: 7 and 16" in go(10)
    assert field.input_value() == str(opened), "the field has the batch that is shown"
    assert "Batch 45 is not on record" in go(45)
    assert "There is no batch 48; this run has batches 0 to 47" in go(48)
    go(7)
    page.get_by_role("button", name="next batch").click()
    assert (page.evaluate("timebox.timeline.focus().batch"), field.input_value()) == (16, "16")
    assert "Batches 8 to 15 are not on record" in about.inner_text()
    page.get_by_role("button", name="previous batch").click()
    assert page.evaluate("timebox.timeline.focus().batch") == 7
    go(39)
    page.get_by_role("button", name="next batch").click()
    assert "This is the last batch on record here" in about.inner_text()
    assert "not on record" in page.locator("#timeline .legend").inner_text()


@pytest.mark.parametrize("is_reference", [True, False])
def test_a_run_that_was_to_have_no_trace_has_no_empty_sections(visit: Any, is_reference: bool) -> None:
    none = {"stats": None, "oracle": [], "warnings": [], **pipeline(3, 0)}
    page = visit(report(a_run(untraced="it has none", reference=is_reference, **none)))
    assert page.locator("h2").all_text_contents() == [
        "Cost and test images right", "Predictions", "Configuration and environment",
    ]  # fmt: skip
    assert page.locator("#nav a").count() == 3
    assert page.locator(".note").count() == 0
    assert ("article (reference)" in page.locator("#top").inner_text()) == is_reference
    assert "It has none." in page.locator("#top").inner_text()


def test_a_table_that_is_wider_than_the_window_says_so(visit: Any, small: str) -> None:
    page = visit(small, viewport={"width": 375, "height": 800})
    hint = page.locator("#messages .hint")
    assert hint.is_visible()
    assert "scroll sideways" in hint.inner_text()
    page.locator("#messages .scroll").evaluate("(one) => { one.scrollLeft = 9999; }")
    hint.wait_for(state="hidden")
    assert visit(small).locator("#messages .hint").is_hidden()


def test_a_cosine_of_minus_one_is_on_the_axis(visit: Any) -> None:
    rows = [{"batch": b, "box": 1, "cosine": (-1.0) ** b, "norm_ratio": 1.0} for b in range(9)]
    page = visit(report(a_run(oracle=rows)))
    chart = page.locator("#oracles svg[role=img]").first
    assert "−1" in chart.locator("text").all_text_contents()
    lowest = max(float(dot.get_attribute("cy")) for dot in chart.locator("circle").all())
    bottom = max(float(line.get_attribute("y1")) for line in chart.locator("line.grid").all())
    assert lowest == pytest.approx(bottom), "and so are its points"
    assert lowest < 220 - 42


def test_a_part_of_an_epoch_is_a_hollow_point(visit: Any) -> None:
    page = visit(report(a_run(status="interrupted", partial="12 of its 50 batches")))
    assert page.locator("#curves circle.hollow").count() > 0
    text = page.locator("#curves").inner_text()
    assert "29 whole epochs" in text
    assert "Of epoch 30, drawn as a hollow point, there is only 12 of its 50 batches." in text


def test_a_status_that_could_not_be_read_is_told(visit: Any) -> None:
    for status, words in (("simulated", "simulated"), ("summary.json cannot be read", "summary.json cannot be read")):
        assert words in visit(report(a_run(status=status))).locator(".facts").first.inner_text()


def test_a_hundred_thousand_spans_are_drawn_soon_and_zoomed_smoothly(visit: Any) -> None:
    run = a_run(batches=12300)
    assert run["spans"]["count"] > 98_000
    assert run["messages"]["count"] > 98_000
    began = time.perf_counter()
    content = report(run)
    page = visit(content)
    opened = time.perf_counter() - began
    first = page.evaluate("timebox.firstDrawMs")
    page.evaluate("timebox.timeline.setView(0, 1e9)")
    x, y = on_canvas(page, {"x": 600, "y": 100})
    page.mouse.move(x, y)
    page.evaluate(
        "window.ticks = []; requestAnimationFrame(function tick(now) { ticks.push(now); requestAnimationFrame(tick) })"
    )
    drawn = page.evaluate("timebox.timeline.stats().frames")
    began = time.perf_counter()
    wheels = [*[-120] * 45, *[120] * 45, *[-60] * 30]
    for turn in wheels:
        page.mouse.wheel(0, turn)
    for at in range(60):
        page.mouse.wheel(40 if at < 30 else -40, 0)
    spent = time.perf_counter() - began
    stats = page.evaluate("timebox.timeline.stats()")
    ticks = page.evaluate("ticks")
    frames = stats["frames"] - drawn
    rate = (len(ticks) - 1) / (ticks[-1] - ticks[0]) * 1000
    times = stats["times"][-frames:]
    print(
        f"\n{run['spans']['count']:,} spans, {run['messages']['count']:,} messages, {run['waits']['count']:,} waits: "
        f"{len(content) / 1e6:.2f} MB; first draw {first:.0f} ms after navigation began; opened in {opened:.1f} s; "
        f"{len(wheels) + 60} wheel events in {spent:.1f} s: {frames} draws, {rate:.0f} frames a second; "
        f"a draw takes {statistics.median(times):.1f} ms (median), {max(times):.1f} ms at most"
    )
    assert first < 5000
    assert frames > 20
    assert rate > 5


def test_packing_is_quick_and_small() -> None:
    draw = np.random.default_rng(1)
    count = 100_000
    stage = np.sort(draw.integers(1, 4, count))
    began = time.perf_counter()
    times = [("u4", draw.gamma(4, 800, count).astype(np.int64)) for _ in range(4)]
    batch = ("u4", np.arange(count) // 12)
    spans = {
        "stage": ("u2", stage), "action": ("u1", draw.choice([70, 84, 85], count)), "part": ("u1", draw.integers(0, 5, count)),
        "sibling": ("u2", draw.integers(0, 2, count)), "batch": batch, "start": times[0], "took": times[1], "read": batch,
        "changed": ("u1", draw.integers(0, 2, count)),
    }  # fmt: skip
    messages = {"kind": ("u1", draw.integers(0, 7, count)), "batch": batch, "sent": times[2], "hop": times[3]}
    waits = {name: (kind, values[:30_000]) for name, (kind, values) in spans.items()}
    packed = [pack.columns(spans), pack.columns(messages), pack.columns(waits)]
    content = pack.page({"runs": [dict(zip(("spans", "messages", "waits"), packed, strict=True))]})
    print(f"\npacked in {time.perf_counter() - began:.2f} s, {len(content) / 1e6:.2f} MB with random times")
    assert len(content) < 3e6


def test_columns_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="part: 0 to 300 do not fit u1"):
        pack.columns({"part": ("u1", np.array([0, 300]))})
    with pytest.raises(ValueError, match="do not fit f8"):
        pack.columns({"took": ("f8", np.array([2**53 + 1]))})
    with pytest.raises(ValueError, match="different lengths"):
        pack.columns({"a": ("u1", np.zeros(2, int)), "b": ("u1", np.zeros(3, int))})


def test_gaps_begin_anew_with_each_stage() -> None:
    assert pack.gaps([5, 9, 2, 3], [1, 1, 2, 2]).tolist() == [5, 4, 2, 1]
    assert pack.gaps([5, 9, 12]).tolist() == [5, 4, 3]
    assert pack.gaps([]).tolist() == []


def test_a_span_that_32_bits_cannot_hold_is_drawn_where_it_was(visit: Any) -> None:
    long = 6_000_000_000  # 600 s in units of 100 ns
    rows = [
        [
            (1, 70, 0, 0, 0, 0, long, 0, 0),
            (1, 70, 1, 0, 0, 2 * long, 40, 0, 1),
            (1, 70, 0, 0, 1, 2 * long + 70, 9, 1, 0),
        ]
    ]
    names = "stage action part sibling batch start took read changed"
    page = visit(report(a_run(0, 0, spans=columns(names, "u2 u1 u1 u2 u4 f8 f8 u4 u1", rows), stats=None)))
    spans = page.evaluate(
        "[0, 1, 2].map((at) => timebox.timeline.span(at)).map(({ begin, finish }) => [begin, finish])"
    )
    assert spans == [
        [0, 600_000],
        [1_200_000, pytest.approx(1_200_000.004)],
        pytest.approx([1_200_000.007, 1_200_000.0079]),
    ]


def test_the_wheel_zooms_around_the_pointer_and_a_drag_pans(visit: Any, small: str) -> None:
    page = visit(small)
    start, end = view(page)
    page.mouse.move(*on_canvas(page, {"x": 600, "y": 100}))
    held = page.evaluate("timebox.timeline.momentAt(600)")
    page.mouse.wheel(0, -300)
    page.wait_for_function(f"timebox.timeline.view().end - timebox.timeline.view().start < {(end - start) * 0.9}")
    assert page.evaluate("timebox.timeline.momentAt(600)") == pytest.approx(held, abs=(end - start) / 500)
    start, end = view(page)
    page.mouse.down()
    page.mouse.move(*on_canvas(page, {"x": 500, "y": 100}), steps=4)
    page.mouse.up()
    assert view(page)[0] > start
    page.locator("canvas.overview").click(position={"x": 200, "y": 10})
    assert view(page)[0] < start


def test_a_finger_pans_and_two_fingers_zoom(visit: Any, small: str) -> None:
    page = visit(small, has_touch=True, viewport={"width": 375, "height": 800})
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *xs: float) -> None:
        places = [on_canvas(page, {"x": x, "y": 60}) for x in xs]
        points = [{"x": x, "y": y, "id": at} for at, (x, y) in enumerate(places)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    start, end = view(page)
    touch("touchStart", 200)
    for x in range(195, 150, -5):
        touch("touchMove", x)
    touch("touchEnd")
    panned = view(page)
    assert panned[0] > start
    assert panned[1] - panned[0] == pytest.approx(end - start)
    touch("touchStart", 180, 220)
    for away in range(5, 50, 5):
        touch("touchMove", 180 - away, 220 + away)
    touch("touchEnd")
    zoomed = view(page)
    assert zoomed[1] - zoomed[0] < (end - start) * 0.6
    assert panned[0] < zoomed[0] < zoomed[1] < panned[1]


def test_hovering_tells_what_lies_there(visit: Any, small: str) -> None:
    page = visit(small)
    page.get_by_label("batch, 0 to 29").fill("17")
    page.get_by_role("button", name="Go to batch").click()
    view(page)
    found = page.evaluate("""(() => {
        const all = { span: null, wait: null, message: null };
        const box = document.querySelector("canvas.lanes").getBoundingClientRect();
        for (let y = 20; y < box.height; y += 3) for (let x = 90; x < box.width; x += 2) {
            const hit = timebox.timeline.hit(x, y);
            if (hit && !(hit.type === "span" && hit.title !== "U2.17 apply")) all[hit.type] ??= { x, y, ...hit };
        }
        return all;
    })()""")
    for kind, words in (("span", "U2.17 apply"), ("wait", "waits for"), ("message", "hop")):
        page.mouse.move(*on_canvas(page, found[kind]))
        page.locator(".tooltip").wait_for()
        text = page.locator(".tooltip").inner_text()
        assert words in text
        assert all(value in text for _, value in filter(None, found[kind]["rows"]))
    assert ["version", "17 → 18"] in found["span"]["rows"]


def test_the_keyboard_pans_zooms_steps_and_helps(visit: Any, small: str) -> None:
    page = visit(small)
    page.locator("canvas.lanes").focus()
    whole = page.evaluate("timebox.timeline.view()")
    page.keyboard.press("+")
    start, end = view(page)
    page.keyboard.press("ArrowRight")
    assert view(page)[0] > start
    page.keyboard.press("ArrowLeft")
    assert view(page) == pytest.approx((start, end))
    before = page.evaluate("timebox.timeline.focus().batch")
    page.keyboard.press("n")
    assert page.evaluate("timebox.timeline.focus().batch") == before + 1
    page.keyboard.press("p")
    page.keyboard.press("p")
    assert page.evaluate("timebox.timeline.focus().batch") == before - 1
    page.keyboard.press("?")
    assert page.locator(".keys").is_visible()
    page.keyboard.press("Escape")
    assert page.evaluate("timebox.timeline.focus()") is None
    page.keyboard.press("Home")
    start, end = view(page)
    assert start <= 0
    assert end - start > whole["end"] - whole["start"]


def test_going_to_a_batch_marks_all_its_numbered_steps(visit: Any, small: str) -> None:
    page = visit(small)
    page.get_by_label("batch, 0 to 29").fill("21")
    page.keyboard.press("Enter")
    focus = page.evaluate("timebox.timeline.focus()")
    assert (focus["batch"], sorted(focus["steps"])) == (21, [1, 2, 3, 4, 5, 6, 7, 8])
    numbers = page.locator("#timeline-batch tbody th").all_text_contents()
    assert sorted(map(int, numbers)) == [1, 2, 3, 4, 5, 6, 7, 8]
    start, end = view(page)
    spans = page.evaluate("timebox.timeline.focus().spans.map((at) => timebox.timeline.span(at))")
    assert all(start <= span["begin"] < span["finish"] <= end for span in spans if span["step"])


def test_several_runs_are_compared_and_switched(visit: Any) -> None:
    free = a_run(run="free-run", name="free", schedule="decoupled", config={"model": {"width": 64}}, batches=9)
    page = visit(report(a_run(), free))
    assert "Runs side by side" in page.locator("h2").all_text_contents()
    assert page.locator("#comparison .bars").count() == 2
    assert "model.width" in page.locator("#comparison").inner_text()
    page.get_by_role("tab", name="free").click()
    page.get_by_label("batch, 0 to 8").wait_for()
    assert page.url.endswith("#run=free-run")
    page.keyboard.press("ArrowLeft")
    page.get_by_label("batch, 0 to 29").wait_for()
    assert page.get_by_role("tab", selected=True).inner_text() == "20261125-101112-article"
    again = visit(report(a_run(), free), "#run=free-run&at=oracles")
    assert again.get_by_role("tab", selected=True).inner_text() == "free"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1200])
def test_nothing_is_wider_than_the_window(visit: Any, scheme: str, width: int) -> None:
    runs = [a_run(name="a name of some length, of the kind that people give"), a_run(8, 6, run="many")]
    page = visit(report(*runs), viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=width < 400)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    assert overflow(page) <= 0
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    page.emulate_media(media="print")
    assert page.locator(".controls").first.is_hidden()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({**pipeline(3, 0), "steps": []}, id="no-spans"),
        pytest.param({"boxes": 0, "stats": None}, id="one-stage"),
        pytest.param({"boxes": 39, "batches": 4}, id="forty-stages"),
        pytest.param(
            {
                "epochs": [
                    {"epoch": 1, "cost": None},
                    {"epoch": 2, "cost": float("nan"), "test_cost": None, "accuracy": None},
                ]
            },
            id="no-costs",
        ),
        pytest.param(
            {
                "epochs": [],
                "oracle": [],
                "predictions": None,
                "stats": None,
                "summary": {},
                "environment": {},
                "config": {},
            },
            id="nothing",
        ),
        pytest.param(
            {
                "stats": {"stages": [], "messages": [], "critical_path": None, "tracing": None},
                "summary": None,
                "warnings": [],
            },
            id="little",
        ),
        pytest.param(
            {"predictions": {"pixels": "", "labels": [], "predictions": [], "places": [], "total": 0, "right": 0}},
            id="no-digits",
        ),
        pytest.param(
            {"config": {ODD: {ODD: ODD}}, "name": ODD, "error": ODD, "warnings": [ODD], "status": "failed"},
            id="odd-text",
        ),
        pytest.param({"oracle": [{"batch": 3, "box": 1, "cosine": None, "norm_ratio": 0.0}]}, id="no-cosine"),
        pytest.param({"spans": {**pipeline(3, 4)["spans"], "data": "H4sIAAAA"}}, id="damaged"),
        pytest.param({"batches": 1, "steps": []}, id="one-batch"),
    ],
)
def test_an_odd_run_breaks_nothing(visit: Any, changes: dict[str, Any]) -> None:
    page = visit(report(a_run(**changes)))
    assert page.locator("h2").count() == 9
    assert page.evaluate("window.broken") is None
    assert overflow(page) <= 0
    if changes.get("name"):
        assert page.locator("h1").inner_text().startswith(ODD)


def test_a_report_of_no_run_says_so(visit: Any) -> None:
    assert "holds no run" in visit(report()).locator("main").inner_text()


def test_a_browser_that_cannot_inflate_is_told(visit: Any, small: str) -> None:
    page = visit(small.replace('typeof DecompressionStream === "function"', "false"), bypass_csp=True)
    assert "has no DecompressionStream" in page.locator("#timeline").inner_text()


def test_a_notebook_has_the_whole_page_in_a_frame_that_cannot_reach_it(
    browser: Any, small: str, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(small, encoding="utf-8")
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><p>a cell</p>{Page(path, 700)._repr_html_()}", encoding="utf-8")
    page.goto(notebook.as_uri())
    frame = page.frame_locator("iframe")
    frame.get_by_role("spinbutton", name="batch").fill("7")
    frame.get_by_role("button", name="Go to batch").click()
    frame.get_by_text("Batch 7: ").wait_for()
    frame.get_by_role("link", name="Predictions").click()
    frame.locator("#predictions:focus").wait_for()
    assert page.frames[1].evaluate("window.origin") == "null"
    assert complaints == []
    page.close()
    assert repr(Page(path, 700)) == f"<{path}: open it in a browser>"
