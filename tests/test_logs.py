"""One stream from all workers: causal whatever the clocks say, filtered, followed, and honest about what is damaged."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_chaos import ENDLESS, launched, until

from launch import causal, logs, resolve
from launch import follow as following
from launch.causal import Entry
from launch.causal import causal as in_causal_order
from launch.cli import main
from launch.runs import make_run
from pipeline.actions import ACTIVATION, EVALUATION, GRADIENT, Action, Message, Part
from pipeline.lacks import CREDIT, DRAIN, MESSAGE, WINDOW, Lack
from pipeline.recorder import Recorder
from pipeline.trace import DONE, GO, RECORD, path_of

pytestmark = pytest.mark.in_process

BOXES = 3
NAMES = ("box-1", "box-2", "box-3", "head")
#: When made-up runs begin, by a clock that is right, in nanoseconds: of the machine, and of the world.
ORIGIN, WALL = 10**12, 1_795_599_805 * 10**9


class MadeUp:
    """A run whose workers send each other messages at random, each by a clock of its own, written down as it goes on."""

    def __init__(
        self, parent: Path, seed: int = 0, offset_ns: int = 0, level: str = "info", trace: str = "full"
    ) -> None:
        self.rng = random.Random(f"made up {seed}")
        flags = {"model.boxes": BOXES, "run.dir": str(parent), "log.level": level, "trace.level": trace}
        self.folder = make_run(resolve(flags=flags), "made-up")
        self.now = 0
        self.numbers = range(1, BOXES + 2)
        self.clock = {k: ORIGIN + self.rng.randint(-offset_ns, offset_ns) for k in self.numbers}
        # What is on record comes to the run's folder when it is flushed.
        self.shadow = Path(tempfile.mkdtemp(dir=parent))
        self.is_traced = trace == "full"
        self.recorders = {
            k: Recorder(self.shadow, NAMES[k - 1], {"mono_ns": ORIGIN, "wall_ns": WALL}, is_traced=trace == "full")
            for k in self.numbers
        }
        self.edges: dict[tuple[int, int], list[tuple[Message, int]]] = {}
        self.sequence: Counter[tuple[int, int]] = Counter()
        self.batch: Counter[int] = Counter()
        self.done: list[tuple[str, str]] = []  # who did what, in the order it happened
        for name in (*NAMES, "launcher"):
            self.log(name, ORIGIN, "info", "go")
        for k in self.numbers:
            self.recorders[k].tape.mark(GO, self.at(k))

    def at(self, k: int) -> int:
        """Return the time by a worker's clock, a little later than before."""
        self.now += self.rng.randint(1, 100_000)
        return self.clock[k] + self.now

    def log(self, name: str, ns: int, level: str, text: str, **more: Any) -> None:
        """Add a line to a worker's log."""
        line = {"ts": "2026-11-25T09:43:25.000000Z", "mono_ns": ns, "stage": name, "level": level, **more, "text": text}
        with (self.folder / "logs" / f"{name}.log").open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def step(self) -> None:
        """Let somebody do something."""
        k = self.rng.choice(self.numbers)
        waiting = [edge for edge, parcels in self.edges.items() if edge[1] == k and parcels]
        what = self.rng.choice(("part", "send", "take", "take", "wait"))
        if what == "part":
            self.part(k)
        elif what == "send":
            self.send(k, self.rng.choice([other for other in self.numbers if other != k]))
        elif what == "take" and waiting:
            self.take(*self.rng.choice(waiting))
        elif what == "wait":
            self.wait(k, Lack(self.rng.choice((MESSAGE, WINDOW, CREDIT, DRAIN)), GRADIENT, self.batch[k], 1 + k % 4))

    def part(self, k: int) -> None:
        start, batch = self.at(k), self.batch[k]
        self.recorders[k].tape.part(Action("F", batch), Part("forward", batch, batch), start, self.at(k))
        self.batch[k] += 1
        self.done.append((NAMES[k - 1], f"F{batch}"))

    def send(self, k: int, other: int, kind: str = ACTIVATION) -> None:
        message, sequence = Message(kind, self.batch[k], k, other), self.sequence[k, other]
        self.sequence[k, other] += 1
        self.edges.setdefault((k, other), []).append((message, sequence))
        self.recorders[k].tape.sent(message, 1568, 7, sequence, self.at(k), self.at(k), self.at(k))
        self.done.append((NAMES[k - 1], f"sent {sequence} to {NAMES[other - 1]}"))

    def take(self, source: int, k: int) -> None:
        message, sequence = self.edges[source, k].pop(0)
        self.recorders[k].tape.taken(message, 1568, 7, sequence, self.at(k), self.at(k), self.at(k))
        self.done.append((NAMES[k - 1], f"took {sequence} from {NAMES[source - 1]}"))

    def wait(self, k: int, lack: Lack) -> None:
        self.recorders[k].tape.waited(lack, self.at(k), self.at(k))
        self.done.append((NAMES[k - 1], "waited"))

    def flush(self, *numbers: int) -> None:
        """Let what is on record come to the run's folder."""
        (self.folder / "trace").mkdir(exist_ok=True)
        for k in numbers if self.is_traced else ():
            self.recorders[k].tape.write()
            shutil.copy(path_of(self.shadow, NAMES[k - 1]), path_of(self.folder, NAMES[k - 1]))

    def end(self) -> Path:
        """Write down the rest and the end, and return the folder."""
        for k in self.numbers:
            self.recorders[k].done(DONE, self.at(k))
            self.recorders[k].close()
        self.flush(*self.numbers)
        (self.folder / "summary.json").write_text('{"status": "done"}')
        return self.folder


