"""Comparing runs: which are repeats, what rows are called, what is shown and what is not claimed, and what costs what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import handmade
import pytest

from launch import (
    compare,
    compare_controls,
    compare_learning,
    compare_plots,
    compare_rows,
    compare_runs,
    compare_text,
    runs,
)
from launch.compare_rows import Row
from launch.compare_runs import Evaluation
from launch.live import launch
from launch.spread import LEAST, NO_DIFFERENCE, spread, verdict
from pipeline.config import dump, load, resolve
from pipeline.errors import ConfigError
from pipeline.lacks import MESSAGE, WINDOW, Lack
from pipeline.schema import Config

ENVIRONMENT: dict[str, Any] = {
    "processor": "P1",
    "cores": 2,
    "platform": "Linux",
    "python": "3.11.7",
    "libzmq": "4.3.5",
    "packages": {"timebox": "0.1.0", "numpy": "2.4.6", "pyzmq": "27.0.0"},
    "blas": {"name": "openblas", "version": "0.3"},
}
LOCKED, ARTICLE = {"schedule.kind": "locked"}, {"schedule.kind": "article"}


def fabricate(
    folder: Path,
    flags: dict[str, Any] | None = None,
    *,
    rate: float = 100.0,
    accuracy: Sequence[float] = (0.5, 1.0),
    status: str = "done",
    reference: bool = False,
    environment: dict[str, Any] | None = None,
) -> Path:
    """Make the folder of a run that has come to its end: so many batches a second, evaluated after each epoch."""
    asked = {"trace.level": "off", "train.epochs": len(accuracy), **(flags or {})}
    config = handmade.make_folder(folder, asked)
    seconds = config.train.epochs * config.data.train / rate
    stages = [{"name": "head", "pid": 1, "seconds": seconds, "busy_s": seconds}]
    summary = {
        "status": status,
        "seconds": seconds + 1,
        "reference": reference,
        "batches_per_s": rate,
        "accuracy": accuracy[-1],
        "stages": stages,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT | (environment or {})))
    (folder / "metrics").mkdir()
    rows = ({"epoch": epoch, "cost": 0.1, "accuracy": right} for epoch, right in enumerate(accuracy, 1))
    (folder / "metrics" / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def repeats(parent: Path, name: str, rates: Sequence[float], flags: dict[str, Any] | None = None, **more: Any) -> None:
    """Make a run for each rate, with a seed of its own."""
    for seed, rate in enumerate(rates):
        fabricate(parent / f"{name}-{seed}", {"train.seed": seed, **(flags or {})}, rate=rate, **more)


def about(middle: float, step: float = 1.0) -> list[float]:
    """Return as many figures as an interval needs; their median is the one in the middle."""
    return [middle + step * (place - LEAST // 2) for place in range(LEAST)]


def controlled(parent: Path) -> Path:
    """Make a comparison with all of its controls: decoupled at 80, locked at 50, one process at 100 batches a second."""
    repeats(parent, "a", about(80))
    repeats(parent, "b", about(50), LOCKED)
    repeats(parent, "c", about(100), LOCKED, reference=True)
    repeats(parent, "d", about(120), {"oracle.kind": "frozen"}, accuracy=(0.5, 0.5))
    repeats(parent, "e", about(90), {"oracle.kind": "exact", **ARTICLE}, reference=True)
    for kind in ("last", "noise", "stale", "local", "delayed"):
        repeats(parent, f"f-{kind}", about(70), {"oracle.kind": kind}, accuracy=(0.5, 0.7))
    return parent


def leave(parent: Path, of: Path, right: dict[str, float], **more: Any) -> None:
    """Make the controls that an earlier comparison would have left beside a run, with their accuracies."""
    beside = compare_runs.measure(of)
    for kind, accuracy in right.items():
        asked, is_reference = compare_controls.configured(kind, beside)
        folder = fabricate(
            parent / "controls" / f"{kind}-{of.name}", accuracy=(accuracy,), reference=is_reference, **more
        )
        (folder / "config.toml").write_text(dump(asked))


def document(*words: Path, **more: Any) -> dict[str, Any]:
    """Return the comparison of runs and folders of runs."""
    return compare.document([str(word) for word in words], Path("nowhere"), **more)


def by_label(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows of a comparison by their labels."""
    return {row["label"]: row for row in made["rows"]}


def config(**flags: Any) -> Config:
    """Return a configuration; `model_width` stands for model.width."""
    return resolve(flags={key.replace("_", ".", 1): value for key, value in flags.items()})


# Repeats and labels


