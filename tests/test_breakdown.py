"""Where the time went: parts that add up, waits with the right name, the critical path, the figures of messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from handmade import Hand, hands, make_folder

from launch import critical, recording, stats, stats_text
from launch.breakdown import breakdown, explained, fault
from launch.cli import main
from pipeline import trace
from pipeline.errors import RunError
from pipeline.lacks import CREDIT, FORWARDED, MESSAGE, WINDOW, Lack
from pipeline.plan import Plan

US = 1e-6


def small_run(folder: Path) -> None:
    """Write a run of two boxes, a batch, whose times are round: box-2 takes long, the others wait for it."""
    one, two, head = hands(folder, make_folder(folder))
    one.part("F0", "forward", 10).part("F0", "update", 20, 0, 1).send("activation", 0, 2, 5, encode=2).idle(4)
    one.wait(161, Lack(MESSAGE, "target", 0, 2)).take("target", 0, 2, 6).part("T0", "train", 14, 0, 1)
    one.journal("F0 T0").done()
    two.wait(42, Lack(MESSAGE, "activation", 0, 1)).take("activation", 0, 1, 8).part("F0", "forward", 100)
    two.part("F0", "update", 30, 0, 1).send("activation", 0, 3, 10, encode=5).send("target", 0, 1, 5, encode=1)
    two.wait(25, Lack(CREDIT, "activation", 1, 3)).take("gradient", 0, 3, 5).part("T0", "train", 15, 0, 1).idle(2)
    two.journal("F0 T0").done(cpu_ms=2)
    head.wait(195, Lack(MESSAGE, "activation", 0, 2)).take("activation", 0, 2, 5).part("F0", "forward", 5)
    head.part("F0", "update", 5, 0, 1).send("gradient", 0, 2, 8, encode=4).journal("F0").done()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A small run's folder."""
    folder = tmp_path / "run"
    small_run(folder)
    return folder


def near(seconds: float) -> Any:
    return pytest.approx(seconds * US, abs=1e-9)


def test_every_microsecond_has_one_name(run: Path) -> None:
    found = recording.load(run)
    box_1, box_2, head = (breakdown(stage, found.plan) for stage in found.stages)
    assert (box_1["total_s"], box_1["compute_s"], box_1["copy_s"], box_1["other_s"]) == (
        near(220), near(44), near(11), near(4),
    )  # fmt: skip
    assert (box_1["starved_s"], box_1["blocked_s"]) == ({}, {"box-2": near(161)})
    assert box_2["starved_s"] == {"box-1": near(42)}
    assert box_2["blocked_s"] == {"head": near(25)}, "no credit: blocked by whoever has to give it back"
    assert box_2["other_s"] == near(2)
    assert box_2["copy"] == {"receive_s": 0, "decode_s": near(13), "encode_s": near(6), "send_s": near(9)}
    assert head["starved_s"] == {"box-2": near(195)}
    for each in (box_1, box_2, head):
        assert explained(each) == pytest.approx(each["total_s"], rel=1e-12)
        assert fault(each) is None


def test_the_waits_say_for_what_and_why(run: Path) -> None:
    found = recording.load(run)
    waits = breakdown(found.stages[1], found.plan)["waits"]
    assert [(wait["way"], wait["for"], wait["from"], wait["why"], wait["count"]) for wait in waits] == [
        ("starved", "activation", "box-1", "message", 1),
        ("blocked", "activation", "head", "credit", 1),
    ]


def test_a_full_window_blocks_and_a_wait_for_nobody_is_something_else(tmp_path: Path) -> None:
    config = make_folder(tmp_path / "run")
    one = Hand(tmp_path / "run", "box-1", Plan.of(config))
    one.wait(30, Lack(WINDOW, "target", 4, 2)).wait(7, FORWARDED).wait(3, None).done()
    found = recording.load(tmp_path / "run")
    box = breakdown(found.stages[0], found.plan)
    assert (box["blocked_s"], box["starved_s"], box["other_s"]) == ({"box-2": near(30)}, {}, near(10))
    assert [wait["why"] for wait in box["waits"]] == ["window", ""]


def test_time_that_is_not_on_record_is_said_to_be_missing(tmp_path: Path) -> None:
    config = make_folder(tmp_path / "run")
    one = Hand(tmp_path / "run", "box-1", Plan.of(config))
    one.part("F0", "forward", 50)
    one.recorder.tape.is_on, one.recorder._gap_since = False, one.now
    one.part("F1", "forward", 150)
    one.recorder.tape.is_on = True
    one.done()
    found = recording.load(tmp_path / "run")
    box = breakdown(found.stages[0], found.plan)
    assert (box["compute_s"], box["missing_s"], box["other_s"]) == (near(50), near(150), near(0))
    assert fault(box) == "box-1: 75 % of its time is not on record; the other figures are of what is"
    assert any("1 records were left out" in text for text in found.warnings)


