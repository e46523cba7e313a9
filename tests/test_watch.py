"""The watch over a run's workers, tested with what they say and no process: who is blamed, and above all who is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network import make_plan

from launch import resolve
from launch.watch import JUMP_S, LOST_S, REPORTS, Verdict, Watch, longest_action_s, ordinal

PATIENCE = 10.0
ROUND = 0.2
NAMES = ["box-1", "box-2", "head"]


class Story:
    """A watch, the time, and what each worker has done so far; all that live report at each round."""

    def __init__(self, longest: dict[str, float] | None = None) -> None:
        self.watch = Watch(make_plan("article", boxes=2, batches=100), PATIENCE, longest)
        self.now = 1000.0
        self.bodies: dict[str, dict[str, Any]] = {
            name: {"batch": 7, "actions": 0, "sent": {}, "come": {}, "held": 0, "awaits": "", "awaits_from": ""}
            for name in NAMES
        }
        for name in NAMES:
            for other in NAMES:
                if {name, other} != {"box-1", "head"} and name != other:
                    self.bodies[name]["sent"][other] = 7
                    self.bodies[name]["come"][other] = 7
        self.quiet: set[str] = set()
        self.busy = set(NAMES)
        self.watch.begin(self.now)

    def waits(self, name: str, what: str, source: str) -> None:
        """Let a worker wait from now on."""
        self.busy.discard(name)
        self.bodies[name] |= {"awaits": f"{what} from {source}", "awaits_from": source}

    def rounds(self, count: int) -> Verdict | None:
        """Let so many rounds pass and return the first verdict."""
        for _ in range(count):
            self.now += ROUND
            for name in NAMES:
                if name in self.busy:
                    self.bodies[name]["actions"] += 1
                if name not in self.quiet:
                    self.watch.heard(name, "progress", self.bodies[name], self.now)
            if (verdict := self.watch.judge(self.now)) is not None:
                return verdict
        return None

    def seconds(self, seconds: float) -> Verdict | None:
        """Let a time pass."""
        return self.rounds(round(seconds / ROUND))


# Silent


def test_a_worker_that_says_nothing_for_as_long_as_patience_hangs_and_is_named_with_its_batch() -> None:
    story = Story()
    assert story.seconds(30) is None
    story.quiet = {"box-2"}
    assert story.seconds(PATIENCE - ROUND) is None
    verdict = story.rounds(2)
    assert verdict is not None
    assert (verdict.kind, verdict.stage, verdict.batch) == ("silent", "box-2", 7)
    assert verdict.text == "it has said nothing for 10.0 s (run.patience 10): it hangs"
    assert story.watch.waits(story.now)[1] == "box-2 has said nothing for 10.0 s; it had done 150 actions"
    assert story.seconds(60) is None, "one verdict is enough"


def test_of_several_that_are_silent_the_first_is_named_and_the_others_are_told() -> None:
    story = Story()
    story.quiet = {"head"}
    story.rounds(1)
    story.quiet = set(NAMES)
    verdict = story.watch.judge(story.now + 1)
    assert verdict is None
    for step in range(60):
        if verdict := story.watch.judge(story.now + 1 + step):
            break
    assert verdict is not None
    assert verdict.stage == "head"
    assert "nor have box-1, box-2" in verdict.text


def test_an_action_that_is_made_to_take_long_may_take_so_long() -> None:
    story = Story({"box-2": 5.0})
    story.quiet = {"box-2"}
    assert story.seconds(PATIENCE + 5.0 - ROUND) is None
    verdict = story.rounds(2)
    assert verdict is not None
    assert (verdict.kind, verdict.stage) == ("silent", "box-2")


def test_who_is_done_may_be_silent() -> None:
    story = Story()
    story.watch.heard("head", "done", story.bodies["head"], story.now)
    story.quiet = {"head"}
    assert story.seconds(5 * PATIENCE) is None


def test_nobody_is_judged_before_go_nor_while_it_pauses() -> None:
    watch = Watch(make_plan("article", boxes=2, batches=4), PATIENCE)
    assert watch.judge(0.0) is None
    assert watch.judge(1e6) is None
    watch.begin(2e6)
    watch.pause()
    assert watch.judge(2e6 + 1) is None
    assert [watch.judge(2e6 + second) for second in range(100)] == [None] * 100


def test_a_new_beginning_forgets_what_was_before() -> None:
    story = Story()
    story.quiet = {"head"}
    assert story.seconds(PATIENCE - 1) is None
    story.watch.begin(story.now)
    assert story.seconds(PATIENCE - 1) is None


# The launcher's own clock


def test_a_launcher_that_did_not_run_gives_everybody_new_patience() -> None:
    story = Story()
    story.seconds(1)
    story.now += 3600.0  # it was stopped; what came meanwhile is heard only now, or not yet
    assert story.watch.judge(story.now) is None
    story.quiet = {"box-1"}
    assert story.seconds(PATIENCE - ROUND) is None
    verdict = story.rounds(2)
    assert verdict is not None
    assert verdict.stage == "box-1"


def test_a_message_is_not_called_lost_because_the_launcher_slept() -> None:
    story = dropped()
    story.rounds(2)
    story.now += JUMP_S + 1
    assert story.watch.judge(story.now) is None
    assert story.rounds(REPORTS - 1) is None
    assert story.seconds(5) is not None


# Lost


def dropped() -> Story:
    """Return a story in which box 1 has sent its 8th message to box 2, which waits for it."""
    story = Story()
    story.rounds(5)
    story.waits("box-2", "activation 7", "box-1")
    story.waits("head", "activation 7", "box-2")
    story.waits("box-1", "target 7", "box-2")
    story.bodies["box-1"]["sent"]["box-2"] = 8
    return story


def test_a_message_that_never_came_is_lost_and_its_edge_is_named_long_before_patience_ends() -> None:
    story = dropped()
    began = story.now
    verdict = story.seconds(3)
    assert verdict is not None
    assert LOST_S <= story.now - began <= LOST_S + 2 * ROUND
    assert (verdict.kind, verdict.stage) == ("lost", "box-2")
    assert verdict.text == (
        "a message from box-1 (the 8th on this edge; box-2 waits for activation 7 from box-1) was sent and never came: lost"
    )


def test_a_message_that_comes_late_is_not_lost() -> None:
    story = dropped()
    assert story.seconds(LOST_S) is None
    story.bodies["box-2"]["come"]["box-1"] = 8
    assert story.seconds(5) is None


def test_a_message_is_not_lost_while_its_receiver_works() -> None:
    story = Story()
    story.bodies["box-1"]["sent"]["box-2"] = 8
    assert story.seconds(60) is None


@pytest.mark.parametrize("quiet", ["box-1", "box-2"])
def test_a_message_is_not_lost_while_its_sender_or_its_receiver_is_stopped(quiet: str) -> None:
    """The kernel stops ZeroMQ's threads as well: what was sent last stays where it is."""
    story = dropped()
    story.rounds(1)
    story.quiet = {quiet}
    assert story.seconds(PATIENCE - 2 * ROUND) is None
    story.quiet = set()
    story.rounds(1)
    story.bodies["box-2"]["come"]["box-1"] = 8
    assert story.seconds(PATIENCE / 2) is None


