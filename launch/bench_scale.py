"""Ten thousand stages over long links, in virtual time, and what they would ask of this launcher. `timebox bench scale`

F, T, B and the head's F take 20 ms each and messages no processor time, a processor for each stage, untied boxes, nothing
computed; a straggler is 1 action in 100, by seed, and takes 10 times as long. LAN: 0.1 ms one way. WAN: 50 ms.

    rate      batches a second at the head over the last two thirds of the batches (1f1b: no sooner than the pipeline is full,
              after as many batches as there are stages); beside it the same of either half of them
    idle      share of the boxes' time in which they do nothing, from the first to the last F of these batches
    late      batches that a box had forwarded since, when the oracle is trained on a batch's target (T) or the box is updated
              on its gradient (B): of the same stretch, over all boxes
    first     when the first box has made its first update; all: when all boxes have

Locked runs have one batch in flight and go by events, the others abreast (`pipeline.abreast`). What 10,000 stages do abreast
is held against the events at once. `control_load` is what the launcher has to do with it.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from typing import Any

import numpy as np

from pipeline.abreast import Counts, Times, abreast
from pipeline.actions import Action, Message, Part
from pipeline.costs import Costs
from pipeline.errors import RunError
from pipeline.lacks import Lack
from pipeline.plan import Plan
from pipeline.simulate import simulate

from . import control_load
from .environment import collect

STAGES = (100, 1_000, 10_000)
LINKS_MS = {"LAN": 0.1, "WAN": 50.0}
STRAGGLE, FACTOR = 0.01, 10.0
ACTION_MS = 20.0
#: Name, schedule, window; 0: what it is by default.
KINDS = (
    ("decoupled, 2", "decoupled", 2),
    ("decoupled, 8", "decoupled", 8),
    ("decoupled", "decoupled", 0),
    ("1f1b", "1f1b", 0),
    ("locked", "locked", 1),
)
#: Batches with stragglers, by stages: chance takes long to even out. 1f1b is full only after as many as there are stages.
BATCHES = {100: 6_000, 1_000: 12_000, 10_000: 12_000}
#: Without stragglers a decoupled run soon repeats itself; locked, each batch is as the one before.
EVEN_BATCHES, LOCKED_BATCHES = 600, {100: 60, 1_000: 12, 10_000: 6}
#: So many batches are done both ways.
CHECKED = 10
NS_A_MS = 1_000_000


def make_plan(schedule: str, stages: int, batches: int, window: int) -> Plan:
    """Return an untied plan of so many stages, the head among them, that evaluates nothing."""
    window = window or {"decoupled": 2 * stages, "1f1b": stages}[schedule]
    return Plan(
        boxes=stages - 1, batches=batches, epoch_batches=batches, evaluate_every=0, chunks=0, window=window, tied=False,
        rule="synthetic" if schedule == "decoupled" else "backward", target="bootstrapped", schedule=schedule,
        train=batches, batch=1, test=1, weights="stash",
    )  # fmt: skip


def make_costs(plan: Plan, hop_ms: float, straggle: float) -> Costs:
    """Return what everything takes."""
    took = (round(ACTION_MS * NS_A_MS),)
    actions = {(k, kind): took for k in range(1, plan.head + 1) for kind in "FTB"}
    return Costs(actions, latency_ns=round(hop_ms * NS_A_MS), straggle=straggle, factor=FACTOR)


class Tally:
    """Counts what stages do, over the last two thirds of the batches; by 1f1b once every stage has had a gradient."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.since = plan, plan.batches // 3
        if plan.schedule == "1f1b":  # box 1 has forwarded as many batches before its first gradient comes
            self.since = max(self.since, plan.head)
        self.began, self.ended, self.work = (np.zeros(plan.head, np.int64) for _ in range(3))
        self.updated = np.zeros(plan.boxes, np.int64)  # end of each box's first update
        self.left = np.zeros(plan.batches, np.int64)  # when the head had done each batch
        self.late = np.zeros(0, np.int64)  # how many were so many batches late
        self._updates = "F" if plan.rule == "synthetic" else "B"

    def tell(self, kind: str, stages: Counts, batches: Counts, start: Times, end: Times, late: Counts) -> None:
        """Take note of actions; `stages` count from 0."""
        plan, since = self.plan, self.since
        if kind == "F":
            if stages[-1] == plan.boxes:
                self.left[batches[-1]] = end[-1]
            here = (batches >= since) & (batches < plan.batches - 1)
            at = batches == since
            self.began[stages[at]] = start[at]
            at = batches == plan.batches - 1
            self.ended[stages[at]] = start[at]
        else:
            forwards = batches + late + 1
            here = (forwards > since) & (forwards < plan.batches)
            counts = np.bincount(late[here], minlength=len(self.late))
            counts[: len(self.late)] += self.late
            self.late = counts
        self.work[stages[here]] += (end - start)[here]
        if kind == self._updates:
            at = (batches == 0) & (stages < plan.boxes)
            self.updated[stages[at]] = end[at]

    def found(self) -> dict[str, Any]:
        """Return rate, halves, idle share, staleness, and when the first updates were."""
        since, batches = self.since, self.plan.batches
        middle = (since + batches) // 2
        idle = 1 - self.work[:-1] / (self.ended - self.began)[:-1]
        below = np.cumsum(self.late)
        return {
            "batches": batches,
            "rate": _rate(self.left, since, batches),
            "halves": [_rate(self.left, since, middle), _rate(self.left, middle, batches)],
            "idle": float(idle.mean()),
            "late": int(np.searchsorted(below, below[-1] / 2)),
            "most_late": len(self.late) - 1,
            "first_s": float(self.updated.min()) / 1e9,
            "all_s": float(self.updated.max()) / 1e9,
        }


