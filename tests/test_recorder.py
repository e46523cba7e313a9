"""The recorder: what it keeps, what it leaves out when it must, and that it says so."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import random
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread
from typing import BinaryIO

import numpy as np
import pytest
from test_chaos import until

from pipeline.actions import ACTIVATION, CREDIT_ACTIVATION, Action, Message, Part
from pipeline.backup import Backup
from pipeline.errors import RunError
from pipeline.lacks import CREDIT, FORWARDED, MESSAGE, Lack
from pipeline.recorder import BURST, Recorder
from pipeline.trace import DONE, GO, read_journal, read_records, read_sums

FORWARD = Part("forward", 0, 0)


def forward(recorder: Recorder, batch: int) -> None:
    """Record a forward of a batch, at a time that tells it."""
    recorder.tape.part(Action("F", batch), FORWARD, 1000 + 10 * batch, 1005 + 10 * batch)
    recorder.tape.sent(
        Message(ACTIVATION, batch, 1, 2), 256, batch, batch, 1005 + 10 * batch, 1006 + 10 * batch, 1008 + 10 * batch
    )
    recorder.journal(Action("F", batch), lambda: 1009 + 10 * batch)


def kept(folder: Path, kind: str = "F") -> list[int]:
    """Return the batches of the records of a kind."""
    array = read_records(folder, "box-1").array
    return list(array["batch"][array["kind"] == ord(kind)].tolist())


def test_messages_waits_and_marks_are_on_record(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "box-1", {"pid": 7})
    recorder.tape.mark(GO, 100)
    recorder.tape.waited(Lack(CREDIT, ACTIVATION, 3, 2), 100, 150)
    recorder.tape.taken(Message(CREDIT_ACTIVATION, 6, 2, 1), 12, 5, 0, 150, 152, 157)
    recorder.tape.waited(FORWARDED, 157, 160)
    recorder.tape.waited(None, 160, 161)
    recorder.tape.sent(Message(ACTIVATION, 3, 1, 2), 2**40, 9, 4, 161, 163, 170)
    recorder.tape.waited(Lack(MESSAGE, "target", 2, 2), 170, 180)
    recorder.done(DONE, 200, cost_ns=650, cpu_ms=1234, log_ms=56)
    recorder.close()
    header, array, faults, _ = read_records(tmp_path, "box-1")
    assert (header["pid"], faults) == (7, [])
    assert [chr(kind) for kind in array["kind"]] == list("mwtwwswm")
    credit, taken, nothing, unknown, sent, target = (record.tolist() for record in array[1:-1])
    assert credit == (ord("w"), 0, 2, 3, 2, 0, 0, 0, 100, 150)
    assert taken == (ord("t"), 5, 2, 6, 12, 5, 2, 0, 150, 157)
    assert nothing[2:5] == unknown[2:5] == (0, 0, 0), "a wait that no message can end names none"
    assert sent == (ord("s"), 0, 2, 3, 2**32 - 1, 9, 2, 4, 161, 170), "a size that no field can hold is the largest"
    assert (target[1], target[2], target[4]) == (2, 2, 0)
    assert array[-1].tolist() == (ord("m"), DONE, 0, 0, 650, 7, 1234, 56, 200, 200)


def test_a_trace_that_is_off_leaves_the_journal_alone(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "box-1", {}, is_traced=False)
    recorder.tape.mark(GO, 1)
    forward(recorder, 0)
    recorder.done(DONE, 2)
    recorder.close()
    assert read_journal(tmp_path, "box-1") == [Action("F", 0)]
    assert not (tmp_path / "trace").exists()


def record_run(folder: Path, batches: int, most_bytes: int, name: str = "box-1") -> None:
    recorder = Recorder(folder, name, {}, most_bytes=most_bytes)
    recorder.tape.mark(GO, 1)
    for batch in range(batches):
        forward(recorder, batch)
    recorder.done(DONE, 2000 + 10 * batches)
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


def test_a_stage_that_fills_its_file_sooner_keeps_fewer_of_the_bursts_that_the_others_keep(tmp_path: Path) -> None:
    record_run(tmp_path, 64 * BURST, 80 * 1024, "box-1")
    record_run(tmp_path, 64 * BURST, 200 * 1024, "box-2")
    few, many = (read_records(tmp_path, name).array for name in ("box-1", "box-2"))
    late = [set((array["batch"][array["kind"] == ord("F")] // BURST).tolist()) for array in (few, many)]
    assert {burst for burst in late[0] if burst > 20} <= late[1]
    assert late[0] < late[1]


class Disk:
    """A file on a disk that has room for so many bytes more."""

    def __init__(self, file: BinaryIO) -> None:
        self.room = 1 << 40
        self._file = file

    def write(self, content: bytes) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        written = self._file.write(content[: self.room]) or 0
        self.room -= written
        return written

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def on_a_disk(recorder: Recorder) -> Disk:
    """Put a recorder's trace on a disk of which a test says how much room it has."""
    recorder.flush()
    assert recorder._trace is not None
    disk = Disk(recorder._trace)
    recorder.tape._file = disk  # type: ignore[assignment]
    return disk


@pytest.mark.parametrize("room", [0, 1, 39, 40, 79, 5000])
def test_a_disk_without_room_stops_the_recording_and_nothing_else(tmp_path: Path, room: int) -> None:
    recorder = Recorder(tmp_path, "box-1", {})
    forward(recorder, 0)
    on_a_disk(recorder).room = room
    for batch in range(1, 4 * BURST):
        forward(recorder, batch)
    assert recorder.tape.left_out > 0
    recorder.done(DONE, 100_000, cost_ns=1)
    recorder.close()
    assert kept(tmp_path) == kept(tmp_path, "s") == [0], "what does not fit as a whole is left out as a whole"
    assert read_records(tmp_path, "box-1").faults == []
    assert len(read_journal(tmp_path, "box-1")) == 4 * BURST


