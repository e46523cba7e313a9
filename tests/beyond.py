"""A run over several hosts: `timebox run --placer env` on the first of them, `timebox join` on the others. For tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hosts import Host, leftovers
from test_chaos import WORKERS, launched, summary, until

from launch import runs

STAGES = WORKERS


def digest_here(parent: Path, *flags: str) -> str:
    """Return the digest of a run of this machine alone."""
    parent.mkdir()
    with launched(parent, *flags) as run:
        assert run.wait(60) == 0, run.errors.read_text()
    digest: str = summary(run)["digest"]
    return digest


class Spread:
    """A run whose launcher is on the first host and whose stages are on the next three."""

    def __init__(self, hosts: Sequence[Host], parent: Path, *words: str, ipv6: bool = False) -> None:
        """Start the launcher; `words` are the command and its flags."""
        self.hosts, self.parent = hosts, parent
        self.errors = parent / "stderr"
        command, *flags = words
        where = ["--run.dir", str(parent / "runs")]
        if command == "run":
            address = hosts[0].address6 if ipv6 else hosts[0].address
            where += ["--run.plot", "false", "--placer", "env", "--transport.interface", address]
        with self.errors.open("wb") as err, (parent / "stdout").open("wb") as out:
            self.launcher = hosts[0].python("-m", "launch", command, *where, *flags, stdout=out, stderr=err)
        self.join = until("a join file", lambda: self._join() if self.launcher.poll() is None else self.fail())
        self.agents: dict[str, subprocess.Popen[Any]] = {}

    def fail(self) -> None:
        """Say what the launcher said."""
        raise AssertionError(self.errors.read_text())

    def _join(self) -> Path | None:
        path = self.folder / "join"
        return path if path.is_file() and path.stat().st_size else None

    @property
    def folder(self) -> Path:
        return (self.parent / "runs" / "latest").resolve()

    def agent(
        self, stage: str, host: Host | None = None, join: Path | None = None, within: Sequence[str] = ()
    ) -> subprocess.Popen[Any]:
        """Start a stage's agent, as a person would in a shell there; `within` is a command to start it by."""
        host = host or self.hosts[1 + STAGES.index(stage)]
        environment = {"TIMEBOX_STAGE": stage, "TIMEBOX_JOIN": str(join or self.join), "TIMEBOX_HOST": host.address}
        if not host.namespace:
            environment["TIMEBOX_INTERFACE"] = host.address  # else all would be 127.0.0.1
        with (self.parent / f"agent-{host.number}").open("ab") as err:
            words = [*within, sys.executable, "-m", "launch", "join"]
            return host.run(words, env=environment, stderr=err, stdin=subprocess.DEVNULL)

    def all_join(self, stages: Sequence[str] = STAGES) -> None:
        """Start the agents."""
        self.agents.update({stage: self.agent(stage) for stage in stages})

    def forwards(self) -> int:
        """Return how many batches the head has done, as the run's folder has it."""
        path = self.folder / "journal" / "head.txt"
        return path.read_text().count("F") if path.is_file() else 0

    def wait(self, seconds: float = 60.0) -> int:
        """Return the launcher's exit code."""
        return self.launcher.wait(seconds)

    def summary(self) -> dict[str, Any]:
        """Return what the run says of itself."""
        document = runs.read_json(self.folder / "summary.json")
        assert document is not None
        return document

    def ends_well(self) -> dict[str, Any]:
        """Wait until it has ended as it should, with nothing left; return its summary."""
        assert self.wait() == 0, self.errors.read_text()
        self.nothing_is_left()
        return self.summary()

    def nothing_is_left(self) -> None:
        """Wait until every process has ended by itself; assert that no folder of theirs is left."""
        for agent in self.agents.values():
            agent.wait(30)
        until("everything gone", lambda: not leftovers(self.hosts), 10)
        assert not self.join.exists()
