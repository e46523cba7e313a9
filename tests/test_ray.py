"""Stages as actors on the nodes of a Ray cluster: the same bits, placed as asked, and what becomes of a run that loses one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import SCRATCH, socket_folders, worker_processes
from test_chaos import ENDLESS, WORKERS, Launched, launched, summary, until

from launch import runs
from pipeline.trace import read_journal

ray = pytest.importorskip("ray", reason="needs ray: pip install 'timebox[ray]'")
cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs ray: pip install 'timebox[ray]'")

pytestmark = pytest.mark.live

#: The node that Ray's own server is on, and whoever starts runs here: it is never killed.
FIRST = "127.0.0.2"
NODE = {"num_cpus": 2, "object_store_memory": 80_000_000, "include_dashboard": False}
SMALL = ("--model.width", "16", "--run.plot", "false")
#: Some seconds of work, and a checkpoint every quarter of a second or so.
LONG = ("--train.epochs", "60", "--train.evaluate_every", "20", "--checkpoint.every", "100", "--placer.lost_s", "2")


class Nodes:
    """Three nodes of a cluster on this machine, each with an address of its own."""

    def __init__(self) -> None:
        self.cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"node_ip_address": FIRST, **NODE})
        self.by_host: dict[str, Any] = {}
        self._last = 2
        self.fill()

    @property
    def address(self) -> str:
        """Where Ray's server listens."""
        return str(self.cluster.address)

    def fill(self) -> None:
        """Have three nodes, with new ones in the place of those that were killed."""
        while len(self.by_host) < 2:
            self._last += 1
            host = f"127.0.0.{self._last}"
            self.by_host[host] = self.cluster.add_node(node_ip_address=host, **NODE)

    def kill(self, host: str) -> None:
        """End a node without a word."""
        self.cluster.remove_node(self.by_host.pop(host), allow_graceful=False)

    def is_free(self) -> bool:
        """Whether all processors of the nodes that should be there are, and are free."""
        count = 2.0 * (1 + len(self.by_host))
        return bool(ray.cluster_resources().get("CPU") == ray.available_resources().get("CPU") == count)


@pytest.fixture(scope="module")
def started() -> Iterator[Nodes]:
    before = signal.getsignal(signal.SIGTERM)
    nodes = Nodes()
    ray.init(address=nodes.address, log_to_driver=False, configure_logging=False, logging_level="ERROR")
    signal.signal(signal.SIGTERM, before)
    yield nodes
    ray.shutdown()
    nodes.cluster.shutdown()


@pytest.fixture
def nodes(started: Nodes) -> Iterator[Nodes]:
    """Return the cluster; whatever a test does, nothing of its runs is left in it, and it stays."""
    started.fill()
    yield started
    until("the cluster given back", started.is_free)
    until("the agents gone", lambda: not agents() and not worker_processes() and not socket_folders())


class Keeper(NamedTuple):
    """An agent's process, and the actor's that keeps it."""

    agent: int
    actor: int


def agents() -> dict[str, Keeper]:
    """Return the agents that this session's runs have now, by stage."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text().split("\0")
            is_ours = f"TMPDIR={SCRATCH}".encode() in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if is_ours and "launch.agent" in words:
            found[words[words.index("--stage") + 1]] = Keeper(int(folder.name), int(words[words.index("--parent") + 1]))
    return found


def on(nodes: Nodes, *flags: str) -> tuple[str, ...]:
    return ("--placer", "ray", "--placer.address", nodes.address, *flags)


def hosts(run: Launched) -> dict[str, str]:
    document = runs.read_json(run.folder / "launcher.json")
    assert document is not None
    return {stage["name"]: stage["host"] for stage in document["stages"]}


def command(*words: str) -> str:
    """Return what a command prints that has to go well."""
    made = subprocess.run([sys.executable, "-m", "launch", *words], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout


def at_home(parent: Path, *flags: str) -> dict[str, Any]:
    """Return the document of the same run on this machine alone."""
    with launched(parent / "home", *flags) as run:
        assert run.wait(60) == 0, run.errors.read_text()
    return summary(run)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The long run that nothing happens to."""
    parent = tmp_path_factory.mktemp("long")
    (parent / "home").mkdir()
    return at_home(parent, *LONG[:-2])


