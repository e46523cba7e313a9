"""A user's own placer: what is wrong is one line, before anything starts or by the stage; the bits are those of one machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from beyond import digest_here
from test_chaos import launched, summary, until

from launch import joining
from launch.cli import main
from launch.own_files import changed
from launch.placer_own import OwnRecruiter
from launch.preflight import check
from launch.runs import read_json
from pipeline import keys
from pipeline.config import dump, load, resolve
from pipeline.errors import ConfigError
from pipeline.schema import Config

pytestmark = pytest.mark.patient

EXAMPLE = Path(__file__).parents[1] / "launch" / "examples" / "own_placer.py"
#: Starts nothing that would join, and says so.
IDLE = """class Placer:
    def start(self, stage, words, line):
        return None
"""
#: What was started, as a class that a user writes who has no subprocess of it.
JOB = """class Job:
    def poll(self):
        return CODE
    def terminate(self):
        print("ended")
class Placer:
    def start(self, stage, words, line):
        return Job()
"""


def placed(code: str, **flags: Any) -> Config:
    """Return a configuration with a placer of one's own."""
    return resolve(flags={"placer.kind": "own", "placer.code": code} | flags)


def recruiter(code: str) -> OwnRecruiter:
    """Return what starts agents by a user's placer, for a run that is nowhere."""
    made = OwnRecruiter(placed(code))
    made.open(joining.Meeting("tcp://127.0.0.1:1", 2, keys.make(None)), Path())
    return made


# Wrong requests

PLACERS = {
    "no class": ("x = 1", r"placer.code: it has no class Placer; `launch/examples/own_placer.py` shows one"),
    "no Python": ("class Placer(", r"placer.code, line 1: "),
    "no start": ("class Placer: pass", r"placer.code: its class Placer has no start; `launch/examples/own_placer.py`"),
    "two arguments": (
        IDLE.replace(", line", ""),
        r"Placer.start\(self, stage, words, line\) is called with three arguments: too many",
    ),
    "its file raises": ("1 / 0\n" + IDLE, r"placer.code, line 1: ZeroDivisionError"),
    "its making raises": (
        IDLE + "    def __init__(self):\n        self.hosts = open('no such hosts')\n",
        r"placer.code, line 5: Placer.__init__: FileNotFoundError",
    ),
}


@pytest.mark.parametrize("name", PLACERS)
def test_a_placer_that_is_none_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    code, text = PLACERS[name]
    with pytest.raises(ConfigError, match=text) as caught:
        check(placed(code, **{"run.dir": str(tmp_path / "runs")}), reference=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_own_and_a_file_go_together() -> None:
    with pytest.raises(ConfigError, match=r"placer.file: placer.kind own needs a Python file with a class Placer"):
        resolve(flags={"placer.kind": "own"})
    with pytest.raises(ConfigError, match=r"placer.file: only read by placer.kind own, not by env"):
        resolve(flags={"placer.kind": "env", "placer.code": IDLE})
    with pytest.raises(ConfigError, match=r"placer.file: none.py: cannot read the placer: No such file"):
        resolve(flags={"placer.file": "none.py"})
    with pytest.raises(ConfigError, match=r"placer.wait_s: only read with placer.kind env, own or ray"):
        resolve(flags={"placer.wait_s": 5})
    with pytest.raises(ConfigError, match=r"placer: a reference is one process, on this machine"):
        check(placed(IDLE), reference=True)


def test_the_text_is_kept_and_travels_by_tcp(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(IDLE)
    config = resolve(flags={"placer.file": str(file)})
    assert (config.placer.kind, config.placer.code, config.transport.kind) == ("own", IDLE, "tcp")
    (tmp_path / "config.toml").write_text(dump(config))
    file.write_text("nothing that could be run")
    assert load(tmp_path / "config.toml") == config
    assert list(changed(config)) == [], "a replay places nothing, so that it has not changed"


# What is started


def test_a_start_that_raises_is_told_of_its_stage_by_file_and_line() -> None:
    made = recruiter(IDLE.replace("return None", "return {}[stage]"))
    made.recruit("box-2")
    assert made.fault("box-2") == "placer.code, line 3: Placer.start: KeyError: 'box-2'"
    assert made.fault("head") == ""
    made.close()


def test_what_cannot_be_asked_nor_ended_is_refused() -> None:
    made = recruiter(IDLE.replace("None", "7"))
    made.recruit("box-1")
    assert made.fault("box-1").startswith(
        "placer.code: Placer.start returned int for box-1, which has no poll and no terminate"
    )


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("None", ""),
        ("0", ""),  # a job that is queued, or one that has gone into the background
        ("255", "what placer.code started for it ended with exit code 255"),
        ("1 / 0", "placer.code, line 3: Placer.start(…).poll: ZeroDivisionError: division by zero"),
    ],
)
def test_what_has_ended_before_it_joined_is_a_fault_unless_it_ended_well(code: str, fault: str) -> None:
    made = recruiter(JOB.replace("CODE", code))
    made.recruit("box-1")
    assert made.fault("box-1") == fault


