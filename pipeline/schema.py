"""The tree of everything that can be set: frozen structs, types, bounds, defaults, a word on each key. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .schema_emulate import Emulate, Seed
from .schema_run import Checkpoint, Fault, Log, Placer, Run, Trace, Transport

Rate = Annotated[float, Meta(ge=0.0, le=1e6)]


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """The network: boxes along time and a head."""

    boxes: Annotated[int, Meta(ge=1, le=10_000, description="time boxes, each a process")] = 2
    steps_per_box: Annotated[
        int,
        Meta(
            ge=0,
            description="time steps in a box, or dense layers; 0: one for vectors and layers, else all steps spread evenly",
        ),
    ] = 0
    width: Annotated[int, Meta(ge=1, le=65_536, description="units of the hidden state")] = 784
    cell: Annotated[
        Literal["rnn", "gru", "lstm", "dense"],
        Meta(description="what a box holds: a recurrent cell, or dense layers of a feed-forward network"),
    ] = "rnn"
    function: Annotated[Literal["relu", "tanh", "sigmoid"], Meta(description="of dense layers")] = "relu"
    tied: Annotated[bool, Meta(description="all boxes share one Wx, Wrec (an RNN), or each has its own")] = True
    bias: Annotated[bool, Meta(description="a bias in every box and in the head")] = False
    init: Annotated[
        float, Meta(gt=0.0, le=1e6, description="standard deviation of the first weights, times 1/sqrt(inputs)")
    ] = 1.0
    recurrent: Annotated[
        Literal["normal", "identity"],
        Meta(description="first Wrec: normal, or the identity times model.init, by which a gradient passes unchanged"),
    ] = "normal"
    loss: Annotated[
        Literal["squared", "bce", "softmax", "mse"],
        Meta(
            description="squared error or cross-entropy on a sigmoid, softmax cross-entropy, or mean squared error of a "
            "linear output"
        ),
    ] = "squared"
    dtype: Annotated[Literal["float32", "float64"], Meta(description="of every array")] = "float32"


class Oracle(Struct, frozen=True, forbid_unknown_fields=True):
    """How a box comes to its gradient before the true one is there."""

    kind: Annotated[
        Literal["linear", "mlp", "own", "frozen", "last", "noise", "stale", "local", "delayed", "exact"],
        Meta(
            description="linear, mlp, or your own from oracle.file; or a control: boxes that never learn (frozen), all but the "
            "last (last), random gradients (noise), the last true one again (stale), a classifier per box (local), the true "
            "gradient when it comes (delayed), the true one at once (exact, in one process)"
        ),
    ] = "linear"
    file: Annotated[str, Meta(description="own: the Python file that holds the class Oracle")] = ""
    code: Annotated[str, Meta(max_length=1_000_000, description="own: the file's text, as read from it")] = ""
    sees_label: Annotated[bool, Meta(description="the oracle is given the batch's labels too")] = False
    bias: Annotated[bool, Meta(description="a linear oracle has a bias")] = False
    hidden: Annotated[int, Meta(ge=1, le=65_536, description="mlp: hidden units")] = 128
    init: Annotated[
        Literal["zero", "random"],
        Meta(description="first weights of the last layer: zero, or the published 0.2 times a standard normal"),
    ] = "zero"
    scale: Annotated[
        float, Meta(ge=0.0, le=1e3, description="a box updates on so many times the synthetic gradient")
    ] = 1.0
    last: Annotated[
        bool, Meta(description="the last box has an oracle too; false: it waits for the head's true gradient")
    ] = True
    target: Annotated[
        Literal["bootstrapped", "true", "mixed", "traced"],
        Meta(
            description="fit the next box's derived gradient at once, later the true one through the latest weights, what "
            "oracle.mix makes of both, or that at once (traced: rows w^2 (w+1) numbers with an activation, w times the work)"
        ),
    ] = "bootstrapped"
    mix: Annotated[
        float,
        Meta(
            ge=0.0, le=1.0, description="mixed, traced: the share λ of what later boxes say, else the next one's guess"
        ),
    ] = 0.5
    cap: Annotated[
        float,
        Meta(
            ge=0.0, le=1e6, description="a row of a target is cut to so many times the usual row's norm; 0: it is not"
        ),
    ] = 0.0
    memory: Annotated[int, Meta(ge=0, le=10_000, description="batches whose targets the oracle keeps")] = 0
    replays: Annotated[
        int, Meta(ge=0, le=1_000, description="more steps on targets that it keeps, for each new one")
    ] = 0
    correct: Annotated[
        bool, Meta(description="when the true gradient comes, repair the early update: true less synthetic")
    ] = False


class Data(Struct, frozen=True, forbid_unknown_fields=True):
    """What is learnt. A batch is a pure function of (seed, index): no stage sends it to another."""

    name: Annotated[
        Literal["mnist01", "mnist", "copy", "repeat-copy", "adding", "addition"],
        Meta(
            description="the digits 0 and 1, or all ten; or a task drawn by seed: symbols to repeat after a pause, once (copy) "
            "or several times; the sum of two marked numbers of a sequence (adding); binary numbers (addition)"
        ),
    ] = "mnist01"
    source: Annotated[
        Literal["packaged", "full"],
        Meta(description="the 10,000 packaged images, or the full 60,000 + 10,000 from data.dir, cache or mirror"),
    ] = "packaged"
    dir: Annotated[str, Meta(description="folder with the four MNIST files, for data.source full")] = ""
    train: Annotated[int, Meta(ge=1, description="training images; of a task, examples in an epoch")] = 50
    test: Annotated[int, Meta(ge=1, description="test images, or examples")] = 20
    validation: Annotated[
        int, Meta(ge=0, description="training images held back, beside those that train, for data.judge validation")
    ] = 0
    judge: Annotated[
        Literal["test", "validation"],
        Meta(description="which images evaluations judge: test for the report, validation for every choice before it"),
    ] = "test"
    batch: Annotated[int, Meta(ge=1, description="images in a batch")] = 1
    reading: Annotated[
        Literal["vector", "rows"], Meta(description="the whole image at every step, or a row a step")
    ] = "vector"
    bits: Annotated[int, Meta(ge=1, le=24, description="copy, repeat-copy: bits of a symbol; addition: of the sum")] = 8
    length: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="copy, repeat-copy: the longest, as levels; adding: numbers of a sequence; 0: what the steps hold",
        ),
    ] = 0
    curriculum: Annotated[
        bool,
        Meta(description="copy, repeat-copy: begin with the shortest, and go on where the loss is below data.bound"),
    ] = True
    bound: Annotated[
        float, Meta(gt=0.0, le=1.0, description="the mean cost of an epoch, bits a bit, below which sequences grow")
    ] = 0.15
    seed: Annotated[Seed, Meta(description="chooses the images, or draws the examples, and their order")] = 0


Optimizer = Literal["sgd", "momentum", "adam"]


class Train(Struct, frozen=True, forbid_unknown_fields=True):
    """How long and how fast."""

    epochs: Annotated[int, Meta(ge=1, description="passes over the training images")] = 50
    rate_input: Annotated[Rate, Meta(description="learning rate of Wx")] = 1e-2
    rate_recurrent: Annotated[Rate, Meta(description="learning rate of Wrec")] = 1e-2
    rate_head: Annotated[Rate, Meta(description="learning rate of Wfc")] = 1e-3
    rate_oracle: Annotated[Rate, Meta(description="learning rate of the oracles")] = 1e-4
    optimizer: Annotated[Optimizer, Meta(description="of the boxes")] = "sgd"
    optimizer_head: Annotated[Optimizer, Meta(description="of the head, and of local classifiers")] = "sgd"
    optimizer_oracle: Annotated[
        Literal["sgd", "nlms", "momentum", "adam"],
        Meta(description="of the oracles; nlms: sgd over the mean square norm of what the oracle sees"),
    ] = "sgd"
    momentum: Annotated[
        float, Meta(ge=0.0, lt=1.0, description="momentum, adam: share of the past gradients in the mean")
    ] = 0.9
    beta2: Annotated[float, Meta(ge=0.0, lt=1.0, description="adam: share of the past in the mean square")] = 0.999
    clip: Annotated[
        float, Meta(ge=0.0, le=1e9, description="the largest norm of a weight's gradient, in boxes and head; 0: any")
    ] = 0.0
    decay: Annotated[
        Literal["none", "linear", "cosine"], Meta(description="how the rates of boxes and head fall over the run")
    ] = "none"
    floor: Annotated[float, Meta(ge=0.0, le=1.0, description="the share of a rate at which its fall ends")] = 0.02
    warmup: Annotated[
        int, Meta(ge=0, le=1_000_000, description="batches over which the boxes' rates rise to their full value")
    ] = 0
    limit: Annotated[
        float,
        Meta(gt=0.0, le=1e30, description="a gradient, target or error of a larger norm stops the run"),
    ] = 1e6
    evaluate_every: Annotated[int, Meta(ge=0, description="epochs between evaluations; 0: at the end alone")] = 1
    seed: Annotated[Seed, Meta(description="chooses the first weights")] = 0


class Schedule(Struct, frozen=True, forbid_unknown_fields=True):
    """Which enabled action a stage takes next."""

    kind: Annotated[
        Literal["article", "locked", "gpipe", "1f1b", "delayed", "decoupled", "own"],
        Meta(
            description="the eight steps; backpropagation through time with one batch in flight, in micro-batches, one "
            "forward one backward, or some batches late; greedy with a window; or your own, from schedule.file"
        ),
    ] = "article"
    window: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None,
        Meta(description="decoupled: batches a box may have forwarded and not settled; default 2 (boxes + 1)"),
    ] = None
    micro_batches: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        Meta(
            description="gpipe, 1f1b, own: parts of a batch whose gradients make one update; gpipe: the largest of up to 8 "
            "that divides the batch; else 1, and 1f1b then never flushes"
        ),
    ] = None
    weights: Annotated[
        Literal["stash", "latest"] | None,
        Meta(
            description="what a late gradient passes through: the weights that its forward read (stash; default where B "
            "comes late), or the latest"
        ),
    ] = None
    delay: Annotated[
        Annotated[int, Meta(ge=0, le=10_000)] | None,
        Meta(description="delayed: batches that every true gradient is late by; default: the boxes"),
    ] = None
    file: Annotated[str, Meta(description="own: the text file that holds the schedule")] = ""
    program: Annotated[
        str, Meta(max_length=1_000_000, description="own: the schedule's text, as read from the file")
    ] = ""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides a run. The defaults are the published experiment; preset `article` adds its first weights."""

    model: Model = Model()
    oracle: Oracle = Oracle()
    data: Data = Data()
    train: Train = Train()
    schedule: Schedule = Schedule()
    transport: Transport = Transport()
    placer: Placer = Placer()
    log: Log = Log()
    trace: Trace = Trace()
    emulate: Emulate = Emulate()
    checkpoint: Checkpoint = Checkpoint()
    fault: Fault = Fault()
    run: Run = Run()


LABELS = {"mnist01": 2, "mnist": 10}
#: Tasks that are drawn by seed, and those of them that have a target at every step.
TASKS = ("copy", "repeat-copy", "adding", "addition")
BY_STEP = ("copy", "repeat-copy")
#: Images to train and to test with; the packaged ones serve for both.
IMAGES = {
    ("mnist01", "packaged"): (2_115, 2_115),
    ("mnist", "packaged"): (10_000, 10_000),
    ("mnist01", "full"): (12_665, 2_115),
    ("mnist", "full"): (60_000, 10_000),
}
ROWS = 28
