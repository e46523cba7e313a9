"""One run of a case, watched: the cost of every batch, and how long synthetic and true gradients were at every box.

    reference        programs, and the rule `exact`: one process, a plain loop, bit-equal to the live run
    virtual time     `decoupled` and schedules of one's own: the simulator with arithmetic, at costs that are given
    published        the published code's arithmetic as written
    live             real processes; costs by the epoch, and gradients at the batches that its probe looked at

The true gradient of a box before the last is that of the head, passed on through the boxes' latest weights; where boxes have
several steps, or run in virtual time, the target that the oracle was fitted to stands for it. Watching changes no number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from pipeline.actions import ACTIVATION, GRADIENT, Action, Part
from pipeline.arrays import Array
from pipeline.box import BoxWork
from pipeline.cells import Trail
from pipeline.costs import Costs
from pipeline.data import Batches
from pipeline.data import batches as make_batches
from pipeline.drawn import Examples
from pipeline.errors import DivergedError, TimeboxError
from pipeline.head import HeadWork
from pipeline.ledger import Ledger, summary
from pipeline.plan import Plan
from pipeline.reference import Reference
from pipeline.schema import Config
from pipeline.simulate import simulate
from pipeline.sizes import box_steps
from pipeline.work import Around, Work
from pipeline.works import make_work

from .published_arithmetic import Published
from .stability_study import Case
from .virtual_run import weigher

ENGINES = {
    "reference": "one process, in the program's order: bit-equal to the live run",
    "virtual": "virtual time with arithmetic",
    "published": "the published code's arithmetic",
    "live": "real processes",
}
#: Rules by which boxes have oracles: their own, or one that all share.
GUESSING = ("synthetic", "traced")


class Found(NamedTuple):
    """What came of a run: cost by batch (n,), norms (boxes, batches), accuracy, and what ended it before its time.

    `every` is how many batches one cost stands for: 1, or with `live` those of an epoch.
    """

    costs: Array
    synthetic: Array
    true: Array
    accuracy: float | None
    diverged: str = ""
    failed: str = ""
    every: int = 1


class Tape:
    """The norms of a run, written as it goes."""

    def __init__(self, plan: Plan) -> None:
        self.synthetic = np.full((plan.boxes, plan.batches), np.nan)
        self.true = np.full((plan.boxes, plan.batches), np.nan)

    def note(self, into: Array, k: int, batch: int, array: Array) -> None:
        """Write the norm of a gradient at box k."""
        into[k - 1, batch] = np.linalg.norm(array)


class Watched(Reference):
    """The reference with a tape."""

    def __init__(self, config: Config, batches: Batches | Examples, tape: Tape) -> None:
        super().__init__(config, batches)
        self._tape = tape
        self._passes = max(box_steps(config)) == 1 and config.model.cell == "rnn" and self.plan.rule in GUESSING
        self._h: dict[int, Array] = {}

    def forward(self, k: int, batch: int, h: Array | None) -> Trail:
        """Take a batch through box k, and keep its activation."""
        trail = super().forward(k, batch, h)
        self._h[k] = trail.h
        return trail

    def gradient(self, k: int, batch: int, h: Array) -> Array | None:
        """Return the gradient on which box k updates at once, and note how long it is."""
        g = super().gradient(k, batch, h)
        if g is not None and self.plan.learns(k) in GUESSING:
            self._tape.note(self._tape.synthetic, k, batch, g)
        return g

    def head(self, batch: int, h: Array) -> Array:
        """Step the head; note the true gradient, passed on to every box."""
        g = back = super().head(batch, h)
        if self.plan.rule in GUESSING:
            self._tape.note(self._tape.true, self.plan.boxes, batch, g)
        for k in range(self.plan.boxes, 1, -1) if self._passes else ():
            back = (back * (1 - self._h[k] * self._h[k])) @ self.cells[k]["Wrec"].T
            self._tape.note(self._tape.true, k - 1, batch, back)
        return g

    def fit(self, k: int, batch: int, h: Array, target: Array) -> None:
        """Fit an oracle; its target stands for the true gradient where that cannot be had."""
        if not self._passes:
            self._tape.note(self._tape.true, k, batch, target)
        super().fit(k, batch, h, target)


class WatchedWork(Around):
    """A stage's work in virtual time with a tape."""

    def __init__(self, work: Work, plan: Plan, tape: Tape) -> None:
        super().__init__(work)
        self._plan, self._tape = plan, tape

    def do(self, action: Action) -> Iterator[Part]:
        """Do an action and note what is wanted of it."""
        work, tape, batch = self.work, self._tape, action.batch
        if isinstance(work, BoxWork) and action.kind == "T":
            kind = self._plan.backward_kind(work.number)
            for array in work.kept(kind or "", batch, work.number + 1):
                tape.note(tape.true, work.number, batch, array)
        for part in work.do(action):
            if isinstance(work, BoxWork) and part.name == "forward" and work.rule in GUESSING:
                tape.note(tape.synthetic, work.number, batch, work.guess(batch, work.outputs[ACTIVATION][0]))
            yield part
        if isinstance(work, HeadWork) and action.kind == "F":
            tape.note(tape.true, self._plan.boxes, batch, work.outputs[GRADIENT][0])


