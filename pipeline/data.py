"""What every stage knows about the data: the images of a split, and which of them make batch i. Pure but for reading files.

Nothing is sent between stages: a batch is a function of (data.seed, index) and every stage cuts its own slice. An epoch
goes through the training images in an order of its own; its last batch may be smaller.

    data.reading vector    every step of every box sees the whole image, (rows, 784), as the original does
    data.reading rows      step s sees row s of the image, (rows, 28): 28 steps spread over the boxes
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import mnist
from .arrays import Array
from .drawn import Examples
from .errors import ConfigError
from .plan import EVALUATION_ROWS
from .schema import LABELS, ROWS, TASKS, Config, Data
from .sizes import box_steps, judged, outputs

#: Epochs whose orders are kept: with batches in flight, a stage goes to and fro between neighbours.
ORDERS = 4


class Split(NamedTuple):
    """Training and test images (n, 784) as bytes, their labels (n,), and each test image's place in its file."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]
    test_places: NDArray[np.int64]


def parse_idx(content: bytes, source: str) -> NDArray[np.uint8]:
    """Return the array in an IDX file of bytes (LeCun's format: magic, dimensions, data); raises ConfigError."""
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or content[3] not in (1, 3):
        raise ConfigError(f"{source}: not an IDX file of bytes (its magic number is {content[:4].hex() or 'missing'})")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ConfigError(f"{source}: the IDX header is cut short")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != int(np.prod(shape, dtype=object)):
        raise ConfigError(f"{source}: its header promises {shape}, it holds {len(content) - start:,} values")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def load(data: Data) -> Split:
    """Return the images that a configuration asks for; raises ConfigError.

    Of the packaged 10,000 images, those of the wanted digits are put into an order chosen by the seed; the first
    `train` of them train, the next `test` test, as in the original, and the next `validation` validate. The full set keeps
    its own two parts; those that follow the training images validate. What evaluations judge stands where test images do.
    """
    files = mnist.locate(data, check=False)
    wanted = LABELS[data.name]
    test_images, test_labels, test_places = _chosen(files, "t10k", wanted, data.seed)
    if data.source == "packaged":
        first = data.train if data.judge == "test" else data.train + data.test
        end = first + judged(data)
        return Split(
            test_images[: data.train], test_labels[: data.train],
            test_images[first:end], test_labels[first:end], test_places[first:end],
        )  # fmt: skip
    train_images, train_labels, train_places = _chosen(files, "train", wanted, data.seed)
    if data.judge == "validation":
        end = data.train + data.validation
        return Split(
            train_images[: data.train], train_labels[: data.train],
            train_images[data.train : end], train_labels[data.train : end], train_places[data.train : end],
        )  # fmt: skip
    return Split(
        train_images[: data.train], train_labels[: data.train],
        test_images[: data.test], test_labels[: data.test], test_places[: data.test],
    )  # fmt: skip


def _chosen(
    files: dict[str, Path], part: str, wanted: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Array]:
    """Return images, labels and places of the wanted digits in the seed's order."""
    paths = [files[f"{part}-images-idx3-ubyte"], files[f"{part}-labels-idx1-ubyte"]]
    images, labels = (parse_idx(mnist.read(path, check=False), str(path)) for path in paths)
    if len(images) != len(labels):
        raise ConfigError(f"{paths[0]}: {len(images):,} images, but {len(labels):,} labels in {paths[1]}")
    places = np.flatnonzero(labels < wanted)
    places = np.random.default_rng([seed, wanted]).permutation(places)
    return images.reshape(len(images), -1)[places], labels[places], places


def batches(config: Config) -> Batches | Examples:
    """Return the batches of a configuration: cut from images, or drawn; raises ConfigError."""
    return Examples(config) if config.data.name in TASKS else Batches(config, load(config.data))


