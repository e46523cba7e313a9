"""Faults on purpose: texts and what they say, what is refused, what they do to work and messages, and in virtual time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from network import make_config, make_plan, make_works

from launch.cli import main
from launch.what_if import of_config, of_costs
from pipeline import faults
from pipeline.actions import ACTIVATION, CREDIT_ACTIVATION, GRADIENT, INCREMENT, Action, Message
from pipeline.config import complete, dump, load, resolve
from pipeline.costs import Costs, Dice
from pipeline.errors import ConfigError
from pipeline.faults import AT_STAGE, KINDS, ON_EDGE, UNITS, AtStage, Injected, OnEdge
from pipeline.faulty import FaultyLinks, FaultyWork, corrupted
from pipeline.frames import Frame
from pipeline.plan import Plan
from pipeline.schema_run import Fault
from pipeline.simulate import simulate

BOXES, BATCHES = 3, 10_000
PLAN = make_plan("article", boxes=BOXES, batches=BATCHES)
#: Edges on which messages travel, where three tied boxes learn by oracles.
EDGES = [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2), (3, 4), (4, 3)]

amounts = st.floats(0, faults.MOST, exclude_min=True, allow_nan=False, allow_subnormal=False) | st.integers(
    1, 10**6
).map(float)
at_stages = st.sampled_from(AT_STAGE).flatmap(
    lambda kind: st.builds(
        AtStage,
        st.just(kind),
        st.integers(1, BOXES + 1),
        st.integers(0, BATCHES - 1),
        {"slow": amounts, "hang": amounts | st.just(0.0)}.get(kind, st.just(0.0)),
    )
)
on_edges = st.builds(
    lambda kind, edge, batch: OnEdge(kind, *edge, batch),
    st.sampled_from(ON_EDGE),
    st.sampled_from(EDGES),
    st.integers(0, BATCHES - 1),
)


@given(at_stages | on_edges)
def test_a_fault_has_a_text_and_a_text_a_fault(fault: Injected) -> None:
    assert faults.parse(fault.kind, fault.text(BOXES), PLAN) == fault


@given(st.sampled_from(KINDS), st.text(max_size=30) | st.from_regex(r"[bh][eado12x>-]{0,12}@batch:[0-9:e.-]{0,9}"))
def test_any_text_is_a_fault_or_is_refused_in_one_line(kind: str, text: str) -> None:
    try:
        fault = faults.parse(kind, text, PLAN)
    except ConfigError as error:
        told = str(error)
    else:
        assert faults.parse(kind, fault.text(BOXES), PLAN) == fault
        return
    assert told.startswith(f"fault.{kind}: ")
    assert "\n" not in told


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("kill", "box-2", "'box-2' is no fault; it looks like box-1@batch:100"),
        ("kill", "box-2@100", "is no fault; it looks like box-1@batch:100"),
        ("drop", "box-2@7", "is no fault; it looks like box-1>box-2@batch:100"),
        ("hang", "box-2@batch:-1", "is no fault; it looks like box-1@batch:100, for 5 seconds :5 more"),
        ("kill", "box-9@batch:1", "'box-9' is no stage of this run; stages are box-1 … box-3 and head"),
        ("kill", "launcher@batch:1", "'launcher' is no stage of this run"),
        ("kill", "box-1>box-2@batch:1", "it happens to a stage, as box-1, not on an edge"),
        ("drop", "box-1@batch:1", "it happens on an edge, as box-1>box-2, not to a stage"),
        ("drop", "box-1>box-9@batch:1", "'box-9' is no stage of this run"),
        ("drop", "box-1>box-1@batch:1", "there is no such edge; from there lead box-1>box-2, box-1>box-3"),
        ("swap", "head>box-1@batch:1", "there is no such edge; from there lead head>box-3"),
        ("kill", "box-1@batch:10000", "the batches that travel there are 0 to 9,999"),
        ("kill", "box-1@batch:1:5", "nothing comes behind the batch; leave out :5"),
        ("slow", "box-1@batch:1", "how much slower is missing; say milliseconds, as box-1@batch:1:20"),
        ("slow", "box-1@batch:1:0", "more than 0 and at most 1,000,000 milliseconds are wanted"),
        ("hang", "box-1@batch:1:1e99", "more than 0 and at most 1,000,000 seconds are wanted"),
    ],
)
def test_what_cannot_happen_is_refused_with_the_way_out(kind: str, text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        faults.parse(kind, text, PLAN)
    assert str(caught.value).startswith(f"fault.{kind}: ")
    assert why in str(caught.value)


def test_where_only_credits_go_nothing_can_be_lost() -> None:
    frozen = make_plan("decoupled", boxes=2, batches=9, rule="frozen")
    with pytest.raises(
        ConfigError, match=r"'box-2>box-1@batch:1': nothing but credits goes there; choose another edge"
    ):
        faults.parse("drop", "box-2>box-1@batch:1", frozen)
    assert faults.parse("drop", "box-1>box-2@batch:1", frozen) == OnEdge("drop", 1, 2, 1)


def test_increments_of_micro_batches_count_updates() -> None:
    plan = make_plan("gpipe", boxes=3, batches=8, micro=4)
    assert faults.parse("drop", "box-1>box-3@batch:1", plan) == OnEdge("drop", 1, 3, 1)
    with pytest.raises(ConfigError, match="the batches that travel there are 0 to 1"):
        faults.parse("drop", "box-1>box-3@batch:2", plan)
    assert faults.parse("drop", "box-1>box-2@batch:7", plan) == OnEdge("drop", 1, 2, 7)


def test_several_are_joined_by_commas_and_each_is_there_once() -> None:
    keys = Fault(kill="box-1@batch:1, head@batch:2", hang="box-1@batch:1:2.5", disk_full="box-2@batch:3")
    assert faults.texts(keys) == [
        "kill=box-1@batch:1", "kill=head@batch:2", "hang=box-1@batch:1:2.5", "disk-full=box-2@batch:3"
    ]  # fmt: skip
    assert len(faults.parse_all(keys, PLAN)) == 4
    with pytest.raises(ConfigError, match=r"fault\.kill: 'box-1@batch:1' is there twice"):
        faults.parse_all(Fault(kill="box-1@batch:1,box-1@batch:1"), PLAN)
    with pytest.raises(ConfigError, match="one message has one fault, and it has another already"):
        faults.parse_all(Fault(drop="box-1>box-2@batch:1", swap="box-1>box-2@batch:1"), PLAN)


def test_a_stage_sees_to_its_own_faults_and_to_the_messages_that_it_sends() -> None:
    flags = {"fault.kill": "box-2@batch:1", "fault.slow": "box-1@batch:0:5", "fault.drop": "box-2>box-1@batch:2"}
    config = make_config("article", 2, flags)
    found = {k: [each.kind for each in faults.of_stage(config, Plan.of(config), k)] for k in (1, 2, 3)}
    assert found == {1: ["slow"], 2: ["kill", "drop"], 3: []}


def test_a_configuration_with_faults_is_checked_and_goes_to_a_file_and_back(tmp_path: Path) -> None:
    config = make_config("decoupled", 2, {"fault.disk_full": "box-2@batch:5", "fault.double": "head>box-2@batch:0"})
    (tmp_path / "config.toml").write_text(dump(config))
    assert load(tmp_path / "config.toml") == config
    assert complete(config) == config
    with pytest.raises(
        ConfigError, match=r"fault\.disk_full: 'box-2@batch:6': the batches that travel there are 0 to 5"
    ):
        make_config("decoupled", 2, {"fault.disk_full": "box-2@batch:6"})


@pytest.mark.in_process
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--fault", "kil=box-1@batch:1"], "--fault: 'kil' is no kind of fault; did you mean kill?"),
        (["--fault", "x=1"], "known are kill, hang, slow, drop, double, swap, corrupt, disk-full"),
        (["--fault", "kill"], "--fault: 'kill': say KIND=PLACE@batch:N, as kill=box-1@batch:100"),
        (["--fault", "kill="], "say KIND=PLACE@batch:N"),
        (["--fault", "disk-full=box-7@batch:1"], "fault.disk_full: 'box-7' is no stage of this run"),
        (["--fault.drop", "head>box-1@batch:1"], "there is no such edge; from there lead head>box-2"),
        (["--fault", "kill=box-1@batch:1", "--fault.kill", "box-1@batch:1"], "'box-1@batch:1' is there twice"),
        (
            ["--fault", "kill=box-1@batch:1", "--reference"],
            "fault: a reference is one process without stages or messages",
        ),
    ],
)
def test_a_wrong_fault_exits_2_before_anything_starts(
    words: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *words, "--run.dir", str(tmp_path / "runs")]) == 2
    told = capsys.readouterr().err
    assert why in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


# What they do to a work


class Line:
    """A lifeline that is told to stop or not."""

    should_stop = False


def faulty(*found: AtStage, line: Line | None = None) -> tuple[FaultyWork, list[Injected]]:
    """Return the work of box 1 to which these happen, and what was told."""
    told: list[Injected] = []
    work = make_works(make_config("article", 2))[1]
    lifeline: Any = line or Line()
    return FaultyWork(work, found, Path("nowhere"), told.append, lifeline), told


def took(work: FaultyWork, action: Action) -> float:
    began = time.perf_counter()
    assert list(work.do(action))
    return time.perf_counter() - began


def test_a_slow_stage_is_slow_from_its_batch_on_and_in_its_forwards_alone() -> None:
    slow = AtStage("slow", 1, 1, 60.0)
    work, told = faulty(slow)
    assert took(work, Action("F", 0)) < 0.06
    assert told == []
    assert took(work, Action("F", 1)) >= 0.06
    assert took(work, Action("E", 0)) < 0.06
    assert told == [slow], "said once, when it begins"
    assert work.outputs is work.work.outputs


def test_a_stage_hangs_for_its_seconds_or_until_it_is_told_to_stop() -> None:
    work, told = faulty(AtStage("hang", 1, 0, 0.2))
    assert 0.2 <= took(work, Action("F", 0)) < 2
    assert took(work, Action("F", 1)) < 0.1
    assert len(told) == 1
    line = Line()
    line.should_stop = True
    work, _ = faulty(AtStage("hang", 1, 0), line=line)
    assert took(work, Action("F", 0)) < 2


def test_a_killed_process_is_gone_and_a_full_disk_takes_nothing_more(tmp_path: Path) -> None:
    """In a process of its own: neither can be undone."""
    code = """
