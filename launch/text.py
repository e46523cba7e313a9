"""Text for people: tables in plain characters that fit a terminal of 80 columns. Pure."""

from __future__ import annotations

import os
import re
import shutil
import textwrap
from collections.abc import Sequence

#: As many names as one reads.
MOST_NAMES = 6


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, left: Sequence[int] = ()) -> str:
    """Return aligned columns under a ruled header: numbers to the right, the columns in `left` to the left."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(header))]

    def line(row: Sequence[str]) -> str:
        parts = [
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(cells[0]), "  ".join("─" * width for width in widths), *map(line, cells[1:])])


def few(names: Sequence[str]) -> str:
    """Return names as text, of many the first and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names) if more <= 1 else f"{', '.join(names[:MOST_NAMES])} and {more:,} more"


def number(value: float | None, digits: int = 4) -> str:
    """Return a figure with a fixed number of decimals, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def share(value: float | None) -> str:
    """Return a share as per cent, or a dash."""
    return "–" if value is None else f"{100 * value:.1f} %"


def processors(cores: int) -> str:
    """Return on how many processors something was simulated; 0: one for each stage."""
    return f"{cores} processor{'s' * (cores > 1)}" if cores else "a processor for each stage"


def fold(text: str, columns: int) -> str:
    """Return a text whose lines end before a column, where words allow it; what goes on stands under what it belongs to."""
    return "\n".join(line if len(line) <= columns else _folded(line, columns) for line in text.split("\n"))


def _folded(line: str, columns: int) -> str:
    gap = max((found.end() for found in re.finditer(r"^ +|\S {2,}(?=\S)", line)), default=0)
    indent = gap if gap and gap <= columns // 2 else len(line) - len(line.lstrip()) + 2
    words = textwrap.TextWrapper(
        columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )  # fmt: skip
    return "\n".join(words.wrap(line))


def terminal_width() -> int:
    """Return the columns of the terminal, 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns if os.environ.get("COLUMNS") or os.isatty(1) else 80
