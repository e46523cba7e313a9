"""Agents on the nodes of a Ray cluster: an actor for each stage, in a placement group, whose only work is to keep an agent.

Ray places, reserves and notices dead nodes; whether a stage is started anew is for the launcher's supervisor to say, so actors
are never restarted by Ray itself. Activations and gradients do not pass through Ray. The run's secrets do, once, as an
argument to each actor: who administers the cluster can read them.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pipeline
from pipeline.errors import ConfigError
from pipeline.schema import Config

from . import joining
from .interruptions import KINDS

#: Seconds that a cluster's answers may take.
ANSWER_S = 30.0


class Keeper:
    """What an actor does on its node: it starts an agent, which ends when this process does."""

    def __init__(self, line: str, stage: str, host: str, root: str) -> None:
        import os

        environment = {**os.environ, joining.HOST: host}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "launch.agent", "-", "--stage", stage, "--parent", str(os.getpid())]
        self._agent = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        assert self._agent.stdin is not None
        self._agent.stdin.write(f"{line}\n".encode())
        self._agent.stdin.close()

    def poll(self) -> int | None:
        """Return the agent's exit code, or None while it is there."""
        return self._agent.poll()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError("placer.kind: ray is not installed here; pip install 'timebox[ray]'") from None
    return ray


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what this process does at a signal: Ray puts handlers of its own there."""
    before = {number: signal.getsignal(number) for number in KINDS}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not the main thread
            for number, action in before.items():
                signal.signal(number, action)


def check(config: Config) -> None:
    """Connect to the cluster, or start one, and see whether it has room; raises ConfigError, and leaves nothing then."""
    ray = _ray()
    wanted = config.placer
    stages = config.model.boxes + 1
    is_ours = not ray.is_initialized()
    if is_ours:
        connect(ray, config)
    try:
        there = float(ray.cluster_resources().get("CPU", 0.0))
        largest = max((float(node["Resources"].get("CPU", 0.0)) for node in ray.nodes() if node["Alive"]), default=0.0)
        if stages * wanted.cpus > there or wanted.cpus > largest:
            raise ConfigError(
                f"placer.cpus: {stages} stages of {wanted.cpus:g} need {stages * wanted.cpus:g} processors, the cluster has "
                f"{there:g}, at most {largest:g} on a node; lower placer.cpus or model.boxes"
            )
    except ConfigError:
        if is_ours:
            ray.shutdown()
        raise


def connect(ray: Any, config: Config) -> None:
    """Connect to the cluster at placer.address, or start one; raises ConfigError."""
    wanted = config.placer
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if wanted.address:
        options["address"] = wanted.address
    else:
        options |= {"num_cpus": max(1, round((config.model.boxes + 1) * wanted.cpus + 0.5)), "include_dashboard": False}
    with _own_signals():
        try:
            ray.init(**options)
        except (ConnectionError, OSError, ValueError, RuntimeError, TimeoutError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ConfigError(
                f"placer.address: no Ray cluster answers at {wanted.address or 'this machine'}: {reason}"
            ) from None


class RayRecruiter:
    """Makes an actor for each stage, and another one where one is lost."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._line = ""
        self._group: Any = None
        self._actors: dict[str, Any] = {}
        self._polls: dict[str, Any] = {}
        self._names = [f"box-{k}" for k in range(1, config.model.boxes + 1)] + ["head"]

    def open(self, meeting: joining.Meeting, folder: Path) -> None:  # noqa: ARG002
        """Reserve what all stages need; raises ConfigError where the cluster does not give it in time."""
        ray = _ray()
        from ray.util.placement_group import placement_group

        if not ray.is_initialized():
            connect(ray, self._config)
        self._line = joining.line(meeting)
        wanted = self._config.placer
        bundle = {"CPU": wanted.cpus or 0.001}
        self._group = placement_group([bundle] * len(self._names), strategy=wanted.strategy.upper())
        if not self._group.wait(min(wanted.wait_s, ANSWER_S)):
            raise ConfigError(
                f"placer.cpus: the cluster did not give {len(self._names)} times {wanted.cpus:g} processors within "
                f"{min(wanted.wait_s, ANSWER_S):g} s: others use them"
            )

    def recruit(self, name: str) -> None:
        """Place an actor; where its node has died, Ray finds another one for what was reserved there."""
        ray = _ray()
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self.dismiss(name)
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=self._names.index(name))
        options = {"num_cpus": self._config.placer.cpus, "max_restarts": 0, "scheduling_strategy": place}
        root = str(Path(pipeline.__file__).parents[1])
        remote = ray.remote(_hosted()).options(**options)
        self._actors[name] = remote.remote(self._line, name, root)

    def fault(self, name: str) -> str:
        """Return how an agent has ended that did not even come."""
        ray = _ray()
        actor = self._actors.get(name)
        if actor is None:
            return ""
        poll = self._polls.setdefault(name, actor.poll.remote())
        done, _ = ray.wait([poll], timeout=0)
        if not done:
            return ""
        del self._polls[name]
        try:
            code = ray.get(poll)
        except ray.exceptions.RayError as error:
            return f"Ray could not keep its actor: {' '.join(str(error).split())[:200]}"
        return "" if code is None else f"its agent ended on its Ray node with exit code {code}; see Ray's logs"

    def dismiss(self, name: str) -> None:
        """Kill the actor, whose agent ends with it."""
        ray = _ray()
        self._polls.pop(name, None)
        if (actor := self._actors.pop(name, None)) is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor)

    def close(self) -> None:
        """Give everything back to the cluster, and leave it."""
        ray = _ray()
        for name in list(self._actors):
            self.dismiss(name)
        if self._group is not None:
            from ray.util.placement_group import remove_placement_group

            with contextlib.suppress(ray.exceptions.RayError):
                remove_placement_group(self._group)
        with _own_signals():
            ray.shutdown()


def _hosted() -> type:
    """Return the actor's class, whole: the nodes get its code, and need not find this module before it has told them where."""

    class Hosted:
        """An actor that keeps an agent."""

        def __init__(self, line: str, stage: str, root: str) -> None:
            import sys

            import ray

            try:
                import launch.placer_ray
            except ImportError:
                sys.path.insert(0, root)
                import launch.placer_ray
            host = ray.util.get_node_ip_address()
            self._keeper = launch.placer_ray.Keeper(line, stage, host, root)

        def poll(self) -> int | None:
            return self._keeper.poll()

    return Hosted
