"""What a stage knows, saved at a barrier and taken back: a run that goes on from it ends with the same bits.

A network is driven to a barrier, which is wherever no stage is let go on to batch c and nothing moves any more. One run goes on
with the works that it has, the other with new ones that were given the first one's states, through a file's bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from network import Network, make_config, make_works, real_network, run_prompt
from test_family import DATA, grown, small
from test_rules import CORRECTED, RULES

from pipeline.actions import Action, Part
from pipeline.arrays import Weights
from pipeline.box import BoxWork
from pipeline.data import batches as make_batches
from pipeline.errors import ConfigError, RunError
from pipeline.head import HeadWork
from pipeline.oracle_own import try_out
from pipeline.plan import Plan
from pipeline.schedules import Program
from pipeline.schema import Config
from pipeline.stage import Stage
from pipeline.sums import Sums
from pipeline.weights import digest
from pipeline.works import make_work

pytestmark = pytest.mark.in_process

Flags = dict[str, Any]

#: An oracle whose steps get smaller with each target, and which draws at random: neither is in its weights.
REMEMBERS = """
import numpy as np
class Oracle:
    def __init__(self, shape, rng):
        self.weights = {"M": np.zeros((shape.classes, shape.width), shape.dtype), "n": np.zeros((), np.int64)}
        self.seen, self.shift = 0, rng.standard_normal(shape.width).astype(shape.dtype)
    def predict(self, h, y, batch):
        return y @ self.weights["M"]
    def gradient(self, h, y, error):
        return {"M": y.T @ (error + self.shift) / self.seen}
    def see(self, h, y, target, batch):
        self.seen += 1
        self.weights["n"] += 1
        self.shift[:] = np.roll(self.shift, 1) * 0.9
    def state(self):
        return {"seen": np.array(self.seen), "shift": self.shift}
    def restore(self, arrays):
        self.seen, self.shift = int(arrays["seen"]), arrays["shift"]
"""
OWN: Flags = {"oracle.kind": "own", "oracle.code": REMEMBERS, "oracle.sees_label": True}
MEMORY: Flags = {"oracle.memory": 3, "oracle.replays": 2, "oracle.cap": 1.5}
ALL_ADAM: Flags = {
    "train.optimizer": "adam", "train.optimizer_head": "adam", "train.optimizer_oracle": "adam", "train.clip": 0.05,
    "train.decay": "cosine", "train.warmup": 2,
}  # fmt: skip
ALL_MOMENTUM: Flags = {f"train.optimizer{whose}": "momentum" for whose in ("", "_head", "_oracle")}
MORE: dict[str, Flags] = {
    "remembers": OWN,
    "remembers, memory": OWN | MEMORY,
    "memory": MEMORY | {"train.optimizer_oracle": "nlms"},
    "memory, adam": MEMORY | ALL_ADAM | {"oracle.sees_label": True},
    "local, adam": {"oracle.kind": "local"} | ALL_ADAM,
    "traced": {"oracle.target": "traced", "oracle.mix": 0.5},
    "traced, adam": {"oracle.target": "traced"} | ALL_ADAM,
    "true, momentum": {"oracle.target": "true"} | ALL_MOMENTUM,
    "double": {"model.dtype": "float64"} | ALL_ADAM | MEMORY,
}
PROGRAMS: dict[str, tuple[str, Flags]] = {
    "locked": ("locked", {}),
    "locked, adam": ("locked", ALL_ADAM),
    "gpipe": ("gpipe", {"schedule.micro_batches": 2} | ALL_MOMENTUM),
    "1f1b, flushed": ("1f1b", {"schedule.micro_batches": 2} | ALL_ADAM),
    "1f1b, stash": ("1f1b", {"schedule.weights": "stash", "model.tied": False} | ALL_ADAM),
    "delayed, stash": ("delayed", {"schedule.delay": 2, "schedule.weights": "stash", "model.tied": False}),
}
DRAINS = ("1f1b, stash", "delayed, stash")  # at the end of an epoch alone


#: Every rule with the schedules that it goes with, tied and untied; boxes that share an oracle are tied.
EACH = [
    (rule, schedule, tied)
    for rule in (*RULES, *MORE, *CORRECTED)
    for schedule in ("article", "decoupled")
    for tied in (True, False)
    if (tied or "traced" not in rule) and (schedule == "decoupled" or rule not in CORRECTED)
]
#: Every cell with the data that it goes with: dense layers see the data once.
CELLS = [(cell, data) for cell in ("rnn", "gru", "lstm") for data in DATA] + [
    ("dense", "vector"),
    ("dense", "addition"),
]


class Held:
    """A schedule that does not go on to some batch, nor to some evaluation."""

    def __init__(self, schedule: Any, batch: int, evaluation: int) -> None:
        self._schedule, self._most = schedule, {"F": batch, "E": evaluation}

    def _holds(self, action: Action | None) -> bool:
        return action is not None and action.batch >= self._most.get(action.kind, action.batch + 1)

    def choose(self, stage: Stage) -> Action | None:
        """Return the schedule's action, or None where it is held."""
        if isinstance(self._schedule, Program) and self._holds(self._schedule.upcoming):
            return None
        action: Action | None = self._schedule.choose(stage)
        return None if self._holds(action) else action

    def lack(self, stage: Stage) -> None:
        """Nobody asks."""


