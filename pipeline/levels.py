"""How long the sequences of a task are, level by level, and how many sums there are. Pure integers.

Level n of copy is n symbols; of repeat-copy, (length, repeats) = (1, 1), (1, 2), (2, 2), (2, 3) …
"""

from __future__ import annotations


def lengths(name: str, level: int) -> tuple[int, int]:
    """Return how many symbols a level of `copy` or `repeat-copy` has, and how often they are wanted."""
    assert name in ("copy", "repeat-copy"), f"{name} has no levels"
    assert level >= 1, f"levels begin with 1, not {level}"
    return (level, 1) if name == "copy" else ((level + 1) // 2, level // 2 + 1)


def needed(name: str, level: int) -> int:
    """Return how many steps a level of `copy` or `repeat-copy` takes."""
    length, repeats = lengths(name, level)
    return length * (repeats + 1) + (1 if name == "copy" else 2)


def longest(name: str, steps: int) -> int:
    """Return the highest level of `copy` or `repeat-copy` that fits in so many steps; 0 if none does."""
    level = 0
    while needed(name, level + 1) <= steps:
        level += 1
    return level


def pairs(bits: int) -> int:
    """Return how many pairs of numbers there are whose sum surely has no more than `bits` bits: 4^(bits − 1)."""
    assert 2 <= bits <= 24, f"sums have 2 to 24 bits, not {bits}"
    return 1 << 2 * (bits - 1)