def test_runs_that_differ_in_seeds_names_logs_and_recording_are_repeats(tmp_path: Path) -> None:
    asked: dict[str, dict[str, Any]] = {
        "a": {},
        "b": {"train.seed": 1},
        "c": {"data.seed": 5},
        "d": {"run.name": "x", "log.level": "action"},
        "e": {"trace.every": 2},
    }
    for name, flags in asked.items():
        fabricate(tmp_path / name, flags)
    fabricate(tmp_path / "f", {"train.rate_head": 0.5})
    fabricate(tmp_path / "g", LOCKED)
    fabricate(tmp_path / "h", LOCKED, reference=True)
    rows = document(tmp_path)["rows"]
    assert [row["runs"] for row in rows] == [["a", "b", "c", "d", "e"], ["f"], ["g"], ["h"]]
    assert [row["repeats"] for row in rows] == [5, 1, 1, 1]


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([({"schedule_kind": "article"}, "processes")], ["article"]),
        ([({"schedule_kind": "locked"}, "reference")], ["one process"]),
        (
            [
                ({"schedule_kind": "decoupled", "schedule_window": 4}, "processes"),
                ({"schedule_kind": "locked"}, "processes"),
                ({"schedule_kind": "locked"}, "reference"),
            ],
            ["decoupled window 4", "locked", "one process"],
        ),
        (
            [({"schedule_kind": "decoupled"}, "processes"), ({"schedule_kind": "locked"}, "processes")],
            ["decoupled", "locked"],
        ),
        (
            [({"model_width": 64}, "processes"), ({"model_width": 128}, "processes")],
            ["width 64", "width 128"],
        ),
        (
            [({}, "processes"), ({"oracle_kind": "frozen"}, "processes")],
            ["article", "frozen"],
        ),
        (
            [({"model_tied": True}, "processes"), ({"model_tied": False}, "processes")],
            ["tied", "untied"],
        ),
        (
            [({"schedule_kind": "locked"}, "reference"), ({"schedule_kind": "article"}, "reference")],
            ["one process locked", "one process article"],
        ),
        (
            [({"schedule_kind": "decoupled"}, "processes"), ({"schedule_kind": "article"}, "reference")],
            ["decoupled", "one process article"],
        ),
    ],
)  # fmt: skip
def test_a_label_tells_what_differs_in_few_words(rows: list[tuple[dict[str, Any], str]], wanted: list[str]) -> None:
    assert compare_rows.labels([(config(**flags), mode) for flags, mode in rows]) == wanted


def test_a_label_hides_no_difference_besides_the_schedule() -> None:
    fast = config(schedule_kind="decoupled", train_rate_input=0.5), "processes"
    slow = config(schedule_kind="locked"), "processes"
    assert compare_rows.labels([fast, slow]) == ["decoupled rate input 0.5", "locked rate input 0.01"]