def test_records_that_overlap_do_not_add_up_and_that_is_told(tmp_path: Path) -> None:
    config = make_folder(tmp_path / "run")
    one = Hand(tmp_path / "run", "box-1", Plan.of(config))
    one.part("F0", "forward", 50)
    one.now -= 20_000
    one.part("F0", "update", 50).done()
    found = recording.load(tmp_path / "run")
    assert "add up to 125.0 %" in str(fault(breakdown(found.stages[0], found.plan)))


def test_the_critical_path_follows_the_message_that_ended_each_wait(run: Path) -> None:
    path = [(step.stage, step.kind, (step.end - step.start) // 1000) for step in critical.steps(recording.load(run))]
    assert path == [
        ("box-1", "forward", 10),
        ("box-1", "update", 20),
        ("box-1", "copy", 2),
        ("between stages", "hop", 10),
        ("box-2", "copy", 8),
        ("box-2", "forward", 100),
        ("box-2", "update", 30),
        ("box-2", "copy", 5),
        ("between stages", "hop", 10),
        ("head", "copy", 5),
        ("head", "forward", 5),
        ("head", "update", 5),
        ("head", "copy", 4),
        ("between stages", "hop", 6),
        ("box-2", "copy", 5),
        ("box-2", "train", 15),
    ]


def test_the_path_is_as_long_as_the_run(run: Path) -> None:
    document = critical.document(critical.steps(recording.load(run)))
    assert document["seconds"] == near(240)
    assert document["hops"] == 3
    for rows in (document["by_stage"], document["by_kind"]):
        assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_a_hop_lies_between_encoded_and_received(run: Path) -> None:
    rows = {(row["kind"], row["from"]): row for row in stats.document(recording.load(run))["messages"]}
    assert rows["activation", "box-1"]["hop_median_s"] == near(10)
    assert rows["gradient", "head"]["hop_median_s"] == near(6)
    assert rows["activation", "box-2"]["awaited"] == 1
    assert [(row["count"], row["bytes"]) for row in rows.values()] == [(1, 100)] * 4


def test_bubbles_come_in_both_definitions_beside_the_schedules_own(run: Path) -> None:
    box_1, box_2, head = stats.document(recording.load(run))["stages"]
    # The makespan is 242 µs: box-1 was idle for 161 of them and for the 22 after its end, and busy for 59.
    assert box_1["bubble"]["of_makespan"] == pytest.approx(183 / 242)
    assert box_1["bubble"]["of_busy"] == pytest.approx(183 / 59)
    for each in (box_1, box_2, head):
        whole, busy = each["bubble"]["theory_of_makespan"], each["bubble"]["theory_of_busy"]
        assert busy == pytest.approx(whole / (1 - whole))
    # In theory box-2 with its 145 µs a batch is the one that is never idle for long.
    assert box_2["bubble"]["theory_of_makespan"] < 0.2 < box_1["bubble"]["theory_of_makespan"]


def test_the_command_prints_tables_and_one_document(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(run)]) == 0
    text, err = capsys.readouterr()
    assert err == ""
    assert "box-1  blocked by box-2  target" in text
    assert "critical path" in text
    assert main(["stats", str(run), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in document["stages"]] == ["box-1", "box-2", "head"]
    assert {"total_s", "compute_s", "copy_s", "starved_s", "blocked_s", "other_s", "bubble", "staleness"} <= set(
        document["stages"][0]
    )
    assert {"run", "stages", "critical_path", "messages", "tracing", "warnings"} <= set(document)


@pytest.mark.parametrize("damage", ["missing", "torn", "header", "empty"])
def test_one_damaged_trace_is_named_and_the_rest_is_shown(
    run: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    path = trace.path_of(run, "box-2")
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"torn": content[:-50], "header": b"?" + content, "empty": b""}[damage])
    assert main(["stats", str(run)]) == 0
    text, err = capsys.readouterr()
    assert "box-1" in text
    assert "head" in text
    assert "box-2" in err
    assert err.startswith("timebox: warning: ")


def test_nothing_left_is_an_error(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (run / "trace").iterdir():
        path.write_bytes(b"gone")
    assert main(["stats", str(run)]) == 1
    assert "nothing of its trace can be read" in capsys.readouterr().err
    with pytest.raises(RunError, match="nothing of its trace"):
        recording.load(run)


def test_a_run_without_a_trace_says_why(tmp_path: Path) -> None:
    make_folder(tmp_path / "off", {"trace.level": "off"})
    make_folder(tmp_path / "reference")
    with pytest.raises(RunError, match=r"it ran with trace\.level off"):
        recording.load(tmp_path / "off")
    with pytest.raises(RunError, match="a reference runs in one process"):
        recording.load(tmp_path / "reference")


@pytest.mark.parametrize(
    ("counts", "bars"),
    [
        ({}, ""),
        ({"0": 5}, "|█|"),
        ({"0": 1, "3": 100}, "|▂  █|"),
        ({"0": 7, "1": 7}, "|██|"),
        ({"0": 1, "47": 1}, "|█                      █| 2 a bar"),
    ],
)
def test_a_histogram_is_a_line_of_bars(counts: dict[str, int], bars: str) -> None:
    assert stats_text.histogram(counts) == bars
