"""Stages on other hosts: one agent each, that starts the stage's process there and sends back what it writes.

What the launcher does with them; who they are and what they say is in `launch.hands`. That a host is lost is told of its
stage like the end of its process.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline import checkpoints, control, keys
from pipeline.aside import put_aside
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.strangers import Strangers
from pipeline.transport import ControlServer
from pipeline.worklog import Anchor, WorkLog

from . import agent_words as words
from . import mirror, stacks
from .arrived import Arrivals
from .events import Failure
from .hands import TICK_MS, Hands, Recruiter
from .joining import Meeting
from .placers import Ended

#: Seconds in which what an old worker wrote last should have come before a new one is started, and all have gone at the end.
SETTLE_S, FAREWELL_S = 2.0, 3.0


class RemotePlacer:
    """One agent for each stage, wherever it is."""

    def __init__(self, config: Config, folder: Path, recruiter: Recruiter | None = None) -> None:
        self.extra_s = config.placer.wait_s
        self._config, self._folder, self._plan = config, folder, Plan.of(config)
        self._log = WorkLog(folder / "logs" / "launcher.log", "launcher", "info", Anchor())
        names = [self._plan.name(k) for k in range(1, self._plan.head + 1)]
        self._hands = Hands(config, folder, names, recruiter or _recruiter(config), self._log)
        self._arrivals = {name: Arrivals() for name in names}
        self._is_asked = False  # for stacks, by SIGUSR1
        self._before: Any = None

    def lines(self, secret: bytes) -> list[control.Line]:
        """Return a line for each stage's agent."""
        strangers = Strangers(self._log.warning)
        return [control.Line(secret, words.agent_of(name), strangers, is_launcher=True) for name in self._hands.by_name]

    def open(self, server: ControlServer, secrets: keys.Keys, sockets: Path) -> None:  # noqa: ARG002
        """Tell the recruiter which run to join."""
        self._hands.open(server)
        with contextlib.suppress(ValueError):  # not the main thread
            self._before = signal.signal(signal.SIGUSR1, self._note)
        self._hands.recruiter.open(Meeting(server.address, self._plan.boxes, secrets), self._folder)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._is_asked = True

    def start(self, name: str, epoch: int, save: int | None) -> None:
        """Ask a stage's agent, or the next one that comes, to start a worker."""
        hand = self._hands.by_name[name]
        if hand.order is not None and hand.instance:
            self.signal(name, signal.SIGKILL)
            self._hands.wait(lambda: hand.ended is not None, SETTLE_S)  # with all that it had written
        if hand.receiver is not None:
            hand.receiver.close()
        begin = None
        if save is not None:
            begin = next(each for each in checkpoints.complete(self._folder, self._plan) if each.save == save)
        if epoch:
            put_aside(self._folder, name, begin, epoch, is_head=name == "head")
        given = {} if begin is None else begin.files(name)
        if begin is not None:
            path = begin.folder / f"{name}.npz"
            given[path.relative_to(self._folder).as_posix()] = path.stat().st_size
        hand.receiver = mirror.Receiver(self._folder, name, given)
        files = [("config.toml", (self._folder / "config.toml").stat().st_size), *given.items()]
        hand.wanted += 1
        hand.asked, hand.ended, hand.pid = time.monotonic(), None, None
        hand.order = {
            "run": self._folder.name,
            "epoch": epoch,
            "save": save,
            "files": files,
            "folder": "" if begin is None else begin.folder.name,
            "manifest": "" if begin is None else _own(begin.manifest, name),
        }
        if hand.instance:
            self._hands.say(name, "start", start=hand.wanted, **hand.order)
        else:
            self._hands.recruiter.recruit(name)

    def poll(self, name: str) -> Ended | None:
        """Return how the worker has ended, once all that it wrote has come, or that its host is lost."""
        return self._hands.by_name[name].ended

    def signal(self, name: str, number: int) -> None:
        """Let the agent pass a signal on. A stage that has no agent ends without one."""
        hand = self._hands.by_name[name]
        if hand.instance:
            self._hands.say(name, "signal", start=hand.wanted, number=number)
        elif hand.ended is None:
            hand.ended = Ended(-number)

    def give_up(self, name: str) -> None:
        """End the stage where nobody has come for it."""
        if not self._hands.by_name[name].instance:
            self.signal(name, signal.SIGTERM)

    def where(self, name: str) -> dict[str, Any]:
        """Return the worker's process on its host, and the host."""
        hand = self._hands.by_name[name]
        return {"pid": hand.pid, "host": hand.host or None, "is_elsewhere": True}

    def has_come(self, name: str, saved: Mapping[str, Any]) -> bool:
        """Whether the stage's file is here with the bytes that it says, and its journal as far as the checkpoint has it."""
        if not 0 <= saved["save"] < self._plan.saves:
            return False
        path = checkpoints.folder_of(self._folder, self._plan, saved["save"]) / f"{name}.npz"
        parts = {path: saved}
        for each, part in saved["appended"].items():
            if not mirror.is_allowed(str(each), name) or not isinstance(part, dict):
                return False
            parts[self._folder / each] = part
        if not self._arrivals[name].have_come(parts):
            return False
        for each in parts:
            mirror.sync(each)
        return True

    def completed(self, save: int) -> None:
        """Let the agents have what of the manifest their workers need to go back."""
        for name in self._hands.by_name:
            self._tell_kept(name, save)

    def _tell_kept(self, name: str, save: int) -> None:
        kept = list(checkpoints.complete(self._folder, self._plan))
        for found in kept:
            if found.save == save and self._hands.by_name[name].instance:
                body = {"save": save, "folder": found.folder.name, "manifest": _own(found.manifest, name)}
                self._hands.say(name, "kept", oldest=kept[-1].folder.name, **body)

    def can_go_back(self, name: str, save: int | None) -> bool:
        """Whether the agent has the checkpoint's manifest; it is told of it once more where it has not."""
        hand = self._hands.by_name[name]
        if save is not None and hand.save < save:
            self._tell_kept(name, save)
        return self._hands.wait(lambda: save is None or hand.save >= save or not hand.instance, SETTLE_S)

    def hear(self, name: str, frame: bytes) -> None:
        """Take in a word of an agent; raises OSError where the run's folder cannot be written."""
        self._hands.hear(name, frame)

    def others(self) -> list[tuple[str, bytes]]:
        """Return the words of workers that came while it waited."""
        return self._hands.others()

    def tick(self) -> None:
        """Tell the agents how things stand, see which are lost, and ask for stacks where somebody wants them."""
        self._hands.tick()
        if self._is_asked:
            self._is_asked = False
            for name, pid in self._hands.alive().items():
                if stacks.is_ready(self._folder, name, pid):
                    self.signal(name, signal.SIGUSR1)

    def explain(self, failure: Failure) -> None:
        """Ask all workers that live for their stacks, which come back as files."""
        stacks.explain(failure, self._folder, self._hands.alive(), self._reach())

    def _reach(self) -> stacks.Reach:
        def ask(name: str, pid: int) -> None:  # noqa: ARG001
            self.signal(name, signal.SIGUSR1)

        def state(name: str, pid: int) -> str:  # noqa: ARG001
            return self._hands.by_name[name].state if name in self._hands.by_name else "unknown"

        def pause() -> None:
            self._hands.wait(lambda: False, TICK_MS / 1000)

        return stacks.Reach(state, ask, pause)

    def end_all(self) -> None:
        """Kill the workers that are left, and let all agents go."""
        self._hands.save_clocks(is_last=True)
        for name, hand in self._hands.by_name.items():
            if hand.instance and hand.ended is None:
                self.signal(name, signal.SIGKILL)
        with contextlib.suppress(OSError, AttributeError):  # where the socket never was
            self._hands.wait(
                lambda: all(hand.ended or not hand.instance for hand in self._hands.by_name.values()), FAREWELL_S
            )
            for name, hand in self._hands.by_name.items():
                if hand.instance:
                    self._hands.say(name, "quit")
            self._hands.wait(lambda: not any(hand.instance for hand in self._hands.by_name.values()), FAREWELL_S)
        for hand in self._hands.by_name.values():
            if hand.receiver is not None:
                hand.receiver.close()
        self._hands.recruiter.close()
        if self._before is not None:
            signal.signal(signal.SIGUSR1, self._before)
        self._log.close()


def _own(manifest: dict[str, Any], name: str) -> str:
    """Return what of a manifest one stage needs."""
    return json.dumps({**manifest, "stages": {name: manifest["stages"][name]}})


def _recruiter(config: Config) -> Recruiter:
    if config.placer.kind == "ray":
        from .placer_ray import RayRecruiter

        return RayRecruiter(config)
    if config.placer.kind == "own":
        from .placer_own import OwnRecruiter

        return OwnRecruiter(config)
    from .placer_env import EnvRecruiter

    return EnvRecruiter()
