"""What `gpipe`, `1f1b` and `delayed` compute, held against models that share nothing with them, in float64 and to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from network import Network, make_config, make_works, real_network, run_hostile

from pipeline.arrays import Array, Weights
from pipeline.data import Batches, load
from pipeline.plan import Plan
from pipeline.reference import Reference
from pipeline.schema import Config

pytestmark = pytest.mark.in_process
FLAGS: dict[str, Any] = {
    "data.batch": 8,
    "data.train": 48,
    "data.test": 20,
    "model.tied": False,
    "model.dtype": "float64",
    "train.epochs": 3,
    "train.rate_input": 0.3,
    "train.rate_recurrent": 0.3,
    "train.rate_head": 0.3,
}


def config_of(kind: str, boxes: int = 3, **flags: Any) -> Config:
    """Return a small network, its rates high enough that an update at the wrong time shows."""
    return make_config(kind, boxes, {**FLAGS, **{key.replace("__", "."): value for key, value in flags.items()}})


def trained(config: Config, seed: int = 0) -> list[Weights]:
    """Return every stage's weights after a run whose messages come at random times."""
    plan = Plan.of(config)
    network = real_network(config)
    run_hostile(network, seed)
    return [network.works[k].weights() for k in range(1, plan.head + 1)]


def referred(config: Config) -> list[Weights]:
    """Return the reference's weights."""
    reference = Reference(config, Batches(config, load(config.data)))
    list(reference.run())
    return reference.weights()


def apart(a: list[Weights], b: list[Weights]) -> float:
    """Return the largest difference of two networks' weights."""
    return max(float(np.abs(one[name] - other[name]).max()) for one, other in zip(a, b, strict=True) for name in other)


# An independent model: the whole network in one function, by nobody's cells


def loss_gradients(weights: list[Weights], xs: list[Array], y: Array) -> list[Weights]:
    """Return the gradient of the mean squared error by all weights: plain backpropagation through every step of every box."""
    states, boxes = [np.zeros((len(y), weights[0]["Wrec"].shape[0]))], []
    for W, x in zip(weights, xs, strict=False):
        for row in x:
            boxes.append((W, row))
            states.append(np.tanh(row @ W["Wx"] + states[-1] @ W["Wrec"]))
    y_hat = 1 / (1 + np.exp(-states[-1] @ weights[-1]["Wfc"]))
    d = (y_hat - y) * y_hat * (1 - y_hat) / len(y)
    found: list[Weights] = [{name: np.zeros_like(array) for name, array in W.items()} for W in weights]
    found[-1]["Wfc"] = states[-1].T @ d
    g = d @ weights[-1]["Wfc"].T
    places = [k for k, x in enumerate(xs) for _ in x]
    for s in range(len(boxes) - 1, -1, -1):
        W, row = boxes[s]
        delta = g * (1 - states[s + 1] ** 2)
        found[places[s]]["Wx"] += row.T @ delta
        found[places[s]]["Wrec"] += states[s].T @ delta
        g = delta @ W["Wrec"].T
    return found


def pipedream(config: Config, late: list[int]) -> list[Weights]:
    """Return the weights after PipeDream's update order, one batch after the other (Narayanan et al. 2019, section 3.3).

    Stage k computes batch i, forward and backward, with the weights that it had after its update of batch i − late[k] − 1;
    the gradient is then added to its newest weights.
    """
    plan, batches = Plan.of(config), Batches(config, load(config.data))
    first = [work.weights() for work in make_works(config).values()]
    history: list[list[Weights]] = [[{name: array.copy() for name, array in W.items()}] for W in first]
    rates = {"Wx": config.train.rate_input, "Wrec": config.train.rate_recurrent, "Wfc": config.train.rate_head}
    for i in range(plan.batches):
        read = [versions[max(0, i - late[k])] for k, versions in enumerate(history)]
        xs = [batches.inputs(i, k) for k in range(1, plan.head)]
        gradients = loss_gradients(read, xs, batches.wanted(batches.labels(i)))
        for versions, G in zip(history, gradients, strict=True):
            versions.append({name: array - rates[name] * G[name] for name, array in versions[-1].items()})
    return [versions[-1] for versions in history]


