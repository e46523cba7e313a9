"""Every cell on every kind of data: programs end with the reference's bits, decoupled runs with those of their replay.

Then the curriculum: sequences that grow by the head's word, in the arithmetic, in the rules and by the journals.
"""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from network import (
    Network,
    batches_of,
    check_history,
    make_plan,
    make_works,
    move_checked,
    programs,
    random_plan,
    real_network,
    reference_of,
    run_hostile,
    telling,
    whims,
)
from test_reckon import assert_possible, counters, moves, take_in_all
from test_replay import Recorded, assert_same
from test_rules import OWN
from test_stage import advanced, picture

from pipeline import grid, readout
from pipeline.actions import ACTIVATION, EVALUATION, LENGTH, Action, Message
from pipeline.config import resolve
from pipeline.costs import Costs
from pipeline.drawn import Examples
from pipeline.errors import ConfigError, ScheduleError, WireError
from pipeline.lacks import MESSAGE, Lack
from pipeline.ledger import Judged
from pipeline.maxplus import recur
from pipeline.plan import LAG, Plan
from pipeline.reckon import count, reckon
from pipeline.reckon import lack as lack_of
from pipeline.reference import Reference
from pipeline.replay import Replay
from pipeline.schedules import Greedy
from pipeline.schema import BY_STEP, Config
from pipeline.simulate import simulate
from pipeline.stage import Stage
from pipeline.standing import Standing
from pipeline.weights import digest

pytestmark = pytest.mark.in_process

Flags = dict[str, Any]

#: Three boxes on each kind of data.
DATA: dict[str, Flags] = {
    "vector": {"data.name": "mnist01", "model.loss": "squared"},
    "rows": {"data.name": "mnist", "data.reading": "rows", "model.loss": "softmax"},
    "copy": {
        "data.name": "copy",
        "data.bits": 2,
        "data.curriculum": False,
        "model.steps_per_box": 3,
        "model.loss": "bce",
    },
    "repeat-copy": {"data.name": "repeat-copy", "data.bits": 2, "model.steps_per_box": 3, "model.loss": "bce"},
    "adding": {"data.name": "adding", "data.length": 7, "model.loss": "mse"},
    "addition": {"data.name": "addition", "data.bits": 4, "model.loss": "bce"},
}
SCHEDULES: dict[str, Flags] = {
    "article": {},
    "article, true": {"oracle.target": "true"},
    "locked": {},
    "gpipe": {"schedule.micro_batches": 2},
    "1f1b, flushed": {"schedule.micro_batches": 2},
    "1f1b": {},
    "delayed": {"schedule.delay": 2},
}
LATE = ("1f1b", "delayed")
DENSE: list[tuple[str, str, bool]] = [("dense", data, False) for data in ("vector", "addition")]
#: Cell, data, and whether boxes are tied: dense layers see the data once, and are each box's own.
FAMILY = [(cell, data, tied) for cell in ("rnn", "gru", "lstm") for data in DATA for tied in (True, False)] + DENSE


def small(schedule: str, cell: str, data: str, tied: bool, boxes: int = 3, **more: Any) -> Config:
    """Return a network of width 6, three epochs of three batches, the last one smaller; of micro-batches all are whole."""
    flags: Flags = {
        "model.boxes": boxes, "model.width": 6, "model.cell": cell, "model.tied": tied, "model.bias": True,
        "model.init": 1.0, "data.train": 12 if more.get("schedule.micro_batches") else 10, "data.test": 5, "data.batch": 4,
        "data.bound": 1.0, "schedule.kind": schedule.partition(",")[0], "train.epochs": 3,
        "train.rate_input": 0.05, "train.rate_recurrent": 0.05, "train.rate_head": 0.05, "train.rate_oracle": 0.02,
    }  # fmt: skip
    return resolve(flags=flags | DATA[data] | more)


