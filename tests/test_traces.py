"""BP(λ): the traces' gradients are those of λ-targets, a program is the reference, and nothing travels back between boxes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from network import (
    Network,
    check_history,
    make_config,
    make_plan,
    make_works,
    real_network,
    reference_of,
    run_hostile,
    run_prompt,
    split_of,
    telling,
    whims,
)
from test_reckon import counters, moves, take_in_all
from test_replay import Recorded, assert_bits, assert_same
from test_rules import assert_as_the_reference

from pipeline import traces
from pipeline.actions import ACTIVATION, EVALUATION, GRADIENT, INCREMENT, Action, Message
from pipeline.arrays import Array, Weights
from pipeline.box import BoxWork
from pipeline.cells import Form, Trail
from pipeline.cells_rnn import Rnn
from pipeline.costs import Costs
from pipeline.data import Batches
from pipeline.errors import ConfigError, DivergedError
from pipeline.payloads import Payloads
from pipeline.plan import Plan
from pipeline.probe import Probe, probed
from pipeline.reckon import reckon
from pipeline.reference import Reference
from pipeline.schema import Config
from pipeline.simulate import simulate
from pipeline.weights import digest
from pipeline.works import make_work

TRACED = {"oracle.target": "traced", "data.batch": 2, "data.train": 6}
WIDTH, ROWS, INPUTS = 4, 3, 2
RULES: dict[str, dict[str, Any]] = {
    "lambda 0": {"oracle.mix": 0.0},
    "lambda 0.5": {"oracle.mix": 0.5},
    "lambda 1, bias": {"oracle.mix": 1.0, "oracle.bias": True, "model.bias": True},
    "zero, one row": {"oracle.init": "zero", "data.batch": 1},
    "vectors": {"data.reading": "vector"},
    "scaled": {"oracle.scale": 0.5},
    "stash": {"schedule.weights": "stash"},
    "adam": {
        "train.optimizer": "adam",
        "train.optimizer_oracle": "adam",
        "train.rate_input": 0.01,
        "oracle.bias": True,
    },
    "momentum, clipped": {"train.optimizer_oracle": "momentum", "train.clip": 0.01, "train.decay": "linear"},
}


def config_of(boxes: int, schedule: str = "article", **more: Any) -> Config:
    """Return a tiny network with traced targets; a flag `model__width` is the key `model.width`."""
    return make_config(schedule, boxes, TRACED | {name.replace("__", "."): value for name, value in more.items()})


class Chain:
    """Boxes of one tied cell with an oracle in one process, in float64, whose weights stand still."""

    def __init__(self, boxes: int, steps: int, *, bias: bool, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.kinds = [
            Rnn(Form(INPUTS, WIDTH, steps, is_first=k == 0, bias=bias, dtype="float64")) for k in range(boxes)
        ]
        self.weights: Weights = self.kinds[0].first_weights(rng) | {"oracle_L": rng.standard_normal((WIDTH, WIDTH))}
        if bias:
            self.weights |= {"b": rng.standard_normal(WIDTH), "oracle_c": rng.standard_normal(WIDTH)}
        self.trails: list[Trail] = []
        h: Array | None = None
        for kind in self.kinds:
            self.trails.append(kind.forward(self.weights, rng.standard_normal((steps, ROWS, INPUTS)), h))
            h = self.trails[-1].h
        self.true = rng.standard_normal((ROWS, WIDTH))  # the gradient at the last activation

    def back(self, k: int, g: Array) -> Array:
        """Return the gradient at the entrance of a box."""
        back = self.kinds[k].backward(self.weights, self.trails[k], g, passes_on=True)[1]
        assert back is not None
        return back

    def guesses(self) -> list[Array]:
        """Return every box's prediction, the last one's true."""
        return [traces.guess(self.weights, trail.h) for trail in self.trails[:-1]] + [self.true]

    def backward_view(self, mix: float) -> Weights:
        """Return the sum of the oracle's gradients from traces."""
        found: Weights = {}
        came: traces.Traced | None = None
        for k, (trail, g) in enumerate(zip(self.trails, self.guesses(), strict=True)):
            for name, G in traces.learn(came, None if came is None else self.back(k, g)).items():
                found[name] = found.get(name, 0) + G
            came = traces.onward(self.weights, trail, g, came, mix)
        return found

    def targets(self, mix: float) -> Iterator[tuple[Array, Array, Array]]:
        """Yield activation, prediction and λ-target of every box but the last, from the end on."""
        guesses, target = self.guesses(), self.true
        for k in range(len(self.trails) - 2, -1, -1):
            target = self.back(k + 1, (1 - mix) * guesses[k + 1] + mix * target)
            yield self.trails[k].h, guesses[k], target

    def forward_view(self, mix: float) -> Weights:
        """Return the gradient of all ½‖ĝ − t‖², the means over rows."""
        parts = [(h, (g - target) / ROWS) for h, g, target in self.targets(mix)]
        found: Weights = {"oracle_L": sum(h.T @ error for h, error in parts)}  # type: ignore[dict-item]
        if "oracle_c" in self.weights:
            found["oracle_c"] = sum(error.sum(axis=0) for _, error in parts)  # type: ignore[assignment]
        return found