def test_a_disk_that_has_room_again_is_recorded_on_from_the_next_burst(tmp_path: Path) -> None:
    recorder, batches = Recorder(tmp_path, "box-1", {}), 20 * BURST
    disk = on_a_disk(recorder)
    for batch in range(batches):
        disk.room = 0 if BURST <= batch < 10 * BURST else 1 << 40
        forward(recorder, batch)
    recorder.done(DONE, 2000 + 10 * batches)
    recorder.close()
    array = read_records(tmp_path, "box-1").array
    (gap,) = array[array["kind"] == ord("g")]
    assert len(kept(tmp_path)) + len(kept(tmp_path, "s")) + int(gap["a"]) == 2 * batches
    assert {batch // BURST for batch in kept(tmp_path)} == {0, *range(11, 20)}
    assert 1000 < int(gap["start"]) < int(gap["end"])


def test_a_writer_that_is_killed_leaves_all_up_to_its_last_flush(tmp_path: Path) -> None:
    """What is packed is in the file's pages, and the kernel keeps those."""
    code = f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from pathlib import Path
from threading import Event, Thread
from typing import BinaryIO
from test_recorder import Recorder, forward
recorder = Recorder(Path({str(tmp_path)!r}), "box-1", {{}})
for batch in range(100):
    forward(recorder, batch)
    if batch == 89:
        recorder.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert kept(tmp_path) == kept(tmp_path, "s") == list(range(90))
    assert read_journal(tmp_path, "box-1") == [Action("F", batch) for batch in range(90)]
    assert read_records(tmp_path, "box-1").faults == []


def test_what_a_stuck_stage_noted_is_written_by_its_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.backup.ROUND_NS", 10**7)
    recorder = Recorder(tmp_path, "box-1", {})
    backup = Backup(recorder)
    forward(recorder, 0)
    until(
        "the backup has written", lambda: kept(tmp_path) == [0] and read_journal(tmp_path, "box-1") == [Action("F", 0)]
    )
    backup.stop()
    assert not backup.is_alive()
    recorder.close()


def test_two_threads_may_write_one_recording(tmp_path: Path) -> None:
    recorder, count = Recorder(tmp_path, "box-1", {}), 20_000
    is_over = Event()

    def write() -> None:
        while not is_over.is_set():
            recorder.flush()

    other = Thread(target=write)
    other.start()
    for batch in range(count):
        forward(recorder, batch)
        if not batch % 100:
            recorder.flush()
    is_over.set()
    other.join()
    recorder.close()
    assert kept(tmp_path) == kept(tmp_path, "s") == list(range(count))
    assert read_journal(tmp_path, "box-1") == [Action("F", batch) for batch in range(count)]


def test_one_burst_in_so_many_is_recorded_when_that_is_wanted(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "box-1", {}, every=3)
    for batch in range(10 * BURST):
        forward(recorder, batch)
    recorder.done(DONE, 20_000)
    recorder.close()
    assert sorted({batch // BURST for batch in kept(tmp_path)}) == [0, 3, 6, 9]
    assert kept(tmp_path) == kept(tmp_path, "s")
    array = read_records(tmp_path, "box-1").array
    assert array["a"][array["kind"] == ord("g")].tolist() == [2 * 2 * BURST] * 3


def test_a_cap_holds_also_where_a_burst_is_large(tmp_path: Path) -> None:
    recorder, cap = Recorder(tmp_path, "box-1", {}, most_bytes=1_000_000), 1_000_000
    for batch in range(40 * BURST):
        for _ in range(20):
            recorder.tape.waited(None, 1000 + 10 * batch, 1001 + 10 * batch)
        forward(recorder, batch)
    recorder.done(DONE, 100_000)
    recorder.close()
    assert cap / 2 < (tmp_path / "trace" / "box-1.trace").stat().st_size <= cap


def test_a_journal_whose_disk_was_full_for_a_while_is_whole_in_the_end(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "box-1", {})
    recorder.flush()
    journal, sums = Disk(recorder._journal._stream), Disk(recorder._sums._stream)
    recorder._journal._stream, recorder._sums._stream = journal, sums  # type: ignore[assignment]
    chance = random.Random(5)
    for batch in range(400):
        forward(recorder, batch)
        recorder.sums.add({ACTIVATION: (np.full(3, batch, np.float32),)}, {})
        journal.room, sums.room = (chance.randrange(9) if chance.random() < 0.7 else 1 << 40 for _ in range(2))
        with contextlib.suppress(RunError):
            recorder.flush()
    journal.room = sums.room = 1 << 40
    recorder.close()
    assert read_journal(tmp_path, "box-1") == [Action("F", batch) for batch in range(400)]
    assert len(read_sums(tmp_path, "box-1")) == 400
    for part, suffix in (("journal", ".txt"), ("sums", ".sums")):
        content = (tmp_path / "journal" / f"box-1{suffix}").read_bytes()
        assert hashlib.sha256(content).hexdigest() == recorder.seal[part]


def test_a_journal_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "box-1", {})
    recorder._journal.close()
    recorder._journal._stream = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    forward(recorder, 0)
    with pytest.raises(RunError, match="/dev/full: cannot write the journal: No space left on device"):
        recorder.flush()
