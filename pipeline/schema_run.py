"""The keys of a run as such, whatever it trains: how messages travel, what is recorded and kept, what goes wrong. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

#: A run's name: letters, digits, dot, underscore, hyphen; not `latest`, which is a link, and not dots alone.
NAME = r"^(?!latest\Z|\.+\Z)[\w.-]{0,64}\Z"


class Transport(Struct, frozen=True, forbid_unknown_fields=True):
    """How messages travel."""

    kind: Annotated[Literal["ipc", "tcp"], Meta(description="sockets in a private folder, or TCP")] = "ipc"
    port: Annotated[
        int, Meta(ge=0, le=65_535, description="tcp: launcher's port, stage k takes port + k; 0: any free ones")
    ] = 0
    interface: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            description="tcp: the address or name that sockets bind to; auto: by which this machine is reached",
        ),
    ] = "127.0.0.1"
    curve: Annotated[
        Literal["auto", "on", "off"],
        Meta(description="tcp: encrypted by CurveZMQ, with keys made for the run; auto: off the loopback alone"),
    ] = "auto"
    insecure: Annotated[bool, Meta(description="tcp: plain text off the loopback is all right")] = False


class Placer(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the stages' processes are."""

    kind: Annotated[
        Literal["local", "env", "ray", "own"],
        Meta(
            description="this machine; wherever `timebox join` is started, by hand, srun, mpirun or Kubernetes; a Ray cluster; "
            "or your own way to start it, from placer.file. The last three come with transport.kind tcp"
        ),
    ] = "local"
    file: Annotated[str, Meta(description="own: the Python file that holds the class Placer")] = ""
    code: Annotated[str, Meta(max_length=1_000_000, description="own: the file's text, as read from it")] = ""
    wait_s: Annotated[
        float, Meta(gt=0.0, le=1e6, description="env, own, ray: seconds that a stage's host may take to join")
    ] = 300.0
    lost_s: Annotated[
        float,
        Meta(
            ge=2.0,
            le=1e6,
            description="env, own, ray: seconds without a word after which a host, or a message, is lost",
        ),
    ] = 10.0
    address: Annotated[
        str,
        Meta(
            max_length=255,
            description="ray: an existing cluster's HOST:PORT, or auto for RAY_ADDRESS or this machine's; else one is started "
            "for the run",
        ),
    ] = ""
    strategy: Annotated[
        Literal["pack", "spread"], Meta(description="ray: on few nodes, or on as many as there are")
    ] = "pack"
    cpus: Annotated[float, Meta(ge=0.0, le=10_000, description="ray: processors that a stage reserves")] = 1.0


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


class Checkpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """What a run that was cut off goes on from."""

    every: Annotated[
        int,
        Meta(ge=0, le=10**9, description="batches between two checkpoints, each a barrier for all stages; 0: none"),
    ] = 0
    keep: Annotated[int, Meta(ge=1, le=10_000, description="how many checkpoints are kept, the newest")] = 2


class Fault(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to go wrong on purpose, in the run's first attempt: a place, and the batch at which it happens."""

    kill: Annotated[
        str, Meta(description="the process dies, as by kill -9: box-2@batch:100, or several with commas")
    ] = ""
    hang: Annotated[
        str, Meta(description="it stands still: box-2@batch:100, or for so many seconds: box-2@batch:100:5")
    ] = ""
    slow: Annotated[
        str, Meta(description="from that batch on each forward takes so many ms more: box-2@batch:100:20")
    ] = ""
    drop: Annotated[str, Meta(description="a message of that batch is lost on an edge: box-1>box-2@batch:100")] = ""
    double: Annotated[str, Meta(description="one comes twice: box-1>box-2@batch:100")] = ""
    swap: Annotated[str, Meta(description="one comes after the next one: box-1>box-2@batch:100")] = ""
    corrupt: Annotated[str, Meta(description="a bit of one is turned: box-1>box-2@batch:100")] = ""
    disk_full: Annotated[
        str, Meta(description="from that batch on nothing can be written, as on a full disk: box-2@batch:100")
    ] = ""


class Run(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the run goes."""

    dir: Annotated[str, Meta(min_length=1, description="folder that holds the runs")] = "runs"
    name: Annotated[str, Meta(pattern=NAME, description="a name to find the run by")] = ""
    recover: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="how often a worker that died or hangs is restarted, and all go on from the last checkpoint",
        ),
    ] = 0
    patience: Annotated[
        float,
        Meta(gt=0.0, le=1e6, description="seconds without a sign of life, or of progress, after which a worker hangs"),
    ] = 30.0
    plot: Annotated[bool, Meta(description="draw the cost curve as a picture, where matplotlib is installed")] = True
