"""What an agent on another host goes by, and what the launcher takes from it: the pure parts, hostile words included."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch import agent_words as words
from launch import joining, mirror
from launch.arrived import Arrivals
from launch.mirror import Part, Receiver, Sender
from pipeline import addresses, control, keys
from pipeline.errors import ConfigError, WireError
from pipeline.keys import Pair

SECRETS = keys.make(Pair(b"p" * 40, b"s" * 40))
MEETING = joining.Meeting("tcp://10.0.0.1:40123", 2, SECRETS)


def test_the_join_line_says_all_and_nothing_of_it_is_shown() -> None:
    line = joining.line(MEETING)
    assert joining.parse(f"{line}\n") == MEETING
    assert keys.make().secret != SECRETS.secret
    for damaged in (line[:-8], line.replace("#", "#A"), "tcp://10.0.0.1:1", "#", "", line.partition("#")[2]):
        with pytest.raises(ConfigError) as told:
            joining.parse(damaged)
        assert line[40:60] not in str(told.value)


@given(st.text(max_size=300))
def test_any_other_line_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        joining.parse(f"tcp://10.0.0.1:1#{text}")


def test_the_line_comes_by_file_variable_or_standard_input_and_never_as_an_argument(tmp_path: Path) -> None:
    line = joining.line(MEETING)
    file = keys.write_private(tmp_path / "join", line)
    assert joining.read(str(file), {}) == MEETING
    assert joining.read(None, {joining.JOIN: str(file)}) == MEETING
    assert joining.read(None, {joining.JOIN: line}) == MEETING
    assert joining.read("-", {}, line) == MEETING
    with pytest.raises(ConfigError, match="everybody here can read an argument"):
        joining.read(line, {})
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="others can read"):
        joining.read(str(file), {})
    with pytest.raises(ConfigError, match="say which run"):
        joining.read(None, {})


@pytest.mark.parametrize(
    ("environment", "stage"),
    [
        ({"TIMEBOX_STAGE": "box-2"}, "box-2"),
        ({"TIMEBOX_STAGE": "2"}, "head"),
        ({"TIMEBOX_STAGE": "head", "SLURM_PROCID": "0"}, "head"),
        ({"SLURM_PROCID": "0", "OMPI_COMM_WORLD_RANK": "1"}, "box-1"),
        ({"OMPI_COMM_WORLD_RANK": "1"}, "box-2"),
        ({"PMI_RANK": "2"}, "head"),
        ({"JOB_COMPLETION_INDEX": "1"}, "box-2"),
    ],
)
def test_the_stage_is_in_the_environment(environment: dict[str, str], stage: str) -> None:
    assert joining.stage(None, environment, 2) == stage
    assert joining.stage("box-1", environment, 2) == "box-1", "a flag comes first"


@pytest.mark.parametrize("word", ["3", "-1", "box-3", "box-0", "launcher", "²", "1.0", "box-1/.."])
def test_a_stage_that_the_run_has_not_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="0 to 2, or box-1 to head"):
        joining.stage(None, {"TIMEBOX_STAGE": word}, 2)
    with pytest.raises(ConfigError, match="say which stage"):
        joining.stage(None, {}, 2)


GOOD = [
    "logs/box-1.log", "logs/box-1.out", "logs/box-1.stacks", "journal/box-1.txt", "journal/epoch-0/box-1.sums",
    "trace/box-1.trace", "trace/epoch-12/box-1.trace", "probe/box-1.looks", "checkpoint/initial/box-1.npz",
    "checkpoint/batch-000000400/box-1.npz",
]  # fmt: skip
HOSTILE = [
    "config.toml", "launcher.json", "../box-1.log", "logs/../box-1.log", "/etc/passwd", "logs/box-2.log", "logs/box-1.log/x",
    "logs/launcher.log", "logs/error.json", "checkpoint/batch-000000400/manifest.json", "checkpoint/batch-1/box-1.npz",
    "metrics/metrics.jsonl", "journal/epoch-../box-1.txt", "logs/box-1.log\n", "logs//box-1.log", "LOGS/box-1.log", "",
    "trace/epoch-1234567/box-1.trace", "logs\\box-1.log", "logs/box-11.log", "checkpoint/batch-00000040٣/box-1.npz",
]  # fmt: skip


def test_a_stage_has_its_own_files_and_the_head_the_tables(tmp_path: Path) -> None:
    assert [path for path in GOOD if not mirror.is_allowed(path, "box-1")] == []
    assert [path for path in GOOD if mirror.is_allowed(path, "head")] == []
    for path in ("metrics/epochs.csv", "metrics/predictions.csv", "metrics/epoch-1/metrics.jsonl", "trace/head.trace"):
        assert mirror.is_allowed(path, "head")
    receiver = Receiver(tmp_path, "box-1", {})
    for path in HOSTILE:
        with pytest.raises(WireError, match="has no file"):
            receiver.take(Part(path, 1, 0, 1, b"x"))
    assert list(tmp_path.rglob("*")) == []


def test_chunks_out_of_order_are_refused_and_doubles_written_once(tmp_path: Path) -> None:
    receiver, path = Receiver(tmp_path, "box-1", {}), "journal/box-1.txt"
    assert receiver.take(Part(path, 1, 3, 6, b"def")) == (0, True)
    assert receiver.take(Part(path, 1, 0, 6, b"abc")) == (3, False)
    assert not (tmp_path / path).exists(), "not whole yet"
    assert receiver.take(Part(path, 1, 0, 6, b"abc")) == (3, True)
    assert receiver.take(Part(path, 1, 3, 6, b"def")) == (6, False)
    assert (tmp_path / path).read_bytes() == b"abcdef"
    assert receiver.take(Part(path, 1, 6, 6, b"g")) == (7, False)
    # A new file under the old name: the old one stays until the new one is whole.
    assert receiver.take(Part(path, 2, 0, 4, b"AB")) == (2, False)
    assert receiver.take(Part(path, 1, 7, 6, b"h")) is None
    assert (tmp_path / path).read_bytes() == b"abcdefg"
    assert receiver.take(Part(path, 2, 2, 4, b"CD")) == (4, False)
    assert (tmp_path / path).read_bytes() == b"ABCD"
    receiver.take(Part("trace/box-1.trace", 1, 0, 4, b"AB"))
    receiver.close()
    assert sorted(each.name for each in tmp_path.rglob("*") if each.is_file()) == ["box-1.txt"]
    for wrong in (Part(path, 3, -1, 0, b""), Part(path, 3, 0, -1, b""), Part(path, -1, 0, 0, b"")):
        with pytest.raises(WireError):
            receiver.take(wrong)


def test_logs_are_appended_to_what_an_earlier_attempt_left(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "box-1.log"
    log.parent.mkdir()
    log.write_bytes(b"before\n")
    receiver = Receiver(tmp_path, "box-1", {})
    receiver.take(Part("logs/box-1.log", 1, 0, 4, b"now\n"))
    assert log.read_bytes() == b"before\nnow\n"


@given(st.data())
def test_whatever_is_lost_on_the_way_both_sides_end_alike(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    there, here = tmp_path_factory.mktemp("there"), tmp_path_factory.mktemp("here")
    sender, receiver = Sender(there, "box-1"), Receiver(here, "box-1", {})
    paths = ["journal/box-1.txt", "trace/box-1.trace", "checkpoint/initial/box-1.npz"]
    for path in paths:
        (there / path).parent.mkdir(parents=True, exist_ok=True)
    for _ in range(data.draw(st.integers(1, 12))):
        path = there / data.draw(st.sampled_from(paths))
        how = data.draw(st.sampled_from(["append", "replace", "cut", "remove"]))
        content = data.draw(st.binary(max_size=40))
        if how == "append":
            with path.open("ab") as stream:
                stream.write(content)
        elif how == "replace" or not path.is_file():
            path.with_name(".part").write_bytes(content)
            path.with_name(".part").replace(path)
        elif how == "cut":
            kept = path.read_bytes()[: data.draw(st.integers(0, 9))]
            path.with_name(".part").write_bytes(kept)
            path.with_name(".part").replace(path)
        else:
            path.unlink()
        sender.look()
        _travel(sender, receiver, lambda: data.draw(st.booleans()))
    sender.look()
    for _ in range(4):
        sender._moved_at = -10.0  # so that what was lost is sent again at once
        _travel(sender, receiver, lambda: True)
    assert sender.is_settled
    for path in paths:
        if (there / path).is_file():
            assert (here / path).read_bytes() == (there / path).read_bytes()
    sender.close()


def _travel(sender: Sender, receiver: Receiver, arrives: object) -> None:
    assert callable(arrives)
    for part in list(sender.parts()):
        if arrives() and (so_far := receiver.take(part)) is not None and arrives():
            sender.got(part.path, part.generation, so_far[0], again=so_far[1])


def test_what_the_launcher_gave_is_not_sent_back(tmp_path: Path) -> None:
    path = tmp_path / "journal" / "box-1.txt"
    path.parent.mkdir()
    path.write_bytes(b"F0 T0\n")
    sender = Sender(tmp_path, "box-1")
    sender.known("journal/box-1.txt")
    sender.look()
    assert list(sender.parts()) == []
    with path.open("ab") as stream:
        stream.write(b"F T\n")
    sender.look()
    assert list(sender.parts()) == [Part("journal/box-1.txt", 0, 6, 6, b"F T\n")]
    sender.close()


def test_words_of_agents_are_checked() -> None:
    good = {
        "instance": "i",
        "start": 1,
        "path": "logs/box-1.log",
        "generation": 1,
        "offset": 0,
        "whole": 1,
        "data": b"x",
    }
    assert words.from_agent(control.encode("part", good)) == ("part", good)
    for change in (
        {"data": b"x" * (words.CHUNK + 1)},
        {"offset": "0"},
        {"offset": True},
        {"path": "x" * 2000},
        {"instance": 1},
    ):
        with pytest.raises(WireError):
            words.from_agent(control.encode("part", good | change))
    for word in ("go", "quit", "hello", ""):
        with pytest.raises(WireError):
            words.from_agent(control.encode(word, good))


@given(st.binary(max_size=200))
def test_noise_is_no_word(noise: bytes) -> None:
    for read in (words.from_agent, words.from_launcher):
        with pytest.raises(WireError):
            read(noise)


def test_an_agent_seals_as_no_worker_does() -> None:
    secret = SECRETS.secret
    agent = control.Line(secret, words.agent_of("box-1"), is_launcher=False)
    assert control.Line(secret, words.agent_of("box-1"), is_launcher=True).open(agent.seal(b"x")) == b"x"
    assert control.Line(secret, "box-1", is_launcher=True).open(agent.seal(b"x")) is None
    assert agent.identity != control.Line(secret, "box-1", is_launcher=False).identity
    assert words.stage_of(words.agent_of("box-1")) == "box-1"
    assert words.stage_of("box-1") is None


def test_a_host_knows_by_which_address_it_reaches_another() -> None:
    assert addresses.towards("tcp://127.0.0.1:5") == "127.0.0.1"
    with pytest.raises(ConfigError):
        addresses.towards("tcp://no.such.host.invalid:5")


def test_a_part_of_a_checkpoint_has_come_when_all_is_there_and_no_byte_is_read_twice(tmp_path: Path) -> None:
    arrivals, journal, weights = Arrivals(), tmp_path / "box-1.txt", tmp_path / "box-1.npz"

    def part(content: bytes) -> dict[str, Any]:
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    old, new = b"a" * 5000, b"b" * 10
    journal.write_bytes(old)
    parts = {journal: part(old), weights: part(b"w")}
    assert not arrivals.have_come(parts)
    weights.write_bytes(b"x")
    assert not arrivals.have_come(parts), "as long, but another"
    weights.write_bytes(b"w")
    assert arrivals.have_come(parts)
    with journal.open("r+b") as stream:  # what has been read is not looked at again, however long it has become
        stream.write(b"?")
        stream.seek(0, 2)
        stream.write(new + b"more")
    parts = {journal: part(old + new)}
    assert arrivals.have_come(parts)
    assert not arrivals.have_come({journal: part(old)}), "an earlier checkpoint: read anew"
    journal.rename(tmp_path / "aside")
    journal.write_bytes(old + new)  # another file in its place
    assert arrivals.have_come(parts)
    for wrong in ({}, {"bytes": "1"}, {"bytes": 1}):
        assert not arrivals.have_come({journal: wrong})
