"""Where a stage's worker lives on an agent's host: its folder, laid out like a run's, what is fetched into it, its process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

from pipeline import addresses, mnist
from pipeline.checkpoints import MANIFEST
from pipeline.config import load
from pipeline.errors import ConfigError, TimeboxError, plain
from pipeline.files import save_text
from pipeline.schema import TASKS

from . import mirror
from .environment import worker_environment
from .process import process_state, signal_group

#: Seconds after which what was asked for and did not come is asked for again.
ASK_AGAIN_S = 2.0

Say = Callable[..., None]


class Place:
    """One stage's worker on this host, or what is being made ready for it."""

    def __init__(self, root: Path, stage: str, address: str, sockets: Path, bind: str, *, is_sealed: bool) -> None:
        self.start = 0  # the number of the start under way
        self.save = -1  # the newest checkpoint whose manifest is here
        self.code: int | None = None
        self.has_just_ended = False
        self._root, self._stage, self._address, self._sockets, self._bind = root, stage, address, sockets, bind
        self._is_sealed = is_sealed
        self._folder = root
        self._order: dict[str, Any] = {}
        self._wanted: list[tuple[str, int]] = []  # files that are to come, and their sizes
        self._offset, self._asked = 0, 0.0
        self._check: Thread | None = None
        self._fault: TimeboxError | OSError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sender: mirror.Sender | None = None
        self._is_refused = False

    @property
    def pid(self) -> int:
        """The worker's process, or 0 where there is none yet."""
        return 0 if self._process is None else self._process.pid

    @property
    def is_settled(self) -> bool:
        """Whether the worker has ended, and all that it wrote has come to the launcher."""
        return self.code is not None and (self._sender is None or self._sender.is_settled)

    def state(self) -> str:
        """Return what the kernel says of the worker."""
        return process_state(self.pid or None, self._folder.name, self._stage)

    def begin(self, order: dict[str, Any]) -> None:
        """Make a new folder for a new worker, whatever was before; raises ConfigError for an order that is none."""
        self.end(0.0)
        self.close()
        shutil.rmtree(self._root / str(self.start), ignore_errors=True)
        self.start, self.save, self.code, self.has_just_ended = order["start"], -1, None, False
        self._order, self._process, self._check, self._fault, self._is_refused = order, None, None, None, False
        run = order["run"]
        if Path(run).name != run or run in ("", ".", ".."):
            raise ConfigError(f"the launcher calls its run {run!r}")
        self._folder = self._root / str(self.start) / run
        (self._folder / "logs").mkdir(parents=True)
        self._wanted = []
        for path, size in order["files"]:
            if path != "config.toml" and not mirror.is_allowed(path, self._stage):
                raise ConfigError(f"the launcher gives a file {path!r}")
            self._wanted.append((path, int(size)))
            (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / path).write_bytes(b"")
        self._offset = 0
        self._asked = 0.0
        self._skip_empty()
        if order["manifest"]:
            self.keep({"save": order["save"], "folder": order["folder"], "manifest": order["manifest"], "oldest": ""})

    def fetched(self, path: str, offset: int, data: bytes) -> None:
        """Take a part of a file that was asked for."""
        if not self._wanted or (path, offset) != (self._wanted[0][0], self._offset):
            return
        with (self._folder / path).open("ab") as stream:
            stream.write(data)
        self._offset += len(data)
        self._asked = 0.0
        self._skip_empty()

    def _skip_empty(self) -> None:
        while self._wanted and self._offset >= self._wanted[0][1]:
            self._wanted.pop(0)
            self._offset = 0

    def advance(self, say: Say) -> None:
        """Do what comes next on the way to a worker that runs, and see whether it has ended."""
        self.has_just_ended = False
        if not self.start or self._is_refused:
            return
        if self._process is not None:
            if self.code is None and (code := self._process.poll()) is not None:
                self.code, self.has_just_ended = code, True
            return
        now = time.monotonic()
        if self._wanted:
            if now - self._asked > ASK_AGAIN_S:
                self._asked = now
                say("wants", start=self.start, path=self._wanted[0][0], offset=self._offset)
        elif self.code is not None:
            return  # ended before it was there
        elif self._check is None:
            self._check = Thread(target=self._see_to_data, name="data", daemon=True)  # it may have to be fetched
            self._check.start()
        elif not self._check.is_alive():
            if self._fault is not None:
                self._is_refused = True
                say(
                    "failed", start=self.start, why=plain(self._fault)[:900], wrong=isinstance(self._fault, ConfigError)
                )
            else:
                self._start()

    def _see_to_data(self) -> None:
        try:
            config = load(self._folder / "config.toml")
            wanted = config.transport
            if not self._is_sealed and not wanted.insecure and not addresses.is_loopback(self._bind):
                raise ConfigError(
                    f"everything would go in plain text over {self._bind}; --transport.curve on, or an interface off the "
                    "loopback, makes keys for the run"
                )
            if config.data.name not in TASKS:
                mnist.locate(config.data)
        except (TimeboxError, OSError) as error:
            self._fault = error

    def _start(self) -> None:
        self._sender = mirror.Sender(self._folder, self._stage)
        for path, _ in self._order["files"]:
            if path != "config.toml":
                self._sender.known(path)
        order = self._order
        arguments = [str(self._folder), self._stage, self._address, "--parent", str(os.getpid())]
        arguments += ["--epoch", str(order["epoch"]), "--sockets", str(self._sockets), "--interface", self._bind]
        if order["save"] is not None:
            arguments += ["--checkpoint", str(order["save"])]
        with (self._folder / "logs" / f"{self._stage}.out").open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.worker", *arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=worker_environment(),
                process_group=0,
            )  # fmt: skip

    def parts(self) -> Iterator[dict[str, Any]]:
        """Yield what of the worker's files is to be sent now."""
        if self._sender is not None:
            self._sender.look()
            for part in self._sender.parts():
                yield mirror.body(part, self.start)

    def got(self, path: str, generation: int, offset: int, *, again: bool) -> None:
        """The launcher has a file so far."""
        if self._sender is not None:
            self._sender.got(path, generation, offset, again=again)

    def signal(self, number: int) -> None:
        """Pass a signal on to the worker; one that is not there yet ends before it begins."""
        if self._process is not None:
            if number == signal.SIGUSR1:
                self._process.send_signal(number)
            else:
                signal_group(self._process, number)
        elif number in (signal.SIGTERM, signal.SIGKILL) and self.code is None:
            self._wanted, self.code = [], -number

    def keep(self, body: dict[str, Any]) -> None:
        """Note that a checkpoint is complete, so that the worker can go back to it, and remove what is older than `oldest`."""
        name = body["folder"]
        if not mirror.is_allowed(f"checkpoint/{name}/{self._stage}.npz", self._stage) or self._folder == self._root:
            return
        json.loads(body["manifest"])
        save_text(self._folder / "checkpoint" / name / MANIFEST, body["manifest"])
        self.save = max(self.save, int(body["save"]))
        for path in (self._folder / "checkpoint").glob("batch-*"):
            if path.name < body["oldest"]:
                shutil.rmtree(path, ignore_errors=True)

    def end(self, patience_s: float) -> None:
        """End the worker: ask it, where there is patience, then kill it."""
        process = self._process
        if process is None:
            return
        if patience_s:
            signal_group(process, signal.SIGTERM)
            until = time.monotonic() + patience_s
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
        signal_group(process, signal.SIGKILL)
        process.wait()
        self.code = process.returncode

    def close(self) -> None:
        """Close what is followed."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None
