"""The tree of everything that can be set: frozen structs with types, bounds, defaults and a word on each key. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Rate = Annotated[float, Meta(ge=0.0, le=1e6)]
#: A run's name: letters, digits, dot, underscore, hyphen; not `latest`, which is a link, and not dots alone.
NAME = r"^(?!latest\Z|\.+\Z)[\w.-]{0,64}\Z"
Seed = Annotated[int, Meta(ge=0, lt=2**32)]


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """The network: boxes along time and a head."""

    boxes: Annotated[int, Meta(ge=1, le=10_000, description="time boxes, each a process")] = 2
    steps_per_box: Annotated[
        int, Meta(ge=0, description="time steps in a box; 0: one for vectors, the 28 rows spread evenly for rows")
    ] = 0
    width: Annotated[int, Meta(ge=1, le=65_536, description="units of the hidden state")] = 784
    cell: Annotated[Literal["rnn"], Meta(description="the recurrent cell")] = "rnn"
    tied: Annotated[bool, Meta(description="all boxes share one Wx, Wrec (an RNN), or each has its own")] = True
    bias: Annotated[bool, Meta(description="a bias in every box and in the head")] = False
    init: Annotated[
        float, Meta(gt=0.0, le=1e6, description="standard deviation of the first weights, times 1/sqrt(inputs)")
    ] = 1.0
    loss: Annotated[
        Literal["squared", "bce", "softmax"],
        Meta(description="squared error or cross-entropy on a sigmoid, or softmax cross-entropy"),
    ] = "squared"
    dtype: Annotated[Literal["float32", "float64"], Meta(description="of every array")] = "float32"


class Oracle(Struct, frozen=True, forbid_unknown_fields=True):
    """How a box comes to its gradient before the true one is there."""

    kind: Annotated[
        Literal["linear", "frozen"], Meta(description="linear, or frozen: the control whose boxes never learn")
    ] = "linear"
    sees_label: Annotated[bool, Meta(description="the oracle is given the batch's labels too")] = False
    bias: Annotated[bool, Meta(description="the oracle has a bias")] = False
    init: Annotated[
        Literal["zero", "random"], Meta(description="first weights: zero, or the published 0.2 times a standard normal")
    ] = "zero"
    target: Annotated[
        Literal["bootstrapped", "true"],
        Meta(
            description="fit the next box's derived gradient at once, or later the true one, through the latest weights"
        ),
    ] = "bootstrapped"


class Data(Struct, frozen=True, forbid_unknown_fields=True):
    """What is learnt. A batch is a pure function of (seed, index): no stage sends it to another."""

    name: Annotated[Literal["mnist01", "mnist"], Meta(description="the digits 0 and 1, or all ten")] = "mnist01"
    source: Annotated[
        Literal["packaged", "full"],
        Meta(description="the 10,000 packaged images, or the full 60,000 + 10,000 from data.dir, cache or mirror"),
    ] = "packaged"
    dir: Annotated[str, Meta(description="folder with the four MNIST files, for data.source full")] = ""
    train: Annotated[int, Meta(ge=1, description="training images")] = 50
    test: Annotated[int, Meta(ge=1, description="test images")] = 20
    batch: Annotated[int, Meta(ge=1, description="images in a batch")] = 1
    reading: Annotated[
        Literal["vector", "rows"], Meta(description="the whole image at every step, or a row a step")
    ] = "vector"
    seed: Annotated[Seed, Meta(description="chooses the images and their order")] = 0


class Train(Struct, frozen=True, forbid_unknown_fields=True):
    """How long and how fast."""

    epochs: Annotated[int, Meta(ge=1, description="passes over the training images")] = 50
    rate_input: Annotated[Rate, Meta(description="learning rate of Wx")] = 1e-2
    rate_recurrent: Annotated[Rate, Meta(description="learning rate of Wrec")] = 1e-2
    rate_head: Annotated[Rate, Meta(description="learning rate of Wfc")] = 1e-3
    rate_oracle: Annotated[Rate, Meta(description="learning rate of the oracles")] = 1e-4
    optimizer: Annotated[Literal["sgd"], Meta(description="plain stochastic gradient descent")] = "sgd"
    evaluate_every: Annotated[int, Meta(ge=0, description="epochs between evaluations; 0: at the end alone")] = 1
    seed: Annotated[Seed, Meta(description="chooses the first weights")] = 0


class Schedule(Struct, frozen=True, forbid_unknown_fields=True):
    """Which enabled action a stage takes next."""

    kind: Annotated[
        Literal["article", "locked", "decoupled"],
        Meta(description="the eight steps; full backpropagation through time; or greedy with a window"),
    ] = "article"
    window: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None,
        Meta(description="decoupled: batches a box may have forwarded and not settled; default 2 (boxes + 1)"),
    ] = None


class Transport(Struct, frozen=True, forbid_unknown_fields=True):
    """How messages travel."""

    kind: Annotated[Literal["ipc", "tcp"], Meta(description="sockets in a private folder, or TCP on 127.0.0.1")] = "ipc"
    port: Annotated[
        int, Meta(ge=0, le=65_535, description="tcp: launcher's port, stage k takes port + k; 0: any free ones")
    ] = 0


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    """What the workers' logs say."""

    level: Annotated[Literal["action", "info"], Meta(description="action: a line for every span; info: milestones")] = (
        "info"
    )


