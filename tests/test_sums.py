"""Running sums: what an action adds, in which order, and that no changed bit goes by."""

from __future__ import annotations

import random
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from network import Network, make_config, real_network

from pipeline.actions import Action
from pipeline.arrays import Array
from pipeline.payloads import sends_factors
from pipeline.sums import Sums, checksum, named


def taken(sums: Sums) -> list[int]:
    """Return the sums since the last call as numbers."""
    return [int(each) for each in np.frombuffer(sums.take(), "<u4")]


def some_arrays(count: int, seed: int = 0) -> list[Array]:
    """Return arrays of several shapes and both dtypes."""
    rng = np.random.default_rng(seed)
    shapes = [(1, 4), (3, 4), (4,), (2, 3, 5), (0, 4)]
    dtypes = ["f4", "f8"]
    return [rng.standard_normal(shapes[k % 5]).astype(dtypes[k % 2]) for k in range(count)]


def test_each_sum_is_the_crc_of_all_bytes_so_far() -> None:
    arrays, sums = some_arrays(6), Sums()
    sums.add({"activation": (arrays[0],), "increment": (arrays[1], arrays[2])}, {})
    sums.add({}, {"delta": arrays[3], "entering": arrays[4]})
    sums.add({}, {})
    sums.add({"gradient": (arrays[5],)}, {})
    content = [array.tobytes() for array in arrays]
    assert taken(sums) == [zlib.crc32(b"".join(content[: place + 1])) for place in range(6)]
    assert sums.state == zlib.crc32(b"".join(content))


def test_sums_are_taken_once_and_the_running_sum_goes_on() -> None:
    arrays, whole, parts = some_arrays(5), Sums(), Sums()
    found = []
    for array in arrays:
        whole.add({"activation": (array,)}, {})
        parts.add({"activation": (array,)}, {})
        found += taken(parts)
    assert found == taken(whole)
    assert taken(whole) == taken(parts) == []


def test_sums_are_four_bytes_each_and_little_endian(monkeypatch: pytest.MonkeyPatch) -> None:
    array, sums = np.arange(4.0), Sums()
    sums.add({"activation": (array,)}, {})
    assert sums.take() == zlib.crc32(array.tobytes()).to_bytes(4, "little")
    other = Sums()
    other.add({"activation": (array,)}, {})
    monkeypatch.setattr(sys, "byteorder", "little" if sys.byteorder == "big" else "big")
    assert other.take() == zlib.crc32(array.tobytes()).to_bytes(4, "big"), "the bytes are turned where they must be"


def test_an_arrays_bytes_count_in_c_order_however_it_lies() -> None:
    array = np.arange(12.0).reshape(3, 4)
    assert checksum(np.asfortranarray(array), 7) == checksum(array, 7)
    assert checksum(np.repeat(array, 2, axis=1)[:, ::2], 7) == checksum(array, 7)
    assert checksum(array.T, 7) != checksum(array, 7)


def test_no_changed_bit_goes_by() -> None:
    rng = random.Random(0)
    arrays = some_arrays(4)
    sums = Sums()
    for array in arrays:
        sums.add({"activation": (array,)}, {})
    right = taken(sums)
    for _ in range(200):
        which = rng.randrange(4)
        content = bytearray(arrays[which].tobytes())
        place = rng.randrange(8 * len(content))
        content[place // 8] ^= 1 << place % 8
        changed = np.frombuffer(content, arrays[which].dtype).reshape(arrays[which].shape)
        other = Sums()
        for k, array in enumerate(arrays):
            other.add({"activation": (changed if k == which else array,)}, {})
        found = taken(other)
        assert found[:which] == right[:which]
        assert all(a != b for a, b in zip(found[which:], right[which:], strict=True)), "and it never heals"


# What an action adds


def names_of(network: Network, number: int, action: Action) -> list[str]:
    """Return the names of what an action of a stage adds, by running as far as that."""
    while True:
        for k in network.numbers:
            network.ports[k].deliver_all()
            if (done := network.move(k)) is not None and (k, done) == (number, action):
                return [name for name, _ in named(network.works[k].outputs, network.works[k].changes)]


FACTORS = ["increment, array 1 of 2", "increment, array 2 of 2"]
UPDATE = ["delta", "entering"]


@pytest.mark.parametrize(
    ("schedule", "flags", "stage", "action", "names"),
    [
        ("article", {}, 1, "F", ["activation", *FACTORS, *UPDATE]),
        ("article", {}, 2, "F", ["activation", "target", *FACTORS, *UPDATE]),
        ("article", {"model.tied": False}, 2, "F", ["activation", "target", *UPDATE]),
        ("article", {"oracle.target": "true"}, 2, "F", ["activation", *FACTORS, *UPDATE]),
        ("article", {"oracle.kind": "frozen"}, 2, "F", ["activation"]),
        ("article", {"data.batch": 3}, 2, "F", ["activation", "target", *FACTORS]),
        ("article", {}, 2, "T", ["oracle's error"]),
        ("article", {"oracle.target": "true"}, 2, "T", ["gradient", "oracle's error"]),
        ("article", {}, 2, "U", UPDATE),
        ("article", {"data.batch": 3}, 2, "U", []),
        ("article", {}, 2, "E", ["evaluation"]),
        ("article", {}, 3, "F", ["gradient", "ŷ"]),
        ("article", {}, 3, "E", ["ŷ"]),
        ("locked", {}, 2, "F", ["activation"]),
        ("locked", {}, 2, "B", ["gradient", *FACTORS, *UPDATE]),
        ("locked", {}, 1, "B", [*FACTORS, *UPDATE]),
        ("locked", {"model.tied": False}, 2, "B", ["gradient", *UPDATE]),
        ("locked", {}, 2, "U", []),
    ],
)
def test_an_action_adds_what_it_sends_and_then_what_it_changed_weights_with(
    schedule: str, flags: dict[str, Any], stage: int, action: str, names: list[str]
) -> None:
    config = make_config(schedule, 2, flags)
    assert sends_factors(config) == ("data.batch" not in flags), (
        "dense increments are not added again where they are used"
    )
    sibling = 3 - stage if action == "U" and schedule == "article" else 0
    assert names_of(real_network(config), stage, Action(action, 0, sibling)) == names
