"""The classic synthetic tasks on sequences: what a network reads and what it should put out. Pure.

A batch is a pure function of (seed, stream, index): its numbers come from `generator(seed, stream, index)` alone. A longer
sequence of copy or repeat-copy with the same generator is the same one with more blanks behind it, and float32 holds the
same numbers as float64.

    copy, length 2        repeat-copy, length 2, 2 times      a, b: symbols    |: delimiter    2: how often    $: the end

    x   a b | . . .       x   a b 2 . . . . .
    y   . . . a b .       y   . . . a b a b $                 .: blank in x; in y nothing is wanted, which is zeros

A task gets harder by levels: level n of copy is n symbols; of repeat-copy, (length, repeats) = (1, 1), (1, 2), (2, 2), (2, 3) …
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .arrays import Array
from .levels import pairs

#: The count channel of repeat-copy holds the number of repeats divided by this.
COUNT = 10
#: The values of adding are multiples of one in so many: float32 holds each of them, and the sum of any two, exactly.
GRAIN = 1 << 23
#: Rounds of multiplication and xor-shift that scramble the order of all pairs.
ROUNDS = 4
#: The last word of the seed of that order's keys: a batch's has three words (for a data seed below 2^32), so they differ.
ORDER = 0x0DE5


class Sequences(NamedTuple):
    """A batch of sequences; all three arrays are C-contiguous."""

    x: Array  # (steps, rows, inputs), in the wanted dtype: what is read
    y: Array  # (steps, rows, outputs), in the same: what should be put out; zero where nothing is wanted
    wanted: NDArray[np.bool_]  # (steps, rows): where a step has a target


def generator(seed: int, stream: int, index: int) -> np.random.Generator:
    """Return the source of batch `index` of a stream, training or one of the evaluations, say; none is below zero."""
    return np.random.default_rng([seed, stream, index])


def copy(rng: np.random.Generator, rows: int, length: int, bits: int, steps: int, dtype: DTypeLike) -> Sequences:
    """Return a batch of the copy task (Graves, Wayne and Danihelka 2014, section 4.1).

    `length` random symbols, a delimiter on a channel of its own, and then the same symbols are wanted while nothing is
    read: x (steps, rows, bits + 1), y (steps, rows, bits). Takes 2 length + 1 steps; those that are left are blank.
    """
    assert min(rows, length, bits) >= 1, "copy needs a row, a symbol and a bit"
    needs = 2 * length + 1
    assert needs <= steps, f"copying {length} symbols takes {needs} steps, not {steps}"
    x, y = np.zeros((steps, rows, bits + 1), dtype), np.zeros((steps, rows, bits), dtype)
    wanted = np.zeros((steps, rows), np.bool_)
    symbols = rng.integers(0, 2, (length, rows, bits))
    x[:length, :, :bits] = symbols
    x[length, :, bits] = 1
    y[length + 1 : needs] = symbols
    wanted[length + 1 : needs] = True
    return Sequences(x, y, wanted)


def repeat_copy(
    rng: np.random.Generator, rows: int, length: int, repeats: int, bits: int, steps: int, dtype: DTypeLike
) -> Sequences:
    """Return a batch of the repeat-copy task (Graves, Wayne and Danihelka 2014, section 4.2).

    `length` random symbols, then one step with a delimiter and the number of repeats, in tenths, each on a channel of its
    own; then the symbols are wanted so many times over, and an end marker on an output of its own: x (steps, rows, bits + 2),
    y (steps, rows, bits + 1). Takes length (repeats + 1) + 2 steps; those that are left are blank.
    """
    assert min(rows, length, repeats, bits) >= 1, "repeat-copy needs a row, a symbol, a repeat and a bit"
    needs = length * (repeats + 1) + 2
    assert needs <= steps, f"copying {length} symbols {repeats} times takes {needs} steps, not {steps}"
    x, y = np.zeros((steps, rows, bits + 2), dtype), np.zeros((steps, rows, bits + 1), dtype)
    wanted = np.zeros((steps, rows), np.bool_)
    symbols = rng.integers(0, 2, (length, rows, bits))
    x[:length, :, :bits] = symbols
    x[length, :, bits] = 1
    x[length, :, bits + 1] = repeats / COUNT
    y[length + 1 : needs - 1, :, :bits] = np.tile(symbols, (repeats, 1, 1))
    y[needs - 1, :, bits] = 1
    wanted[length + 1 : needs] = True
    return Sequences(x, y, wanted)


def adding(rng: np.random.Generator, rows: int, length: int, dtype: DTypeLike) -> tuple[Array, Array]:
    """Return a batch of the adding problem: x (length, rows, 2) and y (rows, 1), the sum of the two marked values.

    Channel 0 of x is uniform in [0, 1), channel 1 is one at a step in the first half, `length` // 2 steps, and at one in the
    second, else zero (Hochreiter and Schmidhuber 1997, section 5.4, in the form of Le, Jaitly and Hinton 2015, section 4.1).
    Whoever always says 1 has a mean squared error of 1/6, the variance of y.
    """
    assert rows >= 1, "adding needs a row"
    assert length >= 2, f"two marks need two steps, not {length}"
    half, row = length // 2, np.arange(rows)
    x = np.zeros((length, rows, 2), dtype)
    x[:, :, 0] = rng.integers(0, GRAIN, (length, rows)) / GRAIN
    first, second = rng.integers(0, half, rows), rng.integers(half, length, rows)
    x[first, row, 1] = x[second, row, 1] = 1
    y: Array = x[first, row, :1] + x[second, row, :1]
    return x, y


def operands(seed: int, bits: int, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pair at each place, (rows,), of an order of all pairs of numbers below 2^(bits − 1): two of (rows,).

    Each pair has one place in [0, pairs(bits)). The order is scrambled without a table: rounds of x ← m x + c, m odd, and
    x ← x ⊕ (x >> half of the bits), modulo the number of pairs, each of which can be undone. The seed chooses m and c. What
    is held out are the first places; training draws from the rest.
    """
    count, half = pairs(bits), bits - 1
    assert bool(np.all((places >= 0) & (places < count))), f"places of {bits} bits are from 0 to {count - 1}"
    keys = np.random.default_rng([seed, bits, 0, ORDER]).integers(0, count, (ROUNDS, 2), np.uint64)
    x = places.astype(np.uint64)
    for m, c in keys:
        x = (x * (m | np.uint64(1)) + c) & np.uint64(count - 1)  # an overflow of 64 bits loses none of the lower ones
        x ^= x >> np.uint64(half)
    mixed = x.astype(np.int64)
    return mixed >> half, mixed & ((1 << half) - 1)


