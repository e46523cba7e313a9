"""What the launcher decides when a worker dies and may be restarted, and when a checkpoint is complete: no process."""

from __future__ import annotations

from typing import Any

from network import make_plan
from test_supervise import DONE, NAMES, START, History, tells

from launch.events import Complete, Failure, Finish, Restart, Tell, Trouble
from launch.supervise import BACK_S, Supervisor

PART = {"save": 0, "bytes": 9, "sha256": "s", "appended": {}}


def history(recover: int = 1, newest: int | None = None) -> History:
    """Return a run in which so many restarts are allowed, before anything has happened."""
    found = History()
    found.supervisor = Supervisor(make_plan("article", boxes=2, batches=4), START, recover, 0, newest)
    return found


def rollbacks(save: int | None, epoch: int, *names: str) -> list[Any]:
    return [Tell(name, "rollback", {"epoch": epoch, "save": save}) for name in names]


def test_a_checkpoint_is_complete_when_every_stage_has_said_so() -> None:
    run = history().running()
    assert run.says("box-1", "saved", **PART) == []
    assert run.says("head", "saved", **PART) == []
    [complete] = run.says("box-2", "saved", epoch=0, **PART)
    part = {"bytes": 9, "sha256": "s", "appended": {}}
    assert complete == Complete(0, 0, dict.fromkeys(NAMES, part))
    assert run.supervisor.newest == 0


def test_stages_may_be_checkpoints_apart() -> None:
    run = history().running()
    run.says("box-1", "saved", **PART)
    run.says("box-1", "saved", **PART | {"save": 1})
    assert [type(c) for c in run.says(["box-2", "head"], "saved", **PART)] == [Complete]
    [second] = run.says(["box-2", "head"], "saved", **PART | {"save": 1})
    assert isinstance(second, Complete)
    assert second.save == 1


def test_a_dead_worker_is_restarted_and_the_others_roll_back() -> None:
    run = history(newest=4).running()
    run.says("box-2", "progress", batch=33)
    run.at(5)
    assert run.exits("box-2", code=-9) == [*rollbacks(4, 1, "box-1", "head"), Restart("box-2", 1, 4)]
    assert not run.supervisor.is_running
    assert run.supervisor.failure is None
    # All say hello again, under the new epoch, and go on as at the start.
    run.at(5.5)
    assert [c.word for c in run.says(NAMES, "hello", pid=1, endpoint="e", epoch=1) if isinstance(c, Tell)] == [
        "peers"
    ] * 3
    assert run.says(NAMES, "ready", epoch=1) == tells("go", *NAMES)
    [recovery] = run.supervisor.recoveries
    assert recovery.failure == Failure("box-2", 33, "killed by SIGKILL")
    assert (recovery.save, recovery.seconds) == (4, 0.5)
    assert run.says(NAMES, "done", epoch=1, **DONE) == tells("quit", *NAMES)
    assert run.exits(*NAMES) == [Finish("done")]


def test_words_of_an_attempt_that_is_over_do_not_count() -> None:
    run = history(newest=0).running()
    run.exits("box-1", code=-9)
    assert run.says(NAMES, "ready", epoch=0) == []
    assert run.says(NAMES, "done", epoch=0, **DONE) == []
    assert run.says(NAMES, "saved", epoch=0, **PART) == []
    assert run.says(["box-2", "head"], "hello", epoch=1, pid=1, endpoint="e") == []
    assert len(run.says("box-1", "hello", epoch=1, pid=1, endpoint="e")) == 4


def test_deaths_before_all_go_on_are_one_recovery_each_under_a_new_epoch() -> None:
    run = history(recover=1).running()
    assert run.exits("box-1", code=-9)[-1] == Restart("box-1", 1, None)
    run.says(NAMES, "hello", epoch=1, pid=1, endpoint="e")
    # They may have connected to the head: all of them begin again.
    assert run.exits("head", code=-11) == [*rollbacks(None, 2, "box-1", "box-2"), Restart("head", 2, None)]
    assert run.says(NAMES, "ready", epoch=1) == []
    assert run.exits("head", code=1)[0] == Tell("box-1", "stop", {}), "the same one again, and no recovery is left"
    assert run.supervisor.failure == Failure("head", 0, "its process ended with exit code 1")


def test_who_comes_with_an_old_epoch_is_told_the_new_one() -> None:
    run = history(recover=1, newest=3).running()
    run.exits("box-1", code=-9)
    run.exits("box-2", code=-9)
    assert run.says("box-1", "hello", epoch=1, pid=1, endpoint="e") == rollbacks(3, 2, "box-1")
    assert run.supervisor.members["box-1"].endpoint == ""


def test_a_last_word_of_a_process_that_was_replaced_is_not_its_successors() -> None:
    run = history(recover=1).running()
    run.exits("box-1", code=-9)
    assert run.says("box-1", "failed", epoch=0, error="lost", wrong=False, again=True) == []
    assert run.says("box-2", "failed", epoch=0, error="lost", wrong=False, again=True)[-1] == Restart("box-2", 2, None)


def test_after_all_went_on_a_death_is_of_a_new_epoch() -> None:
    run = history(recover=2).running()
    run.exits("box-1", code=-9)
    run.says(NAMES, "hello", epoch=1, pid=1, endpoint="e")
    run.says(NAMES, "ready", epoch=1)
    assert run.exits("box-1", code=-9)[-1] == Restart("box-1", 2, None)


def test_a_worker_that_had_done_its_part_rolls_back_as_well() -> None:
    run = history(newest=0).running()
    run.says("box-1", "done", **DONE)
    run.exits("head", code=-9)
    run.says(NAMES, "hello", epoch=1, pid=1, endpoint="e")
    run.says(NAMES, "ready", epoch=1)
    assert run.says(["box-2", "head"], "done", epoch=1, **DONE) == []
    assert run.says("box-1", "done", epoch=1, **DONE) == tells("quit", *NAMES)


def test_what_would_fail_again_is_not_tried_again() -> None:
    run = history(recover=5).running()
    assert run.says("box-2", "failed", error="flew off", wrong=False, again=False) == tells("stop", *NAMES)
    run = history(recover=5).running()
    assert Restart("box-2", 1, None) in run.says("box-2", "failed", error="lost", wrong=False, again=True)


def test_a_worker_that_does_not_roll_back_in_time_is_restarted_too() -> None:
    run = history(recover=1).running()
    run.exits("box-1", code=-9)
    run.says(["box-1", "head"], "hello", epoch=1, pid=1, endpoint="e")
    assert run.at(BACK_S) == []
    assert [c for c in run.at(BACK_S + 1) if isinstance(c, Restart)] == [Restart("box-2", 2, None)]
    assert run.at(BACK_S + 2) == [], "it has its time"
    assert run.supervisor.failure is None
    run.at(2 * BACK_S + 2)
    assert run.supervisor.failure is not None, "box-1 has been told to roll back, and has not"
    assert run.supervisor.failure.stage == "box-1"


def test_trouble_of_the_launcher_ends_the_run_by_its_name() -> None:
    run = history(recover=5).running()
    assert run.happens(Trouble("disk full")) == tells("stop", *NAMES)
    assert run.supervisor.failure == Failure("launcher", 0, "disk full")
