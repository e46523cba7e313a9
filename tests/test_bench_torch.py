"""Our pipelines beside torch's: what is asked of both, what is made of their figures, and that both train the same."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launch import bench_torch, torch_peer
from launch.bench_torch import CASES, MICRO, Case, Turn, apart, bar, by_epoch, decoupled, drift, lines, row
from launch.spread import Spread, spread
from pipeline.config import resolve
from pipeline.errors import ConfigError, RunError
from pipeline.plan import Plan

CASE = Case(64, 10, 1600, 60, ("1f1b",), 5.0)
TURNS = [Turn(100.0 + k, {3: 900.0 - k, 2: 600.0 + k}, 1e-7 * (k + 1), 1e-6) for k in range(5)]

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="needs torch: pip install 'timebox[bench]'"
)


def document(*, same: bool = True, repeats: int = 5) -> dict[str, Any]:
    """Return a document as `measure` makes it."""
    turns = TURNS[:repeats] if same else [turn._replace(loss=0.25) for turn in TURNS[:repeats]]
    made = row(CASE, "1f1b", turns)
    rows = [made, decoupled(CASE, [150.0, 151.0, 149.0, 150.0, 152.0][:repeats], [made])]
    product = {
        "product": "input",
        "shape": [10, 784, 64],
        "numpy": [100.0, 102, 98, 99, 101],
        "torch": [50.0, 51, 49, 50, 50],
    }
    return {"rows": rows, "products": [{"width": 64, "rows": 10, "products": [product]}], "torch": "2.13.0"}


def test_the_better_of_torchs_two_pipelines_is_its_figure() -> None:
    found = row(CASE, "1f1b", TURNS)
    assert found["torch_stages"] == 2
    assert found["torch_us"]["3"]["median"] == 898, "the other is shown as well"
    assert found["ratio"]["median"] == pytest.approx(602 / 102), "pairs of one repeat, torch's time over ours"
    assert found["verdict"] == "faster"


def test_decoupled_is_held_against_torchs_faster_schedule() -> None:
    slow = row(CASE, "gpipe", [turn._replace(torch={3: 5000.0, 2: 4000.0}) for turn in TURNS])
    found = decoupled(CASE, [300.0] * 5, [slow, row(CASE, "1f1b", TURNS)])
    assert found["against"] == "1f1b"
    assert found["ratio"]["median"] == pytest.approx(602 / 300)
    assert "loss_difference" not in found, "it is another rule: it need not end alike"


def test_the_text_shows_both_pipelines_the_ratio_and_the_bar() -> None:
    text = "\n".join(lines(document()))
    one = next(line for line in text.splitlines() if "1f1b" in line)
    parts = ("64×10", "102 (100 – 104)", "898 (896 – 900)", "602 (600 – 604)", "5.90 (", "faster", "5 met", "5e-07")
    assert [part for part in parts if part not in one] == []
    assert "100.0 (98.0 – 102.0)" in text, "the bare products are there, so that BLAS can be told from pipeline"
    assert "nothing" not in text


def test_two_trainings_are_told_as_two() -> None:
    assert "the losses differ by 2.5e-01: these are two trainings" in "\n".join(lines(document(same=False)))


def test_one_repeat_has_figures_and_no_verdict() -> None:
    assert "no difference shown (1 repeat" in "\n".join(lines(document(repeats=1)))


@pytest.mark.parametrize(
    ("values", "wanted", "text"),
    [
        ([5.1, 5.2, 5.3, 5.4, 5.5], 5.0, "5 met"),
        ([4.0, 4.1, 5.3, 5.4, 5.5], 5.0, "5 met by the median"),
        ([4.0, 4.2, 4.3, 5.4, 5.5], 5.0, "5 not met"),
        ([6.0], 5.0, "5 met by the median"),
        ([6.0] * 5, None, "–"),
    ],
)
def test_a_bar_is_met_by_the_whole_interval_by_the_median_or_not(
    values: list[float], wanted: float | None, text: str
) -> None:
    found: Spread = spread(values)
    assert bar(found, wanted) == text


def test_losses_are_held_against_each_other_epoch_by_epoch() -> None:
    assert by_epoch([1.0, 3.0, 5.0, 7.0], 2) == [2.0, 6.0]
    assert apart([2.0, 6.0], [2.0, 6.0]) == 0
    assert apart([2.0, 6.0], [2.0, 3.0]) == pytest.approx(0.5)
    assert apart([math.nan], [2.0]) == math.inf


def test_the_weights_difference_is_a_share_of_the_way_gone() -> None:
    first, ours, theirs = ({"W": np.full((2, 2), value)} for value in (0.0, 10.0, 9.0))
    assert drift(first, ours, theirs) == pytest.approx(0.1)
    assert drift(first, first, ours) == 0, "who has gone nowhere has no share"
    assert drift(first | {"oracle_L": first["W"]}, ours | {"oracle_L": ours["W"]}, theirs) == pytest.approx(0.1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.width}x{case.rows}")
@pytest.mark.parametrize("kind", ["gpipe", "1f1b", "decoupled"])
def test_what_travels_is_one_size_in_every_schedule(case: Case, kind: str, tmp_path: Path) -> None:
    plan = Plan.of(resolve("article", flags=case.flags(kind, tmp_path)))
    assert (plan.batch, plan.batches, plan.micro) == (case.rows, case.units, 1 if kind == "decoupled" else MICRO)
    assert case.images % (case.rows * MICRO) == 0, "every batch is whole"
    assert case.units // MICRO > 2 * torch_peer.WARM, "most of it is timed"


def test_a_rank_is_asked_for_by_its_run_folder() -> None:
    words = ["train", "runs/one", "--rank", "1", "--stages", "3", "--store", "/tmp/store", "--kind", "gpipe"]
    asked = torch_peer.parser().parse_args(words)
    assert (asked.folder, asked.rank, asked.stages, asked.kind) == (Path("runs/one"), 1, 3, "gpipe")
    assert asked.warm == torch_peer.WARM
    with pytest.raises(SystemExit):
        torch_peer.parser().parse_args([*words[:-1], "locked"])


def test_without_torch_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert torch_peer.main(["products", "1", "1"]) == 2
    assert capsys.readouterr().err == f"{torch_peer.MISSING}\n"
    assert "pip install 'timebox[bench]'" in torch_peer.MISSING
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(ConfigError, match="timebox"):
        bench_torch.measure(1)


def test_a_rank_that_fails_ends_the_others_wait_with_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "1.err").write_text("Traceback\nValueError: it is so\n")
    ranks = [subprocess.Popen([sys.executable, "-c", code]) for code in ("import time; time.sleep(60)", "exit(3)")]
    try:
        with pytest.raises(RunError, match=r"rank 1 of torch's failed: ValueError: it is so"):
            bench_torch._wait(ranks, tmp_path)
    finally:
        for process in ranks:
            process.kill()
            process.wait()


@needs_torch
@pytest.mark.live
@pytest.mark.parametrize("kind", ["gpipe", "1f1b"])
def test_torch_trains_the_same_network(kind: str, tmp_path: Path) -> None:
    case = Case(24, 5, 160, 3, (kind,), 1.0)
    found = bench_torch._turn(case, kind, tmp_path)
    assert found.loss < 1e-4
    assert found.weights < 1e-3
    assert set(found.torch) == {2, 3}


@needs_torch
def test_both_multiply_the_same_shapes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_peer, "PRODUCT_S", 0.001)
    assert torch_peer.main(["products", "3", "8"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["shape"] for one in found] == [[3, 784, 8], [3, 8, 8], [8, 3, 8]]
    assert all(rate > 0 for one in found for who in ("numpy", "torch") for rate in one[who])
