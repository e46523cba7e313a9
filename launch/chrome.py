"""A run as a Chrome trace, which the Perfetto UI and other viewers read. Pure but for `environment.json`.

    process     a stage, with its real pid; box-1 … box-12, head; one thread
    slices X    compute: a part of an action · wait: starved or blocked, by whom · copy: a message sent or taken
    flows s f   a message with both ends on record, from within the slice that sends it to within the one that takes it
    counter C   batches in flight at a box: forwarded and not settled

Times are decimal text made from integer nanoseconds since the run's origin, in microseconds with three decimals. Within a
stage slices follow each other, or one lies within another; outer ones come first.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from pipeline import steps
from pipeline.actions import ACTIONS, COUNTED, KINDS
from pipeline.arrays import Array
from pipeline.lacks import MESSAGE, WAITS
from pipeline.trace import PART_CODE, PARTS, SENT, TAKEN, WAITED
from pipeline.worklog import iso

from . import runs
from .breakdown import way
from .recording import Recording, StageRecords
from .window import Window

#: Between the pids, and between the flows, of two runs in one trace.
BESIDE = 10_000_000
#: gzip's level: higher ones take several times as long for a file some percent smaller.
LEVEL = 5


class Made(NamedTuple):
    """Events as JSON texts; how many parts and messages (flows) they show; what could not be shown."""

    texts: list[str]
    spans: int
    messages: int
    warnings: list[str]


def events(found: Recording, window: Window, *, label: str = "", place: int = 0) -> Made:
    """Return what lies in a window, at least in part; with a label and a place it stands below other runs in one trace."""
    origin = _origin(found)
    pids = _pids(found.stages)
    if place:
        pids = {number: place * BESIDE + number for number in pids}
    texts: list[str] = []
    spans = 0
    for stage in found.stages:
        texts += _metadata(stage, pids[stage.number], label, place)
        work = window.within(stage.of(*ACTIONS, "s", "t", "w"))
        work = _after_sending(found, stage, work)
        work = work[np.lexsort((-work["end"], work["start"]))]
        spans += int(np.isin(work["kind"], [ord(letter) for letter in ACTIONS]).sum())
        texts += _slices(found, stage, work, f'"pid":{pids[stage.number]},"tid":1', origin)
        texts += _in_flight(found, stage, pids[stage.number], origin, window)
    flows, left_out = _flows(found, pids, origin, window, place * BESIDE)
    warnings = [f"{left_out:,} messages were taken before they were sent; they have no arrow"] if left_out else []
    return Made(texts + flows, spans, len(flows) // 2, warnings)


def write(found: Recording, made: Made, stream: BinaryIO, *, is_packed: bool) -> None:
    """Write events as a whole trace, gzipped or not; the same run gives the same bytes."""
    shift = found.stages[0].shift_ns
    facts = {
        "run": found.folder.name,
        "schedule": found.plan.schedule,
        "boxes": found.plan.boxes,
        "batches": found.plan.batches,
        "tied": found.plan.tied,
        "origin": iso(max(_origin(found) + shift, 0)),
        "environment": runs.read_json(found.folder / "environment.json") or {},
        "clock_error_ns": found.clock_error_ns,
        "warnings": [*found.warnings, *made.warnings],
    }
    body = ",\n".join(made.texts)
    text = f'{{"traceEvents":[\n{body}\n],"displayTimeUnit":"ns","otherData":{json.dumps(facts)}}}\n'
    if not is_packed:
        stream.write(text.encode())
        return
    with gzip.GzipFile("", "wb", LEVEL, stream, mtime=0) as packed:
        packed.write(text.encode())


def _origin(found: Recording) -> int:
    """Return time zero: the first go, or the first record if that is earlier, so that no time is negative."""
    return min(found.origin_ns, *(int(stage.array["start"].min()) for stage in found.stages))


def _pids(stages: list[StageRecords]) -> dict[int, int]:
    """Return a pid for each stage: its own, unless another stage has it or it is not told."""
    own = [stage.pid for stage in stages]
    free = max(own, default=0) + 1
    pids: dict[int, int] = {}
    for stage in stages:
        if stage.pid > 0 and stage.pid not in pids.values():
            pids[stage.number] = stage.pid
        else:
            pids[stage.number], free = max(free, 1), max(free, 1) + 1
    return pids


def _metadata(stage: StageRecords, pid: int, label: str, place: int) -> Iterator[str]:
    for key, args in (
        ("process_name", {"name": f"{label} {stage.name}".strip()}),
        ("process_sort_index", {"sort_index": place * BESIDE + stage.number}),
        ("thread_name", {"name": "work"}),
    ):
        yield json.dumps({"ph": "M", "pid": pid, "tid": 1, "name": key, "args": args})


def _slices(found: Recording, stage: StageRecords, work: Array, place: str, origin: int) -> Iterator[str]:
    """Yield the complete events of a stage; built as text, because there may be a million of them."""
    numbers = {
        (ord(step.action), PART_CODE[step.part]): f',"step":{step.number}'
        for step in steps.steps(found.plan)
        if step.stage == stage.number
    }
    names = [found.plan.name(k) if k else "" for k in range(found.plan.head + 1)]
    columns = [work[name].tolist() for name in ("kind", "code", "peer", "batch", "a", "b", "c", "d", "start", "end")]
    letters = set(map(ord, ACTIONS))
    for kind, code, peer, batch, a, b, c, d, start, end in zip(*columns, strict=True):
        ts, dur = start - origin, end - start
        when = f'"ts":{ts // 1000}.{ts % 1000:03d},"dur":{dur // 1000}.{dur % 1000:03d}'
        if kind in letters:
            part = PARTS[code]
            action = f"{chr(kind)}{peer}.{batch}" if peer else f"{chr(kind)}{batch}"
            what = COUNTED.get(chr(kind), "batch")
            step = numbers.get((kind, code), "") if not peer else ""
            yield (
                f'{{"ph":"X",{place},{when},"cat":"compute","name":"{action} {part}","args":{{"action":"{action}",'
                f'"part":"{part}","{what}":{batch},"read":{a},"written":{b}{step}}}}}'
            )
            continue
        other = names[peer] if peer < len(names) else f"stage {peer}"
        if kind == WAITED:
            name, waits_for = _wait(stage.number, a, KINDS[code], peer, batch, other)
            yield f'{{"ph":"X",{place},{when},"cat":"wait","name":"{name}","args":{{"for":"{waits_for}"}}}}'
            continue
        verb, way, spent = ("send", "→", "encode_ns") if kind == SENT else ("take", "←", "receive_ns")
        yield (
            f'{{"ph":"X",{place},{when},"cat":"copy","name":"{verb} {KINDS[code]} {batch} {way} {other}",'
            f'"args":{{"message":"{KINDS[code]}","batch":{batch},"bytes":{a},"version":{b},"sequence":{d},'
            f'"{spent}":{c}}}}}'
        )


def _wait(number: int, why: int, kind: str, source: int, batch: int, name: str) -> tuple[str, str]:
    """Return a wait's name and what was awaited."""
    if not source:
        return "waiting", "any message"
    word = WAITS[why] if why < len(WAITS) else MESSAGE
    reason = "" if word == MESSAGE else f": {word}"
    return f"{way(number, source, why)} by {name}{reason}", f"{kind} {batch} from {name}"