def results(document: dict[str, Any]) -> dict[str, Any]:
    return {key: document[key] for key in ("status", "digest", "costs", "accuracy")}


def attempts_of(run: Launched) -> list[dict[str, Any]]:
    """Return what launcher.json tells of a run's attempts."""
    document = runs.read_json(run.folder / "launcher.json") or {"attempts": []}
    found: list[dict[str, Any]] = document["attempts"]
    return found


@pytest.mark.parametrize(
    ("schedule", "placement", "count"),
    [("article", ["--placer.cpus", "0.5"], 1), ("locked", ["--placer.strategy", "spread"], 3)],
    ids=["article, packed", "locked, spread"],
)
def test_a_run_on_a_cluster_is_a_run_like_any_other(
    schedule: str, placement: list[str], count: int, nodes: Nodes, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    flags = ["--schedule.kind", schedule, "--train.epochs", "3"]
    with launched(tmp_path, *flags, *on(nodes, *placement)) as run:
        assert run.wait(60) == 0, run.errors.read_text()
    here = summary(run)
    assert results(here) == results(at_home(tmp_path, *flags))
    home = (tmp_path / "home" / "runs" / "latest").resolve()
    assert runs.read_metrics(run.folder) == runs.read_metrics(home)
    for stage in WORKERS:
        assert read_journal(run.folder, stage) == read_journal(home, stage)
    places = {stage["name"]: stage["host"] for stage in here["stages"]}
    assert set(places) == set(WORKERS)
    assert len(set(places.values())) == count, places
    assert set(places.values()) <= {FIRST, *nodes.by_host}

    folder = str(run.folder)
    assert json.loads(command("replay", folder, "--json"))["same"]
    assert json.loads(command("stats", folder, "--json"))["run"] == run.folder.name
    assert "box-2" in command("order", folder)
    assert run.folder.name in command("list", "--run.dir", str(run.folder.parent))
    command("report", folder)
    assert (run.folder / "report.html").stat().st_size > 10_000


def test_a_node_that_dies_is_recovered_from(nodes: Nodes, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    with launched(tmp_path, *LONG, "--recover", "2", *on(nodes, "--placer.strategy", "spread")) as run:
        until("a checkpoint", lambda: list(run.folder.glob("checkpoint/batch-*/manifest.json")))
        stage, host = next((stage, host) for stage, host in hosts(run).items() if host != FIRST)
        nodes.kill(host)
        assert run.wait(60) == 0, run.errors.read_text()
    document = summary(run)
    assert results(document) == results(undisturbed)
    again = attempts_of(run)[1]
    assert again["from_batch"] > 0
    assert re.match(rf"{stage}: its host {host} ", again["why"])
    assert host not in {each["host"] for each in document["stages"]}
    assert json.loads(command("replay", str(run.folder), "--json"))["same"]
    command("report", str(run.folder))


def test_workers_agents_and_actors_that_are_killed_come_again(
    nodes: Nodes, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    with launched(tmp_path, *LONG, "--recover", "3", *on(nodes, "--placer.cpus", "2")) as run:
        until("a checkpoint", lambda: list(run.folder.glob("checkpoint/batch-*/manifest.json")))
        assert len(set(hosts(run).values())) == 3, "two processors each: nobody has room for two of them"
        os.kill(run.pids["head"], signal.SIGKILL)
        until("the head come again", lambda: len(attempts_of(run)) == 2)
        os.kill(agents()["box-1"].agent, signal.SIGKILL)
        until("box-1 come again", lambda: len(attempts_of(run)) == 3)
        os.kill(agents()["box-2"].actor, signal.SIGKILL)
        assert run.wait(60) == 0, run.errors.read_text()
    document = summary(run)
    assert results(document) == results(undisturbed)
    told = [each["why"] for each in attempts_of(run)]
    assert [why.partition(":")[0] for why in told[1:]] == ["head", "box-1", "box-2"], told


@pytest.mark.parametrize("victim", ["node", "agent", "worker"])
def test_without_recovery_it_ends_and_names_the_stage_and_its_host(victim: str, nodes: Nodes, tmp_path: Path) -> None:
    flags = ["--train.epochs", ENDLESS, "--placer.lost_s", "2"]
    with launched(tmp_path, *flags, *on(nodes, "--placer.strategy", "spread")) as run:
        until("at work", run.has_begun)
        stage, host = next((stage, host) for stage, host in hosts(run).items() if host != FIRST)
        if victim == "node":
            nodes.kill(host)
        else:
            os.kill(agents()[stage].agent if victim == "agent" else run.pids[stage], signal.SIGKILL)
        assert run.wait(15) == 1
    told = run.errors.read_text().splitlines()
    [line] = [each for each in told if each.startswith("timebox: ")]
    assert line.startswith(f"timebox: {stage} "), line
    assert victim == "worker" or host in line, line
    assert summary(run)["status"] == "failed"


def test_an_interrupt_ends_all_of_it(nodes: Nodes, tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, *on(nodes)) as run:
        until("at work", run.has_begun)
        run.process.send_signal(signal.SIGINT)
        assert run.wait(10) == 130
    assert summary(run)["status"] == "interrupted"
    assert {path.name for path in (run.folder / "checkpoint" / "interrupted").iterdir()} == {
        f"{stage}.npz" for stage in WORKERS
    }


def test_a_launcher_that_is_killed_leaves_the_cluster_free(nodes: Nodes, tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, "--placer.lost_s", "2", *on(nodes)) as run:
        until("at work", run.has_begun)
        run.process.kill()
        run.wait(5)


def test_without_an_address_a_cluster_is_started_for_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # whatever that says
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray puts a token there
    with launched(tmp_path, "--train.epochs", "1", "--placer", "ray", "--placer.cpus", "1.5") as run:
        assert run.wait(60) == 0, run.errors.read_text()
    assert "Ray" not in run.errors.read_text(), "its own warnings are not ours"
    assert {stage["name"] for stage in summary(run)["stages"]} == set(WORKERS)
    until("its processes gone", lambda: not agents() and not socket_folders())


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (
            ["--placer.cpus", "3"],
            "placer.cpus: 3 stages of 3 need 9 processors, the cluster has 6 on 3 nodes, at most 2 on one",
        ),
        (["--placer.cpus", "1.5", "--model.boxes", "3"], "placer.cpus: 4 stages of 1.5 need 6 processors"),
        (["--model.boxes", "7"], "placer.cpus: 8 stages of 1 need 8 processors"),
    ],
)  # fmt: skip
def test_more_than_the_cluster_has_is_refused(flags: list[str], why: str, nodes: Nodes, tmp_path: Path) -> None:
    with launched(tmp_path, *on(nodes, *flags)) as run:
        assert run.wait(20) == 2
    [line] = run.errors.read_text().splitlines()
    assert line.startswith(f"timebox: {why}")
    assert not (tmp_path / "runs").exists()


def test_what_others_have_is_waited_for_and_then_told(nodes: Nodes, tmp_path: Path) -> None:
    @ray.remote(num_cpus=2)
    class Other:
        def is_there(self) -> bool:
            return True

    others = [Other.remote() for _ in range(3)]
    ray.get([other.is_there.remote() for other in others])
    try:
        with launched(tmp_path, "--placer.wait_s", "1", *on(nodes)) as run:
            assert run.wait(20) == 1
    finally:
        for other in others:
            ray.kill(other)
    assert "did not give 3 times 1 processors within 1 s: others use them" in run.errors.read_text()


def test_a_caller_who_had_come_to_ray_before_keeps_it(nodes: Nodes, tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "import sys\n"
        "import ray\n"
        "from launch.live import run\n"
        "from pipeline.config import resolve\n"
        "ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)\n"
        "flags = {'placer.kind': 'ray', 'placer.address': sys.argv[1], 'train.epochs': 1, 'model.width': 8,\n"
        "         'run.plot': False, 'run.dir': sys.argv[2]}\n"
        "assert run(resolve('article', flags=flags)).status == 'done'\n"
        "assert ray.is_initialized() and len(ray.nodes()) >= 3\n"
    )
    made = subprocess.run(
        [sys.executable, script, nodes.address, tmp_path / "runs"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
