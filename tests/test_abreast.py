"""All stages abreast are the same stages: every action at the same nanosecond as on the heap of events."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.abreast import Counts, Times, abreast
from pipeline.actions import Action, Message, Part
from pipeline.costs import Costs
from pipeline.errors import ConfigError
from pipeline.lacks import Lack
from pipeline.plan import Plan
from pipeline.simulate import simulate

Seen = dict[tuple[int, str, int], tuple[int, int]]


def chain(schedule: str, boxes: int, batches: int, window: int) -> Plan:
    """Return an untied plan without evaluations."""
    return Plan(
        boxes=boxes, batches=batches, epoch_batches=batches, evaluate_every=0, chunks=0, window=window, tied=False,
        rule="synthetic" if schedule == "decoupled" else "backward", target="bootstrapped", schedule=schedule,
        train=batches, batch=1, test=1, weights="stash",
    )  # fmt: skip


class Eye:
    """Notes when a stage does what."""

    def __init__(self, number: int, seen: Seen) -> None:
        self.number, self.seen = number, seen

    def part(self, action: Action, part: Part, start_ns: int, end_ns: int) -> None:  # noqa: ARG002
        self.seen[self.number, action.kind, action.batch] = start_ns, end_ns

    def sent(self, message: Message, sequence: int, start_ns: int, end_ns: int) -> None:
        pass

    def taken(self, message: Message, sequence: int, arrived_ns: int, start_ns: int, end_ns: int) -> None:
        pass

    def waited(self, lack: Lack | None, start_ns: int, end_ns: int) -> None:
        pass

    def ended(self, action: Action, end_ns: int) -> None:
        pass


def both(plan: Plan, costs: Costs, seed: int) -> tuple[Seen, Seen]:
    """Return what either way of simulating does, and check that it adds up to the same."""
    seen: Seen = {}
    observers = {k: Eye(k, seen) for k in range(1, plan.head + 1)}
    events = simulate(plan, costs, seed=seed, observers=observers)
    found: Seen = {}

    def tell(kind: str, stages: Counts, batches: Counts, start: Times, end: Times, late: Counts) -> None:  # noqa: ARG001
        for k, *rest in zip(*(each.tolist() for each in (stages, batches, start, end)), strict=True):
            batch, *span = rest
            found[k + 1, kind, batch] = span[0], span[1]

    made = abreast(plan, costs, seed=seed, tell=tell)
    assert made.makespan_ns == events.makespan_ns
    assert made.actions == events.actions
    assert made.busy_ns.tolist() == [events.busy_ns[k] for k in range(1, plan.head + 1)]
    return seen, found


@pytest.mark.parametrize("schedule", ["decoupled", "locked", "1f1b"])
@pytest.mark.parametrize("seed", range(12))
def test_every_action_is_at_the_same_nanosecond_as_by_events(schedule: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, batches = int(rng.integers(1, 9)), int(rng.integers(1, 60))
    window = {"decoupled": int(rng.integers(1, 24)), "locked": 1, "1f1b": boxes + 1}[schedule]
    stages = range(1, boxes + 2)
    actions = {(k, kind): (int(rng.integers(900, 1100)),) for k in stages for kind in "FBT"}
    hops = {(k, j): (int(rng.integers(1, 5000)),) for k in stages for j in (k - 1, k + 1)}
    plan = chain(schedule, boxes, batches, window)
    for straggle in (0.0, 0.3):
        world = Costs(actions, hops=hops, latency_ns=int(rng.choice([0, 10, 3000])), straggle=straggle)
        seen, found = both(plan, world, seed)
        assert found == seen


@pytest.mark.parametrize("window", [1, 2, 3, 40])
@pytest.mark.parametrize("hop", [1, 500, 1000, 2000, 2500])
def test_ties_are_broken_as_by_events(window: int, hop: int) -> None:
    """Times are multiples of each other here, so activations and targets come at the same moment."""
    actions = {(k, kind): (1000,) for k in range(1, 8) for kind in "FT"}
    for straggle in (0.0, 0.2):
        seen, found = both(
            chain("decoupled", 6, 40, window), Costs(actions, latency_ns=hop, straggle=straggle, factor=3), 1
        )
        assert found == seen


def test_how_late_a_target_is_is_counted_in_batches_forwarded_since() -> None:
    """Two boxes, actions of 1, hops of 3, a window of 4. By hand:

    time     0  1  2  3  4  5  6  7  8  9  10 11 12
    box-1    F0 F1 F2 F3             T0 T1 T2 T3 F4     target 0 leaves box 2 at 5 and comes at 8, the others after it
    box-2                F0 F1 F2 F3             T0     at T0 box 1 has forwarded three batches more, at T3 none
    """
    late: dict[tuple[int, int], int] = {}
    start_of: dict[tuple[int, str, int], int] = {}

    def tell(kind: str, stages: Counts, batches: Counts, start: Times, end: Times, behind: Counts) -> None:  # noqa: ARG001
        for k, batch, at, by in zip(stages, batches, start, behind, strict=True):
            start_of[int(k) + 1, kind, int(batch)] = int(at)
            if kind == "T":
                late[int(k) + 1, int(batch)] = int(by)

    costs = Costs({(k, kind): (1,) for k in (1, 2, 3) for kind in "FT"}, latency_ns=3)
    abreast(chain("decoupled", 2, 12, 4), costs, tell=tell)
    assert [start_of[1, "F", i] for i in range(5)] == [0, 1, 2, 3, 12]
    assert [start_of[1, "T", i] for i in range(4)] == [8, 9, 10, 11]
    assert start_of[2, "T", 0] == 12
    assert [start_of[2, "F", i] for i in range(4)] == [4, 5, 6, 7]
    assert [late[1, i] for i in range(4)] == [3, 2, 1, 0]


def test_an_update_of_1f1b_is_as_late_as_there_are_stages_behind_it() -> None:
    late: dict[int, set[int]] = {}

    def tell(kind: str, stages: Counts, batches: Counts, start: Times, end: Times, behind: Counts) -> None:  # noqa: ARG001
        for k, batch, by in zip(stages, batches, behind, strict=True):
            if kind == "B" and 10 <= batch < 20:
                late.setdefault(int(k) + 1, set()).add(int(by))

    costs = Costs({(k, kind): (7,) for k in range(1, 6) for kind in "FB"}, latency_ns=3)
    abreast(chain("1f1b", 4, 40, 5), costs, tell=tell)
    assert late == {1: {4}, 2: {3}, 3: {2}, 4: {1}}


@pytest.mark.parametrize(
    ("plan", "costs"),
    [
        (chain("decoupled", 2, 4, 2)._replace(tied=True), Costs()),
        (chain("decoupled", 2, 4, 2)._replace(target="true"), Costs()),
        (chain("decoupled", 2, 4, 2)._replace(schedule="article"), Costs()),
        (chain("decoupled", 2, 4, 2)._replace(save_every=2), Costs()),
        (chain("1f1b", 2, 4, 2), Costs()),
        (chain("locked", 2, 4, 1), Costs(jitter_ns=1)),
        (chain("locked", 2, 4, 1), Costs({(1, "F"): (1, 2)})),
        (chain("locked", 2, 4, 1), Costs(cores=2)),
    ],
)
def test_what_it_does_not_know_is_refused(plan: Plan, costs: Costs) -> None:
    with pytest.raises(ConfigError, match="abreast"):
        abreast(plan, costs)
