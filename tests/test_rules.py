"""Learning rules: as a program each gives the bits of the reference, decoupled those of its replay, without a deadlock."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from network import make_config, make_works, real_network, reference_of, run_hostile, run_prompt, split_of
from test_replay import Recorded, assert_same

from pipeline import oracle_own
from pipeline.actions import Action
from pipeline.arrays import Array
from pipeline.config import resolve
from pipeline.data import Batches
from pipeline.errors import ConfigError, DivergedError, RunError
from pipeline.guard import Guard
from pipeline.plan import Plan
from pipeline.reference import Reference
from pipeline.schema import Config
from pipeline.weights import digest

OWN = """
import numpy as np
class Oracle:
    def __init__(self, shape, rng):
        self.weights = {"M": np.zeros((shape.classes, shape.width), shape.dtype), "n": np.zeros(1)}
    def predict(self, h, y, batch):
        return y @ self.weights["M"]
    def gradient(self, h, y, error):
        return {"M": y.T @ error}
    def see(self, h, y, target, batch):
        self.weights["n"] += len(h)
"""
MLP = {"oracle.kind": "mlp", "oracle.hidden": 5, "oracle.sees_label": True, "train.optimizer_oracle": "adam"}
RULES: dict[str, dict[str, Any]] = {
    "linear": {},
    "mixed": {"oracle.target": "mixed", "oracle.mix": 0.3},
    "mlp": MLP,
    "mlp, no labels": MLP | {"oracle.sees_label": False},
    "recipe": MLP
    | {"oracle.last": False, "oracle.memory": 3, "oracle.replays": 2, "oracle.cap": 1.5, "oracle.init": "zero"},
    "recipe, true": MLP | {"oracle.last": False, "oracle.target": "true"},
    "scaled": {"oracle.scale": 0.5},
    "nlms": {"train.optimizer_oracle": "nlms"},
    "own": {"oracle.kind": "own", "oracle.code": OWN, "oracle.sees_label": True},
    "stale": {"oracle.kind": "stale", "oracle.target": "true", "oracle.sees_label": True},
    "stale, no labels": {"oracle.kind": "stale", "oracle.target": "true"},
    "noise": {"oracle.kind": "noise", "oracle.target": "true"},
    "frozen": {"oracle.kind": "frozen"},
    "last": {"oracle.kind": "last"},
    "local": {"oracle.kind": "local"},
    "delayed": {"oracle.kind": "delayed"},
    "momentum": {
        "train.optimizer": "momentum",
        "train.optimizer_head": "momentum",
        "train.optimizer_oracle": "momentum",
    },
    "adam": {
        "train.optimizer": "adam",
        "train.optimizer_head": "adam",
        "train.rate_input": 0.01,
        "train.rate_recurrent": 0.01,
    },
    "clipped": {"train.clip": 0.01, "train.decay": "linear", "train.warmup": 3},
    "cosine": {"train.decay": "cosine", "train.warmup": 2},
}
CORRECTED: dict[str, dict[str, Any]] = {
    "correct": {"oracle.correct": True},
    "correct, true": {"oracle.correct": True, "oracle.target": "true"},
    "correct, last waits": {"oracle.correct": True, "oracle.last": False},
    "correct, clipped": {"oracle.correct": True, "train.clip": 0.01},
}
TIED = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
BOXES = pytest.mark.parametrize("boxes", [1, 2, 4])


def config_of(schedule: str, boxes: int, rule: dict[str, Any], tied: bool, **more: Any) -> Config:
    """Return a tiny network of a rule."""
    return make_config(schedule, boxes, {"data.batch": 2, "data.train": 6, "model.tied": tied, **rule, **more})


def assert_as_the_reference(config: Config) -> None:
    """Assert that a program ends with the reference's weights, costs and judgements, bit for bit."""
    network, reference = real_network(config), reference_of(config)
    run_prompt(network)
    works = [network.works[k] for k in network.numbers]
    assert [digest(work.weights()) for work in works] == [digest(each) for each in reference.weights()]
    assert works[-1].costs == reference.costs
    assert [each.outputs.tobytes() for each in works[-1].judged] == [
        each.outputs.tobytes() for each in reference.judged
    ]


@BOXES
@TIED
@pytest.mark.parametrize("rule", RULES)
def test_by_article_every_rule_gives_the_references_bits(rule: str, tied: bool, boxes: int) -> None:
    assert_as_the_reference(config_of("article", boxes, RULES[rule], tied))


@pytest.mark.parametrize(
    ("rule", "boxes"),
    # A single box that waits for its gradient has no early update to correct.
    [
        (rule, boxes)
        for rule, keys in CORRECTED.items()
        for boxes in (1, 2, 4)
        if boxes > 1 or keys.get("oracle.last", True)
    ],
)
def test_by_article_corrections_give_the_references_bits(rule: str, boxes: int) -> None:
    assert_as_the_reference(config_of("article", boxes, CORRECTED[rule], tied=False))


