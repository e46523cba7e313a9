"""The edge of the launcher: starts the workers, listens to them, and does what the supervisor decides."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline import addresses, checkpoints, control, transport
from pipeline.errors import WireError, plain
from pipeline.files import remove_socket_folder, save_json
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.strangers import Strangers
from pipeline.worklog import Anchor, WorkLog

from . import links
from .events import (
    Command,
    Complete,
    Dump,
    Event,
    Exited,
    Finish,
    Forget,
    Heard,
    Interrupted,
    Restart,
    Signal,
    Tell,
    Tick,
    Trouble,
)
from .interruptions import interruptions
from .placing import make_placer
from .process import started_ticks
from .supervise import Supervisor
from .sweeper import Sweeper
from .watch import Watch

TICK_MS = 50

Observer = Callable[[Supervisor], None]


def attempt(plan: Plan, epoch: int, begin: int | None, why: str = "") -> dict[str, Any]:
    """Return what launcher.json tells of one attempt: from which batch (of the data) it goes on, and why there is one."""
    return {"epoch": epoch, "from_batch": 0 if begin is None else checkpoints.batch_of(plan, begin), "why": why}


class LiveRun:
    """The processes of one run, or of what is left of it after a checkpoint."""

    def __init__(self, config: Config, folder: Path, epoch: int = 0, begin: int | None = None) -> None:
        """Begin at a checkpoint (None: at the first weights), under an epoch that the run has not had."""
        self.config = config
        self.folder = folder
        self.plan = Plan.of(config)
        self.placer = make_placer(config, folder)
        self.supervisor = Supervisor(
            self.plan, time.monotonic(), config.run.recover, epoch, begin, watch=Watch.of(config, self.plan)
        )
        self.supervisor.extra_s = self.placer.extra_s
        self.attempts = [attempt(self.plan, epoch, begin)]
        self.log = WorkLog(folder / "logs" / "launcher.log", "launcher", "info", Anchor())
        self._sockets: Path | None = None
        self._sweeper: Sweeper | None = None
        self._address = ""  # where the launcher is reached
        self._told_of: int | None = None  # the epoch of which launcher.json tells
        self._saved: list[Heard] = []  # checkpoints that were written, and have not come yet

    def run(self, observe: Observer, on_go: Callable[[], None]) -> Supervisor:
        """Start the workers, see them through, and return what became of them. Leaves no process and no socket."""
        with interruptions() as interrupted:
            try:
                self._write_state()  # whoever looks now sees a run that goes on
                self._sockets = links.private_folder(self.config.transport.kind)
                self._sweeper = Sweeper(self._sockets)
                server = self._listen()
                try:
                    for name in self.supervisor.members:
                        self._start(name, self.supervisor.epoch, self.supervisor.newest)
                    self._write_state()
                    self._loop(server, interrupted, observe, on_go)
                finally:
                    self.placer.end_all()
                    server.close()
            finally:
                if self._sockets is not None:
                    remove_socket_folder(self._sockets)
                if self._sweeper is not None:
                    self._sweeper.close()
                self.log.close()
        return self.supervisor

    def _listen(self) -> transport.ControlServer:
        """Make the run's secrets, and open the launcher's socket for the workers and for who starts them."""
        wanted, folder = self.config.transport, self._sockets
        assert folder is not None
        if links.is_open(self.config):
            self.log.warning(links.in_plain_text(self.config), insecure=True)
        keys = links.make_keys(self.config, folder)
        address = addresses.endpoint(wanted.kind, str(folder), "launcher", wanted.port, wanted.interface)
        strangers = Strangers(self.log.warning)
        lines = [control.Line(keys.secret, name, strangers, is_launcher=True) for name in self.supervisor.members]
        lines += self.placer.lines(keys.secret)
        server = transport.ControlServer(address, control.MOST_BYTES, lines, keys.pair, strangers)
        self._address = server.address
        try:
            self.placer.open(server, keys, folder)
        except BaseException:
            self.placer.end_all()
            server.close(0)
            raise
        return server

    def _start(self, name: str, epoch: int, begin: int | None) -> None:
        self.placer.start(name, epoch, begin)
        pid = self.placer.where(name)["pid"]
        if pid is not None:  # else it is still to come
            self.supervisor.members[name].pid = pid
            self.log.info(f"started {name}", pid=pid)

    def _write_state(self) -> None:
        members = self.supervisor.members
        places = {name: self.placer.where(name) for name in members}
        stages = [
            {"name": name, **places[name], "endpoint": member.endpoint}
            for name, member in members.items()
            if places[name]["pid"] is not None or places[name].get("is_elsewhere")  # else it has not been started yet
        ]
        save_state(self.folder, stages, self.attempts, self._address)

    def _loop(
        self,
        server: transport.ControlServer,
        interrupted: list[int],
        observe: Observer,
        on_go: Callable[[], None],
    ) -> None:
        answered = 0
        troubles: list[Event] = []
        while True:
            # Exits are looked for first and told last: what a worker said before it went is heard before.
            exits = list(self._exits())
            events: list[Event] = []
            heard = server.receive(TICK_MS)
            while heard is not None:
                events.extend(self._understand(*heard))
                heard = server.receive(0)
            self.placer.tick()
            for name, frame in self.placer.others():
                events.extend(self._understand(name, frame))
            events.extend(self._come())
            events.extend(exits)
            while answered < len(interrupted):
                answered += 1
                events.append(Interrupted())
            events += [*troubles, Tick()]
            troubles.clear()
            for event in events:
                if isinstance(event, Exited) and self.placer.poll(event.stage) is None:
                    continue  # it has been restarted since
                for command in self.supervisor.handle(event, time.monotonic()):
                    if isinstance(command, Finish):
                        return
                    troubles += self._obey(server, command)
            if self.supervisor.is_running and self._told_of != self.supervisor.epoch:
                troubles += self._gone(on_go)
            observe(self.supervisor)

    def _gone(self, on_go: Callable[[], None]) -> Iterator[Event]:
        """Write down what is known once all workers go, for the first time or again."""
        is_first, self._told_of = self._told_of is None, self.supervisor.epoch
        try:
            self._write_state()  # with the endpoints
            if is_first:
                on_go()
        except OSError as error:
            yield Trouble(plain(error))

    def _understand(self, name: str, frame: bytes) -> list[Event]:
        if name not in self.supervisor.members:
            try:
                self.placer.hear(name, frame)
            except OSError as error:
                return [Trouble(plain(error))]
            return []
        try:
            word, body = control.decode(frame, control.FROM_WORKER)
        except WireError as error:
            self.log.error(f"ignored: {error}", source=name)
            return []
        if word not in ("progress", "saved"):
            self.log.info(f"{name}: {word}", source=name)
        heard = Heard(name, word, body)
        if word == "saved" and control.missing(word, body) is None and not self.placer.has_come(name, body):
            self._saved.append(heard)
            return []
        return [heard]

    def _come(self) -> list[Event]:
        """Return the words of those checkpoints that are here, as they are said to be."""
        found: list[Event] = [each for each in self._saved if self.placer.has_come(each.stage, each.body)]
        now = self.supervisor.epoch
        self._saved = [each for each in self._saved if each not in found and each.body.get("epoch", now) == now]
        return found

    def _exits(self) -> Iterator[Event]:
        for name, member in self.supervisor.members.items():
            if not member.is_gone and (ended := self.placer.poll(name)) is not None:
                self.log.info(f"{name}: ended", source=name, code=ended.code)
                yield Exited(name, *ended)

    def _obey(self, server: transport.ControlServer, command: Command) -> Iterator[Event]:
        if isinstance(command, Tell):
            if command.word in ("stop", "quit"):
                self.placer.give_up(command.stage)
            elif command.word == "rollback":
                self.placer.can_go_back(command.stage, command.body["save"])
            server.send(command.stage, control.encode(command.word, command.body))
        elif isinstance(command, Signal):
            self.log.info(f"{signal.Signals(command.number).name} to {command.stage}")
            self.placer.signal(command.stage, command.number)
        elif isinstance(command, Dump):
            self.placer.explain(command.failure)
        elif isinstance(command, Forget):
            checkpoints.forget_later(self.folder, self.plan, command.save)
        elif isinstance(command, Restart | Complete):
            try:
                self._restart(command) if isinstance(command, Restart) else self._complete(command)
            except OSError as error:
                yield Trouble(plain(error))

    def _complete(self, command: Complete) -> None:
        """Make a checkpoint complete, and remove those that are no longer kept."""
        checkpoints.write_manifest(self.folder, self.plan, command.save, command.epoch, command.stages)
        checkpoints.prune(self.folder, self.plan, self.config.checkpoint.keep)
        self.placer.completed(command.save)
        self.log.info("a checkpoint is complete", batch=checkpoints.batch_of(self.plan, command.save))

    def _restart(self, command: Restart) -> None:
        """Start a worker anew."""
        failure = self.supervisor.recoveries[-1].failure
        where = "the beginning" if command.save is None else f"batch {checkpoints.batch_of(self.plan, command.save)}"
        self.log.error(
            f"{command.stage}: {failure.error}; it is restarted, and all go on from {where}", epoch=command.epoch
        )
        self._start(command.stage, command.epoch, command.save)
        self.attempts.append(attempt(self.plan, command.epoch, command.save, f"{command.stage}: {failure.error}"))
        self._write_state()


def save_state(
    folder: Path, stages: list[dict[str, Any]], attempts: list[dict[str, Any]] | None = None, endpoint: str = ""
) -> None:
    """Write launcher.json: which processes there are and where; which attempts there were, of which a reference has none."""
    state = {"pid": os.getpid(), "started_ticks": started_ticks(os.getpid()), "reference": attempts is None}
    document = {**state, "endpoint": endpoint, "stages": stages, "attempts": attempts or []}
    save_json(folder / "launcher.json", document, sync=True)