def test_what_a_worker_sent_last_before_it_was_done_can_be_lost_too() -> None:
    story = dropped()
    story.watch.heard("box-1", "done", story.bodies["box-1"], story.now)
    story.quiet = {"box-1"}
    verdict = story.seconds(3)
    assert verdict is not None
    assert (verdict.kind, verdict.stage) == ("lost", "box-2")


def test_a_message_that_is_held_back_until_its_emulated_arrival_has_come() -> None:
    story = dropped()
    story.bodies["box-2"]["come"]["box-1"] = 8
    story.bodies["box-2"]["held"] = 1
    assert story.seconds(10 * PATIENCE) is None


# Standstill


def test_when_nobody_does_anything_though_all_report_it_is_told_who_waits_for_whom() -> None:
    story = dropped()
    story.bodies["box-2"]["come"]["box-1"] = 8
    verdict = story.seconds(PATIENCE + 1)
    assert verdict is not None
    assert verdict.kind == "standstill"
    for name, what in (
        ("box-1", "target 7 from box-2"),
        ("box-2", "activation 7 from box-1"),
        ("head", "activation 7 from box-2"),
    ):
        assert f"{name} waits for {what} after " in verdict.text


def test_while_one_goes_on_it_is_no_standstill() -> None:
    story = dropped()
    story.bodies["box-2"]["come"]["box-1"] = 8
    story.busy = {"head"}
    assert story.seconds(5 * PATIENCE) is None