def held(config: Config, batch: int, *, is_evaluated: bool = True) -> Network:
    """Return a network at a barrier: all that comes before the forward of `batch` is done, evaluations only if asked for."""
    network = real_network(config)
    plan, own = network.plan, network.schedules
    evaluation = plan.due(batch) if is_evaluated else plan.due(max(batch - 1, 0))
    network.schedules = {k: Held(schedule, batch, evaluation) for k, schedule in own.items()}
    moves = True
    while moves:
        network.deliver_all()
        left = [k for k, stage in network.stages.items() if not stage.is_done]
        moves = any(action is not None for action in [network.move(k) for k in left])
    boxes = [network.stages[k] for k in range(1, plan.head)]
    assert {(box.forwards, box.settled) for box in boxes} == {(batch, batch)}
    network.schedules = own
    return network


def through_a_file(state: Weights) -> Weights:
    """Return a state as it comes back from an npz file."""
    stream = io.BytesIO()
    np.savez(stream, **state)  # type: ignore[arg-type]
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def states(network: Network) -> dict[int, Weights]:
    """Return each stage's state, through a file."""
    return {k: through_a_file(network.works[k].state()) for k in network.numbers}


def resumed(config: Config, batch: int, saved: dict[int, Weights], **more: Any) -> Network:
    """Return a network at the same barrier whose works are new, and know what was saved and nothing else."""
    network = held(config, batch, **more)
    works = make_works(config)
    for k, work in works.items():
        work.restore(saved[k])
        network.ports[k]._work = work
    network.works = works
    return network


def same(one: Weights, other: Weights) -> bool:
    """Whether two states are the same to the bit, in the same order."""
    told = [[(name, a.dtype.str, a.shape, a.tobytes()) for name, a in state.items()] for state in (one, other)]
    return told[0] == told[1]


def assert_goes_on(config: Config, batch: int, *, is_evaluated: bool = True) -> None:
    """Assert that a run that goes on from a barrier with new works ends as the one that goes on with its own."""
    whole = held(config, batch, is_evaluated=is_evaluated)
    saved = states(whole)
    again = resumed(config, batch, saved, is_evaluated=is_evaluated)
    assert all(same(saved[k], work.state()) for k, work in again.works.items()), "what was restored is what was saved"
    rows = len(whole.works[whole.plan.head].ledger.ended())
    for network in (whole, again):
        run_prompt(network)
    for k in whole.numbers:
        one, other = whole.works[k], again.works[k]
        assert digest(one.weights()) == digest(other.weights()), whole.plan.name(k)
        assert same(one.state(), other.state()), whole.plan.name(k)
    heads = [network.works[network.plan.head] for network in (whole, again)]
    assert heads[1].costs == heads[0].costs[-len(heads[1].costs) :]
    assert heads[1].ledger.rows() == heads[0].ledger.rows()[rows:]
    assert heads[1].ledger.final[-1].outputs.tobytes() == heads[0].ledger.final[-1].outputs.tobytes()
    assert heads[1].ledger.epochs == heads[0].ledger.epochs == 2 or whole.plan.reads


def config_of(schedule: str, boxes: int, flags: Flags, tied: bool = True) -> Config:
    """Return a tiny network: two epochs of three batches of two, or of four micro-batches of one."""
    micro = flags.get("schedule.micro_batches", 1)
    given = {"data.batch": 2, "data.train": 4 if micro > 1 else 6, "model.tied": tied, "model.bias": True}
    return make_config(schedule, boxes, given | flags)


@pytest.mark.parametrize(("rule", "schedule", "tied"), EACH)
def test_by_every_rule_a_run_goes_on_from_the_middle_of_an_epoch(rule: str, schedule: str, tied: bool) -> None:
    assert_goes_on(config_of(schedule, 3, (RULES | MORE | CORRECTED)[rule], tied), 4)