def test_of_code_of_ones_own_a_label_has_the_file_alone(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.py").write_text(f"# {name}\nclass Cell:\n    forward = backward = None\n")
    found = [(config(model_file=str(tmp_path / f"{name}.py")), "processes") for name in "ab"]
    assert compare_rows.labels(found) == ["a.py", "b.py"]


def test_labels_are_different_whatever_differs() -> None:
    rows = [(config(data_dir=name, data_source="full"), "processes") for name in ("", "elsewhere")]
    assert len(set(compare_rows.labels(rows))) == 2


# Which row is whose baseline


def test_tied_boxes_are_one_network_however_it_is_cut_and_untied_ones_are_not() -> None:
    def of(**more: Any) -> Any:
        return compare_rows.network(config(data_reading="rows", **more))

    assert of(model_boxes=2) == of(model_boxes=4) == of(model_boxes=2, train_seed=3, data_seed=9)
    assert of(model_boxes=2, model_tied=False) != of(model_boxes=4, model_tied=False)
    assert of(model_boxes=1, model_tied=False) == of(model_boxes=1)
    assert len({of(model_boxes=2), of(model_width=5), of(data_batch=2), of(emulate_slow={"head": 1.0})}) == 4
    assert len({of(), *(of(model_cell=cell) for cell in ("gru", "lstm"))}) == 3


def test_dense_layers_are_one_network_however_it_is_cut_and_a_task_is_what_it_asks() -> None:
    def of(preset: str = "addition", **more: Any) -> Any:
        flags = {key.replace("_", ".", 1): value for key, value in more.items()}
        return compare_rows.network(resolve(preset, flags=flags))

    assert of(model_boxes=4) == of(model_boxes=2, model_steps_per_box=2) == of(model_boxes=1, model_steps_per_box=4)
    assert of(model_boxes=1, model_tied=True) == of(model_boxes=1)
    assert len({of(), of(model_boxes=3), of(model_function="tanh"), of(data_bits=9), of(model_bias=False)}) == 5
    copy = of("copy")
    assert copy == of("copy", model_boxes=6, model_steps_per_box=2)
    others = (of("repeat-copy"), of("copy", model_cell="gru"), of("copy", data_bits=5), of("copy", data_length=3))
    assert len({copy, *others, of("copy", data_curriculum=False)}) == 6


def test_speed_ups_are_ratios_to_one_process_and_to_locked_and_efficiency_is_by_workers_and_by_cores(
    tmp_path: Path,
) -> None:
    made = by_label(document(controlled(tmp_path)))
    row = made["decoupled"]
    assert row["speed_up_process"] == pytest.approx(0.8)
    assert row["speed_up_locked"] == pytest.approx(1.6)
    assert row["efficiency"] == pytest.approx(0.8 / 3), "two boxes and a head"
    assert row["efficiency_cores"] == pytest.approx(0.8 / 2), "they share two cores"
    assert row["verdicts"]["speed_up_process"] == "slower"
    assert row["verdicts"]["speed_up_locked"] == "faster"
    assert row["verdicts"]["accuracy"] == "higher"
    assert made["one process"]["speed_up_process"] is None, "a row is no baseline of itself"
    assert made["frozen"]["speed_up_process"] is None, "boxes that never learn do less"


def test_the_baseline_in_one_process_is_the_fastest_of_its_network(tmp_path: Path) -> None:
    repeats(tmp_path, "a", (80, 80, 80))
    repeats(tmp_path, "b", (100, 100, 100), ARTICLE, reference=True)
    repeats(tmp_path, "c", (200, 200, 200), LOCKED, reference=True)
    repeats(tmp_path, "d", (900, 900, 900), {**LOCKED, "model.width": 3}, reference=True)
    row = by_label(document(tmp_path))["decoupled width 4"]
    assert row["against"]["process"] == "one process locked width 4"
    assert row["speed_up_process"] == pytest.approx(0.4)


def test_repeats_are_paired_only_within_one_sweep(tmp_path: Path) -> None:
    folder = tmp_path / "sweep" / "runs"
    folder.mkdir(parents=True)
    rates = [10.0 * 2**place for place in range(LEAST)]
    repeats(folder, "a", rates)
    repeats(folder, "b", [rate / 2 for rate in rates], LOCKED)
    alone = document(folder)["beside_first"][0]["speed_up"]
    (folder.parent / "sweep.toml").touch()
    paired = document(folder)["beside_first"][0]["speed_up"]
    assert (paired["low"], paired["median"], paired["high"]) == (0.5, 0.5, 0.5), "each pair has the same ratio"
    assert alone["low"] < 0.5 < alone["high"], "apart, the machine's drift is in the interval"


def test_repeats_are_paired_by_seed_and_not_where_one_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for name, seed, flags, rate in (
        ("1", 0, {}, 10),
        ("2", 1, {}, 20),
        ("3", 1, LOCKED, 5),
        ("4", 0, LOCKED, 2),
    ):
        fabricate(folder / name, {"train.seed": seed, **flags}, rate=rate)
    (tmp_path / "sweep.toml").touch()
    rows = compare_rows.grouped([compare_runs.measure(each) for each in runs.all_runs(folder)])
    paired = compare_rows.pairs(rows[0], rows[1], "batches_per_s")
    assert paired is not None
    assert dict(zip(*paired, strict=True)) == {10: 2, 20: 5}
    assert compare_rows.pairs(rows[0], Row("", rows[1].runs[:1]), "batches_per_s") is None


# Intervals and verdicts


def test_a_ratio_of_medians_has_an_interval_from_both_rows() -> None:
    of, to = about(20), about(10)
    ratio = compare.ratio_of_medians(of, to)
    least, most = min(of) / max(to), max(of) / min(to)
    assert (ratio.median, ratio.least, ratio.most) == (2.0, least, most)
    assert ratio.low is not None
    assert ratio.high is not None
    assert least <= ratio.low < 2 < ratio.high <= most
    assert compare.ratio_of_medians([20] * LEAST, [10] * LEAST)[1:] == (2.0,) * 5
    assert ratio == compare.ratio_of_medians(of, to), "the same figures, the same interval"


def test_a_ratio_whose_interval_holds_one_shows_no_difference() -> None:
    assert verdict(compare.ratio_of_medians(about(101), about(100))) == NO_DIFFERENCE
    assert verdict(compare.ratio_of_medians(about(120), about(100))) == "faster"
    assert verdict(compare.ratio_of_medians(about(80), about(100))) == "slower"


@pytest.mark.parametrize(("of", "to"), [(LEAST - 1, LEAST), (LEAST, LEAST - 1), (1, 1)])
def test_under_the_least_repeats_a_ratio_has_no_interval_and_claims_nothing(of: int, to: int) -> None:
    ratio = compare.ratio_of_medians(about(90)[:of], about(10)[:to])
    assert (ratio.low, ratio.high) == (None, None)
    assert verdict(ratio).startswith(f"{NO_DIFFERENCE} ({min(of, to)} repeat")


def test_rows_of_too_few_repeats_claim_nothing_and_one_line_says_the_way_out(tmp_path: Path) -> None:
    repeats(tmp_path, "a", about(90)[1:])
    repeats(tmp_path, "b", about(10), LOCKED, accuracy=(0.1, 0.1))
    repeats(tmp_path, "c", about(200)[:1], LOCKED, reference=True)
    made = document(tmp_path)
    row = by_label(made)["decoupled"]
    claims = [*row["verdicts"].values(), made["beside_first"][0]["speed"], made["beside_first"][0]["accuracy"]]
    assert {each.partition(" (")[0] for each in claims} == {NO_DIFFERENCE}
    assert row["spread"]["batches_per_s"]["low"] is None
    assert made["more_repeats"] == "timebox sweep"
    text = compare_text.render(made)
    line = f"under {LEAST} repeats: no interval, no claim, only [least – most]; more: timebox sweep"
    assert text.splitlines().count(line) == 1
    assert "90.5 [89.0 – 92.0]" in text
    assert f"{LEAST - 1} repeats, {LEAST} needed" in text
    whole = document(controlled(tmp_path / "whole"))
    assert whole["more_repeats"] is None
    assert "no claim" not in compare_text.render(whole)


def test_where_the_controls_alone_are_too_few_the_way_out_is_to_ask_for_more_of_them(tmp_path: Path) -> None:
    repeats(controlled(tmp_path / "runs"), "g", (1, 2), {"model.width": 9})
    made = document(tmp_path / "runs", controls=True, repeats=2)
    assert made["more_repeats"] == f"--repeats {LEAST}"


def test_accuracies_differ_only_where_intervals_do_not_meet() -> None:
    low, middle, high = (spread(about(each, 0.05)) for each in (0.2, 0.35, 0.8))
    assert compare_learning.difference(high, low) == "higher"
    assert compare_learning.difference(low, high) == "lower"
    assert compare_learning.difference(low, middle) == NO_DIFFERENCE
    assert compare_learning.difference(spread([0.9, 0.9]), low) == f"{NO_DIFFERENCE} (2 repeats, {LEAST} are needed)"


def test_other_machines_show_no_difference_and_are_named(tmp_path: Path) -> None:
    repeats(tmp_path, "a", about(10))
    repeats(tmp_path, "b", about(90), LOCKED, environment={"processor": "P2"})
    made = document(tmp_path)
    assert made["beside_first"][0]["speed"] == compare.INCOMPARABLE
    assert any("not comparable: processor P1 and P2" in text for text in made["warnings"])
    assert "several machines" in compare_text.render(made)
    (tmp_path / "b-0" / "environment.json").write_text("{")
    assert any("b-0/environment.json: cannot be read" in text for text in document(tmp_path)["warnings"])


# Learning


def test_learning_is_compared_at_a_time_an_accuracy_and_a_number_of_images_that_all_have(tmp_path: Path) -> None:
    # Two images an epoch: at 10 images a second an evaluation each 0.2 s, at 20 each 0.1 s.
    repeats(tmp_path, "a", (10, 10, 10), accuracy=(0.2, 0.4, 0.6, 0.8))
    repeats(tmp_path, "b", (20, 20, 20), {**LOCKED, "train.epochs": 4}, accuracy=(0.3, 0.6, 0.6, 0.7))
    made = document(tmp_path)
    slow, fast = made["rows"]
    assert made["marks"] == {"accuracy": 0.7, "seconds": pytest.approx(0.4), "images": 8}
    assert (slow["accuracy_at_time"], fast["accuracy_at_time"]) == (0.4, 0.7)
    assert (slow["seconds_to_accuracy"], fast["seconds_to_accuracy"]) == (pytest.approx(0.8), pytest.approx(0.4))
    assert (slow["accuracy_at_images"], fast["accuracy_at_images"]) == (0.8, 0.7)


def test_boxes_that_never_learn_and_one_process_do_not_set_the_marks(tmp_path: Path) -> None:
    repeats(tmp_path, "a", (10, 10, 10), accuracy=(0.5, 1.0))
    repeats(tmp_path, "b", (99, 99, 99), {"oracle.kind": "frozen"}, accuracy=(0.1, 0.1))
    repeats(tmp_path, "c", (999, 999, 999), LOCKED, reference=True, accuracy=(0.5, 1.0))
    made = document(tmp_path)
    assert made["marks"]["accuracy"] == 1.0
    assert made["marks"]["seconds"] == pytest.approx(0.4)
    assert by_label(made)["frozen"]["seconds_to_accuracy"] is None


def test_before_the_first_evaluation_there_is_no_accuracy(tmp_path: Path) -> None:
    run = compare_runs.measure(fabricate(tmp_path / "a"))._replace(evaluations=[Evaluation(10, 1.0, 0.5)])
    found = compare_learning.learning(run, {"accuracy": 0.5, "seconds": 0.9, "images": 9})
    assert found == {"accuracy_at_time": None, "seconds_to_accuracy": 1.0, "accuracy_at_images": None}


def test_a_run_that_was_taken_up_again_has_no_times(tmp_path: Path) -> None:
    """Its seconds are of what came after: beside a whole run it seemed four times as fast."""
    folder = fabricate(tmp_path / "a")
    whole = compare_runs.measure(folder)
    assert whole.values["seconds"] is not None
    for attempts in ([{"epoch": 0, "from_batch": 0}], [{"epoch": 0, "from_batch": 0}, {"epoch": 1, "from_batch": 0}]):
        (folder / "launcher.json").write_text(json.dumps({"attempts": attempts}))
        assert compare_runs.measure(folder).values == whole.values, "all of it is there"
    (folder / "launcher.json").write_text(json.dumps({"attempts": [*attempts, {"epoch": 2, "from_batch": 2_000}]}))
    part = compare_runs.measure(folder)
    assert (part.values["seconds"], part.values["training_s"]) == (None, None)
    assert part.values["accuracy"] == whole.values["accuracy"]
    assert all(each.seconds is None for each in part.evaluations)
    assert any("was taken up again at batch 2,000; its times are of a part" in text for text in part.warnings)
    assert "taken up again" in " ".join(document(tmp_path / "a")["warnings"])


def test_when_an_evaluation_ended_is_told_by_the_heads_trace(tmp_path: Path) -> None:
    flags = {"trace.level": "full", "schedule.kind": "locked"}
    folder = fabricate(tmp_path / "a", flags, accuracy=(0.5, 1.0))
    made = handmade.hands(folder, load(folder / "config.toml"))
    for box in made[:-1]:
        box.part("F0", "forward", 1).done()
    made[-1].idle(1000).part("E0", "evaluate", 500).idle(3000).part("E1", "evaluate", 500).done()
    run = compare_runs.measure(folder)
    assert [each.seconds for each in run.evaluations] == [pytest.approx(0.0015), pytest.approx(0.005)]
    assert [each.images for each in run.evaluations] == [2, 4]
    assert not run.is_estimated
    one = compare_runs.measure(fabricate(tmp_path / "b", LOCKED, reference=True, rate=1, accuracy=(0.5, 1.0)))
    assert [each.seconds for each in one.evaluations] == [pytest.approx(2), pytest.approx(4)], "in proportion"
    assert one.is_estimated


def test_bubble_and_shares_are_means_over_the_boxes_without_the_head(tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "a", {"trace.level": "full"})
    first, second, head = handmade.hands(folder, load(folder / "config.toml"))
    first.part("F0", "forward", 60).wait(40, Lack(WINDOW, "gradient", 0, 2)).done()
    second.wait(80, Lack(MESSAGE, "activation", 0, 1)).part("F0", "forward", 20).done()
    head.wait(100, Lack(MESSAGE, "activation", 0, 2)).done()
    values = compare_runs.measure(folder).values
    assert values["bubble.of_makespan"] == pytest.approx((0.4 + 0.8) / 2)
    assert values["bubble.of_busy"] == pytest.approx((40 / 60 + 80 / 20) / 2)
    shares = {name: values[f"shares.{name}"] for name in compare_runs.SHARES}
    assert shares["compute"] == pytest.approx((0.6 + 0.2) / 2)
    assert shares["blocked"] == pytest.approx(0.2)
    assert shares["starved"] == pytest.approx(0.4)
    assert sum(value for value in shares.values() if value is not None) == pytest.approx(1)


def test_staleness_is_the_mean_over_all_boxes_updates(tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "a", LOCKED)
    (folder / "journal").mkdir()
    (folder / "journal" / "box-1.txt").write_text("F0 F1 B0 B1\n")
    (folder / "journal" / "box-2.txt").write_text("F0 B0 F1 B1\n")
    assert compare_runs.measure(folder).values["staleness.update"] == pytest.approx((0 + 1 + 0 + 0) / 4)


# What is said besides


def test_batches_of_another_size_are_compared_as_images(tmp_path: Path) -> None:
    repeats(tmp_path, "a", about(100), {"data.train": 8})
    repeats(tmp_path, "b", about(60), {"data.train": 8, "data.batch": 2})
    made = document(tmp_path)
    assert [row["batches_per_s"] for row in made["rows"]] == [100, 60]
    assert [row["images_per_s"] for row in made["rows"]] == [100, 120]
    assert made["beside_first"][0]["speed"] == "faster"
    assert any("images a second" in text for text in made["warnings"])
    assert "images/s" in compare_text.render(made)


COPY = {
    "data.name": "copy", "model.loss": "bce", "model.steps_per_box": 3, "oracle.kind": "linear", "model.tied": True,
}  # fmt: skip


def test_a_task_is_compared_in_its_units_with_the_level(tmp_path: Path) -> None:
    for place, (name, flags) in enumerate((("a", {}), ("b", LOCKED), ("c", {"oracle.kind": "local"}))):
        folder = fabricate(tmp_path / name, {**COPY, **flags, "data.train": 4, "data.batch": 2})
        summary = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(summary | {"level": place + 1}))
    made = document(tmp_path)
    assert (made["unit"], made["right"]) == ("sequences", "bits right")
    assert [row["level"] for row in made["rows"]] == [1, 2, 3]
    text = compare_text.render(made)
    assert "image" not in text
    assert "sequences/s" in text
    assert "% bits right at end  level" in text
    assert "losses of own steps alone, which send nothing back, are as good" in text
    assert "its own steps' losses alone" in text
    why = "exact, frozen, last: there can be none: every box of copy reads its own steps; local learns from them alone"
    assert why in " ".join(text.split()), "in one line"
    wanted = {each["control"]: each["command"] for each in made["missing_controls"]}
    assert {kind for kind, command in wanted.items() if command is None} == {"exact", "frozen", "last"}
    fabricate(tmp_path / "d", {"data.train": 4, "data.batch": 2})
    mixed = document(tmp_path)
    assert (mixed["unit"], mixed["right"]) == ("examples", "right")
    assert any("not of the same examples" in text for text in mixed["warnings"])


