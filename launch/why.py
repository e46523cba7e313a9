"""Why a run does not go on, or how it stood when it ended: who waits for whom, for which batch, and the first cause.

From all journals the rules know where every stage stands and what it lacks (`pipeline.reckon`). Who waits points to who
does not send; from stage to stage that leads to one that lacks nothing and yet does not go on: the first cause. The kernel
knows whether its process is stopped, runs, sleeps or is gone. What has been sent may still not have come: a process that
is stopped holds on to its last messages. So a worker's own word that it waits counts more than what the rules make of it.

    head   waits for activation 17 from box-2, for 12.3 s
    box-2  could do F17 and has not for 12.4 s: its process 4711 is stopped (SIGSTOP)
    box-1  waits for target 16 from box-2 (its window of 6 is full), for 12.1 s
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline import trace
from pipeline.actions import Action
from pipeline.config import load
from pipeline.done import count
from pipeline.errors import ConfigError, RunError
from pipeline.lacks import WINDOW, Lack
from pipeline.plan import Plan
from pipeline.reckon import lack, next_action, reckon
from pipeline.standing import Standing

from . import aligned, runs
from .logs import parse
from .process import stage_state
from .vitals import LONG_S, Signs, now_ns, sent_away, signs, silence
from .why_text import awaited, is_halted, of_itself, of_process, render, stands_still

__all__ = ["FLUSH", "collect", "render"]

FLUSH = "workers write their journals five times a second: what they did last may not be on record"


def collect(folder: Path) -> dict[str, Any]:
    """Return who waits for whom in a run, and the first cause; raises ConfigError for a run without workers."""
    plan = Plan.of(load(folder / "config.toml"))
    state = runs.read_json(folder / "launcher.json") or {}
    if state.get("reference"):
        raise ConfigError(f"{folder.name} is a reference: one process, which waits for nobody")
    status = str(runs.describe(folder)["status"])
    warnings: list[str] = []
    journals = _journals(folder, plan, warnings)
    standings = reckon(plan, journals)
    alignment = aligned.by_pings(folder, plan)
    warnings += alignment.warnings
    seen = {k: signs(folder, plan.name(k), warnings, alignment.of(plan.name(k))) for k in standings}
    away = sent_away(folder)
    at = _moment(status, standings, seen, away.stopped_ns)
    known = {each.get("name"): each for each in runs.stages_of(state)}
    stages = []
    for k, standing in standings.items():
        name = plan.name(k)
        found = known.get(name, {})
        process = stage_state(found, folder.name) if status == "running" else "gone"
        told = {"pid": found.get("pid"), "host": found.get("host"), "process": process}
        stage = _stage(standing, journals.get(k, []), seen[k], at) | told
        if process in ("running", "sleeping", "unknown") or seen[k].ended_ns:
            stage |= _own_word(plan, stage, seen[k].waited)
        if status == "interrupted" and not standing.is_done:
            silent = silence(folder, name, seen[k], at, away.unanswered_s.get(name), alignment.of(name))
            stage["silence"] = silent and silent._asdict()
        stages.append(stage)
    silents = {stage["name"] for stage in stages if stage["silence"]}
    for stage in stages:
        if stage["waits"] is not None and stage["waits"]["from"] in silents:
            stage["waits"].pop("was_sent", None)  # when it was woken to be ended
    for stage in stages:
        stage["chain"] = _chain(stage, stages, status)
    document: dict[str, Any] = {
        "run": folder.name, "status": status, "batches": plan.batches, "stages": stages,
    }  # fmt: skip
    document["first_cause"] = _first_cause(folder, document)
    behind = [
        stage["name"] for stage in stages if stage["is_behind"] and (status != "running" or is_halted(stage, status))
    ]
    document["notes"] = [
        f"{name} has done more than its journal tells, by what the others took from it; {FLUSH}" for name in behind
    ]
    if document["first_cause"]["kind"] in ("gone", "failed", "launcher") and not behind:
        document["notes"].append(FLUSH)
    return document | {"warnings": warnings}


def _journals(folder: Path, plan: Plan, warnings: list[str]) -> dict[int, list[Action]]:
    found = {}
    for k in range(1, plan.head + 1):
        try:
            found[k] = trace.read_journal(folder, plan.name(k))
        except RunError as error:
            if (folder / "journal" / f"{plan.name(k)}.txt").exists():
                warnings.append(f"{error}; its place is reckoned from the others'")
    return found


def _moment(status: str, standings: dict[int, Standing], seen: dict[int, Signs], stopped_ns: int) -> int:
    """Return the moment to look at: now, or when the first worker that was not done came to its end.

    Where no trace tells that, the launcher may have heard the first one stop at `stopped_ns`.
    """
    if status == "running":
        shifts = [each.shift_ns for each in seen.values() if each.shift_ns]
        return now_ns(shifts[0]) if shifts else 0
    ends = [each.ended_ns for k, each in seen.items() if each.ended_ns and not standings[k].is_done]
    return min(ends, default=stopped_ns or max(each.seen_ns for each in seen.values()))


def _stage(standing: Standing, journal: list[Action], seen: Signs, at: int) -> dict[str, Any]:
    plan = standing.plan
    told = count(plan, standing.number, journal)
    waits, could = lack(standing), next_action(standing)
    reckoned = standing.forwards + standing.trained + standing.evaluated + sum(standing.applied.values())
    return {
        "name": standing.name,
        "batch": standing.forwards,
        "last_action": str(journal[-1]) if journal else None,
        "has_begun": seen.has_begun,
        "is_done": standing.is_done,
        "is_behind": reckoned > told.actions - told.summed,
        "waits": None if waits is None else _waits(plan, waits),
        "could": None if could is None or standing.is_done else str(could),
        "silence": None,
        "for_s": round(max(at - seen.acted_ns, 0) / 1e9, 3) if at and seen.acted_ns else None,
    }


def _waits(plan: Plan, waits: Lack) -> dict[str, Any]:
    source = plan.name(waits.source) if waits.source else None
    found = {"message": waits.kind, "batch": waits.batch, "from": source, "why": waits.why}
    return found | ({"window": plan.window} if waits.why == WINDOW else {})


def _own_word(plan: Plan, stage: dict[str, Any], waited: Lack | None) -> dict[str, Any]:
    """Return what changes where a stage could go on by the rules, and says that it waits for what was sent to it."""
    if stage["could"] is None or waited is None:
        return {}
    return {"could": None, "waits": _waits(plan, waited) | {"was_sent": True}}


def _chain(stage: dict[str, Any], stages: list[dict[str, Any]], status: str) -> list[str]:
    """Return the names from a stage along who waits for whom; in a circle the last one stands there twice."""
    named = {each["name"]: each for each in stages}
    chain = [stage["name"]]
    while not stands_still(named[chain[-1]], status) and (waits := named[chain[-1]]["waits"]) and waits["from"]:
        chain.append(waits["from"])
        if waits["from"] in chain[:-1]:
            break
    return chain


# The first cause


def _first_cause(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Return who is to blame: its kind, its stage where it is one, and a text."""
    status, stages = document["status"], document["stages"]
    error = runs.read_json(folder / "logs" / "error.json") or {}
    if status == "failed" or (status == runs.UNREADABLE and error):
        stage, text = error.get("stage"), error.get("error", "no error is on record")
        return _cause("failed", stage, f"{stage} (process {error.get('pid')}): {text}" if stage else str(text))
    if status == "done":
        return _cause("none", None, "the run is done; nobody waits")
    if status == runs.UNREADABLE:
        return _cause("unknown", None, f"not known: {status}, which tells how the run ended")
    if status == "died":
        pid = (runs.read_json(folder / "launcher.json") or {}).get("pid")
        who = (
            f"the launcher (process {pid})" if pid else "the launcher"
        )  # of a run that was imported there is no number
        return _cause("launcher", None, f"{who} is gone and has written no summary: it was killed")
    if not any(stage["has_begun"] for stage in stages):
        return _start(folder, document)
    suspects = [stage for stage in stages if _is_suspect(stage, status)]
    if suspects:
        # One that is halted, and of several the one that most wait for in the end, or that has been still for longest.
        ends = [stage["chain"][-1] for stage in stages]
        worst = max(
            suspects, key=lambda stage: (stands_still(stage, status), ends.count(stage["name"]), stage["for_s"] or 0.0)
        )
        if worst.get("silence"):
            return _cause("still", worst["name"], _silent_cause(worst, stages, status))
        also = [stage["name"] for stage in suspects if stage is not worst]
        kind = worst["process"] if status == "running" else "still"
        way_out = f"; kill -CONT {worst['pid']} lets it go on" if kind == "stopped" else ""
        text = f"{worst['name']}: {of_itself(worst, status)}{way_out}" + (f"; also {', '.join(also)}" if also else "")
        return _cause(kind, worst["name"], text)
    circle = next((stage["chain"] for stage in stages if stage["chain"][-1] in stage["chain"][:-1]), None)
    if circle and all((stage["for_s"] or 0.0) >= LONG_S for stage in stages if stage["name"] in circle):
        names = " → ".join(circle[circle.index(circle[-1]) :])
        for stage in stages:
            if stage["name"] in circle and stage["waits"].get("was_sent"):
                what = awaited(stage["waits"])
                return _cause("lost", stage["waits"]["from"], f"{stage['name']} waits for {what}, and that was sent")
        text = f"a circle, {names}: our rules exclude that, so it is a fault of ours; please report it with the run's folder"
        return _cause("circle", None, text)
    if status == "interrupted":
        return _cause("interrupted", None, "nobody: it was going on when it was told to stop")
    if all(stage["is_done"] for stage in stages):
        return _cause("none", None, "nobody: every stage has done its work, the run is ending")
    return _cause("none", None, f"nobody: the run goes on; {FLUSH}")


