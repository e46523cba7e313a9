"""Sequences: pure in (seed, stream, index), and what is wanted is what a slow reader of the inputs would say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.arrays import Array
from pipeline.levels import lengths, longest, needed, pairs
from pipeline.sequences import (
    Sequences,
    adding,
    addition,
    bits_of,
    copy,
    drawn,
    generator,
    number_of,
    operands,
    repeat_copy,
)

DTYPES = st.sampled_from(["float32", "float64"])
FEW = st.integers(1, 5)
Rng = np.random.Generator

BATCHES: dict[str, Callable[[Rng], tuple[Any, ...]]] = {
    "copy": lambda rng: copy(rng, 4, 6, 8, 20, "float32"),
    "repeat-copy": lambda rng: repeat_copy(rng, 4, 6, 2, 8, 20, "float32"),
    "adding": lambda rng: adding(rng, 4, 10, "float32"),
    "addition": lambda rng: addition(*operands(1, 12, drawn(rng, 100, 12, 4)), 12, "float32"),
}


def read(line: list[list[float]], bits: int) -> list[list[float] | None]:
    """Return what a reader of one sequence, step by step, would put out; None where it keeps silent.

    It keeps the symbols until the delimiter. A count beside that says how often they are wanted, and that an end follows.
    """
    kept: list[list[float]] = []
    said: list[list[float] | None] = []
    queue: list[list[float]] = []
    delimited = False
    for values in line:
        said.append(queue.pop(0) if queue else None)
        symbol, delimiter, count = values[:bits], values[bits], values[bits + 1 :]
        if delimited:
            assert not any(values), "something is read after the delimiter"
        elif delimiter:
            assert not any(symbol), "the delimiter stands on its own"
            delimited = True
            queue = kept * round(count[0] * 10) if count else list(kept)
            if count:
                queue = [[*symbol, 0.0] for symbol in queue] + [[0.0] * bits + [1.0]]
        else:
            assert set(symbol) <= {0.0, 1.0}
            assert not any(count), "the count comes with the delimiter"
            kept.append(symbol)
    assert delimited
    assert not queue, "the sequence ends before everything is said"
    return said


def hold_to_a_slow_reading(batch: Sequences, bits: int) -> None:
    """Assert that targets stand where a slow reader speaks, that they are what it says, and that all else is zero."""
    for row in range(batch.x.shape[1]):
        said = read(batch.x[:, row].tolist(), bits)
        assert batch.wanted[:, row].tolist() == [words is not None for words in said]
        silence = [0.0] * batch.y.shape[2]
        assert batch.y[:, row].tolist() == [silence if words is None else words for words in said]


def hold_to_shapes(batch: Sequences, x: tuple[int, ...], y: tuple[int, ...], dtype: str) -> None:
    assert (batch.x.shape, batch.y.shape, batch.wanted.shape) == (x, y, x[:2])
    assert (batch.x.dtype, batch.y.dtype, batch.wanted.dtype) == (np.dtype(dtype), np.dtype(dtype), np.dtype(bool))
    assert all(array.flags.c_contiguous for array in batch)


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_is_a_pure_function_of_seed_stream_and_index(name: str) -> None:
    def content(*place: int) -> bytes:
        return b"".join(array.tobytes() for array in BATCHES[name](generator(*place)))

    places = [(5, 1, 7), (5, 1, 8), (5, 2, 7), (6, 1, 7), (5, 0, 0), (5, 7, 1)]
    contents = [content(*place) for place in places]
    assert [content(*place) for place in reversed(places)] == contents[::-1]
    assert len(set(contents)) == len(places)


@settings(max_examples=50, deadline=None)
@given(FEW, FEW, FEW, st.integers(0, 4), DTYPES, st.integers(0, 2**32))
def test_copy_wants_what_a_slow_reader_says(
    rows: int, length: int, bits: int, spare: int, dtype: str, seed: int
) -> None:
    steps = 2 * length + 1 + spare
    batch = copy(generator(seed, 0, 0), rows, length, bits, steps, dtype)
    hold_to_shapes(batch, (steps, rows, bits + 1), (steps, rows, bits), dtype)
    hold_to_a_slow_reading(batch, bits)
    assert batch.wanted.sum(axis=0).tolist() == [length] * rows


@settings(max_examples=50, deadline=None)
@given(FEW, FEW, st.integers(1, 12), FEW, st.integers(0, 4), DTYPES)
def test_repeat_copy_wants_what_a_slow_reader_says(
    rows: int, length: int, repeats: int, bits: int, spare: int, dtype: str
) -> None:
    steps = length * (repeats + 1) + 2 + spare
    batch = repeat_copy(generator(3, 0, 0), rows, length, repeats, bits, steps, dtype)
    hold_to_shapes(batch, (steps, rows, bits + 2), (steps, rows, bits + 1), dtype)
    hold_to_a_slow_reading(batch, bits)
    assert batch.wanted.sum(axis=0).tolist() == [length * repeats + 1] * rows


@pytest.mark.parametrize("spoilt", ["x", "y", "wanted"])
def test_the_slow_reader_notices_one_wrong_value(spoilt: str) -> None:
    batch = copy(generator(0, 0, 0), 2, 3, 4, 9, "float64")
    array = getattr(batch, spoilt)
    array[1 if spoilt == "x" else 5, 1, ...] = 1 - array[1 if spoilt == "x" else 5, 1, ...]
    if spoilt == "x":
        array[1, 1, 4] = 0  # no second delimiter
    with pytest.raises(AssertionError):
        hold_to_a_slow_reading(batch, 4)


@pytest.mark.parametrize("kind", ["copy", "repeat-copy"])
def test_more_steps_are_the_same_sequences_with_blanks_behind(kind: str) -> None:
    def batch(steps: int) -> Sequences:
        rng = generator(1, 2, 3)
        return copy(rng, 3, 4, 5, steps, "f4") if kind == "copy" else repeat_copy(rng, 3, 4, 2, 5, steps, "f4")

    for short, long in zip(batch(14), batch(20), strict=True):
        np.testing.assert_array_equal(long[:14], short)
        assert not long[14:].any()


def test_symbols_differ_between_rows_and_steps_and_are_fair() -> None:
    symbols = copy(generator(0, 0, 0), 40, 25, 8, 51, "float64").x[:25, :, :8]
    assert len(np.unique(symbols.reshape(-1, 8), axis=0)) > 200  # of 256, among 1,000
    assert np.abs(symbols.mean(axis=(0, 1)) - 0.5).max() < 0.08  # five standard deviations


def test_levels_walk_as_they_are_written() -> None:
    walk = [(1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (3, 4), (4, 4)]
    assert [lengths("repeat-copy", level) for level in range(1, 8)] == walk
    assert [needed("repeat-copy", level) for level in range(1, 8)] == [4, 5, 8, 10, 14, 17, 22]
    assert [lengths("copy", level) for level in range(1, 4)] == [(1, 1), (2, 1), (3, 1)]
    assert [needed("copy", level) for level in range(1, 4)] == [3, 5, 7]


@pytest.mark.parametrize("name", ["copy", "repeat-copy"])
def test_the_longest_level_fits_and_the_next_does_not(name: str) -> None:
    assert [longest(name, steps) for steps in (-1, 0, 2)] == [0, 0, 0]
    for steps in range(needed(name, 1), 200):
        level = longest(name, steps)
        assert needed(name, level) <= steps < needed(name, level + 1)
        assert longest(name, needed(name, level)) == level


@pytest.mark.parametrize("level", [1, 2, 5])
def test_a_level_takes_the_steps_that_it_needs_and_not_one_less(level: int) -> None:
    rng, steps = generator(0, 0, 0), {name: needed(name, level) for name in ("copy", "repeat-copy")}
    length, repeats = lengths("repeat-copy", level)
    assert copy(rng, 1, level, 2, steps["copy"], "f4").wanted[-1].all()
    assert repeat_copy(rng, 1, length, repeats, 2, steps["repeat-copy"], "f4").wanted[-1].all()
    with pytest.raises(AssertionError, match=f"takes {steps['copy']} steps"):
        copy(rng, 1, level, 2, steps["copy"] - 1, "f4")
    with pytest.raises(AssertionError, match=f"takes {steps['repeat-copy']} steps"):
        repeat_copy(rng, 1, length, repeats, 2, steps["repeat-copy"] - 1, "f4")


@settings(max_examples=50, deadline=None)
@given(FEW, st.integers(2, 30), DTYPES, st.integers(0, 1000))
def test_adding_wants_the_sum_of_the_value_marked_in_each_half(rows: int, length: int, dtype: str, index: int) -> None:
    x, y = adding(generator(0, 1, index), rows, length, dtype)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((length, rows, 2), np.dtype(dtype), (rows, 1), np.dtype(dtype))
    assert x.flags.c_contiguous
    assert y.flags.c_contiguous
    assert x[:, :, 0].min() >= 0
    assert x[:, :, 0].max() < 1
    for row in range(rows):
        marked = [step for step in range(length) if x[step, row, 1] == 1]
        assert len(marked) == 2 == x[:, row, 1].sum() == np.count_nonzero(x[:, row, 1])
        assert marked[0] < length // 2 <= marked[1]
        assert float(y[row, 0]) == sum(float(x[step, row, 0]) for step in marked)  # to the last bit, in either dtype


def test_always_saying_one_errs_by_a_sixth_and_every_step_is_marked() -> None:
    x, y = adding(generator(0, 0, 0), 20_000, 9, "float64")
    assert abs(((y - 1) ** 2).mean() - 1 / 6) < 0.007  # five standard deviations
    shares = x[:, :, 1].mean(axis=1)
    np.testing.assert_allclose(shares, [1 / 4] * 4 + [1 / 5] * 5, atol=0.016)


@pytest.mark.parametrize("kind", ["copy", "repeat-copy", "adding"])
def test_both_dtypes_hold_the_same_numbers(kind: str) -> None:
    def x_and_y(dtype: str) -> tuple[Array, ...]:
        rng = generator(4, 4, 4)
        if kind == "adding":
            return adding(rng, 5, 12, dtype)
        return copy(rng, 5, 4, 3, 14, dtype)[:2] if kind == "copy" else repeat_copy(rng, 5, 4, 2, 3, 14, dtype)[:2]

    for single, double in zip(x_and_y("float32"), x_and_y("float64"), strict=True):
        np.testing.assert_array_equal(single, double.astype("float32"))


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_the_order_has_every_pair_once(bits: int, seed: int) -> None:
    a, b = operands(seed, bits, np.arange(pairs(bits)))
    below = range(2 ** (bits - 1))
    assert sorted(zip(a.tolist(), b.tolist(), strict=True)) == [(one, other) for one in below for other in below]
    assert pairs(bits) == len(below) ** 2


def test_every_seed_has_an_order_of_its_own() -> None:
    orders = {b"".join(part.tobytes() for part in operands(seed, 5, np.arange(256))) for seed in range(50)}
    assert len(orders) == 50


@pytest.mark.parametrize("bits", [8, 16, 24])
def test_what_is_held_out_looks_like_the_rest(bits: int) -> None:
    """Every bit of the first places is fair, and as often unlike the one before as like it."""
    shares = []
    for seed in range(20):
        both = np.hstack([bits_of(part, bits - 1, "f8") for part in operands(seed, bits, np.arange(1000))])
        shares += [both.mean(axis=0), (both[1:] != both[:-1]).mean(axis=0)]
    for found in (shares[::2], shares[1::2]):
        assert np.abs(np.mean(found, axis=0) - 0.5).max() < 0.02  # over five standard deviations


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 24), st.data())
def test_a_pair_depends_on_its_place_alone_and_fits(bits: int, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, pairs(bits) - 1), min_size=1, max_size=8))
    a, b = operands(9, bits, np.array(places, np.int64))
    assert a.dtype == b.dtype == np.dtype(np.int64)
    for at, place in enumerate(places):
        alone = operands(9, bits, np.array([place], np.int64))
        assert (int(alone[0][0]), int(alone[1][0])) == (int(a[at]), int(b[at]))
        assert 0 <= min(a[at], b[at]) <= max(a[at], b[at]) < 2 ** (bits - 1)
    assert len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(places))


def test_places_beyond_the_order_are_refused() -> None:
    for place in (-1, pairs(4)):
        with pytest.raises(AssertionError, match="from 0 to 63"):
            operands(0, 4, np.array([place], np.int64))
    for bits in (1, 25):
        with pytest.raises(AssertionError, match="2 to 24 bits"):
            pairs(bits)


def test_held_out_pairs_are_never_drawn_and_all_others_are() -> None:
    bits, held = 4, 20
    places = drawn(generator(0, 0, 0), held, bits, 5000)
    assert (places.shape, places.dtype) == ((5000,), np.dtype(np.int64))
    assert set(places.tolist()) == set(range(held, 64))
    kept_back = set(zip(*(part.tolist() for part in operands(7, bits, np.arange(held))), strict=True))
    trained_on = set(zip(*(part.tolist() for part in operands(7, bits, places)), strict=True))
    assert len(kept_back) == held
    assert not kept_back & trained_on
    with pytest.raises(AssertionError, match="leave none"):
        drawn(generator(0, 0, 0), 64, bits, 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 24), DTYPES, st.data())
def test_addition_is_that_of_python(bits: int, dtype: str, data: st.DataObject) -> None:
    numbers = st.lists(st.integers(0, 2 ** (bits - 1) - 1), min_size=3, max_size=3)
    a, b = data.draw(numbers), data.draw(numbers)
    x, y = addition(np.array(a, np.int64), np.array(b, np.int64), bits, dtype)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((3, 2 * bits), np.dtype(dtype), (3, bits), np.dtype(dtype))
    assert x.flags.c_contiguous
    assert y.flags.c_contiguous

    def written(*values: int) -> list[float]:
        return [float(digit) for value in values for digit in reversed(f"{value:0{bits}b}")]

    assert x.tolist() == [written(one, other) for one, other in zip(a, b, strict=True)]
    assert y.tolist() == [written(one + other) for one, other in zip(a, b, strict=True)]
    assert number_of(y).tolist() == [one + other for one, other in zip(a, b, strict=True)]


def test_a_number_is_read_from_what_is_above_one_half() -> None:
    values = np.array([[0.9, 0.5, 0.51], [0.1, 0.7, -3.0], [np.nan, 8.0, 0.5]])
    numbers = number_of(values)
    assert (numbers.tolist(), numbers.dtype) == ([5, 2, 2], np.dtype(np.int64))
    for number in (-1, 8):
        with pytest.raises(AssertionError, match="does not fit into 3 bits"):
            bits_of(np.array([number], np.int64), 3, "f4")
