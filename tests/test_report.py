"""The report: what it gathers of a run, of several, of half a run; that it is one file and says what it lacks."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import Hand, hands, make_folder
from test_breakdown import small_run

from launch import report, resolve, run
from launch.cli import main
from pipeline.config import load as load_config
from pipeline.lacks import FORWARDED
from pipeline.plan import Plan


def data_of(page: Path) -> dict[str, Any]:
    """Return the document that a page holds."""
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', text, re.DOTALL)
    assert found is not None
    document = json.loads(found[1])
    assert isinstance(document, dict)
    return document


def unpacked(columns: dict[str, Any]) -> dict[str, list[int]]:
    """Return columns as the page's script reads them."""
    content, found, offset = gzip.decompress(base64.b64decode(columns["data"])), {}, 0
    for name, kind in columns["fields"]:
        values = np.frombuffer(content, f"<{kind}", columns["count"], offset)
        offset += values.nbytes
        found[name] = [int(value) for value in values]
    assert offset == len(content)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_run(tmp_path / "run")
    return tmp_path / "run"


def test_columns_hold_the_records_in_tenths_of_microseconds(folder: Path) -> None:
    run = report.collect(folder)
    spans, waits, messages = (unpacked(run[name]) for name in ("spans", "waits", "messages"))
    assert spans["stage"] == [1, 1, 1, 2, 2, 2, 3, 3]
    assert [chr(action) for action in spans["action"]] == list("FFTFFTFF")
    assert spans["start"][:3] == [0, 100, 2060 - 100], "each start is the distance from the one before, stage by stage"
    assert spans["took"] == [100, 200, 140, 1000, 300, 150, 50, 50]
    assert spans["changed"] == [0, 1, 1, 0, 1, 1, 0, 1]
    assert list(zip(waits["stage"], waits["blocked"], waits["source"], waits["took"], strict=True)) == [
        (1, 1, 2, 1610), (2, 0, 1, 420), (2, 1, 3, 250), (3, 0, 2, 1950),
    ]  # fmt: skip
    assert messages["hop"] == [100, 100, 90, 60]
    assert [sum(messages["sent"][: place + 1]) for place in range(4)] == [320, 1850, 1910, 2140]


def test_a_span_of_ten_minutes_and_what_follows_it_are_in_their_place(tmp_path: Path) -> None:
    """Above 429 s a length and a distance were once cut, and all later spans of the stage stood too early."""
    one, *others = hands(tmp_path, make_folder(tmp_path))
    one.part("F0", "forward", 600e6).idle(500e6).part("F0", "update", 20).part("F1", "forward", 10).done()
    for other in others:
        other.part("F0", "forward", 30).done()
    spans = unpacked(report.collect(tmp_path)["spans"])
    assert spans["took"] == [6_000_000_000, 200, 100, 300, 300]
    assert spans["start"] == [0, 11_000_000_000, 200, 0, 0]


def test_an_ordinary_runs_columns_are_narrow(folder: Path) -> None:
    run = report.collect(folder)
    assert {kind for name in ("spans", "waits", "messages") for _, kind in run[name]["fields"]} == {"u1", "u2", "u4"}


def test_a_wait_for_no_message_in_particular_is_not_drawn_as_starved(tmp_path: Path) -> None:
    """The statistics say `other` of it, and so its lane stays empty."""
    one = Hand(tmp_path, "box-1", Plan.of(make_folder(tmp_path)))
    one.wait(7, FORWARDED).part("F0", "forward", 10).wait(3, None).done()
    run = report.collect(tmp_path)
    assert (run["waits"]["count"], run["spans"]["count"]) == (0, 1)
    (stage,) = run["stats"]["stages"]
    assert (stage["starved_s"], stage["blocked_s"]) == ({}, {})
    assert stage["other_s"] == pytest.approx(10e-6)


def test_a_page_is_one_file_with_everything_that_it_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "8 spans and 4 messages" in out
    assert "recording took at least" in out, "every report states what tracing cost"
    page = folder / "report.html"
    (run,) = data_of(page)["runs"]
    assert run["stages"] == ["box-1", "box-2", "head"]
    assert run["stats"]["critical_path"]["hops"] == 3
    assert run["stats"]["tracing"]["share"] > 0
    assert run["config"]["model"]["width"] == 4
    assert len(run["steps"]) == 8
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page.read_text()), "nothing is fetched"
    assert err == ""