def test_lengths_and_bits_are_data_that_may_differ(tmp_path: Path) -> None:
    fabricate(tmp_path / "a", COPY)
    fabricate(tmp_path / "b", {**COPY, "data.bits": 4})
    assert any("the data differ" in text for text in document(tmp_path)["warnings"])


def test_other_images_and_more_workers_than_cores_are_told(tmp_path: Path) -> None:
    fabricate(tmp_path / "a")
    fabricate(tmp_path / "b", {"data.test": 3})
    told = " ".join(document(tmp_path)["warnings"])
    assert "the data differ" in told
    assert "test 2 (3 on 2)" in told
    fabricate(tmp_path / "c" / "d", environment={"cores": 3})
    assert document(tmp_path / "c" / "d")["warnings"] == [
        text for text in document(tmp_path / "c" / "d")["warnings"] if "journal" in text
    ], "three workers on three cores share nothing"


def test_missing_controls_are_named_with_the_command_that_adds_them(tmp_path: Path) -> None:
    fabricate(tmp_path / "a")
    made = document(tmp_path / "a")
    assert [each["control"] for each in made["missing_controls"]] == list(compare_controls.CONTROLS)
    command = f"timebox compare {tmp_path / 'a'} --run.dir nowhere --controls"
    assert {each["command"] for each in made["missing_controls"]} == {command}
    text = compare_text.render(made)
    assert text.count(command) == 1, "one command adds all"
    assert text.count("not run") == 9, "in a line each"
    assert [each["label"] for each in made["controls"]] == [None] * 9
    assert len(made["rows"]) == 1, "one row is a table too"


