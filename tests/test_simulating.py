"""`timebox simulate`: predictions of real runs, what-ifs, maps, and what it refuses."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launch import calibrate, paying, recording, what_if
from launch.cli import main
from launch.live import launch
from launch.simulating import render
from pipeline.config import resolve
from pipeline.costs import Costs, Dice
from pipeline.plan import Plan
from pipeline.results import load_weights
from pipeline.simulate import simulate
from pipeline.trace import read_journal

FLAGS: dict[str, Any] = {
    "model.width": 16,
    "data.train": 40,
    "data.test": 40,
    "train.epochs": 2,
    "train.evaluate_every": 1,
    "run.plot": False,
}


@pytest.fixture(scope="module")
def runs_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a run of each schedule, made once."""
    parent, made = tmp_path_factory.mktemp("runs"), {}

    def of(schedule: str) -> Path:
        if schedule not in made:
            flags = FLAGS | {"schedule.kind": schedule, "run.dir": str(parent), "run.name": schedule}
            made[schedule] = launch(resolve("article", flags=flags)).folder
        return Path(made[schedule])

    return of


def ask(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    """Run `timebox simulate --json` and return its document."""
    assert main(["simulate", *map(str, words), "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.live
@pytest.mark.parametrize("schedule", ["article", "locked", "decoupled"])
def test_a_run_is_predicted_and_held_against_what_it_did(
    schedule: str, runs_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs_of(schedule)
    made = ask(capsys, run)
    found = recording.load(run)
    assert made["measured_s"] == pytest.approx((found.end_ns - found.origin_ns) / 1e9)
    assert made["errors"]["makespan"] == pytest.approx(made["makespan_s"] / made["measured_s"] - 1)
    assert set(made["errors"]["per_stage"]) == {"box-1", "box-2", "head"}
    assert all(abs(error) < 1e-9 for error in made["errors"]["per_action"].values()), "its own costs"
    assert made["actions"] == sum(len(read_journal(run, name)) for name in made["errors"]["per_stage"])
    assert made == ask(capsys, run) | {key: made[key] for key in ("seconds", "actions_per_s")}, "the same on every call"
    assert made["makespan_s"] != ask(capsys, run, "--seed", "1")["makespan_s"]


@pytest.mark.live
def test_what_a_stage_spent_and_what_it_waited_add_up_to_its_time(runs_of: Callable[[str], Path]) -> None:
    found = recording.load(runs_of("decoupled"))
    for stage in found.stages:
        records, took = calibrate._spent(stage)
        waits = stage.of("w")
        before = np.concatenate([[stage.go_ns], stage.array["end"][:-1]])
        is_wait = stage.array["kind"] == ord("w")
        idle = int((stage.array["start"] - before)[is_wait].sum()) + int((waits["end"] - waits["start"]).sum())
        rest = int(stage.array["end"][-1] - stage.array["end"][-2])  # the mark at the end
        start = 0 if is_wait[1] else int(stage.array["start"][1]) - stage.go_ns  # a first wait has its pause in `idle`
        assert start + int(took.sum()) + idle + rest == stage.total_ns, stage.name
        assert len(records) + len(waits) + 2 == len(stage.array)


@pytest.mark.live
def test_what_a_stage_needs_to_get_ready_is_passed_once_and_belongs_to_no_batch(
    runs_of: Callable[[str], Path],
) -> None:
    run = runs_of("locked")
    found = recording.load(run)
    costs = calibrate.from_trace(found)
    first = found.stages[0]
    assert costs.starts[1] == first.array["start"][1] - found.origin_ns > 1_000_000
    parts = first.array[1:3]
    assert costs.actions[1, "F"][0] <= parts["end"][1] - parts["start"][0], "without it"
    plan = Plan.of(found.config)
    last = max(costs.starts.values())  # whoever else was late in this run, nobody now waits for another
    usual, late = (dataclasses.replace(costs, starts={**costs.starts, 1: last + more}) for more in (0, 10**9))
    for seed in range(3):  # whichever batches are drawn, and however often
        longer = simulate(plan, late, seed=seed).makespan_ns - simulate(plan, usual, seed=seed).makespan_ns
        assert 0.99e9 < longer < 1.01e9


@pytest.mark.live
def test_a_slow_stage_makes_the_run_as_long_as_it_would(
    runs_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    made = ask(capsys, runs_of("decoupled"), "--what-if", "emulate.slow=box-2=20")
    assert made["makespan_s"] > 80 * 0.02
    assert made["stages"][1]["bubble"] < 0.2
    assert "errors" not in made, "there is nothing to hold a what-if against"


@pytest.mark.live
@pytest.mark.parametrize(
    "changes",
    [
        ["model.boxes=4"], ["schedule.window=1"], ["schedule.kind=locked"], ["schedule.kind=article"], ["latency_ms=3"],
        ["bandwidth_mb_s=0.5"], ["jitter_ms=2"], ["cores=1"], ["straggle=0.1", "factor=5"], ["model.width=64"],
        ["model.tied=false", "model.boxes=3", "latency_ms=1"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_anything_may_be_otherwise(
    changes: list[str], runs_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs_of("decoupled")
    usual, made = ask(capsys, run), ask(capsys, run, "--what-if", *changes)
    slower = {
        "schedule.window=1",
        "schedule.kind=locked",
        "latency_ms=3",
        "bandwidth_mb_s=0.5",
        "jitter_ms=2",
        "cores=1",
    }
    if changes[0] in slower:
        assert made["makespan_s"] > usual["makespan_s"]
    assert made["stages"][-1]["name"] == "head"


@pytest.mark.live
@pytest.mark.parametrize("schedule", ["article", "locked"])
def test_with_arithmetic_a_program_ends_with_the_weights_of_the_processes(
    schedule: str, runs_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = runs_of(schedule), tmp_path / "virtual"
    made = ask(capsys, run, "--arithmetic", "--what-if", "latency_ms=7", "jitter_ms=3", "--out", out)
    for name in ("box-1", "box-2", "head"):
        assert read_journal(out, name) == read_journal(run, name), "the journals are the live ones"
        live, virtual = (load_weights(each / "checkpoint" / "final" / f"{name}.npz") for each in (run, out))
        assert all(np.array_equal(live[key], virtual[key]) for key in live)
    assert made["digest"] == json.loads((run / "summary.json").read_text())["digest"]


@pytest.mark.live
def test_a_simulated_run_replays_to_the_bit_and_every_command_reads_it(
    runs_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = runs_of("decoupled"), tmp_path / "virtual"
    made = ask(capsys, run, "--arithmetic", "--out", out)
    assert main(["replay", str(out), "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)
    assert (replayed["same"], replayed["digest"]) == (True, made["digest"])
    for name in ("epochs.csv", "predictions.csv"):
        lines = [(folder / "metrics" / name).read_text().splitlines() for folder in (run, out)]
        assert len(lines[0]) == len(lines[1]) > 2, name
    assert main(["stats", str(out), "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert stats["makespan_s"] == pytest.approx(made["makespan_s"])
    for stage, told in zip(stats["stages"], made["stages"], strict=True):
        assert stage["compute_s"] + stage["copy_s"] == pytest.approx(told["busy_s"])
        assert abs(stage["unexplained_s"]) < 1e-6
    for command in (["timeline"], ["report"], ["logs"], ["order", "--batch", "3"]):
        assert main([command[0], str(out), *command[1:]]) == 0, command
    assert main(["simulate", str(run), "--out", str(out)]) == 2
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.live
def test_what_was_emulated_in_a_run_is_not_counted_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = FLAGS | {"schedule.kind": "decoupled", "run.dir": str(tmp_path), "emulate.slow": {"box-2": 10.0}}
    run = launch(resolve("article", flags=flags)).folder
    usual = ask(capsys, run)["makespan_s"]
    assert 80 * 0.010 < usual < 80 * 0.020
    assert 80 * 0.020 < ask(capsys, run, "--what-if", "emulate.slow=box-2=20")["makespan_s"] < 80 * 0.029
    assert ask(capsys, run, "--what-if", "emulate.slow=box-2=0")["makespan_s"] < 0.6 * usual
    assert ask(capsys, run, "--what-if", "emulate.slow=box-1=10")["stages"][1]["bubble"] > 0.5


@pytest.mark.live
def test_a_part_of_a_run_is_not_held_against_the_whole(
    runs_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(runs_of("decoupled"), tmp_path / "copy"))
    document = json.loads((copy / "summary.json").read_text())
    (copy / "summary.json").write_text(json.dumps(document | {"status": "interrupted"}))
    assert "errors" not in ask(capsys, copy)


@pytest.mark.live
def test_several_seeds_tell_how_much_is_chance(
    runs_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    made = ask(capsys, runs_of("decoupled"))
    low, high = made["range_s"]
    assert low <= made["makespan_s"] <= high
    assert low < high


def test_every_batch_of_a_run_is_as_likely_to_be_drawn_as_any_other() -> None:
    drawn: Counter[int] = Counter()
    costs = Costs({(1, "F"): tuple(range(500))})
    for seed in range(400):
        draw = Dice(costs, seed, 500).action(1, "F")
        drawn.update(draw(batch) for batch in range(500))
    assert set(drawn) == set(range(500))
    assert 200 < min(drawn.values()) <= max(drawn.values()) < 700


@pytest.mark.live
def test_both_timelines_stand_one_above_the_other_in_one_trace(
    runs_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = runs_of("decoupled"), tmp_path / "both.json.gz"
    made = ask(capsys, run, "--out", out)
    assert made["out"] == str(out)
    events = json.loads(gzip.decompress(out.read_bytes()))["traceEvents"]
    names = {each["args"]["name"]: each["pid"] for each in events if each["name"] == "process_name"}
    wanted = [f"{way} {name}" for way in ("measured", "simulated") for name in ("box-1", "box-2", "head")]
    assert list(names) == wanted
    order = {each["pid"]: each["args"]["sort_index"] for each in events if each["name"] == "process_sort_index"}
    assert sorted(wanted, key=lambda name: order[names[name]]) == wanted
    flows = Counter(each["id"] for each in events if each["ph"] in "sf")
    assert set(flows.values()) == {2}, "no arrow leads from one run to the other"
    sides = {names[name]: name.split()[0] for name in names}
    assert all(len({sides[each["pid"]] for each in events if each.get("id") == flow}) == 1 for flow in [*flows][::500])
    assert main(["simulate", str(run), "--what-if", "cores=1", "--out", str(out)]) == 2
    assert "give a RUN and no --what-if" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["both.json.gz"]


@pytest.mark.live
def test_another_runs_trace_may_be_the_calibration(
    runs_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = runs_of("decoupled"), runs_of("article")
    made = ask(capsys, run, "--calibration", other)
    assert other.name in made["costs"]
    assert made["errors"]["per_action"]["F"] != 0
    alone = ask(capsys, "--schedule.kind", "locked", "--train.epochs", "1", "--calibration", other)
    assert alone["schedule"] == "locked"
    assert "measured_s" not in alone


def test_a_configuration_is_simulated_without_any_run(capsys: pytest.CaptureFixture[str]) -> None:
    flags = [word for key, value in FLAGS.items() for word in (f"--{key}", str(value).lower())]
    made = ask(capsys, *flags, "--schedule.kind", "decoupled", "--what-if", "latency_ms=2")
    assert made["batches"] == 80
    assert "messages are free" in made["costs"]
    assert made["makespan_s"] > 0.002


def test_costs_may_be_given_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "costs.toml"
    file.write_text('[actions]\nF = 2\nB = 3.0\n"head.F" = 1\n[hops]\nall = 0.5\n"head>box-1" = 1.5\n')
    flags = [
        "--model.boxes",
        "1",
        "--data.train",
        "10",
        "--train.epochs",
        "1",
        "--schedule.kind",
        "locked",
        "--costs",
        file,
    ]
    made = ask(capsys, *flags)
    assert made["makespan_s"] == pytest.approx(10 * (2 + 0.5 + 1 + 1.5 + 3) / 1e3 + 0.5 / 1e3, abs=0.0006)
    assert made["costs"] == str(file)
    file.write_text('[actions]\nF = [1, 2, 3]\n[sends]\nactivation = 0.1\n[takes]\n"head.activation" = 0.2\n')
    assert ask(capsys, *flags)["makespan_s"] > 10 * 1.3e-3


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[action]\nF = 1\n", "there is no group action; groups are actions, sends, takes, hops"),
        ("[actions]\nF = -1\n", "actions.F: milliseconds are wanted"),
        ("[actions]\nF = []\n", "actions.F: milliseconds are wanted"),
        ('[actions]\n"box-9.F" = 1\n', "'box-9' is no stage of this run"),
        ("[actions]\nFT = 1\n", "actions.FT: F or head.F is how such a key looks"),
        ("[sends]\nletter = 1\n", "sends.letter: activation or head.activation is how such a key looks"),
        ("[hops]\nbox-1 = 1\n", "hops.box-1: all or box-1>box-2 is how such a key looks"),
        ("hops = 1\n", "milliseconds are wanted"),
        ("[hops\n", "costs.toml: "),
    ],
    ids=repr,
)
def test_a_wrong_file_of_costs_is_one_clear_line(
    text: str, error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "costs.toml"
    file.write_text(text)
    assert main(["simulate", "--costs", str(file)]) == 2
    told = capsys.readouterr().err
    assert error in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["nowhere", "--costs", "missing.toml"], "--costs: goes with a configuration"),
        (["--costs", "missing.toml"], "missing.toml: No such file"),
        (["--what-if", "latency_ms=-1"], "latency_ms=-1: at least 0 is wanted"),
        (["--what-if", "cores=0"], "cores=0: at least 1 is wanted"),
        (["--what-if", "cores=1.5"], "a whole number is wanted"),
        (["--what-if", "straggle=2"], "at least 0 and at most 1 is wanted"),
        (["--what-if", "bandwidth_mb_s=nan"], "at least 0 is wanted"),
        (["--what-if", "latency=1"], "there is no 'latency'"),
        (["--what-if", "boxes"], "say KEY=VALUE"),
        (["--what-if", "model.boxs=4"], "there is no key model.boxs; did you mean model.boxes?"),
        (["--what-if", "emulate.slow=box-1=-5"], "float >= 0.0 is wanted, not 'box-1=-5'"),
        (["--what-if", "emulate.slow=box-1=5,box-1=6"], "'box-1=5,box-1=6' names one twice"),
        (["--what-if", "model.boxes=0"], "model.boxes"),
        (["--what-if", "latency_ms=x"], "'x' is no number"),
        (["--seed", "-1"], "--seed: -1"),
        (["nowhere"], "no run 'nowhere'"),
        (["--map", "--what-if", "latency_ms=2"], "varies boxes and latency itself"),
        (["--map", "--out", "map.pdf"], "a map is written as"),
    ],
    ids=str,
)
def test_bad_input_is_one_clear_line(
    words: list[str], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("launch.paying.BOXES", (1,))
    assert main(["simulate", *words]) == 2
    told = capsys.readouterr().err
    assert error in told
    assert told.count("\n") == 1


# The map


def test_decoupling_over_one_process_gains_by_boxes_and_loses_by_long_hops(tmp_path: Path) -> None:
    made = paying.document(other=paying.PROCESS, boxes=(1, 2, 4), ratios=(0.0, 0.1, 1.0, 10.0, 100.0))
    by_boxes = {row["boxes"]: row for row in made["rows"]}
    for boxes, row in by_boxes.items():
        speedups = [cell["speedup"] for cell in row["cells"]]
        assert speedups == sorted(speedups, reverse=True)
        # F, B of each box and F of the head against the slowest stage's F and T, but for filling the pipeline
        assert speedups[0] == pytest.approx((2 * boxes + 1) / 2, rel=0.02)
        assert 1 < row["crossover"] < 100
    assert by_boxes[1]["crossover"] < by_boxes[2]["crossover"] < by_boxes[4]["crossover"]
    for suffix in (".csv", ".json", ".svg", ".png"):
        paying.write(made, tmp_path / f"map{suffix}")
    with (tmp_path / "map.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 15
    assert float(rows[0]["speedup"]) == made["rows"][0]["cells"][0]["speedup"]
    assert json.loads((tmp_path / "map.json").read_text()) == made


def test_locked_never_gains_where_every_stage_has_a_processor() -> None:
    made = paying.document(boxes=(1, 3), ratios=(0.0, 1.0))
    assert [row["crossover"] for row in made["rows"]] == [None, None]
    assert all(cell["speedup"] >= 1 for row in made["rows"] for cell in row["cells"])
    assert "to 1 and on" in paying.render(made)


def test_no_speed_up_is_above_the_number_of_processors() -> None:
    made = paying.document(other=paying.PROCESS, boxes=(2, 6), ratios=(0.0, 1.0), cores=2)
    assert all(cell["speedup"] <= 2 for row in made["rows"] for cell in row["cells"])


@pytest.mark.parametrize(
    ("speedups", "crossover"),
    [
        ([2.0, 1.5, 1.2], None), ([0.5, 0.7, 0.9], None), ([0.5, 1.0, 3.0], 1.0), ([3.0, 1.5, 0.5], 10**0.5),
        ([1.5, 0.5, 0.2], 0.5),
    ],
)  # fmt: skip
def test_the_crossover_lies_between_two_columns(speedups: list[float], crossover: float | None) -> None:
    cells = [{"hop": hop, "speedup": speedup} for hop, speedup in zip((0.0, 1.0, 10.0), speedups, strict=True)]
    assert paying.crossover(cells) == (None if crossover is None else pytest.approx(crossover))


@pytest.mark.live
def test_a_map_takes_a_runs_own_costs(runs_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.paying.BATCHES", 20)
    made = paying.document(recording.load(runs_of("decoupled")), boxes=(1, 2), ratios=(0.0, 10.0))
    assert made["unit_s"] > 0
    assert all(cell["speedup"] > 0 for row in made["rows"] for cell in row["cells"])


def test_a_request_says_where_its_costs_are_from() -> None:
    config = resolve("article", flags=FLAGS)
    assert "measured here" in what_if.of_config(config, None, []).origin


def test_a_prediction_that_hangs_on_what_is_drawn_says_so() -> None:
    made = {
        "schedule": "article", "boxes": 2, "batches": 9, "makespan_s": 2.0, "batches_per_s": 4.5, "costs": "a file", "cores": 0,
        "seed": 0, "actions": 9, "actions_per_s": 9.0, "stages": [],
    }  # fmt: skip
    assert "the longest is 2.0 times the shortest" in render(made | {"range_s": [1.0, 2.0]})
    assert "the longest" not in render(made | {"range_s": [1.9, 2.0]})
    assert "the longest" not in render(made)