def _rate(left: Times, first: int, end: int) -> float:
    return (end - first) / float(left[end - 1] - left[first - 1]) * 1e9


def chain(schedule: str, stages: int, batches: int, window: int, hop_ms: float, straggle: float) -> dict[str, Any]:
    """Simulate one chain of stages and return what was found, with the actions and the seconds that it took."""
    plan = make_plan(schedule, stages, batches, window)
    costs = make_costs(plan, hop_ms, straggle)
    began = time.perf_counter()
    if schedule == "locked":
        found, actions = _locked(plan, costs)
    else:
        tally = Tally(plan)
        actions = abreast(plan, costs, tell=tally.tell).actions
        found = tally.found()
    return found | {"actions": actions, "seconds": time.perf_counter() - began}


class _Eye:
    """Notes when a box's updates on a gradient have ended."""

    def __init__(self) -> None:
        self.ends: list[int] = []

    def part(self, action: Action, part: Part, start_ns: int, end_ns: int) -> None:
        """Look elsewhere."""

    def sent(self, message: Message, sequence: int, start_ns: int, end_ns: int) -> None:
        """Look elsewhere."""

    def taken(self, message: Message, sequence: int, arrived_ns: int, start_ns: int, end_ns: int) -> None:
        """Look elsewhere."""

    def waited(self, lack: Lack | None, start_ns: int, end_ns: int) -> None:
        """Look elsewhere."""

    def ended(self, action: Action, end_ns: int) -> None:
        """Note it."""
        if action.kind == "B":
            self.ends.append(end_ns)


def _locked(plan: Plan, costs: Costs) -> tuple[dict[str, Any], int]:
    """Return what comes of one batch in flight: nothing is late, and every batch is as long as the whole way."""
    first, last = _Eye(), _Eye()
    made = simulate(plan, costs, observers={1: first, plan.boxes: last})
    batches, middle = plan.batches, plan.batches // 2
    ends = first.ends
    busy = statistics.fmean(made.busy_ns[k] for k in range(1, plan.head))
    found = {
        "batches": batches,
        "rate": batches / ends[-1] * 1e9,
        "halves": [middle / ends[middle - 1] * 1e9, (batches - middle) / (ends[-1] - ends[middle - 1]) * 1e9],
        "idle": 1 - busy / made.makespan_ns,
        "late": 0,
        "most_late": 0,
        "first_s": last.ends[0] / 1e9,
        "all_s": ends[0] / 1e9,
    }
    return found, made.actions


def batches_of(schedule: str, stages: int, straggle: float) -> int:
    """Return how many batches a chain is simulated with."""
    if schedule == "locked":
        return LOCKED_BATCHES[stages]
    return BATCHES[stages] if straggle or schedule == "1f1b" else EVEN_BATCHES


def checked(stages: int, batches: int) -> dict[str, Any]:
    """Simulate a chain both ways and return how fast either is; raises RunError if they differ by a nanosecond."""
    plan = make_plan("decoupled", stages, batches, 2)
    costs = make_costs(plan, LINKS_MS["WAN"], STRAGGLE)
    began = time.perf_counter()
    events = simulate(plan, costs)
    between = time.perf_counter()
    made = abreast(plan, costs)
    ended = time.perf_counter()
    if (made.makespan_ns, made.busy_ns.tolist()) != (events.makespan_ns, list(events.busy_ns.values())):
        raise RunError(f"bench scale: {stages:,} stages abreast differ from what they do by events")
    return {
        "stages": stages,
        "batches": batches,
        "actions": events.actions,
        "events_a_second": events.actions / (between - began),
        "abreast_a_second": made.actions / (ended - between),
    }


def measure(repeats: int) -> dict[str, Any]:
    """Simulate all chains, once, since the same seed gives the same; measure the launcher's control plane `repeats` times."""
    load = control_load.measure(repeats)  # first, in a process that is still small
    began = time.perf_counter()
    rows: list[dict[str, Any]] = []
    for name, schedule, window in KINDS:
        for stages in STAGES:
            worlds = {
                f"{link} {straggle:g}": chain(
                    schedule, stages, batches_of(schedule, stages, straggle), window, hop_ms, straggle
                )
                for link, hop_ms in LINKS_MS.items()
                for straggle in (0.0, STRAGGLE)
            }
            rows.append({"kind": name, "stages": stages, "worlds": worlds})
    actions = sum(world["actions"] for row in rows for world in row["worlds"].values())
    document = {
        "bench": "scale",
        "repeats": repeats,
        "action_ms": ACTION_MS,
        "links_ms": LINKS_MS,
        "straggle": STRAGGLE,
        "factor": FACTOR,
        "batches": {str(stages): BATCHES[stages] for stages in STAGES},
        "locked_batches": {str(stages): LOCKED_BATCHES[stages] for stages in STAGES},
        "even_batches": EVEN_BATCHES,
        "rows": rows,
        "check": checked(STAGES[-1], CHECKED),
        "control": load,
        "actions": actions,
        "seconds": time.perf_counter() - began,
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return document | {"peak_mb": peak, "environment": collect()}
