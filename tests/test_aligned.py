"""Times of several hosts by one clock: within the error that is stated, in causal order, and nothing changed for one host."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from handmade import hands, make_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from test_clocks import BEGIN, MS, US, Host, S, asked, hosts
from test_live import small

from launch import clocks, order, recording, run, stats, stats_text, timeline
from launch.aligned import Shift, refined
from launch.causal import merged
from launch.clocks import OWN, Line
from launch.follow import Follower
from launch.logs import Filter
from pipeline import trace
from pipeline.arrays import Array

NAMES = ["box-1", "box-2", "box-3", "head"]


class Truth(NamedTuple):
    """Stages' records by their own clocks, and when each record really was, by the launcher's."""

    arrays: dict[str, Array]
    real: dict[str, Array]


def messages(true_hosts: list[Host], chance: random.Random, seconds: float, hop_us: float) -> Truth:
    """Return records of stages that send each other messages, each under way for `hop_us` or some times longer."""
    rows: dict[int, list[tuple[int, int, int, int]]] = {k: [] for k in range(len(NAMES))}  # when, kind, peer, sequence
    for sequence in range(300):
        one, two = chance.sample(range(len(NAMES)), 2)
        sent = BEGIN + round(chance.random() * seconds * S)
        rows[one].append((sent, trace.SENT, two + 1, sequence))
        rows[two].append((sent + round(hop_us * US * (1 + chance.expovariate(1))), trace.TAKEN, one + 1, sequence))
    arrays, real = {}, {}
    for k, own in rows.items():
        own.sort()
        array = np.zeros(len(own), trace.FIELDS)
        array["kind"], array["peer"], array["d"] = ([row[place] for row in own] for place in (1, 2, 3))
        array["start"] = array["end"] = [true_hosts[k].mono(row[0]) for row in own]
        arrays[NAMES[k]], real[NAMES[k]] = array, np.array([row[0] for row in own])
    return Truth(arrays, real)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(hosts, min_size=3, max_size=3), st.integers(0, 2**32), st.floats(0.5, 200), st.floats(1, 2000),
    st.floats(1, 2000), st.floats(1, 500),
)  # fmt: skip
def test_messages_refine_what_pings_told_and_the_truth_stays_within_the_error(
    away: list[Host], seed: int, seconds: float, there_us: float, back_us: float, hop_us: float
) -> None:
    chance = random.Random(seed)
    lines, true_hosts = {NAMES[0]: OWN}, [Host(0, 0), *away]
    for name, host in zip(NAMES[1:], away, strict=True):
        clock = asked(host, chance, seconds, there_us=there_us, back_us=back_us)
        lines[name] = clock.line(name, BEGIN + round((seconds + 1) * S))
    truth = messages(true_hosts, chance, seconds, hop_us)
    arrays = {name: Shift(lines[name]).records(array) for name, array in truth.arrays.items()}
    shifts, errors, slack = refined(lines, arrays)
    assert slack == 0, "what is true contradicts nothing"
    found = {name: shifts[lines[name]].times(array["start"]) for name, array in truth.arrays.items()}
    for name, line in lines.items():
        assert np.abs(found[name] - truth.real[name]).max() <= errors[line]
        assert errors[line] <= 1.2 * line.error_ns + 2
        assert (np.diff(found[name]) >= 0).all(), "the order of a stage's records stays"
    sent = {(n, r["peer"], r["d"]): t for n, a in truth.arrays.items() for r, t in zip(a, found[n], strict=True) if r["kind"] == trace.SENT}  # fmt: skip  # noqa: E501
    for name, array in truth.arrays.items():
        for record, at in zip(array, found[name], strict=True):
            if record["kind"] == trace.TAKEN:
                other = NAMES[record["peer"] - 1]
                left = sent[other, NAMES.index(name) + 1, record["d"]]
                assert at >= left - errors[lines[name]] - errors[lines[other]]


def test_quick_messages_tell_more_than_slow_pings() -> None:
    chance, host = random.Random(4), Host(9000 * S, 2e-5)
    line = asked(host, chance, 60, there_us=3000, back_us=10).line("far", BEGIN + 61 * S)
    lines = dict.fromkeys(NAMES[:2], OWN) | dict.fromkeys(NAMES[2:], line)
    truth = messages([Host(0, 0), Host(0, 0), host, host], chance, 60, 20)
    _, errors, _ = refined(lines, {name: Shift(lines[name]).records(array) for name, array in truth.arrays.items()})
    assert line.error_ns > 1 * MS
    assert errors[line] < line.error_ns / 4


def test_times_go_there_and_back() -> None:
    shift = Shift(Line("b", 10**15, 4e4, 5, BEGIN), np.array([BEGIN, BEGIN + S]), np.array([100.0, -300.0]))
    for at in range(BEGIN - S, BEGIN + 2 * S, 77 * MS + 1):
        assert abs(shift.time(shift.host_time(at)) - at) <= 2


# A real run, one of whose stages is made to have been on another host.


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run on one host."""
    return run(small(tmp_path_factory.mktemp("here"), kind="decoupled", tied=False)).folder