@BOXES
@pytest.mark.parametrize("optimizer", ["momentum", "adam", "clipped", "cosine"])
@pytest.mark.parametrize(
    ("schedule", "tied"),
    # Late steps of each box's own are nothing for shared weights.
    [
        (kind, tied)
        for kind in ("locked", "gpipe", "1f1b", "delayed")
        for tied in (True, False)
        if not (tied and kind == "delayed")
    ],
)
def test_every_optimizer_gives_the_references_bits_by_every_program(
    schedule: str, tied: bool, optimizer: str, boxes: int
) -> None:
    more = {"schedule.micro_batches": 2} if schedule in ("gpipe", "1f1b") else {}
    assert_as_the_reference(config_of(schedule, boxes, RULES[optimizer], tied, **more))


@TIED
@pytest.mark.parametrize("rule", [*RULES, *CORRECTED])
def test_decoupled_every_rule_replays_to_the_same_bits(rule: str, tied: bool) -> None:
    for seed in range(3):
        config = config_of("decoupled", 3, (RULES | CORRECTED)[rule], tied, **{"schedule.window": 1 + 2 * seed})
        assert_same(Recorded(config, seed))


@TIED
@pytest.mark.parametrize("rule", [*RULES, *CORRECTED])
def test_nothing_is_left_on_its_way(rule: str, tied: bool) -> None:
    config = config_of("decoupled", 4, (RULES | CORRECTED)[rule], tied)
    network = real_network(config)
    run_hostile(network, 3)
    assert network.leftovers() == []


# What a correction is


@pytest.mark.parametrize("target", ["bootstrapped", "true"])
def test_an_early_update_and_its_correction_are_the_true_update(target: str) -> None:
    """With one batch in flight, untied weights and plain SGD the early update is repaired to the bits of rounding."""
    flags = {"oracle.correct": True, "oracle.target": target, "model.dtype": "float64"}
    corrected = config_of("article", 1, flags, tied=False)
    true = config_of("article", 1, {"oracle.kind": "delayed", "model.dtype": "float64"}, tied=False)
    ours, theirs = (reference_of(config).weights() for config in (corrected, true))
    for name in ("Wx", "Wrec"):
        np.testing.assert_allclose(ours[0][name], theirs[0][name], rtol=1e-12, atol=1e-15)


def test_exact_is_the_derivative_of_the_loss_by_the_box_that_is_about_to_update() -> None:
    """One batch, two untied boxes: what box 1 and then box 2 took off is the derivative there, by central differences."""
    flags = {"oracle.kind": "exact", "model.dtype": "float64", "train.epochs": 1, "data.train": 2}
    config = config_of("article", 2, flags, tied=False, **{"train.rate_input": 1.0, "train.rate_recurrent": 1.0})
    before, after = Reference(config, Batches(config, split_of(config.data))), reference_of(config)
    batches, at = before.batches, {k: dict(cell) for k, cell in before.cells.items()}
    y = batches.wanted(batches.labels(0))

    def loss() -> float:
        h: Array | None = None
        for k, cell in at.items():
            h = before.kinds[k].forward(cell, batches.inputs(0, k), h).h
        assert h is not None
        s = 1 / (1 + np.exp(-h @ before.layer["Wfc"]))
        return float(0.5 * ((s - y) ** 2).sum(axis=1).mean())

    for k in (1, 2):
        step = before.cells[k]["Wrec"] - after.cells[k]["Wrec"]
        W = at[k]["Wrec"] = before.cells[k]["Wrec"].copy()
        for place in np.ndindex(W.shape):
            kept, around = W[place], []
            for off in (1e-6, -1e-6):
                W[place] = kept + off
                around.append(loss())
            W[place] = kept
            assert abs((around[0] - around[1]) / 2e-6 - step[place]) < 1e-6
        at[k] = after.cells[k]


def test_mixed_targets_are_between_bootstrapped_and_true() -> None:
    """λ = 1 passes on the true gradient: the bits of target true. λ = 0 passes on the next box's own prediction."""
    true = config_of("article", 3, {"oracle.target": "true"}, tied=False)
    all_of_it = config_of("article", 3, {"oracle.target": "mixed", "oracle.mix": 1.0}, tied=False)
    for ours, theirs in zip(reference_of(all_of_it).weights(), reference_of(true).weights(), strict=True):
        for name, W in theirs.items():
            np.testing.assert_allclose(ours[name], W, rtol=1e-5, atol=1e-7)


# What rules need from the wire


