"""Virtual time: bubbles that can be computed by hand, and that every plan comes to its end."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from network import Network, make_plan, random_plan, run_hostile

from pipeline.actions import ACTIVATION, KINDS, Action, Message, Part, parse_action
from pipeline.costs import Costs
from pipeline.errors import ScheduleError
from pipeline.lacks import Lack
from pipeline.plan import Plan
from pipeline.programs import program
from pipeline.schedules import Program
from pipeline.simulate import Simulated, simulate

MS = 1_000_000


def equal(plan: Plan, ms: int = 1, changed: dict[tuple[int, str], int] | None = None) -> Costs:
    """Return the same time for every F, B and T of the boxes and F of the head, but for what is changed."""
    times = {(k, kind): ms * MS for k in range(1, plan.head) for kind in "FBT"} | {(plan.head, "F"): ms * MS}
    return Costs({key: (ns,) for key, ns in (times | (changed or {})).items()})


@pytest.mark.parametrize("boxes", [1, 2, 3, 8])
@pytest.mark.parametrize("tied", [True, False])
def test_locked_has_one_batch_in_flight_and_nothing_overlaps(boxes: int, tied: bool) -> None:
    plan = make_plan("locked", boxes=boxes, batches=50, tied=tied)
    found = simulate(plan, equal(plan))
    assert found.makespan_ns == 50 * (2 * boxes + 1) * MS
    assert found.busy_ns == {k: 50 * (1 if k == plan.head else 2) * MS for k in range(1, plan.head + 1)}


@pytest.mark.parametrize("boxes", [1, 2, 5])
def test_decoupled_is_as_fast_as_its_slowest_stage(boxes: int) -> None:
    """F and T are 2 ms a batch in every box; the first box is never idle, the pipeline's ramp aside."""
    plan = make_plan("decoupled", boxes=boxes, batches=200, tied=False)
    found = simulate(plan, equal(plan))
    assert 400 * MS <= found.makespan_ns <= (400 + 2 * boxes + 2) * MS


def test_a_slow_box_holds_up_the_others() -> None:
    plan = make_plan("decoupled", boxes=3, batches=100, tied=False)
    found = simulate(plan, equal(plan, changed={(2, "F"): 20 * MS}))
    assert 100 * 21 * MS <= found.makespan_ns <= (100 * 21 + 10) * MS


def test_the_window_bounds_what_a_box_can_do_ahead() -> None:
    """With one batch in flight a decoupled box waits for each target: F1, F2 and T1 one after the other."""
    plan = make_plan("decoupled", boxes=2, batches=100, window=1, tied=False)
    assert simulate(plan, equal(plan)).makespan_ns >= 100 * 3 * MS


@pytest.mark.parametrize("schedule", ["article", "locked", "gpipe", "1f1b", "delayed", "decoupled"])
def test_every_plan_comes_to_its_end(schedule: str) -> None:
    for seed in range(60):
        rng = random.Random(f"virtual {schedule} {seed}")
        plan = random_plan(rng, schedule, rng.choice((0, 1, 2)) if schedule == "decoupled" else 0)
        durations = Costs({(k, kind): (rng.randint(0, 5),) for k in range(1, plan.head + 1) for kind in "FTBUE"})
        found = simulate(plan, durations)
        assert found.makespan_ns >= max(found.busy_ns.values())
        assert found == simulate(plan, durations), "the same again"


def test_a_run_of_no_time_takes_none() -> None:
    assert simulate(make_plan("article", boxes=2, batches=3), Costs()).makespan_ns == 0


def test_a_standstill_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stage.Stage._finish_forward", lambda *_: [])
    with pytest.raises(ScheduleError, match="comes to a standstill in virtual time: did"):
        simulate(make_plan("locked", boxes=2, batches=3), Costs())


@pytest.mark.parametrize(("boxes", "batches"), [(2, 8), (4, 4), (4, 32), (7, 2), (16, 3), (32, 100)])
def test_unit_costs_give_the_closed_form_of_a_pipeline_that_drains(boxes: int, batches: int) -> None:
    """Forwards alone, one unit each: m + n − 1 units for n stages and m batches, also with fewer batches than stages."""
    plan = make_plan("decoupled", boxes=boxes - 1, batches=batches, rule="frozen", tied=False)
    costs = Costs({(k, "F"): (MS,) for k in range(1, plan.head + 1)})
    found = simulate(plan, costs)
    assert found.makespan_ns == (batches + boxes - 1) * MS
    for busy in found.busy_ns.values():
        assert 1 - busy / found.makespan_ns == pytest.approx((boxes - 1) / (batches + boxes - 1))


