"""One stage logic, three drivers: live, replay and virtual time share `advance`, and none does without what it promises."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from network import make_plan

import pipeline
from launch.live import launch
from pipeline import drive
from pipeline.config import resolve
from pipeline.costs import Costs
from pipeline.data import Batches, load
from pipeline.errors import ScheduleError
from pipeline.plan import Plan
from pipeline.programs import program
from pipeline.replay import Replay
from pipeline.simulate import simulate

FOLDER = Path(pipeline.__file__).parent
FLAGS = {
    "model.width": 8, "data.train": 10, "data.test": 10, "train.epochs": 1, "run.plot": False, "schedule.kind": "article",
}  # fmt: skip


def test_all_three_call_advance_and_only_it_starts_and_finishes_actions() -> None:
    for name in ("attempt", "replay", "simulate"):
        tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "advance" in called, name
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("start", "finish")
            ):
                owner = node.func.value
                is_stage = isinstance(owner, ast.Name) and owner.id == "stage"
                assert not is_stage or path.name == "drive.py", f"{path.name} does a stage's actions past the driver"


def replayed() -> Replay:
    """Return the replay of a small program, as far as it comes."""
    config = resolve("article", flags=FLAGS)
    plan = Plan.of(config)
    journals = {k: list(program(plan, k)) for k in range(1, plan.head + 1)}
    replay = Replay(config, Batches(config, load(config.data)), journals)
    for _ in replay.run():
        pass
    return replay


def in_virtual_time() -> None:
    """Simulate a small program."""
    simulate(make_plan("article", boxes=2, batches=4), Costs())


def test_with_the_promise_kept_they_come_to_their_end() -> None:
    in_virtual_time()
    assert replayed().is_whole


@pytest.mark.parametrize(
    "broken", ["the rules are not told what came", "no credit is given back", "what an action sends is lost"]
)
def test_without_a_part_of_the_promise_none_comes_to_its_end(
    broken: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if broken == "the rules are not told what came":
        monkeypatch.setattr(drive, "take_in", lambda _stage, port, _work: [*port.arrived()])
    elif broken == "no credit is given back":
        monkeypatch.setattr("pipeline.stage.Stage.start", lambda *_: [])
    else:
        finish: Callable[..., list[object]] = drive.Stage.finish
        monkeypatch.setattr("pipeline.stage.Stage.finish", lambda *words: finish(*words)[:0])
    with pytest.raises(ScheduleError, match="comes to a standstill in virtual time"):
        in_virtual_time()
    assert not replayed().is_whole
    assert not [*tmp_path.iterdir()]


@pytest.mark.live
def test_the_three_agree_on_journals_and_bits(tmp_path: Path) -> None:
    """Processes, replay of their journals, and virtual time of the same program: one digest."""
    from launch import replaying, simulating, what_if

    result = launch(resolve("article", flags=FLAGS | {"run.dir": str(tmp_path)}))
    virtual = simulating.document(what_if.of_run(result.folder, None, []), arithmetic=True)
    assert result.digest == replaying.document(result.folder)["digest"] == virtual["digest"]