@pytest.mark.parametrize(
    ("rule", "kinds"),
    [
        ("frozen", set()), ("local", set()), ("last", {("gradient", 4, 3)}),
        ("delayed", {("gradient", 4, 3), ("gradient", 3, 2), ("gradient", 2, 1)}),
        ("linear", {("gradient", 4, 3), ("target", 3, 2), ("target", 2, 1)}),
        ("recipe", {("gradient", 4, 3), ("gradient", 3, 2), ("target", 2, 1)}),
        ("stale", {("gradient", 4, 3), ("gradient", 3, 2), ("gradient", 2, 1)}),
    ],
)  # fmt: skip
def test_only_what_a_rule_needs_travels(rule: str, kinds: set[tuple[str, int, int]]) -> None:
    network = real_network(config_of("decoupled", 3, RULES[rule], tied=False))
    seen: set[tuple[str, int, int]] = set()
    for port in network.ports.values():
        send = port.send

        def watch(message: Any, arrays: Any, send: Any = send) -> None:
            seen.add((message.kind, message.source, message.target))
            send(message, arrays)

        port.send = watch  # type: ignore[method-assign]
    run_prompt(network)
    assert {each for each in seen if each[0] in ("gradient", "target")} == kinds


def test_last_shares_the_last_boxs_increments_alone() -> None:
    network = real_network(config_of("decoupled", 3, RULES["last"], tied=True))
    run_prompt(network)
    applied = {k: {a.sibling for a in journal if a.kind == "U"} for k, journal in network.journals.items()}
    assert applied == {1: {3}, 2: {3}, 3: set(), 4: set()}
    assert Action("B", 5) in network.journals[3]


# Guards


@pytest.mark.parametrize(
    ("weight", "stage", "text"),
    [
        ("Wx", 1, r"box-1: F0: the run has flown off: its activation is not finite"),
        ("oracle_L", 2, r"box-2: F0: the run has flown off: the synthetic gradient is not finite"),
        ("Wfc", 3, r"head: F0: the run has flown off: the cost is not finite"),
    ],
)
def test_what_is_not_finite_stops_the_run_by_name(weight: str, stage: int, text: str) -> None:
    network = real_network(config_of("decoupled", 2, {}, tied=False))
    network.works[stage].weights()[weight][0] = np.nan
    with pytest.raises(DivergedError, match=text):
        run_prompt(network)


def test_what_is_too_large_stops_the_run_by_name() -> None:
    config = config_of("decoupled", 2, {"train.limit": 100.0}, tied=False)
    network = real_network(config)
    network.works[1].weights()["oracle_L"][:] = 1000.0
    with pytest.raises(
        DivergedError, match=r"box-1: F0: .* the synthetic gradient is 4?[\d.e+]+, above train.limit 100"
    ):
        run_prompt(network)
    small = config_of("article", 2, {"train.limit": 1e-9}, tied=False)
    with pytest.raises(DivergedError, match=r"above train\.limit"):
        reference_of(small)


def test_infinity_passes_no_limit_however_large() -> None:
    guard = Guard("box-1", 1e30)
    guard.check("F", 0, "it", np.full(4, 1e25, "f4"))
    with pytest.raises(DivergedError, match="not finite"):
        guard.check("F", 0, "it", np.full(4, np.inf, "f4"))


def test_a_users_program_of_clipped_steps_runs_as_the_article_does() -> None:
    program = "box-1: F0 T0 U2.0\nbox-2: U1.0 F0 T0\nhead: F0\n"
    clipped = {"train.clip": 0.01, "data.batch": 1, "data.train": 3, "model.width": 40}
    own = real_network(config_of("own", 2, clipped, True, **{"schedule.program": program}))
    article = real_network(config_of("article", 2, clipped, True))
    for network in (own, article):
        run_prompt(network)
    assert [digest(own.works[k].weights()) for k in own.numbers] == [
        digest(article.works[k].weights()) for k in own.numbers
    ]


