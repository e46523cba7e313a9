"""The benchmarks as a list: what help names is what can be measured, and all of them can be told."""

from __future__ import annotations

from launch import bench, bench_emulated, bench_process
from launch.benches import BENCHES
from launch.environment import collect


def test_help_lists_what_there_is() -> None:
    assert list(BENCHES) == list(bench.BENCHES)


def figure(*values: float) -> dict[str, object]:
    """Return the spread of some values."""
    from launch.spread import spread

    return spread(values).document()


def test_the_closed_forms_are_those_of_the_literature() -> None:
    assert bench_emulated.closed_form("locked") == 7 / 8
    assert bench_emulated.closed_form("gpipe") == 7 / 23
    assert bench_emulated.closed_form("1f1b, flush") == 7 / 23
    assert bench_emulated.closed_form("1f1b") == 7 / 127
    assert bench_emulated.closed_form("decoupled") is None


def test_a_table_states_machine_repeats_and_spread() -> None:
    rows = [
        {"kind": "gpipe", "batches_per_s": figure(12.0, 13.0), "bubble": figure(0.31, 0.32), "closed_form": 7 / 23},
    ]
    gain = figure(7.6, 7.7, 7.8, 7.7, 7.7)
    made = {
        "bench": "emulated", "repeats": 2, "boxes": 8, "compute_ms": 20.0, "rows": rows, "decoupled_over_locked": gain,
        "of_ideal": 0.9625, "environment": collect(),
    }  # fmt: skip
    text = bench.render(made)
    assert "2 repeats" in text
    assert "cores, load" in text
    assert "31.0 – 32.0" in text
    assert "30.4 %" in text
    assert "7.70 (7.60 – 7.80), 96.2 % of the ideal 8" in text


def test_a_ratio_whose_interval_holds_one_shows_no_difference() -> None:
    row = {
        "reading": "rows", "steps": 14, "width": 784, "rows": 32, "batches": 9, "processes": figure(9.0),
        "one_process": figure(9.0),
        "ratio": figure(0.9, 1.0, 1.1, 1.0, 0.95), "machine": figure(1.9), "balance": 1.9, "verdict": "no difference shown",
    }  # fmt: skip
    made = {"bench": "process", "repeats": 5, "rows": [row], "environment": collect()}
    assert "no difference shown" in bench.render(made)


def test_the_cases_are_those_that_are_claimed() -> None:
    assert all(case.width >= 784 for case in bench_process.CASES)
    assert {case.steps for case in bench_process.CASES} == {1, 14, 16}


def test_a_flood_is_told_by_socket_and_class_with_what_it_changed() -> None:
    row = {
        "transport": "ipc", "status": "done", "digest": "d", "alive": True, "same": True, "messages": 3_000, "frames": 9_000,
        "scanners": 40, "seconds": 1.0, "sent": {"launcher": {"words": 1_000}, "box-1": {"words": 500, "forged": 1_500}},
        "dropped": {"launcher": 990, "box-1": 1_999}, "memory_mb": {"launcher": [40.0, 41.5], "box-1": [50.0, 50.2]},
    }  # fmt: skip
    calm = {"memory_mb": {"launcher": [40.0, 40.1], "box-1": [50.0, 50.1]}}
    made = {
        "bench": "hostile", "repeats": 1, "fine": True, "calm": calm, "rows": [row, row], "messages": 6_000, "frames": 18_000,
        "environment": collect(),
    }  # fmt: skip
    text = bench.render(made)
    assert "6,000 hostile messages of 18,000 frames in 2 runs" in text
    assert [line.split() for line in text.splitlines() if line.startswith("box-1")] == [
        ["box-1", "4,000", "3,998", "+0.2", "+0.1"]
    ]
    assert ["forged", "3,000"] in [line.split() for line in text.splitlines()]
    assert "2 of 2 runs ended with the bits of an undisturbed one; every process lived to the end" in text
    assert "NOT all is as it should be" in bench.render(made | {"fine": False})