def test_what_is_lost_is_ended_before_another_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    made = recruiter(
        "class Placer:\n"
        "    def start(self, stage, words, line):\n"
        "        self.code = None\n"
        "        print(stage, words[-4:], line.partition('#')[0])\n"
        "        return self\n"
        "    def poll(self):\n"
        "        return self.code\n"
        "    def terminate(self):\n"
        "        self.code = -15\n"
        "        print('ended')\n"
    )
    made.recruit("box-1")
    made.recruit("box-1")
    made.close()
    begun = "box-1 ['join', '-', '--stage', 'box-1'] tcp://127.0.0.1:1"
    assert capsys.readouterr().out.splitlines() == [begun, "ended", begun, "ended"]


def run(tmp_path: Path, code: str, *flags: str) -> int:
    """Run a small network by a placer's text, as the command line does; return the exit code."""
    file = tmp_path / "mine.py"
    file.write_text(code)
    where = ["--run.dir", str(tmp_path / "runs"), "--run.plot", "false", "--model.width", "8"]
    return main(["run", "--placer.file", str(file), *where, *flags])


@pytest.mark.live
@pytest.mark.parametrize(
    ("code", "why"),
    [
        (IDLE, "no host has joined for it within 1 s (placer.wait_s)"),
        (
            "import subprocess\n" + IDLE.replace("None", "subprocess.Popen(['false'], stdin=subprocess.DEVNULL)"),
            "mine.py started for it ended with exit code 1",
        ),
    ],
)
def test_an_agent_that_never_joins_ends_the_run_by_its_stage(
    code: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, code, "--placer.wait_s", "1") == 1
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("timebox: box-1 (process 0), last heard of at batch 0: ")
    assert first.endswith(why)


# Runs that it places

LONG = ("--schedule.kind", "locked", "--model.width", "8", "--train.epochs", "4", "--train.evaluate_every", "0")
LONG += ("--checkpoint.every", "50", "--data.train", "100", "--data.test", "20")
#: Writes down which process is which stage's agent.
NOTED = EXAMPLE.read_text(encoding="utf-8").replace(
    "        return agent", "        open(f'{stage}.pid', 'w').write(str(agent.pid))\n        return agent"
)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the long run on this machine, without agents."""
    return digest_here(tmp_path_factory.mktemp("calm") / "run", *LONG)


@pytest.mark.live
def test_a_stage_that_dies_is_resumed_by_the_placer_that_the_run_has_kept(calm: str, tmp_path: Path) -> None:
    slow = ["--emulate.compute_ms", "2"]  # so that a checkpoint has come from its hosts before
    assert run(tmp_path, EXAMPLE.read_text(encoding="utf-8"), *LONG, *slow, "--fault", "kill=box-2@batch:130") == 1
    (tmp_path / "mine.py").unlink()
    assert main(["resume", "latest", "--run.dir", str(tmp_path / "runs")]) == 0
    document = read_json(tmp_path / "runs" / "latest" / "summary.json")
    assert document is not None
    assert document["resumed_from"] in (50, 100)
    assert document["digest"] == calm


@pytest.mark.live
def test_an_agent_that_is_killed_is_started_anew(calm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(NOTED)
    flags = ["--placer.file", "mine.py", "--placer.lost_s", "2", "--recover", "1"]
    flags += ["--emulate.compute_ms", "2"]  # some seconds, in which there is something to kill
    with launched(tmp_path, *LONG, *flags) as process:
        until("a checkpoint", lambda: list(process.folder.glob("checkpoint/batch-*/manifest.json")))
        os.kill(int((tmp_path / "box-2.pid").read_text()), signal.SIGKILL)
        assert process.wait(60) == 0, process.errors.read_text()
    document = summary(process)
    assert [each["stage"] for each in document["recoveries"]] == ["box-2"]
    assert document["digest"] == calm