def engine(case: Case, *, live: bool) -> str:
    """Return which engine runs a case, a key of `ENGINES`."""
    if case.corrected is not None:
        return "published"
    if live:
        return "live"
    return "virtual" if case.config.schedule.kind in ("decoupled", "own") else "reference"


def run(case: Case, k: int, kind: str, costs: Costs | None = None, folder: str = "") -> Found:
    """Run a case with its seeds k further; `costs` are for virtual time, `folder` holds live runs while they go on."""
    config = case.seeded(k)
    if kind == "live":
        return _live(config, folder)
    plan, tape = Plan.of(config), Tape(Plan.of(config))
    batches = make_batches(config)
    ledger = Ledger(plan, keeps_all=True)
    spent = ledger.costs
    accuracy, diverged, failed = None, "", ""
    try:
        with np.errstate(all="ignore"):
            if kind == "published":
                accuracy = _published(case, config, batches, plan, tape, spent)
            elif kind == "virtual":
                assert costs is not None
                accuracy = _virtual(config, plan, batches, tape, ledger, costs, k)
            else:
                reference = Watched(config, batches, tape)
                reference.ledger = ledger
                for _ in reference.run():
                    pass
                reference.check_weights()
                accuracy = _accuracy(ledger)
    except DivergedError as error:
        diverged = str(error)
    except TimeboxError as error:
        failed = str(error)
    return Found(np.array(spent), tape.synthetic, tape.true, accuracy, diverged, failed)


def _published(
    case: Case, config: Config, batches: Batches | Examples, plan: Plan, tape: Tape, spent: list[float]
) -> float:
    assert isinstance(batches, Batches), "the published arithmetic learns images"
    network = Published(config, batches, case.corrected or ())
    for batch in range(plan.batches):
        step = network.step(batch)
        spent.append(step.cost)
        tape.synthetic[:, batch], tape.true[:, batch] = step.synthetic, step.true
    return network.accuracy()


def _virtual(
    config: Config, plan: Plan, batches: Batches | Examples, tape: Tape, ledger: Ledger, costs: Costs, seed: int
) -> float | None:
    works: dict[int, Work] = {k: make_work(config, plan, k, batches) for k in range(1, plan.head + 1)}
    head = works[plan.head]
    assert isinstance(head, HeadWork)
    head.ledger = ledger
    watched: dict[int, Work] = {k: WatchedWork(work, plan, tape) for k, work in works.items()}
    simulate(plan, costs, seed=seed, works=watched, weigh=weigher(config, plan))
    return _accuracy(ledger)


def _accuracy(ledger: Ledger) -> float | None:
    return summary(ledger.final)["accuracy"] if ledger.final else None


def _live(config: Config, folder: str) -> Found:
    from .live import launch

    place = msgspec.structs.replace(config.run, dir=folder, name="", plot=False)
    config = msgspec.structs.replace(config, run=place)
    plan, tape = Plan.of(config), Tape(Plan.of(config))
    result = launch(config, label="stability")
    if result.status == "interrupted":
        raise KeyboardInterrupt
    _probed(result.folder, plan, tape)
    error = str(result.document.get("error") or "")
    is_flight = result.status == "failed" and "flown off" in error
    return Found(
        np.array(result.costs, float), tape.synthetic, tape.true, result.accuracy,
        error if is_flight else "", error if result.status == "failed" and not is_flight else "", plan.epoch_batches,
    )  # fmt: skip


def _probed(folder: Path, plan: Plan, tape: Tape) -> None:
    """Take in what the probe of a live run found at a few batches: how many times as long as the true gradient ĝ was."""
    from . import quality

    for row in quality.read(folder, plan):
        if row["norm_ratio"] is not None:
            place = row["box"] - 1, row["batch"]
            tape.synthetic[place], tape.true[place] = row["norm_ratio"], 1.0


def describe(kind: str, origin: str) -> str:
    """Return an engine in words, with where virtual time has its costs from."""
    return ENGINES[kind] + (f"; costs: {origin}" if kind == "virtual" else "")


def costs_of(config: Config) -> tuple[Any, str]:
    """Return what virtual time costs for a configuration, measured once for all its seeds, and what it is measured by.

    It is measured at rates of zero, at which the same is computed and nothing flies off.
    """
    from . import what_if

    still = dict.fromkeys(("rate_input", "rate_recurrent", "rate_head", "rate_oracle"), 0.0)
    train = msgspec.structs.replace(config.train, **still, limit=1e15)
    request = what_if.of_config(msgspec.structs.replace(config, train=train), None, ())
    return replace(request.costs, emulation=what_if.emulated(config, Plan.of(config))), request.origin
