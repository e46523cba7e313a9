"""Stability: the class of every kind of curve, the first cause, what a study is refused for, and small studies in full."""

from __future__ import annotations

import csv
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launch import stability, stability_engines, stability_plot, stability_rules, stability_study, stability_text
from launch.cli import main
from launch.published_arithmetic import CORRECTIONS, Published
from launch.stability_rules import CONVERGED, FLOWN, HIGH, SPIKE, WILD, classify
from pipeline.config import resolve
from pipeline.data import Batches, load
from pipeline.errors import ConfigError, DivergedError
from pipeline.reference import Reference

pytestmark = pytest.mark.in_process

#: A configuration that takes no time.
SMALL = ["--model.width", "8", "--data.train", "10", "--data.test", "10", "--train.epochs", "4", "--seeds", "2"]


# Classes


def ramp(*stops: float) -> list[float]:
    """Return a curve that goes straight from stop to stop, ten batches each."""
    return [
        *np.concatenate([np.linspace(a, b, 10, endpoint=False) for a, b in itertools.pairwise(stops)]),
        stops[-1],
    ]


@pytest.mark.parametrize(
    ("curve", "name"),
    [
        (ramp(1, 0.1), "converged"),
        (ramp(1, CONVERGED - 0.01), "converged"),
        (ramp(1, CONVERGED), "stalled"),
        (ramp(1, 1), "stalled"),
        (ramp(1, FLOWN), "stalled"),
        (ramp(1, FLOWN + 0.01), "flew off"),
        (ramp(1, 0.1, 0.1 * SPIKE + 0.01, 0.05), "spiked"),
        (ramp(1, 0.1, 0.1 * SPIKE, 0.05), "converged"),
        (ramp(1, 0.01, HIGH, 0.01), "converged"),
        (ramp(1, 0.01, HIGH + 0.01, 0.01), "spiked"),
        (ramp(1, 0.1, 0.9), "stalled"),
        (ramp(1, 0.1, 5), "flew off"),
        ([1, 0.5, math.nan, 0.1], "flew off"),
        ([1, 0.5, math.inf], "flew off"),
        ([], "stalled"),
    ],
)
def test_a_curve_has_the_class_that_the_rules_give_it(curve: list[float], name: str) -> None:
    assert classify(curve, 1, stopped=False).name == name
    assert classify(curve, 1, stopped=True).name == "flew off", "whatever its cost, the guard stopped it"


def test_the_rise_begins_after_the_least_cost() -> None:
    assert classify(ramp(1, 0.1, 5), 1, stopped=False).onset == 11
    assert classify(ramp(1, 0.1, 0.9, 0.05), 1, stopped=False).onset == 11
    assert classify(ramp(1, 0.1), 1, stopped=False).onset is None
    assert classify([0.5, 0.4, 0.3], 1, stopped=True).onset == 3, "it fell until the batch that stopped it"
    assert classify([], 1, stopped=True).onset == 0
    assert classify([1.0, 0.5, math.nan], 1, stopped=False).onset == 2


def test_noise_within_a_window_is_no_spike() -> None:
    noisy = [0.01, 0.99] * 20 + [0.001, 0.099] * 20
    assert classify(noisy, 2, stopped=False).name == "converged"
    assert classify(noisy, 1, stopped=False).name != "converged"


def test_the_window_is_an_epoch_or_a_part_of_the_run_but_never_a_few_images() -> None:
    assert stability_rules.window(2500, 50, 1) == 50
    assert stability_rules.window(600, 200, 50) == 12
    assert stability_rules.window(480, 160, 10) == 9
    assert stability_rules.window(30, 10, 1) == 30
    assert stability_rules.window(1, 1, 1) == 1
    assert list(stability_rules.smooth([1, 3, 5], 2)) == [2, 5]
    assert list(stability_rules.smooth([1, 3], 9)) == [2]
    assert list(stability_rules.smooth([1, 1, 1, 5], 3)) == [2], "a short rest is no window of its own"
    assert [stability_rules.ends(n, 4) for n in (0, 3, 8, 9, 10)] == [[], [3], [4, 8], [4, 9], [4, 8, 10]]


