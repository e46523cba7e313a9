"""Workers and launchers that are killed, stopped and interrupted: what is told, what is kept, and that nothing is left."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launch import logs, runs
from pipeline.config import load
from pipeline.plan import Plan
from pipeline.programs import program
from pipeline.trace import read_journal, read_spans

pytestmark = pytest.mark.chaos

WORKERS = ("box-1", "box-2", "head")
#: More epochs than any test waits for.
ENDLESS = "100000"


def until(what: str, condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Return what `condition` returns once it is true; fail after a deadline."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"after {seconds} s: not {what}"
        time.sleep(0.005)
    return found


def state_of(pid: int) -> str:
    """Return the kernel's letter for a process (R, S, T, Z …), or nothing for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    return state_of(pid) not in ("", "Z", "X")


def sockets_of(pid: int) -> Path | None:
    """Return the private folder of sockets and keys that a worker was given, once it has its own command line."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return None
    return Path(words[words.index("--sockets") + 1]) if "--sockets" in words else None


class Launched:
    """A `timebox run` under way: its process, its folder and its workers."""

    def __init__(self, parent: Path, *flags: str) -> None:
        self.parent = parent
        self.errors = parent / "stderr"
        self.printed = parent / "stdout"
        small = ["--model.width", "16", "--run.plot", "false", "--run.dir", str(parent / "runs")]
        with self.printed.open("wb") as out, self.errors.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "launch", "run", *small, *flags], stdout=out, stderr=err
            )

    @property
    def folder(self) -> Path:
        return (self.parent / "runs" / "latest").resolve()

    @property
    def pids(self) -> dict[str, int]:
        """Return each worker's process, once all are started."""
        document = runs.read_json(self.folder / "launcher.json") or {"stages": []}
        return {stage["name"]: stage["pid"] for stage in document["stages"]}

    def started(self) -> dict[str, int]:
        """Wait until the workers' processes are there, and return them."""
        pids: dict[str, int] = until("started", lambda: self.pids)
        return pids

    def has_begun(self, stage: str = "head", batches: int = 50) -> bool:
        """Whether a stage's journal, as it is on disk, has so many forwards."""
        path = self.folder / "journal" / f"{stage}.txt"
        return path.is_file() and path.read_text().count("F") >= batches

    def running(self) -> dict[str, int]:
        """Wait until every worker has done some batches, and return their processes."""
        pids = self.started()
        for stage in pids:
            until(f"{stage} at work", lambda stage=stage: self.has_begun(stage))
        return pids

    def wait(self, seconds: float) -> int:
        """Return the exit code; fail when it takes longer."""
        return self.process.wait(seconds)

    def end(self) -> None:
        """End what is left after a test that failed; the launcher goes last and removes its sockets."""
        for pid in filter(is_alive, self.pids.values()):
            os.kill(pid, signal.SIGKILL)
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def launched(parent: Path, *flags: str) -> Iterator[Launched]:
    """Start a run; where the test fails, leave no process of it, else leave that to the product."""
    run = Launched(parent, *flags)
    try:
        yield run
    except BaseException:
        run.end()
        raise


def summary(run: Launched) -> dict[str, Any]:
    document = runs.read_json(run.folder / "summary.json")
    assert document is not None
    return document


def no_worker_left(pids: dict[str, int]) -> bool:
    return not any(is_alive(pid) for pid in pids.values())


# Stopped


@pytest.mark.parametrize("window", [1, 3])
def test_with_the_head_stopped_the_boxes_fill_their_windows_and_go_no_further(window: int, tmp_path: Path) -> None:
    flags = ["--schedule.kind", "decoupled", "--schedule.window", str(window), "--train.evaluate_every", "0"]
    with launched(tmp_path, *flags, "--train.epochs", "25", "--log.level", "info") as run:
        head = run.running()["head"]
        os.kill(head, signal.SIGSTOP)
        until("stopped", lambda: state_of(head) == "T")
        stopped_ns = time.monotonic_ns()

        # The workers write out what they did five times a second. At rest: nothing more for several such rounds.
        known, since = 0, time.monotonic()

        def are_full_and_at_rest() -> bool:
            nonlocal known, since
            journals = [read_journal(run.folder, stage) for stage in ("box-1", "box-2")]
            if (length := sum(map(len, journals))) != known:
                known, since = length, time.monotonic()
            in_flight = [sum((each.kind == "F") - (each.kind == "T") for each in journal) for journal in journals]
            return time.monotonic() - since > 1.0 and in_flight == [window, window]

        until("the boxes' windows full and the boxes at rest", are_full_and_at_rest)
        going_ns = time.monotonic_ns()
        os.kill(head, signal.SIGCONT)
        assert run.wait(30) == 0
    assert summary(run)["status"] == "done"

    spans = {stage: list(read_spans(run.folder, stage)) for stage in WORKERS}
    within = {
        stage: [span for span in spans[stage] if stopped_ns < span.start_ns < going_ns] for stage in ("box-1", "box-2")
    }
    assert not [span for span in spans["head"] if stopped_ns < span.start_ns < going_ns], "the head was not stopped"
    last = max(span.end_ns for each in within.values() for span in each) if any(within.values()) else stopped_ns
    assert going_ns - last > 300_000_000, "the boxes never came to rest"
    for stage in ("box-1", "box-2"):
        # At each moment, from the trace: begun forwards never exceed what is settled by more than the window.
        begun = sorted(span.start_ns for span in spans[stage] if span.action.kind == "F" and span.part == "forward")
        settled = sorted(span.end_ns for span in spans[stage] if span.action.kind == "T")
        for number, start_ns in enumerate(begun, 1):
            assert number - sum(end <= start_ns for end in settled[: number + 1]) <= window
        assert len(begun) == len(settled) == 25 * 50
        at_rest = sum(start < going_ns for start in begun) - sum(end < going_ns for end in settled)
        assert at_rest == window, f"{stage} did not fill its window"
    heads = sum(
        span.action.kind == "F" and span.part == "update" and span.start_ns < going_ns for span in spans["head"]
    )
    ahead = sum(s.action.kind == "F" and s.part == "forward" and s.start_ns < going_ns for s in spans["box-1"])
    # The head may have been stopped in an update whose gradient was not sent, and with the one before still in its socket: the
    # stop takes ZeroMQ's thread as well.
    assert heads + 2 * window - 2 <= ahead <= heads + 2 * window + 1


