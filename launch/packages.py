"""Which packages this one needs, in which versions, by its own metadata. Knows no more of versions than it must.

numpy<2.5,>=2.1   ->   ("numpy", ">=2.1, <2.5")
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple


class Need(NamedTuple):
    """A package that is needed: its name, and what its version must be, as `>=2.1, <2.5`."""

    name: str
    wanted: str


def needs() -> Iterator[Need]:
    """Yield what an installation cannot do without; nothing where this is run from a checkout that was not installed."""
    try:
        requirements = metadata.requires("timebox") or []
    except metadata.PackageNotFoundError:
        return
    for text in requirements:
        found = re.fullmatch(r"([\w.-]+)\s*([^;]*)", text)  # what belongs to an extra has a condition after a semicolon
        if found:
            yield Need(found[1], ", ".join(sorted((part.strip() for part in found[2].split(",")), reverse=True)))


def is_met(version: str, wanted: str) -> bool:
    """Whether a version is in all the bounds `>=` and `<` of a requirement."""
    bounds = re.findall(r"(>=|<)\s*([\d.]+)", wanted)
    return all((_key(version) >= _key(bound)) == (sign == ">=") for sign, bound in bounds)


def _key(version: str) -> tuple[int, ...]:
    """Return a version's leading numbers, without zeros at the end: 2.10.0rc1 as (2, 10)."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