@pytest.mark.parametrize("batch", [0, 1, 3, 6])
@pytest.mark.parametrize("is_evaluated", [True, False])
def test_a_barrier_may_be_anywhere(batch: int, is_evaluated: bool) -> None:
    assert_goes_on(config_of("article", 3, MORE["memory, adam"]), batch, is_evaluated=is_evaluated)


@pytest.mark.parametrize("boxes", [1, 3])
@pytest.mark.parametrize("name", PROGRAMS)
def test_by_every_program_a_run_goes_on_where_nothing_is_in_flight(name: str, boxes: int) -> None:
    schedule, flags = PROGRAMS[name]
    config = config_of(schedule, boxes, flags, tied=flags.get("model.tied", True))
    for batch in (3,) if name in DRAINS else (2, 4):
        assert_goes_on(config, batch)


@pytest.mark.parametrize(("cell", "data"), CELLS)
def test_with_every_cell_and_all_data_a_run_goes_on(cell: str, data: str) -> None:
    flags = {"train.epochs": 2, "oracle.kind": "mlp", "oracle.sees_label": data not in ("copy", "repeat-copy")}
    assert_goes_on(small("article", cell, data, cell != "dense", **MEMORY, **ALL_ADAM, **flags), 4)


@pytest.mark.parametrize("schedule", ["article", "locked", "decoupled"])
@pytest.mark.parametrize("batch", [3, 6, 8, 9, 12])
def test_sequences_that_grow_go_on_growing(batch: int, schedule: str) -> None:
    """The head's words are said epochs ahead: at a barrier one may wait."""
    config = grown(schedule)
    for is_evaluated in (True, False):
        assert_goes_on(config, batch, is_evaluated=is_evaluated)
    saved = held(config, 9).works[1].state()
    assert saved["lengths.epochs"].tolist() == [1, 2]
    assert len(set(held(config, 21).works[4].levels)) > 1, "they grow"


# The action


@pytest.mark.parametrize("rule", ["memory, adam", "remembers, memory"])
def test_saving_is_an_action_whose_changes_are_the_whole_state(rule: str) -> None:
    network = held(config_of("article", 2, MORE[rule]), 4)
    for k in network.numbers:
        work, sums = network.works[k], Sums()
        assert list(work.do(Action("S", 4))) == [Part("save", work.version, work.version)]
        assert work.outputs == {}
        assert same(work.saved, work.state())
        assert same(work.changes, work.saved)
        sums.add(work.outputs, work.changes)
        assert len(sums.take()) == 4 * len(work.saved)
    run_prompt(network)


def test_a_box_that_computes_nothing_saves_as_well() -> None:
    config = make_config("article", 2, {"emulate.arithmetic": False, "emulate.compute_ms": 1.0})
    plan, batches = Plan.of(config), make_batches(config)
    work, other = (make_work(config, plan, 1, batches) for _ in range(2))
    assert isinstance(work, BoxWork)
    list(work.do(Action("F", 0)))
    assert list(work.do(Action("S", 1))) == [Part("save", 1, 1)]
    other.restore(through_a_file(work.saved))
    assert other.version == 1
    list(work.do(Action("F", 1)))
    assert work.changes == {}


@pytest.mark.parametrize("rule", [*MORE, "stale", "noise", "mlp", "own"])
def test_what_was_returned_does_not_change_when_the_stage_goes_on(rule: str) -> None:
    network = held(config_of("article", 2, (RULES | MORE)[rule]), 3, is_evaluated=False)
    taken = {k: network.works[k].state() for k in network.numbers}
    was = {k: {name: array.copy() for name, array in state.items()} for k, state in taken.items()}
    run_prompt(network)
    assert all(same(taken[k], was[k]) for k in taken)
    now = {k: network.works[k].state() for k in taken}
    assert not any(same(taken[k], now[k]) for k in taken)


def test_memory_does_not_grow_with_the_batches() -> None:
    """A head has no more to save after many epochs than after one."""
    config = config_of("article", 2, {"train.epochs": 9})
    network = real_network(config)
    head = network.works[3]
    head.ledger.keeps_all = False
    run_prompt(network)
    assert (head.ledger.epochs, len(head.costs), len(head.judged)) == (9, 3, 1)
    states = [held(config, batch).works[3].state() for batch in (3, 21)]
    assert [(name, array.shape) for name, array in states[0].items()] == [(n, a.shape) for n, a in states[1].items()]


# What is refused


def fresh(config: Config, k: int) -> BoxWork | HeadWork:
    """Return a new work."""
    return make_works(config)[k]


