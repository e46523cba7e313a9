"""Agents on the nodes of a Ray cluster: an actor for each stage, in a placement group, whose only work is to keep an agent.

Ray places, reserves and notices dead nodes; whether a stage is started anew is for the launcher's supervisor to say, so actors
are never restarted by Ray itself. Activations and gradients do not pass through Ray. The run's secrets do, once, as an
argument to each actor: who administers the cluster can read them.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pipeline
from pipeline import addresses
from pipeline.actions import stage_names
from pipeline.errors import ConfigError
from pipeline.schema import Config

from . import joining
from .interruptions import KINDS

#: Seconds that a cluster's answers may take.
ANSWER_S = 30.0
#: And whether there is one at all.
KNOCK_S = 5.0
#: How HTTP/2 begins, and its empty settings; the answer is a frame of the same kind, 4.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])

#: Whether this process has come to its cluster through us.
_is_ours = False


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError("placer.kind: ray is not installed here; pip install 'timebox[ray]'") from None
    return ray


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep what this process does at a signal, and say nothing for Ray: it puts functions of its own there, and warns."""
    before = {number: signal.getsignal(number) for number in KINDS}
    log = logging.getLogger("ray")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        with contextlib.suppress(ValueError):  # not the main thread
            for number, action in before.items():
                signal.signal(number, action)


def check(config: Config) -> None:
    """Connect to the cluster and see whether it has room; raises ConfigError, and leaves nothing then.

    One that is started for the run has what it needs, and is started with it.
    """
    ray = _ray()
    if _is_its_own(config):
        return
    is_new = not ray.is_initialized()
    if is_new:
        connect(ray, config)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        _check_room(config, [float(node["Resources"].get("CPU", 0.0)) for node in nodes])
        own = ray.util.get_node_ip_address()
        others = {str(node["NodeManagerAddress"]) for node in nodes} - {own}
        afar = sorted(each for each in others if not addresses.is_loopback(each))
        if afar and addresses.is_loopback(config.transport.interface):
            raise ConfigError(
                f"transport.interface: nobody but this machine reaches {config.transport.interface}, and the cluster has "
                f"{', '.join(afar[:3])}; add --transport.interface auto"
            )
    except ConfigError:
        if is_new:
            _leave(ray)
        raise


def _check_room(config: Config, nodes: list[float]) -> None:
    """Raise ConfigError where nodes of so many processors cannot hold all stages, even if nobody else is there."""
    cpus, stages = config.placer.cpus, config.model.boxes + 1
    if cpus and sum(int(each / cpus + 1e-9) for each in nodes) < stages:
        there = f"{sum(nodes):g}" + (f" on {len(nodes)} nodes, at most {max(nodes):g} on one" if len(nodes) > 1 else "")
        raise ConfigError(
            f"placer.cpus: {stages} stages of {cpus:g} need {stages * cpus:g} processors, the cluster has {there}; "
            "lower placer.cpus or model.boxes"
        )


def _is_its_own(config: Config) -> bool:
    """Whether the run has a cluster of its own, on this machine."""
    return config.placer.address in ("", "local")


def connect(ray: Any, config: Config) -> None:
    """Connect to the cluster at placer.address, or start one; raises ConfigError."""
    global _is_ours
    wanted = config.placer.address
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if _is_its_own(config):
        # Whatever RAY_ADDRESS says, or is there already.
        cpus = math.ceil((config.model.boxes + 1) * config.placer.cpus)
        options |= {"address": "local", "num_cpus": max(1, cpus), "include_dashboard": False}
    else:
        options["address"] = wanted
        if told := os.environ.get("RAY_ADDRESS", "") if wanted == "auto" else wanted:
            _knock(told)  # Ray itself would try for minutes
    with _undisturbed():
        try:
            ray.init(**options)
        except (ConnectionError, OSError, ValueError, RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            if _is_its_own(config):
                raise ConfigError(f"placer.kind: Ray could not start a cluster here: {reason}") from None
            if wanted == "auto" and isinstance(error, ConnectionError):
                reason = "`ray start --head` starts one; placer.address takes HOST:PORT"
            raise ConfigError(f"placer.address: no Ray cluster answers at {wanted}: {reason}") from None
    _is_ours = True


def _leave(ray: Any) -> None:
    """Leave the cluster, unless whoever called us had come to it before."""
    global _is_ours
    if _is_ours:
        _is_ours = False
        with _undisturbed():
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise ConfigError where nobody at an address speaks what Ray's servers do: HTTP/2."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"placer.address: {address!r} is no address; HOST:PORT, or auto")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), KNOCK_S) as line:
            if not os.environ.get("RAY_USE_TLS"):
                line.sendall(_PREFACE)
                head = line.recv(9)
                if head[3:4] != b"\x04":
                    raise OSError("what listens there is no Ray")
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"placer.address: no Ray cluster answers at {address}: {error}") from None


class RayRecruiter:
    """Makes an actor for each stage, and another one where one is lost."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._line = ""
        self._fault = ""  # why no stage can be placed
        self._group: Any = None
        self._until = math.inf  # when the cluster should have given what is reserved
        self._actors: dict[str, Any] = {}
        self._polls: dict[str, Any] = {}
        self._names = stage_names(config.model.boxes)

    def open(self, meeting: joining.Meeting, folder: Path) -> None:  # noqa: ARG002
        """Reserve what all stages need; raises ConfigError where there is no cluster."""
        ray = _ray()
        from ray.util.placement_group import placement_group

        if not ray.is_initialized():
            connect(ray, self._config)
        self._line = joining.line(meeting)
        wanted = self._config.placer
        bundle = {"CPU": wanted.cpus or 0.001}
        self._group = placement_group([bundle] * len(self._names), strategy=wanted.strategy.upper())
        self._until = time.monotonic() + min(wanted.wait_s, ANSWER_S)

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
        """Return how an agent has ended that did not even come, or that the cluster has no room for it."""
        ray = _ray()
        if lack := self._lack():
            return lack
        if (actor := self._actors.get(name)) is None:
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

    def _lack(self) -> str:
        """Return what the cluster has not given in time, if it is so."""
        if time.monotonic() > self._until:
            self._until = math.inf  # what was given once is given anew where a node dies
            if not self._group.wait(1.0):
                wanted = self._config.placer
                self._fault = (
                    f"placer.cpus: the cluster did not give {len(self._names)} times {wanted.cpus:g} processors within "
                    f"{min(wanted.wait_s, ANSWER_S):g} s: others use them"
                )
        return self._fault

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
        _leave(ray)


def _hosted() -> type:
    """Return the actor's class, whole: the nodes get its code, and need not find this module before it has told them where."""

    class Hosted:
        """An actor that keeps an agent."""

        def __init__(self, line: str, stage: str, root: str) -> None:
            import ray

            try:
                import launch.keeper
            except ImportError:
                sys.path.insert(0, root)
                import launch.keeper
            host = ray.util.get_node_ip_address()
            self._keeper = launch.keeper.Keeper(line, stage, host, root)

        def poll(self) -> int | None:
            return self._keeper.poll()

    return Hosted
