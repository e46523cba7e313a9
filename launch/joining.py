"""How an agent finds its run and its stage: the join line, and what starts processes on many hosts. Reads files, else pure.

    tcp://10.0.0.1:40123#eyJib3hlcyI6 …      the launcher's address, and the run's secrets with the number of its boxes

Who has the line takes part in the run. So it stands in a file that its owner alone can read, in the environment, or comes on
standard input; an argument stands in the process list, where everybody reads it, and is refused.

Which stage: a name or an index in TIMEBOX_STAGE, else the index that srun, mpirun or Kubernetes set. Index 0 is box-1, the
last one is the head.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline import keys
from pipeline.errors import ConfigError, RunError

#: Where the line is, or the line itself; which stage; where that binds; what its host is called.
JOIN, STAGE, INTERFACE, HOST = "TIMEBOX_JOIN", "TIMEBOX_STAGE", "TIMEBOX_INTERFACE", "TIMEBOX_HOST"
#: Who sets an index for each process, in the order in which they are asked: Slurm, Open MPI, MPICH and others, Kubernetes.
INDICES = ("SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "JOB_COMPLETION_INDEX")
#: The file's name in the run's folder.
FILE = "join"
_MOST_BYTES = 4_000
_WAY_OUT = "copy the whole line of the run's join file"


class Meeting(NamedTuple):
    """Where a run's launcher is, how many boxes the run has, and its secrets."""

    address: str
    boxes: int
    keys: keys.Keys


def line(meeting: Meeting) -> str:
    """Return the text with which an agent joins a run."""
    document = {"boxes": meeting.boxes, "keys": keys.text(meeting.keys)}
    return f"{meeting.address}#{base64.urlsafe_b64encode(json.dumps(document).encode()).decode()}"


def parse(text: str) -> Meeting:
    """Return what a join line says; raises ConfigError, which shows nothing of it."""
    address, hash_sign, token = text.strip().partition("#")
    if not address.startswith("tcp://") or not hash_sign or len(text) > _MOST_BYTES:
        raise ConfigError(f"the join line begins with tcp://, an address and #; {_WAY_OUT}")
    try:
        document = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        boxes, found = document["boxes"], keys.parse(document["keys"].encode())
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        boxes, found = 0, None
    if found is None or type(boxes) is not int or not 1 <= boxes <= 10_000:
        raise ConfigError(f"the join line is damaged; {_WAY_OUT}")
    return Meeting(address, boxes, found)


def read(word: str | None, environment: Mapping[str, str], stdin: str | None = None) -> Meeting:
    """Return where to go: `word` is a file or `-` for standard input, else TIMEBOX_JOIN says it; raises ConfigError."""
    if word is not None and ("#" in word or word.startswith("tcp://")):
        raise ConfigError(
            "join: everybody here can read an argument; put the line into TIMEBOX_JOIN, a file, or stdin (-)"
        )
    given = word or environment.get(JOIN, "")
    if not given:
        raise ConfigError(f"join: say which run: the path of its join file, - for standard input, or {JOIN}")
    if given == "-":
        return parse(stdin or "")
    if given.startswith("tcp://"):
        return parse(given)
    try:
        return parse(keys.read_private(Path(given), _MOST_BYTES).decode(errors="replace"))
    except RunError as error:
        raise ConfigError(str(error)) from None


def stage(word: str | None, environment: Mapping[str, str], boxes: int) -> str:
    """Return the name of the stage that this process is there for: said, or by its index; raises ConfigError."""
    given = word or environment.get(STAGE, "")
    source = "--stage" if word else STAGE
    if not given:
        source = next((name for name in INDICES if environment.get(name, "").strip()), "")
        given = environment.get(source, "")
    if not given:
        known = ", ".join((STAGE, *INDICES))
        raise ConfigError(f"join: say which stage: --stage box-1, or one of {known}")
    names = [f"box-{k}" for k in range(1, boxes + 1)] + ["head"]
    given = given.strip()
    if given.isascii() and given.isdigit() and int(given) < len(names):
        return names[int(given)]
    if given in names:
        return given
    raise ConfigError(f"{source}: {given!r}: this run has {len(names)} stages: 0 to {boxes}, or box-1 to head")
