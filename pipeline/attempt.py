"""One attempt of a live stage: from its first weights, or from a checkpoint, until it is done or something ends it.

    hello → first weights, or a checkpoint's → peers → connect → ready → go → advance until done → done → quit

A run has one attempt, and one more for each time that it is taken up again. What an attempt appends to is first cut down to
what the checkpoint has of it; what is cut off is kept beside (`journal/epoch-0/box-1.txt`), and so is the trace.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from . import checkpoints, faults, faulty, probe, results, transport
from .arrays import Weights
from .aside import put_aside
from .backup import ROUND_NS, Backup, settle_memory
from .box import BoxWork
from .checkpoints import Checkpoint
from .data import Batches
from .delays import DelayedLinks
from .drawn import Examples
from .drive import advance
from .emulate import Emulated
from .emulation import Emulation
from .errors import RunError, TimeboxError
from .guard import Guard
from .head import HeadWork
from .heartbeat import heartbeat
from .live import Edges, LivePort, LiveWatcher, cost_of_a_record
from .orders import Orders, Stopped
from .payloads import Payloads
from .plan import Plan
from .reckon import stage_after
from .recorder import Recorder
from .saver import Saver
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


class Seat(NamedTuple):
    """What of a worker stays the same from one attempt to the next."""

    folder: Path
    name: str
    number: int
    config: Config
    plan: Plan
    anchor: Anchor
    log: WorkLog
    links: transport.Links
    batches: Batches | Examples
    payloads: Payloads
    secret: bytes
    strangers: Strangers
    refused: Callable[[], int]  # how many times one with another key was not admitted
    abandon: Callable[[], None]  # ends this process where nobody waits for it any more


class Attempt:
    """A stage's work with its files, in one epoch."""

    def __init__(self, seat: Seat, orders: Orders, begin: Checkpoint | None) -> None:
        """Make the stage's work as it is at the beginning, or at a checkpoint; raises RunError for one that cannot be read."""
        self.seat = seat
        self.orders = orders
        self.begin = begin
        config, plan, number = seat.config, seat.plan, seat.number
        self.work: BoxWork | HeadWork = make_work(config, plan, number, seat.batches)
        self.first = 0  # batches, as they travel, before this attempt
        self.stage = Stage(plan, number)
        if begin is not None:
            self.first = plan.barrier(begin.save)
            self.work.restore(results.load_weights(begin.folder / f"{seat.name}.npz"))
            self.stage = stage_after(plan, number, begin.save)
        # What goes wrong on purpose does so in the run's first attempt alone.
        self.faults = () if orders.epoch else faults.of_stage(config, plan, number)
        self.went_ns = 0  # when the launcher said go
        self.port: LivePort
        self.watcher: LiveWatcher
        self.recorder: Recorder
        self.decoder: Decoder
        self.saver: Saver

    def run(self) -> None:
        """Do all that is left to do; raises Stopped, RolledBack, TimeboxError."""
        seat, stage = self.seat, self.stage
        self.prepare()
        recorder, port, watcher = self.recorder, self.port, self.watcher
        schedule = make_schedule(seat.plan, seat.number, self.first)
        work, own = self.emulated(), self.work
        self.went_ns = started = time.monotonic_ns()
        cpu = time.process_time_ns()
        recorder.tape.mark(GO, started)
        seat.log.info(
            "go", boxes=seat.plan.boxes, batches=seat.plan.batches, schedule=seat.plan.schedule, **self.where()
        )
        next_round = started + ROUND_NS
        settle_memory()
        backup = Backup(recorder, seat.abandon)
        try:
            while not stage.is_done:
                action = advance(stage, schedule, port, work, watcher)
                if action is None:
                    port.wait(schedule.lack(stage))
                else:  # after its messages have gone
                    recorder.sums.add(own.outputs, own.changes)
                    if action.kind == "S":
                        self.save(action.batch)
                if (now := time.monotonic_ns()) >= next_round:
                    backup.is_late = False
                    next_round = now + ROUND_NS
                    self.round()
        except TimeboxError as error:
            story = "" if stage.story() in str(error) else f"; {stage.story()}"  # the stage's own errors tell it
            raise type(error)(f"{error}{story}") from None
        except Stopped:
            self.keep("interrupted")
            raise
        finally:
            ended = time.monotonic_ns()
            backup.stop()
            self.saver.wait()
            seat.strangers.late += self.decoder.late
            cpu_ms = (time.process_time_ns() - cpu) // 1_000_000
            log_ms = watcher.log_ns // 1_000_000
            recorder.done(DONE, ended, cost_ns=cost_of_a_record(), cpu_ms=cpu_ms, log_ms=log_ms)
            recorder.close()
        self.finish((ended - started) / 1e9, cpu_ms / 1000)

    def where(self) -> dict[str, int]:
        """Return from where a resumed attempt goes on, for the log."""
        return {} if self.begin is None else {"epoch": self.orders.epoch, "from_batch": self.begin.batch}

    def prepare(self) -> None:
        """Tell where this stage can be reached, open its files, meet the others, and wait for go."""
        seat, orders = self.seat, self.orders
        folder, name, config, plan, number = seat.folder, seat.name, seat.config, seat.plan, seat.number
        orders.say("hello", pid=os.getpid(), endpoint=seat.links.address)
        if self.begin is None:
            results.save_weights(folder / "checkpoint" / "initial" / f"{name}.npz", self.work.weights())
        if orders.epoch:
            put_aside(folder, name, self.begin, orders.epoch, is_head=isinstance(self.work, HeadWork))
        header = {"pid": os.getpid(), "wall_ns": seat.anchor.wall_ns, "mono_ns": seat.anchor.mono_ns}
        self.recorder = Recorder(
            folder,
            name,
            header | self.where(),
            is_traced=config.trace.level == "full",
            most_bytes=config.trace.most_mb * 1_000_000,
            every=config.trace.every,
            goes_on=self.begin is not None,
        )
        self.saver = Saver(folder, plan, name, self.recorder.sync)
        try:
            for peer, address in orders.hear("peers").items():
                seat.links.connect(plan.number(peer), address)
            self.watcher = LiveWatcher(self.recorder, seat.log, plan, number)
            encoder = Encoder(orders.epoch, seat.payloads, seat.secret)
            self.decoder = decoder = Decoder(
                number, orders.epoch, plan.sources(number), seat.payloads, seat.secret,
                name=plan.name, strangers=seat.strangers,
            )  # fmt: skip
            emulation = Emulation(config.emulate, plan)
            links: Edges = seat.links
            if emulation.changes_messages:
                links = DelayedLinks(seat.links, emulation, number, seat.secret, seat.strangers)
            rest = encoder, decoder, self.work, self.recorder, number
            self.port = faulty.make_port(links, self.faults, seat.log, plan.boxes, *rest)
            orders.say("ready")
            orders.hear("go")
        except BaseException:
            self.recorder.close()
            raise

    def emulated(self) -> Work:
        """Return the work that this stage does, with what is to be watched or slowed down in it."""
        config, plan = self.seat.config, self.seat.plan
        is_probed = config.trace.level == "full" and config.emulate.arithmetic
        batches = probe.probed(plan, config.trace.probe if is_probed else 0)
        work: Work = probe.Probe(self.work, batches, self.save_probed) if batches else self.work
        emulate = config.emulate
        is_emulated = emulate.compute_ms or emulate.slow or emulate.straggle
        work = Emulated(work, Emulation(config.emulate, plan), self.seat.number) if is_emulated else work
        return faulty.with_faults(work, self.faults, self.seat.folder, self.seat.log, plan.boxes, self.orders.line)

    def save_probed(self, batch: int, arrays: Weights) -> None:
        """Write what the probe saw."""
        results.append_look(self.seat.folder / "probe" / f"{self.seat.name}.looks", batch, arrays)

    def save(self, number: int) -> None:
        """Begin to write a checkpoint, which the stage has just taken; raises RunError if the one before could not be."""
        recorder, name = self.recorder, self.seat.name
        recorder.flush()
        journal, sums = recorder.sizes
        appended = {f"journal/{name}.txt": journal, f"journal/{name}.sums": sums}
        if isinstance(self.work, HeadWork):
            appended |= self.metrics(self.work)
        self.saver.save(number, self.work.saved, appended)
        self.seat.log.info("saves", checkpoint=number, batch=checkpoints.batch_of(self.seat.plan, number))

    def metrics(self, work: HeadWork) -> dict[str, int]:
        """Return how long the file of epochs is, with all that have ended in it; raises RunError for a disk without room."""
        results.append_rows(self.seat.folder, work.ledger)
        path = self.seat.folder / results.METRICS
        if work.ledger.ended():
            raise RunError(f"{path}: cannot write the rows of epochs: no space left on device")
        return {results.METRICS.as_posix(): path.stat().st_size} if path.is_file() else {}

    def round(self) -> None:
        """Every now and then: flush, tell the launcher where we are, see what it says; raises Stopped, RolledBack, RunError."""
        self.recorder.flush()
        self.tell_saved()
        cost = {}
        if isinstance(self.work, HeadWork) and self.work.costs:
            recent = self.work.costs
            cost = {"cost": sum(recent) / len(recent)}
            results.append_rows(self.seat.folder, self.work.ledger)
        self.orders.say("progress", batch=self.stage.forwards, **self.standing(), **cost)
        self.orders.look()

    def tell_saved(self) -> None:
        """Tell the launcher which checkpoints are written; raises RunError for one that could not be."""
        for saved in self.saver.take():
            self.orders.say("saved", **saved)

    def standing(self) -> dict[str, Any]:
        """Return what the launcher shows of this stage besides its batch."""
        stage, plan = self.stage, self.seat.plan
        waits = {f"{way} {plan.name(k)}": ns / 1e9 for (way, k), ns in self.port.waited_ns.items()}
        settled = stage.forwards if stage.is_head else stage.settled
        at_s = (time.monotonic_ns() - self.went_ns) / 1e9
        in_flight = stage.forwards - settled
        told = {"at_s": at_s, "in_flight": in_flight, "busy_s": self.watcher.busy_ns / 1e9, "waits": waits}
        return told | heartbeat(stage, self.port, self.watcher.actions)

    def keep(self, what: str) -> Weights:
        """Save weights and metrics: `final`, or `interrupted` where the run is stopped before its end."""
        work, folder = self.work, self.seat.folder
        weights = work.weights()
        results.save_weights(folder / "checkpoint" / what / f"{self.seat.name}.npz", weights)
        if isinstance(work, HeadWork):
            results.save_metrics(folder, work.ledger)
        return weights

    def finish(self, seconds: float, cpu_s: float) -> None:
        """Save the results, report them, and stay until the launcher says quit; raises DivergedError for weights gone bad."""
        stage, seat = self.stage, self.seat
        self.tell_saved()
        Guard(seat.name, seat.config.train.limit).check_weights(self.work.weights())
        weights = self.keep("final")
        standing = self.standing()
        seat.log.info("done", batches=stage.forwards, busy_s=round(standing["busy_s"], 6), seconds=round(seconds, 6))
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
        told = {"batches": stage.forwards, "seconds": seconds, "cpu_s": cpu_s, "peak_mb": peak_mb} | standing
        told |= {"dropped": seat.strangers.count + seat.refused(), "late": seat.strangers.late}
        self.orders.say("done", digest=digest(weights), seal=self.recorder.seal, **told)
        with contextlib.suppress(Stopped):
            self.orders.hear("quit")


def begin_at(folder: Path, plan: Plan, save: int | None) -> Checkpoint | None:
    """Return the checkpoint of a number, None for none; raises RunError if it is not there."""
    if save is None:
        return None
    for found in checkpoints.complete(folder, plan):
        if found.save == save:
            return found
    raise RunError(f"{checkpoints.folder_of(folder, plan, save)}: is no complete checkpoint")
