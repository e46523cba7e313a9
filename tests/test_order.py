"""The order of one batch on runs of which not everything is on record: sampled, damaged, or without a trace at all."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from handmade import hands, make_folder

from launch import order, timeline
from launch.cli import main
from pipeline.errors import ConfigError
from pipeline.recorder import BURST
from pipeline.trace import RECORD, path_of

pytestmark = pytest.mark.in_process

BATCHES = 3 * BURST
WORKERS = ("box-1", "box-2", "head")


def made(folder: Path, every: int = 1, **flags: Any) -> Path:
    """Return a run of three bursts of batches, of which one in `every` is on record."""
    config = make_folder(folder, {"data.train": BATCHES, "data.test": 2, "trace.every": every, **flags})
    for hand in hands(folder, config):
        hand.recorder._stride = every
        is_head = hand.recorder._journal._stream.name.endswith("head.txt")
        for batch in range(BATCHES):
            hand.idle(5).part(f"F{batch}", "forward", 10).part(f"F{batch}", "update", 10, batch, batch + 1)
            hand.journal(f"F{batch}")
            if not is_head:
                hand.idle(25).part(f"T{batch}", "train", 10).journal(f"T{batch}")
            else:
                hand.idle(35)
        hand.part("E0", "evaluate", 5).journal("E0")
        hand.done()
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that is all on record."""
    return made(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of which the first and the third burst are on record."""
    return made(tmp_path_factory.mktemp("sampled") / "run", every=2)


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """Return a copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def ask(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, str, str]:
    """Return the exit code of `timebox order`, what it prints, and what it says on standard error."""
    code = main(["order", str(folder), *words])
    return (code, *capsys.readouterr())


def shown(capsys: pytest.CaptureFixture[str], folder: Path, batch: int) -> tuple[str, dict[str, Any]]:
    """Return the diagram of a batch, as text and as a document."""
    code, text, err = ask(capsys, folder, "--batch", str(batch))
    assert (code, err) == (0, "")
    return text, json.loads(ask(capsys, folder, "--batch", str(batch), "--json")[1])


# What was left out


@pytest.mark.parametrize("batch", [0, 3, BURST - 2, 2 * BURST, 3 * BURST - 2])
def test_the_batches_that_a_sampled_run_recorded_are_shown(
    batch: int, sampled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The journal is whole and the trace is not: that once made every batch one at which the two differ."""
    text, document = shown(capsys, sampled, batch)
    assert {row["step"] for row in document["rows"] if row["step"]} == set(range(1, 9))
    assert (document["unrecorded"], document["warnings"]) == ([], [])
    assert "(not " not in text


@pytest.mark.parametrize("batch", [BURST, BURST + 6, 2 * BURST - 2])
def test_a_batch_that_was_left_out_is_said_to_be_not_on_record_and_why(
    batch: int, sampled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ask(capsys, sampled, "--batch", str(batch))
    assert (code, out) == (2, "")
    assert err == (
        f"timebox: --batch: batch {batch} is not on record: trace.every records one burst of 64 batches in 2, "
        f"trace.most_mb or a full disk fewer; the nearest on record: 63 and 128\n"
    )


def test_a_step_that_was_done_and_left_out_is_not_one_that_was_not_reached(
    sampled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A burst ends with its last forward, so what settles its last batch is left out, or is all that is on record."""
    for batch, left_out in ((BURST - 1, [5, 8]), (2 * BURST - 1, [1, 2, 3, 4, 6, 7])):
        text, document = shown(capsys, sampled, batch)
        assert document["unrecorded"] == left_out
        assert len(re.findall(r"^ +\d .*\(not on record\)$", text, re.MULTILINE)) == len(left_out)
        assert "(not reached)" not in text
        assert ("had changed before that, by what is on record" in text) == (document["forward_end_ns"] is not None)


def test_an_increment_alone_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the last batch of a burst that was left out, an increment of another box may be all that is on record."""
    config = make_folder(tmp_path / "run", {"model.tied": True})
    one, two, head = hands(tmp_path / "run", config)
    one.idle(5).part("U2.0", "apply", 5, 0, 1).journal("F0 T0 U2.0")
    for hand in (one, two, head):
        hand.done()
    text, document = shown(capsys, tmp_path / "run", 0)
    assert [row["action"] for row in document["rows"]] == ["U2.0"]
    assert "  ·  U k.b: box k's increment of batch b" in text
    assert {1, 2, 5} <= set(document["unrecorded"])


def test_who_left_records_out_in_the_time_of_a_batch_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    one, two, head = hands(folder, make_folder(folder))
    one.part("F0", "forward", 10).part("F0", "update", 10, 0, 1).idle(80).part("T0", "train", 10).journal("F0 T0")
    two.recorder.tape.is_on, two.recorder._gap_since = False, two.now
    two.idle(20).part("F0", "forward", 10).journal("F0")
    head.idle(50).part("F0", "forward", 10).part("F0", "update", 5, 0, 1).journal("F0")
    for hand in (one, two, head):
        hand.done()
    text, document = shown(capsys, folder, 0)
    assert len(document["warnings"]) == 1
    assert "  !  in this time box-2 left records out: beyond half of trace.most_mb (64 MB a stage)" in text
    assert document["unrecorded"] == [3, 4]


# What cannot be read


def test_one_trace_that_is_missing_costs_its_stage_alone(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path_of(copy, "box-2").unlink()
    text, document = shown(capsys, copy, 17)
    assert {row["stage"] for row in document["rows"]} == {"box-1", "head"}
    assert document["unrecorded"] == [3, 4, 8]
    assert re.search(r"^  !  .*box-2\.trace: cannot read the trace: No such file", text, re.MULTILINE)
    path_of(copy, "head").unlink()
    text, _ = shown(capsys, copy, 17)
    assert "When the forward pass of batch 17 ended is not on record: nothing is marked." in text


def test_damaged_records_are_left_out_and_the_rest_is_shown(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = path_of(copy, "box-1")
    content = bytearray(path.read_bytes())
    content[content.index(b"\n") + 1 + 60 * RECORD.size + 1] = 200  # a part that there is not
    path.write_bytes(content[:-7])
    for batch in (3, 100):
        text, document = shown(capsys, copy, batch)
        assert {row["step"] for row in document["rows"] if row["step"]} == set(range(1, 9))
        assert [fault.partition("box-1.trace: ")[2][:4] for fault in document["warnings"]] == ["ends", "dama"]
        assert "1 of " in text


def test_a_journal_that_tells_something_else_or_nothing_is_named(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "journal" / "box-1.txt"
    path.write_text("F0 F1\n")
    told, document = shown(capsys, copy, 5)
    assert document["warnings"] == [
        "box-1: journal and trace differ at action 1: F1 and T0; the diagram follows the trace"
    ]
    assert len({row["step"] for row in document["rows"] if row["step"]}) == 8
    path.unlink()
    told, _ = shown(capsys, copy, 5)
    assert "box-1.txt: cannot read the journal" in told


def test_a_run_of_which_nothing_is_left_fails(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stage in WORKERS:
        path_of(copy, stage).write_bytes(b"nonsense")
    code, out, err = ask(capsys, copy)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "nothing of its trace can be read" in err


# Runs without a record


@pytest.mark.parametrize(
    ("flags", "state", "why"),
    [
        ({"trace.level": "off"}, {}, "it ran with trace.level off"),
        ({}, {"reference": True}, "a reference runs in one process, in the order of its loop"),
        ({"trace.level": "off"}, {"reference": True}, "a reference runs in one process, in the order of its loop"),
        ({}, {}, "it has not begun"),
    ],
    ids=str,
)
def test_a_run_without_a_trace_says_why_and_the_request_is_wrong(
    flags: dict[str, str], state: dict[str, bool], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That it ran with trace.level off was once told as if it were a reference."""
    folder = tmp_path / "run"
    make_folder(folder, flags)
    (folder / "launcher.json").write_text(json.dumps(state))
    assert ask(capsys, folder) == (2, "", f"timebox: run has no trace: {why}\n")


# What the rows without a number are


def crowded(folder: Path, others: int) -> Path:
    """Return a run in which box-2 does many other things in the time of batch 0."""
    one, two, head = hands(folder, make_folder(folder, {"data.train": others + 1}))
    one.part("F0", "forward", 10).part("F0", "update", 10, 0, 1).idle(980).part("T0", "train", 10).journal("F0 T0")
    two.part("F0", "forward", 10).part("F0", "update", 10, 0, 1).journal("F0")
    for batch in range(others):
        two.part(f"F{batch + 1}", "forward", 10).journal(f"F{batch + 1}")
    head.idle(50).part("F0", "forward", 10).part("F0", "update", 5, 0, 1).journal("F0")
    for hand in (one, two, head):
        hand.done()
    return folder


def test_which_rows_of_other_batches_are_shown_is_said_with_the_time_from_which_none_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first 24 were shown and then none, which looked as if nothing had been done from there on."""
    text, document = shown(capsys, crowded(tmp_path / "many", 30), 0)
    assert document["left_out"] == 30 - order.MOST_OTHERS
    last = document["rows"][0]["start_ns"] + 250_000
    assert max(row["start_ns"] for row in document["rows"] if not row["step"]) == last
    assert "  ·  no step of batch 0: other batches\n" in text
    assert "  ·  the first 24 of these are shown; 6 after 0.250 ms are left out\n" in text
    text, _ = shown(capsys, crowded(tmp_path / "few", 20), 0)
    assert "left out" not in text


def test_the_legend_names_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    one, two, head = hands(folder, make_folder(folder, {"model.tied": True}))
    one.part("F0", "forward", 10).part("F0", "probe", 3).part("U2.0", "apply", 5).part("E0", "evaluate", 5)
    one.part("T0", "train", 5).journal("F0 U2.0 E0 T0")
    for hand in (one, two, head):
        hand.done()
    text, _ = shown(capsys, folder, 0)
    assert "  ·  no step of batch 0: evaluations (E), the probe\n  ·  U k.b: box k's increment" in text


def test_a_checkpoint_is_no_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Checkpoint 1 of a long run lay in every picture, order and log of batch 1, with all that came between."""
    folder = tmp_path / "runs" / "20250101-000000-saved"
    flags = {"data.train": 6, "checkpoint.every": 3}
    box_1, box_2, head = hands(folder, make_folder(folder, flags))
    for batch in range(2, 6):  # as after a resume
        for stage in (box_1, box_2, head):
            stage.part(f"F{batch}", "forward", 10)
    for stage in (box_1, box_2, head):
        stage.idle(50_000).part("S1", "save", 30)
        stage.done()
    found = order.collect(folder, 2)
    assert all(row.span.action.kind == "F" for row in found.rows)
    with pytest.raises(ConfigError):
        order.collect(folder, 1)
    made = timeline.write(folder, tmp_path / "t.json", "2:2")
    assert made["spans"] == 3
    with pytest.raises(ConfigError, match=r"nothing of 0:1 is on record; on record are batches of 2:5"):
        timeline.write(folder, tmp_path / "t.json", "0:1")
    last = order.collect(folder, 5)
    assert [str(row.span.action) for row in last.rows].count("S1") == 0
    assert main(["logs", str(folder), "--batch", "1"]) == 0
    assert "save" not in capsys.readouterr().out
    assert main(["logs", str(folder), "--action", "S1", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)["lines"]
    assert [(line["checkpoint"], "batch" in line) for line in lines] == [(1, False)] * 3
