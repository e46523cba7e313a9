"""What recording costs: which bursts are held against each other, and what is made of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from handmade import hands, make_folder

from launch.bench_trace import WARM, added, bursts, interval, probe_ns, recorded
from launch.live import Result
from pipeline import trace
from pipeline.arrays import Array
from pipeline.errors import RunError


def gaps(*times: tuple[int, int]) -> Array:
    """Return gap records with these begins and ends, after as many early ones as are not counted."""
    found = np.zeros(WARM + len(times), trace.FIELDS)
    found["start"][WARM:], found["end"][WARM:] = np.array(times).T
    return found


def test_a_gap_is_a_burst_without_and_what_lies_between_two_is_one_with() -> None:
    on, off = bursts(gaps((100, 200), (310, 400), (520, 600), (730, 800)))
    assert on == [110, 120, 130]
    assert off == [90, 80], "in turn, the first and the last one with recording"


def test_no_burst_is_in_two_figures() -> None:
    """Neighbours once shared a recorded burst, and an interval by ranks wants values that are independent."""
    on, off = [110.0, 120, 130, 140, 150], [100.0, 1, 100, 1]
    assert added([*map(int, on)], [*map(int, off)]) == pytest.approx([0.15, 0.35])


@pytest.mark.parametrize(("on", "figures"), [(1, 0), (2, 1), (3, 1), (4, 2), (7, 3), (8, 4)])
def test_so_many_bursts_give_so_many_figures(on: int, figures: int) -> None:
    assert added([100] * on, [100] * (on - 1)) == [0.0] * figures


@pytest.mark.parametrize("count", [6, 7, 9, 25, 60, 100, 333])
def test_the_interval_is_the_narrowest_by_ranks_that_holds_the_median_in_19_of_20_cases(count: int) -> None:
    low, high = interval([float(value) for value in reversed(range(count))])
    assert low + high == count - 1, "as many values are cut off at either end"

    def inside(cut: int) -> float:
        return 1 - 2 * sum(math.comb(count, k) for k in range(cut + 1)) / 2**count

    assert inside(int(low)) >= 0.95 > inside(int(low) + 1)


@pytest.mark.parametrize("values", [[3.0], [5.0, 3.0], [2.0, 4.0, 1.0, 3.0, 5.0]])
def test_a_few_values_have_no_narrower_interval_than_all_of_them(values: list[float]) -> None:
    assert interval(values) == (min(values), max(values))


def test_probes_in_bursts_that_are_not_recorded_count_as_those_that_are() -> None:
    parts = np.zeros(5, trace.FIELDS)
    parts["code"] = [trace.PART_CODE[name] for name in ("forward", "probe", "update", "probe", "forward")]
    parts["batch"] = [3, 3, 3, 9, 9]
    parts["end"] = [1000, 40, 1000, 60, 1000]
    assert probe_ns(parts, 2) == 100
    assert probe_ns(parts, 24) == 1200
    assert probe_ns(parts[:1], 24) == 0, "nothing is on record to go by"


@pytest.mark.parametrize("document", [{"status": "failed", "error": "box-1: it died"}, {"status": "interrupted"}])
def test_a_run_that_is_not_done_tells_no_cost(tmp_path: Path, document: dict[str, str]) -> None:
    with pytest.raises(RunError, match=f"a run is {document['status']}, not done, .*{document.get('error', 'cost')}$"):
        recorded(Result(tmp_path, document))


def test_a_run_with_a_stage_without_a_trace_tells_no_cost(tmp_path: Path) -> None:
    one, *others = hands(tmp_path, make_folder(tmp_path))
    for each in (one, *others):
        each.part("F0", "forward", 10).done()
    assert len(recorded(Result(tmp_path, {"status": "done"})).stages) == 3
    trace.path_of(tmp_path, "head").unlink()
    with pytest.raises(RunError, match=r"a stage left no trace: .*head\.trace"):
        recorded(Result(tmp_path, {"status": "done"}))
