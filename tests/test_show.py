"""What `timebox run` prints at its end: a partial epoch is marked, and what is suggested works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handmade import make_folder

from launch import Result, show
from pipeline.plan import Plan

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