def moved(folder: Path, to: Path, stage: str, offset_ns: int, drift: float = 0.0, error_ns: int = 20 * US) -> Path:
    """Copy a run as if a stage had been on a host with another clock, which is known but for 15 µs."""
    shutil.copytree(folder, to)
    header, array, _, _ = trace.read_records(to, stage)
    zero = int(array["start"][0])

    def far(ns: Any) -> Any:
        return ns + offset_ns + np.rint((np.asarray(ns) - zero) * drift).astype(np.int64)

    array = array.copy()
    array["start"], array["end"] = far(array["start"]), far(array["end"])
    header["mono_ns"] = int(far(header["mono_ns"]))
    told = {key: value for key, value in header.items() if key not in ("format", "stage", "record")}
    trace.path_of(to, stage).write_bytes(trace.header_line(stage, told) + array.tobytes())
    log = to / "logs" / f"{stage}.log"
    lines = [json.loads(text) for text in log.read_text().splitlines()]
    log.write_text("".join(json.dumps(line | {"mono_ns": int(far(line["mono_ns"]))}) + "\n" for line in lines))
    line = Line("far", offset_ns + 15 * US, drift * 1e9, error_ns, zero, 20)
    (to / clocks.NAME).write_text(json.dumps(clocks.document({stage: line})))
    return to