def test_with_the_head_stopped_a_locked_run_waits_for_the_batch_in_flight(tmp_path: Path) -> None:
    flags = ["--schedule.kind", "locked", "--train.evaluate_every", "0", "--train.epochs", "20"]
    with launched(tmp_path, *flags, "--log.level", "info") as run:
        head = run.running()["head"]
        os.kill(head, signal.SIGSTOP)
        until("stopped", lambda: state_of(head) == "T")
        looked_ns = time.monotonic_ns()
        until("two rounds later", lambda: time.monotonic_ns() > looked_ns + 500_000_000)
        going_ns = time.monotonic_ns()
        os.kill(head, signal.SIGCONT)
        assert run.wait(30) == 0
    before = {
        stage: sum(
            span.action.kind == "F" and span.part == "forward" and span.start_ns < going_ns
            for span in read_spans(run.folder, stage)
        )
        for stage in WORKERS
    }
    assert before["head"] <= before["box-2"] <= before["box-1"] <= before["head"] + 1


# Killed


@pytest.mark.parametrize(
    ("victim", "moment"), [("box-1", "running"), ("box-2", "running"), ("head", "running"), ("head", "started")]
)
def test_a_killed_worker_ends_the_run_and_is_named(victim: str, moment: str, tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS) as run:
        pids = run.running() if moment == "running" else run.started()
        if moment == "running":  # a worker tells the launcher where it is right after it has written that
            time.sleep(0.5)
        os.kill(pids[victim], signal.SIGKILL)
        killed = time.monotonic()
        assert run.wait(10) == 1
        assert time.monotonic() - killed < 5
        assert no_worker_left(pids)
    first, *rest = run.errors.read_text().splitlines()
    told = re.fullmatch(
        rf"timebox: {victim} \(process {pids[victim]}\), last heard of at batch (\d+): killed by SIGKILL", first
    )
    assert told, first
    error = json.loads((run.folder / "logs" / "error.json").read_text())
    assert (error["stage"], error["pid"], error["batch"]) == (victim, pids[victim], int(told[1]))
    assert "SIGKILL" in error["error"]
    log = run.folder / "logs" / f"{victim}.log"
    if moment == "running":
        assert int(told[1]) > 0
        last = log.read_text().splitlines()[-3:]
        shown = [line.removeprefix("  | ") for line in rest if line.startswith("  | ")]
        assert shown[-3:] == [logs.render_text(line) for line in last]
        assert error["log"][-3:] == last
    assert f"{run.folder.name}/logs" in rest[-1]
    document = summary(run)
    assert document["status"] == "failed"
    assert document["digest"] is None
    assert not (run.folder / "checkpoint" / "final").exists()
    assert runs.describe(run.folder)["status"] == "failed"


def test_a_killed_worker_leaves_json_one_document(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, "--json", "--transport.kind", "tcp") as run:
        os.kill(run.running()["box-2"], signal.SIGKILL)
        assert run.wait(10) == 1
    document = json.loads(run.printed.read_text())
    assert document["status"] == "failed"
    assert document["first_failure"]["stage"] == "box-2"
    assert run.errors.read_text().startswith("timebox: box-2 ")


def test_a_killed_reference_is_named(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, "--reference") as run:
        pids = run.started()
        until("at work", lambda: (run.folder / "checkpoint" / "initial" / "head.npz").is_file())
        os.kill(pids["reference"], signal.SIGKILL)
        assert run.wait(5) == 1
    assert run.errors.read_text().startswith(f"timebox: reference (process {pids['reference']})")
    assert summary(run)["status"] == "failed"


# Interrupted


