"""Where the time went: parts that add up, waits with the right name, the critical path, the figures of messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import Hand, hands, make_folder

from launch import critical, recording, stats, stats_text
from launch.breakdown import breakdown, explained, fault, mean_durations, ways
from launch.cli import main
from pipeline import trace
from pipeline.errors import ConfigError, RunError
from pipeline.lacks import CREDIT, FORWARDED, MESSAGE, WAITS, WINDOW, Lack
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


def steady(folder: Path, unrecorded: range) -> recording.Recording:
    """Return a recording of two boxes that work 30 µs and wait 10 µs for each of six batches; of some nothing is on record."""
    plan = Plan.of(make_folder(folder))
    for name, other in (("box-1", 2), ("box-2", 1)):
        hand = Hand(folder, name, plan)
        for batch in range(6):
            if batch == unrecorded.start:
                hand.recorder.tape.is_on, hand.recorder._gap_since = False, hand.now
            hand.part(f"F{batch}", "forward", 30).wait(10, Lack(MESSAGE, "target", batch, other))
            if batch == unrecorded.stop - 1:
                hand.recorder.tape.is_on = True
                hand.recorder._tell_gap(hand.now)
        hand.done()
    return recording.load(folder)


def test_what_is_not_on_record_does_not_count_as_busy(tmp_path: Path) -> None:
    """Time in a gap was once taken for work, so that with trace.every = 2 a bubble seemed to be about half of what it was."""
    whole = stats.document(steady(tmp_path / "whole", range(9, 9)))
    half = stats.document(steady(tmp_path / "half", range(2, 5)))
    for before, after in zip(whole["stages"], half["stages"], strict=True):
        assert (before["missing_s"], after["missing_s"]) == (0, near(120))
        assert before["bubble"]["of_makespan"] == pytest.approx(0.25)
        assert before["bubble"]["of_busy"] == pytest.approx(1 / 3)
        assert after["bubble"] == pytest.approx(before["bubble"])


def test_a_stage_of_which_nothing_is_on_record_has_no_bubble(tmp_path: Path) -> None:
    for stage in stats.document(steady(tmp_path / "run", range(6)))["stages"]:
        assert set(stage["bubble"].values()) == {None}


def test_records_that_were_left_out_are_put_down_to_all_that_may_have_left_them_out(tmp_path: Path) -> None:
    """With trace.every above one the cap and the disk were once never named."""
    for every, texts in (
        (1, ("trace.most_mb", "disk was full")),
        (3, ("one burst of 64 batches in 3", "trace.most_mb", "a full disk")),
    ):
        make_folder(tmp_path / str(every), {"trace.every": every})
        hand = Hand(tmp_path / str(every), "box-1", Plan.of(make_folder(tmp_path / f"{every}-plan")))
        hand.part("F0", "forward", 50)
        hand.recorder.tape.is_on = False
        hand.part("F1", "forward", 50).done()
        (warning,) = [text for text in recording.load(tmp_path / str(every)).warnings if "left out" in text]
        assert [text in warning for text in texts] == [True] * len(texts)
        assert ("trace.every" in warning) == (every > 1)


def test_a_wait_is_starved_or_blocked_as_the_rules_say_and_nobodys_where_it_names_none() -> None:
    waits = np.zeros(4 * 5, trace.FIELDS)
    waits["peer"] = np.repeat(np.arange(5), 4)
    waits["a"] = np.tile(np.arange(4), 5)
    for number in (1, 2, 4):
        wanted = [
            "schedule" if not peer else "blocked" if Lack(WAITS[why], "", 0, peer).is_blocked(number) else "starved"
            for peer, why in zip(waits["peer"].tolist(), waits["a"].tolist(), strict=True)
        ]
        assert ways(waits, number).tolist() == wanted
        assert ways(waits[:0], number).tolist() == []


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


@pytest.mark.timeout(20)
def test_messages_that_were_taken_before_they_were_sent_do_not_lead_the_path_in_a_circle(tmp_path: Path) -> None:
    """Two such messages, of a damaged trace or of two hosts' clocks, once led from one stage to the other without end."""
    config = make_folder(tmp_path / "run")
    one, two, head = hands(tmp_path / "run", config)
    one.wait(100, Lack(MESSAGE, "target", 0, 2)).take("target", 0, 2, 10).send("activation", 0, 2, 10, encode=5).done()
    two.wait(150, Lack(MESSAGE, "activation", 0, 1)).take("activation", 0, 1, 10).send(
        "target", 0, 1, 10, encode=5
    ).done()
    head.done()
    path = [
        (step.stage, step.kind, (step.end - step.start) // 1000)
        for step in critical.steps(recording.load(tmp_path / "run"))
    ]
    assert path == [
        ("box-1", "wait", 100),
        ("box-1", "copy", 10),
        ("box-1", "copy", 5),
        ("between stages", "hop", 35),
        ("box-2", "copy", 10),
        ("box-2", "copy", 10),
    ]


def test_a_record_within_another_is_not_on_the_path_twice(tmp_path: Path) -> None:
    one, *others = hands(tmp_path / "run", make_folder(tmp_path / "run"))
    one.idle(40).send("activation", 0, 2, 10)
    one.now -= 50_000
    one.part("F0", "forward", 100).done()
    for other in others:
        other.done()
    path = critical.steps(recording.load(tmp_path / "run"))
    assert [(step.kind, (step.end - step.start) // 1000) for step in path] == [("forward", 100)]


def test_a_message_that_ends_before_it_was_encoded_is_no_record(run: Path) -> None:
    path = trace.path_of(run, "box-2")
    line, records = path.read_bytes().split(b"\n", 1)
    array = np.frombuffer(records, trace.FIELDS).copy()
    is_message = np.isin(array["kind"], [trace.SENT, trace.TAKEN])
    array["c"][is_message] = (array["end"] - array["start"])[is_message] + np.array([1, 0, 0, 0])
    path.write_bytes(line + b"\n" + array.tobytes())
    found = recording.load(run)
    assert [len(stage.array) for stage in found.stages] == [8, 10, 7]
    assert any("1 of 11 records make no sense" in text for text in found.warnings)


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


def test_how_long_evaluations_took_does_not_change_the_schedules_own_bubble(run: Path) -> None:
    found = recording.load(run)
    durations = mean_durations(found.stages)
    evaluations = {(number, "E"): 10**9 for number in (1, 2, 3)}
    assert stats.theoretical_bubbles(found.plan, durations | evaluations) == stats.theoretical_bubbles(
        found.plan, durations
    )


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


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("done", "s from go to done\n"),
        ("running", "s from go to the last record so far\n"),
        ("failed", "s from go to the last record\n"),
        ("died", "s from go to the last record\n"),
        ("interrupted", "s from go to the last record\n"),
        ("simulated", "s from go to done, in virtual time\n"),
    ],
)
def test_the_time_goes_to_done_only_where_the_run_was(run: Path, status: str, words: str) -> None:
    document = stats.document(recording.load(run)) | {"status": status}
    assert words in stats_text.render(document)


def test_the_last_column_of_messages_is_a_hop_in_microseconds(run: Path) -> None:
    """It was called `awaited` and read like a count."""
    text = stats_text.render(stats.document(recording.load(run)))
    assert "hop µs  99 % µs  awaited µs\n" in text


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
    with pytest.raises(ConfigError, match=r"it ran with trace\.level off"):
        recording.load(tmp_path / "off")
    with pytest.raises(ConfigError, match="a reference, or a run that never began"):
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