def assert_judged_alike(mine: list[Judged], others: list[Judged]) -> None:
    """Assert that evaluations said the same, to the bit."""
    assert len(mine) == len(others) > 0
    for one, other in zip(mine, others, strict=True):
        assert one.outputs.tobytes() == other.outputs.tobytes()
        assert (one.right, one.cost, one.level) == (other.right, other.cost, other.level)
        for name in ("places", "labels", "predictions"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


def digests(network: Network) -> list[str]:
    """Return the digest of each stage's weights."""
    return [digest(network.works[k].weights()) for k in network.numbers]


def assert_as_the_reference(config: Config, seed: int = 1) -> None:
    """Assert that a program under hostile timing ends with the reference's weights, costs and judgements, bit for bit."""
    network, reference = real_network(config), reference_of(config)
    first = digests(network)
    with telling(seed=seed, config=config):
        run_hostile(network, seed)
        assert network.leftovers() == []
        found = digests(network)
        assert found == [digest(each) for each in reference.weights()]
    head = network.works[network.plan.head]
    assert head.costs == reference.costs
    assert len(head.costs) == network.plan.batches
    assert len(head.judged) == network.plan.evaluations
    assert_judged_alike(head.judged, reference.judged)
    changed = [now != was for now, was in zip(found, first, strict=True)]
    if network.plan.reads:  # short sequences never reach the last box, and the head has no weights
        assert any(changed[:-1])
        assert not changed[-1]
    elif network.plan.rule != "frozen":
        assert all(changed)


class Recording(Recorded):
    """A recorded run of any data."""

    def replay(self, journals: Any = None, sums: Any = None) -> Replay:
        """Return a replay of the run."""
        return Replay(self.config, batches_of(self.config), self.journals | (journals or {}), self.sums | (sums or {}))


def assert_replays(config: Config, seed: int) -> Recording:
    """Assert that a decoupled run in random order is replayed to the same bits, costs and judgements; return it."""
    with telling(seed=seed, config=config):
        run = Recording(config, seed)
        assert_same(run)
        again = real_network(config, programs(run.journals))
        run_hostile(again, seed + 100)
        assert digests(again) == digests(run)
    assert run.leftovers() == []
    heads = [network.works[network.plan.head] for network in (run, again)]
    assert heads[0].costs == heads[1].costs
    assert_judged_alike(heads[0].judged, heads[1].judged)
    return run


# Cells and data


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("cell", "data", "tied"), FAMILY)
def test_every_program_gives_the_references_bits(cell: str, data: str, tied: bool, schedule: str) -> None:
    if tied and schedule in LATE:  # late steps of each box's own are nothing for shared weights
        tied, schedule = False, f"{schedule}, latest"
        flags: Flags = {**SCHEDULES[schedule.partition(",")[0]], "schedule.weights": "latest"}
    else:
        flags = SCHEDULES[schedule]
    assert_as_the_reference(small(schedule, cell, data, tied, **flags))


@pytest.mark.parametrize(("cell", "data", "tied"), FAMILY)
def test_a_decoupled_run_replays_to_the_same_bits(cell: str, data: str, tied: bool) -> None:
    for seed, target in enumerate(("bootstrapped", "true")):
        more: Flags = {"oracle.target": target, "schedule.window": 1 + 3 * seed}
        assert_replays(small("decoupled", cell, data, tied, **more), seed)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("data", DATA)
def test_a_single_box_gives_the_references_bits(cell: str, data: str) -> None:
    steps: Flags = {"model.steps_per_box": 8} if data in BY_STEP else {}
    for schedule in ("article", "locked"):
        assert_as_the_reference(small(schedule, cell, data, True, boxes=1, **steps))
    assert_replays(small("decoupled", cell, data, True, boxes=1, **steps), 2)


@pytest.mark.parametrize(("function", "layers"), [("relu", 2), ("tanh", 1), ("sigmoid", 3)])
def test_several_dense_layers_in_a_box_give_the_references_bits(function: str, layers: int) -> None:
    flags: Flags = {"model.function": function, "model.steps_per_box": layers}
    for schedule in ("article", "locked", "gpipe", "1f1b"):
        more = SCHEDULES[schedule]
        assert_as_the_reference(small(schedule, "dense", "addition", False, **flags, **more))
    assert_replays(small("decoupled", "dense", "vector", False, **flags), 3)


