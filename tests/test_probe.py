"""The probe and what is made of it: it disturbs no bit, and the gradient it leads to is the true one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from network import make_config, make_plan, make_works, real_network, run_hostile, run_prompt

from launch import quality, resolve, runs
from launch.live import launch
from pipeline import heads, results
from pipeline.actions import Action
from pipeline.arrays import Weights
from pipeline.box import BoxWork
from pipeline.errors import RunError
from pipeline.head import HeadWork
from pipeline.plan import Plan
from pipeline.probe import Probe, probed
from pipeline.schema import Config
from pipeline.weights import digest

pytestmark = pytest.mark.in_process


@pytest.mark.parametrize(
    ("batches", "samples", "wanted"),
    [(2500, 24, 24), (1000, 24, 10), (200, 24, 4), (3, 24, 3), (1, 24, 1), (2500, 0, 0), (2500, 2, 2)],
)
def test_so_many_batches_are_probed(batches: int, samples: int, wanted: int) -> None:
    found = probed(make_plan("article", batches=batches), samples)
    assert len(found) == wanted
    assert all(0 <= batch < batches for batch in found)


@pytest.mark.parametrize("rule", ["frozen", "backward"])
def test_boxes_without_an_oracle_are_not_probed(rule: str) -> None:
    assert probed(make_plan("locked", batches=100, rule=rule), 24) == frozenset()


def run_probed(config: Config, folder: Path, seed: int) -> dict[int, BoxWork | HeadWork]:
    """Run a network with a probe at every batch, by dice, and leave what it copied in a folder."""
    network = real_network(config)
    works = dict(network.works)
    for k, work in works.items():
        name = network.plan.name(k)

        def save(batch: int, arrays: Weights, name: str = name) -> None:
            results.append_look(folder / "probe" / f"{name}.looks", batch, arrays)

        watched = Probe(work, frozenset(range(network.plan.batches)), save)
        network.works[k] = watched  # type: ignore[index]
    run_hostile(network, seed)
    return works


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("target", ["bootstrapped", "true"])
def test_a_probe_changes_no_bit(tmp_path: Path, tied: bool, target: str) -> None:
    config = make_config("article", 3, {"model.tied": tied, "oracle.target": target})
    plain = real_network(config)
    run_prompt(plain)
    works = run_probed(config, tmp_path, seed=1)
    assert {k: digest(work.weights()) for k, work in works.items()} == {
        k: digest(work.weights()) for k, work in plain.works.items()
    }


def loss_at(
    config: Config, plan: Plan, works: dict[int, BoxWork | HeadWork], batch: int, box: int, h: np.ndarray
) -> float:  # type: ignore[type-arg]
    """Return the batch's loss if box `box` had put out h: an independent forward through the boxes after it."""
    for k in range(box + 1, plan.boxes + 1):
        work = works[k]
        assert isinstance(work, BoxWork)
        for x in work.batches.inputs(batch, k):
            h = np.tanh(x @ work.cell["Wx"] + h @ work.cell["Wrec"])
    head = works[plan.head]
    assert isinstance(head, HeadWork)
    a, _ = heads.forward(head.layer, h, config.model.loss)
    return heads.cost(a, head.batches.wanted(head.batches.labels(batch)), config.model.loss)


