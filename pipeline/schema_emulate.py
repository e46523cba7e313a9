"""The keys of `emulate`: another machine than this one, the same for processes and in virtual time. Pure."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Seed = Annotated[int, Meta(ge=0, lt=2**32)]
Milliseconds = Annotated[float, Meta(ge=0.0, le=1e6)]
#: One value for all, or one for each of those that are named; `all` names the rest.
ForEach = Milliseconds | dict[str, Milliseconds]


class Emulate(Struct, frozen=True, forbid_unknown_fields=True):
    """Another machine than this one: the same for processes and in virtual time."""

    compute_ms: Annotated[
        ForEach,
        Meta(
            description="milliseconds that each F, B and T of every box is padded to: 20, or F=20,B=40 (never U, E or the head)"
        ),
    ] = 0.0
    arithmetic: Annotated[
        bool, Meta(description="false: boxes compute nothing and send zeros; what compute_ms says takes its place")
    ] = True
    slow: Annotated[
        dict[str, Milliseconds],
        Meta(description="milliseconds added to each forward of a stage: box-2=20, or several with commas"),
    ] = {}
    delay_ms: Annotated[
        ForEach, Meta(description="milliseconds that a message takes longer: 5, or box-1>box-2=5,all=1")
    ] = 0.0
    jitter: Annotated[
        ForEach, Meta(description="up to so many milliseconds more, evenly, drawn by seed: 1, or box-1>box-2=1")
    ] = 0.0
    bandwidth: Annotated[
        Annotated[float, Meta(gt=0.0, le=1e9)] | dict[str, Annotated[float, Meta(gt=0.0, le=1e9)]],
        Meta(
            description="MB a second that a link carries, one message after the other: 10, or box-1>box-2=10; "
            "no limit if left out"
        ),
    ] = {}
    straggle: Annotated[
        float, Meta(ge=0.0, le=1.0, description="the chance of a box's F, B or T to be a straggler, drawn by seed")
    ] = 0.0
    factor: Annotated[float, Meta(ge=1.0, le=1e6, description="how many times as long a straggler takes")] = 10.0
    seed: Annotated[Seed, Meta(description="of jitter and stragglers")] = 0
