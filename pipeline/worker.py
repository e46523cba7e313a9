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
from pathlib import Path
from typing import Any

from . import addresses, control, keys, probe, results, transport
from .arrays import Weights
from .backup import ROUND_NS, Backup, settle_memory
from .box import BoxWork
from .config import load
from .data import batches as make_batches
from .delays import DelayedLinks
from .drive import advance
from .emulate import Emulated
from .emulation import Emulation
from .errors import ConfigError, RunError, TimeboxError
from .files import remove_socket_folder
from .guard import Guard
from .head import HeadWork
from .lifeline import Lifeline
from .live import Edges, LivePort, LiveWatcher, cost_of_a_record
from .payloads import Payloads
from .plan import Plan
from .recorder import Recorder
from .schedules import make_schedule
from .schema import Config
from .stage import Stage
from .strangers import Strangers
from .trace import DONE, GO
from .weights import digest
from .wire import Decoder, Encoder
from .work import Work
from .worklog import Anchor, WorkLog
from .works import make_work


class Stopped(Exception):
    """The launcher, or a signal, told this worker to stop before it was done."""


class Worker:
    """One stage, its sockets, its files and its line to the launcher."""

    def __init__(self, folder: Path, name: str, address: str, sockets: Path, epoch: int, line: Lifeline) -> None:
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
        self.keys = keys.read(sockets / keys.FILE)
        self.strangers = Strangers(self.log.warning)
        self._context = transport.make_context()
        self._gate = transport.Gate(self._context, self.keys.pair)
        said = control.Line(self.keys.secret, name, self.strangers, is_launcher=False)
        self.control = transport.ControlLink(self._context, address, said, self.keys.pair)
        self.links: transport.Links | None = None
        self.decoder: Decoder | None = None
        self.work: BoxWork | HeadWork | None = None
        self.went_ns = 0  # when the launcher said go

    def run(self) -> None:
        """Live through the whole run; raises Stopped, TimeboxError."""
        stage, port, watcher, recorder = self.prepare()
        schedule = make_schedule(self.plan, self.number)
        work, own = self.emulated(), self.work
        assert own is not None, "prepare makes it"
        self.went_ns = started = time.monotonic_ns()
        cpu = time.process_time_ns()
        recorder.tape.mark(GO, started)
        self.log.info("go", boxes=self.plan.boxes, batches=self.plan.batches, schedule=self.plan.schedule)
        next_round = started + ROUND_NS
        settle_memory()
        backup = Backup(recorder)
        try:
            while not stage.is_done:
                if advance(stage, schedule, port, work, watcher) is None:
                    port.wait(schedule.lack(stage))
                else:  # after its messages have gone
                    recorder.sums.add(own.outputs, own.changes)
                if (now := time.monotonic_ns()) >= next_round:
                    backup.is_late = False
                    next_round = now + ROUND_NS
                    self.round(stage, port, watcher, recorder)
        except TimeboxError as error:
            story = "" if stage.story() in str(error) else f"; {stage.story()}"  # the stage's own errors tell it
            raise type(error)(f"{error}{story}") from None
        except Stopped:
            self.keep_what_is_there()
            raise
        finally:
            ended = time.monotonic_ns()
            backup.stop()
            cpu_ms = (time.process_time_ns() - cpu) // 1_000_000
            log_ms = watcher.log_ns // 1_000_000
            recorder.done(DONE, ended, cost_ns=cost_of_a_record(), cpu_ms=cpu_ms, log_ms=log_ms)
            recorder.close()
        self.finish(stage, port, watcher, (ended - started) / 1e9, cpu_ms / 1000, recorder.seal)

    def prepare(self) -> tuple[Stage, LivePort, LiveWatcher, Recorder]:
        """Bind, make the first weights, meet the others, and wait for go."""
        payloads = Payloads(self.config, self.plan)
        transport_ = self.config.transport
        self.links = transport.Links(self._context, self.plan.most_waiting(), payloads.most_bytes(), self.keys.pair)
        wanted = transport_.port + self.number if transport_.port else 0
        address = addresses.endpoint(transport_.kind, str(self.sockets), self.name, wanted, transport_.interface)
        bound = self.links.bind(address, "transport.port")
        self.say("hello", pid=os.getpid(), endpoint=bound)

        batches = make_batches(self.config)
        self.work = work = make_work(self.config, self.plan, self.number, batches)
        results.save_weights(self.folder / "checkpoint" / "initial" / f"{self.name}.npz", work.weights())

        for name, peer in self.hear("peers").items():
            self.links.connect(self.plan.number(name), peer)
        header = {"pid": os.getpid(), "wall_ns": self.anchor.wall_ns, "mono_ns": self.anchor.mono_ns}
        recorder = Recorder(
            self.folder,
            self.name,
            header,
            is_traced=self.config.trace.level == "full",
            most_bytes=self.config.trace.most_mb * 1_000_000,
            every=self.config.trace.every,
        )
        watcher = LiveWatcher(recorder, self.log, self.plan, self.number)
        secret, strangers = self.keys.secret, self.strangers
        encoder = Encoder(self.epoch, payloads, secret)
        who, named = (self.number, self.epoch, self.plan.sources(self.number)), self.plan.name
        self.decoder = Decoder(*who, payloads, secret, name=named, strangers=strangers)
        self.say("ready")
        self.hear("go")
        emulation = Emulation(self.config.emulate, self.plan)
        links: Edges = self.links
        if emulation.changes_messages:
            links = DelayedLinks(self.links, emulation, self.number, secret, strangers)
        port = LivePort(links, encoder, self.decoder, work, recorder, self.number)
        return Stage(self.plan, self.number), port, watcher, recorder

    def emulated(self) -> Work:
        """Return the work that this stage does, with what is to be watched or slowed down in it."""
        assert self.work is not None, "prepare makes it"
        is_probed = self.config.trace.level == "full" and self.config.emulate.arithmetic
        batches = probe.probed(self.plan, self.config.trace.probe if is_probed else 0)
        work: Work = probe.Probe(self.work, batches, self.save_probed) if batches else self.work
        emulate = self.config.emulate
        is_emulated = emulate.compute_ms or emulate.slow or emulate.straggle
        return Emulated(work, Emulation(self.config.emulate, self.plan), self.number) if is_emulated else work

    def save_probed(self, batch: int, arrays: Weights) -> None:
        """Write what the probe saw."""
        results.append_look(self.folder / "probe" / f"{self.name}.looks", batch, arrays)

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

    def round(self, stage: Stage, port: LivePort, watcher: LiveWatcher, recorder: Recorder) -> None:
        """Every now and then: flush, tell the launcher where we are, see what it says; raises Stopped, RunError."""
        recorder.flush()
        cost = {}
        if isinstance(self.work, HeadWork) and self.work.costs:
            recent = self.work.costs[-self.plan.epoch_batches :]
            cost = {"cost": sum(recent) / len(recent)}
        self.say("progress", batch=stage.forwards, **self.standing(stage, port, watcher), **cost)
        while (frame := self.control.receive(0)) is not None:
            word, _ = control.decode(frame, control.FROM_LAUNCHER)
            if word in ("stop", "quit"):
                raise Stopped
        if self.line.should_stop:
            raise Stopped

    def standing(self, stage: Stage, port: LivePort, watcher: LiveWatcher) -> dict[str, Any]:
        """Return what the launcher shows of this stage besides its batch."""
        waits = {f"{way} {self.plan.name(k)}": ns / 1e9 for (way, k), ns in port.waited_ns.items()}
        settled = stage.forwards if stage.is_head else stage.settled
        at_s = (time.monotonic_ns() - self.went_ns) / 1e9
        in_flight = stage.forwards - settled
        return {"at_s": at_s, "in_flight": in_flight, "busy_s": watcher.busy_ns / 1e9, "waits": waits}

    def keep_what_is_there(self) -> None:
        """Save weights and metrics of a run that is stopped before its end."""
        self._save("interrupted")

    def _save(self, name: str) -> Weights:
        work = self.work
        assert work is not None, "prepare makes it"
        weights = work.weights()
        results.save_weights(self.folder / "checkpoint" / name / f"{self.name}.npz", weights)
        if isinstance(work, HeadWork):
            results.save_metrics(self.folder, self.plan, work.costs, work.judged, work.levels)
        return weights

    def finish(
        self, stage: Stage, port: LivePort, watcher: LiveWatcher, seconds: float, cpu_s: float, seal: dict[str, Any]
    ) -> None:
        """Save the results, report them, and stay until the launcher says quit; raises DivergedError for weights gone bad."""
        assert self.work is not None, "prepare makes it"
        Guard(self.name, self.config.train.limit).check_weights(self.work.weights())
        weights = self._save("final")
        standing = self.standing(stage, port, watcher)
        self.log.info("done", batches=stage.forwards, busy_s=round(standing["busy_s"], 6), seconds=round(seconds, 6))
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
        told = {"batches": stage.forwards, "seconds": seconds, "cpu_s": cpu_s, "peak_mb": peak_mb} | standing
        told |= {"dropped": self.strangers.count + self._gate.refused}
        self.say("done", digest=digest(weights), seal=seal, **told)
        with contextlib.suppress(Stopped):
            self.hear("quit")

    def close(self, linger_ms: int) -> None:
        """Close everything, and tell who has been sent away."""
        self.strangers.sum_up(self._gate.refused, self.decoder.late if self.decoder else 0)
        if self.links is not None:
            self.links.close(linger_ms)
        self.control.close(linger_ms)
        self._gate.close()
        self._context.term()
        self.log.close()


def main(arguments: list[str] | None = None) -> int:
    """Run one stage; returns the exit code: 0 done or stopped, 1 failed, 2 wrong request."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.worker", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("stage")
    parser.add_argument("control")
    parser.add_argument("--sockets", type=Path, required=True)
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    line = Lifeline(options.parent)
    try:
        if line.is_orphan:
            return 1
        return live(Worker(options.folder, options.stage, options.control, options.sockets, options.epoch, line))
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
