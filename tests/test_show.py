"""What `timebox run` prints at its end: a partial epoch is marked, and what is suggested works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handmade import make_folder

from launch import Result, runs, show, task_words
from launch.text import few
from pipeline.config import dump, resolve
from pipeline.plan import Plan
from pipeline.schema import Data

pytestmark = pytest.mark.in_process


def printed(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    status: str = "interrupted",
    forwards: int | None = 5,
    rows: tuple[str, ...] = (
        '{"epoch": 1, "cost": 0.5, "test_cost": 0.4, "accuracy": 0.5}',
        '{"epoch": 2, "cost": 0.25}',
    ),
    log: str = "",
) -> str:
    """Return what is printed of a run of two epochs of four batches; without `forwards` it is a reference."""
    config = make_folder(folder, {"data.train": 4, "train.epochs": 2})
    is_reference = forwards is None
    (folder / "metrics").mkdir()
    (folder / "metrics" / "metrics.jsonl").write_text("".join(f"{row}\n" for row in rows))
    if forwards is not None:
        (folder / "journal").mkdir()
        (folder / "journal" / "head.txt").write_text(" ".join(f"F{batch}" for batch in range(forwards)) + "\n")
    (folder / "logs" / "launcher.log").write_text(log)
    document: dict[str, Any] = {
        "status": status, "seconds": 1.0, "batches_per_s": None, "first_update_s": None, "digest": None,
        "reference": is_reference, "stages": [{"name": "head", "batches": forwards}],
    }  # fmt: skip
    show.result(Result(folder, document), Plan.of(config), None)
    return capsys.readouterr().out


def test_a_partial_last_epoch_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mean over a few batches once stood there as if it were an epoch's."""
    text = printed(tmp_path / "run", capsys)
    assert "\n        1  0.5000" in text
    assert "\npartial 2  0.2500" in text
    assert "\nof epoch 2 there is only 1 of its 4 batches\n" in text