@pytest.mark.parametrize(("cell", "data"), [(cell, data) for cell, data, tied in FAMILY if not tied])
def test_a_step_of_backpropagation_is_the_derivative_of_the_cost(cell: str, data: str) -> None:
    """Of one batch through all boxes, by a few entries of each weight of each box: central differences of the cost."""
    flags: Flags = {"model.dtype": "float64", "data.curriculum": False, "model.function": "tanh", "train.epochs": 1}
    rates: dict[float, Flags] = {
        rate: {f"train.rate_{name}": rate for name in ("input", "recurrent", "head")} for rate in (1.0, 0.0)
    }
    configs = [small("locked", cell, data, False, **flags, **each) for each in rates.values()]
    stepped, still = (Reference(config, batches_of(config)) for config in configs)
    next(stepped.run())
    nats = 1.0  # of the mean over the rows, in a cost
    if isinstance(still.batches, Examples) and still.plan.reads:
        wanted = sum(int(still.batches.targets(0, k, 0)[1].sum()) for k in still.cells)
        nats = math.log(2) * wanted * still.batches.outputs / still.plan.rows(0)

    def cost() -> float:
        h = None
        for k in still.cells:
            h = still.forward(k, 0, h).h
        assert h is not None
        still.head(0, h)
        return still.costs[-1] * nats

    rng = np.random.default_rng(1)
    for k, weights in enumerate(still.weights()):
        for name, W in weights.items():
            step = W - stepped.weights()[k][name]
            places = {tuple(map(int, rng.integers(0, W.shape))) for _ in range(4)}
            places.add(tuple(map(int, np.unravel_index(np.abs(step).argmax(), W.shape))))
            for place in places:
                value, around = W[place], []
                for off in (1e-5, -1e-5):
                    W[place] = value + off
                    around.append(cost())
                W[place] = value
                assert abs((around[0] - around[1]) / 2e-5 - step[place]) < 1e-7, (k, name, place)


# Rules

LABELS = {"oracle.sees_label": True}
RULES: dict[str, Flags] = {
    "linear": {"oracle.bias": True},
    "linear, true": {"oracle.target": "true"},
    "linear, mixed": {"oracle.target": "mixed", "oracle.mix": 0.3},
    "linear, last waits": {"oracle.last": False},
    "mlp": {"oracle.kind": "mlp", "oracle.hidden": 5, "train.optimizer_oracle": "adam"},
    "mlp, recipe": {"oracle.kind": "mlp", "oracle.hidden": 5, "oracle.memory": 3, "oracle.replays": 2, "oracle.cap": 1.5},
    "local": {"oracle.kind": "local"},
    "delayed": {"oracle.kind": "delayed"},
    "noise": {"oracle.kind": "noise"},
    "stale": {"oracle.kind": "stale"},
    "adam": {"train.optimizer": "adam", "train.optimizer_head": "adam", "train.clip": 0.05, "train.decay": "linear"},
}  # fmt: skip
LABELLED: dict[str, Flags] = {
    "linear": LABELS,
    "mlp": RULES["mlp"] | LABELS,
    "stale": RULES["stale"] | LABELS,
    "own": {"oracle.kind": "own", "oracle.code": OWN, **LABELS},
    "scaled": {"oracle.scale": 0.5},
    "last": {"oracle.kind": "last"},
    "frozen": {"oracle.kind": "frozen"},
}
CORRECTED: dict[str, Flags] = {
    "correct": {"oracle.correct": True},
    "correct, true": {"oracle.correct": True, "oracle.target": "true"},
    "correct, last waits": {"oracle.correct": True, "oracle.last": False, "train.clip": 0.05},
}
TIED = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
LSTM_AND_BY_STEP = pytest.mark.parametrize(
    ("cell", "data"), [("lstm", "adding"), ("lstm", "copy"), ("gru", "repeat-copy"), ("rnn", "copy")]
)


@TIED
@LSTM_AND_BY_STEP
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_gives_the_references_and_the_replays_bits(rule: str, cell: str, data: str, tied: bool) -> None:
    assert_as_the_reference(small("article", cell, data, tied, **RULES[rule]))
    assert_replays(small("decoupled", cell, data, tied, **RULES[rule]), 4)


@pytest.mark.parametrize(
    ("cell", "data", "tied"),
    [("lstm", "adding", True), ("lstm", "addition", False), ("gru", "rows", True), *DENSE],
)
@pytest.mark.parametrize("rule", LABELLED)
def test_rules_of_a_label_give_the_references_and_the_replays_bits(rule: str, cell: str, data: str, tied: bool) -> None:
    assert_as_the_reference(small("article", cell, data, tied, **LABELLED[rule]))
    assert_replays(small("decoupled", cell, data, tied, **LABELLED[rule]), 5)


