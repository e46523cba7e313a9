"""The max-plus recurrence gives the times of the event driver, action for action."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from network import make_plan, random_plan
from test_simulate import log_of

from pipeline.actions import parse_action
from pipeline.costs import Costs
from pipeline.emulation import Emulation
from pipeline.errors import ConfigError
from pipeline.maxplus import recur
from pipeline.plan import Plan
from pipeline.schema_emulate import Emulate
from pipeline.simulate import simulate


def constants(plan: Plan, rng: random.Random) -> Costs:
    """Return a constant for each action and each hop."""
    stages = range(1, plan.head + 1)
    return Costs(
        {(k, kind): (rng.randint(0, 50),) for k in stages for kind in "FTBUE"},
        hops={(k, j): (rng.randint(0, 40),) for k in stages for j in plan.sources(k)},
        latency_ns=rng.choice((0, 7)),
        emulation=Emulation(Emulate(slow={"box-1": 13e-6}, compute_ms={"F": 9e-6}), plan)
        if rng.random() < 0.3
        else None,
    )


@pytest.mark.parametrize("schedule", ["article", "locked"])
def test_the_recurrence_equals_the_event_driver_action_for_action(schedule: str) -> None:
    for seed in range(80):
        rng = random.Random(f"max-plus {schedule} {seed}")
        plan = random_plan(rng, schedule, 0)
        if plan.rule not in ("synthetic" if schedule == "article" else "backward", "frozen") or plan.last:
            with pytest.raises(ConfigError, match="simulate the others"):
                recur(plan, constants(plan, rng))
            continue
        costs = constants(plan, rng)
        found, run = simulate(plan, costs), recur(plan, costs, keep_ends=True)
        assert (run.makespan_ns, run.actions) == (found.makespan_ns, found.actions), (seed, plan)
        assert run.busy_ns.tolist() == list(found.busy_ns.values())
        ends: dict[tuple[int, str], list[int]] = defaultdict(list)
        for k, text, _, end in log_of(plan, costs):
            if text[0].isupper():
                action = parse_action(text)
                ends[k, f"U{action.sibling}" if action.sibling else action.kind].append(end)
        for (k, kind), times in ends.items():
            if kind[0] == "U" and len(kind) > 1:
                assert run.ends["U"][:, k - 1, int(kind[1:]) - 1].tolist() == times, (seed, k, kind)
            else:
                assert run.ends[kind][:, k - 1].tolist() == times, (seed, k, kind)


def test_thousands_of_stages_take_moments() -> None:
    plan = make_plan("locked", boxes=3000, batches=20, tied=False)
    costs = Costs({(k, kind): (1,) for k in range(1, plan.head + 1) for kind in "FB"})
    assert recur(plan, costs).makespan_ns == 20 * (2 * 3000 + 1)
    assert int(np.sum(recur(plan, costs).busy_ns)) == 20 * (2 * 3000 + 1)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"jitter_ns": 5}, "constant hops"),
        ({"cores": 1}, "a processor for each stage"),
        ({"bandwidth": 1e6}, "constant hops"),
        ({"straggle": 0.5}, "constant hops"),
        ({"actions": {(1, "F"): (1, 2)}}, "F has a distribution"),
        ({"hops": {(1, 2): (1, 2)}}, "a hop has a distribution"),
        ({"hops_of": {(1, 2, "activation"): (3,)}}, "constant hops"),
        ({"pauses": {1: (3,)}}, "free messages"),
        ({"sends": {(1, "activation"): (1,)}}, "free messages"),
    ],
)
def test_what_it_cannot_do_it_refuses(changed: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        recur(make_plan("article", boxes=2, batches=2), replace(Costs(), **changed))  # type: ignore[arg-type]


def test_a_greedy_schedule_has_no_fixed_order() -> None:
    with pytest.raises(ConfigError, match="decoupled has no fixed order"):
        recur(make_plan("decoupled", boxes=2, batches=2), Costs())
