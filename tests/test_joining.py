"""Runs whose stages join by themselves, each on an address of its own: the page's shells, bits, rivals, killed agents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pages
import pytest
from beyond import STAGES, Spread, digest_here
from hosts import Host, aliases, why_no_aliases
from test_chaos import ENDLESS, until

from launch import clocks, recording, runs
from launch.cli import main

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

Shell = Callable[..., "subprocess.Popen[bytes]"]
SMALL = ["--model.width", "16", "--train.epochs", "2", "--data.train", "250"]
LONG = ["--schedule.kind", "locked", "--model.width", "16", "--train.epochs", "12", "--train.evaluate_every", "0"]
LONG += ["--checkpoint.every", "200", "--placer.lost_s", "2"]


@pytest.fixture
def four() -> Iterator[list[Host]]:
    """A launcher's host, and one for each stage, all of them addresses of the loopback."""
    if why := why_no_aliases():
        pytest.skip(why)
    with aliases(4) as hosts:
        yield hosts


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Start a command in a plain shell, as a person would, in the test's folder; what it says goes to `said`."""
    (tmp_path / "bin").mkdir()
    timebox = tmp_path / "bin" / "timebox"
    timebox.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m launch "$@"\n')
    timebox.chmod(0o755)
    own = {"PATH": f"{timebox.parent}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[1])}

    def start(command: str, **environment: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "said").open("ab") as said:
            return subprocess.Popen(
                ["sh", "-c", command], cwd=tmp_path, env={**os.environ, **own, **environment}, stdout=said, stderr=said
            )

    return start


def guide() -> list[str]:
    """Return the commands that the page has for runs beyond one machine, in their order."""
    return pages.commands(pages.section(pages.ROOT / "launch" / "README.md", "Beyond one machine"))


def test_the_page_s_shells_do_what_it_says(shell: Shell, tmp_path: Path) -> None:
    run_command, join_command, *_ = guide()
    short = ["--train.epochs", "4"]
    launcher = shell(" ".join([run_command, *short]))
    join = tmp_path / "runs" / "latest" / "join"
    until("a join file", lambda: launcher.poll() is not None or (join.is_file() and join.stat().st_size))
    told = f"TIMEBOX_STAGE=box-1 timebox join {join.resolve()}"
    until("told how to join", lambda: told in (tmp_path / "said").read_text(), 10)
    copied = tmp_path / "copied"
    subprocess.run(["scp", "-p", join, copied] if _has_scp() else ["cp", "-p", join, copied], check=True)
    assert "box-1" in join_command
    assert "FILE" in join_command
    agents = [shell(join_command.replace("box-1", stage).replace("FILE", str(copied))) for stage in STAGES]
    assert launcher.wait(60) == 0, (tmp_path / "said").read_text()
    assert [agent.wait(20) for agent in agents] == [0, 0, 0]
    folder = (tmp_path / "runs" / "latest").resolve()
    assert runs.read_json(folder / "summary.json")["digest"] == digest_here(
        tmp_path / "here", "--model.width", width(folder), *short
    )  # type: ignore[index]
    assert not join.exists()


def _has_scp() -> bool:
    return subprocess.run(["sh", "-c", "command -v scp"], capture_output=True, check=False).returncode == 0


def width(folder: Path) -> str:
    """Return the width of a run, which the tests' other runs are asked for by a flag."""
    return str(recording.load(folder).config.model.width)


def test_an_index_in_the_environment_is_a_stage(shell: Shell, tmp_path: Path) -> None:
    flags = f"{' '.join(SMALL)} --run.plot false --placer.wait_s 20"
    launcher = shell(f"timebox run --placer env {flags}")
    join = tmp_path / "runs" / "latest" / "join"
    until("a join file", lambda: launcher.poll() is not None or (join.is_file() and join.stat().st_size))
    agents = [shell(f"timebox join {join}", SLURM_PROCID=str(number)) for number in range(3)]
    assert launcher.wait(60) == 0, (tmp_path / "said").read_text()
    assert [agent.wait(20) for agent in agents] == [0, 0, 0]


@pytest.mark.parametrize("kind", ["article", "locked"])
def test_over_addresses_of_the_loopback_a_run_has_the_same_bits_and_is_as_any_other(
    kind: str, four: list[Host], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Spread(four, tmp_path, "run", *SMALL, "--schedule.kind", kind)
    run.all_join()
    assert run.ends_well()["digest"] == digest_here(tmp_path / "here", *SMALL, "--schedule.kind", kind)
    state: Mapping[str, Any] = runs.read_json(run.folder / "launcher.json") or {}
    told = {stage["name"]: stage["endpoint"].rpartition(":")[0] for stage in state["stages"]}
    assert told == {stage: f"tcp://{host.address}" for stage, host in zip(STAGES, four[1:], strict=True)}
    for command in (["replay"], ["order"], ["stats", "--json"], ["report"], ["logs"]):
        assert main([command[0], str(run.folder), *command[1:]]) == 0, capsys.readouterr().err
    assert (run.folder / "report.html").stat().st_size


def test_a_host_whose_clock_is_another_is_understood(
    four: list[Host], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ahead_s = 5_000
    within = ["unshare", "-T", "--monotonic", str(ahead_s), "--fork", "--kill-child"]
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs time namespaces (root, util-linux 2.36)")
    run = Spread(four, tmp_path, "run", *SMALL, "--schedule.kind", "locked")
    run.all_join(("box-1", "head"))
    run.agents["box-2"] = run.agent("box-2", within=within)
    assert run.ends_well()["digest"] == digest_here(tmp_path / "here", *SMALL, "--schedule.kind", "locked")
    lines = clocks.read(run.folder)
    assert lines["box-2"].offset_ns == pytest.approx(ahead_s * 1e9, abs=lines["box-2"].error_ns + 1e5)
    assert 0 < lines["box-2"].error_ns < 2e8
    found = recording.load(run.folder)
    messages = found.messages
    assert len(messages.sent) > 1_000
    assert int((messages.taken - messages.sent).min()) >= -found.clock_error_ns
    assert found.warnings == []
    assert 0 < found.clock_error_ns < 5e6
    assert (found.end_ns - found.origin_ns) / 1e9 < 60
    assert main(["order", str(run.folder)]) == 0
    assert "times of different hosts are aligned to within" in capsys.readouterr().out


def test_ports_that_are_fixed_are_those_that_are_opened(four: list[Host], tmp_path: Path) -> None:
    first = 23_450
    run = Spread(four, tmp_path, "run", *SMALL, "--transport.port", str(first))
    run.all_join()
    run.ends_well()
    state: Mapping[str, Any] = runs.read_json(run.folder / "launcher.json") or {}
    ports = [state["endpoint"], *(stage["endpoint"] for stage in state["stages"])]
    assert [int(each.rpartition(":")[2]) for each in ports] == [first, first + 1, first + 2, first + 3]


def test_a_second_host_for_a_stage_is_sent_away(four: list[Host], tmp_path: Path) -> None:
    run = Spread(four, tmp_path, "run", *LONG, "--train.epochs", ENDLESS)
    run.all_join()
    until("at work", lambda: run.forwards() >= 60)
    rival = run.agent("box-2", four[0])
    assert rival.wait(20) == 2
    said = (tmp_path / f"agent-{four[0].number}").read_text()
    assert f"box-2 on {four[0].address} leaves: box-2 has a host already: {four[2].address}" in said
    run.launcher.send_signal(signal.SIGINT)
    assert run.wait() == 130, run.errors.read_text()
    run.nothing_is_left()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the long run, which nothing disturbs."""
    return digest_here(tmp_path_factory.mktemp("calm") / "run", *LONG[:-2])


@pytest.mark.parametrize("victim", ["agent", "worker"])
def test_what_is_killed_on_a_host_is_recovered(victim: str, four: list[Host], calm: str, tmp_path: Path) -> None:
    run = Spread(four, tmp_path, "run", *LONG, "--recover", "1")
    run.all_join()
    until("a checkpoint", lambda: list(run.folder.glob("checkpoint/batch-*/manifest.json")))
    if victim == "agent":
        run.agents["box-2"].kill()
        run.agents["box-2"] = run.agent("box-2")
    else:
        state: Mapping[str, Any] = runs.read_json(run.folder / "launcher.json") or {}
        os.kill(next(stage["pid"] for stage in state["stages"] if stage["name"] == "box-2"), signal.SIGKILL)
    document = run.ends_well()
    assert document["digest"] == calm
    assert len(document["recoveries"]) == 1
    assert main(["replay", str(run.folder)]) == 0


def test_an_agent_that_is_killed_ends_the_run_by_the_name_of_its_host(four: list[Host], tmp_path: Path) -> None:
    run = Spread(four, tmp_path, "run", *LONG, "--train.epochs", ENDLESS)
    run.all_join()
    until("at work", lambda: run.forwards() >= 60)
    run.agents["box-1"].kill()
    assert run.wait(20) == 1
    told = next(line for line in run.errors.read_text().splitlines() if line.startswith("timebox: "))
    assert told.startswith("timebox: box-1 ")
    assert told.endswith(f"its host {four[1].address} does not answer (2 s)")
    run.nothing_is_left()
    document = json.loads((run.folder / "summary.json").read_text())
    assert document["status"] == "failed"
    assert recording.load(run.folder).stages, "what had come can be read"
