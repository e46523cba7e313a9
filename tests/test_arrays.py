"""The operations on weights: one product, one sum, one step, the same bits whoever calls them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.arrays import BLOCK, TURNED, Scratch, Weights, descend, product, step, through, total

DTYPES = ["float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (5, 3), (784, 1), (784, 64)])
def test_the_product_of_one_row_is_that_of_blas_bit_for_bit(inputs: int, outputs: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((1, inputs)).astype(dtype)
    delta = rng.standard_normal((1, outputs)).astype(dtype)
    G = product(a, delta)
    assert G.tobytes() == (a.T @ delta).tobytes()
    assert (G.shape, G.dtype, G.flags.c_contiguous) == ((inputs, outputs), np.dtype(dtype), True)


def test_the_product_of_one_row_has_zeros_where_a_factor_has() -> None:
    a, delta = np.array([[0.0, 1.0, -2.0]]), np.array([[-1.0, 0.0, -0.0, 3.0]])
    assert np.array_equal(product(a, delta), a.T @ delta)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_product_of_rows_is_the_sum_of_their_outer_products(dtype: str) -> None:
    rng = np.random.default_rng(1)
    a, delta = rng.standard_normal((6, 4)).astype(dtype), rng.standard_normal((6, 3)).astype(dtype)
    G = product(a, delta)
    assert (G.dtype, G.flags.c_contiguous) == (np.dtype(dtype), True)
    outer = sum(np.outer(x, d) for x, d in zip(a.astype(float), delta.astype(float), strict=True))
    np.testing.assert_allclose(G, outer, rtol=1e-5, atol=1e-6)


def test_a_total_adds_left_to_right() -> None:
    # 1e16 + 1 is 1e16: another order of the same numbers gives 1, or 2
    parts: list[Weights] = [{"b": np.array([value])} for value in (1.0, 1e16, 1.0, -1e16)]
    assert total(parts)["b"] == [((1.0 + 1e16) + 1.0) - 1e16]
    assert total(iter([{"b": np.array([value])} for value in (1e16, -1e16, 1.0, 1.0)]))["b"] == [2.0]


def test_a_total_takes_weights_that_only_some_gradients_have() -> None:
    parts: list[Weights] = [{"Wx": np.array([1.0])}, {"Wx": np.array([2.0]), "Wrec": np.array([4.0])}]
    parts.append({"Wrec": np.array([8.0])})
    assert {name: G.tolist() for name, G in total(parts).items()} == {"Wx": [3.0], "Wrec": [12.0]}


def test_the_total_of_one_gradient_is_that_gradient() -> None:
    assert total([{"Wx": np.array([1.5])}])["Wx"].tolist() == [1.5]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_goes_down_at_each_weights_own_rate_in_place(dtype: str) -> None:
    weights: Weights = {"Wx": np.ones((2, 2), dtype), "Wrec": np.ones((2, 2), dtype), "b": np.ones(2, dtype)}
    held = dict(weights)
    descend(weights, {"Wx": np.full((2, 2), 2, dtype), "Wrec": np.full((2, 2), 2, dtype)}, {"Wx": 0.25, "Wrec": 1.5})
    assert weights["Wx"].tolist() == [[0.5, 0.5]] * 2
    assert weights["Wrec"].tolist() == [[-2.0, -2.0]] * 2
    assert weights["b"].tolist() == [1.0, 1.0]
    for name, array in weights.items():
        assert array is held[name], "a replica that others hold must see the step"
        assert array.dtype == dtype


def test_a_step_rounds_the_scaled_gradient_before_it_subtracts() -> None:
    rng = np.random.default_rng(2)
    W, G = (rng.standard_normal((8, 8)).astype("float32") for _ in range(2))
    expected = W - G * np.float32(0.01)
    weights: Weights = {"Wx": W}
    descend(weights, {"Wx": G}, {"Wx": 0.01})
    assert weights["Wx"].tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(("rows", "inputs"), [(1, 1), (1, BLOCK), (1, 3 * BLOCK + 5), (4, 30)])
def test_a_step_is_that_of_the_plain_formula(rows: int, inputs: int, share: float, dtype: str) -> None:
    """Whatever way it goes: many rows, one row of a few inputs that are not zero, one row of many."""
    rng = np.random.default_rng(2)
    W = rng.standard_normal((inputs, 7)).astype(dtype)
    a = (rng.standard_normal((rows, inputs)) * (rng.random((rows, inputs)) < share)).astype(dtype)
    delta = rng.standard_normal((rows, 7)).astype(dtype)
    G = a.T @ delta
    G *= 0.3
    wanted = W - G
    step(W, a, delta, 0.3)
    assert W.dtype == np.dtype(dtype)
    assert np.array_equal(W, wanted)


def test_a_step_on_what_is_not_finite_shows() -> None:
    W = np.ones((3, 2))
    step(W, np.array([[0.0, np.nan, 1.0]]), np.array([[1.0, np.inf]]), 0.1)
    assert np.isnan(W[1]).all()
    assert np.isinf(W[2, 1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "inputs"), [(1, 40), (1, 2 * BLOCK // 7 + 5), (4, 30)])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_a_scratch_changes_no_bit_of_a_step_however_often_it_is_used(
    rows: int, inputs: int, share: float, dtype: str
) -> None:
    rng = np.random.default_rng(3)
    W = rng.standard_normal((inputs, 7)).astype(dtype)
    other, scratch = W.copy(), Scratch()
    for _ in range(3):
        a = (rng.standard_normal((rows, inputs)) * (rng.random((rows, inputs)) < share)).astype(dtype)
        delta = rng.standard_normal((rows, 7)).astype(dtype)
        given = a.copy(), delta.copy()
        step(W, a, delta, 0.3)
        step(other, a, delta, 0.3, scratch)
        assert W.tobytes() == other.tobytes()
        assert np.array_equal(a, given[0])
        assert np.array_equal(delta, given[1])


def test_a_scratch_keeps_an_array_by_name_shape_and_dtype() -> None:
    scratch, single = Scratch(), np.dtype("float32")
    kept = scratch.array("G", (3, 2), single)
    assert (kept.shape, kept.dtype, kept.flags.c_contiguous) == ((3, 2), single, True)
    assert scratch.array("G", (3, 2), single) is kept
    others = [
        scratch.array("g", (3, 2), single),
        scratch.array("G", (2, 3), single),
        Scratch().array("G", (3, 2), single),
    ]
    others.append(scratch.array("G", (3, 2), np.dtype("float64")))
    assert not any(np.shares_memory(kept, other) for other in others)


LARGE = int(TURNED**0.5) // 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(1, 5, 3), (4, 5, 1), (4, 5, 3), (1, LARGE, LARGE), (17, LARGE, LARGE)]
)
def test_a_gradient_passes_through_a_weight_whatever_way_it_goes(
    rows: int, inputs: int, outputs: int, dtype: str
) -> None:
    rng = np.random.default_rng(4)
    W, delta = rng.standard_normal((inputs, outputs)).astype(dtype), rng.standard_normal((rows, outputs)).astype(dtype)
    found = through(delta, W)
    wanted = delta.astype(float) @ W.astype(float).T
    np.testing.assert_allclose(found, wanted, rtol=1e-4 if dtype == "float32" else 1e-9, atol=1e-4)
    assert (found.shape, found.dtype, found.flags.c_contiguous) == ((rows, inputs), np.dtype(dtype), True)
    scratch, out = Scratch(), np.empty_like(found)
    assert through(delta, W, scratch, out) is out
    assert out.tobytes() == found.tobytes() == through(delta, W, scratch).tobytes()
    assert not np.shares_memory(through(delta, W, scratch), through(delta, W, scratch))


@pytest.mark.parametrize("rows", [1, 5])
def test_a_product_goes_where_it_is_told_to(rows: int) -> None:
    rng = np.random.default_rng(5)
    a, delta, out = rng.standard_normal((rows, 4)), rng.standard_normal((rows, 3)), np.empty((4, 3))
    assert product(a, delta, out) is out
    assert out.tobytes() == product(a, delta).tobytes()


def test_a_summand_may_be_used_again_when_it_was_added() -> None:
    summand = np.array([4.0])
    parts: list[Weights] = [{"Wx": np.array([1.0])}, {"Wx": np.array([2.0]), "Wrec": summand}]
    summed = total(parts)
    summand[:] = 7
    assert summed["Wrec"] == [4.0]