def test_nothing_is_missing_where_all_controls_are_there(tmp_path: Path) -> None:
    made = document(controlled(tmp_path))
    assert made["missing_controls"] == []
    assert "proves nothing" not in compare_text.render(made)


def test_a_control_of_another_network_is_none(tmp_path: Path) -> None:
    repeats(controlled(tmp_path), "g", (1, 1, 1), {"model.width": 9})
    found = document(tmp_path)["missing_controls"]
    assert [(each["control"], each["rows"]) for each in found] == [
        (kind, ["decoupled width 9"]) for kind in compare_controls.CONTROLS
    ]
    assert str(tmp_path / "g-0") in found[0]["command"], "the command begins with a run of that network"


def test_a_control_keeps_the_seeds_and_the_schedule_where_it_can(tmp_path: Path) -> None:
    run = compare_runs.measure(fabricate(tmp_path / "a", {"train.seed": 7, "schedule.window": 3}))
    locked, frozen, process = (compare_controls.configured(kind, run) for kind in ("locked", "frozen", "process"))
    assert [each[0].train.seed for each in (locked, frozen, process)] == [7, 7, 7]
    assert [each[1] for each in (locked, frozen, process)] == [False, False, True]
    assert (locked[0].schedule.kind, locked[0].oracle.kind) == ("locked", "linear")
    assert (frozen[0].schedule.kind, frozen[0].schedule.window, frozen[0].oracle.kind) == ("decoupled", 3, "frozen")
    assert process[0].schedule.kind == "locked", "decoupled has no order for one process"
    assert locked[0].run.dir == str(tmp_path / "controls")
    of_article = compare_runs.measure(fabricate(tmp_path / "b", ARTICLE))
    assert compare_controls.configured("process", of_article)[0].schedule.kind == "article"