# The first cause


def test_the_first_wild_oracle_is_the_cause() -> None:
    synthetic, true = np.ones((2, 6)), np.ones((2, 6))
    synthetic[1, 2] = synthetic[0, 4] = 2 * WILD
    found = stability_rules.cause(synthetic, true, 1, 5)
    assert found is not None
    assert (found.batch, found.box, found.ratio, found.is_wild) == (2, 2, 2 * WILD, True)
    assert stability_rules.cause(synthetic, true, 1, 1) == stability_rules.Cause(0, 1, 1.0, 1.0, (1.0, 1.0), False)


def test_without_a_wild_oracle_the_one_that_came_closest_is_told() -> None:
    synthetic, true = np.ones((2, 6)), np.ones((2, 6))
    synthetic[1, 3] = WILD
    found = stability_rules.cause(synthetic, true, 1, None)
    assert found is not None
    assert (found.batch, found.box, found.is_wild) == (3, 2, False)
    assert stability_text.cause({**found._asdict(), "is_ratio": False}, None) == (
        "no rise; at most box 2's oracle, 10 to 1 at batch 3"
    )
    found = stability_rules.cause(10 * synthetic, true, 1, None)
    assert found is not None
    assert found.batch == 3, "without a rise the largest, not the first"


def test_without_an_oracle_there_is_no_cause() -> None:
    nothing = np.full((2, 6), np.nan)
    assert stability_rules.cause(nothing, np.ones((2, 6)), 1, None) is None
    assert stability_text.cause(None, None) == "no oracle beside a true gradient"


def test_norms_are_means_over_the_window_and_gaps_are_passed_over() -> None:
    synthetic = np.array([[8.0, np.nan, 4.0, 0.0]])
    found = stability_rules.cause(synthetic, np.ones((1, 4)), 3, 3)
    assert found is not None
    assert (found.batch, found.synthetic) == (0, 8.0)
    assert found.ratios == (2.0,)


# The published arithmetic


def short(*, wide: bool = False, **keys: Any) -> Any:
    """Return preset article, short, in float64, and narrow unless it must be as wide as an image."""
    given = {
        "model.width": 784 if wide else 24,
        "data.train": 8,
        "data.test": 30,
        "train.epochs": 6,
        "model.dtype": "float64",
    }
    return resolve("article", None, given | {key.replace("__", "."): value for key, value in keys.items()})


