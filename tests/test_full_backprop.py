"""Full backpropagation agrees with an independent computation to 1e-6 in float64.

The independent computation is central differences of a loss written here, in the words of the mathematics: no cell, head,
backward or batch of this project is in it. One batch takes all the training images, so their order does not matter.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import complete
from pipeline.data import Batches, Split
from pipeline.reference import Reference
from pipeline.schema import Config, Data, Model, Schedule, Train

pytestmark = pytest.mark.in_process

Array = NDArray[np.float64]
Network = dict[str, Array]  # Wx, Wrec and b of each box as Wx1, Wx2 …, of tied boxes as Wx1 alone; Wfc and bfc

WIDTH, IMAGES = 5, 6
#: Powers of two, each its own: a step divided by its rate is the gradient without another rounding.
RATES = {"Wx": 0.5, "Wrec": 0.25, "b": 0.5, "Wfc": 0.125, "bfc": 0.125}
#: Scale and seed of first weights whose gradients neither vanish nor explode over 28 steps.
INIT, SEED = 1.5, 12
#: Most entries of an array that are compared.
SAMPLE = 5


def independent_loss(network: Network, steps: list[tuple[int, Array]], digits: list[int], loss: str) -> float:
    """Return the mean loss over images; `steps` has for each time step its box's suffix and what it reads."""
    h = np.zeros((len(digits), WIDTH))
    for k, x in steps:
        h = np.tanh(x.dot(network[f"Wx{k}"]) + h.dot(network[f"Wrec{k}"]) + network[f"b{k}"])
    a = h.dot(network["Wfc"]) + network["bfc"]
    if loss == "softmax":
        chosen = np.exp(a[np.arange(len(digits)), digits]) / np.exp(a).sum(axis=1)
        return float(-np.log(chosen).mean())
    y = np.eye(10)[digits] if a.shape[1] == 10 else np.array(digits, float)[:, None]
    y_hat = 1 / (1 + np.exp(-a))
    by_output = 0.5 * (y_hat - y) ** 2 if loss == "squared" else -y * np.log(y_hat) - (1 - y) * np.log(1 - y_hat)
    return float(by_output.sum(axis=1).mean())


def central_difference(loss: Callable[[], float], array: Array, place: tuple[int, ...]) -> float:
    """Return ∂loss/∂array[place] from four values (error of the fourth order in the step)."""
    value, step = array[place], 2e-4
    found = []
    for factor in (1, -1, 2, -2):
        array[place] = value + factor * step
        found.append(loss())
    array[place] = value
    return (8 * (found[0] - found[1]) - (found[2] - found[3])) / (12 * step)


def network_of(reference: Reference) -> Network:
    """Return a copy of a reference's weights by the names of this file."""
    *boxes, head = reference.weights()
    if reference.config.model.tied:
        boxes = boxes[:1]
    found = {f"{name}{k}": array for k, box in enumerate(boxes, 1) for name, array in box.items()}
    return {name: array.copy() for name, array in (found | head).items()}


def split_of(digits: list[int]) -> Split:
    """Return training images of noise with black edges, as digits have."""
    pixels = np.random.default_rng(0).integers(0, 256, (len(digits), 28, 28)).astype(np.uint8)
    pixels[:, :4] = pixels[:, :, :4] = 0
    images, labels = pixels.reshape(len(digits), 784), np.array(digits, np.uint8)
    return Split(images, labels, images[:1], labels[:1], np.arange(1))


CASES = [
    # boxes, steps_per_box, reading, name
    (1, 1, "vector", "mnist01"),
    (1, 3, "vector", "mnist01"),
    (2, 1, "vector", "mnist01"),
    (2, 3, "vector", "mnist"),
    (4, 1, "vector", "mnist"),
    (4, 3, "vector", "mnist01"),
    (1, 28, "rows", "mnist"),
    (2, 14, "rows", "mnist01"),
    (4, 7, "rows", "mnist"),
]


@pytest.mark.parametrize("loss", ["squared", "bce", "softmax"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(("boxes", "per_box", "reading", "name"), CASES)
def test_full_backpropagation_agrees_with_central_differences_of_an_independent_loss(
    boxes: int, per_box: int, reading: str, name: str, tied: bool, loss: str
) -> None:
    digits = [0, 1, 1, 0, 1, 1] if name == "mnist01" else [3, 9, 0, 1, 9, 5]
    config = complete(
        Config(
            model=Model(  # type: ignore[arg-type]
                boxes=boxes,
                steps_per_box=per_box,
                width=WIDTH,
                tied=tied,
                bias=True,
                init=INIT,
                loss=loss,
                dtype="float64",
            ),
            data=Data(name=name, reading=reading, train=IMAGES, batch=IMAGES, test=1),  # type: ignore[arg-type]
            train=Train(
                epochs=2,
                rate_input=RATES["Wx"],
                rate_recurrent=RATES["Wrec"],
                rate_head=RATES["Wfc"],
                evaluate_every=0,
                seed=SEED,
            ),
            schedule=Schedule(kind="locked"),
        )
    )
    split = split_of(digits)
    reference = Reference(config, Batches(config, split))
    before = network_of(reference)
    next(reference.run())
    after = network_of(reference)

    images = split.train_images.astype(float) / 255
    rows = images.reshape(IMAGES, 28, 28)
    of_boxes = [1 if tied else k for k in range(1, boxes + 1) for _ in range(per_box)]
    steps = [(k, images if reading == "vector" else rows[:, s]) for s, k in enumerate(of_boxes)]

    def value() -> float:
        return independent_loss(before, steps, digits, loss)

    assert reference.costs == pytest.approx([value()], rel=1e-12)
    rng = np.random.default_rng(1)
    for weight, array in before.items():
        gradient = (array - after[weight]) / RATES[weight.rstrip("1234")]
        if weight == "Wrec1" and of_boxes.count(1) == 1:  # h0 = 0 is all it ever saw
            assert not gradient.any()
            continue
        places = list(np.ndindex(array.shape))
        if len(places) > SAMPLE:
            nonzero = np.argwhere(gradient)
            places = [tuple(int(axis) for axis in place) for place in rng.permutation(nonzero)[:SAMPLE]]
        expected = np.array([central_difference(value, array, place) for place in places])
        found = np.array([gradient[place] for place in places])
        assert np.abs(expected).max() > 1e-5, "there is something to compare"
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max(), weight
