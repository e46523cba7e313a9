"""The driver's promise, and what follows from it: programs end with the reference's bits, greedy runs with their replay's.

Everything here is the product's own arithmetic, wire format and `advance`, in one process under hostile timing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from network import (
    Journalist,
    Network,
    Paperwork,
    make_config,
    make_plan,
    programs,
    real_network,
    reference_of,
    run_hostile,
    run_prompt,
    schedules,
    telling,
    whims,
)

from pipeline.actions import ACTIVATION, CREDIT_ACTIVATION, TARGET, Action, Message, format_journal, parse_journal
from pipeline.drive import advance
from pipeline.errors import ScheduleError, WireError
from pipeline.payloads import sends_factors
from pipeline.plan import Plan
from pipeline.schedules import Greedy, Program
from pipeline.schema import Config
from pipeline.stage import Stage
from pipeline.weights import digest
from pipeline.work import Arrays

pytestmark = pytest.mark.in_process

# Programs equal the reference


def digests(network: Network) -> list[str]:
    """Return the digest of each stage's weights."""
    return [digest(network.works[k].weights()) for k in network.numbers]


def first_digests(config: Config) -> list[str]:
    """Return the digest of each stage's weights before the first batch."""
    return digests(real_network(config))


def assert_equals_reference(config: Config, seed: int = 1) -> None:
    """Assert that a hostile run ends with the reference's weights, costs and judgements, bit for bit."""
    reference = reference_of(config)
    network = real_network(config)
    with telling(seed=seed, config=config):
        run_hostile(network, seed)
        assert digests(network) == [digest(weights) for weights in reference.weights()]
    head = network.works[network.plan.head]
    assert head.costs == reference.costs
    assert len(head.judged) == len(reference.judged) == network.plan.evaluations
    for judged, expected in zip(head.judged, reference.judged, strict=True):
        assert all(np.array_equal(mine, its) for mine, its in zip(judged, expected, strict=True))
    changed = [now != first for now, first in zip(digests(network), first_digests(config), strict=True)]
    assert changed[-2:] == [network.plan.rule != "frozen", True], "the last box and the head have learnt"


BATCHES = {1: (1, 2), 2: (1, 2), 4: (2, 3), 7: (3, 4)}  # by boxes: on both sides of where factors are smaller


@pytest.mark.parametrize("boxes", BATCHES)
def test_batch_sizes_stand_on_both_sides_of_factors(boxes: int) -> None:
    sends = [sends_factors(make_config("article", boxes, {"data.batch": batch})) for batch in BATCHES[boxes]]
    assert sends == ([True, False] if boxes > 1 else [False, False])


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("boxes", BATCHES)
@pytest.mark.parametrize(
    ("schedule", "target"), [("article", "bootstrapped"), ("article", "true"), ("locked", "bootstrapped")]
)
def test_a_program_equals_the_reference_bit_for_bit(schedule: str, target: str, boxes: int, tied: bool) -> None:
    for batch in BATCHES[boxes]:
        flags = {"model.tied": tied, "oracle.target": target, "data.batch": batch}
        assert_equals_reference(make_config(schedule, boxes, flags), seed=batch)


@pytest.mark.parametrize("schedule", ["article", "locked"])
@pytest.mark.parametrize("batch", [1, 2], ids=["factors", "dense"])
@pytest.mark.parametrize(
    "flags",
    [
        {"model.bias": True},
        {"oracle.sees_label": True, "oracle.bias": True},
        {"model.bias": True, "oracle.sees_label": True, "oracle.target": "true", "model.loss": "bce"},
        {"model.tied": False, "model.bias": True, "data.name": "mnist", "model.loss": "softmax"},
        {"model.dtype": "float64", "model.bias": True},
        {"oracle.init": "zero", "train.epochs": 4},
        {"oracle.kind": "frozen"},
        {"train.evaluate_every": 0},
    ],
    ids=lambda flags: ",".join(key.partition(".")[2] for key in flags),
)
def test_every_kind_of_network_equals_the_reference(schedule: str, batch: int, flags: dict[str, Any]) -> None:
    assert_equals_reference(make_config(schedule, 2, {"data.batch": batch, **flags}))


@pytest.mark.parametrize("schedule", ["article", "locked"])
@pytest.mark.parametrize("boxes", [2, 3])
def test_whole_images_equal_the_reference_too(schedule: str, boxes: int) -> None:
    """One step a box: box 1 has no recurrent factor, and a dense increment of it no Wrec."""
    for batch in (1, 400):
        flags = {"data.reading": "vector", "data.batch": batch, "data.train": batch + 1, "model.bias": True}
        config = make_config(schedule, boxes, flags)
        assert sends_factors(config) == (batch == 1)
        assert_equals_reference(config)