import os, sys
from pathlib import Path
from pipeline.faulty import fill_disk
from pipeline.files import save_text
folder = Path(sys.argv[1])
journal = (folder / "journal").open("wb", buffering=0)
reading = (folder / "before").open("rb")
journal.write(b"F0")
fill_disk(folder)
(folder.parent / "elsewhere").write_text("room")
for attempt in (
    lambda: journal.write(b"F1"),
    lambda: (folder / "new").open("ab"),
    lambda: save_text(folder / "summary", "{}"),
    lambda: (folder / "metrics").mkdir(),
):
    try:
        attempt()
    except OSError as error:
        print(error.errno, error.strerror, error.filename and os.path.basename(error.filename))
print(reading.read().decode())
"""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "before").write_text("as it was")
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    none = "28 No space left on device"
    assert done.stdout.splitlines() == [
        f"{none} None",
        f"{none} new",
        f"{none} summary",
        f"{none} metrics",
        "as it was",
    ]
    assert done.stderr == ""
    assert sorted(path.name for path in folder.iterdir()) == ["before", "journal"]
    assert (folder / "journal").read_bytes() == b"F0"
    code = """
from pathlib import Path
from pipeline.faults import AtStage
from pipeline.faulty import FaultyWork
from pipeline.actions import Action
print("begun", flush=True)
list(FaultyWork(None, [AtStage("kill", 1, 3)], Path(), lambda fault: print(fault.kind, flush=True), None).do(Action("F", 3)))
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (killed.returncode, killed.stdout) == (-9, "begun\nkill\n")