def test_controls_that_say_nothing_of_a_task_are_left_out_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = compare_rows.grouped([compare_runs.measure(fabricate(tmp_path / "a", COPY))])
    said: list[str] = []
    ran: list[str] = []

    def failing(config: Config, *, reference: bool, label: str) -> Any:
        ran.append(label)
        assert reference == (label == "process")
        return SimpleNamespace(status="failed", folder=Path(config.run.name), document={"error": "not run"})

    monkeypatch.setattr(compare_controls.live, "launch", failing)
    assert compare_controls.run(rows, 1, said.append) == []
    assert ran == ["process", "locked", "noise", "stale", "local", "delayed"]
    why = "every box of copy reads its own steps; local learns from them alone"
    assert said[0] == f"no `exact` control, `frozen` control, `last` control: {why}"
    assert sum(why in text for text in said) == 1


def test_what_stands_beside_traced_targets_has_none_of_them_but_in_one_process(tmp_path: Path) -> None:
    traced = {"oracle.kind": "linear", "oracle.target": "traced", "model.tied": True, "oracle.sees_label": False}
    run = compare_runs.measure(fabricate(tmp_path / "a", traced))
    for kind in compare_controls.CONTROLS:
        assert compare_controls.configured(kind, run)[0].oracle.target != "traced"
    one = compare_runs.measure(fabricate(tmp_path / "b", {**traced, **ARTICLE}))
    assert compare_controls.configured("process", one)[0].oracle.target == "traced", "the same rule"


def test_a_control_that_there_cannot_be_has_no_command(tmp_path: Path) -> None:
    fabricate(tmp_path / "a", {"emulate.slow": {"head": 1.0}})
    process = document(tmp_path / "a")["missing_controls"][0]
    assert (process["control"], process["command"]) == ("process", None)
    assert "there can be none: emulate" in process["text"]


@pytest.mark.parametrize("kind", compare_rows.RULES)
def test_a_rule_is_all_that_makes_a_control_another(tmp_path: Path, kind: str) -> None:
    asked = {
        "oracle.memory": 8,
        "oracle.replays": 2,
        "oracle.last": False,
        "oracle.correct": True,
        "schedule.window": 3,
    }
    run = compare_runs.measure(fabricate(tmp_path / "a", {**asked, "oracle.sees_label": True, "train.seed": 5}))
    made, is_reference = compare_controls.configured(kind, run)
    assert (made.oracle.kind, made.oracle.correct, made.oracle.sees_label) == (kind, False, True)
    assert (made.model, made.data, made.train) == (run.config.model, run.config.data, run.config.train)
    assert is_reference == (kind == "exact")
    wanted = ("article", 1) if kind == "exact" else ("decoupled", 3)
    assert (made.schedule.kind, made.schedule.window) == wanted
    is_instead = kind in ("noise", "stale")
    assert (made.oracle.target == "true", made.oracle.last, made.oracle.memory == 0) == (is_instead,) * 3


@pytest.mark.parametrize("kind", ["last", "noise", "stale", "local", "delayed"])
def test_a_rule_comes_to_decoupled_where_the_schedule_brings_its_own(tmp_path: Path, kind: str) -> None:
    made, _ = compare_controls.configured(kind, compare_runs.measure(fabricate(tmp_path / "a", LOCKED)))
    assert (made.schedule.kind, made.schedule.window) == ("decoupled", 6)
    one = compare_runs.measure(fabricate(tmp_path / "b", LOCKED, reference=True))
    made, is_reference = compare_controls.configured(kind, one)
    assert (made.schedule.kind, is_reference) == ("article", True)