def made_up(parent: Path, seed: int = 0, steps: int = 80, **more: Any) -> MadeUp:
    """Return a run that has ended."""
    run = MadeUp(parent, seed, **more)
    for _ in range(steps):
        run.step()
    run.end()
    return run


def told(line: dict[str, Any]) -> tuple[str, str]:
    """Return who did what, as `MadeUp.done` tells it."""
    event = line.get("event")
    if event == "sent":
        return line["stage"], f"sent {line['sequence']} to {line['to']}"
    if event == "taken":
        return line["stage"], f"took {line['sequence']} from {line['from']}"
    return line["stage"], event or line.get("action") or line["text"]


def merged(folder: Path, **wanted: Any) -> list[dict[str, Any]]:
    """Return a run's lines, of which nothing may be missing."""
    warnings: list[str] = []
    lines = list(causal.merged(folder, logs.Filter(**wanted), warnings))
    assert warnings == []
    return lines


def assert_causal(lines: list[dict[str, Any]], *, is_whole: bool = True) -> None:
    """Assert that no message is taken before it was sent."""
    sent = set()
    for line in lines:
        if line.get("event") in ("sent", "taken"):
            key = (line["from"], line["to"], line["sequence"])
            if line["event"] == "sent":
                sent.add(key)
            elif is_whole or "hop_ms" in line:
                assert key in sent, line