# What they do to messages


class Wire:
    """Edges that keep what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, list[bytes]]] = []

    def send(self, target: int, frames: Sequence[Frame]) -> None:
        self.sent.append((target, [bytes(frame) for frame in frames]))

    def receive(self, wait: bool) -> list[Frame] | None:
        return [b"waited" if wait else b"looked"]


def sent_with(*found: OnEdge, batches: int = 4) -> tuple[list[str], list[Injected]]:
    """Return what comes out of box 1's edges, as `kind batch>target`, and what was told."""
    wire, told = Wire(), list[Injected]()
    links = FaultyLinks(wire, found, told.append)
    for batch in range(batches):
        for kind, target in ((CREDIT_ACTIVATION, 2), (ACTIVATION, 2), (INCREMENT, 2), (INCREMENT, 3)):
            links.expect(Message(kind, batch, 1, target))
            links.send(target, [f"{kind} {batch}>{target}".encode(), memoryview(np.zeros(4)).cast("B")])
    return [frames[0].decode() for _, frames in wire.sent], told


WHOLE = [
    f"{kind} {batch}>{target}"
    for batch in range(4)
    for kind, target in ((CREDIT_ACTIVATION, 2), (ACTIVATION, 2), (INCREMENT, 2), (INCREMENT, 3))
]


