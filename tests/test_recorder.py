"""The recorder: what it keeps, what it leaves out when it must, and that it says so."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import BinaryIO

from pipeline.actions import ACTIVATION, CREDIT_ACTIVATION, Action, Message, Part
from pipeline.lacks import CREDIT, FORWARDED, MESSAGE, Lack
from pipeline.recorder import BURST, LOT, Recorder
from pipeline.trace import DONE, GO, RECORD, read_journal, read_records

FORWARD = Part("forward", 0, 0)


def forward(recorder: Recorder, batch: int) -> None:
    """Record a forward of a batch, at a time that tells it."""
    recorder.part(Action("F", batch), FORWARD, 1000 + 10 * batch, 1005 + 10 * batch)
    recorder.sent(Message(ACTIVATION, batch, 1, 2), 256, batch, batch, 1005 + 10 * batch, 1006 + 10 * batch, 1008 + 10 * batch)
    recorder.journal(Action("F", batch), 1009 + 10 * batch)


def kept(folder: Path, kind: str = "F") -> list[int]:
    """Return the batches of the records of a kind."""
    array = read_records(folder, "box-1").array
    return list(array["batch"][array["kind"] == ord(kind)].tolist())


def test_messages_waits_and_marks_are_on_record(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "box-1", {"pid": 7})
    recorder.mark(GO, 100)
    recorder.waited(Lack(CREDIT, ACTIVATION, 3, 2), 100, 150)
    recorder.taken(Message(CREDIT_ACTIVATION, 6, 2, 1), 12, 5, 0, 150, 152, 157)
    recorder.waited(FORWARDED, 157, 160)
    recorder.waited(None, 160, 161)
    recorder.sent(Message(ACTIVATION, 3, 1, 2), 2**40, 9, 4, 161, 163, 170)
    recorder.waited(Lack(MESSAGE, "target", 2, 2), 170, 180)
    recorder.mark(DONE, 200, 650, 1234, 56)
    recorder.close()
    header, array, faults = read_records(tmp_path, "box-1")
    assert (header["pid"], faults) == (7, [])
    assert [chr(kind) for kind in array["kind"]] == list("mwtwwswm")
    credit, taken, nothing, unknown, sent, target = (record.tolist() for record in array[1:-1])
    assert credit == (ord("w"), 0, 2, 3, 2, 0, 0, 0, 100, 150)
    assert taken == (ord("t"), 5, 2, 6, 12, 5, 2, 0, 150, 157)
    assert nothing[2:5] == unknown[2:5] == (0, 0, 0), "a wait that no message can end names none"
    assert sent == (ord("s"), 0, 2, 3, 2**32 - 1, 9, 2, 4, 161, 170), "a size that no field can hold is the largest"
    assert (target[1], target[2], target[4]) == (2, 2, 0)
    assert array[-1].tolist() == (ord("m"), DONE, 0, 0, 650, 0, 1234, 56, 200, 200)


def test_a_trace_that_is_off_leaves_the_journal_alone(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "box-1", {}, is_traced=False)
    recorder.mark(GO, 1)
    forward(recorder, 0)
    recorder.mark(DONE, 2)
    recorder.close()
    assert read_journal(tmp_path, "box-1") == [Action("F", 0)]
    assert not (tmp_path / "trace").exists()


def record_run(folder: Path, batches: int, most_bytes: int, name: str = "box-1") -> None:
    recorder = Recorder(folder, name, {}, most_bytes=most_bytes)
    recorder.mark(GO, 1)
    for batch in range(batches):
        forward(recorder, batch)
        if batch % 8 == 7:
            recorder.flush()
    recorder.mark(DONE, 2000 + 10 * batches, 1, 1)
    recorder.close()


def test_a_long_run_keeps_whole_bursts_ever_more_rarely_and_stays_below_its_cap(tmp_path: Path) -> None:
    cap = 256 * 1024
    record_run(tmp_path, 160 * BURST, cap)
    size = (tmp_path / "trace" / "box-1.trace").stat().st_size
    assert cap / 2 < size < cap
    bursts = sorted({batch // BURST for batch in kept(tmp_path)})
    strides = [later - earlier for earlier, later in itertools.pairwise(bursts)]
    assert strides == sorted(strides), "once rarer, never more often again"
    assert max(strides) >= 4
    assert bursts[0] == 0
    assert kept(tmp_path) == [batch for burst in bursts for batch in range(burst * BURST, (burst + 1) * BURST)]
    assert kept(tmp_path) == kept(tmp_path, "s")


def test_what_was_left_out_is_counted_to_the_record(tmp_path: Path) -> None:
    batches = 40 * BURST
    record_run(tmp_path, batches, 64 * 1024)
    array = read_records(tmp_path, "box-1").array
    gaps = array[array["kind"] == ord("g")]
    assert len(gaps) > 1
    assert len(kept(tmp_path)) + len(kept(tmp_path, "s")) + int(gaps["a"].sum()) == 2 * batches
    assert (gaps["start"] < gaps["end"]).all()
    inside = array[(array["kind"] == ord("F"))]
    for gap in gaps:
        assert not ((inside["start"] > gap["start"]) & (inside["end"] < gap["end"])).any(), "nothing is in a gap"


def test_stages_that_fill_their_files_at_different_times_keep_the_same_bursts(tmp_path: Path) -> None:
    record_run(tmp_path, 64 * BURST, 80 * 1024, "box-1")
    record_run(tmp_path, 64 * BURST, 200 * 1024, "box-2")
    few, many = (read_records(tmp_path, name).array for name in ("box-1", "box-2"))
    late = [set((array["batch"][array["kind"] == ord("F")] // BURST).tolist()) for array in (few, many)]
    assert {burst for burst in late[0] if burst > 20} <= late[1]
    assert late[0] < late[1]


def test_lots_that_the_disk_does_not_take_become_a_gap_and_the_journal_stays_whole(tmp_path: Path) -> None:
    takes = True

    def put(stream: BinaryIO, data: bytes, must: bool) -> bool:
        if takes or must:
            stream.write(data)
        return takes or must

    recorder = Recorder(tmp_path, "box-1", {}, put=put)
    for batch in range(60):
        takes = not 20 <= batch < 40
        forward(recorder, batch)
        recorder.flush()
    recorder.close()
    assert kept(tmp_path) == [*range(20), *range(40, 60)]
    array = read_records(tmp_path, "box-1").array
    (gap,) = array[array["kind"] == ord("g")]
    assert (int(gap["a"]), int(gap["start"]), int(gap["end"])) == (40, 1200, 1398)
    assert read_journal(tmp_path, "box-1") == [Action("F", batch) for batch in range(60)]


def test_a_lot_leaves_memory_when_it_is_full(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "box-1", {})
    for batch in range(3 * LOT // RECORD.size):
        forward(recorder, batch)
        assert len(recorder.records) < LOT + 2 * RECORD.size
    recorder.close()