def ask(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, list[str]]:
    """Return the exit code of `timebox logs`, what it prints, and its lines on standard error."""
    code = main(["logs", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


# Causal order


@pytest.mark.parametrize("offset_ns", [0, 1_000_000, 10_000_000, 10**10])
def test_no_message_is_taken_before_it_was_sent_whatever_the_clocks_say(offset_ns: int, tmp_path: Path) -> None:
    is_shuffled = 0
    for seed in range(75):
        run = made_up(tmp_path, seed, offset_ns=offset_ns)
        lines = merged(run.folder, level="message")
        found = [told(line) for line in lines if line["text"] != "go"]
        for name in NAMES:
            own = [what for stage, what in found if stage == name]
            assert own == [what for stage, what in run.done if stage == name], f"seed {seed}: {name} keeps its order"
        assert_causal(lines)
        is_shuffled += [line["mono_ns"] for line in lines] != sorted(line["mono_ns"] for line in lines)
        if not offset_ns:
            assert found == run.done, "one clock: the order of time"
    assert (is_shuffled > 50) == (offset_ns > 0)


def test_actions_alone_stand_in_causal_order_too(tmp_path: Path) -> None:
    """What box-2 did after it took a message follows what box-1 did before it sent that, though nobody asked for messages."""
    run = MadeUp(tmp_path)
    run.clock[1] += 10**9
    for k, other in ((1, 2), (2, 3), (3, 4)):
        run.part(k)
        run.send(k, other)
        run.take(k, other)
    run.part(4)
    lines = merged(run.end())
    assert [told(line) for line in lines if "action" in line] == [(name, "F0") for name in NAMES]


def test_a_message_whose_sending_is_not_on_record_holds_nobody_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(40):
        run = made_up(tmp_path, seed, offset_ns=10**7)
        (run.folder / "trace" / "box-1.trace").unlink()
        code, out, err = ask(capsys, run.folder, "--level", "message", "--json")
        assert code == 0
        assert [line.partition("box-1.trace")[2] for line in err] == [
            ": cannot read the trace: No such file or directory"
        ]
        lines = json.loads(out)["lines"]
        assert_causal(lines, is_whole=False)
        others = Counter(each for each in run.done if each[0] != "box-1")
        assert Counter(told(line) for line in lines if line["text"] != "go") == others
        alone = [line for line in lines if line.get("event") == "taken" and line["from"] == "box-1"]
        assert all("its sending is not on record" in line["text"] and "hop_ms" not in line for line in alone)


def test_lines_that_wait_for_each_other_in_a_circle_are_shown_all_the_same() -> None:
    feeds = [[Entry(5, 0, 0, 1, "a"), Entry(6, 0, 2, 0, "b")], [Entry(7, 1, 0, 2, "c"), Entry(8, 1, 1, 0, "d")]]
    assert [entry.what for entry in in_causal_order([iter(feed) for feed in feeds])] == ["a", "b", "c", "d"]
    assert list(in_causal_order([iter(feed) for feed in feeds], breaks=False)) == []


def test_no_damage_to_sequences_brings_a_deadlock() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        feeds = [
            [Entry(rng.randint(0, 99), k, rng.choice((0, rng.randint(1, 9))), rng.choice((0, rng.randint(1, 9))), n)
             for n in range(rng.randint(0, 30))]
            for k in range(rng.randint(1, 5))
        ]  # fmt: skip
        found = list(in_causal_order([iter(feed) for feed in feeds]))
        for k, feed in enumerate(feeds):
            assert [entry for entry in found if entry.place == k] == feed


def test_a_stream_reads_no_further_than_it_has_shown() -> None:
    read = 0

    def endless(place: int) -> Iterator[Entry]:
        nonlocal read
        while True:
            read += 1
            yield Entry(read, place, 0, 0, None)

    stream = in_causal_order([endless(0), endless(1)])
    for _ in range(10):
        next(stream)
    assert read <= 12


# Levels and filters


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Return a run with lines of every level."""
    run = MadeUp(tmp_path)
    run.part(1)
    run.send(1, 2)
    run.take(1, 2)
    run.send(1, 2, EVALUATION)
    run.wait(2, Lack(WINDOW, GRADIENT, 0, 3))
    run.wait(2, Lack(CREDIT, ACTIVATION, 4, 3))
    run.recorders[2].tape.waited(None, run.at(2), run.at(2))
    run.part(2)
    for level in ("warning", "error"):
        run.log("head", run.at(4), level, f"an {level}")
    return run.end()


@pytest.mark.parametrize("place", range(len(logs.LEVELS)), ids=logs.LEVELS)
def test_a_level_shows_its_lines_and_those_above(place: int, mixed: Path) -> None:
    lines = merged(mixed, level=logs.LEVELS[place])
    assert {line["level"] for line in lines} == set(logs.LEVELS[place:])
    assert lines == [line for line in merged(mixed, level="message") if line["level"] in logs.LEVELS[place:]]


def test_without_a_level_there_are_no_messages(mixed: Path) -> None:
    assert merged(mixed) == merged(mixed, level="action")


def test_messages_and_waits_tell_all_they_know(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in merged(mixed, level="message") if "event" in line]
    sent, taken, evaluation, full, credit, bare = lines
    assert (sent["event"], sent["message"], sent["batch"], sent["from"], sent["to"]) == (
        "sent", "activation", 1, "box-1", "box-2",
    )  # fmt: skip
    assert (sent["sequence"], sent["bytes"], sent["version"]) == (0, 1568, 7)
    assert taken["hop_ms"] == pytest.approx((taken["mono_ns"] - sent["mono_ns"]) / 1e6, abs=1e-3)
    assert evaluation["evaluation"] == 1
    assert "batch" not in evaluation
    assert (full["event"], full["message"], full["batch"], full["from"], full["why"]) == (
        "waited", "gradient", 0, "box-3", "window",
    )  # fmt: skip
    assert bare.keys() & {"message", "batch", "from"} == set()
    _, text, _ = ask(capsys, mixed, "--level", "message")
    for wanted in (
        r"box-1  sent activation 1 to box-2 \(1,568 bytes, v7\)",
        r"box-2  took activation 1 from box-1 after 0\.\d{3} ms",
        r"box-2  waited 0\.\d{3} ms for gradient 0 from box-3: its window is full",
        r"box-2  waited 0\.\d{3} ms for a credit from box-3 to send activation 4",
        r"box-2  waited 0\.\d{3} ms",
        r"head  error: an error",
    ):
        assert re.search(rf"^\S+ +{wanted}$", text, re.MULTILINE), wanted
    assert credit["why"] == "credit"


def test_a_hop_that_the_clocks_turn_round_says_so(tmp_path: Path) -> None:
    run = MadeUp(tmp_path)
    run.clock[1] += 10**9
    run.send(1, 2)
    run.take(1, 2)
    taken = merged(run.end(), level="message")[-1]
    assert taken["hop_ms"] < -900
    assert re.fullmatch(
        r"took activation 0 from box-1 99\d\.\d+ ms before it was sent, by clocks that differ", taken["text"]
    )


@pytest.mark.parametrize("offset_ns", [0, 10**7])
@pytest.mark.parametrize(
    ("wanted", "keeps"),
    [
        ({"stage": "box-2"}, lambda line: line["stage"] == "box-2"),
        ({"batch": 2}, lambda line: line.get("batch") == 2),
        ({"batch": 2, "stage": "head"}, lambda line: line.get("batch") == 2 and line["stage"] == "head"),
        ({"action": "F"}, lambda line: "action" in line),
        ({"action": "F1", "stage": "box-1"}, lambda line: line.get("action") == "F1" and line["stage"] == "box-1"),
    ],
    ids=["stage", "batch", "batch and stage", "action", "action and stage"],
)
def test_filters_combine(offset_ns: int, wanted: dict[str, Any], keeps: Any, tmp_path: Path) -> None:
    folder = made_up(tmp_path, offset_ns=offset_ns, steps=200).folder
    everything = merged(folder, level="message")
    expected = [line for line in everything if keeps(line)]
    assert 0 < len(expected) < len(everything)
    assert merged(folder, level="message", **wanted) == expected
    assert {"action": {"action"}}.get(next(iter(wanted)), {"action", "message"}) <= {line["level"] for line in expected}


def test_steps_of_a_run_that_logs_them_are_not_told_twice(tmp_path: Path) -> None:
    run = MadeUp(tmp_path, level="action")
    run.part(1)
    end = run.clock[1] + run.now
    run.log("box-1", end, "action", "step", action="F0", part="forward", batch=0, read=0, written=0, ms=0.1)
    assert [line["text"] for line in merged(run.end()) if "action" in line] == ["step"]


def test_what_the_trace_left_out_is_told_where_it_is_missing(tmp_path: Path) -> None:
    run = MadeUp(tmp_path)
    recorder = run.recorders[1]
    recorder.tape.is_on, recorder._gap_since = False, run.at(1)
    run.part(1)
    recorder.tape.is_on = True
    recorder._tell_gap(run.at(1))
    run.part(1)
    warnings: list[str] = []
    lines = list(causal.merged(run.end(), logs.Filter(), warnings))
    gap, part = [line for line in lines if line["stage"] == "box-1"][1:]
    assert re.search(r"^1 records of 0\.\d+ s were left out of the trace here$", gap["text"])
    assert part["action"] == "F1"


def sampled(parent: Path, level: str) -> MadeUp:
    """Return a run whose box-1 left two records out of its trace; it has ended."""
    run = MadeUp(parent, level=level)
    recorder = run.recorders[1]
    run.part(1)
    recorder.tape.is_on, recorder._gap_since = False, run.at(1)
    run.part(1)
    run.send(1, 2)
    run.end()
    return run


@pytest.mark.parametrize(
    ("level", "words", "is_told"),
    [
        ("info", [], True),
        ("info", ["--level", "message"], True),
        ("info", ["--level", "info"], False),
        ("info", ["--stage", "box-1", "--batch", "1"], True),
        ("info", ["--stage", "box-2"], False),
        ("action", [], False),
        ("action", ["--level", "message"], True),
    ],
    ids=str,
)
@pytest.mark.parametrize("follow", [[], ["--follow"]], ids=["merged", "follow"])
def test_a_reader_is_told_that_records_were_left_out_where_wanted_lines_may_be_among_them(
    follow: list[str], level: str, words: list[str], is_told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = ask(capsys, sampled(tmp_path, level).folder, *words, *follow)
    found = [line for line in err if "left out" in line]
    assert code == 0
    assert len(found) == is_told
    if is_told:
        assert "warning: 2 records were left out: beyond half of trace.most_mb (64 MB a stage) batches" in found[0]


def test_a_run_that_was_followed_while_it_was_sampled_says_so_at_its_end(tmp_path: Path) -> None:
    folder = sampled(tmp_path, "info").folder
    lines: list[dict[str, Any]] = []
    follower = following.Follower(folder, logs.Filter(), lines.append)
    follower.round(is_last=True)
    assert [fault.partition(":")[0] for fault in follower.faults()] == ["2 records were left out"]


@pytest.mark.parametrize("level", ["all", "", "Action"])
def test_an_unknown_level_shows_those_there_are(level: str, mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ask(capsys, mixed, "--level", level)
    assert code == 2
    assert err == [f"timebox: --level: {level!r} is none of message, action, info, warning, error"]


def test_messages_of_a_run_without_a_trace_are_said_to_be_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made_up(tmp_path, trace="off").folder
    assert ask(capsys, folder)[2] == []
    code, out, err = ask(capsys, folder, "--level", "message")
    assert (code, len(out.splitlines())) == (0, 5)
    assert "trace.level off" in err[0]


@pytest.mark.parametrize("words", [["--batch", "3"], ["--action", "F"]], ids=str)
def test_a_run_that_noted_no_action_says_why_there_is_no_line_on_a_batch(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It once said no more than that no line is such a one."""
    folder = made_up(tmp_path, trace="off").folder
    code, out, err = ask(capsys, folder, *words)
    assert (code, out) == (0, "")
    assert err[0] == (
        f"timebox: warning: {folder.name} has no lines on batches and actions: "
        "it ran with log.level info and trace.level off"
    )
    assert ask(capsys, made_up(tmp_path, 1, trace="off", level="action").folder, *words)[2][:-1] == []


def test_a_reference_has_no_logs_and_the_request_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(resolve(flags={"run.dir": str(tmp_path)}), "reference")
    (folder / "launcher.json").write_text('{"reference": true, "stages": []}')
    for flags in ([], ["--follow"], ["--json"]):
        code, out, err = ask(capsys, folder, *flags)
        assert (code, out) == (2, "")
        assert err == [
            f"timebox: {folder.name} has no logs: a reference runs in one process, without workers; `timebox run` has them"
        ]


# Damage


def test_what_is_damaged_is_named_and_the_rest_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_up(tmp_path, steps=200)
    whole = len(merged(run.folder, level="message"))
    torn, wild = run.folder / "trace" / "box-1.trace", run.folder / "trace" / "box-2.trace"
    torn.write_bytes(torn.read_bytes()[:-7])
    content = bytearray(wild.read_bytes())
    begin = content.index(b"\n") + 1
    content[begin + 3 * RECORD.size + 1] = 200  # a part that there is not
    wild.write_bytes(content)
    log = run.folder / "logs" / "head.log"
    log.write_bytes(log.read_bytes() + b'\xff\xfe\n[1]\n{"ts": 5}\n{"ts": "2026')
    (run.folder / "logs" / "box-3.log").unlink()
    code, out, err = ask(capsys, run.folder, "--level", "message")
    assert code == 0
    assert all(line.startswith("timebox: warning: ") for line in err)
    for path in ("box-1.trace", "box-2.trace", "head.log: 4 lines", "box-3.log"):
        assert sum(path in line for line in err) == 1, path
    assert len(err) == 4
    assert whole - 3 <= len(out.splitlines()) < whole


def test_no_byte_of_a_trace_that_is_wrong_stops_the_stream(tmp_path: Path) -> None:
    run = made_up(tmp_path, steps=30)
    path = run.folder / "trace" / "box-2.trace"
    content = path.read_bytes()
    begin = content.index(b"\n") + 1
    rng = random.Random(1)
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 3))):
            changed[rng.randrange(begin, len(content))] = rng.randrange(256)
        path.write_bytes(changed)
        warnings: list[str] = []
        lines = list(causal.merged(run.folder, logs.Filter(level="message"), warnings))
        assert sum(line["stage"] != "box-2" for line in lines) == sum(name != "box-2" for name, _ in run.done) + 4
        assert all(logs.render(line) for line in lines)


