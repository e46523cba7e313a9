"""The live driver: one stage as an operating-system process. `python -m pipeline.worker RUN_FOLDER STAGE CONTROL …`

    bind → hello → first weights → peers → connect → ready → go → advance until done → done → quit

It lives as long as its launcher: the kernel ends it when that dies, however it dies.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import control, results, steps, transport
from .actions import Action, Message, Part
from .box import Arrays, BoxWork, digest
from .config import load
from .data import Batches
from .data import load as load_data
from .drive import advance
from .errors import ConfigError, TimeboxError
from .head import HeadWork
from .lifeline import Lifeline
from .payloads import Payloads
from .plan import Plan
from .schedules import make_schedule
from .schema import Config
from .stage import Stage
from .trace import Writer
from .wire import Decoder, Encoder
from .worklog import Anchor, WorkLog

#: How often a worker looks at the control link, tells its progress, and flushes its records, in nanoseconds.
ROUND_NS = 200_000_000


class Stopped(Exception):
    """The launcher, or a signal, told this worker to stop before it was done."""


class LivePort:
    """A stage's messages over ZeroMQ."""

    def __init__(self, links: transport.Links, encoder: Encoder, decoder: Decoder, work: BoxWork | HeadWork) -> None:
        self.links = links
        self._encoder = encoder
        self._decoder = decoder
        self.work = work
        self.wait = False  # whether the next `arrived` may sleep for a message

    def arrived(self) -> Iterable[tuple[Message, Arrays]]:
        """Yield all that has come; the first one may be waited for."""
        wait, self.wait = self.wait, False
        while (frames := self.links.receive(wait)) is not None:
            wait = False
            message, _, arrays = self._decoder.decode(frames)
            yield message, arrays

    def send(self, message: Message, arrays: Arrays) -> None:
        """Encode and send a message."""
        self.links.send(message.target, self._encoder.encode(message, self.work.version, arrays))


class LiveWatcher:
    """Times every part of every action, for the trace and, if asked, for the log."""

    def __init__(self, writer: Writer, log: WorkLog, plan: Plan, number: int) -> None:
        self._writer = writer
        self._log = log
        self._steps = {(step.action, step.part): step for step in steps.steps(plan) if step.stage == number}
        self._tells = log.tells_actions
        self._since = 0
        self.busy_ns = 0

    def begin(self, action: Action) -> None:  # noqa: ARG002
        """Start the clock."""
        self._since = time.monotonic_ns()

    def part(self, action: Action, part: Part) -> None:
        """Record a part that has ended; the next one begins."""
        now = time.monotonic_ns()
        self._writer.span(action, part, self._since, now)
        self.busy_ns += now - self._since
        if self._tells:
            self._tell(action, part, now)
            now = time.monotonic_ns()  # the log's own time is nobody's work
        self._since = now

    def _tell(self, action: Action, part: Part, now: int) -> None:
        step = self._steps.get((action.kind, part.name)) if not action.sibling else None
        number = {"step": step.number} if step else {}
        self._log.action(
            step.text if step else steps.describe(action.kind, part.name, action.sibling),
            mono_ns=now,
            action=str(action),
            part=part.name,
            **{"evaluation" if action.kind == "E" else "batch": action.batch},
            **number,
            read=part.read,
            written=part.written,
            ms=round((now - self._since) / 1e6, 3),
        )

    def end(self, action: Action) -> None:
        """Add the action to the journal."""
        self._writer.journal(action)