@LSTM_AND_BY_STEP
@pytest.mark.parametrize("rule", CORRECTED)
def test_corrections_give_the_references_and_the_replays_bits(rule: str, cell: str, data: str) -> None:
    assert_as_the_reference(small("article", cell, data, False, **CORRECTED[rule]))
    for tied in (True, False):
        assert_replays(small("decoupled", cell, data, tied, **CORRECTED[rule]), 6)


@pytest.mark.parametrize(
    ("cell", "data"),
    [("lstm", "adding"), ("gru", "rows"), ("rnn", "addition"), ("dense", "vector"), ("dense", "addition")],
)
def test_in_a_single_box_the_exact_gradient_is_that_of_backpropagation(cell: str, data: str) -> None:
    flags: Flags = {"oracle.kind": "exact"}
    exact = reference_of(small("article", cell, data, False, boxes=1, **flags))
    locked = reference_of(small("locked", cell, data, False, boxes=1))
    assert exact.costs == locked.costs
    assert [digest(each) for each in exact.weights()] == [digest(each) for each in locked.weights()]
    three = reference_of(small("article", cell, data, False, **flags))
    assert len(three.costs) == 9, "it has an order with more boxes too"


# Presets

SHRUNK: dict[str, Flags] = {
    "dense": {"data.source": "packaged"},
    "copy": {"data.bits": 2},
    "repeat-copy": {"data.bits": 2},
    "adding": {"data.length": 10, "oracle.hidden": 5},
    "addition": {"data.bits": 4},
}


def shrunk(preset: str, schedule: str) -> Config:
    """Return a preset with everything small."""
    flags = {"model.width": 8, "data.train": 10, "data.test": 6, "data.batch": 4, "data.bound": 1.0, "train.epochs": 3}
    return resolve(preset, flags=flags | SHRUNK[preset] | {"schedule.kind": schedule})


@pytest.mark.parametrize("preset", SHRUNK)
def test_a_small_preset_gives_the_references_and_the_replays_bits(preset: str) -> None:
    assert_as_the_reference(shrunk(preset, "article"))
    assert_replays(shrunk(preset, "decoupled"), 7)


def test_a_moment_of_a_replay_holds_the_tally_and_what_the_head_said() -> None:
    run = Recording(small("decoupled", "lstm", "copy", True), 8)
    forward = run.replay().until(2, Action("F", 4))
    assert {"entering_1", "entering_2", "activation_1", "activation_2"} <= set(forward.arrays)
    evaluated = run.replay().until(4, Action("E", 2))
    assert evaluated.arrays["prediction"].tobytes() == run.seen[4, Action("E", 2)].changes["ŷ"].tobytes()
    added_up = run.replay().until(4, Action("F", 4))
    assert not added_up.arrays["gradient_sent"].any()


# Sequences that grow


def grown(schedule: str, tied: bool = True, **more: Any) -> Config:
    """Return a network that copies repeatedly and whose sequences get longer within seven epochs."""
    return small(schedule, "gru", "repeat-copy", tied, **{"model.init": 0.3, "train.epochs": 7, **more})


def levels(work: Any) -> list[int]:
    """Return what a head, or a reference, has decided, epoch by epoch."""
    assert work.curriculum is not None
    return list(work.curriculum.levels)


def lengths_sent(network: Network) -> list[tuple[Message, list[float]]]:
    """Return a list that fills with the `length` messages of a network, and what they carry."""
    sent: list[tuple[Message, list[float]]] = []
    for port in network.ports.values():

        def watch(message: Message, arrays: Any, send: Any = port.send) -> None:
            if message.kind == LENGTH:
                sent.append((message, [float(each) for array in arrays for each in array]))
            send(message, arrays)

        port.send = watch  # type: ignore[method-assign]
    return sent


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_by_every_program_sequences_grow_as_in_the_reference(schedule: str) -> None:
    config = grown(schedule, tied=schedule not in LATE, **SCHEDULES[schedule])
    assert_as_the_reference(config)
    network, reference = real_network(config), reference_of(config)
    sent = lengths_sent(network)
    run_hostile(network, 2)
    found, plan = levels(network.works[4]), network.plan
    assert found == levels(reference)
    assert found[0] == 1 < max(found), "they grow"
    assert [each.level for each in reference.judged] == found[: len(reference.judged)]
    wanted = [int(each.labels[0]) for each in reference.judged]
    assert wanted == sorted(wanted)
    assert wanted[0] < wanted[-1], "a longer sequence has more bits"
    assert plan.lengths == len(sent) == 5
    assert [message for message, _ in sent] == [Message(LENGTH, epoch, 4, 1) for epoch in range(5)]
    assert [told for _, told in sent] == [[level] for level in found[LAG:7]]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("window", "train"), [(1, 10), (5, 10), (12, 4)], ids=["one", "some", "an epoch a batch"])
