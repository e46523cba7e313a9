"""Runs over hosts of their own: the same bits, a partition in mid-run, strangers, and what the simulator says beforehand."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from beyond import STAGES, Spread, digest_here
from hop import measure_hop
from hosts import Hosts, hosts_or_skip
from test_chaos import until

from launch import joining, recording
from pipeline import keys
from pipeline.transport import make_pair

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

#: Some seconds at 5 ms a hop: long enough to be cut in the middle.
LONG = ["--schedule.kind", "locked", "--model.width", "16", "--train.epochs", "4", "--train.evaluate_every", "0"]
CHECKPOINTS = ["--checkpoint.every", "50"]
#: What the simulator is to predict: compute that sleeps, so that the network decides how long it takes.
SLOW = ["--schedule.kind", "locked", "--model.width", "64", "--emulate.compute_ms", "5", "--train.epochs", "1"]
SLOW += ["--train.evaluate_every", "0"]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the long run, which nothing disturbs."""
    return digest_here(tmp_path_factory.mktemp("calm") / "run", *LONG, *CHECKPOINTS)


@pytest.fixture
def four() -> Iterator[Hosts]:
    """A launcher's host, one for each stage, and a stranger's."""
    hosts_or_skip()
    with Hosts(5) as hosts:
        yield hosts


def assert_whole(run: Spread) -> None:
    """Everything has come back: logs, journals, traces, checkpoints; all of it can be read."""
    for stage in STAGES:
        for path in (f"logs/{stage}.log", f"journal/{stage}.txt", f"trace/{stage}.trace"):
            assert (run.folder / path).stat().st_size, path
    assert not list(run.folder.rglob(".*.coming"))
    found = recording.load(run.folder)
    assert [stage.number for stage in found.stages] == [1, 2, 3]


@pytest.mark.parametrize("kind", ["article", "locked"])
def test_over_three_hosts_a_run_has_the_same_bits(kind: str, four: Hosts, tmp_path: Path) -> None:
    flags = ["--schedule.kind", kind, "--model.width", "16", "--train.epochs", "2"]
    run = Spread(four, tmp_path, "run", *flags, ipv6=kind == "locked")
    run.all_join()
    assert run.ends_well()["digest"] == digest_here(tmp_path / "here", *flags)
    assert_whole(run)


def test_a_run_outlives_a_partition_of_five_seconds(four: Hosts, calm: str, tmp_path: Path) -> None:
    four.set_delay(5)
    run = Spread(four, tmp_path, "run", *LONG, *CHECKPOINTS, "--placer.lost_s", "20")
    run.all_join()
    until("at work", lambda: run.forwards() >= 60)
    four.partition(four[2])
    time.sleep(5)
    four.partition(four[2], False)
    assert run.ends_well()["digest"] == calm
    assert_whole(run)


def test_a_host_that_is_cut_off_is_named_and_another_one_takes_its_place(
    four: Hosts, calm: str, tmp_path: Path
) -> None:
    four.set_delay(5)
    run = Spread(four, tmp_path, "run", *LONG, *CHECKPOINTS, "--placer.lost_s", "2", "--recover", "1")
    run.all_join()
    until("at work", lambda: run.forwards() >= 60)
    four.partition(four[2])
    log = run.folder / "logs" / "launcher.log"
    until("noticed", lambda: f"box-2: its host {four[2].address} does not answer" in log.read_text(), 5)
    assert run.agents["box-2"].wait(20) == 1, "it has seen that the launcher is gone"
    four.partition(four[2], False)
    run.agents["box-2"] = run.agent("box-2")
    document = run.ends_well()
    assert document["digest"] == calm
    assert len(document["recoveries"]) == 1
    assert_whole(run)


def test_without_recovery_a_cut_ends_the_run_cleanly_and_it_is_resumed(four: Hosts, calm: str, tmp_path: Path) -> None:
    four.set_delay(5)
    run = Spread(four, tmp_path, "run", *LONG, *CHECKPOINTS, "--placer.lost_s", "2")
    run.all_join()
    until("at work", lambda: run.forwards() >= 60)
    four.partition(four[2])
    assert run.wait(15) == 1
    told = next(line for line in run.errors.read_text().splitlines() if line.startswith("timebox: "))
    assert told.startswith("timebox: box-2 ")
    assert told.endswith(f"its host {four[2].address} does not answer (2 s)")
    four.partition(four[2], False)
    run.nothing_is_left()
    assert run.summary()["status"] == "failed"
    again = Spread(four, tmp_path, "resume", run.folder.name)
    again.all_join()
    assert again.ends_well()["digest"] == calm
    assert_whole(again)


def test_from_another_host_without_the_key_nobody_takes_part(four: Hosts, tmp_path: Path) -> None:
    run = Spread(four, tmp_path, "run", *LONG, "--train.epochs", "2")
    meeting = joining.read(str(run.join), {})
    forged = keys.write_private(tmp_path / "forged", joining.line(meeting._replace(keys=keys.make(make_pair()))) + "\n")
    stranger = run.agent("box-2", four[4], forged)
    time.sleep(4)
    assert "box-2 has a host" not in (run.folder / "logs" / "launcher.log").read_text()
    run.all_join()
    assert run.wait() == 0, run.errors.read_text()
    assert stranger.poll() is None, "nobody has answered it"
    stranger.terminate()
    assert stranger.wait(10) == 1
    run.nothing_is_left()
    log = (run.folder / "logs" / "launcher.log").read_text()
    assert four[4].address not in log


def test_the_simulator_knows_how_long_a_run_takes_over_slow_links(four: Hosts, tmp_path: Path) -> None:
    """Fed with the hop as measured, and with what everything else takes from a run over links without a delay.

    On a machine at rest it is right within 5 % (`pytest -s` shows how far off it is); one that others use is not that still.
    """
    quick, calibration, _ = measured(four, tmp_path / "quick", 0)
    errors = {}
    for ms in (1, 10, 50):
        for attempt in range(3):  # others use this machine, too: a disturbed run says nothing of the simulator
            hop, _, real = measured(four, tmp_path / f"{ms}-{attempt}", ms)
            words = ["-m", "launch", "simulate", "--json", *SLOW, "--calibration", str(calibration)]
            words += ["--what-if", f"latency_ms={max(hop - quick, 0.0):.3f}"]
            simulated = subprocess.run(
                [sys.executable, *words], capture_output=True, text=True, check=False, timeout=100
            )
            assert simulated.returncode == 0, simulated.stderr
            errors[ms] = json.loads(simulated.stdout)["makespan_s"] / real - 1
            print(f"{ms} ms: a hop takes {hop:.2f} ms, the run {real:.2f} s, predicted {100 * errors[ms]:+.1f} %")
            if abs(errors[ms]) < 0.15:
                break
    assert all(abs(error) < 0.15 for error in errors.values()), errors


def measured(hosts: Hosts, place: Path, ms: float) -> tuple[float, Path, float]:
    """Run over links of a delay; return the hop in ms as measured before and after it, the run's folder and its seconds."""
    place.mkdir()
    hosts.set_delay(ms)
    hops = measure_hop(hosts[1], hosts[2], 8_192, 10)
    run = Spread(hosts, place, "run", *SLOW)
    run.all_join()
    assert run.wait(120) == 0, run.errors.read_text()
    run.nothing_is_left()
    hops += measure_hop(hosts[1], hosts[2], 8_192, 10)
    found = recording.load(run.folder)
    return 1e3 * statistics.median(hops), run.folder, (found.end_ns - found.origin_ns) / 1e9
