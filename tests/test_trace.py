"""Journal and trace on disk: what is written is read, damage is told, and a torn end costs the end alone."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest
from network import Network, make_plan, run_hostile

from pipeline.actions import Action, Part
from pipeline.errors import RunError
from pipeline.recorder import LOT, Recorder
from pipeline.trace import FIELDS, PARTS, Span, read_journal, read_records, read_spans
from pipeline.trace import RECORD as FORM

RECORD = 40


def write_run(folder: Path, stage: str = "box-2") -> tuple[list[Action], list[Span]]:
    """Write what a stage did in a run and return it."""
    network = Network(make_plan("decoupled", boxes=2, batches=12, epoch_batches=4))
    run_hostile(network, seed=1)
    watcher = network.watchers[network.plan.number(stage)]
    writer = Recorder(folder, stage, {"mono_ns": 10, "wall_ns": 20})
    spans = []
    for at, (action, part) in enumerate(watcher.parts):
        start, end = 2**40 + 1000 * at, 2**40 + 1000 * at + 999
        writer.tape.part(action, part, start, end)
        spans.append(Span(stage, action, part.name, part.read, part.written, start, end))
    for action in watcher.journal:
        writer.journal(action, lambda: 2)
    writer.close()
    return watcher.journal, spans


@pytest.mark.parametrize("stage", ["box-1", "head"])
def test_what_is_written_is_read(tmp_path: Path, stage: str) -> None:
    journal, spans = write_run(tmp_path, stage)
    assert read_journal(tmp_path, stage) == journal
    assert list(read_spans(tmp_path, stage)) == spans
    header = read_records(tmp_path, stage).header
    assert header["stage"] == stage
    assert (header["mono_ns"], header["wall_ns"]) == (10, 20)


def test_every_part_and_the_largest_numbers_survive(tmp_path: Path) -> None:
    rng = random.Random(0)
    writer = Recorder(tmp_path, "box-1", {})
    spans = []
    for name in PARTS:
        for most in (1, 2**32 - 1):
            action = Action(rng.choice("FBTUE"), rng.randint(0, most), rng.randint(0, min(most, 2**16 - 1)))
            span = Span("box-1", action, name, rng.randint(0, most), most, 2**62, 2**63 - 1)
            writer.tape.part(action, Part(name, span.read, span.written), span.start_ns, span.end_ns)
            spans.append(span)
    writer.close()
    assert list(read_spans(tmp_path, "box-1")) == spans


def test_records_and_journal_are_in_their_files_when_the_writer_is_told(tmp_path: Path) -> None:
    writer = Recorder(tmp_path, "box-1", {})
    action, part = Action("F", 0), Part("forward", 0, 0)
    for count in range(1, 200):
        writer.tape.part(action, part, 1, 2)
        writer.journal(action, lambda: 2)
        if count % 30 == 0:
            writer.flush()
        assert len(read_journal(tmp_path, "box-1")) == len(list(read_spans(tmp_path, "box-1"))) == count // 30 * 30
    for _ in range(LOT):
        writer.journal(action, lambda: 2)
    assert len(read_journal(tmp_path, "box-1")) >= LOT, "a lot is written untold"
    writer.close()


def test_spans_are_read_up_to_the_last_whole_record(tmp_path: Path) -> None:
    _, spans = write_run(tmp_path)
    path = tmp_path / "trace" / "box-2.trace"
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


@pytest.mark.parametrize("read", [read_records, lambda folder, stage: list(read_spans(folder, stage)), read_journal])
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
    path = tmp_path / "trace" / "box-2.trace"
    path.write_bytes(line + path.read_bytes().partition(b"\n")[2] if line else b"")
    with pytest.raises(RunError, match=r"box-2\.trace: not a trace of this version"):
        read_records(tmp_path, "box-2")
    with pytest.raises(RunError, match="not a trace of this version"):
        list(read_spans(tmp_path, "box-2"))


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    write_run(tmp_path)
    path = tmp_path / "trace" / "box-2.trace"
    content = bytearray(path.read_bytes())
    content[content.index(b"\n") + 2] = 99
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"box-2\.trace: damaged: a record of kind 85 and code 99"):
        list(read_spans(tmp_path, "box-2"))


@pytest.mark.parametrize("content", [b"F0 T0 X9\n", b"F0 T0x\n", b"F0 \xff\xfe\n"], ids=repr)
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


def test_numpy_reads_the_same_record() -> None:
    assert np.dtype(FIELDS).itemsize == FORM.size == RECORD
    values = (ord("F"), 1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert np.frombuffer(FORM.pack(*values), FIELDS)[0].tolist() == values


def test_what_cannot_be_read_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    _, spans = write_run(tmp_path)
    path = tmp_path / "trace" / "box-2.trace"
    content = bytearray(path.read_bytes())
    start = content.index(b"\n") + 1
    content[start + 2 * RECORD] = ord("?")  # a kind that there is not
    content[start + 5 * RECORD + 1] = 200  # a part that there is not
    content[start + 7 * RECORD + 31] = 0x7F  # a part that begins long after its end
    path.write_bytes(content[:-1])
    _, array, faults, _ = read_records(tmp_path, "box-2")
    assert len(array) == len(spans) - 4
    assert [fault.partition("box-2.trace: ")[2] for fault in faults] == [
        "ends in the middle of a record; 39 bytes are left out",
        f"damaged: 3 of {len(spans) - 1} records make no sense and are left out",
    ]


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    _, spans = write_run(tmp_path)
    whole = read_records(tmp_path, "box-2").array
    assert len(whole) == len(spans)
    rest = read_records(tmp_path, "box-2", offset=3 * RECORD).array
    assert rest.tolist() == whole[3:].tolist()
    assert len(read_records(tmp_path, "box-2", offset=len(whole) * RECORD).array) == 0


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_whatever_is_more_than_told(tmp_path: Path, seed: int) -> None:
    """Bytes are thrown at the file: reading gives records that make sense, or one error."""
    write_run(tmp_path)
    rng = random.Random(seed)
    path = tmp_path / "trace" / "box-2.trace"
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 40)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content[: rng.randrange(len(content))] if rng.random() < 0.5 else content)
    with contextlib.suppress(RunError):
        _, array, _, _ = read_records(tmp_path, "box-2")
        assert (array["start"] <= array["end"]).all()