def test_without_a_fault_all_goes_as_it_was_sent() -> None:
    assert sent_with() == (WHOLE, [])
    assert FaultyLinks(Wire(), [], lambda _: None).receive(wait=True) == [b"waited"]


def test_a_message_is_lost_doubled_or_comes_after_the_next_one_of_its_edge() -> None:
    hit = "activation 2>2"
    place = WHOLE.index(hit)
    lost, told = sent_with(OnEdge("drop", 1, 2, 2))
    assert lost == [each for each in WHOLE if each != hit], "not a credit, and no second message of the batch"
    assert told == [OnEdge("drop", 1, 2, 2)]
    assert sent_with(OnEdge("double", 1, 2, 2))[0] == [*WHOLE[:place], hit, *WHOLE[place:]]
    swapped = sent_with(OnEdge("swap", 1, 2, 2))[0]
    assert swapped == [*WHOLE[:place], WHOLE[place + 1], hit, *WHOLE[place + 2 :]]
    far = sent_with(OnEdge("swap", 1, 3, 1))[0]
    assert [each for each in far if each.endswith(">3")] == [f"increment {batch}>3" for batch in (0, 2, 1, 3)]
    assert [each for each in far if each.endswith(">2")] == [each for each in WHOLE if each.endswith(">2")]


def test_one_bit_of_the_last_frame_is_turned_in_a_copy() -> None:
    array = np.arange(6, dtype=np.float32)
    frames = [b"header", memoryview(array).cast("B")]
    for number in range(9):
        header, damaged = corrupted(frames, number)
        assert header == b"header"
        turned = np.frombuffer(damaged, np.uint8) ^ array.view(np.uint8)
        assert turned.max() == 1 << number % 8
        assert np.count_nonzero(turned) == 1
    assert array.tolist() == [0, 1, 2, 3, 4, 5]
    assert corrupted([b"head"], 0) == [b"he`d"], "a message without arrays is its header"
    told: list[Injected] = []
    wire = Wire()
    links = FaultyLinks(wire, [OnEdge("corrupt", 4, 3, 7)], told.append)
    links.expect(Message(GRADIENT, 7, 4, 3))
    links.send(3, frames)
    assert wire.sent == [(3, [bytes(frame) for frame in corrupted(frames, 7)])]


# Virtual time


