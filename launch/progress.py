"""What a person sees while a run goes on: one live line a stage on a terminal, plain lines elsewhere, nothing with --json."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from pipeline.plan import Plan

from .supervise import Supervisor

if TYPE_CHECKING:
    from rich.live import Live

#: Seconds between two pictures on a terminal, and between two lines elsewhere.
PICTURE_S, LINE_S = 0.5, 5.0


class Progress:
    """Shows loss and every stage's batch. Use as a context; give `self` to `launch` as its observer."""

    def __init__(self, plan: Plan, *, quiet: bool) -> None:
        self._plan = plan
        self._quiet = quiet
        self._is_terminal = sys.stderr.isatty() and not quiet
        self._next = 0.0 if self._is_terminal else time.monotonic() + LINE_S
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trail: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, state: Supervisor) -> None:
        """Show where the run is, when it is time to."""
        now = time.monotonic()
        if self._quiet or not state.is_running or now < self._next:
            return
        if self._is_terminal:
            self._next = now + PICTURE_S
            self._draw(state)
        else:
            self._next = now + LINE_S
            print(self._line(state), file=sys.stderr, flush=True)

    def _line(self, state: Supervisor) -> str:
        places = " · ".join(f"{name} {member.batch}" for name, member in state.members.items())
        return f"of {self._plan.batches} batches: {places}{self._cost(state)}"

    def _cost(self, state: Supervisor) -> str:
        return "" if state.cost is None else f" · cost {state.cost:.4f}"

    def _draw(self, state: Supervisor) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        grid = Table.grid(padding=(0, 2))
        for name, member in state.members.items():
            bar = ProgressBar(total=self._plan.batches, completed=member.batch, width=36)
            grid.add_row(name, bar, f"{member.batch}/{self._plan.batches}", "gone" if member.is_gone else "")
        grid.caption = f"Ctrl-C stops and keeps what is there{self._cost(state)}"
        if self._live is None:
            console = Console(stderr=True)
            self._live = Live(grid, console=console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(grid, refresh=True)