# Nonsense


@pytest.mark.parametrize("value", [None, -1, 1.5, "many", [], {}, {"box-1": "x"}, {1: 2}, True])
@pytest.mark.parametrize("key", ["batch", "actions", "sent", "come", "held", "awaits", "awaits_from"])
def test_nonsense_is_passed_over(key: str, value: object) -> None:
    story = Story()
    story.busy.discard("box-2")
    story.bodies["box-2"][key] = value
    assert story.seconds(PATIENCE / 2) is None
    story.watch.heard("a stranger", "progress", {}, story.now)
    story.watch.heard("box-1", "hello", {}, story.now)


# No false alarm


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_there_is_no_alarm_while_something_moves(data: st.DataObject) -> None:
    """Workers act, are in long actions, and send; messages take up to half of LOST_S, and reports come when they may."""
    watch = Watch(make_plan("article", boxes=2, batches=100), PATIENCE)
    now = 50.0
    watch.begin(now)
    actions = dict.fromkeys(NAMES, 0)
    busy_until = dict.fromkeys(NAMES, now)
    edges = [("box-1", "box-2"), ("box-2", "box-1"), ("box-2", "head"), ("head", "box-2")]
    sent: dict[tuple[str, str], list[float]] = {edge: [] for edge in edges}  # when each message comes
    taken = dict.fromkeys(edges, 0)
    moved = now
    for _ in range(data.draw(st.integers(10, 120))):
        now += data.draw(st.floats(0.05, 0.5))
        for name in NAMES:
            if busy_until[name] > now:
                continue  # in the midst of an action, and silent
            may_act = data.draw(st.booleans()) or now - moved > PATIENCE / 2
            for edge in edges:
                if edge[1] == name:
                    taken[edge] = sum(arrival <= now for arrival in sent[edge])
            if may_act:
                actions[name] += 1
                moved = now
                busy_until[name] = now + data.draw(st.floats(0.0, PATIENCE * 0.7))
                for edge in edges:
                    if edge[0] == name and data.draw(st.booleans()):
                        sent[edge].append(now + data.draw(st.floats(0.0, LOST_S / 2)))
            body = {
                "batch": actions[name],
                "actions": actions[name],
                "sent": {edge[1]: len(sent[edge]) for edge in edges if edge[0] == name},
                "come": {edge[0]: taken[edge] for edge in edges if edge[1] == name},
                "held": 0,
                "awaits": "" if may_act else "something",
                "awaits_from": "",
            }
            watch.heard(name, "progress", body, now)
        assert watch.judge(now) is None


# What emulation may make it wait


def test_the_longest_action_follows_from_what_is_emulated() -> None:
    def longest(stage: str, **flags: Any) -> float:
        return longest_action_s(
            resolve("article", flags={f"emulate.{key}": value for key, value in flags.items()}), stage
        )

    assert longest("box-1") == 0.0
    assert longest("box-1", compute_ms=500.0) == 1.0
    assert longest("box-1", compute_ms={"F": 20.0, "B": 40.0}) == 0.08
    assert longest("box-2", slow={"box-2": 100.0}, compute_ms=500.0) == pytest.approx(1.1)
    assert longest("box-2", straggle=0.1, factor=4.0, compute_ms=500.0) == 4.0


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (8, "8th"), (11, "11th"), (13, "13th"), (21, "21st"), (111, "111th")],
)
def test_ordinals(number: int, text: str) -> None:
    assert ordinal(number) == text
