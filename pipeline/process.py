"""The live driver: one stage as an operating-system process, which `worker` starts.

It binds its socket, and makes one attempt after the other (`attempt`) until the run is done or told to stop. It lives as
long as its launcher: the kernel ends it when that dies, however it dies.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from . import addresses, control, keys, transport
from .attempt import Attempt, Seat, begin_at
from .config import load
from .data import batches as make_batches
from .errors import ConfigError, RunError, TimeboxError, WireError, plain
from .files import remove_socket_folder
from .lifeline import Lifeline
from .orders import Orders, RolledBack, Stopped
from .payloads import Payloads
from .plan import Plan
from .schema import Config
from .strangers import Strangers
from .worklog import Anchor, WorkLog


class Worker:
    """One stage, its sockets, its files and its line to the launcher."""

    def __init__(
        self,
        folder: Path,
        name: str,
        address: str,
        sockets: Path,
        begin: tuple[int, int | None],
        line: Lifeline,
        interface: str = "",
    ) -> None:
        """Connect to the launcher; `begin` is the epoch, and the checkpoint to go on from, if any.

        `interface`: where to bind, if not where the configuration says, which holds for the launcher's host.
        """
        self.folder = folder
        self.name = name
        self.config: Config = load(folder / "config.toml")
        self.plan = Plan.of(self.config)
        self.number = self.plan.number(name)
        self.anchor = Anchor()
        self.log = WorkLog(folder / "logs" / f"{name}.log", name, self.config.log.level, self.anchor)
        self.sockets = sockets
        self._interface = interface or self.config.transport.interface
        epoch, self._save = begin
        self.keys = keys.read(sockets / keys.FILE)
        self.strangers = Strangers(self.log.warning)
        self._context = transport.make_context()
        self._gate = transport.Gate(self._context, self.keys.pair)
        said = control.Line(self.keys.secret, name, self.strangers, is_launcher=False)
        self.control = transport.ControlLink(self._context, address, said, self.keys.pair)
        self.orders = Orders(self.control, line, epoch)
        self.links: transport.Links | None = None

    def run(self) -> None:
        """Live through the whole run; raises Stopped, TimeboxError."""
        seat = self.sit()
        while True:
            try:
                Attempt(seat, self.orders, begin_at(self.folder, self.plan, self._save)).run()
            except RolledBack as back:
                self.orders.epoch, self._save = back.epoch, back.save
                seat.links.disconnect_all()
                (self.folder / "checkpoint" / "final" / f"{self.name}.npz").unlink(missing_ok=True)
                self.log.info("goes back", epoch=back.epoch, checkpoint=back.save)
            else:
                return

    def sit(self) -> Seat:
        """Bind, and make what every attempt needs."""
        payloads = Payloads(self.config, self.plan)
        config = self.config.transport
        most = self.plan.most_waiting(), payloads.most_bytes()
        links = self.links = transport.Links(self._context, *most, self.keys.pair)
        wanted = config.port + self.number if config.port else 0
        address = addresses.endpoint(config.kind, str(self.sockets), self.name, wanted, self._interface)
        links.bind(address, "transport.port")
        return Seat(
            folder=self.folder,
            name=self.name,
            number=self.number,
            config=self.config,
            plan=self.plan,
            anchor=self.anchor,
            log=self.log,
            links=links,
            batches=make_batches(self.config),
            payloads=payloads,
            secret=self.keys.secret,
            strangers=self.strangers,
            refused=lambda: self._gate.refused,
            abandon=self.abandon,
        )

    def abandon(self) -> None:
        """End at once where the launcher is gone and the loop does not see it: it is stuck in an action."""
        if self.orders.line.is_abandoned:
            remove_socket_folder(self.sockets)
            os._exit(1)

    def close(self, linger_ms: int) -> None:
        """Close everything, and tell who has been sent away."""
        self.strangers.sum_up(self._gate.refused)
        if self.links is not None:
            self.links.close(linger_ms)
        self.control.close(linger_ms)
        self._gate.close()
        self._context.term()
        self.log.close()


def run(options: argparse.Namespace) -> int:
    """Run one stage as its command line says; returns the exit code: 0 done or stopped, 1 failed, 2 wrong request."""
    line = Lifeline(options.parent)
    try:
        if line.is_orphan:
            return 1
        begin = options.epoch, options.checkpoint
        place = options.control, options.sockets
        return live(Worker(options.folder, options.stage, *place, begin, line, options.interface))
    except RunError as error:  # before there was a line to the launcher
        sys.exit(str(error))
    finally:
        if line.is_orphan:
            remove_socket_folder(options.sockets)  # the launcher is gone and cannot do it


def live(worker: Worker) -> int:
    """Run a worker and turn how it ends into words to the launcher and an exit code."""
    linger_ms = transport.LINGER_MS
    try:
        worker.run()
        code = 0
    except Stopped:
        worker.log.info("stopped")
        worker.orders.say("stopped")
        linger_ms, code = 200, 0
    except TimeboxError as error:
        worker.log.error(str(error))
        wrong = isinstance(error, ConfigError)
        # What came wrong over the wire may come right the next time; numbers that flew off, or a full disk, will not.
        worker.orders.say("failed", error=str(error), wrong=wrong, again=isinstance(error, WireError))
        linger_ms, code = 200, 2 if wrong else 1
    except (
        Exception
    ) as error:  # the edge of the process: whatever it was is told to the launcher, and in full to the log
        named = ""
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.filename):  # a full disk, say
            named = plain(error)
        text = named or f"{type(error).__name__}: {error}"
        worker.log.error(text, traceback=not named)
        worker.orders.say("failed", error=text, wrong=False, again=not isinstance(error, OSError | MemoryError))
        linger_ms, code = 200, 1
    worker.close(linger_ms)
    return code
