"""The supervisor, tested with histories and no process: events in, commands out, times given."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any

import pytest
from network import make_plan

from launch.events import Command, Dump, Event, Exited, Finish, Heard, Interrupted, Signal, Tell, Tick
from launch.supervise import INTERRUPT_S, QUIT_S, READY_S, STOP_S, TERM_S, Supervisor
from launch.watch import Watch

NAMES = ["box-1", "box-2", "head"]
DONE = {"batches": 4, "busy_s": 0.5, "digest": "d"}
START = 1000.0


class History:
    """A supervisor and the time; `at` moves it, `says` and the others tell what happens then."""

    def __init__(self) -> None:
        self.supervisor = Supervisor(make_plan("article", boxes=2, batches=4), START)
        self.now = START

    def at(self, seconds: float) -> list[Command]:
        """Let it be so many seconds after the start, and tick."""
        self.now = START + seconds
        return self.happens(Tick())

    def happens(self, *events: Event) -> list[Command]:
        """Tell events and return what is to be done."""
        return [command for event in events for command in self.supervisor.handle(event, self.now)]

    def says(self, names: str | Iterable[str], word: str, **body: Any) -> list[Command]:
        """Let workers say a word."""
        return self.happens(*(Heard(name, word, body) for name in ([names] if isinstance(names, str) else names)))

    def exits(self, *names: str, code: int = 0) -> list[Command]:
        """Let workers end."""
        return self.happens(*(Exited(name, code) for name in names))

    def hello(self) -> list[Command]:
        """Let all workers say hello."""
        return self.happens(*(Heard(name, "hello", {"pid": k, "endpoint": f"e{k}"}) for k, name in enumerate(NAMES)))

    def running(self) -> History:
        """Bring the run to where all have been told to go."""
        self.hello()
        self.says(NAMES, "ready")
        return self

    def ended(self) -> History:
        """Bring the run to where all are done."""
        self.running()
        self.says(NAMES, "done", **DONE)
        return self


def tells(word: str, *names: str) -> list[Command]:
    """Return a word without a body to each."""
    return [Tell(name, word, {}) for name in names]


def signals(number: int, *names: str) -> list[Command]:
    """Return a signal to each."""
    return [Signal(name, number) for name in names]


# A normal run


def test_a_normal_run_goes_from_hello_to_finish() -> None:
    history = History()
    assert history.says("box-1", "hello", pid=11, endpoint="e1") == []
    assert history.says("head", "hello", pid=13, endpoint="e3") == []
    assert history.says("box-2", "hello", pid=12, endpoint="e2") == [
        Tell("box-1", "peers", {"box-2": "e2"}),
        Tell("box-2", "peers", {"box-1": "e1", "head": "e3"}),
        Tell("head", "peers", {"box-2": "e2"}),
    ]
    assert history.says(["box-2", "head"], "ready") == []
    assert not history.supervisor.is_running
    assert history.says("box-1", "ready") == tells("go", *NAMES)
    assert history.supervisor.is_running
    assert history.says("box-1", "progress", batch=2) == []
    assert history.says("head", "progress", batch=1, cost=0.25) == []
    assert history.supervisor.members["box-1"].batch == 2
    assert history.supervisor.cost == 0.25
    assert history.at(3600) == []
    assert history.says(["head", "box-1"], "done", **DONE) == []
    assert history.says("box-2", "done", **DONE) == tells("quit", *NAMES)
    assert history.exits("box-2", "head") == []
    assert history.exits("box-1") == [Finish("done")]
    assert history.supervisor.failure is None
    assert history.supervisor.members["head"].done == DONE


def test_peers_of_tied_boxes_are_all_who_send_to_each_other() -> None:
    supervisor = Supervisor(make_plan("article", boxes=3), START)
    commands: list[Command] = []
    for name in ("box-1", "box-2", "box-3", "head"):
        commands += supervisor.handle(Heard(name, "hello", {"pid": 1, "endpoint": name}), START)
    assert {c.stage: sorted(c.body) for c in commands if isinstance(c, Tell)} == {
        "box-1": ["box-2", "box-3"],
        "box-2": ["box-1", "box-3"],
        "box-3": ["box-1", "box-2", "head"],
        "head": ["box-3"],
    }


def test_a_worker_that_does_not_quit_is_made_to_go_and_the_run_is_done_all_the_same() -> None:
    history = History().ended()
    assert history.exits("box-1", "head") == []
    assert history.at(QUIT_S - 0.01) == []
    assert history.at(QUIT_S) == signals(signal.SIGTERM, "box-2")
    assert history.at(QUIT_S + TERM_S) == signals(signal.SIGKILL, "box-2")
    assert history.exits("box-2", code=-signal.SIGKILL) == [Finish("done")]


# A worker dies


def told(history: History) -> tuple[str, int, str]:
    """Return the failure that is told: stage, batch, error."""
    failure = history.supervisor.failure
    assert failure is not None
    return failure.stage, failure.batch, failure.error


@pytest.mark.parametrize("is_met", [False, True], ids=["before hello", "after hello"])
def test_a_worker_that_dies_at_start_ends_the_run(is_met: bool) -> None:
    history = History()
    if is_met:
        history.hello()
    # Who has not said hello is deaf: SIGTERM ends it.
    deaf = [] if is_met else signals(signal.SIGTERM, "box-1", "head")
    assert history.exits("box-2", code=1) == tells("stop", "box-1", "head") + deaf
    assert told(history) == ("box-2", 0, "its process ended with exit code 1")
    assert history.says("box-1", "stopped") == []
    assert history.exits("box-1") == []
    assert history.exits("head") == [Finish("failed")]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (-signal.SIGKILL, "killed by SIGKILL"),
        (-signal.SIGSEGV, "killed by SIGSEGV"),
        (-200, "killed by signal 200"),
        (3, "its process ended with exit code 3"),
        (0, "its process ended with exit code 0"),
    ],
)
def test_a_crashed_worker_ends_the_run_and_is_named_with_its_batch(code: int, error: str) -> None:
    history = History().running()
    history.says("head", "progress", batch=2)
    history.says("box-1", "progress", batch=3)
    assert history.exits("head", code=code) == tells("stop", "box-1", "box-2")
    assert told(history) == ("head", 2, error)
    assert history.exits("box-1") == []
    assert history.exits("box-2") == [Finish("failed")]


def test_a_worker_that_dies_after_it_was_done_ends_a_run_in_which_others_are_not() -> None:
    history = History().running()
    history.says("box-1", "done", **DONE)
    assert history.exits("box-1", code=-signal.SIGKILL) == tells("stop", "box-2", "head")
    assert told(history) == ("box-1", 4, "killed by SIGKILL")


def test_a_worker_that_dies_after_all_were_done_changes_nothing() -> None:
    history = History().ended()
    assert history.exits("box-1", code=-signal.SIGKILL) == []
    assert history.exits("box-2", "head") == [Finish("done")]
    assert history.supervisor.failure is None


def test_a_worker_that_says_what_failed_is_believed_before_its_exit_code() -> None:
    history = History().running()
    history.says("box-2", "progress", batch=1)
    assert history.says("box-2", "failed", error="the edge to stage 3 is full", wrong=False) == tells("stop", *NAMES)
    assert history.exits("box-2", code=1) == []
    assert told(history) == ("box-2", 1, "the edge to stage 3 is full")
    assert history.exits("box-1", "head") == [Finish("failed")]


@pytest.mark.parametrize("wrong", [True, False])
def test_a_wrong_request_is_told_apart_from_a_failed_run(wrong: bool) -> None:
    history = History()
    history.says("head", "failed", error="transport.port: 5555 is in use", wrong=wrong)
    assert history.supervisor.failure is not None
    assert history.supervisor.failure.is_wrong_request == wrong


@pytest.mark.parametrize(
    "second", [Exited("head", -9), Heard("head", "failed", {"error": "later", "wrong": True})], ids=["exit", "word"]
)
def test_of_two_failures_the_first_is_told(second: Event) -> None:
    history = History().running()
    history.exits("box-1", code=7)
    assert history.happens(second) == []
    assert told(history) == ("box-1", 0, "its process ended with exit code 7")
    assert history.supervisor.status == "failed"


def test_a_stopped_worker_that_never_answers_is_killed_in_the_stated_time() -> None:
    """A worker under SIGSTOP hears no word; the failure of another one must not wait for it."""
    history = History().running()
    history.at(20)
    assert history.exits("box-1", code=-signal.SIGKILL) == tells("stop", "box-2", "head")
    assert history.exits("head") == []
    assert history.at(20 + STOP_S - 0.01) == []
    assert history.at(20 + STOP_S) == signals(signal.SIGTERM, "box-2")
    assert history.at(20 + STOP_S + TERM_S - 0.01) == []
    assert history.at(20 + STOP_S + TERM_S) == signals(signal.SIGKILL, "box-2")
    assert history.at(20 + STOP_S + TERM_S + 100) == []
    assert history.exits("box-2", code=-signal.SIGKILL) == [Finish("failed")]
    assert told(history)[0] == "box-1"
    assert STOP_S + TERM_S < 5, "the issue's limit"


def test_a_launcher_that_slept_through_both_deadlines_sends_both_signals() -> None:
    history = History().running()
    history.exits("box-1", code=1)
    assert history.at(500) == signals(signal.SIGTERM, "box-2", "head") + signals(signal.SIGKILL, "box-2", "head")


def test_a_worker_that_comes_when_the_run_is_ending_is_told_to_stop() -> None:
    """It was not there yet when the others were told."""
    history = History()
    history.exits("box-1", code=1)
    assert history.says("box-2", "hello", pid=12, endpoint="e2") == tells("stop", "box-2")
    assert history.says("head", "hello", pid=13, endpoint="e3") == tells("stop", "head")


# Not ready in time


@pytest.mark.parametrize("ready", [[], ["box-1"], ["box-1", "head"]])
def test_a_worker_that_is_not_ready_in_time_ends_the_run(ready: list[str]) -> None:
    history = History()
    history.hello()
    history.says(ready, "ready")
    assert history.at(READY_S) == []
    late = [name for name in NAMES if name not in ready]
    assert history.at(READY_S + 0.1) == tells("stop", *NAMES)
    stage, _, error = told(history)
    assert stage == late[0]
    assert error.startswith("not ready after 60 s")
    assert all(name in error for name in late[1:])
    assert history.at(READY_S + 0.2) == []
    assert history.at(READY_S + 0.1 + STOP_S) == signals(signal.SIGTERM, *NAMES)


def test_a_run_that_goes_may_take_as_long_as_it_likes() -> None:
    history = History().running()
    assert history.at(1000 * READY_S) == []
    assert history.supervisor.failure is None


# Interrupted


@pytest.mark.parametrize("is_running", [True, False], ids=["running", "starting"])
def test_an_interrupt_asks_all_to_stop_and_keeps_what_they_save(is_running: bool) -> None:
    history = History()
    if is_running:
        history.running()
    deaf = [] if is_running else signals(signal.SIGTERM, *NAMES)
    assert history.happens(Interrupted()) == tells("stop", *NAMES) + deaf
    assert history.says(NAMES, "stopped") == []
    assert history.exits("box-1", "head") == []
    assert history.exits("box-2") == [Finish("interrupted")]
    assert history.supervisor.failure is None


def test_after_an_interrupt_signals_follow_at_the_stated_times() -> None:
    history = History().running()
    history.at(10)
    history.happens(Interrupted())
    assert history.exits("box-1") == []
    assert history.at(10 + INTERRUPT_S - 0.01) == []
    assert history.at(10 + INTERRUPT_S) == signals(signal.SIGTERM, "box-2", "head")
    assert history.exits("head") == []
    assert history.at(10 + INTERRUPT_S + TERM_S) == signals(signal.SIGKILL, "box-2")
    assert history.exits("box-2", code=-signal.SIGKILL) == [Finish("interrupted")]


def test_a_second_interrupt_kills_at_once() -> None:
    history = History().running()
    history.happens(Interrupted())
    assert history.exits("box-1") == []
    assert history.happens(Interrupted()) == signals(signal.SIGKILL, "box-2", "head")
    assert history.at(100) == []
    assert history.exits("box-2", "head", code=-signal.SIGKILL) == [Finish("interrupted")]


def test_a_worker_that_fails_while_it_stops_on_request_is_no_failure_of_the_run() -> None:
    history = History().running()
    history.happens(Interrupted())
    assert history.says("box-1", "failed", error="cannot save", wrong=False) == []
    assert history.exits("box-1", code=1) == []
    assert history.supervisor.status == "interrupted"
    assert history.supervisor.failure is None


def test_an_interrupt_while_a_failed_run_ends_is_still_a_failed_run() -> None:
    history = History().running()
    history.exits("box-1", code=1)
    assert history.happens(Interrupted()) == []
    assert history.happens(Interrupted()) == signals(signal.SIGKILL, "box-2", "head")
    assert history.exits("box-2", "head", code=-signal.SIGKILL) == [Finish("failed")]


# Strangers


@pytest.mark.parametrize("word", ["hello", "ready", "progress", "done", "failed", "stopped"])
@pytest.mark.parametrize("name", ["box-3", "box-0", "", "launcher", "HEAD"])
def test_a_stranger_is_ignored(name: str, word: str) -> None:
    history = History().running()
    body = {"pid": 1, "endpoint": "e", "batch": 9, "cost": 9.0, "batches": 9, "error": "mine", "wrong": True}
    assert history.says(name, word, **body) == []
    assert list(history.supervisor.members) == NAMES
    assert history.supervisor.failure is None
    assert history.supervisor.cost is None


@pytest.mark.parametrize(
    ("word", "body"),
    [
        ("hello", {}),
        ("hello", {"pid": "x", "endpoint": "e"}),
        ("progress", {}),
        ("progress", {"batch": "many"}),
        ("progress", {"batch": None}),
        ("done", {}),
        ("failed", {}),
    ],
)
def test_a_body_that_is_not_as_agreed_does_not_end_the_launcher(word: str, body: dict[str, Any]) -> None:
    """Frames are never trusted: nonsense is passed over or ends the run by name, it does not raise."""
    history = History()
    if word != "hello":
        history.running()
    commands = history.happens(Heard("box-1", word, body))
    failure = history.supervisor.failure
    assert failure is None or failure.stage == "box-1"
    assert [command for command in commands if not isinstance(command, Signal)] in ([], tells("stop", *NAMES))


# Nobody goes on


def watched() -> History:
    """Return a history whose workers are watched, with ten seconds of patience, and have been told to go."""
    history = History()
    history.supervisor.watch = Watch(history.supervisor.plan, 10.0)
    return history.running()


def passes(history: History, seconds: float, *who: str) -> list[Command]:
    """Let time pass from now on in which these report, until something is to be done."""
    for _ in range(round(seconds / 0.25)):
        history.now += 0.25
        for number, name in enumerate(who):
            body = {"batch": 3, "actions": int(history.now * 4) + number}
            assert history.says(name, "progress", **body) == []
        if commands := history.happens(Tick()):
            return commands
    return []


def test_a_worker_that_hangs_ends_the_run_after_all_have_written_their_stacks() -> None:
    history = watched()
    assert passes(history, 60, *NAMES) == []
    [dump, *rest] = passes(history, 20, "box-1", "head")
    assert rest == tells("stop", *NAMES)
    failure = history.supervisor.failure
    assert failure is not None
    assert dump == Dump(failure)
    assert (failure.stage, failure.batch) == ("box-2", 3)
    assert "has said nothing for 10.0 s" in failure.error
    assert [line.split()[0] for line in failure.waits] == NAMES
    now = history.now - START
    assert history.at(now + STOP_S) == signals(signal.SIGTERM, *NAMES)
    assert history.at(now + STOP_S + TERM_S) == signals(signal.SIGKILL, *NAMES)
    assert history.exits(*NAMES, code=-signal.SIGKILL) == [Finish("failed")]


def test_a_run_that_is_not_told_to_go_is_not_watched() -> None:
    history = History()
    history.supervisor.watch = Watch(history.supervisor.plan, 10.0)
    history.hello()
    assert passes(history, 40) == []


def test_a_run_that_is_ending_is_not_watched() -> None:
    history = watched()
    history.happens(Interrupted())
    assert passes(history, INTERRUPT_S - 1) == []
    history.exits(*NAMES)
    assert history.supervisor.status == "interrupted"
    history = watched()
    history.exits("box-1", code=1)
    commands = passes(history, 60)
    assert not any(isinstance(command, Dump) for command in commands)
    assert told(history)[0] == "box-1"


def test_a_launcher_that_was_stopped_blames_nobody() -> None:
    history = watched()
    assert passes(history, 1, *NAMES) == []
    history.now += 3600
    assert history.happens(Tick()) == []
    assert passes(history, 5, *NAMES) == []
    assert history.supervisor.failure is None