def test_controls_that_were_left_come_by_themselves_if_they_are_exactly_those(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "a", accuracy=(0.9,))
    leave(tmp_path, run, {"frozen": 0.5, "noise": 0.4, "locked": 0.95})
    leave(tmp_path, fabricate(tmp_path / "other" / "b", {"train.rate_head": 0.5}, accuracy=(0.9,)), {"last": 0.6})
    leave(tmp_path, run, {"stale": 0.6}, environment={"processor": "P2"})
    made = document(tmp_path)
    assert [(row["label"], row["is_added"], row["control"]) for row in made["rows"]] == [
        ("decoupled", False, None),
        ("locked", True, "locked"),
        ("frozen", True, "frozen"),
        ("noise", True, "noise"),
    ]
    there = {each["control"]: each["accuracy"] for each in made["controls"] if each["label"]}
    assert there == {"locked": 0.95, "frozen": 0.5, "noise": 0.4}
    assert {each["control"] for each in made["missing_controls"]} == set(compare_controls.CONTROLS) - set(there)
    text = compare_text.render(made)
    assert "noise" not in text.partition("learning")[0], "nobody asked how fast it is"
    assert text.count("not run") == 6


def test_what_computes_nothing_wants_no_learning_rule(tmp_path: Path) -> None:
    fabricate(tmp_path / "a", {"emulate.arithmetic": False, "emulate.compute_ms": 5.0})
    assert [each["control"] for each in document(tmp_path)["missing_controls"]] == ["process", "locked"]


def test_a_row_recovers_a_share_of_the_gap_between_frozen_and_locked(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "a", accuracy=(0.8,))
    leave(tmp_path, run, {"frozen": 0.5, "locked": 0.9, "local": 0.85})
    made = document(tmp_path)
    rows = by_label(made)
    assert rows["decoupled"]["gap_recovered"] == pytest.approx(0.75)
    assert [rows[name]["gap_recovered"] for name in ("locked", "frozen", "local")] == [None] * 3
    line = "local classifiers, which send nothing back, are as good or better: 85.0 % beside 80.0 %"
    assert line in compare_text.render(made).splitlines()


def test_there_is_no_gap_where_locked_is_not_above(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "a", accuracy=(0.8,))
    leave(tmp_path, run, {"frozen": 0.9, "locked": 0.9, "local": 0.7})
    made = document(tmp_path)
    assert by_label(made)["decoupled"]["gap_recovered"] is None
    text = compare_text.render(made)
    assert "no gap" in text
    assert "local classifiers" not in text


def test_names_beside_curves_stand_apart_and_below_the_top() -> None:
    found = compare_plots.apart({"a": 0.99, "b": 0.98, "c": 0.2, "d": 0.98})
    heights = sorted(found.values())
    assert found["c"] == 0.2
    assert heights[-1] <= 1
    assert min(b - a for a, b in pairwise(heights)) >= compare_plots.APART - 1e-9


# What cannot be compared


def test_runs_of_a_folder_that_did_not_end_well_are_left_out_and_named(tmp_path: Path) -> None:
    fabricate(tmp_path / "a")
    fabricate(tmp_path / "b", status="failed")
    fabricate(tmp_path / "c", status="interrupted")
    handmade.make_folder(tmp_path / "d")
    made = document(tmp_path)
    assert [row["runs"] for row in made["rows"]] == [["a"]]
    assert made["left_out"] == [
        {"run": "b", "why": "failed"},
        {"run": "c", "why": "interrupted"},
        {"run": "d", "why": "died"},
    ]
    assert "b is left out: failed" in made["warnings"]


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda folder: handmade.make_folder(folder), "there is no summary.json: it died; leave it out"),
        (lambda folder: fabricate(folder, status="failed"), "no run to compare: a: failed"),
        (Path.joinpath, "no run '.*a': there is none"),
    ],
)
def test_what_is_no_run_that_has_ended_is_one_clear_line(tmp_path: Path, make: Any, wanted: str) -> None:
    make(tmp_path / "a")
    with pytest.raises(ConfigError, match=wanted) as raised:
        document(tmp_path / "a")
    assert "\n" not in str(raised.value)


def test_damaged_files_cost_what_cannot_be_read_and_are_named(tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "a", {"trace.level": "full"})
    (folder / "trace").mkdir()
    for name in ("box-1", "box-2", "head"):
        (folder / "trace" / f"{name}.trace").write_bytes(b"\0not a trace")
    (folder / "metrics" / "metrics.jsonl").write_text('{"epoch": 1, "accu')
    made = document(folder)
    (row,) = made["rows"]
    assert (row["bubble"], row["accuracy_at_images"], row["batches_per_s"]) == ({}, None, 100)
    told = " ".join(made["warnings"])
    assert "head.trace" in told
    assert "metrics.jsonl: cannot be read" in told
    assert "box-1.txt: cannot read the journal" in told
    assert "idle" not in compare_text.render(made).partition("median (")[0]


