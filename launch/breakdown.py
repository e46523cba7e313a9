"""Where a stage's time went, from its records: every nanosecond has one name. Pure on arrays.

    compute    the arithmetic of actions, emulated time included
    copy       receive and decode, encode and send
    starved    waiting for what comes from a stage before       by whom, for what
    blocked    waiting for a stage after, or for credit          by whom, for what, and why (window, credit, …)
    other      what stands between the records: choosing, journal, log lines, looks at the control link; the probe; and
               waiting for no message in particular, where the schedule alone holds the stage
    missing    time of which nothing is on record

The records of a stage follow each other on one thread, so the parts cannot overlap; `other` is added up from the spaces
between them, not taken as the rest, so that the sum is a check and not a tautology.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.actions import KINDS
from pipeline.arrays import Array
from pipeline.lacks import WAITS, Lack
from pipeline.plan import Plan
from pipeline.trace import GAP, PART_CODE, PARTS

from .recording import StageRecords

#: How a stage waits.
STARVED, BLOCKED, NOBODY = "starved", "blocked", "schedule"
#: The parts may differ from the whole by this share before it is told.
TOLERANCE = 0.01
NS = 1e9


def breakdown(stage: StageRecords, plan: Plan) -> dict[str, Any]:
    """Return a stage's time in seconds by what it went to."""
    parts, waits = stage.parts, stage.of("w")
    is_probe = parts["code"] == PART_CODE["probe"]
    spaces, gaps = _spaces(stage)
    copy = _copy(stage)
    found: dict[str, Any] = {
        "name": stage.name,
        "total_s": stage.total_ns / NS,
        "compute_s": _seconds(parts[~is_probe]),
        "copy_s": sum(copy.values()),
        "starved_s": {},
        "blocked_s": {},
        "other_s": spaces / NS + _seconds(parts[is_probe]),
        "missing_s": gaps / NS,
        "other": {"log_s": stage.log_s, "probe_s": _seconds(parts[is_probe])},
        "cpu_s": stage.cpu_s,
        "parts": _by_part(parts),
        "copy": copy,
        "waits": _waits(waits, stage.number, plan),
    }
    for wait in found["waits"]:
        if wait["way"] != NOBODY:
            by = found[f"{wait['way']}_s"]
            by[wait["from"]] = by.get(wait["from"], 0.0) + wait["seconds"]
        else:
            found["other_s"] += wait["seconds"]
    found["unexplained_s"] = found["total_s"] - explained(found)
    return found


def explained(found: dict[str, Any]) -> float:
    """Return the sum of all parts of a stage's time, in seconds."""
    waits = sum(found["starved_s"].values()) + sum(found["blocked_s"].values())
    return float(found["compute_s"] + found["copy_s"] + waits + found["other_s"] + found["missing_s"])


def idle(found: dict[str, Any]) -> float:
    """Return how long a stage waited, in seconds."""
    return float(sum(found["starved_s"].values()) + sum(found["blocked_s"].values()))


def fault(found: dict[str, Any]) -> str | None:
    """Return what is to be said where the parts are not the whole."""
    total = found["total_s"]
    if found["missing_s"] > TOLERANCE * total:
        share = 100 * found["missing_s"] / total
        return f"{found['name']}: {share:.0f} % of its time is not on record; the other figures are of what is"
    if abs(found["unexplained_s"]) > TOLERANCE * total:
        return (
            f"{found['name']}: the parts of its time add up to {100 * explained(found) / total:.1f} %; "
            f"{found['unexplained_s']:+.3f} s are not explained"
        )
    return None


def _seconds(records: Array) -> float:
    return int((records["end"] - records["start"]).sum()) / NS


def _spaces(stage: StageRecords) -> tuple[int, int]:
    """Return the nanoseconds between a stage's records, and those in gaps."""
    array = stage.array
    inside = array[(array["start"] >= stage.go_ns) & (array["end"] <= stage.end_ns)]
    starts = np.concatenate([inside["start"], [stage.end_ns]])
    ends = np.maximum.accumulate(np.concatenate([[stage.go_ns], inside["end"]]))
    between = int(np.maximum(starts - ends, 0).sum())
    gap = inside[inside["kind"] == GAP]
    return between, int((gap["end"] - gap["start"]).sum())


def _copy(stage: StageRecords) -> dict[str, float]:
    sent, taken = stage.of("s"), stage.of("t")
    encode, receive = int(sent["c"].sum()) / NS, int(taken["c"].sum()) / NS
    return {
        "receive_s": receive,
        "decode_s": _seconds(taken) - receive,
        "encode_s": encode,
        "send_s": _seconds(sent) - encode,
    }


def _by_part(parts: Array) -> dict[str, dict[str, float]]:
    found = {}
    for code in np.unique(parts["code"]):
        took = (parts["end"] - parts["start"])[parts["code"] == code] / NS
        found[PARTS[code]] = {
            "count": len(took),
            "seconds": float(took.sum()),
            "median_s": float(np.median(took)),
            "p99_s": float(np.percentile(took, 99)),
        }
    return found


def way(number: int, source: int, why: int) -> str:
    """Return how stage `number` waits for a source and a reason as a record has them: starved, blocked, or by its schedule."""
    if not source:
        return NOBODY
    return BLOCKED if Lack(WAITS[why] if why < len(WAITS) else "", "", 0, source).is_blocked(number) else STARVED


def ways(waits: Array, number: int) -> Array:
    """Return for each wait of a stage how it waits, as words."""
    keys, places = np.unique(waits["peer"].astype(np.uint64) << np.uint64(32) | waits["a"], return_inverse=True)
    words: Array = np.array([way(number, key >> 32, key & 0xFFFFFFFF) for key in keys.tolist()], "U8")
    return words[places]


def _waits(waits: Array, number: int, plan: Plan) -> list[dict[str, Any]]:
    """Return the waits by what was awaited, from whom and why; the longest first."""
    keys = np.stack([waits["code"], waits["peer"], waits["a"]], axis=1) if len(waits) else np.empty((0, 3), np.int64)
    took = waits["end"] - waits["start"]
    found = []
    for key in np.unique(keys, axis=0):
        is_one = (keys == key).all(axis=1)
        kind, peer, why = (int(value) for value in key)
        found.append(
            {
                "way": way(number, peer, why),
                "for": KINDS[kind] if peer else "",
                "from": plan.name(peer) if 1 <= peer <= plan.head else "",
                "why": WAITS[why] if peer and why < len(WAITS) else "",
                "count": int(is_one.sum()),
                "seconds": int(took[is_one].sum()) / NS,
            }
        )
    return sorted(found, key=lambda wait: -float(wait["seconds"]))


def mean_durations(stages: list[StageRecords]) -> dict[tuple[int, str], int]:
    """Return the mean time of each stage's actions by kind, in nanoseconds, the probe left out."""
    found = {}
    for stage in stages:
        parts = stage.parts[stage.parts["code"] != PART_CODE["probe"]]
        for letter in np.unique(parts["kind"]):
            chosen = parts[parts["kind"] == letter]
            # An action is told once by each of its parts.
            actions = len(chosen) if chr(letter) != "F" else int((chosen["code"] == PART_CODE["forward"]).sum())
            found[stage.number, chr(letter)] = int((chosen["end"] - chosen["start"]).sum()) // max(actions, 1)
    return found