@pytest.mark.parametrize("boxes", [1, 2, 3, 5])
def test_1f1b_with_stashed_weights_is_pipedream(boxes: int) -> None:
    config = config_of("1f1b", boxes, train__evaluate_every=0)
    model = pipedream(config, late=[boxes - k for k in range(boxes + 1)])
    assert apart(trained(config), model) < 1e-6
    if boxes > 1:  # so it is known that lateness and stash matter at these rates
        assert (
            apart(trained(config_of("1f1b", boxes, train__evaluate_every=0, schedule__weights="latest")), model) > 1e-5
        )
        assert apart(trained(config_of("locked", boxes, train__evaluate_every=0)), model) > 1e-4


@pytest.mark.parametrize("delay", [0, 1, 2, 5, 30])
def test_delayed_is_the_same_model_with_one_lateness_at_every_box(delay: int) -> None:
    config = config_of("delayed", 3, train__evaluate_every=0, schedule__delay=delay)
    assert apart(trained(config), pipedream(config, late=[delay, delay, delay, 0])) < 1e-6


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("kind", "micro"), [("gpipe", 1), *((kind, m) for kind in ("gpipe", "1f1b") for m in (2, 4, 8))]
)
def test_micro_batches_add_up_to_the_whole_batch(kind: str, micro: int, tied: bool) -> None:
    """GPipe's promise: one update by the gradient of the whole batch, whatever it is cut into."""
    whole = trained(config_of("locked", model__tied=tied))
    cut = trained(config_of(kind, schedule__micro_batches=micro, model__tied=tied))
    assert apart(cut, whole) < 1e-12


def test_full_batch_backpropagation_is_what_the_independent_model_says() -> None:
    config = config_of("gpipe", schedule__micro_batches=4, train__evaluate_every=0)
    whole = config_of("locked", train__evaluate_every=0)
    assert apart(trained(config), pipedream(whole, late=[0, 0, 0, 0])) < 1e-6


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("gpipe", {"schedule__micro_batches": 4}),
        ("gpipe", {"schedule__micro_batches": 4, "model__tied": True}),
        ("gpipe", {"schedule__micro_batches": 4, "oracle__kind": "frozen"}),
        ("1f1b", {}),
        ("1f1b", {"schedule__weights": "latest"}),
        ("1f1b", {"schedule__micro_batches": 2, "model__tied": True}),
        ("1f1b", {"oracle__kind": "frozen"}),
        ("1f1b", {"model__bias": True, "train__evaluate_every": 2}),
        ("delayed", {}),
        ("delayed", {"schedule__delay": 7, "schedule__weights": "latest"}),
        ("article", {"oracle__target": "true", "schedule__weights": "stash"}),
        ("article", {"oracle__target": "true", "schedule__weights": "stash", "model__tied": True}),
    ],
)
def test_the_reference_ends_with_the_same_bits_whatever_the_timing(kind: str, flags: dict[str, Any]) -> None:
    config = config_of(kind, model__dtype="float32", **flags)
    expected = referred(config)
    for seed in range(3):
        assert apart(trained(config, seed), expected) == 0.0


def test_every_batch_is_as_late_as_its_stage_is_far_from_the_head() -> None:
    from launch.staleness import staleness

    plan = Plan.of(config_of("1f1b", 3, train__evaluate_every=0))
    network = Network(plan)
    run_hostile(network, 1)
    found = staleness(plan, network.journals)
    for box in (1, 2, 3):
        late = 4 - box
        counts = found[box]["update"]["updates"]
        assert counts[str(late)] == plan.batches - late
        assert max(map(int, counts)) == late