@pytest.mark.parametrize("header", [b"", b"nonsense\n", b'{"format": "timebox-trace-2", "wall_ns": 1e99}\n'])
def test_a_trace_with_a_header_that_is_wrong_is_read_as_far_as_it_goes(header: bytes, tmp_path: Path) -> None:
    run = made_up(tmp_path)
    path = run.folder / "trace" / "box-2.trace"
    path.write_bytes(header + path.read_bytes().partition(b"\n")[2])
    warnings: list[str] = []
    lines = list(causal.merged(run.folder, logs.Filter(level="message"), warnings))
    assert {line["stage"] for line in lines} == {*NAMES, "launcher"}
    assert len(warnings) == (0 if b"wall" in header else 1)


def test_a_run_of_which_nothing_is_left_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_up(tmp_path)
    for path in [*(run.folder / "logs").iterdir(), *(run.folder / "trace").iterdir()]:
        path.unlink()
    for flags in ([], ["--json"], ["--follow"]):
        code, out, err = ask(capsys, run.folder, *flags)
        assert (code, out, len(err)) == (1, "", 1)
        assert err[0].startswith(f"timebox: nothing of the logs of {run.folder.name} can be read; ")


# Following


class Followed:
    """A run that goes on, followed step by step."""

    def __init__(self, parent: Path, **more: Any) -> None:
        self.run = MadeUp(parent, **more)
        self.lines: list[dict[str, Any]] = []
        self.follower = following.Follower(self.run.folder, logs.Filter(level="message"), self.lines.append)

    def flush(self, *stages: int) -> None:
        self.run.flush(*(stages or self.run.numbers))