def directions(shape: tuple[int, ...], seed: int) -> Iterator[np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    for _ in range(5):
        yield rng.standard_normal(shape)


@pytest.mark.parametrize("loss", ["squared", "bce", "softmax"])
def test_what_it_leads_to_is_the_true_gradient(tmp_path: Path, loss: str) -> None:
    """Batch 0 of a network that has not moved yet: central differences of the loss by every box's activation."""
    rates = dict.fromkeys(("train.rate_input", "train.rate_recurrent", "train.rate_head", "train.rate_oracle"), 0.0)
    config = make_config("article", 3, {"model.dtype": "float64", "model.loss": loss, "data.batch": 4, **rates})
    plan = Plan.of(config)
    works = run_probed(config, tmp_path, seed=2)
    looks = {k: results.read_looks(tmp_path / "probe" / f"{plan.name(k)}.looks")[0] for k in works}
    true = looks[plan.head]["g"]
    fresh = make_works(config)
    for k in range(plan.boxes, 0, -1):
        h = looks[k]["leaving"][-1]
        for direction in directions(h.shape, k):
            step = 1e-5
            ahead = loss_at(config, plan, fresh, 0, k, h + step * direction)
            behind = loss_at(config, plan, fresh, 0, k, h - step * direction)
            assert (ahead - behind) / (2 * step) == pytest.approx(float((true * direction).sum()), rel=1e-5, abs=1e-9)
        rows = [row for row in quality.judge(tmp_path, plan) if row["batch"] == 0 and row["box"] == k]
        ours = looks[k]["g"]
        cosine = float((ours * true).sum() / (np.linalg.norm(ours) * np.linalg.norm(true)))
        assert rows[0]["cosine"] == pytest.approx(cosine)
        assert rows[0]["norm_ratio"] == pytest.approx(float(np.linalg.norm(ours) / np.linalg.norm(true)))
        if k > 1:
            delta = true
            for s in range(len(looks[k]["leaving"]) - 1, -1, -1):
                delta = (delta * (1 - looks[k]["leaving"][s] ** 2)) @ looks[k]["Wrec"].T
            true = delta


def test_the_table_stays_and_what_is_large_goes(tmp_path: Path) -> None:
    config = make_config("article", 2)
    plan = Plan.of(config)
    run_probed(config, tmp_path, seed=3)
    rows = quality.judge(tmp_path, plan)
    assert [(row["batch"], row["box"]) for row in rows] == [(i, k) for i in range(plan.batches) for k in (1, 2)]
    assert quality.read(tmp_path, plan) == rows, "before it is settled, and where it never was"
    quality.settle(tmp_path, plan)
    assert not (tmp_path / "probe").exists()
    assert quality.read(tmp_path, plan) == rows
    quality.settle(tmp_path, plan)


def test_an_oracle_that_says_nothing_has_no_direction(tmp_path: Path) -> None:
    config = make_config("article", 2, {"oracle.init": "zero"})
    run_probed(config, tmp_path, seed=4)
    first = quality.judge(tmp_path, Plan.of(config))[0]
    assert (first["cosine"], first["norm_ratio"]) == (None, 0.0)


def test_a_batch_that_one_stage_did_not_keep_whole_is_left_out(tmp_path: Path) -> None:
    """Cut anywhere, a file gives its first looks, and damage costs what comes after it."""
    config = make_config("article", 2)
    plan = Plan.of(config)
    run_probed(config, tmp_path, seed=5)
    path = tmp_path / "probe" / "box-2.looks"
    content = path.read_bytes()
    whole = quality.judge(tmp_path, plan)
    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        rows = quality.judge(tmp_path, plan)
        assert rows == whole[: len(rows)]
        assert len(rows) < len(whole)
    path.write_bytes(content.replace(b'"batch"', b'"botch"'))
    assert quality.judge(tmp_path, plan) == []


@pytest.mark.parametrize(("stage", "name"), [("box-1", "leaving"), ("box-2", "Wrec"), ("box-2", "g"), ("head", "g")])
@pytest.mark.parametrize("damage", ["lacks", "shape"])
def test_a_batch_of_whose_arrays_one_is_not_there_or_does_not_fit_is_left_out(
    tmp_path: Path, stage: str, name: str, damage: str
) -> None:
    """The second look at a batch counts; here it is one that went wrong."""
    config = make_config("article", 2)
    plan = Plan.of(config)
    run_probed(config, tmp_path, seed=6)
    whole = quality.judge(tmp_path, plan)
    path = tmp_path / "probe" / f"{stage}.looks"
    look = results.read_looks(path)[1]
    changed = {key: value for key, value in look.items() if key != name}
    if damage == "shape":
        changed[name] = np.zeros((3, 2, 7), np.float32)
    results.append_look(path, 1, changed)
    rows = quality.judge(tmp_path, plan)
    if (stage, name, damage) == ("box-1", "leaving", "shape"):
        assert rows == whole, "what left box 1 is not looked at"
    else:
        assert rows == [row for row in whole if row["batch"] != 1]


@pytest.mark.parametrize(
    "content", ["batch,box\n3,1\n", "batch,box,cosine,norm_ratio\n3,1,x,\n", "batch,box,cosine,norm_ratio\n3\n"]
)
def test_a_damaged_table_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "oracle.csv").write_text(content)
    with pytest.raises(RunError, match=r"oracle\.csv: damaged"):
        quality.read(tmp_path, make_plan("article"))
    (tmp_path / "metrics" / "oracle.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match=r"oracle\.csv: damaged"):
        quality.read(tmp_path, make_plan("article"))


@pytest.mark.live
def test_a_run_whose_oracles_cannot_be_judged_is_none_the_worse(tmp_path: Path) -> None:
    """Its summary was once not written, so that a run that was done counted as dead."""
    flags = {"model.width": 8, "train.epochs": 1, "run.dir": str(tmp_path), "run.plot": False, "log.level": "info"}

    def stand_in_the_way(_: object) -> None:
        for folder in tmp_path.glob("*-quality"):
            (folder / "metrics" / "oracle.csv").mkdir(parents=True, exist_ok=True)

    result = launch(resolve("article", flags=flags), label="quality", observe=stand_in_the_way)
    assert result.status == "done"
    assert runs.describe(result.folder)["status"] == "done"
    log = (result.folder / "logs" / "launcher.log").read_text()
    assert "the oracles were not judged" in log
    assert len(quality.judge(result.folder, Plan.of(resolve("article", flags=flags)))) == 2 * 4, (
        "what it left is still there"
    )


def test_it_is_a_part_with_its_name_between_forward_and_update() -> None:
    config = make_config("article", 2)
    works = make_works(config)
    probe = Probe(works[1], frozenset({0}), lambda *_: None)
    assert [part.name for part in probe.do(Action("F", 0))] == ["forward", "probe", "update"]
    assert [part.name for part in probe.do(Action("F", 1))] == ["forward", "update"]
