"""What came of a replay, for people. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import Array
from pipeline.replay import Moment


def render(found: dict[str, Any]) -> str:
    """Return what came of a replay as text."""
    did = (
        f"{found['actions']:,} actions of {found['stages']} stages, {found['arrays']:,} arrays compared, "
        f"{found['seconds']:.1f} s"
    )
    if found["same"]:
        running = "the run has not ended" if found["status"] == "running" else f"the run ended as {found['status']}"
        ended = f"digest {found['digest']}" if found["digest"] else running
        return f"the same bits: {did}\n{ended}"
    difference = found["first_difference"]
    lines = [f"not the same bits: {did}"]
    if not found["comparable"]:
        lines = [
            f"not comparable: the bits differ, and so does the environment: {did}",
            *map("  {}".format, found["environment"]),
        ]
    lines.append(f"first difference: {difference['stage']}, {difference['action']}: {difference['array']}")
    if "recorded" in difference:
        lines.append(f"  sum on record {difference['recorded']:08x}, replayed {difference['replayed']:08x}")
        lines.append(f"  before it: {difference['story']}")
        lines += [f"  {name}: {story}" for name, story in difference["before"].items()]
    if difference["far_off"] is not None:
        lines.append(f"how far off: final weights by {difference['far_off']:.3g} at most")
    return "\n".join(lines)


def render_moment(found: Moment, path: Path | None) -> str:
    """Return what is there at a moment as text: names, shapes and sizes."""
    lines = [f"{found.stage} at the end of {found.action}"]
    width = max(map(len, [*found.weights, *found.arrays]))
    for name, array in found.weights.items():
        changed = "" if np.array_equal(array, found.weights_before[name]) else "  changed by this action"
        lines.append(f"  {name:<{width}}  {_shape(array)}{changed}")
    lines += [f"  {name:<{width}}  {_shape(array)}" for name, array in found.arrays.items()]
    if path is not None:
        lines.append(f"all of it: {path}")
    return "\n".join(lines)


def _shape(array: Array) -> str:
    return f"{array.dtype} {array.shape}, norm {float(np.linalg.norm(array.astype(float))):.6g}"
