"""Who waits for whom: on runs that hang, crash, are interrupted or go on; and what is said where files are missing."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from network import Network
from test_chaos import ENDLESS, WORKERS, Launched, is_alive, launched, state_of, until

from launch import resolve, vitals, why
from launch.cli import main
from launch.events import Exited, Interrupted
from launch.process import process_state
from launch.runs import UNREADABLE, make_run
from launch.supervise import INTERRUPT_S, TERM_S, Supervisor
from launch.why_text import awaited
from pipeline.actions import TARGET, Action, Part, format_journal
from pipeline.lacks import MESSAGE, Lack
from pipeline.plan import Plan
from pipeline.recorder import Recorder
from pipeline.trace import DONE

pytestmark = pytest.mark.in_process

#: A process that there is not: beyond what the kernel counts to.
NOBODY = 2**22 + 1


def written(parent: Path, kind: str = "article", moves: int = 0, flags: Mapping[str, Any] | None = None) -> Path:
    """Return the folder of a made-up run whose journals are those of a network that was stopped after some moves."""
    small = {"data.train": 2, "data.test": 2, "train.epochs": 2, "run.dir": str(parent), "schedule.kind": kind}
    folder = make_run(resolve(flags={**small, **(flags or {})}), kind)
    network, rng = Network(Plan.of(resolve(flags={**small, **(flags or {})}))), random.Random(1)
    while moves and not network.is_done:
        network.deliver_all()
        number = rng.choice([k for k, stage in network.stages.items() if not stage.is_done])
        moves -= network.move(number) is not None
    (folder / "journal").mkdir()
    for number, journal in network.journals.items():
        name = network.plan.name(number)
        (folder / "journal" / f"{name}.txt").write_text(format_journal(journal) + "\n" if journal else "")
        line = {"ts": "2026-11-25T09:43:25.000000Z", "mono_ns": 10**9, "stage": name, "level": "info", "text": "go"}
        (folder / "logs" / f"{name}.log").write_text(json.dumps(line) + "\n")
    stages = [{"name": network.plan.name(k), "pid": NOBODY} for k in network.numbers]
    (folder / "launcher.json").write_text(json.dumps({"pid": NOBODY, "reference": False, "stages": stages}))
    return folder


def summarised(folder: Path, status: str) -> Path:
    (folder / "summary.json").write_text(json.dumps({"status": status}))
    return folder


def ask(capsys: pytest.CaptureFixture[str], folder: Path, *flags: str) -> str:
    """Return what `timebox logs RUN --why` prints, with nothing on standard error."""
    assert main(["logs", str(folder), "--why", *flags]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def stages_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {stage["name"]: stage for stage in document["stages"]}


# Runs that have ended


def test_a_run_that_is_done_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = summarised(written(tmp_path, moves=10**6), "done")
    assert ask(capsys, folder).splitlines() == [
        f"{folder.name}: done, batch 4 of 4",
        "first cause: the run is done; nobody waits",
    ]
    document = json.loads(ask(capsys, folder, "--json"))
    assert (document["run"], document["status"], document["first_cause"]["stage"]) == (folder.name, "done", None)
    assert all(stage["is_done"] and stage["waits"] is None for stage in document["stages"])


def test_after_a_crash_the_first_failure_is_the_first_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = summarised(written(tmp_path, moves=9), "failed")
    error = {"stage": "box-2", "pid": 4711, "batch": 1, "error": "killed by SIGKILL", "log": []}
    (folder / "logs" / "error.json").write_text(json.dumps(error))
    text = ask(capsys, folder)
    assert "first cause: box-2 (process 4711): killed by SIGKILL\n" in text
    assert why.FLUSH in text, "what it did last is not on record"
    assert "waited for " in text


def test_an_interrupted_run_that_was_going_on_blames_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ask(capsys, summarised(written(tmp_path, moves=9), "interrupted"))
    assert "first cause: nobody: it was going on when it was told to stop" in text


def test_a_launcher_that_was_killed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ask(capsys, written(tmp_path, moves=9))
    assert f"first cause: the launcher (process {NOBODY}) is gone" in text


@pytest.mark.parametrize("content", ["", '{"status": "do', "[]", "{}", "\udcff"])
def test_a_summary_that_cannot_be_read_is_no_run_that_was_killed(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged summary once made a run that was done one whose launcher was killed."""
    folder = written(tmp_path, moves=9)
    (folder / "summary.json").write_bytes(content.encode(errors="surrogateescape"))
    text = ask(capsys, folder)
    assert text.startswith(f"{folder.name}: {UNREADABLE}, batch ")
    assert "first cause: not known: summary.json cannot be read" in text
    assert "killed" not in text
    assert main(["list", "--run.dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].endswith("  summary.json cannot be read")
    assert "died" not in out
    (folder / "logs" / "error.json").write_text('{"stage": "box-2", "pid": 7, "error": "killed by SIGKILL"}')
    assert "first cause: box-2 (process 7): killed by SIGKILL" in ask(capsys, folder)


def test_a_reference_waits_for_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path)
    (folder / "launcher.json").write_text('{"reference": true, "stages": []}')
    assert main(["logs", str(folder), "--why"]) == 2
    assert capsys.readouterr().err == f"timebox: {folder.name} is a reference: one process, which waits for nobody\n"


@pytest.mark.parametrize("flags", [["--follow"], ["--stage", "head"], ["--batch", "3"], ["--level", "info"]])
def test_why_looks_at_everything_and_takes_no_filter(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", str(written(tmp_path)), "--why", *flags]) == 2
    err = capsys.readouterr().err
    assert err.startswith("timebox: --why: ")
    assert err.count("\n") == 1


# What it says of whom


@pytest.mark.parametrize(
    ("kind", "journals", "says"),
    [
        ("article", {"box-1": "F0", "box-2": "U1.0 F0", "head": ""}, "head could do F0"),
        ("article", {"box-1": "F0", "box-2": "U1.0", "head": ""}, "head waited for activation 0 from box-2"),
        ("article", {"box-1": "F0", "box-2": "U1.0", "head": ""}, "box-1 waited for target 0 from box-2"),
        ("locked", {"box-1": "F0", "box-2": "F0", "head": "F0"}, "box-1 waited for gradient 0 from box-2"),
        (
            "decoupled",
            {"box-1": "F0", "box-2": "", "head": ""},
            "box-1 waited for target 0 from box-2 (its window of 1",
        ),
    ],
)
def test_what_a_stage_lacks_is_told_in_words(kind: str, journals: dict[str, str], says: str, tmp_path: Path) -> None:
    folder = written(tmp_path, kind, flags={"schedule.window": 1} if kind == "decoupled" else {})
    for name, text in journals.items():
        (folder / "journal" / f"{name}.txt").write_text(f"{text}\n")
    document = why.collect(summarised(folder, "interrupted"))
    for stage in document["stages"]:
        stage["for_s"] = 2.0
    text = " ".join(why.render(document).split())
    assert says in text.replace(" and had not for 2.0 s", "")


def test_a_credit_and_the_drain_are_told_in_words() -> None:
    credit = {"message": "activation", "batch": 7, "from": "head", "why": "credit"}
    assert awaited(credit) == "a credit from head to send activation 7"
    drain = {"message": "increment", "batch": 7, "from": "box-2", "why": "drain"}
    assert awaited(drain) == "increment 7 from box-2 (the last evaluation follows the drain)"


def test_a_journal_that_is_missing_or_damaged_is_reckoned_from_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = summarised(written(tmp_path, moves=24), "interrupted")
    before = stages_of(why.collect(folder))["box-1"]
    (folder / "journal" / "box-1.txt").write_text("F0 nonsense\n")
    document = why.collect(folder)
    assert 0 < stages_of(document)["box-1"]["batch"] <= before["batch"]
    assert stages_of(document)["box-1"]["is_behind"]
    assert len(document["warnings"]) == 1
    assert main(["logs", str(folder), "--why"]) == 0
    out, err = capsys.readouterr()
    assert "box-1 has done more than its journal tells" in out
    assert err.startswith("timebox: warning: ")
    (folder / "journal" / "box-1.txt").unlink()
    assert why.collect(folder)["warnings"] == []


def test_a_circle_is_called_our_fault() -> None:
    def stage(name: str, source: str) -> dict[str, Any]:
        waits = {"message": "activation", "batch": 0, "from": source, "why": "message"}
        keys = {"is_done": False, "has_begun": True, "could": None, "for_s": 9.0, "process": "sleeping", "pid": 1}
        return {"name": name, "waits": waits, "chain": [name, source, name], **keys}

    stages = [stage("box-1", "box-2"), stage("box-2", "box-1")]
    cause = why._first_cause(Path(), {"status": "running", "stages": stages})
    assert cause["kind"] == "circle"
    assert "box-1 → box-2 → box-1" in cause["text"]
    assert "fault of ours" in cause["text"]


def test_a_stage_that_says_it_waits_is_believed_though_the_message_was_sent(tmp_path: Path) -> None:
    """A process under SIGSTOP holds on to its last messages: box-1 was blamed for not taking what had not left box-2."""
    folder = written(tmp_path)
    recorder = Recorder(folder, "box-1", {"wall_ns": time.time_ns(), "mono_ns": time.monotonic_ns()})
    began = time.monotonic_ns()
    recorder.tape.part(Action("F", 0), Part("forward", 0, 0), began - 3 * 10**9, began - 2 * 10**9)
    recorder.tape.waited(Lack(MESSAGE, TARGET, 0, 2), began - 2 * 10**9, began)
    recorder.done(DONE, began)
    recorder.close()
    for name, text in {"box-1": "F0", "box-2": "U1.0 F0"}.items():
        (folder / "journal" / f"{name}.txt").write_text(f"{text}\n")
    document = why.collect(summarised(folder, "interrupted"))
    box = stages_of(document)["box-1"]
    assert (box["could"], box["chain"]) == (None, ["box-1", "box-2", "head"])
    assert box["waits"] == {"message": "target", "batch": 0, "from": "box-2", "why": "message", "was_sent": True}
    assert box["for_s"] == pytest.approx(2.0, abs=0.1)
    assert "box-1  waited for target 0 from box-2, for 2.0 s; it was sent and has not come" in why.render(document)


def test_a_process_that_only_has_the_number_of_a_worker_is_none() -> None:
    assert process_state(os.getpid(), "some-run", "box-1") == "gone"
    assert process_state(NOBODY, "some-run", "box-1") == "gone"
    assert process_state(None, "some-run", "box-1") == "unknown"


# Halted, interrupted, and woken to be ended

SECOND = 10**9


def halted(parent: Path, after: str, trace: str = "full") -> Path:
    """Return a run whose box-2 was halted for 3 s when it was told to stop, and woken 8 s later; the others waited for it.

    What it put down next is a wait for a message that it had, a part of an action, or that records were left out.
    """
    folder = written(parent, flags={"trace.level": trace})
    zero = time.monotonic_ns() - 60 * SECOND
    stop, wall = zero + 10 * SECOND, time.time_ns() - time.monotonic_ns()
    for name in WORKERS:
        header = {"wall_ns": wall + zero, "mono_ns": zero}
        recorder = Recorder(folder, name, header, is_traced=trace == "full")
        tape = recorder.tape
        tape.part(Action("F", 0), Part("forward", 0, 0), stop - 4 * SECOND, stop - 3 * SECOND)
        ended = stop if name != "box-2" else stop + 8 * SECOND
        if name != "box-2":
            for at in range(stop - 3 * SECOND, stop, SECOND // 20):
                tape.waited(Lack(MESSAGE, TARGET, 0, 2), at, at + SECOND // 20)
        elif after == "wait":
            tape.waited(Lack(MESSAGE, TARGET, 0, 3), stop - 3 * SECOND, ended - 10)
            tape.part(Action("T", 0), Part("train", 0, 0), ended - 10, ended)
        elif after == "part":
            tape.part(Action("F", 0), Part("update", 0, 0), stop - 3 * SECOND, ended)
        elif after == "gap":
            tape.is_on, tape.left_out, recorder._gap_since = False, 9, stop - 3 * SECOND
        if after != "nothing" or name != "box-2":
            recorder.done(DONE, ended)
        recorder.close()
        text = {"box-1": "F0", "box-2": "U1.0 F0 T0", "head": ""}[name]
        path = folder / "journal" / f"{name}.txt"
        path.write_text(f"{text}\n")
        os.utime(path, ns=(wall + stop - 3 * SECOND,) * 2)
    told = [(stop, "box-1: stopped"), (stop, "head: stopped"), (stop + 8 * SECOND, "SIGTERM to box-2")]
    for ns, text in told:
        line = {"ts": "2026-11-25T09:43:25.000000Z", "mono_ns": ns, "stage": "launcher", "level": "info", "text": text}
        with (folder / "logs" / "launcher.log").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
    return summarised(folder, "interrupted")


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ("wait", "showed no sign of life for the last 3.0 s and did not answer for 8.0 s when it was told to stop"),
        (
            "part",
            "showed no sign of life for the last 3.0 s, in the midst of F0 update and did not answer for 8.0 s "
            "when it was told to stop",
        ),
        ("nothing", "showed no sign of life for the last 3.0 s and did not answer for 8.0 s when it was told to stop"),
        ("gap", "did not answer for 8.0 s when it was told to stop"),
    ],
)
def test_a_worker_that_was_halted_is_blamed_though_it_was_woken_to_be_ended(
    after: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C on a run that hung was told as: nobody, it was going on. SIGTERM wakes who is stopped, and then it acts."""
    folder = halted(tmp_path, after)
    text = ask(capsys, folder)
    assert re.search(rf"^box-2  {re.escape(says)}$", text, re.MULTILINE)
    assert f"first cause: box-2: {says}, while box-1 and head waited for it for 3.0 s\n" in text
    assert "it was sent and has not come" not in text
    cause = json.loads(ask(capsys, folder, "--json"))["first_cause"]
    assert (cause["kind"], cause["stage"]) == ("still", "box-2")


def test_without_a_trace_the_launcher_tells_who_did_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = ask(capsys, halted(tmp_path, "wait", trace="off"))
    assert "first cause: box-2: did not answer for 8.0 s when it was told to stop" in text


def test_without_the_launchers_log_the_trace_tells_who_showed_no_sign_of_life(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = halted(tmp_path, "wait")
    (folder / "logs" / "launcher.log").unlink()
    assert "first cause: box-2: showed no sign of life for the last 3.0 s, while box-1 and" in ask(capsys, folder)


def test_a_run_that_is_ending_says_for_whom_it_waits_and_how_long_at_most() -> None:
    """One Ctrl-C took 9 s to return, without a word on what it waited for."""
    supervisor = Supervisor(Plan.of(resolve()), 0.0)
    assert supervisor.awaits(5.0) == ""
    supervisor.handle(Interrupted(), 10.0)
    supervisor.handle(Exited("box-1", 0), 11.0)
    supervisor.handle(Exited("head", 0), 11.0)
    assert supervisor.awaits(12.0) == (
        f"waits for box-2 to stop, {INTERRUPT_S + TERM_S - 2:.0f} s at most; Ctrl-C again kills"
    )
    supervisor.handle(Exited("box-2", 0), 13.0)
    assert supervisor.awaits(13.0) == ""


# Live


def blamed(run: Launched, stage: str, kind: str) -> Any:
    """Return the document once it names a stage as the first cause, and all others have been waiting for it for a while."""
    document = why.collect(run.folder)
    others = [each for each in document["stages"] if each["name"] != stage]
    if not all(each["waits"] and (each["for_s"] or 0) > 0.6 for each in others):
        return None
    is_it = (document["first_cause"]["stage"], document["first_cause"]["kind"]) == (stage, kind)
    return document if is_it and all(each["chain"][-1] == stage for each in others) else None


def interrupt(run: Launched, pids: dict[str, int], stopped: str) -> None:
    """Press Ctrl-C, and once more for the worker that does not answer."""
    run.process.send_signal(signal.SIGINT)
    until("the others gone", lambda: not any(is_alive(pid) for name, pid in pids.items() if name != stopped))
    run.process.send_signal(signal.SIGINT)
    assert run.wait(10) == 130


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["article", "decoupled"])
def test_a_stopped_worker_is_named_whoever_it_is(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with launched(tmp_path, "--schedule.kind", kind, "--train.epochs", ENDLESS, "--log.level", "info") as run:
        pids = run.running()
        for victim in WORKERS:
            at = run.folder / "journal" / f"{victim}.txt"
            os.kill(pids[victim], signal.SIGSTOP)
            until("stopped", lambda pid=pids[victim]: state_of(pid) == "T")
            document = until(f"{victim} blamed", lambda victim=victim: blamed(run, victim, "stopped"))
            stages, others = stages_of(document), [name for name in WORKERS if name != victim]
            # It could go on; or what it lacks waits for a message that its own stopped process still holds.
            assert stages[victim]["could"] is not None or any(stages[name]["waits"].get("was_sent") for name in others)
            assert [stages[name]["process"] == "stopped" for name in WORKERS] == [name == victim for name in WORKERS]
            assert all(stages[name]["waits"] for name in others)
            text = ask(capsys, run.folder)
            assert re.search(rf"^first cause: {victim}: (could do|waits for) ", text, re.MULTILINE)
            assert f"its process {pids[victim]} is stopped (SIGSTOP); kill -CONT {pids[victim]} lets it go on" in text
            size = at.stat().st_size
            os.kill(pids[victim], signal.SIGCONT)
            until("going on", lambda at=at, size=size: at.stat().st_size > size)
        until("nobody blamed", lambda: "first cause: nobody: the run goes on" in ask(capsys, run.folder))
        # Hangs, and is interrupted: that it hung is told afterwards.
        os.kill(pids["box-2"], signal.SIGSTOP)
        until("stuck for long", lambda: (stages_of(why.collect(run.folder))["head"]["for_s"] or 0) > vitals.LONG_S)
        interrupt(run, pids, "box-2")
    document = why.collect(run.folder)
    assert (document["first_cause"]["kind"], document["first_cause"]["stage"]) == ("still", "box-2")


@pytest.mark.chaos
def test_a_killed_worker_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, "--schedule.kind", "decoupled") as run:
        pids = run.running()
        os.kill(pids["box-1"], signal.SIGKILL)
        assert run.wait(10) == 1
    text = ask(capsys, run.folder)
    assert f"first cause: box-1 (process {pids['box-1']}): killed by SIGKILL" in text
    assert why.FLUSH in text


@pytest.mark.chaos
def test_a_worker_that_is_stopped_before_the_run_begins_is_named(tmp_path: Path) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS) as run:
        pids = run.started()
        until("importing", lambda: b"pipeline.worker" in Path(f"/proc/{pids['head']}/cmdline").read_bytes())
        os.kill(pids["head"], signal.SIGSTOP)
        until("stopped", lambda: state_of(pids["head"]) == "T")
        document = why.collect(run.folder)
        assert (document["first_cause"]["kind"], document["first_cause"]["stage"]) == ("stopped", "head")
        interrupt(run, pids, "head")