def _in_flight(found: Recording, stage: StageRecords, pid: int, origin: int, window: Window) -> Iterator[str]:
    """Yield how many batches a box has forwarded and not settled, whenever that changes."""
    plan = found.plan
    settles = plan.settles_by(stage.number)
    if stage.number == plan.head or settles == "F":
        return
    parts = stage.parts
    forwards = parts[(parts["kind"] == ord("F")) & (parts["code"] == PART_CODE["forward"])]
    settled = parts[(parts["kind"] == ord(settles)) & (parts["peer"] == 0)]
    # Both go batch by batch, so the last batch tells the count, also after a gap in the record.
    times = np.concatenate([forwards["end"], settled["end"]])
    none = np.zeros(len(times), np.int64)
    counts = np.stack([none, none])
    counts[0, : len(forwards)] = forwards["batch"].astype(np.int64) + 1
    counts[1, len(forwards) :] = (settled["batch"].astype(np.int64) + 1) * (plan.micro if settles == "U" else 1)
    order = np.argsort(times, kind="stable")
    times, counts = times[order], np.maximum.accumulate(counts[:, order], axis=1)
    inside = (times > window.first_ns) & (times < window.last_ns)
    values = np.maximum(counts[0] - counts[1], 0)[inside].tolist()
    for ts, value in zip((times[inside] - origin).tolist(), values, strict=True):
        yield (
            f'{{"ph":"C","pid":{pid},"tid":1,"ts":{ts // 1000}.{ts % 1000:03d},"name":"batches",'
            f'"args":{{"in flight":{value}}}}}'
        )