# The arithmetic


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("boxes", [2, 3, 5])
@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_the_gradients_from_traces_are_those_of_the_lambda_targets(
    mix: float, boxes: int, steps: int, bias: bool
) -> None:
    chain = Chain(boxes, steps, bias=bias)
    found, expected = chain.backward_view(mix), chain.forward_view(mix)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-10, atol=1e-10)


def test_with_lambda_1_every_target_is_the_true_gradient() -> None:
    chain = Chain(5, 2, bias=True)
    g, true = chain.true, []
    for k in range(4, 0, -1):
        g = chain.back(k, g)
        true.append(g)
    for (_, _, target), g in zip(chain.targets(1.0), true, strict=True):
        np.testing.assert_allclose(target, g, rtol=1e-12)


def test_with_lambda_0_every_target_is_the_bootstrapped_one() -> None:
    chain = Chain(4, 2, bias=False)
    guesses = chain.guesses()
    for k, (_, _, target) in zip((2, 1, 0), chain.targets(0.0), strict=True):
        np.testing.assert_array_equal(target, chain.back(k + 1, guesses[k + 1]))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_jacobian_by_central_differences(steps: int) -> None:
    rng = np.random.default_rng(steps)
    kind = Rnn(Form(INPUTS, WIDTH, steps, is_first=False, bias=True, dtype="float64"))
    weights, x, h = (
        kind.first_weights(rng),
        rng.standard_normal((steps, ROWS, INPUTS)),
        rng.standard_normal((ROWS, WIDTH)),
    )
    J = traces.jacobian(kind.forward(weights, x, h), weights["Wrec"])
    for i in range(WIDTH):
        e = np.zeros(WIDTH)
        e[i] = 1e-6
        slope = (kind.forward(weights, x, h + e).h - kind.forward(weights, x, h - e).h) / 2e-6
        np.testing.assert_allclose(J[:, :, i], slope, rtol=1e-7, atol=1e-9)


def test_the_jacobian_takes_back_what_backward_does() -> None:
    chain = Chain(2, 3, bias=True)
    J = traces.jacobian(chain.trails[1], chain.weights["Wrec"])
    np.testing.assert_allclose(np.einsum("rmi,rm->ri", J, chain.true), chain.back(1, chain.true), rtol=1e-12)


def test_a_trace_starts_with_the_activation_and_ones() -> None:
    h = np.arange(6.0).reshape(2, 3)
    E = traces.first_trace(h, bias=True)
    for row in range(2):
        for m in range(3):
            for j in range(3):
                np.testing.assert_array_equal(E[row, m, j], [*h[row], 1] if m == j else np.zeros(4))