@pytest.mark.parametrize("offset_ns", [0, 10**7])
def test_a_followed_run_is_shown_in_the_same_order_as_afterwards(offset_ns: int, tmp_path: Path) -> None:
    for seed in range(20):
        followed = Followed(tmp_path, seed=seed, offset_ns=offset_ns)
        run = followed.run
        for _ in range(200):
            run.step()
            if run.rng.random() < 0.1:
                followed.flush(run.rng.choice(run.numbers))
                followed.follower.round()
                assert_causal(followed.lines)
        folder = run.end()
        assert offset_ns or followed.lines, "nothing before the end"
        followed.follower.round(is_last=True)
        assert_causal(followed.lines)
        after = merged(folder, level="message")
        assert sorted(map(str, followed.lines)) == sorted(map(str, after))
        if not offset_ns:
            assert [told(line) for line in followed.lines if line["text"] != "go"] == run.done


def test_a_line_is_held_back_until_every_trace_is_flushed_past_it_and_a_taking_until_it_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = Followed(tmp_path)
    run, lines = followed.run, followed.lines
    followed.flush()
    followed.follower.round()
    begun = len(lines)
    run.part(1)
    run.send(1, 2)
    run.take(1, 2)
    followed.flush(2, 3, 4)
    followed.follower.round()
    assert len(lines) == begun, "box-1 may have done something before that"
    monkeypatch.setattr(following, "PATIENCE_S", 0.0)
    followed.follower.round()
    assert len(lines) == begun, "a message is not shown taken before it was shown sent, however long that takes"
    followed.flush()
    followed.follower.round()
    assert [told(line) for line in lines[begun:]] == [
        ("box-1", "F0"), ("box-1", "sent 0 to box-2"), ("box-2", "took 0 from box-1"),
    ]  # fmt: skip