# Wrong requests


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"oracle.kind": "own"}, "oracle.file: oracle.kind own needs a Python file"),
        ({"oracle.code": OWN}, "oracle.file: only read by oracle.kind own"),
        (
            {"oracle.kind": "last", "schedule.kind": "locked"},
            "last is a learning rule of its own, and locked brings its own",
        ),
        ({"oracle.kind": "exact", "schedule.kind": "decoupled"}, "goes with --schedule.kind article"),
        ({"oracle.replays": 3}, "say how many batches with oracle.memory"),
        ({"oracle.correct": True, "oracle.kind": "local"}, "no early update to correct"),
        ({"oracle.correct": True, "oracle.target": "mixed"}, "mixed targets pass on another one"),
        ({"oracle.correct": True}, "article has no place for the second increments of tied boxes"),
        ({"oracle.kind": "mlp", "train.optimizer_oracle": "nlms"}, "nlms is for linear oracles"),
        ({"data.judge": "validation"}, "data.judge: validation needs images of its own"),
        ({"data.validation": 2000, "data.train": 1600}, "data.train, data.test, data.validation: 1,600 + 20 \\+ 2,000"),
    ],
)
def test_what_does_not_go_together_is_refused(flags: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text.replace("1,600 + 20", r"1,600 \+ 20")):
        resolve(flags=flags)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("class Oracle", r"mine.py, line 1: "),
        ("x = 1", "mine.py: it has no class Oracle"),
        ("class Oracle: pass", "mine.py: its class Oracle has no predict and no gradient"),
        ("raise ValueError('no')", "mine.py, line 1: ValueError: no"),
        ("raise SystemExit(7)", "mine.py, line 1: SystemExit: 7"),
        (OWN.replace("return y @", "h += 1; return y @"), "mine.py, line 7: Oracle.predict: ValueError: .*read-only"),
        (OWN.replace("self.weights =", "self.arrays ="), "mine.py: Oracle.weights is no dict of arrays"),
        (
            OWN.replace("return y @", "return 0 * y  #"),
            r"mine.py: Oracle.predict returned \(3, 2\), an array \(3, 4\) is wanted",
        ),
        (
            OWN.replace("return y @", "return z @"),
            "mine.py, line 7: Oracle.predict: NameError: name 'z' is not defined",
        ),
        (OWN.replace('{"M": y.T @ error}', '{"W": error}'), "mine.py: Oracle.gradient: W .*: there is no such weight"),
        (
            OWN.replace('{"M": y.T @ error}', '{"M": error}'),
            r"mine.py: Oracle.gradient: M \(3, 4\): \(2, 4\) is wanted",
        ),
        (
            OWN.replace('{"M": y.T @ error}', "error"),
            "mine.py: Oracle.gradient returned ndarray, a dict of arrays is wanted",
        ),
    ],
)
def test_an_own_oracle_that_is_none_is_refused_by_file_and_line(code: str, text: str, tmp_path: Any) -> None:
    path = tmp_path / "mine.py"
    path.write_text(code)
    flags = {"oracle.file": str(path), "oracle.sees_label": True, "data.batch": 3}
    with pytest.raises((ConfigError, RunError), match=text):
        run_prompt(real_network(config_of("decoupled", 2, flags, tied=False)))


def test_an_own_oracle_that_wants_labels_and_does_not_see_them_is_told_how_to(tmp_path: Any) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    with pytest.raises(
        ConfigError, match=r"mine.py, line \d+: Oracle.predict: .*y is None here: .*--oracle.sees_label true"
    ):
        oracle_own.try_out(resolve(flags={"oracle.file": str(path)}))
    oracle_own.try_out(resolve(flags={"oracle.file": str(path), "oracle.sees_label": True}))


def test_a_file_is_read_into_the_configuration(tmp_path: Any) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    config = resolve(flags={"oracle.file": str(path), "oracle.sees_label": True})
    assert (config.oracle.kind, config.oracle.code) == ("own", OWN)
    with pytest.raises(ConfigError, match="cannot read the oracle: No such file"):
        resolve(flags={"oracle.file": str(tmp_path / "none.py")})


def test_a_single_box_that_waits_is_plain_backpropagation() -> None:
    assert Plan.of(config_of("decoupled", 1, RULES["recipe"], tied=False)).rule == "backward"


def test_validation_images_are_neither_trained_on_nor_tested_on() -> None:
    flags = {"data.train": 300, "data.test": 100, "data.validation": 200}
    judged = {judge: split_of(resolve(flags=flags | {"data.judge": judge}).data) for judge in ("test", "validation")}
    places = {judge: set(split.test_places.tolist()) for judge, split in judged.items()}
    assert (len(places["test"]), len(places["validation"])) == (100, 200)
    assert not places["test"] & places["validation"]
    rows = {judge: {row.tobytes() for row in split.test_images} for judge, split in judged.items()}
    trained = {row.tobytes() for row in judged["test"].train_images}
    assert not trained & rows["validation"]
    assert (judged["test"].train_images == judged["validation"].train_images).all()


@pytest.mark.parametrize("kind", ["noise", "stale"])
def test_what_stands_in_for_an_oracle_has_the_true_gradient_whatever_is_set(kind: str) -> None:
    assert Plan.of(config_of("decoupled", 3, {"oracle.kind": kind}, tied=True)).target == "true"


def test_rules_without_an_oracle_have_none() -> None:
    rng = random.Random(1)
    for rule in ("frozen", "last", "local", "delayed"):
        works = make_works(config_of("decoupled", rng.randint(2, 4), RULES[rule], tied=True))
        assert not any(name.startswith("oracle") for work in works.values() for name in work.weights())