@pytest.fixture(scope="module", params=["box-2", "head"])
def there(here: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same run, with a stage on another host."""
    # A clock counts from its start: also one that is behind is above 0.
    offset = 3600 * S if request.param == "box-2" else -time.monotonic_ns() // 2
    return moved(here, tmp_path_factory.mktemp("there") / "run", request.param, offset, 4e-5)


@pytest.mark.live
def test_a_run_on_two_hosts_has_the_same_statistics_within_the_error(here: Path, there: Path) -> None:
    one, two = (recording.load(folder) for folder in (here, there))
    error = two.clock_error_ns
    assert one.clock_error_ns == 0
    assert 0 < error <= 25 * US
    for mine, other in zip(one.stages, two.stages, strict=True):
        assert np.abs(mine.array["start"] - other.array["start"]).max() <= error
        assert abs(mine.shift_ns - other.shift_ns) <= error
    assert ((two.messages.sent - two.messages.taken) <= error).all()
    a, b = stats.document(one), stats.document(two)
    assert abs(a["makespan_s"] - b["makespan_s"]) <= 2 * error / 1e9
    for row, same in zip(a["messages"], b["messages"], strict=True):
        assert abs(row["hop_median_s"] - same["hop_median_s"]) <= error / 1e9
    for stage, same in zip(a["stages"], b["stages"], strict=True):
        assert abs(stage["compute_s"] - same["compute_s"]) <= 2e-6 + 1e-4 * stage["compute_s"]
    assert b["warnings"] == []
    assert b["clock_error_ns"] == error
    assert clocks.told(error) in stats_text.render(b)


@pytest.mark.live
def test_a_run_on_two_hosts_has_the_same_order_and_logs(here: Path, there: Path) -> None:
    error = recording.load(there).clock_error_ns
    one, two = (order.document(order.collect(folder, 5)) for folder in (here, there))
    at = {(row["stage"], row["action"], row["part"]): row["start_ns"] for row in one["rows"]}
    same = {(row["stage"], row["action"], row["part"]): row["start_ns"] for row in two["rows"]}
    assert two["clock_error_ns"] == error
    common = at.keys() & same.keys()
    assert len(common) >= len(at) - 2, "at an edge a row of another batch may come or go"
    assert all(abs(at[key] - same[key]) <= error for key in common)

    def told(folder: Path) -> list[dict[str, Any]]:
        return list(merged(folder, Filter(level="message"), []))

    here_lines, there_lines = told(here), told(there)
    for name in ("box-1", "box-2", "head", "launcher"):
        mine, other = ([each for each in lines if each["stage"] == name] for lines in (here_lines, there_lines))
        # A hop is in a line's text, to the microsecond; and a rounding may move a wall clock by one.
        assert [each["level"] for each in mine] == [each["level"] for each in other]
        assert all(abs(a["mono_ns"] - b["mono_ns"]) <= error for a, b in zip(mine, other, strict=True))
    sent: set[tuple[Any, ...]] = set()
    for line in there_lines:
        key = (line.get("from"), line.get("to"), line.get("sequence"))
        if line.get("event") == "sent":
            sent.add(key)
        assert line.get("event") != "taken" or key in sent


@pytest.mark.live
def test_who_follows_sees_the_launchers_times_and_each_hosts_wall_clock(here: Path, there: Path) -> None:
    found: list[list[dict[str, Any]]] = []
    for folder in (here, there):
        found.append([])
        Follower(folder, Filter(level="message"), found[-1].append).round(is_last=True)
    for name in ("box-1", "box-2", "head", "launcher"):
        mine, other = ([each for each in lines if each["stage"] == name] for lines in found)
        assert all(abs(a["mono_ns"] - b["mono_ns"]) <= 20 * US for a, b in zip(mine, other, strict=True))
        assert all(a["ts"][:19] == b["ts"][:19] for a, b in zip(mine[:1], other[:1], strict=True))


@pytest.mark.live
def test_pictures_and_traces_state_the_error(there: Path, tmp_path: Path) -> None:
    error = recording.load(there).clock_error_ns
    made = timeline.write(there, tmp_path / "t.json", None)
    assert made["clock_error_ns"] == error
    assert json.loads((tmp_path / "t.json").read_text())["otherData"]["clock_error_ns"] == error
    assert clocks.told(error) in timeline.render(made)
    pytest.importorskip("matplotlib")
    timeline.write(there, tmp_path / "t.svg", None)
    assert clocks.told(error) in (tmp_path / "t.svg").read_text()


@pytest.mark.live
def test_arrows_that_go_back_are_counted_and_not_clipped(here: Path, tmp_path: Path) -> None:
    folder = moved(here, tmp_path / "run", "box-2", 3600 * S, error_ns=US)
    told = json.loads((folder / clocks.NAME).read_text())
    told["stages"]["box-2"]["offset_ns"] += S
    (folder / clocks.NAME).write_text(json.dumps(told))
    found = recording.load(folder)
    assert found.clock_error_ns == US
    assert any("before they were sent, beyond what the hosts' clocks may be off" in text for text in found.warnings)
    hops = {(row["from"], row["to"]): row["hop_median_s"] for row in stats.document(found)["messages"]}
    assert hops["box-1", "box-2"] < -0.9


@pytest.mark.live
@pytest.mark.parametrize("text", ["{", '{"stages": {"box-2": {"host": "x"}}}', '{"stages": []}', "[]"], ids=str)
def test_a_damaged_file_is_told_and_times_stay(here: Path, tmp_path: Path, text: str) -> None:
    folder = Path(shutil.copytree(here, tmp_path / "run"))
    (folder / clocks.NAME).write_text(text)
    found = recording.load(folder)
    assert any("clocks.json: damaged" in text for text in found.warnings)
    assert found.clock_error_ns == 0


@pytest.mark.live
def test_a_run_on_one_host_is_untouched(here: Path) -> None:
    found = recording.load(here)
    assert not (here / clocks.NAME).exists()
    for stage in found.stages:
        array = trace.read_records(here, stage.name).array
        assert stage.array.tobytes() == array.tobytes()
        assert not stage.array.flags.writeable, "it is what was read, and no copy"
    text = stats_text.render(stats.document(found))
    assert "hosts" not in text


def test_one_host_reads_as_ever(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    box_1, box_2, head = hands(folder, make_folder(folder))
    box_1.part("F0", "forward", 100).send("activation", 0, 2, 10).done()
    box_2.idle(120).take("activation", 0, 1, 5).done()
    head.done()
    found = recording.load(folder)
    assert (int(found.messages.sent[0]), int(found.messages.taken[0])) == (5_000_101_000, 5_000_120_000)
    assert found.stages[0].shift_ns == 10**18
    assert found.warnings == []
