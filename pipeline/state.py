"""How what a stage knows is written into arrays, and how it comes back: each array where it was, and no other. Pure.

    Wx, oracle_L, local_Wfc            weights, by the names of `weights()`
    version, optimizer.M_Wx, …         all else that decides later numbers: a dot parts whose it is from what it is

A state is taken at a barrier: no batch is in flight, every increment is applied. What is derived from the configuration is not
in it, nor is memory that is only written to. Its arrays are copies, so that a stage may go on while they are written to a file.
Numbers are int64 arrays of one. Whoever restores asks for every array that it expects, once; what is left over is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike

from .arrays import Array, Weights
from .errors import RunError

#: The kinds of dtypes that numbers have, and what is true or false.
NUMBERS = "biuf"
#: The shape of an array; None is a length that only the array itself can tell.
Shape = tuple[int | None, ...]


def counts(**numbers: int) -> Weights:
    """Return whole numbers as arrays (1,)."""
    return {name: np.array([number], np.int64) for name, number in numbers.items()}


def copies(arrays: Mapping[str, Array]) -> Weights:
    """Return copies of arrays, in C order."""
    return {name: array.copy() for name, array in arrays.items()}


def under(owner: str, arrays: Mapping[str, Array]) -> Weights:
    """Return arrays by the names that they have in their owner's owner: `optimizer.M_Wx`."""
    return {f"{owner}.{name}": array for name, array in arrays.items()}


class Saved:
    """A stage's saved arrays; hands out each once and refuses what does not fit with a RunError that names it."""

    def __init__(self, arrays: Mapping[str, Array], stage: str) -> None:
        self._stage = stage
        self._left = dict(arrays)
        self._owner = ""

    def under(self, owner: str) -> Saved:
        """Return the arrays of an owner, by the names that it gave them. What is taken there is taken here."""
        part = Saved({}, self._stage)
        part._left, part._owner = self._left, f"{self._owner}{owner}."
        return part

    def take(self, name: str, shape: Shape, dtype: DTypeLike | None) -> Array:
        """Return a copy of an array, in C order; raises RunError where it is missing or of another shape or dtype.

        A dtype of None is that of any number.
        """
        found = self._left.pop(self._owner + name, None)
        if found is None:
            raise RunError(f"{self._stage}: the saved state has no {self._owner}{name}")
        fits = found.ndim == len(shape) and all(w in (None, n) for w, n in zip(shape, found.shape, strict=True))
        fits &= found.dtype.kind in NUMBERS if dtype is None else found.dtype == np.dtype(dtype)
        if not fits:
            told = ", ".join("any" if length is None else str(length) for length in shape)
            wanted = "a number" if dtype is None else np.dtype(dtype)
            self.refuse(name, f"is {found.dtype} {found.shape}; {wanted} ({told}) is wanted")
        return np.array(found, order="C")

    def fill(self, name: str, array: Array) -> None:
        """Write a saved array into the one that is there; raises RunError."""
        np.copyto(array, self.take(name, array.shape, array.dtype))

    def count(self, name: str, most: int | None = None) -> int:
        """Return a whole number from 0 on, up to `most`; raises RunError."""
        return self.counts(name, 1, most)[0]

    def counts(self, name: str, length: int | None, most: int | None = None) -> list[int]:
        """Return whole numbers from 0 on, up to `most`, `length` of them; raises RunError."""
        found: list[int] = self.take(name, (length,), np.int64).tolist()
        if any(number < 0 or (most is not None and number > most) for number in found):
            self.refuse(name, f"has {found}, which are not all from 0 to {'any' if most is None else most}")
        return found

    def rest(self) -> Weights:
        """Return all of an owner's arrays that nobody has taken."""
        names = [name for name in self._left if name.startswith(self._owner)]
        return {name.removeprefix(self._owner): np.array(self._left.pop(name), order="C") for name in names}

    def refuse(self, name: str, why: str) -> None:
        """Raise RunError for an array that cannot be."""
        raise RunError(f"{self._stage}: {self._owner}{name} of the saved state {why}")

    def end(self) -> None:
        """Raise RunError for an array that nobody has asked for."""
        for name in self._left:
            raise RunError(f"{self._stage}: the saved state has {name}, which is nothing in this configuration")
