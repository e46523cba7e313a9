"""How fast virtual time goes, beside SimPy and by the max-plus recurrence. `timebox bench simulate`

All three run the same plan with the same constant times and hops and must agree on the makespan. SimPy's model is a
process a stage, a timeout an action, a timeout a message; it takes the same rules and schedules, so that what differs is
the kernel. The three take turns.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple

from pipeline.actions import KINDS, Action, Message, Part
from pipeline.costs import Costs
from pipeline.drive import advance
from pipeline.errors import ConfigError
from pipeline.maxplus import recur
from pipeline.plan import Plan
from pipeline.schedules import make_schedule
from pipeline.simulate import simulate
from pipeline.stage import Stage
from pipeline.work import Arrays

from .environment import collect
from .text import table

#: Schedule, boxes, batches: some 40,000 actions each.
CASES = (("decoupled", 2, 8000), ("decoupled", 8, 2500), ("article", 8, 2500), ("locked", 8, 2500))
#: What only the recurrence can do in reasonable time: 20 million actions.
LARGE = ("article", 10_000, 1000)
HOP_NS = 300


class Found(NamedTuple):
    """What a kernel made of a plan."""

    makespan_ns: int
    actions: int


def make_plan(schedule: str, boxes: int, batches: int) -> Plan:
    """Return an untied plan without evaluations in between."""
    return Plan(
        boxes=boxes, batches=batches, epoch_batches=batches, evaluate_every=0, chunks=1,
        window=2 * (boxes + 1) if schedule == "decoupled" else 1, tied=False,
        rule="backward" if schedule == "locked" else "synthetic", target="bootstrapped", schedule=schedule,
        train=batches, batch=1, test=1,
    )  # fmt: skip


def make_costs(plan: Plan) -> Costs:
    """Return constant times, another for each stage, and one hop."""
    stages = range(1, plan.head + 1)
    actions = {(k, kind): (1000 + 10 * k,) for k in stages for kind in "FBTUE"}
    return Costs(actions, hops={(k, j): (HOP_NS,) for k in stages for j in plan.sources(k)})


def measure(repeats: int) -> dict[str, Any]:
    """Measure actions a second of each kernel, in turn."""
    if importlib.util.find_spec("simpy") is None:
        raise ConfigError("bench simulate holds the simulator against SimPy; install it: pip install 'timebox[bench]'")
    kernels: dict[str, Callable[[Plan, Costs], Any]] = {"events": simulate, "simpy": in_simpy, "max-plus": recur}
    rows = []
    tiny = make_plan("locked", 1, 2)
    in_simpy(tiny, make_costs(tiny))  # imports are nobody's time
    for schedule, boxes, batches in CASES:
        plan = make_plan(schedule, boxes, batches)
        costs = make_costs(plan)
        names = [name for name in kernels if name != "max-plus" or schedule != "decoupled"]
        seconds: dict[str, list[float]] = {name: [] for name in names}
        found = {}
        for repeat in range(repeats):
            for name in names if repeat % 2 else reversed(names):
                began = time.perf_counter()
                made = kernels[name](plan, costs)
                seconds[name].append(time.perf_counter() - began)
                found[name] = made.makespan_ns, made.actions
        if len(set(found.values())) != 1:
            raise ConfigError(f"bench simulate: the kernels disagree on {schedule} with {boxes} boxes: {found}")
        actions = found["events"][1]
        speeds = {name: actions / statistics.median(took) for name, took in seconds.items()}
        ratios = [other / own for own, other in zip(seconds["events"], seconds["simpy"], strict=True)]
        rows.append(
            {"schedule": schedule, "boxes": boxes, "actions": actions, "speeds": speeds, "over_simpy": sorted(ratios)}
        )
    return {"bench": "simulate", "repeats": repeats, "rows": rows, "large": _large(), "environment": collect()}


def _large() -> dict[str, Any]:
    import resource
    import sys

    schedule, boxes, batches = LARGE
    plan = make_plan(schedule, boxes, batches)
    began = time.perf_counter()
    made = recur(plan, make_costs(plan))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return {"boxes": boxes, "batches": batches, "actions": made.actions, "seconds": seconds, "peak_mb": peak}


def lines(document: dict[str, Any]) -> list[str]:
    """Return the table for people."""
    rows = []
    for row in document["rows"]:
        ratios = row["over_simpy"]
        speeds = [
            f"{row['speeds'][name]:,.0f}" if name in row["speeds"] else "–" for name in ("events", "simpy", "max-plus")
        ]
        spread = f"{ratios[0]:.1f} – {ratios[-1]:.1f}"
        rows.append(
            (row["schedule"], row["boxes"], f"{row['actions']:,}", *speeds, f"{statistics.median(ratios):.1f}", spread)
        )
    header = ("schedule", "boxes", "actions", "events/s", "SimPy/s", "max-plus/s", "over SimPy", "spread")
    large = document["large"]
    return [
        table(header, rows, left=(0,)),
        f"max-plus, {large['boxes']:,} boxes × {large['batches']:,} batches: {large['actions']:,} actions in "
        f"{large['seconds']:.2f} s, {large['actions'] / large['seconds']:,.0f} a second, "
        f"{large['peak_mb']:.0f} MB in all",
    ]


# The same model in SimPy


class _Member:
    """A stage as a SimPy process: port, work and watcher in one."""

    def __init__(self, environment: Any, plan: Plan, number: int, costs: Costs, members: dict[int, _Member]) -> None:
        self.stage = Stage(plan, number)
        self.schedule = make_schedule(plan, number)
        self.outputs: dict[str, Arrays] = dict.fromkeys(KINDS, ())
        self.inbox: deque[Message] = deque()
        self.leaving: list[Message] = []
        self.times = {kind: costs.actions.get((number, kind), (0,))[0] for kind in "FBTUE"}
        self.hops = {j: costs.hops[number, j][0] for j in plan.sources(number)}
        self.environment = environment
        self.members = members
        self.arrival: Any = None
        self.actions = 0

    def run(self) -> Generator[Any, Any, None]:
        """Do actions, each a timeout, and sleep for an arrival."""
        environment = self.environment
        while not self.stage.is_done:
            action = advance(self.stage, self.schedule, self, self, self)
            if action is None:
                self.arrival = environment.event()
                yield self.arrival
                continue
            self.actions += 1
            yield environment.timeout(self.times[action.kind])
            for message in self.leaving:
                self.post(message)
            self.leaving.clear()

    def post(self, message: Message) -> None:
        """Let a message arrive after a hop."""
        receiver = self.members[message.target]

        def arrive(_: Any) -> None:
            receiver.inbox.append(message)
            if receiver.arrival is not None and not receiver.arrival.triggered:
                receiver.arrival.succeed()

        self.environment.timeout(self.hops[message.target]).callbacks.append(arrive)

    def arrived(self) -> Iterable[tuple[Message, Arrays]]:
        """Yield what has arrived."""
        while self.inbox:
            yield self.inbox.popleft(), ()

    def send(self, message: Message, arrays: Arrays) -> None:  # noqa: ARG002
        """Let a message leave at the end of the action; a credit leaves at its beginning."""
        if message.kind.startswith("credit"):
            self.post(message)
        else:
            self.leaving.append(message)

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Nothing is computed."""

    def do(self, action: Action) -> Iterator[Part]:  # noqa: ARG002
        """Nothing is computed."""
        return iter(())

    def begin(self, action: Action) -> None:
        """Nobody watches."""

    def part(self, action: Action, part: Part) -> None:
        """Nobody watches."""

    def end(self, action: Action) -> None:
        """Nobody watches."""


def in_simpy(plan: Plan, costs: Costs) -> Found:
    """Run a plan in SimPy."""
    import simpy

    environment = simpy.Environment()
    members: dict[int, _Member] = {}
    for k in range(1, plan.head + 1):
        members[k] = _Member(environment, plan, k, costs, members)
    processes = [environment.process(member.run()) for member in members.values()]
    environment.run(simpy.AllOf(environment, processes))
    return Found(int(environment.now), sum(member.actions for member in members.values()))