def test_several_runs_are_in_one_page(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_run(tmp_path / "other")
    out = tmp_path / "both.html"
    assert main(["report", str(folder), str(tmp_path / "other"), "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["runs"] == ["run", "other"]
    assert document["bytes"] == out.stat().st_size
    assert [run["run"] for run in data_of(out)["runs"]] == ["run", "other"]


def test_a_damaged_trace_is_named_in_the_page_and_beside_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "trace" / "box-2.trace").write_bytes(b"gone")
    assert main(["report", str(folder)]) == 0
    assert "box-2.trace: not a trace of this version" in capsys.readouterr().err
    (run,) = data_of(folder / "report.html")["runs"]
    assert any("box-2" in text for text in run["warnings"])
    assert set(unpacked(run["spans"])["stage"]) == {1, 3}


def test_a_damaged_table_of_oracles_costs_their_curves_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "metrics").mkdir()
    (folder / "metrics" / "oracle.csv").write_text("batch,box,cosine,norm_ratio\n3,1,0.5")
    assert main(["report", str(folder)]) == 0
    assert "oracle.csv: damaged" in capsys.readouterr().err
    (run,) = data_of(folder / "report.html")["runs"]
    assert (run["oracle"], run["spans"]["count"]) == ([], 8)


def test_a_run_without_a_trace_still_has_its_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(tmp_path / "run", {"trace.level": "off"})
    (tmp_path / "run" / "metrics").mkdir()
    (tmp_path / "run" / "metrics" / "metrics.jsonl").write_text('{"epoch": 1, "cost": 0.25}\n')
    assert main(["report", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert "run: it ran with trace.level off" in out
    assert err == "", "what was asked for is no warning"
    (run,) = data_of(tmp_path / "run" / "report.html")["runs"]
    assert (run["stats"], run["spans"]["count"], run["epochs"]) == (None, 0, [{"epoch": 1, "cost": 0.25}])
    assert (run["warnings"], run["reference"]) == ([], False)
    assert "trace.level off" in run["untraced"]


def test_a_reference_is_called_one_and_is_not_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(tmp_path / "run")
    (tmp_path / "run" / "launcher.json").write_text('{"pid": 1, "reference": true, "stages": []}')
    (tmp_path / "run" / "metrics").mkdir()
    (tmp_path / "run" / "metrics" / "metrics.jsonl").write_text('{"epoch": 1, "cost": 0.25}\n')
    assert main(["report", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().err == ""
    (run,) = data_of(tmp_path / "run" / "report.html")["runs"]
    assert (run["warnings"], run["reference"]) == ([], True)
    assert "the reference is one process" in run["untraced"]


def test_a_run_that_lost_its_trace_is_still_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(tmp_path / "run")
    (tmp_path / "run" / "metrics").mkdir()
    (tmp_path / "run" / "metrics" / "metrics.jsonl").write_text('{"epoch": 1, "cost": 0.25}\n')
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "has no trace" in capsys.readouterr().err


def test_a_run_that_is_named_twice_is_shown_once_and_that_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(folder), str(folder)]) == 0
    assert "run: was named more than once and is shown once" in capsys.readouterr().out
    assert [run["run"] for run in data_of(folder / "report.html")["runs"]] == ["run"]


def test_another_kind_of_file_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """HTML was once written into a file that was called .pdf."""
    assert main(["report", str(folder), "--out", str(folder / "x.pdf")]) == 2
    assert "'x.pdf' is no kind of report; its name ends with .html" in capsys.readouterr().err
    assert not (folder / "x.pdf").exists()


def test_a_folder_that_is_not_there_is_not_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), "--out", str(folder / "deeper" / "x.html")]) == 2
    err = capsys.readouterr().err
    assert f"there is no folder {folder / 'deeper'}; choose another file with --out" in err
    assert not (folder / "deeper").exists()


def test_a_last_epoch_that_did_not_end_is_told_as_a_part(folder: Path) -> None:
    """It was once plotted like the others."""
    (folder / "metrics").mkdir()
    (folder / "metrics" / "metrics.jsonl").write_text('{"epoch": 1, "cost": 0.25}\n')
    size = Plan.of(load_config(folder / "config.toml")).epoch_batches
    (folder / "summary.json").write_text('{"status": "interrupted"}')
    assert report.collect(folder)["partial"] == f"1 of its {size} batches"
    (folder / "summary.json").write_text('{"status": "done"}')
    assert report.collect(folder)["partial"] is None


def test_where_nothing_is_left_that_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(tmp_path / "run")
    assert main(["report", str(tmp_path / "run")]) == 1
    assert "run: nothing to report: " in capsys.readouterr().err
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_place_that_cannot_be_written_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), "--out", str(folder / "config.toml" / "x.html")]) == 2
    assert "--out: cannot write" in capsys.readouterr().err


def test_a_tasks_predictions_are_a_table_the_least_right_first(tmp_path: Path) -> None:
    flags = {"data.name": "copy", "model.loss": "bce", "model.steps_per_box": 3, "model.tied": True}
    make_folder(tmp_path, flags)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "metrics.jsonl").write_text('{"epoch": 1, "cost": 0.5, "accuracy": 0.75, "level": 1}\n')
    rows = "example,label,prediction,right\n0,8,8,1\n1,8,4,0.5\n"
    (tmp_path / "metrics" / "predictions.csv").write_text(rows)
    found = report.collect(tmp_path)
    assert found["predictions"]["rows"] == [["1", "8", "4", "0.5"], ["0", "8", "8", "1"]]
    assert found["predictions"]["words"] == (
        "75.0 % of bits right; 1 of 2 test sequences wholly right, at level 1 (1 symbol)"
    )
    assert (found["right_words"], found["cost_words"]) == ("test bits right", "bits a bit")


@pytest.mark.live
def test_a_real_run_is_reported_whole(tmp_path: Path) -> None:
    flags = {"model.width": 16, "train.epochs": 3, "run.dir": str(tmp_path), "run.plot": False, "log.level": "info"}
    result = run(resolve("article", flags=flags))
    found = report.collect(result.folder)
    assert found["warnings"] == []
    assert len(found["epochs"]) == 3
    assert {(row["batch"], row["box"]) for row in found["oracle"]} == {
        (batch, box) for batch in (18, 56, 93, 131) for box in (1, 2)
    }
    images = np.frombuffer(base64.b64decode(found["predictions"]["pixels"]), np.uint8).reshape(-1, 28, 28)
    assert len(images) == found["predictions"]["total"] == 20
    # Zeros are round: their middle is empty, that of a one is not.
    middles = images[:, 13:15, 13:15].mean(axis=(1, 2))
    labels = np.array(found["predictions"]["labels"])
    assert middles[labels == 0].mean() < 40 < middles[labels == 1].mean()
    # F has two parts at each stage, T one at the boxes, U one at the boxes, E one; four batches are probed at each stage.
    batches, evaluations = 150, 3
    assert found["spans"]["count"] == batches * (3 * 2 + 2 + 2) + evaluations * 3 + 4 * 3
