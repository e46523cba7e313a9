"""The edge of the launcher: starts the workers, listens to them, and does what the supervisor decides."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pipeline
from pipeline import addresses, control, transport
from pipeline.errors import WireError
from pipeline.files import remove_socket_folder, save_json
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.strangers import Strangers
from pipeline.worklog import Anchor, WorkLog

from . import links
from .environment import BLAS_THREADS
from .supervise import (
    Command,
    Event,
    Exited,
    Failure,
    Finish,
    Heard,
    Interrupted,
    Member,
    Signal,
    Supervisor,
    Tell,
    Tick,
)

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


@contextlib.contextmanager
def interruptions() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list while the block runs."""
    found: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        found.append(number)

    try:
        numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        # Under nohup a closed terminal is to be survived.
        numbers -= {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
        before = {number: signal.signal(number, note) for number in numbers}
    except ValueError:  # not the main thread: whoever owns it decides
        before = {}
    try:
        yield found
    finally:
        for number, action in before.items():
            signal.signal(number, action)


class LiveRun:
    """The processes of one run."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.plan = Plan.of(config)
        self.supervisor = Supervisor(self.plan, time.monotonic())
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
                        self._start(name, server.address)
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

    def _start(self, name: str, address: str) -> None:
        arguments = [str(self.folder), name, address, "--parent", str(os.getpid())]
        if self._sockets:
            arguments += ["--sockets", str(self._sockets)]
        with (self.folder / "logs" / f"{name}.out").open("wb") as out:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "pipeline.worker", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=worker_environment(),
                start_new_session=True,
            )
        self.supervisor.members[name].pid = self.processes[name].pid
        self.log.info(f"started {name}", pid=self.processes[name].pid)

    def _write_state(self) -> None:
        members = self.supervisor.members
        stages = [
            {"name": name, "pid": process.pid, "endpoint": members[name].endpoint}
            for name, process in self.processes.items()
        ]
        document = {"pid": os.getpid(), "reference": False, "endpoint": self._address, "stages": stages}
        save_json(self.folder / "launcher.json", document)

    def _loop(
        self,
        server: transport.ControlServer,
        interrupted: list[int],
        observe: Observer,
        on_go: Callable[[], None],
    ) -> None:
        answered = 0
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
            events.append(Tick())
            for event in events:
                for command in self.supervisor.handle(event, time.monotonic()):
                    if isinstance(command, Finish):
                        return
                    self._obey(server, command)
            if self.supervisor.is_running and not self._went:
                self._went = True
                self._write_state()  # with the endpoints
                on_go()
            observe(self.supervisor)

    def _understand(self, name: str, frame: bytes) -> list[Event]:
        try:
            word, body = control.decode(frame, control.FROM_WORKER)
        except WireError as error:
            self.log.error(f"ignored: {error}", source=name)
            return []
        if word != "progress":
            self.log.info(f"{name}: {word}", source=name)
        return [Heard(name, word, body)]

    def _exits(self) -> Iterator[Event]:
        for name, process in self.processes.items():
            if process.poll() is not None and not self.supervisor.members[name].is_gone:
                self.log.info(f"{name}: ended", source=name, code=process.returncode)
                yield Exited(name, process.returncode)

    def _obey(self, server: transport.ControlServer, command: Command) -> None:
        if isinstance(command, Tell):
            server.send(command.stage, control.encode(command.word, command.body))
        elif isinstance(command, Signal):
            self.log.info(f"{signal.Signals(command.number).name} to {command.stage}")
            _signal_group(self.processes[command.stage], command.number)

    def _end_all(self) -> None:
        """Kill what is left, whatever brought us here, and remove the sockets."""
        for process in self.processes.values():
            _signal_group(process, signal.SIGKILL)
            process.wait()
        if self._sockets is not None:
            remove_socket_folder(self._sockets)
        self.log.close()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a worker and whatever it started; a stopped one is woken so that it can go."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
        if number == signal.SIGTERM:
            os.killpg(process.pid, signal.SIGCONT)


class ReferenceRun:
    """The same run in one process of its own: one BLAS thread must be set before numpy is imported."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.folder = folder
        self.supervisor = Supervisor(Plan.of(config), time.monotonic())
        self.supervisor.members = {"reference": Member()}
        self.done: dict[str, Any] = {}

    def run(self, observe: Observer, on_go: Callable[[], None]) -> Supervisor:
        """Run it to its end and return what became of it."""
        state = self.supervisor
        command = [sys.executable, "-m", "pipeline.reference", str(self.folder), str(os.getpid())]
        with interruptions() as interrupted, (self.folder / "logs" / "reference.out").open("wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=out, env=worker_environment(),
                start_new_session=True,
            )  # fmt: skip
            stages = [{"name": "reference", "pid": process.pid}]
            save_json(self.folder / "launcher.json", {"pid": os.getpid(), "reference": True, "stages": stages})
            state.is_running = True
            on_go()
            try:
                self._listen(process, interrupted, observe)
            finally:
                _signal_group(process, signal.SIGKILL)
                process.wait()
        if state.status == "done" and not self.done:
            state.status = "failed"
            state.failure = state.failure or Failure("reference", state.members["reference"].batch, "it died")
        return state

    def _listen(self, process: subprocess.Popen[bytes], interrupted: list[int], observe: Observer) -> None:
        state, member = self.supervisor, self.supervisor.members["reference"]
        assert process.stdout is not None
        member.pid = process.pid
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if interrupted:
                    state.status = "interrupted"
                    _signal_group(process, signal.SIGTERM if len(interrupted) == 1 else signal.SIGKILL)
                if selector.select(TICK_MS / 1000):
                    line = process.stdout.readline()
                    if not line:
                        return
                    document = json.loads(line)
                    if document["word"] == "done":
                        self.done = document
                    elif document["word"] == "failed":
                        wrong = bool(document["wrong"])
                        state.status, state.failure = (
                            "failed",
                            Failure("reference", member.batch, document["error"], wrong),
                        )
                    member.batch = document.get("batch", member.batch)
                    state.cost = document.get("cost", state.cost)
                observe(state)
