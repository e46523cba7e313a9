"""What a person sees while a run goes on: a table that changes in place on a terminal, plain lines elsewhere, nothing
with --json. A line a stage: how far it is, how many batches it has in flight, what it does and for whom it waits.

Shares are of the time between the last two things that a worker said of itself, some 200 ms.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.plan import Plan

from . import terminal
from .supervise import Member, Recovery, Supervisor

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

#: Seconds between two pictures on a terminal, and between two lines elsewhere.
PICTURE_S, LINE_S = 0.5, 5.0
#: A stop that takes no longer needs no word.
PROMPT_S = 1.0
#: Columns of a bar: with it a line fits a terminal of 80 columns.
BAR = 10
#: A wait below this share of the time is not worth a word.
LEAST_SHARE = 0.05


class Doing(NamedTuple):
    """What a stage did lately: the share of time it computed, and its longest wait."""

    busy: float | None
    wait: str
    waited: float


def lately(before: dict[str, Any], now: dict[str, Any]) -> Doing:
    """Return what a stage did between two things it said of itself; pure."""
    seconds = _figure(now, "at_s") - _figure(before, "at_s")
    if seconds <= 0:
        return Doing(None, "", 0.0)
    waits = now.get("waits")
    earlier = before.get("waits")
    earlier = earlier if isinstance(earlier, dict) else {}
    shares = {
        str(text): (value - earlier.get(text, 0.0)) / seconds
        for text, value in (waits.items() if isinstance(waits, dict) else ())
        if isinstance(value, float)
    }
    longest = max(shares, key=lambda text: shares[text], default="")
    waited = shares.get(longest, 0.0)
    if waited < LEAST_SHARE:
        longest, waited = "", 0.0
    way, _, name = longest.partition(" ")
    busy = (_figure(now, "busy_s") - _figure(before, "busy_s")) / seconds
    return Doing(min(max(busy, 0.0), 1.0), f"{way} by {name}" if longest else "", min(waited, 1.0))


def _figure(said: dict[str, Any], key: str) -> float:
    value = said.get(key, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0


class Progress:
    """Shows loss and every stage's place. Use as a context; give `self` to `launch` as its observer."""

    def __init__(self, plan: Plan, *, quiet: bool) -> None:
        self._plan = plan
        self._quiet = quiet
        self._is_terminal = terminal.draws_over() and not quiet
        self._next = 0.0 if self._is_terminal else time.monotonic() + LINE_S
        self._live: Live | None = None
        self._waits_since = time.monotonic()  # how long it waits for workers to stop
        self._has_told = False
        self._recovered = 0  # recoveries that were told
        self._said: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}  # the last two things each stage said

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trail: TracebackType | None
    ) -> None:
        if self._live is not None:
            with terminal.aside():
                self._live.stop()

    def __call__(self, state: Supervisor) -> None:
        """Show where the run is, when it is time to."""
        if self._quiet:
            return
        for name, member in state.members.items():
            _, last = self._said.get(name, ({}, {}))
            if member.standing is not last:
                self._said[name] = (last, member.standing)
        now = time.monotonic()
        awaits = state.awaits(now)
        if not awaits:
            self._waits_since = now
        elif not self._has_told and now - self._waits_since > PROMPT_S:
            self._has_told = True
            self._tell(awaits)
        for recovery in state.recoveries[self._recovered :]:
            self._recovered += 1
            self._tell(self.recovery(recovery))
        if not state.is_running or now < self._next:
            return
        if self._is_terminal:
            self._next = now + PICTURE_S
            with terminal.aside():
                self._show(self.picture(state))
        else:
            self._next = now + LINE_S
            terminal.say_aside(self.line(state))

    def _tell(self, text: str) -> None:
        if self._live is None:
            terminal.say_aside(text)
        else:
            with terminal.aside():
                self._live.console.print(text, highlight=False)

    def recovery(self, recovery: Recovery) -> str:
        """Return what a run survives, in words."""
        failure, save, _ = recovery
        where = "the beginning" if save is None else f"batch {self._plan.barrier(save) // self._plan.micro:,}"
        return (
            f"{failure.stage}, at batch {failure.batch:,}: {failure.error}; it is restarted, and all go on from {where}"
        )

    def line(self, state: Supervisor) -> str:
        """Return where the run is as one line."""
        places = " · ".join(self._place(name, member) for name, member in state.members.items())
        return f"of {self._plan.batches} batches: {places}{self._cost(state)}"

    def _place(self, name: str, member: Member) -> str:
        doing = lately(*self._said.get(name, ({}, {})))
        flight = f"{member.standing['in_flight']} in flight" if member.standing.get("in_flight") else ""
        notes = [note for note in (flight, f"{doing.waited:.0%} {doing.wait}" if doing.wait else "") if note]
        return f"{name} {member.batch}" + (f" ({', '.join(notes)})" if notes else "")

    def _cost(self, state: Supervisor) -> str:
        return "" if state.cost is None else f" · cost {state.cost:.4f}"

    def picture(self, state: Supervisor) -> RenderableType:
        """Return where the run is as a table of rich."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, caption_justify="left", header_style="dim")
        table.add_column("stage", no_wrap=True)
        table.add_column("", width=BAR, no_wrap=True)
        for name in ("batch", "in flight", "computes"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("waits", no_wrap=True)
        for name, member in state.members.items():
            doing = lately(*self._said.get(name, ({}, {})))
            bar = ProgressBar(total=self._plan.batches, completed=member.batch, width=BAR)
            flight = member.standing.get("in_flight")
            wait = "gone" if member.is_gone else f"{doing.waited:4.0%} {doing.wait}" if doing.wait else ""
            table.add_row(
                name,
                bar,
                f"{member.batch}/{self._plan.batches}",
                "" if flight is None else str(flight),
                "" if doing.busy is None else f"{doing.busy:.0%}",
                wait,
            )
        table.caption = f"Ctrl-C stops and keeps what is there{self._cost(state)}"
        return table

    def _show(self, picture: RenderableType) -> None:
        from rich.console import Console
        from rich.live import Live

        if self._live is None:
            self._live = Live(picture, console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(picture, refresh=True)


class Share:
    """How much of long work is done: a bar on a terminal, a line now and then elsewhere, nothing when quiet."""

    def __init__(self, what: str, *, quiet: bool) -> None:
        self._what = what
        self._quiet = quiet
        self._is_terminal = terminal.draws_over()
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal and not self._quiet and self._told != self._began:
            terminal.over("")

    def __call__(self, done: int, whole: int) -> None:
        """Tell that so much of the whole is done."""
        now = time.monotonic()
        if self._quiet or not done or now - self._told < (PICTURE_S if self._is_terminal else LINE_S):
            return
        self._told = now
        left = (now - self._began) * (whole - done) / done
        text = f"{self._what}: {done:,} of {whole:,} ({done / max(whole, 1):.0%}), {left:.0f} s left"
        (terminal.over if self._is_terminal else terminal.say_aside)(text)