def test_a_stage_that_sleeps_is_woken_by_an_earlier_arrival_that_is_sent_later() -> None:
    """Box 2 sleeps until activation 1 at 200 is known; gradient 0, sent later, arrives at 120, and T0 begins then."""
    plan = make_plan("decoupled", boxes=2, batches=4, tied=False)
    times = {(1, "F"): 100, (1, "T"): 1, (2, "F"): 10, (2, "T"): 50, (3, "F"): 10}
    begun: dict[str, int] = {}
    watch(
        plan,
        Costs({key: (ns,) for key, ns in times.items()}),
        lambda k, text, start, _: begun.update({f"{k} {text}": start}),
    )
    assert begun["2 T0"] == 120


class Watch:
    """Hands on what one stage does."""

    def __init__(self, number: int, tell: Callable[[int, str, int, int], object]) -> None:
        self.number = number
        self.tell = tell

    def part(self, action: Action, part: Part, start_ns: int, end_ns: int) -> None:  # noqa: ARG002
        self.tell(self.number, str(action), start_ns, end_ns)

    def sent(self, message: Message, sequence: int, start_ns: int, end_ns: int) -> None:  # noqa: ARG002
        self.tell(self.number, f"sent {message.kind} {message.batch} to {message.target}", start_ns, end_ns)

    def taken(self, message: Message, sequence: int, arrived_ns: int, start_ns: int, end_ns: int) -> None:  # noqa: ARG002
        self.tell(self.number, f"took {message.kind} {message.batch} from {message.source}", arrived_ns, end_ns)

    def waited(self, lack: Lack | None, start_ns: int, end_ns: int) -> None:  # noqa: ARG002
        self.tell(self.number, "waited", start_ns, end_ns)

    def ended(self, action: Action, end_ns: int) -> None:
        pass


def watch(plan: Plan, costs: Costs, tell: Callable[[int, str, int, int], object], *, seed: int = 0) -> Simulated:
    """Simulate and hand on what every stage does."""
    return simulate(plan, costs, seed=seed, observers={k: Watch(k, tell) for k in range(1, plan.head + 1)})


def log_of(plan: Plan, costs: Costs, *, seed: int = 0) -> list[tuple[int, str, int, int]]:
    """Return all that happens in a simulation."""
    log: list[tuple[int, str, int, int]] = []
    watch(plan, costs, lambda *what: log.append(what), seed=seed)
    return log


def rich(plan: Plan, rng: random.Random) -> Costs:
    """Return costs of every kind, as distributions."""
    stages = range(1, plan.head + 1)

    def some(most: int) -> tuple[int, ...]:
        return tuple(rng.randint(0, most) for _ in range(rng.choice((1, 3, 50))))

    return Costs(
        {(k, kind): some(900) for k in stages for kind in "FTBUE"},
        {(k, kind): some(50) for k in stages for kind in KINDS},
        {(k, kind): some(50) for k in stages for kind in KINDS},
        {(k, j): some(300) for k in stages for j in plan.sources(k)},
        latency_ns=rng.choice((0, 200)), jitter_ns=rng.choice((0, 100)), bandwidth=rng.choice((0.0, 1e9)),
        cores=rng.choice((0, 1, 2)), straggle=rng.choice((0.0, 0.1)),
    )  # fmt: skip


@pytest.mark.parametrize("schedule", ["article", "locked", "gpipe", "1f1b", "delayed", "decoupled"])
def test_every_kind_of_cost_comes_to_an_end_and_is_the_same_on_every_call(schedule: str) -> None:
    for seed in range(25):
        rng = random.Random(f"rich {schedule} {seed}")
        plan = random_plan(rng, schedule, rng.choice((0, 1, 2)) if schedule == "decoupled" else 0)
        costs = rich(plan, rng)
        log = log_of(plan, costs, seed=seed)
        assert log == log_of(plan, costs, seed=seed)


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_no_more_stages_are_at_work_than_there_are_processors(cores: int) -> None:
    plan = make_plan("decoupled", boxes=5, batches=30, tied=False)
    log = log_of(plan, replace(equal(plan), cores=cores))
    edges = sorted((at, step) for _, text, start, end in log if text[0] in "FT" for at, step in ((start, 1), (end, -1)))
    at_work = list(itertools.accumulate(step for _, step in edges))
    assert max(at_work) == cores