def test_following_begins_before_there_are_files_and_reads_what_is_torn_later(tmp_path: Path) -> None:
    followed = Followed(tmp_path)
    run = followed.run
    for _ in range(40):
        run.step()
    followed.flush()
    parts = {path: path.read_bytes() for path in run.folder.glob("trace/*.trace")}
    for path in parts:
        path.unlink()
    followed.follower.round()
    for size in (0, 30, 200, 1000, 10**9):
        for path, content in parts.items():
            path.write_bytes(content[:size])
        followed.follower.round()
    followed.follower.round(is_last=True)
    assert [told(line) for line in followed.lines if line["text"] != "go"] == run.done
    assert [fault for tail in followed.follower.tails for fault in tail.faults()] == []


@pytest.mark.live
def test_a_run_is_followed_with_its_messages_from_before_its_traces_exist(tmp_path: Path) -> None:
    flags = ["--schedule.kind", "decoupled", "--log.level", "info", "--train.epochs", ENDLESS]
    shown = tmp_path / "shown"
    with launched(tmp_path, *flags) as run:
        until("a folder", lambda: (run.folder / "config.toml").is_file())
        command = [sys.executable, "-m", "launch", "logs", str(run.folder), "--follow", "--level", "message"]
        with (
            shown.open("w") as out,
            subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True) as process,
        ):
            try:
                until("shown while it goes on", lambda: re.search("head  took activation 50 ", shown.read_text()))
                run.process.send_signal(signal.SIGINT)
                assert run.wait(10) == 130
                _, err = process.communicate(timeout=20)
            finally:
                process.kill()
    assert (process.returncode, err) == (0, "")
    lines = merged(run.folder, level="message")
    assert_causal(lines)

    def brief(text: str) -> str:
        """Leave out how long a message took: who follows may see it before its sending."""
        return re.sub(r"( after .*|; its sending .*)$", "", text)

    assert Counter(map(brief, shown.read_text().splitlines())) == Counter(brief(logs.render(line)) for line in lines)