class Worker:
    """One stage, its sockets, its files and its line to the launcher."""

    def __init__(self, folder: Path, name: str, address: str, sockets: Path | None, epoch: int, line: Lifeline) -> None:
        self.folder = folder
        self.name = name
        self.config: Config = load(folder / "config.toml")
        self.plan = Plan.of(self.config)
        self.number = self.plan.number(name)
        self.anchor = Anchor()
        self.log = WorkLog(folder / "logs" / f"{name}.log", name, self.config.log.level, self.anchor)
        self.sockets = sockets
        self.line = line
        self.epoch = epoch
        self._context = transport.make_context()
        self.control = transport.ControlLink(self._context, address, name)
        self.links: transport.Links | None = None
        self.work: BoxWork | HeadWork | None = None

    def run(self) -> None:
        """Live through the whole run; raises Stopped, TimeboxError."""
        stage, port, watcher, writer = self.prepare()
        schedule = make_schedule(self.plan, self.number)
        work = port.work
        started = time.monotonic_ns()
        self.log.info("go", boxes=self.plan.boxes, batches=self.plan.batches, schedule=self.plan.schedule)
        next_round = started + ROUND_NS
        try:
            while not stage.is_done:
                port.wait = advance(stage, schedule, port, work, watcher) is None
                if (now := time.monotonic_ns()) >= next_round:
                    next_round = now + ROUND_NS
                    self.round(stage, writer)
        except TimeboxError as error:
            story = "" if stage.story() in str(error) else f"; {stage.story()}"  # the stage's own errors tell it
            raise type(error)(f"{error}{story}") from None
        except Stopped:
            self.keep_what_is_there(work)
            raise
        finally:
            writer.close()
        self.finish(stage, watcher, work, started)

    def prepare(self) -> tuple[Stage, LivePort, LiveWatcher, Writer]:
        """Bind, make the first weights, meet the others, and wait for go."""
        payloads = Payloads(self.config, self.plan)
        transport_ = self.config.transport
        self.links = transport.Links(self._context, self.plan.most_waiting(), payloads.most_bytes())
        wanted = transport_.port + self.number if transport_.port else 0
        address = transport.endpoint(transport_.kind, str(self.sockets), self.name, wanted)
        bound = self.links.bind(address, "transport.port")
        self.say("hello", pid=os.getpid(), endpoint=bound)

        batches = Batches(self.config, load_data(self.config.data))
        work: BoxWork | HeadWork
        if self.number == self.plan.head:
            work = HeadWork(self.config, self.plan, batches)
        else:
            work = BoxWork(self.config, self.plan, self.number, batches)
        self.work = work
        results.save_weights(self.folder / "checkpoint" / "initial" / f"{self.name}.npz", work.weights())

        for name, peer in self.hear("peers").items():
            self.links.connect(self.plan.number(name), peer)
        header = {"pid": os.getpid(), "wall_ns": self.anchor.wall_ns, "mono_ns": self.anchor.mono_ns}
        writer = Writer(self.folder, self.name, header)
        watcher = LiveWatcher(writer, self.log, self.plan, self.number)
        encoder = Encoder(self.epoch, payloads)
        decoder = Decoder(self.number, self.epoch, self.plan.sources(self.number), payloads)
        self.say("ready")
        self.hear("go")
        return Stage(self.plan, self.number), LivePort(self.links, encoder, decoder, work), watcher, writer

    def say(self, word: str, **body: Any) -> None:
        """Tell the launcher something."""
        self.control.send(control.encode(word, body))

    def hear(self, wanted: str) -> dict[str, Any]:
        """Wait for a word of the launcher; raises Stopped."""
        while True:
            frame = self.control.receive(100)
            if self.line.should_stop:
                raise Stopped
            if frame is not None:
                word, body = control.decode(frame, control.FROM_LAUNCHER)
                if word == wanted:
                    return body
                if word in ("stop", "quit"):
                    raise Stopped

    def round(self, stage: Stage, writer: Writer) -> None:
        """Every now and then: flush, tell the launcher where we are, see what it says; raises Stopped."""
        writer.flush()
        cost = {}
        if isinstance(self.work, HeadWork) and self.work.costs:
            recent = self.work.costs[-self.plan.epoch_batches :]
            cost = {"cost": sum(recent) / len(recent)}
        self.say("progress", batch=stage.forwards, **cost)
        while (frame := self.control.receive(0)) is not None:
            word, _ = control.decode(frame, control.FROM_LAUNCHER)
            if word in ("stop", "quit"):
                raise Stopped
        if self.line.should_stop:
            raise Stopped

    def keep_what_is_there(self, work: BoxWork | HeadWork) -> None:
        """Save weights and metrics of a run that is stopped before its end."""
        results.save_weights(self.folder / "checkpoint" / "interrupted" / f"{self.name}.npz", work.weights())
        if isinstance(work, HeadWork):
            results.save_metrics(self.folder, self.plan, work.costs, work.judged)

    def finish(self, stage: Stage, watcher: LiveWatcher, work: BoxWork | HeadWork, started: int) -> None:
        """Save the results, report them, and stay until the launcher says quit."""
        results.save_weights(self.folder / "checkpoint" / "final" / f"{self.name}.npz", work.weights())
        if isinstance(work, HeadWork):
            results.save_metrics(self.folder, self.plan, work.costs, work.judged)
        seconds = (time.monotonic_ns() - started) / 1e9
        self.log.info("done", batches=stage.forwards, busy_s=round(watcher.busy_ns / 1e9, 6), seconds=round(seconds, 6))
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
        busy_s = watcher.busy_ns / 1e9
        self.say("done", batches=stage.forwards, busy_s=busy_s, peak_mb=peak_mb, digest=digest(work.weights()))
        with contextlib.suppress(Stopped):
            self.hear("quit")

    def close(self, linger_ms: int) -> None:
        """Close everything."""
        if self.links is not None:
            self.links.close(linger_ms)
        self.control.close(linger_ms)
        self._context.term()
        self.log.close()


def main(arguments: list[str] | None = None) -> int:
    """Run one stage; returns the exit code: 0 done or stopped, 1 failed, 2 wrong request."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.worker", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("stage")
    parser.add_argument("control")
    parser.add_argument("--sockets", default="")
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    line = Lifeline(options.parent)
    sockets = Path(options.sockets) if options.sockets else None
    try:
        if line.is_orphan:
            return 1
        return live(Worker(options.folder, options.stage, options.control, sockets, options.epoch, line))
    finally:
        if line.is_orphan and sockets is not None:
            transport.remove_socket_folder(sockets)  # the launcher is gone and cannot do it


def live(worker: Worker) -> int:
    """Run a worker and turn how it ends into words to the launcher and an exit code."""
    linger_ms = transport.LINGER_MS
    try:
        worker.run()
        code = 0
    except Stopped:
        worker.log.info("stopped")
        worker.say("stopped")
        linger_ms, code = 200, 0
    except TimeboxError as error:
        worker.log.error(str(error))
        worker.say("failed", error=str(error), wrong=isinstance(error, ConfigError))
        linger_ms, code = 200, 2 if isinstance(error, ConfigError) else 1
    except (
        Exception
    ) as error:  # the edge of the process: whatever it was is told to the launcher, and in full to the log
        text = f"{type(error).__name__}: {error}"
        worker.log.error(text, traceback=True)
        worker.say("failed", error=text, wrong=False)
        linger_ms, code = 200, 1
    worker.close(linger_ms)
    return code


if __name__ == "__main__":
    sys.exit(main())
