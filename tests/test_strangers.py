"""Runs among strangers: floods, scanners, keys that nobody else sees, and plain text that has to be asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_chaos import Launched, launched, no_worker_left, sockets_of, summary

from launch import bench_hostile, report
from pipeline import addresses, keys

pytestmark = [pytest.mark.live, pytest.mark.patient]

#: Hostile messages to each of the four sockets.
EACH = 10_000
SMALL = {"train.epochs": 60}


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the run that nobody disturbs."""
    row = bench_hostile._run(tmp_path_factory.mktemp("calm"), SMALL, 0, 0)
    assert (row["status"], row["messages"], sum(row["dropped"].values())) == ("done", 0, 0)
    digest: str = row["digest"]
    return digest


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "flags",
    [{"transport.kind": "ipc"}, {"transport.kind": "tcp"}, {"transport.kind": "tcp", "emulate.delay_ms": 0.05}],
    ids=["ipc", "tcp", "delayed"],
)
def test_a_flood_at_every_socket_changes_no_bit(flags: dict[str, Any], calm: str, tmp_path: Path) -> None:
    sent: dict[str, int] = {}
    for seed in range(9):  # a run that ends before all is sent is followed by another one
        row = bench_hostile._run(tmp_path, SMALL | flags, 4 * EACH - sum(sent.values()), seed)
        assert (row["status"], row["digest"], row["alive"]) == ("done", calm, True)
        for name, counts in row["sent"].items():
            sent[name] = sent.get(name, 0) + sum(counts.values())
        assert row["scanners"] > 0
        assert all(count > 0 for count in row["dropped"].values())
        assert all(after - before < 60 for before, after in row["memory_mb"].values())
        assert fewer_lines_than(tmp_path / "runs" / "latest", 120)
        if sum(sent.values()) >= 4 * EACH:
            break
    assert sum(sent.values()) >= 4 * EACH
    assert all(count >= EACH // 2 for count in sent.values())


def fewer_lines_than(run: Path, lines: int) -> bool:
    """Whether a flood has filled no log."""
    return all(len(path.read_text().splitlines()) < lines for path in (run / "logs").glob("*.log"))


@pytest.mark.timeout(240)
def test_with_keys_strangers_and_scanners_get_nothing_in(
    calm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_hostile, "LINGER_MS", 500)
    row = bench_hostile._run(tmp_path, SMALL | {"transport.kind": "tcp", "transport.curve": "on"}, EACH, 0)
    assert (row["status"], row["digest"], row["alive"]) == ("done", calm, True)
    assert row["scanners"] > 0
    assert sum(row["dropped"].values()) == 0, "not even a frame of theirs was looked at"


# Secrets


def files_with(folder: Path, secrets: list[bytes]) -> list[Path]:
    """Return the files of a folder in which one of the secrets stands, in whatever writing."""
    writings = [writing for each in secrets for writing in (each, each.hex().encode(), each.hex().upper().encode())]
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert len(found) > 10
    return [path for path in found if any(writing in path.read_bytes() for writing in writings)]


@pytest.mark.parametrize("flags", [[], ["--transport.curve", "on", "--transport.kind", "tcp"]], ids=["ipc", "curve"])
def test_the_secrets_of_a_run_are_in_one_private_file_alone(flags: list[str], tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", "100000", *flags) as run:
        pids = run.running()
        folder = sockets_of(pids["head"])
        assert folder is not None
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / keys.FILE).stat().st_mode & 0o777 == 0o600
        found = keys.read(folder / keys.FILE)
        assert (found.pair is not None) == bool(flags)
        secrets = [found.secret, *(found.pair or ())]
        assert files_with(run.folder, secrets) == []
        for pid in (*pids.values(), run.process.pid):
            for name in ("cmdline", "environ"):
                told = Path(f"/proc/{pid}/{name}").read_bytes()
                assert not any(each in told or each.hex().encode() in told for each in secrets)
        run.process.terminate()
        assert run.wait(10) == 130
        assert no_worker_left(pids)
        assert not folder.exists()
        assert files_with(run.folder, secrets) == []
    assert not any(each.hex() in run.printed.read_text() + run.errors.read_text() for each in secrets)


def test_each_run_has_secrets_of_its_own(tmp_path: Path) -> None:
    found = set()
    for place in range(2):
        (tmp_path / str(place)).mkdir()
        with launched(tmp_path / str(place), "--train.epochs", "100000") as run:
            folder = sockets_of(run.running()["head"])
            assert folder is not None
            found.add(keys.read(folder / keys.FILE).secret)
            run.process.terminate()
            run.wait(10)
    assert len(found) == 2


def test_a_worker_without_good_keys_says_so_in_one_line(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", "1") as run:
        assert run.wait(30) == 0
    folder = tmp_path / "other"
    folder.mkdir(mode=0o700)
    keys.write(folder, keys.make()).chmod(0o644)
    words = [str(run.folder), "box-1", "ipc:///tmp/nowhere", "--sockets", str(folder), "--parent"]
    code = f"import os, sys, pipeline.worker as w; sys.exit(w.main({words!r} + [str(os.getppid())]))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        f"{folder / keys.FILE}: keys that others can read (mode 0644, not 0600); start the run again"
    ]


# Off the loopback


def ended(parent: Path, *flags: str) -> Launched:
    """Return a short run over tcp that has ended."""
    with launched(parent, "--train.epochs", "2", "--json", "--transport.kind", "tcp", *flags) as run:
        run.wait(60)
    return run


@pytest.mark.parametrize("interface", ["0.0.0.0", "own"])
def test_plain_text_off_the_loopback_is_refused(interface: str, tmp_path: Path) -> None:
    own = addresses.reachable("tcp://0.0.0.0:1").removeprefix("tcp://").removesuffix(":1")
    if interface == "own" and addresses.is_loopback(own):
        pytest.skip("this machine has no address but the loopback's")
    wanted = own if interface == "own" else interface
    run = ended(tmp_path, "--transport.interface", wanted, "--transport.curve", "off")
    assert run.process.returncode == 2
    assert not (tmp_path / "runs").exists()
    assert run.errors.read_text() == (
        f"timebox: transport.curve: off would send everything in plain text over {wanted}, where anybody may read it; "
        "leave it out, or add --transport.insecure true\n"
    )


def test_off_the_loopback_a_run_is_encrypted_and_its_endpoints_can_be_reached(tmp_path: Path) -> None:
    run = ended(tmp_path, "--transport.interface", "0.0.0.0")
    assert run.process.returncode == 0
    assert "insecure" not in summary(run)
    state = json.loads((run.folder / "launcher.json").read_text())
    told = [state["endpoint"], *(stage["endpoint"] for stage in state["stages"])]
    assert len(set(told)) == 4
    assert not any("0.0.0.0" in each for each in told)
    assert "plain text" not in (run.folder / "logs" / "launcher.log").read_text()


def test_plain_text_that_was_asked_for_is_told(tmp_path: Path) -> None:
    run = ended(tmp_path, "--transport.interface", "0.0.0.0", "--transport.insecure", "true")
    assert run.process.returncode == 0
    assert summary(run)["insecure"] is True
    lines = [json.loads(line) for line in (run.folder / "logs" / "launcher.log").read_text().splitlines()]
    told = ["all is sent in plain text over 0.0.0.0, where anybody may read it"]
    assert [line["text"] for line in lines if line["level"] == "warning"] == told
    assert report.collect(run.folder)["warnings"] == told


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (
            ["--transport.curve", "on", "--transport.insecure", "true"],
            "transport.insecure: what transport.curve encrypts",
        ),
        (["--transport.interface", "198.51.100.1"], "transport.interface: tcp://198.51.100.1:0 is no address of this"),
        (["--transport.interface", "no.such.invalid"], "transport.interface: 'no.such.invalid' is neither an address"),
        (["--transport.kind", "ipc", "--transport.curve", "on"], "transport.curve: only read with transport.kind tcp"),
    ],
    ids=["both", "not ours", "no name", "ipc"],
)
def test_what_cannot_be_is_refused_in_one_line(flags: list[str], why: str, tmp_path: Path) -> None:
    run = ended(tmp_path, *flags)
    assert run.process.returncode == 2
    assert run.errors.read_text().startswith(f"timebox: {why}")
    assert len(run.errors.read_text().splitlines()) == 1


def test_keys_are_not_in_the_configuration(tmp_path: Path) -> None:
    run = ended(tmp_path, "--transport.curve", "on")
    text = (run.folder / "config.toml").read_text()
    assert 'curve = "on"' in text
    assert "secret" not in text