def test_slow_and_hang_take_their_time_at_their_batches() -> None:
    late = (AtStage("slow", 1, 3, 2.0), AtStage("hang", 1, 5, 1.0), AtStage("slow", 2, 0, 7.0))
    assert [faults.late_ns(late[:2], batch) for batch in (0, 2, 3, 5, 6)] == [0, 0, 2_000_000, 1_002_000_000, 2_000_000]
    costs = Costs({(1, "F"): (10,), (1, "T"): (20,)}, faults=late)
    assert not costs.is_constant
    dice = Dice(costs, 0, 9)
    assert [dice.action(1, "F")(batch) for batch in (2, 3, 5)] == [10, 2_000_010, 1_002_000_010]
    assert dice.action(1, "T")(5) == 20
    assert dice.action(2, "F")(0) == 7_000_000


@pytest.mark.parametrize("schedule", ["article", "locked", "decoupled"])
def test_a_run_in_virtual_time_is_longer_by_its_faults_where_nothing_hides_them(schedule: str) -> None:
    plan = make_plan(schedule, batches=10)
    costs = {(k, kind): (1_000,) for k in (1, 2, 3) for kind in "FTBUE"}
    plain = simulate(plan, Costs(costs))
    late = AtStage("hang", 1, 4, 1.0), AtStage("slow", 1, 5, 100.0)
    found = simulate(plan, Costs(costs, faults=late))
    assert found.actions == plain.actions
    more = found.makespan_ns - plain.makespan_ns
    assert 1_500_000_000 - plain.makespan_ns <= more <= 1_500_000_000
    assert found.busy_ns[1] - plain.busy_ns[1] == 1_500_000_000


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in UNITS])
def test_what_takes_no_time_of_its_own_is_refused_in_virtual_time(kind: str, tmp_path: Path) -> None:
    place = "box-1>box-2" if kind in ON_EDGE else "box-1"
    config = make_config("article", 2, {f"fault.{kind}": f"{place}@batch:1"})
    with pytest.raises(ConfigError, match=rf"fault\.{kind}: {place}@batch:1 takes no time of its own: in virtual time"):
        of_config(config, None, [])
    with pytest.raises(ConfigError, match=rf"fault\.{kind}: "):
        of_costs(make_config("article", 2), tmp_path / "costs.toml", [f"fault.{kind}={place}@batch:1"])


def test_a_stage_that_hangs_for_ever_has_no_end_in_virtual_time_either() -> None:
    with pytest.raises(ConfigError, match=r"fault\.hang: box-1@batch:1 takes for ever"):
        of_config(make_config("article", 2, {"fault.hang": "box-1@batch:1"}), None, [])


@pytest.mark.in_process
def test_a_configuration_with_faults_is_simulated_with_them(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--train.epochs", "1", "--data.train", "20", "--data.test", "20", "--model.width", "4"]
    slow = ["--fault", "slow=box-1@batch:10:200", "--fault", "hang=box-2@batch:3:5"]
    assert main(["simulate", *words, *slow]) == 0
    told = capsys.readouterr().out
    assert "faults on purpose: hang=box-2@batch:3:5, slow=box-1@batch:10:200" in told
    seconds = float(told.split("in virtual time: ")[1].split(" s")[0])
    assert seconds > 5
    with pytest.raises(ConfigError, match="cores: emulated compute sleeps and holds no processor, and so does a fault"):
        of_config(make_config("article", 2, {"fault.slow": "box-1@batch:1:5"}), None, ["cores=2"])


def test_faults_of_a_run_are_told_apart_by_whether_they_only_take_time() -> None:
    keys = Fault(kill="box-1@batch:1", hang="box-2@batch:3:5,box-1@batch:4", slow="box-1@batch:2:5")
    timed, others = faults.apart(keys, PLAN)
    assert timed == Fault(hang="box-2@batch:3:5", slow="box-1@batch:2:5")
    assert others == ["kill=box-1@batch:1", "hang=box-1@batch:4"]


def test_the_default_has_no_fault() -> None:
    assert resolve().fault == Fault()
    assert faults.texts(Fault()) == []
