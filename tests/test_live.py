"""Runs as real processes: the same bits as the reference, the order in logs and diagrams, and what a run leaves behind."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from launch import Config, Data, Log, Model, Oracle, Result, Run, Schedule, Train, Transport, run
from launch.cli import main
from pipeline import mnist
from pipeline.actions import Action, Message, Part, parse_journal
from pipeline.arrays import Array, Weights
from pipeline.box import BoxWork
from pipeline.config import load
from pipeline.data import Batches
from pipeline.data import load as load_data
from pipeline.drive import advance
from pipeline.head import HeadWork
from pipeline.plan import Plan
from pipeline.schedules import Program
from pipeline.sizes import box_steps
from pipeline.stage import Stage
from pipeline.trace import Span, read_journal, read_spans

pytestmark = [pytest.mark.live, pytest.mark.patient]

#: The original's steps of one batch: number, worker, action, part.
EIGHT_STEPS = [
    (1, "box-1", "F", "forward"),
    (2, "box-1", "F", "update"),
    (3, "box-2", "F", "forward"),
    (4, "box-2", "F", "update"),
    (5, "box-1", "T", "train"),
    (6, "head", "F", "forward"),
    (7, "head", "F", "update"),
    (8, "box-2", "T", "train"),
]
WORKERS = ("box-1", "box-2", "head")


class Case(NamedTuple):
    """What the bits of a program may not depend on, and what they do."""

    kind: str
    tied: bool
    boxes: int
    transport: str

    def __str__(self) -> str:
        return f"{self.kind}-{'tied' if self.tied else 'untied'}-{self.boxes}-{self.transport}"


#: Every value of a factor meets every value of every other one; the preset's own combination comes first.
COVERING = [
    Case("article", True, 2, "ipc"),
    Case("article", True, 1, "ipc"),
    Case("locked", False, 1, "tcp"),
    Case("article", False, 2, "tcp"),
    Case("locked", True, 2, "ipc"),
    Case("article", True, 4, "tcp"),
    Case("locked", False, 4, "ipc"),
    Case("article", False, 7, "ipc"),
    Case("locked", True, 7, "tcp"),
]
ALL = [Case(*each) for each in itertools.product(("article", "locked"), (True, False), (1, 2, 4, 7), ("ipc", "tcp"))]


def small(
    folder: Path,
    *,
    kind: str = "article",
    tied: bool = True,
    boxes: int = 2,
    transport: str = "ipc",
    window: int | None = None,
    target: str = "bootstrapped",
    epochs: int = 2,
    train: int = 12,
    batch: int = 1,
    name: str = "",
) -> Config:
    """Return a configuration that trains in well under a second once its processes are up."""
    return Config(
        model=Model(width=16, boxes=boxes, tied=tied, init=3.0),
        oracle=Oracle(target=target),
        data=Data(train=train, test=6, batch=batch),
        train=Train(epochs=epochs),
        schedule=Schedule(kind=kind, window=window),
        transport=Transport(kind=transport),
        log=Log(level="info"),
        run=Run(dir=str(folder), name=name, plot=False),
    )


def timebox(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a process of its own."""
    command = [sys.executable, "-m", "launch", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def ask(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """Return what a command prints that only looks at runs."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def ask_json(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    """Return the one document that a command prints."""
    document = json.loads(ask(capsys, *words, "--json"))
    assert isinstance(document, dict)
    return document


def spans_of(result: Result, stage: str) -> list[Span]:
    return list(read_spans(result.folder, stage))


def assert_same_bits(one: Result, other: Result) -> None:
    """Compare digests, then every array of every stage byte by byte."""
    assert one.digest is not None
    assert one.digest == other.digest
    files = {path.name for path in (one.folder / "checkpoint" / "final").iterdir()}
    assert files == {path.name for path in (other.folder / "checkpoint" / "final").iterdir()}
    for name in files:
        with (
            np.load(one.folder / "checkpoint" / "final" / name) as these,
            np.load(other.folder / "checkpoint" / "final" / name) as those,
            np.load(one.folder / "checkpoint" / "initial" / name) as first,
        ):
            assert these.files == those.files
            for key in these.files:
                assert these[key].dtype == those[key].dtype
                assert these[key].tobytes() == those[key].tobytes(), f"{name}: {key}"
            assert any(these[key].tobytes() != first[key].tobytes() for key in these.files), f"{name} learnt nothing"


# Runs that several tests look at; none of them changes one.


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, str]:
    """Preset `article`, made smaller by flags, and what `timebox run` printed of it."""
    folder = tmp_path_factory.mktemp("article")
    ended = timebox("run", "--model.width", 32, "--train.epochs", 3, "--run.dir", folder, "--run.plot", "false")
    assert ended.returncode == 0, ended.stderr
    assert all(line.startswith("of 150 batches: ") for line in ended.stderr.splitlines()), (
        "but for progress, if it is slow"
    )
    summary = json.loads((folder / "latest" / "summary.json").read_text())
    return Result((folder / "latest").resolve(), summary), ended.stdout


@pytest.fixture(scope="module")
def article(printed: tuple[Result, str]) -> Result:
    return printed[0]


@pytest.fixture(scope="module")
def decoupled(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("decoupled")
    return run(small(folder, kind="decoupled", epochs=4, train=50, name="greedy"))


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(small(tmp_path_factory.mktemp("locked"), kind="locked", epochs=2, train=50))


# The bits


@pytest.mark.parametrize("case", ALL if os.environ.get("TIMEBOX_ALL") == "1" else COVERING, ids=str)
def test_programs_across_processes_equal_the_reference_bit_for_bit(case: Case, tmp_path: Path) -> None:
    # Batches of 5 from 12 images: the last one of an epoch is smaller.
    config = small(
        tmp_path, kind=case.kind, tied=case.tied, boxes=case.boxes, transport=case.transport, batch=5, epochs=3
    )
    live, reference = run(config), run(config, reference=True)
    assert live.document["reference"] is False
    assert reference.document["reference"] is True
    assert len(live.document["stages"]) == case.boxes + 1
    assert len({stage["pid"] for stage in live.document["stages"]}) == case.boxes + 1
    assert_same_bits(live, reference)
    assert live.metrics == reference.metrics
    tables = [(each.folder / "metrics" / "predictions.csv").read_bytes() for each in (live, reference)]
    assert tables[0] == tables[1]


def test_true_targets_across_processes_equal_the_reference_bit_for_bit(tmp_path: Path) -> None:
    config = small(tmp_path, target="true")
    assert_same_bits(run(config), run(config, reference=True))


@pytest.mark.parametrize("kind", ["article", "locked"])
def test_ten_digits_read_by_rows_in_uneven_boxes_equal_the_reference(kind: str, tmp_path: Path) -> None:
    config = Config(
        model=Model(width=16, boxes=3, loss="softmax"),
        data=Data(name="mnist", reading="rows", train=20, test=10, batch=8),
        train=Train(epochs=2),
        schedule=Schedule(kind=kind),
        run=Run(dir=str(tmp_path), plot=False),
    )
    assert box_steps(config) == (10, 9, 9)
    live = run(config)
    assert_same_bits(live, run(config, reference=True))
    rows = predictions(live)
    assert len(rows) == 10
    assert {int(row["label"]) for row in rows} - {0, 1}
    for row in rows:
        outputs = [float(row[f"output_{digit}"]) for digit in range(10)]
        assert sum(outputs) == pytest.approx(1.0, abs=1e-5)
        assert int(row["prediction"]) == int(np.argmax(outputs))


@pytest.mark.parametrize("kind", ["article", "locked"])
def test_the_published_width_equals_the_reference(kind: str, tmp_path: Path) -> None:
    """At width 784 a step of one digit passes over the pixels that are zero, and goes through the others in blocks."""
    config = Config(
        model=Model(init=3.0),
        data=Data(train=12),
        train=Train(epochs=2),
        schedule=Schedule(kind=kind),  # type: ignore[arg-type]
        run=Run(dir=str(tmp_path), plot=False),
    )
    assert_same_bits(run(config), run(config, reference=True))


def test_a_run_imports_nothing_from_the_users_folder(tmp_path: Path) -> None:
    """Somebody's own folder called pipeline once took the place of ours in every worker."""
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise RuntimeError('not ours')")
    (tmp_path / "msgpack.py").write_text("raise RuntimeError('not ours')")
    words = ["run", "--model.width", "8", "--train.epochs", "1", "--run.plot", "false", "--json"]
    root = str(Path(__file__).parents[1])
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "launch", *words],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["status"] == "done"


def test_live_equals_live(tmp_path: Path) -> None:
    one, other = run(small(tmp_path)), run(small(tmp_path))
    assert one.folder != other.folder
    assert one.journal == other.journal
    assert_same_bits(one, other)


def test_another_seed_gives_other_bits(article: Result, tmp_path: Path) -> None:
    config = load(article.folder / "config.toml")
    other = msgspec.structs.replace(
        config,
        train=msgspec.structs.replace(config.train, seed=1),
        run=Run(dir=str(tmp_path), plot=False),
    )
    assert run(other, reference=True).digest != article.digest


def test_a_run_from_its_own_config_file_repeats_the_bits(article: Result) -> None:
    ended = timebox("run", "--config", article.folder / "config.toml", "--json")
    document = json.loads(ended.stdout)
    again = Result(Path(document["folder"]), document)
    assert again.folder != article.folder
    assert (again.folder / "config.toml").read_text() == (article.folder / "config.toml").read_text()
    assert_same_bits(again, article)


def test_the_console_script_and_the_module_are_the_same_command(article: Result, tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("timebox")
    assert script.is_file(), "the package's console script is not installed beside this Python"
    words = ["run", "--model.width", "32", "--train.epochs", "3", "--run.dir", str(tmp_path), "--run.plot", "false"]
    ended = subprocess.run([script, *words, "--json"], capture_output=True, text=True, timeout=60, check=True)
    document = json.loads(ended.stdout)
    assert_same_bits(Result(Path(document["folder"]), document), article)
    assert document.keys() == article.document.keys()


# A greedy run's numbers are those of the replay of its journal


class Port:
    """A stage's end of edges that are queues in this process."""

    def __init__(self, number: int, inboxes: dict[int, deque[tuple[Message, tuple[Array, ...]]]]) -> None:
        self.number = number
        self.inboxes = inboxes

    def arrived(self) -> Iterator[tuple[Message, tuple[Array, ...]]]:
        while self.inboxes[self.number]:
            yield self.inboxes[self.number].popleft()

    def send(self, message: Message, arrays: tuple[Array, ...]) -> None:
        self.inboxes[message.target].append((message, arrays))


class Unwatched:
    """Sees nothing: the replay has no clock and keeps no trace."""

    def begin(self, action: Action) -> None: ...
    def part(self, action: Action, part: Part) -> None: ...
    def end(self, action: Action) -> None: ...


def replay(result: Result) -> dict[str, Weights]:
    """Do again in this process what a run's journals tell, and return each stage's final weights."""
    config = load(result.folder / "config.toml")
    plan, batches = Plan.of(config), Batches(config, load_data(config.data))
    inboxes: dict[int, deque[tuple[Message, tuple[Array, ...]]]] = {k: deque() for k in range(1, plan.head + 1)}
    works: dict[int, BoxWork | HeadWork] = {k: BoxWork(config, plan, k, batches) for k in range(1, plan.head)}
    works[plan.head] = HeadWork(config, plan, batches)
    stages = {k: Stage(plan, k) for k in works}
    programs = {k: Program(result.journal[plan.name(k)]) for k in works}
    while not all(stage.is_done for stage in stages.values()):
        waiting = [stage for stage in stages.values() if not stage.is_done]
        moved = [
            advance(stage, programs[stage.number], Port(stage.number, inboxes), works[stage.number], Unwatched())
            for stage in waiting
        ]
        assert any(moved), "\n".join(f"{stage.name}: {stage.story()}" for stage in waiting)
    return {plan.name(k): work.weights() for k, work in works.items()}


@pytest.mark.parametrize(
    ("transport", "tied", "window"), [("ipc", True, 4), ("ipc", False, 1), ("tcp", True, 1), ("tcp", False, 4)]
)
def test_replaying_the_journals_of_a_decoupled_run_gives_its_bits(
    transport: str, tied: bool, window: int, tmp_path: Path
) -> None:
    result = run(small(tmp_path, kind="decoupled", tied=tied, transport=transport, window=window, batch=5, epochs=12))
    again = replay(result)
    assert again.keys() == result.weights.keys()
    for stage, weights in again.items():
        assert weights.keys() == result.weights[stage].keys()
        for name, array in weights.items():
            assert array.tobytes() == result.weights[stage][name].tobytes(), f"{stage}: {name}"


def test_a_decoupled_run_keeps_its_window_and_settles_each_batch_once(decoupled: Result) -> None:
    window = load(decoupled.folder / "config.toml").schedule.window
    assert window == 2 * 3
    for stage in ("box-1", "box-2"):
        forwarded, settled, most = 0, 0, 0
        for action in decoupled.journal[stage]:
            forwarded += action.kind == "F"
            settled += action.kind == "T"
            most = max(most, forwarded - settled)
        assert (forwarded, settled) == (200, 200)
        assert most <= window


# Overlap


def overlaps(result: Result) -> float:
    """Return the share of batches whose successor box 1 began before the head had finished them."""
    begins = {span.action.batch: span.start_ns for span in spans_of(result, "box-1") if span.part == "forward"}
    ends = {span.action.batch: span.end_ns for span in spans_of(result, "head") if span.part == "update"}
    assert begins.keys() == ends.keys()
    assert len(begins) >= 100
    early = [begins[batch + 1] < ends[batch] for batch in ends if batch + 1 in begins]
    return sum(early) / len(early)


def test_decoupled_boxes_go_on_before_the_head_has_finished_most_batches(decoupled: Result) -> None:
    assert overlaps(decoupled) > 0.5


def test_locked_boxes_never_go_on_before_the_head_has_finished(locked: Result) -> None:
    assert overlaps(locked) == 0.0


# The workers' own logs


def log_lines(result: Result, stage: str) -> list[dict[str, Any]]:
    lines = (result.folder / "logs" / f"{stage}.log").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("stage", WORKERS)
def test_each_workers_log_has_one_line_for_each_span(stage: str, article: Result) -> None:
    told = [line for line in log_lines(article, stage) if line["level"] == "action"]
    spans = spans_of(article, stage)
    assert [
        (line["action"], line["part"], line.get("batch", line.get("evaluation")), line["read"], line["written"])
        for line in told
    ] == [(str(span.action), span.part, span.action.batch, span.read, span.written) for span in spans]
    assert [line["mono_ns"] for line in told] == [span.end_ns for span in spans]
    for line in told:
        assert next(iter(line)) == "ts"
        assert line["stage"] == stage
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["ts"])
    assert [line["ts"] for line in told] == sorted(line["ts"] for line in told)


def test_sort_alone_merges_the_logs_in_the_order_of_time(article: Result) -> None:
    paths = [str(article.folder / "logs" / f"{name}.log") for name in ("box-1", "box-2", "head")]
    merged = subprocess.run(
        ["sort", "-m", *paths], capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}
    )
    lines = [json.loads(line) for line in merged.stdout.splitlines()]
    assert len(lines) == sum(len(log_lines(article, name)) for name in ("box-1", "box-2", "head"))
    steps = {line["step"]: place for place, line in enumerate(lines) if line.get("batch") == 0 and "step" in line}
    assert steps[1] < steps[2] < steps[3] < steps[4] < steps[6] < steps[7] < steps[8]
    assert steps[4] < steps[5]