def test_traces_change_nothing_that_they_are_given() -> None:
    chain = Chain(3, 2, bias=True)
    came = traces.onward(chain.weights, chain.trails[0], chain.guesses()[0], None, 0.5)
    copies = [array.copy() for array in (*came, chain.true, *chain.weights.values())]
    traces.learn(came, chain.true)
    traces.onward(chain.weights, chain.trails[1], chain.true, came, 0.5)
    for array, copy in zip((*came, chain.true, *chain.weights.values()), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


# The drivers


@pytest.mark.parametrize("boxes", [1, 2, 4])
@pytest.mark.parametrize("rule", RULES)
def test_by_article_it_gives_the_references_bits(rule: str, boxes: int) -> None:
    config = make_config("article", boxes, TRACED | RULES[rule])
    assert_as_the_reference(config)
    if boxes > 1:
        network = finished(config)
        for k in range(2, boxes + 1):
            assert_bits(network.works[k].weights(), network.works[1].weights())


@pytest.mark.parametrize("rule", RULES)
def test_decoupled_it_replays_to_the_same_bits(rule: str) -> None:
    for seed in range(2):
        config = make_config("decoupled", 3, TRACED | RULES[rule] | {"schedule.window": 1 + 3 * seed})
        assert_same(Recorded(config, seed))


def finished(config: Config) -> Network:
    """Return a network after its run."""
    network = real_network(config)
    run_prompt(network)
    return network


class Sent(Network):
    """A network that writes down what is sent."""

    def __init__(self, config: Config) -> None:
        plan = Plan.of(config)
        super().__init__(plan, make_works(config), None, Payloads(config, plan))
        self.sent: set[tuple[str, int, int]] = set()
        for k, port in self.ports.items():
            port.send = self._noted(port.send, k)  # type: ignore[method-assign]

    def _noted(self, send: Any, number: int) -> Any:
        def noted(message: Message, arrays: Any) -> None:
            if not message.kind.startswith("credit"):
                self.sent.add((message.kind, number, message.target))
            send(message, arrays)

        return noted


def test_nothing_travels_back_but_the_heads_gradient() -> None:
    network = Sent(config_of(3))
    run_prompt(network)
    onward = {(kind, k, k + 1) for kind in (ACTIVATION, EVALUATION) for k in (1, 2, 3)}
    shared = {(INCREMENT, j, k) for j in (1, 2, 3) for k in (1, 2, 3) if j != k}
    assert network.sent == onward | shared | {(GRADIENT, 4, 3)}
    # Boxes below the last settle by F alone; the last one waits for the head.
    assert network.journal("box-1").startswith("F0 U2.0 U3.0 F1")
    assert network.journal("box-3").startswith("U1.0 U2.0 F0 B0 U1.1")


def test_the_messages_carry_prediction_and_trace_to_boxes_alone() -> None:
    config = config_of(3, oracle__bias=True)
    payloads = Payloads(config, Plan.of(config))
    traced = ((2, 4), (2, 4), (2, 4, 4, 5))
    assert payloads.shapes(Message(ACTIVATION, 0, 1, 2)) == traced
    assert payloads.shapes(Message(ACTIVATION, 0, 3, 4)) == ((2, 4),)
    assert payloads.shapes(Message(EVALUATION, 0, 1, 2)) == ((5, 4),)
    assert payloads.shapes(Message(INCREMENT, 0, 1, 2)) == ((28, 4), (4, 4))
    assert payloads.shapes(Message(INCREMENT, 0, 2, 1)) == ((28, 4), (4, 4), (4, 4), (4,))
    assert payloads.most_bytes() == 4 * 2 * 4 * 4 * 5


@pytest.mark.parametrize("schedule", ["article", "decoupled"])
def test_no_timing_brings_a_deadlock_and_journals_tell_where_stages_stand(schedule: str) -> None:
    for seed in range(40):
        rng = random.Random(f"traced {schedule} {seed}")
        plan = make_plan(
            schedule,
            boxes=rng.randint(2, 5),
            batches=rng.randint(1, 8),
            window=rng.choice((1, 2, 7)) if schedule == "decoupled" else 0,
            rule="traced",
            target="traced",
            last="backward",
        )
        with telling(seed=seed, plan=plan):
            network = Network(plan, schedules=whims(plan, seed))
            run_hostile(network, seed)
            check_history(network)
            network = Network(plan, schedules=whims(plan, seed))
            for _ in zip(range(rng.randint(0, 200)), moves(network, rng), strict=False):
                pass
            take_in_all(network)
            for k, standing in reckon(plan, network.journals).items():
                assert counters(standing) == counters(network.stages[k]), plan.name(k)


def test_in_virtual_time_it_gives_the_references_bits() -> None:
    config = config_of(3)
    works = make_works(config)
    simulate(Plan.of(config), Costs(), works=works)
    assert [digest(work.weights()) for work in works.values()] == [
        digest(each) for each in reference_of(config).weights()
    ]


def test_one_box_falls_back_to_backward() -> None:
    plan = Plan.of(config_of(1))
    assert (plan.rule, plan.last) == ("backward", "")
    assert set(reference_of(config_of(1)).weights()[0]) == {"Wx", "Wrec"}


def test_the_probe_sees_the_prediction_before_it_is_learnt() -> None:
    config = config_of(3)
    plan = Plan.of(config)
    assert probed(plan, 4)
    batches = Batches(config, split_of(config.data))
    box, looks = make_work(config, plan, 1, batches), []
    assert isinstance(box, BoxWork)
    before = {name: W.copy() for name, W in box.weights().items()}
    parts = list(Probe(box, frozenset({0}), lambda _, look: looks.append(look)).do(Action("F", 0)))
    assert [part.name for part in parts] == ["forward", "probe", "update"]
    np.testing.assert_array_equal(looks[0]["g"], looks[0]["leaving"][-1] @ before["oracle_L"])
    np.testing.assert_array_equal(box.outputs[ACTIVATION][1], looks[0]["g"])


def test_a_box_that_computes_nothing_sends_what_messages_want() -> None:
    config = config_of(3, emulate__arithmetic=False, emulate__compute_ms=0.001)
    plan = Plan.of(config)
    works = {k: make_work(config, plan, k, Batches(config, split_of(config.data))) for k in range(1, plan.head + 1)}
    network = Network(plan, works, None, Payloads(config, plan))
    run_prompt(network)
    assert network.works[1].version == 3 * plan.batches


def test_a_trace_that_flies_off_stops_the_run() -> None:
    config = config_of(3)
    box = make_works(config)[2]
    h, guess, trace = (np.ones(shape, "f4") for shape in ((2, 4), (2, 4), (2, 4, 4, 4)))
    box.keep(Message(ACTIVATION, 0, 1, 2), (h, guess, 1e9 * trace))
    with pytest.raises(DivergedError, match="box-2: F0: the run has flown off: the oracle's gradient"):
        list(box.do(Action("F", 0)))


# What cannot be


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"model.tied": False}, "model.tied: .*add --model.tied true"),
        ({"model.cell": "gru"}, "model.cell: .*rnn, not gru"),
        ({"oracle.kind": "mlp"}, "oracle.kind: .*linear oracle, not of mlp"),
        ({"oracle.kind": "local"}, "oracle.kind: .*not of local; use linear"),
        ({"oracle.sees_label": True}, "oracle.sees_label: .*add --oracle.sees_label false"),
        ({"oracle.memory": 3}, "oracle.memory: .*add --oracle.memory 0"),
        ({"oracle.memory": 0, "oracle.replays": 2}, "oracle.replays: .*add --oracle.replays 0"),
        ({"oracle.cap": 2.0}, "oracle.cap: .*leave it out"),
        ({"oracle.correct": True}, "oracle.correct: .*leave it out"),
        ({"train.optimizer_oracle": "nlms"}, "train.optimizer_oracle: .*adam, momentum or sgd"),
        ({"schedule.kind": "locked"}, "schedule.kind: .*locked .*article or decoupled"),
        ({"schedule.kind": "own", "schedule.program": "box-1: F0\n"}, "schedule.kind: .*own .*article or decoupled"),
        ({"model.width": 400, "data.batch": 2}, "model.width, data.batch: .*512 MB a message, 256 at most"),
        (
            {"model.width": 200, "data.batch": 2, "schedule.kind": "decoupled", "schedule.window": 20},
            "schedule.window: .*up to 40 traces of .* a smaller window",
        ),
        (
            {
                "data.name": "copy",
                "data.reading": "vector",
                "model.steps_per_box": 6,
                "model.loss": "bce",
                "model.cell": "rnn",
            },
            "data.name: .*copy",
        ),
    ],
)
def test_what_traces_do_not_go_with_is_refused(flags: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{text}"):
        make_config("article", 2, TRACED | flags)


# Learning


def test_the_oracles_error_falls() -> None:
    flags = {
        "oracle.init": "zero",
        "oracle.mix": 0.9,
        "oracle.bias": True,
        "model.width": 8,
        "model.init": 0.5,
        "model.loss": "bce",
        "data.batch": 10,
        "data.train": 200,
        "train.epochs": 5,
        "train.rate_oracle": 0.3,
        "train.rate_input": 0.0,
        "train.rate_recurrent": 0.0,
        "train.rate_head": 0.0,
    }
    config = make_config("article", 4, TRACED | flags)
    reference = Reference(config, Batches(config, split_of(config.data)))
    before = sum(error_of(reference, batch) for batch in range(20))
    for _ in reference.run():
        pass
    assert sum(error_of(reference, batch) for batch in range(20)) < 0.75 * before


def error_of(reference: Reference, batch: int) -> float:
    """Return how far predictions are from the true gradients at a batch, as a sum of squares."""
    trails, h = {}, None
    for k in reference.cells:
        trails[k] = reference.forward(k, batch, h)
        h = trails[k].h
    assert h is not None
    costs = len(reference.costs)
    g: Array | None = reference.head(batch, h)
    del reference.costs[costs:]
    error = 0.0
    for k in range(len(trails), 1, -1):
        assert g is not None
        _, g = reference.kinds[k].backward(reference.cells[k], trails[k], g, passes_on=True)
        assert g is not None
        error += float(np.square(traces.guess(reference.cells[k], trails[k - 1].h) - g).sum())
    return error