def _cause(kind: str, stage: str | None, text: str) -> dict[str, Any]:
    return {"kind": kind, "stage": stage, "text": text}


def _is_suspect(stage: dict[str, Any], status: str) -> bool:
    """Whether a stage does not go on though it could, or though nobody asked it not to."""
    return stands_still(stage, status) or (stage["could"] is not None and (stage["for_s"] or 0.0) >= LONG_S)


def _silent_cause(worst: dict[str, Any], stages: list[dict[str, Any]], status: str) -> str:
    """Return what to say of a stage that showed no sign of life, and of those that waited for it."""
    others = [stage["name"] for stage in stages if stage is not worst and stage["chain"][-1] == worst["name"]]
    also = [stage["name"] for stage in stages if stage.get("silence") and stage is not worst]
    longest = max((stage["for_s"] or 0.0 for stage in stages if stage["name"] in others), default=0.0)
    lasted = f" for {longest:.1f} s" if longest >= LONG_S else ""
    waited = f", while {' and '.join(others)} waited for it{lasted}" if others else ""
    return f"{worst['name']}: {of_itself(worst, status)}{waited}" + (f"; also {', '.join(also)}" if also else "")


def _start(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Return who keeps a run from beginning."""
    if document["status"] != "running":
        return _cause("interrupted", None, "nobody: it was told to stop before it had begun")
    try:
        texts = (folder / "logs" / "launcher.log").read_bytes().splitlines()
    except OSError:
        texts = []
    said = {line["text"] for text in texts if (line := parse(text)) is not None}
    late = [stage for stage in document["stages"] if f"{stage['name']}: ready" not in said]
    still = [stage for stage in late if is_halted(stage, document["status"])]
    if still:
        text = f"{still[0]['name']}: it is to get ready, and {of_process(still[0])}"
        return _cause(still[0]["process"], still[0]["name"], text)
    names = ", ".join(stage["name"] for stage in late) or "nobody"
    return _cause("none", None, f"the run has not begun; not ready yet: {names}")
