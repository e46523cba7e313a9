"""The edge of the launcher: starts the workers, listens to them, and does what the supervisor decides."""

from __future__ import annotations

import contextlib
import os
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pipeline
from pipeline import addresses, checkpoints, control, transport
from pipeline.errors import WireError, plain
from pipeline.files import remove_socket_folder, save_json
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.strangers import Strangers
from pipeline.worklog import Anchor, WorkLog

from . import links, stacks
from .environment import BLAS_THREADS
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
from .process import started_ticks
from .supervise import Supervisor
from .watch import Watch

TICK_MS = 50

Observer = Callable[[Supervisor], None]


def worker_environment() -> dict[str, str]:
    """Return the environment of a worker: one BLAS thread, this very package, and nothing of the user's folder to import.

    A folder in which somebody runs us may well hold a `pipeline` of its own.
    """
    environment = {**os.environ, **BLAS_THREADS, "PYTHONSAFEPATH": "1"}
    root = str(Path(pipeline.__file__).parents[1])
    if root not in (*site.getsitepackages(), site.getusersitepackages()):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return environment


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
        self.supervisor = Supervisor(
            self.plan, time.monotonic(), config.run.recover, epoch, begin, watch=Watch.of(config, self.plan)
        )
        self.attempts = [attempt(self.plan, epoch, begin)]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.log = WorkLog(folder / "logs" / "launcher.log", "launcher", "info", Anchor())
        self._sockets: Path | None = None
        self._address = ""  # where the launcher is reached
        self._went = False

    def run(self, observe: Observer, on_go: Callable[[], None]) -> Supervisor:
        """Start the workers, see them through, and return what became of them. Leaves no process and no socket."""
        with interruptions() as interrupted:
            try:
                self._write_state()  # whoever looks now sees a run that goes on
                self._sockets = links.private_folder(self.config.transport.kind)
                server = self._listen()
                try:
                    self._address = server.address
                    for name in self.supervisor.members:
                        self._start(name, server.address, self.supervisor.epoch, self.supervisor.newest)
                    self._write_state()
                    self._loop(server, interrupted, observe, on_go)
                finally:
                    server.close()
            finally:
                self._end_all()
        return self.supervisor

    def _listen(self) -> transport.ControlServer:
        """Make the run's secrets and open the launcher's socket."""
        wanted, folder = self.config.transport, self._sockets
        assert folder is not None
        if links.is_open(self.config):
            self.log.warning(
                f"all is sent in plain text over {wanted.interface}, where anybody may read it", insecure=True
            )
        keys = links.make_keys(self.config, folder)
        address = addresses.endpoint(wanted.kind, str(folder), "launcher", wanted.port, wanted.interface)
        strangers = Strangers(self.log.warning)
        lines = [control.Line(keys.secret, name, strangers, is_launcher=True) for name in self.supervisor.members]
        return transport.ControlServer(address, control.MOST_BYTES, lines, keys.pair, strangers)

    def _start(self, name: str, address: str, epoch: int, begin: int | None) -> None:
        arguments = [str(self.folder), name, address, "--parent", str(os.getpid()), "--epoch", str(epoch)]
        if begin is not None:
            arguments += ["--checkpoint", str(begin)]
        if self._sockets:
            arguments += ["--sockets", str(self._sockets)]
        with (self.folder / "logs" / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "pipeline.worker", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=worker_environment(),
                process_group=0,  # of this session: a worker that is stopped is woken when we die (pipeline.lifeline)
            )
        self.supervisor.members[name].pid = self.processes[name].pid
        self.log.info(f"started {name}", pid=self.processes[name].pid)

    def _write_state(self) -> None:
        members = self.supervisor.members
        stages = [
            {"name": name, "pid": process.pid, "endpoint": members[name].endpoint}
            for name, process in self.processes.items()
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
            events.extend(exits)
            while answered < len(interrupted):
                answered += 1
                events.append(Interrupted())
            events += [*troubles, Tick()]
            troubles.clear()
            for event in events:
                if isinstance(event, Exited) and self.processes[event.stage].poll() is None:
                    continue  # it has been restarted since
                for command in self.supervisor.handle(event, time.monotonic()):
                    if isinstance(command, Finish):
                        return
                    troubles += self._obey(server, command)
            if self.supervisor.is_running and not self._went:
                self._went = True
                troubles += self._gone(on_go)
            observe(self.supervisor)

    def _gone(self, on_go: Callable[[], None]) -> Iterator[Event]:
        """Write down what is known once all workers go."""
        try:
            self._write_state()  # with the endpoints
            on_go()
        except OSError as error:
            yield Trouble(plain(error))

    def _understand(self, name: str, frame: bytes) -> list[Event]:
        try:
            word, body = control.decode(frame, control.FROM_WORKER)
        except WireError as error:
            self.log.error(f"ignored: {error}", source=name)
            return []
        if word not in ("progress", "saved"):
            self.log.info(f"{name}: {word}", source=name)
        return [Heard(name, word, body)]

    def _exits(self) -> Iterator[Event]:
        for name, process in self.processes.items():
            if process.poll() is not None and not self.supervisor.members[name].is_gone:
                self.log.info(f"{name}: ended", source=name, code=process.returncode)
                yield Exited(name, process.returncode)

    def _obey(self, server: transport.ControlServer, command: Command) -> Iterator[Event]:
        if isinstance(command, Tell):
            server.send(command.stage, control.encode(command.word, command.body))
        elif isinstance(command, Signal):
            self.log.info(f"{signal.Signals(command.number).name} to {command.stage}")
            signal_group(self.processes[command.stage], command.number)
        elif isinstance(command, Dump):
            pids = {name: process.pid for name, process in self.processes.items() if process.poll() is None}
            stacks.explain(command.failure, self.folder, pids)
        elif isinstance(command, Forget):
            checkpoints.forget_later(self.folder, self.plan, command.save)
        elif isinstance(command, Restart | Complete):
            try:
                self._restart(server, command) if isinstance(command, Restart) else self._complete(command)
            except OSError as error:
                yield Trouble(plain(error))

    def _complete(self, command: Complete) -> None:
        """Make a checkpoint complete, and remove those that are no longer kept."""
        checkpoints.write_manifest(self.folder, self.plan, command.save, command.epoch, command.stages)
        checkpoints.prune(self.folder, self.plan, self.config.checkpoint.keep)
        self.log.info("a checkpoint is complete", batch=checkpoints.batch_of(self.plan, command.save))

    def _restart(self, server: transport.ControlServer, command: Restart) -> None:
        """Start a worker anew; what is left of the old one goes first."""
        failure = self.supervisor.recoveries[-1].failure
        old = self.processes[command.stage]
        signal_group(old, signal.SIGKILL)
        old.wait()
        where = "the beginning" if command.save is None else f"batch {checkpoints.batch_of(self.plan, command.save)}"
        self.log.error(
            f"{command.stage}: {failure.error}; it is restarted, and all go on from {where}", epoch=command.epoch
        )
        self._start(command.stage, server.address, command.epoch, command.save)
        self.attempts.append(attempt(self.plan, command.epoch, command.save, f"{command.stage}: {failure.error}"))
        self._write_state()

    def _end_all(self) -> None:
        """Kill what is left, whatever brought us here, and remove the sockets."""
        for process in self.processes.values():
            signal_group(process, signal.SIGKILL)
            process.wait()
        if self._sockets is not None:
            remove_socket_folder(self._sockets)
        self.log.close()


def save_state(
    folder: Path, stages: list[dict[str, Any]], attempts: list[dict[str, Any]] | None = None, endpoint: str = ""
) -> None:
    """Write launcher.json: which processes there are and where; which attempts there were, of which a reference has none."""
    state = {"pid": os.getpid(), "started_ticks": started_ticks(os.getpid()), "reference": attempts is None}
    document = {**state, "endpoint": endpoint, "stages": stages, "attempts": attempts or []}
    save_json(folder / "launcher.json", document, sync=True)


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a worker and whatever it started; a stopped one is woken so that it can go."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
        if number == signal.SIGTERM:
            os.killpg(process.pid, signal.SIGCONT)