def test_decoupled_sequences_grow_as_in_the_replay(window: int, train: int, tied: bool) -> None:
    config = grown("decoupled", tied, **{"schedule.window": window, "data.train": train, "train.epochs": 9})
    run = assert_replays(config, window)
    again = real_network(config, programs(run.journals))
    run_hostile(again, 9)
    found, size = levels(run.works[4]), run.plan.epoch_batches
    assert levels(again.works[4]) == found
    assert found[0] == 1 < max(found)
    for batch in range(run.plan.batches):
        for k in (1, 2, 3):
            tally = run.seen[k, Action("F", batch)].outputs[ACTIVATION][1]
            assert set(tally[:, readout.LEVEL]) == {found[batch // size]}
    for evaluation, judged in enumerate(run.works[4].judged):
        assert judged.level == found[evaluation]
        assert run.seen[1, Action("E", evaluation)].outputs[EVALUATION][1][0, readout.LEVEL] == judged.level


def test_a_batch_of_a_higher_level_is_wanted_at_more_steps() -> None:
    """What the tally behind the last box counts is what the task wants of a level."""
    run = Recording(grown("decoupled"), 3)
    told = {}
    for batch in range(run.plan.batches):
        tally = run.seen[3, Action("F", batch)].outputs[ACTIVATION][1]
        told[int(tally[0, readout.LEVEL])] = set(tally[:, readout.WANTED])
    # (length · repeats + 1) steps of two bits and the end marker's output
    assert told == {level: {float(3 * steps)} for level, steps in ((1, 2), (2, 3), (3, 5)) if level in told}
    assert len(told) > 1


def test_without_a_curriculum_all_are_as_long_as_they_can_be_and_nobody_is_told() -> None:
    config = grown("decoupled", **{"data.curriculum": False})
    network = real_network(config)
    sent = lengths_sent(network)
    run_hostile(network, 1)
    assert (sent, network.plan.lengths, network.plan.grows) == ([], 0, False)
    assert {each.level for each in network.works[4].judged} == {3}
    assert network.plan.sources(1) == (2, 3), "no edge from the head, but those of tied boxes"


def test_in_virtual_time_sequences_grow_alike() -> None:
    config = grown("article")
    works = make_works(config)
    reference = reference_of(config)
    simulate(Plan.of(config), Costs(latency_ns=7), works=works)
    assert [digest(work.weights()) for work in works.values()] == [digest(each) for each in reference.weights()]
    assert levels(works[4]) == levels(reference)


@pytest.mark.parametrize("schedule", ["article", "locked"])
def test_max_plus_knows_of_the_heads_word_or_refuses(schedule: str) -> None:
    """Where the way from the head is long, box 1 waits for it: a recurrence that says nothing of that is wrong."""
    costs = Costs({(k, kind): (1000 * k,) for k in range(1, 5) for kind in "FTBUE"}, hops={(4, 1): (50_000,)})
    for tied in (True, False):
        plan = make_plan(schedule, boxes=3, batches=6, epoch_batches=1, tied=tied, grows=True)
        assert recur(plan._replace(grows=False), costs).makespan_ns < simulate(plan, costs).makespan_ns
        try:
            found = recur(plan, costs).makespan_ns
        except ConfigError:
            continue
        assert found == simulate(plan, costs).makespan_ns


def test_a_users_program_that_waits_for_a_word_which_cannot_come_is_refused_before_it_runs() -> None:
    """Box 1 is to forward three epochs before box 2 forwards one: the head cannot know of the first."""
    lines = ["box-1: F0 F1 F2 T0 T1 T2 U2.0 U2.1 U2.2", "box-2: U1.0 U1.1 U1.2 F0 T0 F1 T1 F2 T2", "head: F0 F1 F2"]
    flags: Flags = {"schedule.program": "\n".join(lines), "train.epochs": 3, "train.evaluate_every": 0}
    grid.check(small("own", "gru", "repeat-copy", True, boxes=2, **flags, **{"data.train": 12}))
    with pytest.raises(ConfigError, match="length 0 from head"):
        grid.check(small("own", "gru", "repeat-copy", True, boxes=2, **flags, **{"data.train": 4}))


# The head's word by the rules

PLAN = make_plan("decoupled", boxes=2, batches=12, epoch_batches=3, window=20, tied=False, evaluate_every=0, grows=True)
ASKED = Lack(MESSAGE, LENGTH, 0, 3)


@pytest.fixture
def box() -> Stage:
    """Box 1 of two, which has forwarded two epochs of three batches and lacks the head's word of the first."""
    return advanced(PLAN, 1, *(Action("F", batch) for batch in range(6)))


def test_box_1_asks_for_the_heads_word_at_the_first_batch_of_each_epoch_from_the_third_on(box: Stage) -> None:
    stage, asked = Stage(PLAN, 1), {}
    for batch in range(PLAN.batches):
        action = Action("F", batch)
        lack = stage.lack(action)
        if lack is not None:
            asked[batch] = lack
            with pytest.raises(ScheduleError, match="length"):
                stage.start(action)
            stage.receive(Message(LENGTH, lack.batch, lack.source, 1))
        stage.start(action)
        stage.finish(action)
    assert asked == {6: Lack(MESSAGE, LENGTH, 0, 3), 9: Lack(MESSAGE, LENGTH, 1, 3)}
    assert len(asked) == PLAN.lengths
    assert stage.forward_lack() is not None
    assert not stage.forward_lack().is_wait  # type: ignore[union-attr]
    assert all(Stage(PLAN, k).lengths_due == 0 for k in (1, 2, 3))
    plain = advanced(PLAN._replace(grows=False), 1, *(Action("F", batch) for batch in range(6)))
    assert plain.lack(Action("F", 6)) is None
    assert box.lack(Action("F", 6)) == ASKED


def test_who_waits_for_the_heads_word_says_so(box: Stage) -> None:
    assert box.refusal(Action("F", 6)) == "waiting: length 0 from head"
    assert box.waiting() == "target 0 from box-2; length 0 from head"
    assert box.intake() == Greedy().lack(box) == ASKED
    assert ASKED.is_wait
    assert ASKED.is_blocked(1)
    with pytest.raises(ScheduleError, match="box-1: F6 is not enabled: waiting: length 0 from head; did F0 F1"):
        box.start(Action("F", 6))


def test_the_head_tells_after_each_epoch_that_another_one_hangs_on() -> None:
    stage, sent = Stage(PLAN, 3), {}
    for batch in range(PLAN.batches):
        stage.receive(Message(ACTIVATION, batch, 2, 3))
        stage.start(Action("F", batch))
        sent[batch] = [message for message in stage.finish(Action("F", batch)) if message.kind == LENGTH]
    told = {batch: messages for batch, messages in sent.items() if messages}
    assert told == {2: [Message(LENGTH, 0, 3, 1)], 5: [Message(LENGTH, 1, 3, 1)]}


@pytest.mark.parametrize(
    ("came", "number", "message", "text"),
    [
        (0, 1, Message(LENGTH, 1, 3, 1), "length 1 head>box-1 came out of order, batch 0 was expected"),
        (1, 1, Message(LENGTH, 0, 3, 1), "length 0 head>box-1 came out of order, batch 1 was expected"),
        (2, 1, Message(LENGTH, 2, 3, 1), "length 2 head>box-1 came out of order"),
        (0, 1, Message(LENGTH, 0, 2, 1), "length 0 box-2>box-1 cannot come here"),
        (0, 1, Message(LENGTH, 0, 3, 2), "length 0 head>box-2 is not for this stage"),
        (0, 2, Message(LENGTH, 0, 3, 2), "length 0 head>box-2 cannot come here"),
        (0, 2, Message(LENGTH, 0, 3, 1), "length 0 head>box-1 is not for this stage"),
        (0, 3, Message(LENGTH, 0, 1, 3), "length 0 box-1>head cannot come here"),
    ],
)
def test_a_word_out_of_order_or_to_another_is_refused(came: int, number: int, message: Message, text: str) -> None:
    stage = advanced(PLAN, number)
    if number == 1:
        stage = advanced(PLAN, 1, *(Action("F", batch) for batch in range(6)))
    for n in range(came):
        stage.receive(Message(LENGTH, n, 3, 1))
    before = picture(stage)
    with pytest.raises(WireError) as caught:
        stage.receive(message)
    assert str(caught.value).startswith(f"{PLAN.name(number)}: {text}")
    assert picture(stage) == before


def test_a_run_whose_sequences_do_not_grow_takes_no_word() -> None:
    with pytest.raises(WireError, match="length 0 head>box-1"):
        Stage(PLAN._replace(grows=False), 1).receive(Message(LENGTH, 0, 3, 1))


# Random runs, and where they stand by their journals

RUNS = [("article", 0), ("locked", 0), ("gpipe", 0), ("1f1b", 0), ("delayed", 0), ("decoupled", 1), ("decoupled", 5)]


@pytest.mark.parametrize(("schedule", "window"), RUNS)
def test_grown_runs_come_to_their_end_with_as_many_words_as_planned(schedule: str, window: int) -> None:
    for seed in range(20):
        plan = random_plan(random.Random(f"grown {schedule} {window} {seed}"), schedule, window, grows=True)
        with telling(seed=seed, plan=plan):
            network = Network(plan, schedules=whims(plan, seed))
            sent = lengths_sent(network)
            run_hostile(network, seed)
            check_history(network)
            told = [message for message, _ in sent]
            assert told == [Message(LENGTH, epoch, plan.head, 1) for epoch in range(plan.lengths)]
            assert plan.lengths == plan.batches // plan.epoch_batches - LAG >= 1


def grown_counters(standing: Standing) -> dict[str, object]:
    """Return all counters of a stage by their names."""
    return {**counters(standing), "lengths": standing.lengths, "due": standing.lengths_due}


def stopped(schedule: str, window: int, seed: int) -> tuple[Plan, Network, random.Random]:
    """Return a grown network that was stopped at some moment."""
    rng = random.Random(f"stopped {schedule} {window} {seed}")
    plan = random_plan(rng, schedule, window, grows=True)
    network = Network(plan, schedules=whims(plan, seed))
    for _ in zip(range(rng.randint(0, 600)), moves(network, rng), strict=False):
        pass
    return plan, network, rng


@pytest.mark.parametrize(("schedule", "window"), RUNS)
def test_journals_of_grown_runs_tell_where_stages_stand(schedule: str, window: int) -> None:
    told = set()
    for seed in range(25):
        plan, network, rng = stopped(schedule, window, seed)
        take_in_all(network)
        with telling(seed=seed, plan=plan):
            for k, standing in reckon(plan, network.journals).items():
                assert grown_counters(standing) == grown_counters(network.stages[k]), plan.name(k)
            told.add(network.stages[1].lengths)
            lagging = {k: journal[: rng.randint(0, len(journal))] for k, journal in network.journals.items()}
            for k, standing in reckon(plan, lagging).items():
                least, real = count(plan, k, lagging[k]), network.stages[k]
                for name in ("forwards", "trained", "evaluated"):
                    assert getattr(least, name) <= getattr(standing, name) <= getattr(real, name), name
                assert_possible(standing)
                assert standing.lengths <= real.lengths
                if k == 1 and standing.forwards:
                    assert standing.lengths >= min(plan.lengths_before(standing.forwards - 1), plan.lengths)
    assert len(told) > 1, "some were told, some were not"


@pytest.mark.parametrize(("schedule", "window"), RUNS)
def test_who_waits_leads_to_the_stage_that_is_never_moved_again(schedule: str, window: int) -> None:
    asked = 0
    for seed in range(12):
        rng = random.Random(f"still {schedule} {window} {seed}")
        plan = random_plan(rng, schedule, window, grows=True)
        network, still = Network(plan), rng.randint(1, plan.head)
        for _ in zip(range(rng.randint(0, 200)), moves(network, rng), strict=False):
            pass
        for _ in moves(network, rng, still):
            pass
        network.deliver_all()
        assert not any(move_checked(network, k) for k in network.numbers if k != still), "at rest"
        standings = reckon(plan, network.journals)
        if standings[still].is_done:
            continue
        with telling(seed=seed, plan=plan, still=still):
            for k in (k for k in network.numbers if not standings[k].is_done):
                at, seen = k, set()
                while (waits := lack_of(standings[at])) is not None:
                    assert waits.is_wait
                    assert at not in seen, "a circle"
                    seen.add(at)
                    asked += waits.kind == LENGTH
                    at = waits.source
                assert at == still
    assert asked or (schedule, window) != ("decoupled", 5), "nobody ever waited for the head's word"