def test_the_logs_side_by_side_tell_the_eight_steps_of_every_batch(article: Result) -> None:
    lines = sorted((line for stage in WORKERS for line in log_lines(article, stage)), key=lambda line: line["mono_ns"])
    for batch in range(3 * 50):
        told = [line for line in lines if "step" in line and line.get("batch") == batch and line["action"][0] != "E"]
        named = sorted((line["step"], line["stage"], line["action"][0], line["part"]) for line in told)
        assert named == EIGHT_STEPS
        order = [line["step"] for line in told]
        assert [step for step in order if step <= 4] == [1, 2, 3, 4]
        assert [step for step in order if step >= 6] == [6, 7, 8]
        assert order.index(4) < order.index(5)
        assert order.index(4) < order.index(6)


def test_the_journal_is_the_order_of_the_trace(article: Result, decoupled: Result, locked: Result) -> None:
    for result in (article, decoupled, locked):
        for stage in WORKERS:
            taken = [action for action, _ in itertools.groupby(span.action for span in spans_of(result, stage))]
            assert taken == result.journal[stage]
            times = [time for span in spans_of(result, stage) for time in (span.start_ns, span.end_ns)]
            assert times == sorted(times)


# timebox order


class Drawn(NamedTuple):
    """One line of the diagram."""

    step: int | None
    begins: str
    took: str
    stage: str
    action: str
    part: str
    mark: str