REFUSED: dict[str, Callable[[], tuple[Config, int, bool]]] = {
    "memory, adam": lambda: (config_of("article", 2, MORE["memory, adam"]), 4, True),
    "remembers": lambda: (config_of("article", 2, MORE["remembers, memory"]), 4, True),
    "momentum": lambda: (config_of("article", 2, ALL_MOMENTUM), 3, False),
    "local": lambda: (config_of("article", 2, MORE["local, adam"]), 4, True),
    "traced": lambda: (config_of("article", 2, MORE["traced, adam"]), 4, True),
    "noise": lambda: (config_of("article", 2, RULES["noise"]), 6, True),
    "mlp": lambda: (config_of("article", 2, RULES["recipe"]), 4, True),
    "images": lambda: (small("article", "gru", "rows", True, **{"train.epochs": 2}), 6, True),
    "numbers": lambda: (small("article", "rnn", "adding", True, **{"train.epochs": 2}), 6, True),
    "growing": lambda: (grown("article"), 9, False),
    "grown": lambda: (grown("locked"), 21, True),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_state_without_any_one_of_its_arrays_or_with_another_shape_is_refused(name: str) -> None:
    config, batch, is_evaluated = REFUSED[name]()
    for k, saved in states(held(config, batch, is_evaluated=is_evaluated)).items():
        fresh(config, k).restore(saved)
        stage = Plan.of(config).name(k)
        for each, array in saved.items():
            if not each.startswith("fitting.own."):  # whose names and shapes only its class knows
                with pytest.raises(RunError, match=rf"^{stage}: .*\b{each}\b"):
                    fresh(config, k).restore({other: there for other, there in saved.items() if other != each})
                for wrong in (array[None], array.astype(complex), array.astype("U")):
                    with pytest.raises(RunError, match=rf"^{stage}: {each} of the saved state is .* is wanted"):
                        fresh(config, k).restore(saved | {each: wrong})
            else:
                with pytest.raises(
                    RunError, match=r"fitting.own of the saved state tells of 2 arrays, and 1 are there"
                ):
                    fresh(config, k).restore({other: there for other, there in saved.items() if other != each})
        for unknown in ("Wz", "optimizer.M_Wz", "fitting.memory.9.h", "ledger.judged.99.places"):
            with pytest.raises(
                RunError, match=f"the saved state has {unknown}, which is nothing in this configuration"
            ):
                fresh(config, k).restore(saved | {unknown: np.zeros(3)})


def test_a_state_of_another_dtype_or_of_another_stage_is_refused() -> None:
    config = config_of("article", 2, {})
    saved = states(held(config, 4))
    double = config_of("article", 2, {"model.dtype": "float64"})
    with pytest.raises(
        RunError, match=r"box-1: Wx of the saved state is float32 \(28, 4\); float64 \(28, 4\) is wanted"
    ):
        fresh(double, 1).restore(saved[1])
    with pytest.raises(RunError, match="head: the saved state has no Wfc"):
        fresh(config, 3).restore(saved[1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", -1), ("ledger.forwards", 5), ("ledger.forwards", 99), ("ledger.epochs", 0), ("ledger.epochs", 2),
        ("ledger.evaluations", 0), ("ledger.evaluations", 2), ("ledger.judged", 1),
    ],
)  # fmt: skip
def test_counts_that_cannot_be_are_refused(name: str, value: int) -> None:
    config = config_of("article", 2, {})
    saved = states(held(config, 4))[3]
    with pytest.raises(RunError, match=r"head: .*ledger|head: version"):
        fresh(config, 3).restore(saved | {name: np.array([value])})


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ("return 3", "Oracle.state returned no dict of arrays of numbers"),
        ("return {'a': [1]}", "Oracle.state returned no dict of arrays of numbers"),
        ("return {'a': np.array([None])}", "Oracle.state returned no dict of arrays of numbers"),
        ("return {1: np.zeros(1)}", "Oracle.state returned no dict of arrays of numbers"),
        ("return {}", "Oracle.restore: KeyError: 'seen'"),
    ],
)
def test_an_oracle_whose_state_cannot_be_saved_is_refused_before_anything_starts(state: str, what: str) -> None:
    code = REMEMBERS.replace('return {"seen": np.array(self.seen), "shift": self.shift}', state)
    with pytest.raises(ConfigError, match=what):
        try_out(config_of("article", 2, OWN | {"oracle.code": code}))


def test_an_oracle_with_one_of_the_two_methods_has_its_weights_saved_alone() -> None:
    code = REMEMBERS.replace("def restore", "def other")
    saved = held(config_of("article", 2, OWN | {"oracle.code": code}), 4).works[1].state()
    assert [name for name in saved if name.startswith("fitting")] == []
    assert {"oracle_M", "oracle_n"} < set(saved)
