"""What came from nobody of this run, or damaged: counted, and told in few words. Pure.

The first of them are told at once, each in a line; then only the one that doubles their number, so that a million fill a
log with some thirty lines; and at the end their number. Those that may well be a peer's, damaged on the way, are told by
a count of their own: a flood before one of them does not hide it.
"""

from __future__ import annotations

from collections.abc import Callable

#: So many are told one by one.
ONE_BY_ONE = 10


class Strangers:
    """Counts what was dropped at one process's sockets and tells of it."""

    def __init__(self, tell: Callable[..., None] = lambda *_, **__: None) -> None:
        self.count = 0
        self.late = 0  # messages of an attempt that is over
        self._likely = 0  # of them a peer's, by what they say
        self._tell = tell

    def add(self, what: str, *, is_likely: bool = False) -> None:
        """Count one, and tell it if it is one of the first or doubles their number."""
        self.count += 1
        self._likely += is_likely
        count = self._likely if is_likely else self.count - self._likely
        if count <= ONE_BY_ONE:
            self._tell(what)
        elif count & (count - 1) == 0:
            self._tell(f"{what}; {self.count:,} have been dropped so far")

    def total(self) -> str:
        """Return how many there were, in words."""
        return f"{self.count:,} that failed their check were dropped"

    def sum_up(self, refused: int) -> None:
        """Tell at the end what there was besides: strangers who were not admitted, and late messages."""
        late = self.late
        if self.count or refused or late:
            text = f"strangers: {self.total()}, {refused:,} times one with another key was not admitted"
            late_ones = f"; {late:,} late messages of an earlier attempt were dropped" if late else ""
            self._tell(text + late_ones, dropped=self.count, refused=refused, late=late)