def test_a_configuration_that_cannot_be_read_leaves_its_run_out(tmp_path: Path) -> None:
    fabricate(tmp_path / "a")
    (fabricate(tmp_path / "b") / "config.toml").write_text("[model")
    made = document(tmp_path)
    assert [each["run"] for each in made["left_out"]] == ["b"]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"out": Path("a.gif")}, r"--out: 'a.gif' is no kind of picture; its name ends with .svg or .png"),
        ({"out": Path("/nowhere/a.png")}, "there is no folder /nowhere"),
        ({"repeats": 0, "controls": True}, "--repeats: 0 repeats show nothing"),
        ({"repeats": 2}, "--repeats: goes with --controls"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_read(tmp_path: Path, more: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        document(tmp_path, **more)


def test_a_word_is_a_run_a_folder_of_runs_a_sweep_or_a_name_that_several_have(tmp_path: Path) -> None:
    parent = tmp_path / "runs"
    for name in ("1", "2"):
        fabricate(parent / name, {"run.name": "free"})
    fabricate(parent / "3")

    def chosen(*words: str) -> list[str]:
        return [folder.name for folder in compare_runs.choose(words, parent)[0]]

    assert chosen("3") == ["3"]
    assert chosen("free") == ["1", "2"]
    assert chosen(str(parent)) == chosen(str(tmp_path)) == ["1", "2", "3"]
    assert chosen("3", "free", str(parent)) == ["3", "1", "2"], "each once"


# What people see


def test_text_fits_80_columns_but_for_commands_that_are_there_to_be_copied(tmp_path: Path) -> None:
    controlled(tmp_path)
    repeats(tmp_path, "g", (7, 8), {"model.width": 9, "train.rate_input": 0.123, "data.batch": 2})
    text = compare_text.render(document(tmp_path))
    assert [line for line in text.splitlines() if len(line) > 80 and "timebox compare" not in line] == []
    assert f"2 repeats, {LEAST} needed" in text


def test_text_tells_medians_intervals_and_what_is_shown(tmp_path: Path) -> None:
    text = compare_text.render(document(controlled(tmp_path)))
    (line,) = [line for line in text.splitlines() if line.startswith("decoupled  ") and "80.0" in line]
    assert "80.0 (78.0 – 82.0)" in line
    assert "0.80 (0.77 – 0.83)" in line
    shown = text.partition("speed beside")[2].splitlines()
    assert shown[2].split()[:3] == ["decoupled", "slower", "faster"]
    assert text.startswith(f"{10 * LEAST} runs in 10 rows; P1, 2 cores")


def test_the_document_has_plain_figures_and_their_spread_by_name(tmp_path: Path) -> None:
    made = json.loads(json.dumps(document(controlled(tmp_path))))
    row = made["rows"][0]
    assert [type(row[name]) for name in ("label", "seconds", "batches_per_s", "accuracy")] == [str, float, float, float]
    assert row["spread"]["batches_per_s"] == {
        "repeats": LEAST, "median": 80.0, "least": 78.0, "most": 82.0, "low": 78.0, "high": 82.0,
    }  # fmt: skip
    assert {"rows", "missing_controls", "warnings", "environment"} <= made.keys()


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_picture_has_all_panels_and_is_the_same_each_time(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"a{suffix}"
    made = document(controlled(tmp_path / "runs"), out=out)
    first = out.read_bytes()
    compare_plots.draw(made, out)
    assert out.read_bytes() == first
    assert made["out"] == str(out)
    if suffix == ".svg":
        for text in ("accuracy by time", "accuracy by images seen", "steady throughput", "where a box", "seconds since",
                     "batches a second", "locked (n", "one process (n", "blocked"):  # fmt: skip
            assert text in first.decode(), text


@pytest.mark.parametrize(("few", "wanted"), [(0, compare_plots.INTERVAL), (1, compare_plots.RANGE)])
def test_a_bar_has_a_whisker_only_where_there_is_an_interval(tmp_path: Path, few: int, wanted: str) -> None:
    repeats(tmp_path / "runs", "a", about(80)[few:])
    document(tmp_path / "runs", out=tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert [told for told in (compare_plots.INTERVAL, compare_plots.RANGE) if told in drawn] == [wanted]


def test_the_band_spans_the_repeats_and_the_line_is_their_median(tmp_path: Path) -> None:
    for name, right in (("a", 0.2), ("b", 0.5), ("c", 0.6)):
        fabricate(tmp_path / name, {"train.seed": ord(name)}, accuracy=(right, 1.0))
    (row,) = document(tmp_path)["rows"]
    assert compare_plots.points(row, "images") == [(2, 0.5, 0.2, 0.6), (4, 1.0, 1.0, 1.0)]


# Live


@pytest.mark.live
def test_controls_run_beside_the_first_row_with_its_seeds_and_are_compared(tmp_path: Path) -> None:
    for seed in (1, 2):
        flags = {
            "model.width": 8,
            "train.epochs": 2,
            "train.seed": seed,
            "schedule.kind": "decoupled",
            "schedule.window": 3,
        }
        assert launch(resolve(flags={**flags, "run.dir": str(tmp_path), "run.plot": False})).status == "done"
    said: list[str] = []
    made = document(tmp_path, controls=True, repeats=1, say=said.append)
    rows = by_label(made)
    assert list(rows) == ["decoupled window 3", "one process", "locked", *list(compare_controls.CONTROLS)[2:]]
    assert [row["repeats"] for row in rows.values()] == [2] + [1] * 9, "at most --repeats of each control"
    assert made["missing_controls"] == []
    assert len(said) == 9
    controls = runs.all_runs(tmp_path / "controls")
    assert {load(folder / "config.toml").train.seed for folder in controls} == {1}
    row = rows["decoupled window 3"]
    assert row["bubble"]["of_makespan"] > 0
    assert set(row["staleness"]) == {"target", "increment"}
    assert row["speed_up_locked"] > 0
    for words in ((tmp_path, tmp_path / "controls"), (tmp_path,)):
        again = document(*words, controls=True, repeats=1, say=said.append)
        assert len(said) == 9, "what is there is not run again"
        is_added = len(words) == 1
        wanted = {name: row | {"is_added": is_added and row["is_added"]} for name, row in rows.items()}
        assert by_label(again) == wanted
    without = document(tmp_path)
    assert by_label(without) == rows, "they come by themselves"
    assert without["missing_controls"] == []
    (tmp_path / "controls" / controls[0].name / "summary.json").unlink()
    document(tmp_path, controls=True, repeats=1, say=said.append)
    assert len(said) == 10, "one that did not end well is"
