"""What `timebox logs --why` prints for people: how each stage stands, and the first cause. Pure."""

from __future__ import annotations

from typing import Any

from pipeline.lacks import CREDIT, DRAIN, WINDOW

from .vitals import LONG_S


def is_halted(stage: dict[str, Any], status: str) -> bool:
    """Whether the kernel does not let a stage go on, in a run that should."""
    return status == "running" and stage["process"] in ("stopped", "traced", "gone")


def stands_still(stage: dict[str, Any], status: str) -> bool:
    """Whether a stage does not go on, whatever it waits for."""
    return is_halted(stage, status) or bool(stage.get("silence"))


def of_process(stage: dict[str, Any]) -> str:
    """Return what its process does."""
    means = {
        "stopped": "is stopped (SIGSTOP)",
        "traced": "is held by a debugger",
        "gone": "is gone",
        "running": "runs: it works on that, or spins",
        "sleeping": "sleeps: it waits for something that the rules do not know",
        "unknown": "cannot be seen from here",
    }
    return f"its process {stage['pid']} {means[stage['process']]}"


def of_itself(stage: dict[str, Any], status: str) -> str:
    """Return in words how a stage stands."""
    is_running = status == "running"
    lasts = "" if stage["for_s"] is None else f" for {stage['for_s']:.1f} s"
    ails = f": {of_process(stage)}" if is_halted(stage, status) else ""
    if not stage["has_begun"]:
        return f"has not begun{ails}" if is_running else "had not begun"
    if stage["is_done"]:
        return f"has done everything{ails}"
    if silent := stage.get("silence"):
        return _of_silence(silent)
    if stage["waits"] is not None:
        is_late = stage["waits"].get("was_sent") and (stage["for_s"] or 0.0) >= LONG_S
        late = "; it was sent and has not come" if is_late else ""
        return f"{'waits' if is_running else 'waited'} for {awaited(stage['waits'])},{lasts}{late}{ails}"
    if ails or (stage["for_s"] or 0.0) >= LONG_S:
        why = f": {of_process(stage)}" if is_running else ""
        return f"could do {stage['could']} and {'has' if is_running else 'had'} not{lasts}{why}"
    return f"{'is' if is_running else 'was'} at work; next is {stage['could']}"


def _of_silence(silent: dict[str, Any]) -> str:
    """Return in words for how long a stage had shown no sign of life when the others stopped, and after that."""
    texts = []
    if silent["seconds"] is not None:
        midst = f", in the midst of {silent['midst']}" if silent["midst"] else ""
        texts.append(f"showed no sign of life for the last {silent['seconds']:.1f} s{midst}")
    if silent["unanswered_s"] is not None:
        texts.append(f"did not answer for {silent['unanswered_s']:.1f} s when it was told to stop")
    return " and ".join(texts)


def awaited(waits: dict[str, Any]) -> str:
    """Return in words what a stage waits for."""
    what, source, why = f"{waits['message']} {waits['batch']}", waits["from"], waits["why"]
    if why == CREDIT:
        return f"a credit from {source} to send {what}"
    if why == WINDOW:
        return f"{what} from {source} (its window of {waits['window']} is full)"
    return f"{what} from {source}{' (the last evaluation follows the drain)' if why == DRAIN else ''}"


def render(document: dict[str, Any]) -> str:
    """Return the table for people, and the first cause."""
    stages, status = document["stages"], document["status"]
    width = max(len(stage["name"]) for stage in stages)
    batch = max(stage["batch"] for stage in stages)
    lines = [f"{document['run']}: {status}, batch {batch:,} of {document['batches']:,}"]
    if status != "done":
        lines += [f"{stage['name']:<{width}}  {of_itself(stage, status)}" for stage in stages]
    longest = max((stage["chain"] for stage in stages), key=len)
    if len(longest) > 2:
        lines.append(f"who waits for whom: {' → '.join(longest)}")
    lines.append(f"first cause: {document['first_cause']['text']}")
    return "\n".join([*lines, *document["notes"]])