def assert_kept(run: Launched) -> None:
    """Look at what an interrupted run has left: all of it can be read, and it is what the program had come to."""
    plan = Plan.of(load(run.folder / "config.toml"))
    for number, stage in enumerate(WORKERS, 1):
        with np.load(run.folder / "checkpoint" / "interrupted" / f"{stage}.npz") as stored:
            assert all(np.isfinite(stored[name]).all() for name in stored.files)
        journal = read_journal(run.folder, stage)
        assert len(journal) >= 50
        assert journal == list(itertools.islice(program(plan, number), len(journal)))
        taken = [action for action, _ in itertools.groupby(span.action for span in read_spans(run.folder, stage))]
        assert taken[: len(journal)] == journal
    epochs = [json.loads(line) for line in (run.folder / "metrics" / "metrics.jsonl").read_text().splitlines()]
    forwards = sum(action.kind == "F" for action in read_journal(run.folder, "head"))
    assert len(epochs) == -(-forwards // plan.epoch_batches)
    assert all(np.isfinite(epoch["cost"]) for epoch in epochs)
    assert not (run.folder / "metrics" / "predictions.csv").exists()
    assert not (run.folder / "checkpoint" / "final").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_run_keeps_what_is_there(number: signal.Signals, tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS) as run:
        pids = run.running()
        run.process.send_signal(number)
        assert run.wait(5) == 130
        assert no_worker_left(pids)
    document = summary(run)
    assert document["status"] == "interrupted"
    assert document["digest"] is None
    assert runs.describe(run.folder)["status"] == "interrupted"
    assert_kept(run)
    assert run.errors.read_text() == ""
    text = run.printed.read_text()
    assert "interrupted in" in text
    assert re.search(rf"stopped at batch \d+ of {int(ENDLESS) * 50}", text)


def test_an_interrupted_reference_keeps_what_is_there(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, "--reference", "--json") as run:
        pids = run.started()
        until("at work", lambda: (run.folder / "checkpoint" / "initial" / "head.npz").is_file())
        run.process.send_signal(signal.SIGINT)
        assert run.wait(5) == 130
        assert no_worker_left(pids)
    assert json.loads(run.printed.read_text())["status"] == "interrupted"
    assert {path.name for path in (run.folder / "checkpoint" / "interrupted").iterdir()} == {
        f"{stage}.npz" for stage in WORKERS
    }
    assert (run.folder / "metrics" / "epochs.csv").is_file()


def test_the_second_interrupt_kills_at_once(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS) as run:
        pids = run.running()
        os.kill(pids["head"], signal.SIGSTOP)  # so that it cannot end when it is told to
        until("stopped", lambda: state_of(pids["head"]) == "T")
        run.process.send_signal(signal.SIGINT)
        until("the boxes gone", lambda: not is_alive(pids["box-1"]) and not is_alive(pids["box-2"]), 5)
        assert run.process.poll() is None, "the launcher did not wait for the worker that hangs"
        run.process.send_signal(signal.SIGINT)
        assert run.wait(2) == 130
        assert no_worker_left(pids)
    assert summary(run)["status"] == "interrupted"


def test_an_interrupt_during_the_start_ends_the_run_soon(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS) as run:
        pids = run.started()  # they are still importing: nobody has said hello
        run.process.send_signal(signal.SIGINT)
        assert run.wait(4) == 130
        assert no_worker_left(pids)
    assert summary(run)["status"] == "interrupted"


# The launcher itself is killed


@pytest.mark.parametrize(
    "flags",
    [["--schedule.kind", "decoupled"], ["--transport.kind", "tcp"]],
    ids=["ipc", "tcp"],
)
def test_a_killed_launcher_leaves_no_worker_and_no_socket(flags: list[str], tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, *flags) as run:
        pids = run.running()
        folder = sockets_of(pids["head"])
        assert folder is not None
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.name for path in folder.iterdir()} == {"keys", *(() if "tcp" in flags else (*WORKERS, "launcher"))}
        run.process.kill()
        assert run.wait(2) == -signal.SIGKILL
        until("every worker gone", lambda: no_worker_left(pids), 2)
        until("the sockets and keys gone", lambda: not folder.exists(), 1)
    assert runs.describe(run.folder)["status"] == "died"


@pytest.mark.parametrize("moment", ["at once", "when all have weights"])
def test_a_launcher_killed_during_the_start_leaves_no_worker_and_no_socket(moment: str, tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS) as run:
        pids = run.started()
        folder = until("the sockets known", lambda: sockets_of(pids["head"]))
        if moment != "at once":
            paths = [run.folder / "checkpoint" / "initial" / f"{stage}.npz" for stage in WORKERS]
            until(moment, lambda: all(path.is_file() for path in paths))
        run.process.kill()
        run.wait(2)
        until("every worker gone", lambda: no_worker_left(pids), 2)
        is_left = folder.exists()
        if is_left:  # or the check after this test, and every later one, would tell it again
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        assert not is_left, "a socket folder is left"


def test_a_killed_launcher_leaves_no_reference(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, "--reference") as run:
        pids = run.started()
        until("at work", lambda: (run.folder / "checkpoint" / "initial" / "head.npz").is_file())
        run.process.kill()
        run.wait(2)
        until("the reference gone", lambda: no_worker_left(pids), 2)