def drawn(rng: np.random.Generator, held: int, bits: int, rows: int) -> NDArray[np.int64]:
    """Return places to train on, (rows,): uniform in [held, pairs(bits)), with repetition; the first `held` never come."""
    count = pairs(bits)
    assert 0 <= held < count, f"{held} of {count} pairs held out leave none to train on"
    return rng.integers(held, count, rows, np.int64)


def addition(a: NDArray[np.int64], b: NDArray[np.int64], bits: int, dtype: DTypeLike) -> tuple[Array, Array]:
    """Return sums of binary numbers, a and b (rows,): x (rows, 2 bits), the bits of a and then of b; y (rows, bits).

    y are the bits of a + b. The lowest bit stands first in each number.
    """
    return np.hstack([bits_of(a, bits, dtype), bits_of(b, bits, dtype)]), bits_of(a + b, bits, dtype)


def bits_of(numbers: NDArray[np.int64], bits: int, dtype: DTypeLike) -> Array:
    """Return numbers (rows,) as zeros and ones, (rows, bits), the lowest bit first."""
    assert bool(np.all((numbers >= 0) & (numbers >> bits == 0))), f"a number does not fit into {bits} bits"
    return (numbers[:, None] >> np.arange(bits) & 1).astype(dtype, order="C")


def number_of(values: Array) -> NDArray[np.int64]:
    """Return the numbers, (rows,), that bits (rows, bits) mean, the lowest first: what is above one half is a one."""
    numbers: NDArray[np.int64] = np.where(values > 0.5, 1 << np.arange(values.shape[1]), 0).sum(axis=1, dtype=np.int64)
    return numbers
