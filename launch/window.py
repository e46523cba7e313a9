"""Which batches of a run are shown, and what time that is. Pure.

The time of some batches runs from the first begin of a part of theirs to the last end; all that any stage did in that time
belongs to it, also to other batches. An evaluation is no batch.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from pipeline.actions import ACTIONS, COUNTED
from pipeline.arrays import Array
from pipeline.errors import ConfigError

from .recording import Messages, Recording

#: Most records of one lane in a picture that nobody chose the batches of.
USUAL = 60
_FOREVER = (0, 2**62)


class Window(NamedTuple):
    """Some batches, and their time in monotonic nanoseconds."""

    batches: range
    first_ns: int
    last_ns: int
    lacks: str = ""  # which of the batches that were asked for are not on record, in words

    @property
    def is_whole(self) -> bool:
        """Whether this is all time."""
        return (self.first_ns, self.last_ns) == _FOREVER

    def clipped(self, records: Array) -> Array:
        """Return records cut to this time."""
        found: Array = records.copy()
        found["start"] = np.maximum(found["start"], self.first_ns)
        found["end"] = np.minimum(found["end"], self.last_ns)
        return found

    def within(self, records: Array) -> Array:
        """Return the records that lie in this time, at least in part."""
        inside: Array = records[(records["end"] > self.first_ns) & (records["start"] < self.last_ns)]
        return inside

    def holds(self, messages: Messages) -> Array:
        """Return which messages were under way in this time, at least in part."""
        under_way: Array = (messages.taken > self.first_ns) & (messages.sent < self.last_ns)
        return under_way


def whole(found: Recording) -> Window:
    """Return all batches of a run, and all time."""
    return Window(range(found.plan.batches), *_FOREVER)


def choose(found: Recording, wanted: tuple[int, int] | None, *, is_picture: bool) -> Window:
    """Return the batches to show and their time; raises ConfigError for batches that are not on record."""
    plan = found.plan
    if wanted is not None and wanted[1] >= plan.batches:
        raise ConfigError(
            f"--batches: {found.folder.name} has no batch {wanted[1]}; it has {plan.batches}, from 0 to {plan.batches - 1}"
        )
    batches, begins, ends = _times(found)
    if not len(batches):
        if wanted is not None or is_picture:
            raise ConfigError(f"{found.folder.name}: no batch is on record; look at `timebox logs {found.folder.name}`")
        return whole(found)
    if wanted is None and not is_picture:
        return Window(range(int(batches[0]), int(batches[-1]) + 1), *_FOREVER)
    if wanted is None:
        here, there = _usual(found, batches, begins, ends)
        lacks = ""
    else:
        here = int(np.searchsorted(batches, wanted[0]))
        there = int(np.searchsorted(batches, wanted[1], "right")) - 1
        if there < here:
            raise ConfigError(
                f"--batches: nothing of {wanted[0]}:{wanted[1]} is on record; on record are batches of "
                f"{batches[0]}:{batches[-1]}"
            )
        lacks = _lacks(wanted, batches[here : there + 1].tolist())
    chosen = range(int(batches[here]), int(batches[there]) + 1)
    return Window(chosen, int(begins[here : there + 1].min()), int(ends[here : there + 1].max()), lacks)


def _lacks(wanted: tuple[int, int], found: list[int]) -> str:
    """Return the stretches of wanted batches that are not among those found, in words: `60 to 63 and 70 are`."""
    edges = [wanted[0] - 1, *found, wanted[1] + 1]
    holes = [(one + 1, other - 1) for one, other in itertools.pairwise(edges) if other - one > 1]
    texts = [f"{first}" if first == last else f"{first} to {last}" for first, last in holes]
    if not texts:
        return ""
    verb = "is" if len(holes) == 1 and holes[0][0] == holes[0][1] else "are"
    listed = " and ".join([", ".join(texts[:-1])] * (len(texts) > 1) + texts[-1:])
    return f"{listed} {verb}"


def _times(found: Recording) -> tuple[Array, Array, Array]:
    """Return the batches on record in their order, and when the first part of each began and the last one ended."""
    parts = np.concatenate([stage.parts for stage in found.stages])
    parts = parts[~np.isin(parts["kind"], [ord(kind) for kind in COUNTED])]
    batches, places = np.unique(parts["batch"], return_inverse=True)
    begins = np.full(len(batches), 2**62, np.int64)
    ends = np.zeros(len(batches), np.int64)
    np.minimum.at(begins, places, parts["start"])
    np.maximum.at(ends, places, parts["end"])
    return batches, begins, ends


def _usual(found: Recording, batches: Array, begins: Array, ends: Array) -> tuple[int, int]:
    """Return the places of the first and the last batch of a picture: the middle of the run, as many as can be read.

    A third into an epoch, where neither an evaluation nor, as a rule, the probe is.
    """
    lanes = []
    for stage in found.stages:
        work = stage.of(*ACTIONS, "s", "t", "w")
        lanes.append((np.sort(work["start"]), np.sort(work["end"])))

    def busiest(here: int, there: int) -> int:
        first, last = begins[here : there + 1].min(), ends[here : there + 1].max()
        return max(int(np.searchsorted(s, last) - np.searchsorted(e, first, "right")) for s, e in lanes)

    epoch = found.plan.epoch_batches
    middle = int(batches[len(batches) // 2]) // epoch * epoch + epoch // 3
    here = there = min(int(np.searchsorted(batches, middle)), len(batches) - 1)
    while True:
        if there + 1 < len(batches) and busiest(here, there + 1) <= USUAL:
            there += 1
        elif here and busiest(here - 1, there) <= USUAL:
            here -= 1
        else:
            return here, there
