"""`timebox bench rules` and `rates`: what they run, what they make of it, what a rule costs; the fallback of the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launch import bench_rules, bench_rules_text, compare_rows, fallback
from launch.bench_rules import RULES, Case, cases, configured, rate_of, request, with_gaps
from launch.rule_cost import multiply_adds
from launch.spread import spread
from pipeline import mnist
from pipeline.config import resolve
from pipeline.errors import ConfigError
from pipeline.presets import PRESETS
from pipeline.schema import Config


@pytest.fixture(autouse=True)
def _full_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the full set seem to be there: nothing here reads an image."""
    monkeypatch.setattr(fallback.mnist, "locate", lambda *_, **__: {})
    bench_rules._base.cache_clear()


def accuracy(*values: float) -> dict[str, Any]:
    """Return the document of some repeats' accuracy."""
    return spread(values).document()


def row(rule: str, right: float, **more: Any) -> dict[str, Any]:
    """Return a row of the table."""
    case = Case(rule, True)._asdict() | {
        "label": rule,
        "rate": 0.2,
        "batches_per_s": None,
        "cost": 1.0,
        "mean_late": None,
    }
    return case | {"accuracy": accuracy(*(right + 0.001 * k for k in range(5)))} | more


def every(tied: bool, **right: float) -> list[dict[str, Any]]:
    """Return a row of each case of four boxes, all at one accuracy but for those that are named."""
    found = []
    for case in cases():
        if case.tied == tied and case.boxes == 4 and case.mode != "simulate":
            told = row(case.rule, right.get(case.rule.partition(",")[0], 0.9))
            found.append(told | case._asdict() | {"label": case.label})
    return found


def test_every_rule_and_control_runs_tied_and_untied() -> None:
    found = list(cases())
    assert len(set(found)) == len(found)
    for tied in (True, False):
        assert {case.rule for case in found if case.tied == tied} == set(RULES)
    assert {case.window for case in found if case.rule == "oracle" and case.boxes == 4} == {1, 2, 4, 8, 16}
    assert {case.boxes for case in found if case.rule == "last"} == {4, 7, 14}


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_every_case_is_a_configuration_at_its_rate(case: Case) -> None:
    config = configured(case, rate_of(case))
    assert (config.model.tied, config.model.boxes) == (case.tied, case.boxes)
    assert config.train.rate_input == config.train.rate_head == rate_of(case)
    assert config.schedule.kind in ("decoupled", "locked", "article")
    assert case.rule in ("locked", "exact") or config.schedule.window == max(case.window, 1)
    assert bool(config.emulate.delay_ms) == case.late
    assert (config.data.judge, config.data.train, config.data.test) == ("test", 10_000, 10_000)


def test_the_decoupled_rule_is_the_presets_own() -> None:
    mine, preset = configured(Case("oracle", True, window=10), rate_of(Case("oracle", True))), resolve("rows")
    assert (mine.oracle, mine.model, mine.schedule) == (preset.oracle, preset.model, preset.schedule)
    assert mine.train.rate_input == preset.train.rate_input


def test_rates_are_chosen_on_images_that_are_not_tested_on() -> None:
    found = request("rates", 2, {(Case("local", True), 0.1): "validation"}).points[0].config
    assert (found.data.judge, found.data.validation) == ("validation", 5_000)


def test_the_gap_is_between_frozen_and_locked_of_its_own_kind() -> None:
    rows = [row("frozen", 0.5), row("locked", 0.9), row("oracle", 0.88), row("oracle", 0.7, tied=False)]
    gaps = [each["gap_recovered"] for each in with_gaps(rows)]
    assert gaps[:3] == pytest.approx([0.0, 1.0, 0.95])
    assert gaps[3] is None, "there is no gap where there are no ends"


def test_the_table_says_where_local_is_better_and_where_nothing_is_shown() -> None:
    better = bench_rules_text.verdicts(with_gaps(every(True, frozen=0.5, local=0.95)))
    assert better[0] == "tied: the oracle at window 1 +0.0 points beside locked"
    assert better[1].endswith("recovers, by window, 100 % at 1, 100 % at 4, 100 % at 16")
    assert any("local classifiers, which send nothing back, 95.2 %" in text and "lie apart" in text for text in better)
    equal = bench_rules_text.verdicts(with_gaps(every(False, frozen=0.5)))
    assert equal[-1].startswith("untied: local classifiers")
    assert equal[-1].endswith("no difference shown")
    assert any(text.startswith("untied: with all that is sent back late the oracle 90.2 %") for text in equal)