def parse_diagram(text: str) -> list[Drawn]:
    """Return the rows of a drawn diagram, with lanes or with a column of workers."""
    lines = text.splitlines()
    header = next(line for line in lines if line.lstrip().startswith("step "))
    lanes = {header.index(name): name for name in WORKERS if name in header}
    rows = []
    for line in lines[lines.index(header) + 1 :]:
        match = re.fullmatch(r" +(\d+|·) +(\d+\.\d{3}) +(\d+\.\d{3})  (.*)", line)
        if match is None:
            break
        number, begins, took, rest = match.groups()
        if lanes:
            words = rest.split()
            stage = lanes[line.index(words[0], match.start(4))]
        else:
            stage, *words = rest.split()
        mark = words[2] if len(words) > 2 else ""
        rows.append(Drawn(None if number == "·" else int(number), begins, took, stage, words[0], words[1], mark))
    return rows


def expected_mark(span: Span, forward_end_ns: int) -> str:
    """Mark a change of weights that had ended, or begun, before the forward pass had ended."""
    if span.written == span.read or span.start_ns >= forward_end_ns:
        return ""
    return "★" if span.end_ns <= forward_end_ns else "☆"


def assert_diagram_is_the_trace(result: Result, rows: list[dict[str, Any]], drawn: list[Drawn], batch: int) -> None:
    """Hold every row against the spans that the workers recorded."""
    spans = {(s.stage, str(s.action), s.part): s for stage in WORKERS for s in spans_of(result, stage)}
    end = spans["head", f"F{batch}", "forward"].end_ns
    zero = rows[0]["start_ns"]
    assert [row["start_ns"] for row in rows] == sorted(row["start_ns"] for row in rows)
    assert len(drawn) == len(rows)
    for row, line in zip(rows, drawn, strict=True):
        span = spans[row["stage"], row["action"], row["part"]]
        assert (row["start_ns"], row["end_ns"]) == (span.start_ns, span.end_ns)
        assert (row["read"], row["written"]) == (span.read, span.written)
        assert row["batch"] == span.action.batch
        mark = expected_mark(span, end) if row["step"] else ""
        assert row["before_forward_end"] == (mark == "★")
        assert line == Drawn(
            row["step"],
            f"{(span.start_ns - zero) / 1e6:.3f}",
            f"{(span.end_ns - span.start_ns) / 1e6:.3f}",
            row["stage"],
            row["action"],
            row["part"],
            mark,
        )