@pytest.mark.parametrize("schedule", ["article", "locked"])
def test_uneven_boxes_equal_the_reference(schedule: str) -> None:
    assert_equals_reference(make_config(schedule, 3, {"data.batch": 2}))


def test_timing_never_changes_a_programs_bits() -> None:
    config = make_config("article", 4)
    found = set()
    for seed in range(8):
        network = real_network(config)
        run_hostile(network, seed)
        found.add(tuple(digests(network)))
    assert len(found) == 1


# Greedy runs equal their replay

DECOUPLED = [
    {"model.tied": True},
    {"model.tied": True, "data.batch": 3, "model.bias": True},
    {"model.tied": False},
    {"model.tied": True, "oracle.target": "true"},
    {"model.tied": False, "oracle.target": "true", "oracle.sees_label": True},
]


def hostile_run(config: Config, seed: int) -> Network:
    """Return a decoupled run after its end, with random choices under random timing."""
    network = real_network(config, whims(Plan.of(config), seed))
    run_hostile(network, seed)
    return network


@pytest.mark.parametrize("flags", DECOUPLED, ids=lambda flags: ",".join(map(str, flags.values())))
@pytest.mark.parametrize("boxes", [1, 2, 4])
def test_a_journal_replays_the_same_bits(boxes: int, flags: dict[str, Any]) -> None:
    for window in (1, 3):
        config = make_config("decoupled", boxes, {"schedule.window": window, **flags})
        run = hostile_run(config, seed=window)
        texts = {k: format_journal(journal) for k, journal in run.journals.items()}
        replay = real_network(config, programs({k: parse_journal(text) for k, text in texts.items()}))
        run_hostile(replay, seed=window + 100)
        assert digests(replay) == digests(run)
        assert replay.journals == run.journals
        parts = [{k: watcher.parts for k, watcher in network.watchers.items()} for network in (run, replay)]
        assert parts[0] == parts[1], "the same versions were read and written"
        heads = [network.works[network.plan.head] for network in (run, replay)]
        assert heads[0].costs == heads[1].costs


def test_a_greedy_runs_bits_do_depend_on_timing() -> None:
    """What is *not* promised: else the replay would show nothing."""
    config = make_config("decoupled", 3, {"schedule.window": 3, "train.epochs": 4})
    assert len({tuple(digests(hostile_run(config, seed))) for seed in range(5)}) > 1


@pytest.mark.parametrize("flags", [{"model.bias": True}, {"data.batch": 4}], ids=["factors", "dense"])
def test_tied_replicas_of_a_decoupled_run_agree_to_rounding(flags: dict[str, Any]) -> None:
    config = make_config("decoupled", 4, {"schedule.window": 3, "model.dtype": "float64", "train.epochs": 4, **flags})
    assert sends_factors(config) == ("data.batch" not in flags)
    first = real_network(config).works[1].cell
    has_drift = False
    for seed in range(5):
        network = hostile_run(config, seed)
        mine = network.works[1].cell
        for k in (2, 3, 4):
            for name, array in network.works[k].cell.items():
                np.testing.assert_allclose(array, mine[name], rtol=0, atol=1e-13)
                has_drift |= not np.array_equal(array, mine[name])
        assert np.abs(mine["Wrec"] - first["Wrec"]).max() > 1e-4
    assert has_drift, "increments were summed in one order everywhere: nothing was shown"


# The promise


class Witness:
    """A schedule that notes what the stage and its work know at the moment of the choice."""

    def __init__(self, work: Paperwork) -> None:
        self._work = work
        self.seen: list[tuple[int, int, set[Message]]] = []

    def choose(self, stage: Stage) -> Action | None:
        """Note, then choose as the greedy schedule does."""
        self.seen.append((stage.activations, stage.backwards, set(self._work.kept)))
        return Greedy().choose(stage)


