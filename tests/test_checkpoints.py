"""Checkpoints on disk: whole or not at all, the newest that is whole, and none that is kept too long."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from network import make_plan

from pipeline import checkpoints, files
from pipeline.errors import RunError
from pipeline.plan import Plan
from pipeline.results import load_weights

PLAN: Plan = make_plan("gpipe", boxes=1, batches=20, micro=2, save_every=4)
STAGES = ("box-1", "head")


def made(run: Path, number: int) -> Path:
    """Write a checkpoint, with what the run's files have of it; return its folder."""
    (run / "journal").mkdir(exist_ok=True)
    (run / "config.toml").touch()
    stages = {}
    for stage in STAGES:
        journal = run / "journal" / f"{stage}.txt"
        with journal.open("ab") as stream:
            stream.write(b"F B\n")
        part = checkpoints.beginning(journal, journal.stat().st_size)
        state = {"W": np.full((2, 3), number, np.float32), "optimizer.M_W": np.ones(3), "seen": np.array(number)}
        stages[stage] = {
            **checkpoints.write_stage(run, PLAN, number, stage, state),
            "appended": {f"journal/{stage}.txt": part},
        }
    checkpoints.write_manifest(run, PLAN, number, 0, stages)
    return checkpoints.folder_of(run, PLAN, number)


def test_what_is_saved_is_what_comes_back(tmp_path: Path) -> None:
    folder = made(tmp_path, 1)
    assert folder.name == "batch-000000004", "batches of the data, two micro-batches each"
    found, faults = checkpoints.newest(tmp_path, PLAN)
    assert found is not None
    assert (found.save, found.batch, faults) == (1, 4, [])
    assert found.files("box-1") == {"journal/box-1.txt": 4}
    state = load_weights(folder / "box-1.npz")
    assert {name: array.shape for name, array in state.items()} == {"W": (2, 3), "optimizer.M_W": (3,), "seen": ()}
    assert not list(tmp_path.rglob("*.part"))


def cut_off(folder: Path) -> None:
    path = folder / "head.npz"
    path.write_bytes(path.read_bytes()[:-1])


def turned(folder: Path) -> None:
    path = folder / "box-1.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def missing(folder: Path) -> None:
    (folder / "head.npz").unlink()


def half_a_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:50])


def no_stage(folder: Path) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    del document["stages"]["head"]
    path.write_text(json.dumps(document))


def shorter_journal(folder: Path) -> None:
    path = folder.parents[1] / "journal" / "head.txt"
    path.write_bytes(path.read_bytes()[:-2])


@pytest.mark.parametrize("damage", [cut_off, turned, missing, half_a_manifest, no_stage, shorter_journal])
def test_a_damaged_checkpoint_is_passed_over_and_named(damage: Callable[[Path], None], tmp_path: Path) -> None:
    made(tmp_path, 0)
    damage(made(tmp_path, 1))
    found, faults = checkpoints.newest(tmp_path, PLAN)
    assert found is not None
    assert found.save == 0
    assert len(faults) == 1
    assert str(tmp_path) in faults[0]


def test_a_checkpoint_without_a_manifest_is_none(tmp_path: Path) -> None:
    (made(tmp_path, 0) / "manifest.json").unlink()
    assert checkpoints.newest(tmp_path, PLAN) == (None, [])


def test_another_configuration_has_no_checkpoint_here(tmp_path: Path) -> None:
    made(tmp_path, 0)
    (tmp_path / "config.toml").write_text("[model]\nwidth = 3\n")
    found, [fault] = checkpoints.newest(tmp_path, PLAN)
    assert found is None
    assert "config.toml: was changed" in fault


def test_the_newest_are_kept(tmp_path: Path) -> None:
    folders = [made(tmp_path, number) for number in range(4)]
    (folders[3] / "manifest.json").unlink()  # being written
    checkpoints.prune(tmp_path, PLAN, 2)
    assert [folder.is_dir() for folder in folders] == [False, True, True, True]
    checkpoints.forget_later(tmp_path, PLAN, 1)
    assert [folder.is_dir() for folder in folders] == [False, True, False, False]
    checkpoints.forget_later(tmp_path, PLAN, None)
    assert not any(folder.is_dir() for folder in folders)


def test_folders_of_other_plans_are_no_checkpoints(tmp_path: Path) -> None:
    made(tmp_path, 0)
    for name in ("batch-000000003", "batch-x", "batch-000009998", "batch-2"):
        (tmp_path / "checkpoint" / name).mkdir()
        (tmp_path / "checkpoint" / name / "manifest.json").touch()
    assert [found.save for found in checkpoints.complete(tmp_path, PLAN)] == [0]


def test_what_is_cut_off_is_kept(tmp_path: Path) -> None:
    path, aside = tmp_path / "a.txt", tmp_path / "epoch-0" / "a.txt"
    path.write_bytes(b"0123456789")
    files.cut(path, 10, aside)
    assert not aside.exists()
    files.cut(path, 4, aside)
    assert (path.read_bytes(), aside.read_bytes()) == (b"0123", b"456789")


def test_a_file_that_is_too_short_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"0123")
    with pytest.raises(RunError, match="has 4 bytes where a checkpoint has 5"):
        checkpoints.beginning(path, 5)