class Batches:
    """The batches of a run, cut from a split for one stage or for all.

    Arrays are new on every call, C-contiguous, in the configured dtype, values in [0, 1]. The images stay bytes until a
    batch is cut: as floats they would take four or eight times the memory in every process.
    """

    def __init__(self, config: Config, split: Split) -> None:
        self.split = split
        self.dtype = np.dtype(config.model.dtype)
        self.outputs = outputs(config)
        self._eye = np.eye(LABELS[config.data.name], dtype=self.dtype)
        self._batch = config.data.batch // (config.schedule.micro_batches or 1)  # what travels
        self._seed = config.data.seed
        self._rows = config.data.reading == "rows"
        self._once = config.model.cell == "dense"  # its first layer alone sees the data
        self._steps = box_steps(config)
        self._epoch_batches = -(-config.data.train // self._batch)
        self._chunks = -(-judged(config.data) // EVALUATION_ROWS)
        self._orders: dict[int, Array] = {}  # epoch: its order

    def places(self, batch: int) -> Array:
        """Return which training images make `batch`."""
        epoch, at = divmod(batch, self._epoch_batches)
        order = self._orders.get(epoch)
        if order is None:
            order = self._drawn(epoch)
        return order[at * self._batch : (at + 1) * self._batch]

    def _drawn(self, epoch: int) -> Array:
        order = np.random.default_rng([self._seed, epoch, 1]).permutation(len(self.split.train_labels))
        if len(self._orders) == ORDERS:
            del self._orders[next(iter(self._orders))]
        self._orders[epoch] = order
        return order

    def _chunk(self, evaluation: int) -> slice:
        """Return which test images make `evaluation`."""
        start = evaluation % self._chunks * EVALUATION_ROWS
        return slice(start, start + EVALUATION_ROWS)

    def _inputs(self, images: NDArray[np.uint8], box: int) -> Array:
        scaled = images.astype(self.dtype)  # (rows, 784)
        scaled /= 255
        steps = self._steps[box - 1]
        if not self._rows:
            return scaled[None] if steps == 1 or self._once else np.repeat(scaled[None], steps, axis=0)
        first = sum(self._steps[: box - 1])
        by_row = scaled.reshape(-1, ROWS, ROWS)[:, first : first + steps]  # (rows, steps, 28)
        return np.ascontiguousarray(by_row.swapaxes(0, 1))

    def inputs(self, batch: int, box: int, level: int = 0) -> Array:  # noqa: ARG002
        """Return what box `box` reads in `batch`: (steps, rows, inputs). Images have no level."""
        return self._inputs(self.split.train_images.take(self.places(batch), axis=0), box)

    def evaluation_inputs(self, evaluation: int, box: int, level: int = 0) -> Array:  # noqa: ARG002
        """Return what box `box` reads in `evaluation`: (steps, rows, inputs)."""
        return self._inputs(self.split.test_images[self._chunk(evaluation)], box)

    def labels(self, batch: int) -> NDArray[np.uint8]:
        """Return the digits of `batch`: (rows,)."""
        return self.split.train_labels.take(self.places(batch))

    def evaluation_labels(self, evaluation: int) -> NDArray[np.uint8]:
        """Return the digits of `evaluation`: (rows,)."""
        return self.split.test_labels[self._chunk(evaluation)]

    def evaluation_places(self, evaluation: int) -> NDArray[np.int64]:
        """Return where in their file the images of `evaluation` are: (rows,)."""
        return self.split.test_places[self._chunk(evaluation)]

    def one_hot(self, digits: NDArray[np.uint8]) -> Array:
        """Return digits as one-hot rows, (rows, classes): what an oracle sees of a label."""
        return self._eye.take(digits, axis=0)

    def wanted(self, digits: NDArray[np.uint8]) -> Array:
        """Return what the head should put out for digits: (rows, outputs); one sigmoid is the digit itself."""
        if self.outputs == 1:
            return digits.astype(self.dtype)[:, None]
        return self.one_hot(digits)