@pytest.mark.parametrize("columns", ["80", "140"])
@pytest.mark.parametrize("batch", [0, 77])
@pytest.mark.parametrize("schedule", ["article", "decoupled"])
def test_order_draws_the_eight_steps_as_they_happened(
    schedule: str,
    batch: int,
    columns: str,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    result: Result = request.getfixturevalue(schedule)
    words = ["order", result.folder.name, "--batch", str(batch), "--run.dir", result.folder.parent]
    text, document = ask(capsys, *words), ask_json(capsys, *words)
    assert document.keys() >= {"run", "schedule", "batch", "forward_end_ns", "rows", "left_out"}
    assert (document["run"], document["schedule"], document["batch"]) == (result.folder.name, schedule, batch)
    rows = document["rows"]
    numbered = {row["step"]: row for row in rows if row["step"]}
    assert [(n, row["stage"], row["action"][0], row["part"]) for n, row in sorted(numbered.items())] == EIGHT_STEPS
    assert {row["batch"] for row in numbered.values()} == {batch}
    drawn = parse_diagram(text)
    assert_diagram_is_the_trace(result, rows, drawn, batch)
    early = {row.step for row in drawn if row.mark == "★"}
    assert early >= {2, 4}
    assert not early & {1, 3, 6, 7, 8}
    listed = ", ".join(str(step) for step in [row.step for row in drawn if row.mark == "★"])
    assert f"weights that had changed before that: steps {listed}" in text
    assert all(len(line) <= int(columns) for line in text.splitlines() if not line.startswith(("  ★", "batch")))


def test_order_shows_other_batches_in_the_midst_of_a_decoupled_one(
    decoupled: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = set()
    for batch in range(10, 200, 10):
        rows = ask_json(capsys, "order", decoupled.folder, "--batch", str(batch))["rows"]
        if {row["batch"] for row in rows if row["action"][0] == "F"} - {batch}:
            seen.add(batch)
    assert len(seen) > 10


def test_order_of_a_locked_run_has_no_update_before_the_forward_pass_has_ended(
    locked: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    for batch in (0, 77):
        text = ask(capsys, "order", locked.folder, "--batch", str(batch))
        document = ask_json(capsys, "order", locked.folder, "--batch", str(batch))
        drawn = parse_diagram(text)
        assert_diagram_is_the_trace(locked, document["rows"], drawn, batch)
        assert "★" not in text
        assert "By this batch no weight had changed before that." in text
        steps = sorted((row.step, row.stage, row.action[0], row.part) for row in drawn if row.step)
        assert steps[:4] == [
            (1, "box-1", "F", "forward"),
            (2, "box-2", "F", "forward"),
            (3, "head", "F", "forward"),
            (4, "head", "F", "update"),
        ]
        assert [(stage, kind) for _, stage, kind, _ in steps[4:]] == [
            ("box-2", "B"),
            ("box-1", "B"),
            ("box-1", "U"),
            ("box-2", "U"),
        ]


@pytest.mark.parametrize("batch", ["150", "-1", "100000"])
def test_order_refuses_a_batch_that_the_run_has_not(
    batch: str, article: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["order", str(article.folder), f"--batch={batch}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "--batch" in err
    assert "150 batches" in err
    assert err.count("\n") == 1


def test_order_of_a_reference_says_that_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(small(tmp_path, epochs=1), reference=True)
    assert main(["order", str(result.folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "no trace" in err
    assert err.count("\n") == 1


# What a run leaves behind


def predictions(result: Result) -> list[dict[str, str]]:
    with (result.folder / "metrics" / "predictions.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("name", ["article", "decoupled"])
def test_each_test_images_prediction_stands_beside_its_label(name: str, request: pytest.FixtureRequest) -> None:
    result: Result = request.getfixturevalue(name)
    config = load(result.folder / "config.toml")
    rows = predictions(result)
    assert len(rows) == config.data.test
    assert len({row["image"] for row in rows}) == config.data.test
    images = gzip.decompress((mnist.PACKAGED / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((mnist.PACKAGED / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    one, two, head = (result.weights[stage] for stage in WORKERS)
    for row in rows:
        place = int(row["image"])
        assert int(row["label"]) == labels[place]
        x = np.frombuffer(images, np.uint8, 784, place * 784).astype(np.float32) / 255
        h = np.tanh(x @ two["Wx"] + np.tanh(x @ one["Wx"]) @ two["Wrec"])
        y_hat = 1 / (1 + np.exp(-float((h @ head["Wfc"]).item())))
        assert float(row["output_0"]) == pytest.approx(y_hat, rel=1e-4)
        assert int(row["prediction"]) == (y_hat > 0.5)
        assert row["right"] == ("true" if row["label"] == row["prediction"] else "false")
    assert result.accuracy == sum(row["right"] == "true" for row in rows) / len(rows)


def test_costs_are_there_for_each_epoch_and_fall(article: Result) -> None:
    with (article.folder / "metrics" / "epochs.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["epoch"] for row in table] == ["1", "2", "3"]
    assert [float(row["cost"]) for row in table] == article.costs
    assert [row["epoch"] for row in article.metrics] == [1, 2, 3]
    assert [row["cost"] for row in article.metrics] == article.costs
    assert article.metrics[-1]["accuracy"] == article.accuracy
    assert all(0 <= row["accuracy"] <= 1 and row["test_cost"] > 0 for row in article.metrics)
    assert article.costs[-1] < article.costs[0]


def test_the_terminal_shows_costs_predictions_and_digest(printed: tuple[Result, str]) -> None:
    result, text = printed
    rows = predictions(result)
    right = sum(row["right"] == "true" for row in rows)
    assert f"{right} of {len(rows)} test images right" in text
    for key in ("label", "prediction"):
        assert re.search(rf"^ +{key} +{' '.join(row[key] for row in rows)}$", text, re.MULTILINE)
    for row in result.metrics:
        assert re.search(rf"^ +{row['epoch']} +{row['cost']:.4f} +{row['test_cost']:.4f} ", text, re.MULTILINE)
    assert result.digest is not None
    assert result.digest in text
    assert str(result.folder.name) in text
    assert "3 processes" in text


def test_the_api_gives_journal_weights_and_checkpoints(article: Result) -> None:
    assert list(article.journal) == list(WORKERS)
    plain = (article.folder / "journal" / "box-1.txt").read_text()
    assert article.journal["box-1"] == parse_journal(plain) == read_journal(article.folder, "box-1")
    assert plain.split()[:4] == ["F0", "T0", "U2.0", "F"], "what follows the last of its kind goes without its batch"
    assert [str(action) for action in article.journal["box-2"][:4]] == ["U1.0", "F0", "T0", "U1.1"]
    assert [str(action) for action in article.journal["head"][:3]] == ["F0", "F1", "F2"]
    assert list(article.weights) == list(WORKERS)
    for stage, arrays in {"box-1": {"Wx", "Wrec"}, "box-2": {"Wx", "Wrec"}, "head": {"Wfc"}}.items():
        assert article.weights[stage].keys() >= arrays
        for part in ("initial", "final"):
            with np.load(article.folder / "checkpoint" / part / f"{stage}.npz") as stored:
                assert set(stored.files) == article.weights[stage].keys()
                assert all(np.isfinite(stored[name]).all() for name in stored.files)
    assert article.weights["box-1"]["Wx"].shape == (784, 32)
    assert article.weights["box-1"]["Wx"].tobytes() == article.weights["box-2"]["Wx"].tobytes()


def test_the_folder_tells_what_the_bits_depend_on(article: Result) -> None:
    environment = json.loads((article.folder / "environment.json").read_text())
    assert environment.keys() >= {"python", "packages", "blas", "cores"}
    assert environment["packages"]["numpy"] == np.__version__
    assert environment["blas"]["threads"] == 1


# JSON documents


@pytest.mark.parametrize("reference", [False, True], ids=["live", "reference"])
def test_run_prints_exactly_one_json_document(reference: bool, tmp_path: Path) -> None:
    flags = ["--model.width", 16, "--data.train", 10, "--train.epochs", 2, "--run.dir", tmp_path]
    ended = timebox("run", *flags, *(["--reference"] if reference else []), "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    document = json.loads(ended.stdout)
    keys = {"run", "status", "seconds", "batches_per_s", "accuracy", "costs", "digest", "stages"}
    assert document.keys() >= keys
    assert document["status"] == "done"
    assert (tmp_path / document["run"]).is_dir()
    assert document["seconds"] > 0
    assert document["batches_per_s"] > 0
    assert 0 <= document["accuracy"] <= 1
    assert len(document["costs"]) == 2
    assert re.fullmatch(r"[0-9a-f]{64}", document["digest"])
    assert [stage["name"] for stage in document["stages"]] == (["reference"] if reference else list(WORKERS))
    for stage in document["stages"]:
        assert stage.keys() >= {"name", "pid", "batches", "busy_s"}
        assert stage["batches"] == 20
        assert stage["busy_s"] > 0
        assert stage["pid"] > 0


def test_list_tells_of_every_run(
    article: Result, decoupled: Result, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for result in (article, decoupled):
        listed = ask_json(capsys, "list", "--run.dir", result.folder.parent)["runs"]
        found = next(each for each in listed if each["run"] == result.folder.name)
        assert found.keys() >= {"run", "name", "status", "stages", "resumed_from"}
        assert found["status"] == "done"
        assert found["accuracy"] == result.accuracy
        stages = [(stage["name"], stage["pid"]) for stage in result.document["stages"]]
        assert [(stage["name"], stage["pid"]) for stage in found["stages"]] == stages
        text = ask(capsys, "list", "--run.dir", result.folder.parent)
        row = next(line for line in text.splitlines() if line.startswith(result.folder.name))
        assert result.document["schedule"] in row
        assert row.endswith("done")
    assert ask_json(capsys, "list", "--run.dir", tmp_path / "none") == {"runs": []}
    assert "no runs" in ask(capsys, "list", "--run.dir", tmp_path / "none")


@pytest.mark.parametrize("by", ["name", "id", "path", "latest"])
def test_a_run_is_found_by_name_id_path_and_latest(
    by: str, decoupled: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    word = {"name": "greedy", "id": decoupled.folder.name, "path": str(decoupled.folder), "latest": "latest"}[by]
    document = ask_json(capsys, "order", word, "--run.dir", decoupled.folder.parent)
    assert document["run"] == decoupled.folder.name


# timebox logs


@pytest.mark.parametrize("name", ["article", "decoupled"])
def test_logs_are_one_stream_in_the_order_of_time(
    name: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    result: Result = request.getfixturevalue(name)
    document = ask_json(capsys, "logs", result.folder)
    assert document["run"] == result.folder.name
    lines = document["lines"]
    assert [line["mono_ns"] for line in lines] == sorted(line["mono_ns"] for line in lines)
    assert {line["stage"] for line in lines} == {*WORKERS, "launcher"}
    for stage in WORKERS:
        told = [(line["action"], line["part"]) for line in lines if line["stage"] == stage and "action" in line]
        assert told == [(str(span.action), span.part) for span in spans_of(result, stage)]
    assert len(ask(capsys, "logs", result.folder).splitlines()) == len(lines)


@pytest.mark.parametrize(
    ("flags", "keeps"),
    [
        (["--stage", "box-2"], lambda line: line["stage"] == "box-2"),
        (["--stage", "launcher"], lambda line: line["stage"] == "launcher"),
        (["--batch", "17"], lambda line: line.get("batch") == 17),
        (["--action", "F"], lambda line: line.get("action", "").startswith("F")),
        (["--action", "F1"], lambda line: line.get("action") == "F1"),
        (["--action", "U2.3"], lambda line: line.get("action") == "U2.3"),
        (
            ["--stage", "head", "--batch", "3", "--action", "F"],
            lambda line: line["stage"] == "head" and line.get("action") == "F3",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("name", ["article", "decoupled"])
def test_logs_are_filtered_by_stage_batch_and_action(
    name: str, flags: list[str], keeps: Any, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    result: Result = request.getfixturevalue(name)
    everything = ask_json(capsys, "logs", result.folder)["lines"]
    wanted = [line for line in everything if keeps(line)]
    assert 0 < len(wanted) < len(everything)
    assert ask_json(capsys, "logs", result.folder, *flags)["lines"] == wanted
    assert len(ask(capsys, "logs", result.folder, *flags).splitlines()) == len(wanted)


def test_a_rendered_log_line_tells_worker_action_version_and_step(
    article: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    text = ask(capsys, "logs", article.folder, "--stage", "box-1", "--action", "F0")
    assert [re.sub(r"\S+ ms", "… ms", line.partition(" ")[2].strip()) for line in text.splitlines()] == [
        "box-1  F0     forward         v0    … ms  step 1: h1 = tanh(x Wx)",
        "box-1  F0     update        v0→1    … ms  step 2: update on oracle 1",
    ]


def test_following_a_run_that_has_ended_shows_its_log_and_ends(
    article: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(capsys, "logs", article.folder, "--follow") == ask(capsys, "logs", article.folder)


def test_following_a_run_shows_all_its_lines_while_it_goes_on(tmp_path: Path) -> None:
    flags = ["--model.width", "16", "--train.epochs", "8", "--run.dir", str(tmp_path), "--run.plot", "false"]
    command = [sys.executable, "-m", "launch", "run", *flags, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        while not (tmp_path / "latest" / "logs" / "head.log").is_file():
            assert running.poll() is None
            time.sleep(0.01)
        followed = timebox("logs", "latest", "--follow", "--run.dir", tmp_path, "--stage", "head")
        assert json.loads(running.stdout.read())["status"] == "done"
    assert (followed.returncode, followed.stderr) == (0, "")
    after = timebox("logs", "latest", "--run.dir", tmp_path, "--stage", "head")
    assert sorted(followed.stdout.splitlines()) == sorted(after.stdout.splitlines())
    assert len(after.stdout.splitlines()) > 2 * 8 * 50


# timebox doctor


def test_doctor_finds_this_machine_fit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    checks = ask_json(capsys, "doctor", "--run.dir", tmp_path)["checks"]
    assert all(check.keys() >= {"name", "state", "text"} for check in checks)
    assert {check["state"] for check in checks} <= {"ok", "warning"}
    names = [check["name"] for check in checks]
    assert {"python", "numpy", "pyzmq", "cores", "blas", "sockets", "port", "run folder", "packaged data"} <= {*names}
    text = ask(capsys, "doctor", "--run.dir", tmp_path)
    assert len(text.splitlines()) == len(checks)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "runs"])
def test_doctor_finds_a_run_folder_that_is_a_file(
    below: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("not a folder")
    assert main(["doctor", "--run.dir", str(tmp_path / "taken" / below), "--json"]) == 1
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert [check["name"] for check in checks if check["state"] == "fault"] == ["run folder"]
