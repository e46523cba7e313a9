"""Whether the workers of a run go on: told what each one says, and when, it says who does not. Pure: no clock of its own.

    lost         a stage has sent more on an edge than has come, while the receiver waits and both go on telling so
    silent       a worker has said nothing for as long as `run.patience`, and as long as its longest emulated action
    standstill   all of them report, nobody has done an action for as long as `run.patience`, and no message is held back

Five times a second each worker's loop tells how many actions it has done and how many messages it has sent and taken on
every edge (`pipeline.heartbeat`). Nobody is judged before `go`, after it has said `done`, or for a time in which the
launcher itself did not run: after that everybody has new patience.

    box-1   sent 8 ─────────┐  8    8    8    8   it reports after it has sent: what it sent last has left its socket
    box-2   come 7, waits   └─ ✗    7    7    7   three reports later, and LOST_S: the 8th message was lost
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.plan import Plan
from pipeline.schema import Config

#: Seconds that a message may be on its way between two workers that report.
LOST_S = 1.0
#: How often a receiver must have said, after its sender said that the message had gone, that it waits and nothing has come.
REPORTS = 3
#: A launcher that has not looked for so many seconds was stopped, or held up: what it missed convicts nobody.
JUMP_S = 2.0


#: Who has not reported for so many seconds may have gone on since, or not.
QUIET_S = 1.0


class Verdict(NamedTuple):
    """Who does not go on: what kind of standing still it is, the stage, the batch it was last heard of, and what to say."""

    kind: str  # lost, silent, standstill
    stage: str
    batch: int
    text: str


@dataclass
class _Report:
    """What a worker said last."""

    at: float
    batch: int = 0
    actions: int = 0
    sent: dict[str, int] = field(default_factory=dict)
    come: dict[str, int] = field(default_factory=dict)
    held: int = 0
    awaits: str = ""
    awaits_from: str = ""
    damaged: tuple[str, ...] = ()
    is_done: bool = False

    @classmethod
    def of(cls, body: Mapping[str, Any], now: float, before: _Report) -> _Report:
        """Return what a body tells; what is not as agreed is passed over."""
        return cls(
            now,
            _count(body.get("batch"), before.batch),
            _count(body.get("actions"), before.actions),
            _counts(body.get("sent")),
            _counts(body.get("come")),
            _count(body.get("held"), 0),
            str(body.get("awaits") or ""),
            str(body.get("awaits_from") or ""),
            tuple(map(str, body.get("damaged") or ())),
        )


@dataclass
class _Missing:
    """A message that was sent and has not come."""

    since: float
    come: int  # how many had come
    is_confirmed: bool  # the sender has reported since: what it had sent is no longer in its socket
    reports: int = 0  # of the receiver, after that


class Watch:
    """Judges the workers of one run by what they say."""

    def __init__(
        self, plan: Plan, patience_s: float, longest_s: Mapping[str, float] | None = None, lost_s: float = LOST_S
    ) -> None:
        self.patience_s, self.lost_s = patience_s, lost_s
        self._names = [plan.name(k) for k in range(1, plan.head + 1)]
        self._sources = {name: [plan.name(k) for k in plan.sources(plan.number(name))] for name in self._names}
        self._longest_s = dict(longest_s or {})
        self._is_on = False
        self._reports: dict[str, _Report] = {}
        self._missing: dict[tuple[str, str], _Missing] = {}  # by sender, receiver
        self._moved = self._looked = 0.0  # when anybody had done anything, and when the launcher looked

    @classmethod
    def of(cls, config: Config, plan: Plan) -> Watch:
        """Return the watch over a run of a configuration."""
        names = [plan.name(k) for k in range(1, plan.head + 1)]
        # Between hosts a message may have to wait until the way is there again.
        lost_s = LOST_S if config.placer.kind == "local" else config.placer.lost_s
        return cls(plan, config.run.patience, {name: longest_action_s(config, name) for name in names}, lost_s)

    def begin(self, now: float) -> None:
        """The workers were told to go, for the first time or again: everything before that is forgotten."""
        self._is_on = True
        self._reports = {name: _Report(now) for name in self._names}
        self._missing.clear()
        self._moved = self._looked = now

    def pause(self) -> None:
        """Judge nobody until the next `begin`: the run ends, or is being taken up again."""
        self._is_on = False

    def heard(self, stage: str, word: str, body: Mapping[str, Any], now: float) -> None:
        """Take in what a worker said; only `progress` and `done` tell anything here."""
        if not self._is_on or word not in ("progress", "done") or stage not in self._reports:
            return
        before = self._reports[stage]
        if before.is_done:
            return
        report = self._reports[stage] = _Report.of(body, now, before)
        report.is_done = word == "done"
        if report.actions != before.actions or report.is_done:
            self._moved = now
        for (source, _), missing in self._missing.items():
            missing.is_confirmed |= source == stage
        for source in self._sources[stage]:
            self._compare(source, stage, report, has_moved=report.actions != before.actions)

    def _compare(self, source: str, stage: str, report: _Report, *, has_moved: bool) -> None:
        """See whether what a stage has sent has come to one that has just reported."""
        edge, sender = (source, stage), self._reports[source]
        come = report.come.get(source)
        if come is None or sender.sent.get(stage, 0) <= come or not report.awaits or has_moved:
            self._missing.pop(edge, None)
            return
        missing = self._missing.get(edge)
        if missing is None or missing.come != come:
            self._missing[edge] = _Missing(report.at, come, sender.is_done)
        elif missing.is_confirmed:
            missing.reports += 1

    def judge(self, now: float) -> Verdict | None:
        """Return who does not go on, or None; then nobody is judged any more until the next `begin`."""
        if not self._is_on:
            return None
        gap, self._looked = now - self._looked, now
        if gap > JUMP_S:
            self._forgive(now)
            return None
        verdict = self._lost(now) or self._silent(now) or self._standstill(now)
        if verdict is not None:
            self.pause()
        return verdict

    def _forgive(self, now: float) -> None:
        self._missing.clear()
        self._moved = now
        for report in self._reports.values():
            report.at = now

    def _lost(self, now: float) -> Verdict | None:
        for (source, stage), missing in self._missing.items():
            if now - missing.since >= self.lost_s and missing.reports >= REPORTS:
                report = self._reports[stage]
                what = "never came: lost"
                if source in report.damaged:
                    what = "came damaged: it failed its check and was dropped"
                text = (
                    f"a message from {source} (the {ordinal(missing.come + 1)} on this edge; {stage} waits for "
                    f"{report.awaits}) was sent and {what}"
                )
                return Verdict("lost", stage, report.batch, text)
        return None

    def _silent(self, now: float) -> Verdict | None:
        late = []
        for name, report in self._reports.items():
            over = now - report.at - self.patience_s - self._longest_s.get(name, 0.0)
            if not report.is_done and over >= 0.0:
                late.append((over, name))
        if not late:
            return None
        name = max(late, key=lambda each: each[0])[1]  # of several the one that is late for longest
        others = [other for _, other in late if other != name]
        also = f" (nor have {', '.join(others)})" if others else ""
        seconds = now - self._reports[name].at
        text = f"it has said nothing for {seconds:.1f} s (run.patience {self.patience_s:g}): it hangs{also}"
        return Verdict("silent", name, self._reports[name].batch, text)

    def _standstill(self, now: float) -> Verdict | None:
        working = {name: report for name, report in self._reports.items() if not report.is_done}
        patience = self.patience_s + max(self._longest_s.values(), default=0.0)
        if not working or now - self._moved < patience:
            return None
        if any(now - report.at > self.patience_s / 2 or report.held > 0 for report in working.values()):
            return None  # one of them is in the midst of an action, or a message is still to arrive
        name = next(iter(working))
        seen: set[str] = set()
        while name not in seen and working[name].awaits_from in working:
            seen.add(name)
            name = working[name].awaits_from
        since, told = now - self._moved, "; ".join(self.waits(now))
        text = f"no stage has done anything for {since:.1f} s, though all of them report: {told}"
        return Verdict("standstill", name, working[name].batch, text)

    def waits(self, now: float) -> list[str]:
        """Return who waits for what, as each one said last, in the order of the stages."""
        return [f"{name} {self._standing(report, now)}" for name, report in self._reports.items()]

    def _standing(self, report: _Report, now: float) -> str:
        if report.is_done:
            return "has done everything"
        if (seconds := now - report.at) >= QUIET_S:  # what it said then may no longer hold
            return f"has said nothing for {seconds:.1f} s; it had done {report.actions:,} actions"
        doing = f"waits for {report.awaits}" if report.awaits else "is at work"
        return f"{doing} after {report.actions:,} actions"


def longest_action_s(config: Config, stage: str) -> float:
    """Return how many seconds an action of a stage may be made to take; an upper bound: a probed forward is padded twice."""
    emulate = config.emulate
    padded = emulate.compute_ms
    longest = max(padded.values(), default=0.0) if isinstance(padded, dict) else float(padded)
    is_stretched = emulate.straggle and stage != "head"
    return (2 * longest + emulate.slow.get(stage, 0.0)) * (emulate.factor if is_stretched else 1.0) / 1e3


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, …, 11th, …, 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _count(value: object, default: int) -> int:
    return value if type(value) is int and value >= 0 else default


def _counts(value: object) -> dict[str, int]:
    found = value if isinstance(value, dict) else {}
    return {name: count for name, count in found.items() if type(name) is str and type(count) is int}
