"""The critical path of a run: what, had it been quicker, would have made the run shorter. Pure on arrays.

It is walked backwards from the end of the run's last record; the marks of go and done are none. In a stage one record
follows another. Where a message was taken right after a wait, it had ended the wait and is followed to its sender, which
goes back in time or is not done. The walk ends at the go of the stage that it has come to by then.

Between these two moments every nanosecond is on the path once: as a part of an action, as copying, as a hop, as a wait
whose message is not on record or cannot have been sent before it was taken, as `not on record` where records were left
out, or as what stands between records (`other`). What a stage did beside the path is not on it, nor what lies before that
go or between the last record and done, so the path may be a little shorter than the run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import Any, NamedTuple

from pipeline.actions import ACTIONS
from pipeline.trace import MARK, PARTS, SENT, TAKEN, WAITED

from .recording import Recording, StageRecords

#: Where a hop is counted among the stages.
BETWEEN = "between stages"
NS = 1e9


class Step(NamedTuple):
    """A piece of the path: whose, what, and its time in monotonic nanoseconds."""

    stage: str
    kind: str
    start: int
    end: int


class _Lane:
    """A stage's records as plain lists."""

    def __init__(self, stage: StageRecords) -> None:
        array = stage.array[stage.array["kind"] != MARK]
        self.name = stage.name
        self.number = stage.number
        self.go = stage.go_ns
        self.kinds: list[int] = array["kind"].tolist()
        self.codes: list[int] = array["code"].tolist()
        self.peers: list[int] = array["peer"].tolist()
        self.sequences: list[int] = array["d"].tolist()
        self.starts: list[int] = array["start"].tolist()
        self.ends: list[int] = array["end"].tolist()

    def what(self, place: int) -> str:
        """Return what a record is, as a kind of step."""
        kind = self.kinds[place]
        if kind in (SENT, TAKEN):
            return "copy"
        if kind == WAITED:
            return "wait"
        return PARTS[self.codes[place]] if chr(kind) in ACTIONS else "not on record"


def steps(recording: Recording) -> list[Step]:
    """Return the path's steps in the order of time."""
    lanes = {stage.number: _Lane(stage) for stage in recording.stages}
    messages = recording.messages
    sent = {
        (source, target, sequence): at
        for source, target, sequence, at in zip(
            messages.source.tolist(),
            messages.target.tolist(),
            messages.sequence.tolist(),
            messages.sent.tolist(),
            strict=True,
        )
    }
    lane = max(lanes.values(), key=lambda each: each.ends[-1] if each.ends else 0)
    path: list[Step] = []
    now = lane.ends[-1] if lane.ends else lane.go
    place = len(lane.ends) - 1
    while place >= 0 and now > lane.go:
        # Every round goes back in time or passes over a record, and every hop goes back in time: so it ends.
        start, end = lane.starts[place], min(lane.ends[place], now)
        if start > now:  # it lies within the one that was passed before
            place -= 1
            continue
        if end < now:
            path.append(Step(lane.name, "other", end, now))
        path.append(Step(lane.name, lane.what(place), start, end))
        now = start
        if lane.kinds[place] == TAKEN and place and lane.kinds[place - 1] == WAITED:
            source = lane.peers[place]
            at = sent.get((source, lane.number, lane.sequences[place]))
            if at is not None and source in lanes and at < now:  # a damaged record or another host's clock may say else
                path.append(Step(BETWEEN, "hop", at, now))
                lane, now = lanes[source], at
                place = bisect_right(lane.starts, now - 1) - 1  # the record in which it was sent
                continue
        place -= 1
    if now > lane.go:
        path.append(Step(lane.name, "other", lane.go, now))
    return [step for step in reversed(path) if step.end > step.start]


def document(path: list[Step]) -> dict[str, Any]:
    """Return the path's length and its shares by stage and by kind."""
    total = sum(step.end - step.start for step in path)
    by_stage: Counter[str] = Counter()
    by_kind: Counter[str] = Counter()
    for stage, kind, start, end in path:
        by_stage[stage] += end - start
        by_kind[kind] += end - start

    def shares(counts: Counter[str], key: str) -> list[dict[str, Any]]:
        return [{key: name, "seconds": ns / NS, "share": ns / max(total, 1)} for name, ns in counts.most_common()]

    return {
        "seconds": total / NS,
        "hops": sum(step.kind == "hop" for step in path),
        "by_stage": shares(by_stage, "stage"),
        "by_kind": shares(by_kind, "kind"),
    }