def test_with_all_five_corrected_it_is_preset_article() -> None:
    config = short(train__rate_input=2e-2)
    batches = Batches(config, load(config.data))
    mine, reference = Published(config, batches, CORRECTIONS), Reference(config, batches)
    reference.ledger.keeps_all = True
    costs = [mine.step(batch).cost for batch in reference.run()]
    np.testing.assert_allclose(costs, reference.costs, rtol=1e-11)
    for own, theirs in ((mine.Wx, reference.cells[1]["Wx"]), (mine.Wrec, reference.cells[1]["Wrec"])):
        np.testing.assert_allclose(own, theirs, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(mine.Wfc[:, None], reference.layer["Wfc"], rtol=1e-11, atol=1e-14)
    for k in (1, 2):
        np.testing.assert_allclose(mine.L[k - 1], reference.fittings[k].oracle.weights["L"], rtol=1e-9, atol=1e-15)
    assert mine.accuracy() == reference.judged[-1].right / 30


@pytest.mark.parametrize("name", CORRECTIONS)
def test_each_correction_changes_the_numbers(name: str) -> None:
    config = short(wide=True, train__rate_input=2e-6, train__rate_recurrent=1e-5, train__rate_oracle=1e-5)
    batches = Batches(config, load(config.data))
    written, mended = Published(config, batches), Published(config, batches, [name])
    assert [written.step(batch).cost for batch in range(4)] != [mended.step(batch).cost for batch in range(4)]


def test_as_written_a_number_is_added_to_every_weight() -> None:
    config = short(wide=True, train__rate_recurrent=1e-5)
    network = Published(config, Batches(config, load(config.data)))
    before = network.Wx.copy()
    network.step(0)
    change = network.Wx - before
    assert change.max() != 0
    np.testing.assert_allclose(change, change[0, 0], rtol=1e-6)


def test_a_number_that_flies_off_is_named() -> None:
    config = short(wide=True, train__rate_recurrent=1.0, train__rate_oracle=1.0)
    network = Published(config, Batches(config, load(config.data)))
    with pytest.raises(DivergedError, match="the run has flown off"):
        [*map(network.step, range(40))]


@pytest.mark.parametrize("key", ["model.boxes", "data.batch", "train.clip"])
def test_what_the_published_code_cannot_be_is_refused(key: str) -> None:
    config = short(wide=True, **{key.replace(".", "__"): 4})
    batches = Batches(config, load(config.data))
    with pytest.raises(ConfigError, match=f"{key}: the published arithmetic is written for"):
        Published(config, batches)


def test_an_inner_product_needs_a_box_as_wide_as_an_image() -> None:
    config = short()
    batches = Batches(config, load(config.data))
    with pytest.raises(ConfigError, match=r"model\.width: an inner product with an image"):
        Published(config, batches)


# Engines


def test_watching_changes_no_number() -> None:
    config = short(oracle__init="random")
    batches = Batches(config, load(config.data))
    plain = Reference(config, batches)
    plain.ledger.keeps_all = True
    for _ in plain.run():
        pass
    found = stability_engines.run(stability_study.Case("one", config), 0, "reference")
    assert list(found.costs) == plain.costs
    assert np.isfinite(found.synthetic).all()
    assert np.isfinite(found.true).all()


def test_watching_traced_targets_sees_all_oracles_but_the_last_boxs_which_is_none() -> None:
    config = short(oracle__target="traced", model__width=6, model__boxes=3)
    plain = Reference(config, Batches(config, load(config.data)))
    plain.ledger.keeps_all = True
    for _ in plain.run():
        pass
    found = stability_engines.run(stability_study.Case("one", config), 0, "reference")
    assert list(found.costs) == plain.costs
    assert np.isfinite(found.synthetic[:-1]).all()
    assert np.isnan(found.synthetic[-1]).all()
    assert np.isfinite(found.true).all()
    late = stability_study.Case("one", short(oracle__target="traced", model__width=6, schedule__kind="decoupled"))
    found = stability_engines.run(late, 0, "virtual", stability_engines.costs_of(late.config)[0])
    assert np.isfinite(found.synthetic[0]).all()


@pytest.mark.parametrize("kind", ["article", "decoupled"])
@pytest.mark.parametrize(
    ("preset", "more"),
    [
        ("copy", {"data.curriculum": False}),
        ("repeat-copy", {"data.curriculum": False}),
        ("adding", {"data.length": 10}),
        ("addition", {}),
        ("digits", {"model.cell": "lstm"}),
    ],
)
def test_every_task_and_cell_is_watched(preset: str, more: dict[str, Any], kind: str) -> None:
    small = {"data.train": 40, "data.test": 5, "data.batch": 10, "train.epochs": 1, "model.width": 4}
    case = stability_study.Case("one", resolve(preset, flags=small | {"schedule.kind": kind} | more))
    engine = stability_engines.engine(case, live=False)
    costs = stability_engines.costs_of(case.config)[0] if engine == "virtual" else None
    found = stability_engines.run(case, 0, engine, costs)
    assert (found.failed, found.diverged, len(found.costs)) == ("", "", 4)
    assert np.isfinite(found.synthetic).all()
    assert np.isfinite(found.true).all()


def test_the_true_gradient_of_box_1_is_that_of_the_published_loop() -> None:
    config = short(train__rate_input=0.0, train__rate_recurrent=0.0)
    found = stability_engines.run(stability_study.Case("one", config), 0, "reference")
    other = stability_engines.run(stability_study.Case("one", config, tuple(CORRECTIONS)), 0, "published")
    np.testing.assert_allclose(found.true, other.true, rtol=1e-9)


def test_decoupled_runs_in_virtual_time_and_the_same_costs_give_the_same_run() -> None:
    case = stability_study.Case("one", short(schedule__kind="decoupled"))
    assert stability_engines.engine(case, live=False) == "virtual"
    costs, origin = stability_engines.costs_of(case.config)
    one, other = (stability_engines.run(case, 1, "virtual", costs) for _ in range(2))
    assert list(one.costs) == list(other.costs)
    assert np.isfinite(one.synthetic).all()
    assert np.isfinite(one.true).all()
    assert "measured here" in stability_engines.describe("virtual", origin)


def test_costs_are_measured_where_the_run_itself_flies_off() -> None:
    case = stability_study.Case("one", short(schedule__kind="decoupled", oracle__init="random", train__rate_oracle=9.0))
    costs, _ = stability_engines.costs_of(case.config)
    assert "flown off" in stability_engines.run(case, 0, "virtual", costs).diverged


# Studies


def write(tmp_path: Path, text: str) -> str:
    """Write a study and return its path."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


REFUSED = [
    ("seeds = 0\n[[case]]\nname = 'a'", "mine.toml: seeds: expected int >= 1"),
    ("seed = 3", "mine.toml: seed: unknown key; did you mean seeds?"),
    ("seeds = 3", "mine.toml: there is no [[case]]"),
    ("preset = 'nope'\n[[case]]\nname = 'a'", "mine.toml: preset: 'nope' is unknown; presets are article"),
    ("config = 'gone.toml'\n[[case]]\nname = 'a'", "mine.toml: config: there is no file"),
    ("[[case]]\noracle.kind = 'frozen'", "mine.toml: case 1: it has no name"),
    ("[[case]]\nname = 'a'\n[[case]]\nname = 'a'", "mine.toml: case a: name: there are two"),
    ("[[case]]\nname = 'a'\nmodel.widht = 8", "mine.toml: case a: model.widht: unknown key; did you mean model.width?"),
    ("[[case]]\nname = 'a'\nmodel.width = 0", "mine.toml: case a: model.width: expected int >= 1"),
    ("[set]\nwidth = 8\n[[case]]\nname = 'a'", "mine.toml: [set] width: unknown key"),
    ("[[case]]\nname = 'a'\narithmetic = 'wrong'", "mine.toml: case a: arithmetic: invalid enum value 'wrong'"),
    ("[[case]]\nname = 'a'\ncorrected = ['sign']", "mine.toml: case a: corrected: goes with arithmetic"),
    (
        "[[case]]\nname = 'a'\narithmetic = 'published'\ncorrected = ['sing']",
        "mine.toml: case a: corrected: 'sing' is none",
    ),
    (
        "[[case]]\nname = 'a'\narithmetic = 'published'\nmodel.boxes = 3",
        "mine.toml: case a: model.boxes: the published",
    ),
    (
        "[[case]]\nname = 'a'\nemulate.arithmetic = false\nemulate.compute_ms = 1",
        "mine.toml: case a: emulate.arithmetic",
    ),
    ("preset = 'copy'\n[[case]]\nname = 'a'", "mine.toml: case a: data.curriculum: the cost jumps whenever"),
    ("[[case", "not TOML"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[said[:50] for _, said in REFUSED])
def test_a_wrong_study_is_refused_in_one_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stability", write(tmp_path, text)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone"], "stability: there is no file gone; packaged studies are published"),
        (["published", "--preset", "digits"], "--preset: a study has its own"),
        (["--seeds", "0"], "--seeds: 0: from 1 to"),
        (["--jobs", "0"], "--jobs: 0: from 1 to"),
        (["--out", "fan.pdf"], "--out: 'fan.pdf' is no kind of picture"),
        (["--csv", "/gone/x.csv"], "--csv: cannot write"),
        (["--train.seed", "4294967295"], "--seeds: seed 4294967304 is above"),
    ],
)
def test_a_wrong_command_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stability", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_packaged_study_is_one_with_every_correction_by_itself() -> None:
    found = stability_study.read("published", {}, None, lambda _: None)
    assert len(found.cases) <= stability_plot.MOST
    assert found.seeds >= 3
    assert {case.corrected for case in found.cases} >= {(), *((name,) for name in CORRECTIONS)}
    assert all(case.config.data.test == 1000 for case in found.cases)


def test_one_configuration_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, rows = tmp_path / "fan.svg", tmp_path / "runs.csv"
    assert main(["stability", *SMALL, "--jobs", "1", "--out", str(picture), "--csv", str(rows)]) == 0
    out, err = capsys.readouterr()
    assert "article" in out
    assert "bit-equal to the live run" in out
    assert "converged: ends below 0.5 × its start" in out
    assert err.splitlines()[-1].startswith("run 2 of 2: article, seed 1")
    assert picture.read_text().count("<svg") == 1
    with rows.open(newline="") as stream:
        found = list(csv.DictReader(stream, strict=True))
    assert [row["seed"] for row in found] == ["0", "1"]


def test_a_study_in_several_processes_is_the_same_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write(
        tmp_path,
        "seeds = 2\n[set]\ndata.train = 10\ntrain.epochs = 2\n[[case]]\nname = 'all'\nmodel.width = 8\n"
        "[[case]]\nname = 'wild'\narithmetic = 'published'\ntrain.rate_recurrent = 1.0\ntrain.rate_oracle = 1.0\n",
    )
    documents = []
    for jobs in ("1", "2"):
        assert main(["stability", study, "--jobs", jobs, "--json"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        documents.append(json.loads(out))
    assert documents[0] == documents[1]
    made = documents[0]
    assert (made["study"], made["status"], [case["name"] for case in made["cases"]]) == (
        "mine",
        "done",
        ["all", "wild"],
    )
    wild = made["cases"][1]
    assert wild["counts"]["flew off"] == 2
    assert "flown off" in wild["runs"][0]["error"]
    assert wild["runs"][0]["cause"]["is_wild"]
    assert set(wild["runs"][0]) >= {"seed", "class", "accuracy", "end_cost", "onset", "cause", "error"}
    assert made["rules"]["converged"] == CONVERGED


def test_ctrl_c_ends_with_the_runs_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    real, done = stability_engines.run, []

    def stop_at_the_second(*given: Any) -> stability_engines.Found:
        if done:
            raise KeyboardInterrupt
        done.append(given)
        return real(*given)

    monkeypatch.setattr(stability_engines, "run", stop_at_the_second)
    asked = stability_study.Study("one", 3, [stability_study.Case("one", short())])
    made, runs = stability.study(asked, jobs=1, live=False, quiet=True)
    assert (made["status"], len(runs), stability.exit_code(made)) == ("interrupted", 1, 130)
    assert "one" in stability_text.render(made)


@pytest.mark.live
def test_real_processes_are_classed_by_their_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["stability", *SMALL[:-1], "1", "--live", "--json", "--run.dir", str(tmp_path)]
    assert main(words) == 0
    made = json.loads(capsys.readouterr().out)
    (run,) = made["cases"][0]["runs"]
    assert run["accuracy"] is not None
    assert made["cases"][0]["engine"] == "live"
    assert run["cause"]["is_ratio"]
    assert list(tmp_path.iterdir()) == [], "the folders of its runs are gone"
