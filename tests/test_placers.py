"""Placers that cannot do what is asked: one clear line, nothing left behind. Beside those that need a Ray cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.cli import main

ROOT = Path(__file__).parents[1]


def refused(tmp_path: Path, *flags: str, path: str = "") -> str:
    """Return what a run that cannot be placed says, in a process of its own."""
    around = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), path)))}
    words = [sys.executable, "-m", "launch", "run", "--run.dir", str(tmp_path / "runs"), *flags]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=around)
    assert done.returncode == 2, done.stderr
    assert not (tmp_path / "runs").exists()
    told = done.stderr.splitlines()
    assert len(told) == 1, told
    return told[0]


def test_without_ray_it_says_how_to_have_it(tmp_path: Path) -> None:
    blocked = tmp_path / "path" / "ray"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('there is none')\n")
    told = refused(tmp_path, "--placer", "ray", path=str(blocked.parent))
    assert told == "timebox: placer.kind: ray is not installed here; pip install 'timebox[ray]'"


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install 'timebox[ray]'")
    told = refused(tmp_path, "--placer", "ray", "--placer.address", "127.0.0.1:1")
    assert told.startswith("timebox: placer.address: no Ray cluster answers at 127.0.0.1:1: ")


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--placer", "env", "--transport.interface", "no.such.host.invalid"], "transport.interface: 'no.such.host.invalid'"),
        (["--placer", "env", "--transport.interface", "192.0.2.1"], "transport.interface: tcp://192.0.2.1:0 is no address of"),
        (["--placer", "nosuch"], "flag: placer.kind: one of local, env, ray, own is wanted, not 'nosuch'"),
        (["--placer", "env", "--reference"], "placer: a reference is one process"),
    ],
    ids=["no such interface", "an address of another machine", "no such placer", "reference"],
)  # fmt: skip
def test_what_cannot_be_placed_is_refused(flags: list[str], why: str, tmp_path: Path) -> None:
    assert refused(tmp_path, *flags).startswith(f"timebox: {why}")


@pytest.mark.live
def test_where_nobody_joins_the_stage_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--run.dir", str(tmp_path / "runs"), "--run.plot", "false"]
    assert main(["run", "--placer", "env", "--placer.wait_s", "1", *where]) == 1
    told = capsys.readouterr().err
    assert (
        "timebox: box-1 (process 0), last heard of at batch 0: no host has joined for it within 1 s (placer.wait_s)"
        in told
    )
    assert not (tmp_path / "runs" / "latest" / "join").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "join: say which run"),
        (["tcp://127.0.0.1:1#abc"], "join: everybody here can read an argument"),
        (["missing"], "missing"),
    ],
)
def test_a_join_without_a_run_is_refused(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIMEBOX_JOIN", raising=False)
    assert main(["join", *words, "--stage", "box-1"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"timebox: {why}")