def test_the_tables_of_both_benches_are_told() -> None:
    rows = with_gaps([*every(True, frozen=0.5), *every(False, frozen=0.5), row("last", 0.7, boxes=7)])
    data = {"name": "mnist", "source": "full", "train": 10_000, "test": 10_000}
    text = "\n".join(bench_rules_text.lines({"data": data, "rows": rows}))
    for part in (
        "tied boxes",
        "untied boxes",
        "more boxes",
        "oracle, all sent back late",
        "of the gap",
        "mnist (full): 10,000",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 120
    rates = [
        {"rule": "local", "tied": True, "rate": rate, "accuracy": accuracy(right)}
        for rate, right in ((0.1, 0.9), (0.2, 0.95))
    ]
    assert "95.0 *" in "\n".join(bench_rules_text.rate_lines({"rows": rates}))


# What a rule costs


def tiny(**flags: Any) -> Config:
    """Return a network that can be counted by hand: two boxes of 14 steps, width 3, two rows a batch."""
    base = {"model.boxes": 2, "model.width": 3, "data.reading": "rows", "data.batch": 2, "schedule.kind": "decoupled"}
    return resolve(flags=base | {name.replace("__", "."): value for name, value in flags.items()})


def test_backpropagation_costs_forward_gradients_and_the_way_back() -> None:
    forward, back = 14 * (28 + 3) * 3, 9
    one, two = 2 * forward + 13 * back, 2 * forward + 14 * back
    assert multiply_adds(tiny(schedule__kind="locked")) == 2 * (one + two)
    assert multiply_adds(tiny(oracle__kind="frozen")) == 2 * 2 * forward
    assert multiply_adds(tiny(oracle__kind="last")) == 2 * (2 * forward + forward + 13 * back)
    assert multiply_adds(tiny()) == 2 * (one + two + 2 * 3 * 9), "a prediction, and a step of the oracle"
    assert multiply_adds(tiny(oracle__kind="local")) == 2 * (2 * one + 2 * 3 * 3 * 1)


def test_what_learns_more_costs_more() -> None:
    mlp = {"oracle__kind": "mlp", "oracle__sees_label": True, "train__optimizer_oracle": "adam"}
    order = [
        tiny(),
        tiny(**mlp),
        tiny(**mlp, oracle__memory=4, oracle__replays=3),
        tiny(**mlp, oracle__memory=4, oracle__replays=3, oracle__correct=True),
    ]
    costs = [multiply_adds(config) for config in order]
    assert costs == sorted(set(costs))
    exact = tiny(oracle__kind="exact", schedule__kind="article")
    assert multiply_adds(exact) > multiply_adds(tiny(schedule__kind="locked"))


def task(name: str, **flags: Any) -> Config:
    """Return a small network of a preset, two rows a batch, no oracle's bias."""
    base = {"data.batch": 2, "oracle.bias": False}
    return resolve(name, flags=base | {key.replace("__", ".", 1): value for key, value in flags.items()})


def test_gates_make_a_cell_as_many_times_as_wide() -> None:
    """Adding reads two numbers a step; four steps, width 3: a GRU's products are (2, 9) and (3, 9)."""
    flags = {"model__boxes": 2, "model__width": 3, "data__length": 4, "train__optimizer_oracle": "sgd"}
    small = {**flags, "oracle__sees_label": False, "oracle__memory": 0, "oracle__replays": 0}
    gru, lstm = 2 * (2 + 3) * 9, 2 * (2 + 3) * 12
    both = 2 * (2 * 2 * gru + (1 + 2) * 27)
    assert multiply_adds(task("adding", **small, schedule__kind="locked")) == both
    both = 2 * (2 * 2 * lstm + (1 + 2) * 36)
    assert multiply_adds(task("adding", **small, schedule__kind="locked", model__cell="lstm")) == both
    oracles = 2 * 2 * 3 * 6 * 6  # predict, and a step of twice that, on h and c
    linear = {**small, "oracle__kind": "linear", "model__cell": "lstm"}
    assert multiply_adds(task("adding", **linear)) == both + oracles


def test_dense_layers_have_the_inputs_in_the_first_box_alone() -> None:
    """Sums of 4 bits: 8 inputs, 4 outputs; two boxes of two layers, width 3."""
    flags = {"model__width": 3, "model__steps_per_box": 2, "data__bits": 4, "data__test": 10, "data__train": 100}
    one, two = 8 * 3 + 9, 9 + 9
    assert multiply_adds(task("addition", **flags, oracle__kind="frozen")) == 2 * (one + two)
    assert multiply_adds(task("addition", **flags, schedule__kind="locked")) == 2 * (2 * (one + two) + 9 + 2 * 9)
    local = 2 * (2 * (one + two) + 2 * 9 + 2 * 3 * 3 * 4)
    assert multiply_adds(task("addition", **flags, oracle__kind="local")) == local


def test_an_oracle_of_a_task_sees_what_is_wanted_of_the_head() -> None:
    flags = {"model__width": 3, "data__bits": 4, "data__test": 10, "data__train": 100, "oracle__hidden": 5}
    found = multiply_adds(task("addition", **flags, oracle__kind="mlp"))
    features, early = 3 + 2 * 4 + 1, 2 * (8 * 3 + 9) + 9  # forward, gradients, and box 2's target
    predict = (features + 3) * 5 + features * 3 + 3 * 4
    fit = predict + features * (5 + 3) + 2 * 3 * 5 + 2 * 3 * 4
    assert found == 2 * (early + 2 * (predict + fit))


@pytest.mark.parametrize(("name", "targets", "outputs"), [("copy", 2, 4), ("repeat-copy", 3, 5)])
def test_boxes_that_read_their_own_steps_cost_their_readout(name: str, targets: int, outputs: int) -> None:
    """Two boxes of three steps: two symbols take five of them, one symbol twice five."""
    flags = {"model__boxes": 2, "model__steps_per_box": 3, "model__width": 3, "oracle__kind": "local"}
    inputs = {"copy": 5, "repeat-copy": 6}[name]
    cells = 2 * (2 * 3 * (inputs + 3) * 12 + 2 * 36)
    assert multiply_adds(task(name, **flags)) == 2 * (cells + 3 * targets * 3 * outputs)


def test_a_trace_costs_the_cube_of_the_width_and_more() -> None:
    """Four boxes of seven steps, width 3: between the first and the last, J is six products of (3, 3), E of (3, 9)."""
    flags = {"model__boxes": 4, "oracle__target": "traced"}
    forward, back, guess, trace = 7 * (28 + 3) * 3, 9, 9, 27
    first = 2 * forward + 6 * back + guess
    between = 2 * forward + 7 * back + guess + trace
    last = 2 * forward + 7 * back + trace
    carried = 6 * 27 + 3 * trace
    assert multiply_adds(tiny(**flags)) == 2 * (first + 2 * (between + carried) + last)
    assert multiply_adds(tiny(**flags, oracle__mix=0.0)) == 2 * (first + 2 * between + last)
    wide = 2 * (first + 2 * (between + 9 + 6 * 27 + 3 * 36) + last + 9)
    assert multiply_adds(tiny(**flags, oracle__bias=True)) == wide


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("kind", [*compare_rows.RULES, "linear", "mlp", "locked"])
def test_what_a_rule_costs_can_be_told_of_every_preset(name: str, kind: str) -> None:
    own = {"schedule.kind": "locked", "oracle.kind": "linear"} if kind == "locked" else {"oracle.kind": kind}
    own |= {"schedule.kind": "article"} if kind == "exact" else {}
    try:
        config = resolve(name, flags=own)
    except ConfigError:
        assert name in ("copy", "repeat-copy")
        assert kind in ("exact", "frozen", "last")
        return
    assert multiply_adds(config) > 0


# The images of a preset


def test_without_the_full_set_the_packaged_images_take_its_place_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere(*_: Any, **__: Any) -> dict[str, Path]:
        raise ConfigError("nowhere")

    monkeypatch.setattr(fallback.mnist, "locate", nowhere)
    said: list[str] = []
    config = fallback.resolve("rows", None, {}, said.append)
    assert (config.data.source, config.data.train, config.data.test) == ("packaged", 8_000, 2_000)
    assert len(said) == 1
    assert "8,000 to train and 2,000 to test" in said[0]
    held = fallback.resolve("rows", None, {"data.validation": 5_000, "data.judge": "validation"}, said.append)
    assert (held.data.train, held.data.validation, held.data.test) == (6_000, 2_000, 2_000)
    assert fallback.resolve("rows", None, {"data.train": 100}, said.append).data.source == "full", "as it was asked for"
    assert fallback.resolve("digits", None, {}, said.append).data.source == "packaged"
    assert len(said) == 2
    dense = fallback.resolve("dense", None, {"train.epochs": 1}, said.append)
    assert (dense.data.source, dense.data.train, dense.data.test) == ("packaged", 8_000, 2_000)
    assert (len(said), said[2]) == (3, said[0])
    assert fallback.resolve("dense", None, {"data.train": 2_000}, said.append).data.source == "full"
    assert mnist.locate is nowhere