class Trace(Struct, frozen=True, forbid_unknown_fields=True):
    """What is recorded of a run besides its journals and logs."""

    level: Annotated[
        Literal["full", "off"], Meta(description="full: every part, message and wait; off: journals and logs alone")
    ] = "full"
    most_mb: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="most MB a stage; from half of it on batches are sampled, and it says so"),
    ] = 64
    every: Annotated[
        int, Meta(ge=1, le=1_000_000, description="one of so many bursts of 64 batches is recorded; 1: all of them")
    ] = 1
    probe: Annotated[
        int, Meta(ge=0, le=10_000, description="batches at which oracles are held against the true gradient; 0: none")
    ] = 24


class Emulate(Struct, frozen=True, forbid_unknown_fields=True):
    """Delays on purpose."""

    slow: Annotated[
        dict[str, Annotated[float, Meta(ge=0.0, le=1e6)]],
        Meta(description="milliseconds added to each forward of a stage: box-2=20, or several with commas"),
    ] = {}


class Run(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the run goes."""

    dir: Annotated[str, Meta(min_length=1, description="folder that holds the runs")] = "runs"
    name: Annotated[str, Meta(pattern=NAME, description="a name to find the run by")] = ""
    plot: Annotated[bool, Meta(description="draw the cost curve as a picture, where matplotlib is installed")] = True


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides a run. The defaults are the published experiment; preset `article` adds its first weights."""

    model: Model = Model()
    oracle: Oracle = Oracle()
    data: Data = Data()
    train: Train = Train()
    schedule: Schedule = Schedule()
    transport: Transport = Transport()
    log: Log = Log()
    trace: Trace = Trace()
    emulate: Emulate = Emulate()
    run: Run = Run()


#: Named starting points: only what differs from the defaults.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "article": {"model": {"init": 3.0}, "log": {"level": "action"}},
    "digits": {"data": {"train": 1600, "test": 400}, "train": {"epochs": 3}, "schedule": {"kind": "decoupled"}},
}

LABELS = {"mnist01": 2, "mnist": 10}
#: Images to train and to test with; the packaged ones serve for both.
IMAGES = {
    ("mnist01", "packaged"): (2_115, 2_115),
    ("mnist", "packaged"): (10_000, 10_000),
    ("mnist01", "full"): (12_665, 2_115),
    ("mnist", "full"): (60_000, 10_000),
}
ROWS = 28