class Inbox:
    """A port whose letters come while they are read, as a socket's may; it notes what is sent."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)
        self.sent: list[Message] = []

    def arrived(self) -> Iterator[tuple[Message, Arrays]]:
        """Yield what has come."""
        while self.messages:
            yield self.messages.pop(0), ()

    def send(self, message: Message, arrays: Arrays) -> None:
        """Note what is sent."""
        assert arrays == ()
        self.sent.append(message)


def test_advance_takes_in_all_that_has_arrived_before_it_chooses() -> None:
    plan = make_plan("decoupled", boxes=2, batches=5, window=3)
    stage, work = Stage(plan, 2), Paperwork(plan, 2)
    witness = Witness(work)
    messages = [Message(ACTIVATION, 0, 1, 2), Message(ACTIVATION, 1, 1, 2), Message("increment", 0, 1, 2)]
    port = Inbox(*messages, Message(ACTIVATION, 2, 1, 2))
    action = advance(stage, witness, port, work, Journalist())
    assert witness.seen == [(3, 0, {*messages, Message(ACTIVATION, 2, 1, 2)})]
    assert action == Action("U", 0, 1), "the increment came last but one, and is preferred"
    port.messages.append(Message(ACTIVATION, 3, 1, 2))
    advance(stage, witness, port, work, Journalist())
    assert [activations for activations, _, _ in witness.seen] == [3, 4]


def test_advance_takes_in_what_arrived_even_if_it_has_to_wait() -> None:
    plan = make_plan("article", boxes=2)
    stage, work, port = Stage(plan, 2), Paperwork(plan, 2), Inbox(Message(ACTIVATION, 0, 1, 2))
    watcher = Journalist()
    assert advance(stage, Program(parse_journal("U1.0 F0")), port, work, watcher) is None
    assert (stage.activations, stage.forwards, port.sent, watcher.parts) == (1, 0, [], [])
    assert work.kept == {Message(ACTIVATION, 0, 1, 2)}


class Chronicle(Inbox):
    """Port, work and watcher in one: notes everything in the order in which `advance` does it."""

    def __init__(self, plan: Plan, number: int, *messages: Message) -> None:
        super().__init__(*messages)
        self.paper = Paperwork(plan, number)
        self.outputs = self.paper.outputs
        self.told: list[str] = []

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Note what is handed to the work."""
        self.told.append(f"keep {message.kind} {message.batch}")
        self.paper.keep(message, arrays)

    def do(self, action: Action) -> Iterator[Any]:
        """Note what is done."""
        self.told.append(f"do {action}")
        return self.paper.do(action)

    def send(self, message: Message, arrays: Arrays) -> None:
        """Note what is sent."""
        super().send(message, arrays)
        self.told.append(f"send {message.kind} {message.batch} to {message.target}")

    def begin(self, action: Action) -> None:
        """Note what begins."""
        self.told.append(f"begin {action}")

    def part(self, action: Action, part: Any) -> None:
        """Note which part has ended."""
        self.told.append(f"part {action} {part.name}")

    def end(self, action: Action) -> None:
        """Note what has ended."""
        self.told.append(f"end {action}")


def test_advance_takes_in_chooses_works_and_sends_in_this_order() -> None:
    plan = make_plan("decoupled", boxes=2, batches=3, window=1)
    stage = Stage(plan, 2)
    chronicle = Chronicle(plan, 2, Message(ACTIVATION, 0, 1, 2))
    assert advance(stage, Greedy(), chronicle, chronicle, chronicle) == Action("F", 0)
    assert chronicle.told == [
        "keep activation 0",
        f"send {CREDIT_ACTIVATION} 1 to 1",
        "begin F0",
        "do F0",
        "part F0 forward",
        "part F0 update",
        "send activation 0 to 3",
        "send target 0 to 1",
        "send increment 0 to 1",
        "end F0",
    ]


class Stubborn:
    """A schedule that asks for one action, enabled or not."""

    def __init__(self, action: Action) -> None:
        self.action = action

    def choose(self, stage: Stage) -> Action:
        """Return the action."""
        assert stage.plan.batches
        return self.action


def test_a_bad_schedule_is_stopped_by_the_rules_before_any_work() -> None:
    plan = make_plan("decoupled", boxes=2)
    chronicle = Chronicle(plan, 1)
    with pytest.raises(ScheduleError, match="box-1: T0 is not enabled"):
        advance(Stage(plan, 1), Stubborn(Action("T", 0)), chronicle, chronicle, chronicle)
    assert chronicle.told == []


def test_a_message_that_cannot_come_stops_the_driver_before_the_work_sees_it() -> None:
    plan = make_plan("decoupled", boxes=2)
    chronicle = Chronicle(plan, 1, Message(TARGET, 0, 2, 1))
    with pytest.raises(WireError, match="box-1: target 0 box-2>box-1 came out of order"):
        advance(Stage(plan, 1), Greedy(), chronicle, chronicle, chronicle)
    assert chronicle.told == []


def test_a_prompt_network_and_a_hostile_one_do_the_same_program() -> None:
    plan = make_plan("locked", boxes=4, batches=3)
    prompt, hostile = Network(plan, schedules=schedules(plan)), Network(plan)
    run_prompt(prompt)
    run_hostile(hostile, seed=5)
    assert prompt.journals == hostile.journals