@pytest.mark.parametrize(("status", "forwards"), [("done", 8), ("interrupted", 8), ("interrupted", 4)])
def test_a_whole_epoch_is_not(status: str, forwards: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = ('{"epoch": 1, "cost": 0.5}', '{"epoch": 2, "cost": 0.25}')[: forwards // 4]
    assert "partial" not in printed(tmp_path / "run", capsys, status, forwards, whole)


def test_a_reference_that_was_stopped_does_not_know_its_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It once said that it was stopped at batch None."""
    text = printed(tmp_path / "run", capsys, forwards=None)
    assert "\nof epoch 2 there is only a part\n" in text
    assert "\nstopped before its end; " in text
    assert "None" not in text


def test_the_last_line_suggests_what_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It once suggested an order to a run without a trace."""
    off, on = tmp_path / "off", tmp_path / "on"
    assert printed(off, capsys, "done", 8).splitlines()[-1] == f"look into it: timebox logs {off}"
    (on / "trace").mkdir(parents=True)
    last = printed(on, capsys, "done", 8).splitlines()[-1]
    assert last == f"look into it: timebox stats {on}; likewise order, report, timeline, logs"


def test_a_command_that_is_suggested_is_one_for_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my runs" / "off"
    assert printed(folder, capsys, "done", 8).splitlines()[-1] == f"look into it: timebox logs '{folder}'"


def test_of_many_names_the_first_are_said() -> None:
    assert few([]) == ""
    assert few(["a", "b"]) == "a, b"
    assert few("abcdefg") == "a, b, c, d, e, f, g"
    assert few([str(n) for n in range(2_000)]) == "0, 1, 2, 3, 4, 5 and 1,994 more"


def test_who_did_not_answer_when_it_was_told_to_stop_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = '{"ts": "2026-11-25T09:43:25.000000Z", "stage": "launcher", "level": "info", '
    told = [(10, "head: stopped"), (10, "box-1: stopped"), (18, "SIGTERM to box-2"), (19, "SIGKILL to box-2")]
    log = "".join(f'{start}"mono_ns": {at}000000000, "text": "{text}"}}\n' for at, text in told)
    text = printed(tmp_path / "run", capsys, log=log)
    assert text.endswith(f"\nbox-2 did not answer for 8 s when told to stop: timebox logs {tmp_path / 'run'} --why\n")


@pytest.mark.parametrize(("reference", "wrong"), [(False, False), (True, False), (False, True)])
def test_a_failure_names_the_command_that_tells_who_waited_for_whom(
    reference: bool, wrong: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {"error": "killed", "first_failure": {"log": []}, "reference": reference, "wrong_request": wrong}
    show.failure(Result(tmp_path, document))
    err = capsys.readouterr().err
    assert (f"  who waited for whom: timebox logs {tmp_path} --why\n" in err) == (not reference and not wrong)


# Tasks

SIZES = {
    "copy": (
        "decoupled: 4 tied boxes of width 64, LSTM cells over 12 steps, each reading its own steps, and a head that adds up",
        "copy of symbols of 4 bits, from level 1 (1 symbol) to at most level 5 (5 symbols): 1,000 training and 500 test "
        "sequences; 2 epochs of 50 batches",
    ),
    "repeat-copy": (
        "decoupled: 4 tied boxes of width 64, LSTM cells over 12 steps, each reading its own steps, and a head that adds up",
        "repeat-copy of symbols of 4 bits, from level 1 (1 symbol 1 time) to at most level 4 (2 symbols 3 times): 1,000 "
        "training and 500 test sequences; 2 epochs of 50 batches",
    ),
    "adding": (
        "decoupled: 5 tied boxes of width 64, GRU cells over 50 steps, and a head",
        "adding two marked ones of 50 numbers: 1,000 training and 500 test sequences; 2 epochs of 50 batches",
    ),
    "addition": (
        "decoupled: 2 boxes of width 128, 2 dense sigmoid layers, and a head",
        "addition of two numbers, sums of 8 bits: 1,000 training and 500 test sums; 2 epochs of 50 batches",
    ),
    "dense": (
        "decoupled: 3 boxes of width 256, 3 dense relu layers, and a head",
        "mnist (full): 1,000 training and 500 test images; 2 epochs of 50 batches",
    ),
    "digits": (
        "decoupled: 2 tied boxes of width 128 over 2 steps, and a head",
        "mnist01 (packaged): 1,000 training and 500 test images; 2 epochs of 50 batches",
    ),
}


@pytest.mark.parametrize("preset", SIZES)
def test_the_first_lines_tell_network_and_task_with_their_sizes(
    preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"train.epochs": 2, "data.train": 1_000, "data.test": 500, "data.batch": 20}
    config = resolve(preset, flags=flags)
    show.announce(config, Plan.of(config), reference=False)
    assert tuple(capsys.readouterr().out.splitlines()[:2]) == SIZES[preset]


def test_a_box_that_reads_its_own_steps_learns_from_them_alone_by_local() -> None:
    assert show.rule(resolve("copy", flags={"oracle.kind": "local"})).startswith("their own steps' losses alone")
    assert show.rule(resolve("dense", flags={"oracle.kind": "local"})) == "a classifier each"


TOLD = {
    "copy": (
        "example,label,prediction,right\n0,8,8,1\n1,8,4,0.5\n",
        '"whole": 0.5, "level": 2',
        ("test bits right  wholly right  level", "75.0 %        50.0 %      2"),
        ["75.0 % of bits right; 1 of 2 test sequences wholly right, at level 2 (2 symbols)"],
    ),
    "adding": (
        "example,label,prediction,right,output_0\n0,1.25,1.26,1,1.26\n1,0.5,0.75,0,0.75\n",
        "",
        ("test sequences within 0.04", "75.0 %"),
        ["1 of 2 test sequences told within 0.04 (50.0 %)", "  label        1.25  0.50", "  prediction   1.26  0.75"],
    ),
    "addition": (
        "example,label,prediction,right,output_0\n0,200,200,1,1\n1,3,2,0.875,0\n",
        '"whole": 0.5',
        ("test bits right  wholly right", "75.0 %        50.0 %"),
        [
            "93.8 % of bits right; 1 of 2 test sums wholly right",
            "  label         200     3",
            "  prediction    200     2",
        ],
    ),
}


#: The document of a run that has ended, as far as its tables need it.
DONE: dict[str, Any] = {
    "status": "done", "seconds": 1.0, "batches_per_s": None, "first_update_s": None, "digest": None,
    "reference": False, "stages": [],
}  # fmt: skip


@pytest.mark.parametrize("preset", TOLD)
def test_the_end_of_a_task_is_told_in_its_units(
    preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, more, columns, lines = TOLD[preset]
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "predictions.csv").write_text(table)
    row = '{"epoch": 1, "cost": 0.5, "test_cost": 0.4, "accuracy": 0.75' + (f", {more}" if more else "") + "}"
    (tmp_path / "metrics" / "metrics.jsonl").write_text(f"{row}\n")
    config = resolve(preset)
    show.result(Result(tmp_path, DONE), Plan.of(config), None, config.data)
    out = capsys.readouterr().out
    assert all(part in out for part in columns)
    assert "\n".join(lines) in out
    assert "image" not in out
    made = task_words.told(
        [{"example": "0", "label": "8", "prediction": "8", "right": "1"}], config.data, [], most=80
    )  # fmt: skip
    assert made["rows"] == [["0", "8", "8", "1"]]
    assert len(made["columns"]) == 4


@pytest.mark.parametrize(
    ("right", "accuracy", "has_whole", "line"),
    [
        ("0", "0.5", False, "1 of 2 test examples right (50.0 %)"),
        ("0.5", "0.75", True, "75.0 % of examples right; 1 of 2 test examples wholly right"),
    ],
    ids=["right or not", "in part"],
)
def test_an_own_task_tells_the_same_share_once(
    right: str, accuracy: str, has_whole: bool, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics").mkdir()
    table = f"example,label,prediction,right,output_0\n0,1,0.9,1,0.9\n1,1,0.2,{right},0.2\n"
    (tmp_path / "metrics" / "predictions.csv").write_text(table)
    row = f'{{"epoch": 1, "cost": 0.5, "test_cost": 0.4, "accuracy": {accuracy}, "whole": 0.5}}\n'
    (tmp_path / "metrics" / "metrics.jsonl").write_text(row)
    show.result(Result(tmp_path, DONE), Plan.of(resolve()), None, Data(name="own"))
    out = capsys.readouterr().out
    assert ("wholly right\n" in out) == has_whole
    assert line in out


def test_a_list_names_tasks_where_there_are_any(tmp_path: Path) -> None:
    make_folder(tmp_path / "a", {"data.train": 4})
    digits = runs.describe(tmp_path / "a")
    assert "task" not in show.run_table([digits])
    (tmp_path / "b" / "logs").mkdir(parents=True)
    (tmp_path / "b" / "config.toml").write_text(dump(resolve("copy")))
    (tmp_path / "b" / "summary.json").write_text('{"status": "done", "accuracy": 0.5, "seconds": 1.0, "level": 3}')
    copied = runs.describe(tmp_path / "b")
    lines = show.run_table([digits, copied]).splitlines()
    assert lines[0].endswith("task")
    assert lines[2].endswith("digits")
    assert lines[3].endswith("copy, level 3")
