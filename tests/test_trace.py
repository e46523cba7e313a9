"""Journal and spans on disk: what is written is read, damage is told, and a torn end costs the end alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from network import Network, make_plan, run_hostile

from pipeline.actions import Action, Part
from pipeline.errors import RunError
from pipeline.trace import LOT, PARTS, Span, Writer, read_header, read_journal, read_spans

RECORD = 32


def write_run(folder: Path, stage: str = "box-2") -> tuple[list[Action], list[Span]]:
    """Write what a stage did in a run and return it."""
    network = Network(make_plan("decoupled", boxes=2, batches=12, epoch_batches=4))
    run_hostile(network, seed=1)
    watcher = network.watchers[network.plan.number(stage)]
    writer = Writer(folder, stage, {"mono_ns": 10, "wall_ns": 20})
    spans = []
    for at, (action, part) in enumerate(watcher.parts):
        start, end = 2**40 + 1000 * at, 2**40 + 1000 * at + 999
        writer.span(action, part, start, end)
        spans.append(Span(stage, action, part.name, part.read, part.written, start, end))
    for action in watcher.journal:
        writer.journal(action)
    writer.close()
    return watcher.journal, spans


@pytest.mark.parametrize("stage", ["box-1", "head"])
def test_what_is_written_is_read(tmp_path: Path, stage: str) -> None:
    journal, spans = write_run(tmp_path, stage)
    assert read_journal(tmp_path, stage) == journal
    assert list(read_spans(tmp_path, stage)) == spans
    header = read_header(tmp_path, stage)
    assert header["stage"] == stage
    assert (header["mono_ns"], header["wall_ns"]) == (10, 20)


def test_every_part_and_the_largest_numbers_survive(tmp_path: Path) -> None:
    rng = random.Random(0)
    writer = Writer(tmp_path, "box-1", {})
    spans = []
    for name in PARTS:
        for most in (1, 2**32 - 1):
            action = Action(rng.choice("FBTUE"), rng.randint(0, most), rng.randint(0, min(most, 2**16 - 1)))
            span = Span("box-1", action, name, rng.randint(0, most), most, 2**62, 2**63 - 1)
            writer.span(action, Part(name, span.read, span.written), span.start_ns, span.end_ns)
            spans.append(span)
    writer.close()
    assert list(read_spans(tmp_path, "box-1")) == spans


def test_records_are_in_the_file_when_a_lot_has_gathered_or_the_writer_is_told(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "box-1", {})
    action, part = Action("F", 0), Part("forward", 0, 0)
    writer.span(action, part, 1, 2)
    writer.journal(action)
    writer.flush()
    assert len(list(read_spans(tmp_path, "box-1"))) == 1
    assert read_journal(tmp_path, "box-1") == [action]
    for _ in range(LOT // RECORD):
        writer.span(action, part, 1, 2)
        writer.journal(action)
    assert len(list(read_spans(tmp_path, "box-1"))) == 1 + LOT // RECORD
    assert len(read_journal(tmp_path, "box-1")) == 1 + LOT // RECORD
    writer.close()


def test_spans_are_read_up_to_the_last_whole_record(tmp_path: Path) -> None:
    _, spans = write_run(tmp_path)
    path = tmp_path / "trace" / "box-2.spans"
    content = path.read_bytes()
    start = content.index(b"\n") + 1
    for size in range(start, len(content), 7):
        path.write_bytes(content[:size])
        assert list(read_spans(tmp_path, "box-2")) == spans[: (size - start) // RECORD]


def test_a_torn_journal_is_read_up_to_its_last_whole_lot(tmp_path: Path) -> None:
    """Cut anywhere, it gives the run's first actions: F12 that is cut to F1 is an action that was never taken."""
    journal, _ = write_run(tmp_path)
    path = tmp_path / "journal" / "box-2.txt"
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        found = read_journal(tmp_path, "box-2")
        assert found == journal[: len(found)], content[:size]


@pytest.mark.parametrize("read", [read_header, lambda folder, stage: list(read_spans(folder, stage)), read_journal])
def test_a_missing_file_is_told(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(RunError, match=r"box-7\.\w+: cannot read the (trace|journal): No such file"):
        read(tmp_path, "box-7")


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"not json\n", b"[]\n", b"7\n", b'"format"\n', b"{}\n", b'{"format": "timebox-spans-0"}\n', b"\xff\xfe\n"],
    ids=repr,
)  # fmt: skip
def test_a_damaged_header_is_told(tmp_path: Path, line: bytes) -> None:
    write_run(tmp_path)
    path = tmp_path / "trace" / "box-2.spans"
    path.write_bytes(line + path.read_bytes().partition(b"\n")[2] if line else b"")
    with pytest.raises(RunError, match=r"box-2\.spans: not a trace of this version"):
        read_header(tmp_path, "box-2")
    with pytest.raises(RunError, match="not a trace of this version"):
        list(read_spans(tmp_path, "box-2"))


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    write_run(tmp_path)
    path = tmp_path / "trace" / "box-2.spans"
    content = bytearray(path.read_bytes())
    content[content.index(b"\n") + 2] = 99
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"box-2\.spans: damaged: it has a part with number 99"):
        list(read_spans(tmp_path, "box-2"))


@pytest.mark.parametrize("content", [b"F0 T0 X9\n", b"F0 T\n", b"F0 \xff\xfe\n"], ids=repr)
def test_a_damaged_journal_is_told_with_its_file(tmp_path: Path, content: bytes) -> None:
    write_run(tmp_path)
    (tmp_path / "journal" / "box-2.txt").write_bytes(content)
    with pytest.raises(RunError, match=r"box-2\.txt"):
        read_journal(tmp_path, "box-2")


@pytest.mark.parametrize(
    ("action", "read", "written", "is_update"),
    [("F", 3, 4, True), ("F", 3, 3, False), ("U", 3, 4, True), ("B", 3, 4, True), ("B", 3, 3, False), ("T", 0, 1, False)],
)  # fmt: skip
def test_an_update_changes_the_weights_that_the_forward_reads(
    action: str, read: int, written: int, is_update: bool
) -> None:
    assert Span("box-1", Action(action, 0), "update", read, written, 0, 1).is_update == is_update