def test_one_processor_takes_as_long_as_all_the_work() -> None:
    plan = make_plan("decoupled", boxes=4, batches=50, tied=False)
    found = simulate(plan, replace(equal(plan), cores=1))
    assert found.makespan_ns == sum(found.busy_ns.values())


def test_a_link_carries_one_message_after_the_other_at_its_bandwidth() -> None:
    """Activations of 1,000 bytes at 1 MB a second take 1 ms each on their way; the first box makes one every 0.1 ms."""
    plan = make_plan("decoupled", boxes=1, batches=20, rule="frozen", tied=False, window=40)
    costs = Costs({(1, "F"): (MS // 10,)}, bandwidth=1e6)
    arrivals: list[int] = []

    def tell(k: int, text: str, start: int, _: int) -> None:
        if k == 2 and text.startswith("took activation"):
            arrivals.append(start)

    observers = {k: Watch(k, tell) for k in (1, 2)}
    simulate(plan, costs, weigh=lambda message: 1000 if message.kind == ACTIVATION else 0, observers=observers)
    assert arrivals == [MS // 10 + (place + 1) * MS for place in range(20)]


def test_messages_of_an_edge_never_overtake_each_other_whatever_the_jitter() -> None:
    plan = make_plan("decoupled", boxes=3, batches=60, tied=True)
    last: Counter[str] = Counter()
    for k, text, start, _ in log_of(plan, replace(equal(plan), jitter_ns=50 * MS), seed=3):
        if text.startswith("took"):
            edge = f"{text.rpartition(' ')[2]}>{k}"
            assert start >= last[edge]
            last[edge] = start


def test_a_straggler_takes_its_factor() -> None:
    plan = make_plan("decoupled", boxes=1, batches=2000, tied=False)
    took = Counter(
        end - start
        for _, text, start, end in log_of(plan, replace(equal(plan), straggle=0.1, factor=7.0))
        if text[0] in "FT"
    )
    assert set(took) == {MS, 7 * MS}
    assert 0.07 < took[7 * MS] / took.total() < 0.13


def test_what_chance_adds_to_one_thing_does_not_disturb_another() -> None:
    plan = make_plan("article", boxes=2, batches=40)
    costs = replace(equal(plan), actions=dict(equal(plan).actions) | {(1, "F"): (MS, 2 * MS, 3 * MS)})
    alone, beside = (log_of(plan, replace(costs, jitter_ns=jitter), seed=9) for jitter in (0, 5 * MS))
    assert [end - start for k, text, start, end in alone if (k, text[0]) == (1, "F")] == [
        end - start for k, text, start, end in beside if (k, text[0]) == (1, "F")
    ]


@pytest.mark.parametrize("schedule", ["article", "locked", "gpipe", "1f1b", "delayed", "decoupled"])
def test_journals_in_virtual_time_are_those_of_the_stages_elsewhere(schedule: str) -> None:
    """For programs: whatever things cost, the journal is the program; greedy runs differ, and each is one that replays."""
    for seed in range(10):
        rng = random.Random(f"journals {schedule} {seed}")
        plan = random_plan(rng, schedule, 2 if schedule == "decoupled" else 0)
        journals: dict[int, list[str]] = {k: [] for k in range(1, plan.head + 1)}

        def tell(k: int, text: str, _start: int, _end: int, journals: dict[int, list[str]] = journals) -> None:
            if text[0].isupper():
                journals[k].append(text)

        watch(plan, rich(plan, rng), tell, seed=seed)
        programs = {k: [parse_action(text) for text in texts] for k, texts in journals.items()}
        if schedule != "decoupled":
            assert programs == {k: list(program(plan, k)) for k in programs}
        network = Network(plan, schedules={k: Program(order) for k, order in programs.items()})
        run_hostile(network, seed)
        assert dict(network.journals) == programs
