"""Workers that hang, are stopped or are left alone: who is named, where it is stuck, and that nothing outlives the launcher."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from test_chaos import ENDLESS, Launched, is_alive, launched, no_worker_left, sockets_of, state_of, summary, until

from launch import runs

pytestmark = pytest.mark.chaos

#: An oracle that goes on until batch 100, and then does one thing for ever.
ORACLE = """
import re
import time


class Oracle:
    def __init__(self, shape, rng):
        self.weights = {}

    def predict(self, h, y, batch):
        if batch == 100:
            STUCK  # this is the line
        return 0 * h

    def gradient(self, h, y, error):
        return {}
"""
LINE = ORACLE[: ORACLE.index("STUCK")].count("\n") + 1
#: In Python, which lets other threads run now and then; in C that keeps Python's lock; asleep in the kernel.
STUCK = {
    "python": "[0 for _ in iter(int, 1)]",
    "C": "re.fullmatch('(a|a)*b', 'a' * 60)",
    "sleep": "time.sleep(1e6)",
}


def stuck(tmp_path: Path, how: str, *flags: str) -> list[str]:
    """Return the flags of a run whose first box to come to batch 100 is stuck there."""
    path = tmp_path / "stuck.py"
    path.write_text(ORACLE.replace("STUCK", STUCK[how]))
    return ["--oracle.kind", "own", "--oracle.file", str(path), "--train.epochs", ENDLESS, *flags]


def timebox(run: Launched, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the runs of this test."""
    command = [sys.executable, "-m", "launch", *words, "--run.dir", str(run.parent / "runs")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def first_error(run: Launched) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((run.folder / "logs" / "error.json").read_text())
    return document


# A worker that hangs


@pytest.mark.parametrize("how", STUCK)
def test_a_worker_stuck_in_an_action_is_named_and_its_stack_shows_the_line(how: str, tmp_path: Path) -> None:
    with launched(tmp_path, *stuck(tmp_path, how, "--run.patience", "2")) as run:
        pids = run.started()
        until("at batch 99", lambda: run.has_begun("box-1", 99) or run.has_begun("box-2", 99))
        began = time.monotonic()
        assert run.wait(15) == 1
        assert time.monotonic() - began < 2 + 1 + 3 + 2, (
            "patience, the stacks, the signals, and some time to start and end"
        )
        assert no_worker_left(pids)
    error = first_error(run)
    assert error["stage"] in ("box-1", "box-2")
    assert re.search(r"has said nothing for 2\.\d s \(run.patience 2\): it hangs", error["error"])
    place = f'File "{tmp_path / "stuck.py"}", line {LINE} in '
    assert place in error["stacks"][error["stage"]]
    assert set(error["stacks"]) == {"box-1", "box-2", "head"}
    assert "pipeline/worker.py" in error["stacks"]["head"]
    assert [line.split()[0] for line in error["waits"]] == ["box-1", "box-2", "head"]
    assert re.search(r"head waits for activation \d+ from box-2", error["waits"][2])
    told = run.errors.read_text()
    assert f"\ntimebox: {error['stage']} (process {pids[error['stage']]}), last heard of at batch " in told
    assert place in told
    assert "newest call first" in told
    assert all(line in told for line in error["waits"])
    assert "error.json" in told


def test_a_stopped_worker_is_named_in_the_stated_time(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, "--run.patience", "2") as run:
        pids = run.running()
        os.kill(pids["box-2"], signal.SIGSTOP)
        began = time.monotonic()
        assert run.wait(15) == 1
        assert time.monotonic() - began < 2 + 1 + 3 + 2
        assert no_worker_left(pids)
    error = first_error(run)
    assert error["stage"] == "box-2"
    assert f"its process {pids['box-2']} is stopped (SIGSTOP" in error["error"]
    assert error["stacks"]["box-2"].startswith("none: ")
    assert "pipeline/worker.py" in error["stacks"]["box-1"]


def test_a_worker_that_crashes_leaves_its_stack(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS) as run:
        pids = run.running()
        os.kill(pids["head"], signal.SIGSEGV)
        assert run.wait(10) == 1
    error = first_error(run)
    assert (error["stage"], error["error"]) == ("head", "killed by SIGSEGV")
    assert error["stacks"]["head"].startswith("Fatal Python error: Segmentation fault")
    told = run.errors.read_text()  # the newest calls, numpy's or zmq's among them; how it began may be too far down
    assert re.search(r"  head is at \(newest call first\):(\n    +File .*)*?\n    +File .*pipeline/\w+\.py", told), told


def test_a_launcher_that_was_stopped_for_longer_than_patience_blames_nobody(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, "--run.patience", "1") as run:
        run.running()
        run.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        until("a while later", lambda: time.monotonic() - began > 3)
        run.process.send_signal(signal.SIGCONT)
        until("a while later", lambda: time.monotonic() - began > 6)
        assert run.process.poll() is None
        run.process.send_signal(signal.SIGINT)
        assert run.wait(10) == 130


@pytest.mark.parametrize(
    "flags",
    [
        ["--emulate.delay_ms", "1500"],
        ["--emulate.compute_ms", "1800"],
        ["--emulate.straggle", "0.3", "--emulate.factor", "9"],
    ],
    ids=["delay", "compute", "straggle"],
)
def test_emulated_slowness_is_no_hanging(flags: list[str], tmp_path: Path) -> None:
    slow = ["--data.train", "4", "--train.epochs", "1", "--emulate.compute_ms", "100", "--run.patience", "1"]
    with launched(tmp_path, *slow, *flags, "--schedule.kind", "decoupled") as run:
        assert run.wait(60) == 0, run.errors.read_text()
    assert summary(run)["status"] == "done"


# A message that is lost

#: What box 1 sends after its forward of batch 100 does not leave it, and nothing comes after.
DROPS = """
import sys

from pipeline.transport import Links


class Oracle:
    def __init__(self, shape, rng):
        self.weights = {}

    def predict(self, h, y, batch):
        if batch == 100 and "box-1" in sys.argv:
            sends, drops = Links.send, [True]
            Links.send = lambda *words: drops.pop() if drops else sends(*words)
        return 0 * h

    def gradient(self, h, y, error):
        return {}
"""


def test_a_lost_message_is_noticed_where_nothing_comes_after_it(tmp_path: Path) -> None:
    (tmp_path / "drops.py").write_text(DROPS)
    flags = ["--oracle.kind", "own", "--oracle.file", str(tmp_path / "drops.py"), "--model.tied", "false"]
    flags += ["--schedule.kind", "decoupled", "--schedule.window", "1", "--train.evaluate_every", "0"]
    with launched(tmp_path, *flags, "--train.epochs", ENDLESS) as run:
        pids = run.started()
        until("at batch 99", lambda: run.has_begun("box-2", 99))
        began = time.monotonic()
        assert run.wait(15) == 1
        assert time.monotonic() - began < 10, "long before patience ends"
        assert no_worker_left(pids)
    error = first_error(run)
    assert (error["stage"], error["batch"]) == ("box-2", 100)
    assert re.fullmatch(
        r"a message from box-1 \(the \d+\w\w on this edge; box-2 waits for activation 100 from box-1\) "
        "was sent and never came: lost",
        error["error"],
    )
    assert "pipeline/worker.py" in error["stacks"]["box-1"]


# timebox stacks


def test_stacks_of_a_run_that_goes_on_and_of_one_that_has_ended(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS) as run:
        pids = run.running()
        os.kill(pids["box-1"], signal.SIGSTOP)
        until("stopped", lambda: state_of(pids["box-1"]) == "T")
        shown = timebox(run, "stacks", "latest")
        assert shown.returncode == 0, shown.stderr
        assert f"box-1 (process {pids['box-1']}, stopped)" in shown.stdout
        assert "none: its process" in shown.stdout
        assert "newest call first" in shown.stdout
        os.kill(pids["box-1"], signal.SIGCONT)
        found = timebox(run, "stacks", "latest", "--json")
        document = json.loads(found.stdout)
        assert document["status"] == "running"
        assert {stage["name"]: stage["pid"] for stage in document["stages"]} == pids
        assert all("pipeline/worker.py" in stage["stacks"] for stage in document["stages"])
        assert all(is_alive(pid) for pid in pids.values()), "asking is harmless"
        run.process.send_signal(signal.SIGINT)
        assert run.wait(10) == 130
    shown = timebox(run, "stacks", "latest")
    assert shown.returncode == 0
    assert "interrupted" in shown.stdout
    assert "pipeline/worker.py" in shown.stdout
    assert timebox(run, "stacks", "nobody").returncode == 2


# timebox stop


def test_stop_ends_a_run_as_ctrl_c_does_and_says_what_there_is_when_it_has_ended(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS) as run:
        pids = run.running()
        stopped = timebox(run, "stop", "latest", "--json")
        assert stopped.returncode == 0, stopped.stderr
        assert run.wait(2) == 130
        assert no_worker_left(pids)
    document = json.loads(stopped.stdout)
    assert (document["status"], document["was_running"], document["ended_workers"]) == ("interrupted", True, [])
    assert (run.folder / "checkpoint" / "interrupted" / "head.npz").is_file()
    again = timebox(run, "stop", "latest")
    assert (again.returncode, again.stderr) == (0, "")
    assert "has ended already: interrupted" in again.stdout
    assert timebox(run, "stop", "nobody").returncode == 2


def test_stop_waits_for_a_worker_that_hangs_and_now_does_not(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS) as run:
        pids = run.running()
        os.kill(pids["head"], signal.SIGSTOP)
        until("stopped", lambda: state_of(pids["head"]) == "T")
        began = time.monotonic()
        stopped = timebox(run, "stop", "latest", "--now")
        assert time.monotonic() - began < 5
        assert stopped.returncode == 0, stopped.stderr
        assert run.wait(2) == 130
        assert no_worker_left(pids)


def test_another_process_with_the_launchers_number_is_left_alone(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS) as run:
        pids = run.running()
        run.process.kill()
        run.wait(2)
        until("every worker gone", lambda: no_worker_left(pids), 2)
        until("died", lambda: runs.describe(run.folder)["status"] == "died", 3)
    state = runs.read_json(run.folder / "launcher.json") or {}
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (run.folder / "launcher.json").write_text(json.dumps(state | {"pid": other.pid}))
        assert runs.describe(run.folder)["status"] == "died"
        stopped = timebox(run, "stop", "latest")
        assert stopped.returncode == 0
        assert "has ended already: died" in stopped.stdout
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


# The launcher is killed while its workers cannot see that


@pytest.mark.parametrize("how", STUCK)
def test_a_killed_launcher_leaves_no_worker_that_is_stuck_in_an_action(how: str, tmp_path: Path) -> None:
    with launched(tmp_path, *stuck(tmp_path, how)) as run:
        pids = run.started()
        until("at batch 99", lambda: run.has_begun("box-1", 99) or run.has_begun("box-2", 99))
        folder = sockets_of(pids["head"])
        time.sleep(0.5)  # until it is in the midst of it
        assert folder is not None
        run.process.kill()
        assert run.wait(2) == -signal.SIGKILL
        until("every worker gone", lambda: no_worker_left(pids), 2)
        until("the sockets gone", lambda: not folder.exists(), 1)


@pytest.mark.parametrize("stopped", [["box-2"], ["box-1", "box-2", "head"]], ids=["one", "all"])
def test_a_killed_launcher_leaves_no_worker_that_is_stopped(stopped: list[str], tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS) as run:
        pids = run.running()
        folder = sockets_of(pids["head"])
        assert folder is not None
        for name in stopped:
            os.kill(pids[name], signal.SIGSTOP)
            until("stopped", lambda name=name: state_of(pids[name]) == "T")
        run.process.kill()
        assert run.wait(2) == -signal.SIGKILL
        until("every worker gone", lambda: no_worker_left(pids), 2)
        until("the sockets gone", lambda: not folder.exists(), 1)


def test_an_orphan_saves_what_is_there(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS) as run:
        pids = run.running()
        run.process.kill()
        run.wait(2)
        until("every worker gone", lambda: no_worker_left(pids), 2)
    names = {path.name for path in (run.folder / "checkpoint" / "interrupted").iterdir()}
    assert names == {"box-1.npz", "box-2.npz", "head.npz"}