def _after_sending(found: Recording, stage: StageRecords, work: Array) -> Array:
    """Let a taking begin when its message had been sent, where the call that received it had begun before.

    A viewer draws an arrow from the slice that began first; without this a rare one would point backwards.
    """
    messages = found.messages
    is_early = (messages.target == stage.number) & (messages.received < messages.sent) & (messages.sent < messages.kept)
    if not is_early.any():
        return work
    work = work.copy()
    edges = zip(messages.source[is_early].tolist(), messages.sequence[is_early].tolist(), strict=True)
    sent = dict(zip(edges, messages.sent[is_early].tolist(), strict=True))
    for place in np.flatnonzero(work["kind"] == TAKEN):
        at = sent.get((int(work["peer"][place]), int(work["d"][place])))
        if at is not None:
            work["start"][place] = at
    return work


def _flows(found: Recording, pids: dict[int, int], origin: int, window: Window, first: int) -> tuple[list[str], int]:
    """Return two events for every message that both slices are shown of, and how many had to be left out.

    An arrow leaves when the message had been encoded and arrives when it had been received, but strictly within the two
    slices, or a viewer would not know which slice is meant.
    """
    messages = found.messages
    inside = (messages.returned > window.first_ns) & (messages.start < window.last_ns)
    inside &= (messages.kept > window.first_ns) & (messages.received < window.last_ns)
    leaves = np.maximum(
        np.minimum(messages.sent, messages.returned - 1), np.minimum(messages.start + 1, messages.returned)
    )
    arrives = np.maximum(
        np.minimum(messages.taken, messages.kept - 1),
        np.minimum(np.maximum(messages.received, messages.sent) + 1, messages.kept),
    )
    # A nanosecond may have been lost at an edge.
    arrives = np.maximum(arrives, np.minimum(leaves, messages.kept - 1))
    is_good = leaves <= arrives
    kept = inside & is_good
    columns = [column[kept].tolist() for column in (messages.kind, messages.source, messages.target, messages.batch)]
    texts = []
    for number, (kind, source, target, batch, ts, to) in enumerate(
        zip(*columns, (leaves[kept] - origin).tolist(), (arrives[kept] - origin).tolist(), strict=True), first + 1
    ):
        what = f'"tid":1,"cat":"message","name":"{KINDS[kind]} {batch}","id":{number},"bp":"e"'
        texts.append(f'{{"ph":"s","pid":{pids[source]},"ts":{ts // 1000}.{ts % 1000:03d},{what}}}')
        texts.append(f'{{"ph":"f","pid":{pids[target]},"ts":{to // 1000}.{to % 1000:03d},{what}}}')
    return texts, int((inside & ~is_good).sum())
