"""Clocks of several hosts: the truth lies within the error that is stated, and one host's runs are what they were."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.clocks import BEST, NAME, WINDOWS, Clock, Line, Sample, read
from launch.pings import BURST, LATER_NS, SOON_NS, Pings

S, MS, US = 1_000_000_000, 1_000_000, 1_000
BEGIN = 7_000 * S  # the launcher's clock when a run begins


class Host(NamedTuple):
    """A host whose clock is ahead by an offset and drifts, as it really is."""

    offset_ns: int
    drift: float

    def mono(self, launcher_ns: int) -> int:
        """Return what its clock says at a moment of the launcher's."""
        return launcher_ns + self.offset_at(launcher_ns)

    def offset_at(self, launcher_ns: int) -> int:
        """Return how far it is ahead, in nanoseconds."""
        return self.offset_ns + round(self.drift * (launcher_ns - BEGIN))


def offset_by(line: Line, launcher_ns: float) -> float:
    """Return how far ahead a host is by what is known of it, at a moment of the launcher's clock, in nanoseconds."""
    return line.offset_ns + line.drift_ppb * 1e-9 * (launcher_ns - line.at_ns)


hosts = st.builds(Host, st.integers(-40 * 3600 * S, 40 * 3600 * S), st.floats(-5e-5, 5e-5))


def asked(
    host: Host, chance: random.Random, seconds: float, *, there_us: float, back_us: float, wrong: float = 0
) -> Clock:
    """Return a clock that was asked as `Pings` asks: jitter doubles delays, one in ten takes 10 ms more, some lie."""
    clock = Clock()
    times = [BEGIN + k * SOON_NS for k in range(BURST)] + [BEGIN + SOON_NS * BURST + k * S for k in range(int(seconds))]
    for place, sent in enumerate(times):
        there, back = (us * US * (1 + chance.expovariate(1)) for us in (there_us, back_us))
        there += 10 * MS * chance.random() * (chance.random() < 0.1)
        back += 10 * MS * chance.random() * (chance.random() < 0.1)
        stamp = host.mono(sent + round(there))
        if place % 20 == 5 and wrong:
            stamp += chance.choice((-1, 1)) * round(wrong * S)
        clock.add(Sample(sent, stamp, sent + round(there + back)))
    return clock


def checked(line: Line, host: Host, first: int, last: int) -> None:
    """Assert that the truth is within the error, all the time."""
    for k in range(21):
        at = first + (last - first) * k // 20
        assert abs(offset_by(line, at) - host.offset_at(at)) <= line.error_ns


@settings(max_examples=150, deadline=None)
@given(hosts, st.integers(0, 2**32), st.floats(0, 400), st.floats(1, 3000), st.floats(1, 3000))
def test_the_true_offset_lies_within_the_error(
    host: Host, seed: int, seconds: float, there_us: float, back_us: float
) -> None:
    clock = asked(host, random.Random(seed), seconds, there_us=there_us, back_us=back_us)
    last = BEGIN + SOON_NS * BURST + int(seconds) * S + S
    line = clock.line("b", last)
    checked(line, host, BEGIN, last)
    assert line.samples == BURST + int(seconds)
    if seconds > 60:
        assert line.error_ns <= (there_us + back_us) * US * 2, "about half of a round trip, or less"
        assert abs(line.drift_ppb - host.drift * 1e9) <= 4e9 * line.error_ns / (seconds * S) + 1


@settings(max_examples=60, deadline=None)
@given(hosts, st.integers(0, 2**32), st.floats(20, 400), st.floats(0.1, 3600))
def test_answers_that_cannot_be_right_are_left_out(host: Host, seed: int, seconds: float, wrong: float) -> None:
    clock = asked(host, random.Random(seed), seconds, there_us=100, back_us=300, wrong=wrong)
    last = BEGIN + SOON_NS * BURST + int(seconds) * S
    line = clock.line("b", last)
    checked(line, host, BEGIN, last)
    assert line.error_ns < 3 * MS, "a lie of 100 ms and more is not in it"


def test_one_answer_gives_half_of_its_round_trip() -> None:
    clock = Clock()
    clock.add(Sample(BEGIN, BEGIN + 3600 * S + 100 * US, BEGIN + 200 * US))
    line = clock.line("b")
    assert abs(line.offset_ns - 3600 * S) <= 1
    assert line.drift_ppb == 0
    assert 100 * US <= line.error_ns <= 101 * US


def test_a_clock_that_was_slewed_has_a_greater_error_and_not_a_wrong_one() -> None:
    bend = BEGIN + 100 * S

    def offset(at: int) -> int:
        return 5 * S + round(80e-6 * max(0, at - bend))

    clock = Clock()
    for k in range(200):
        sent = BEGIN + k * S
        clock.add(Sample(sent, sent + 50 * US + offset(sent + 50 * US), sent + 100 * US))
    line = clock.line("b")
    worst = max(abs(offset_by(line, BEGIN + k * S) - offset(BEGIN + k * S)) for k in range(200))
    assert 1 * MS < worst <= line.error_ns < 5 * MS


def test_a_clock_that_was_set_back_in_the_middle_is_not_hidden() -> None:
    clock = Clock()
    for k in range(60):
        sent = BEGIN + k * S
        clock.add(Sample(sent, sent + 50 * US - (k >= 30) * S, sent + 100 * US))
    assert clock.line("b").error_ns >= S / 2 - 10 * MS


def test_no_answer_is_no_line_and_one_before_its_question_none_at_all() -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="no sample"):
        clock.line("b")
    with pytest.raises(ValueError, match="before it was sent"):
        clock.add(Sample(2, 5, 1))


def test_a_clock_keeps_no_more_of_a_long_run_and_is_no_worse() -> None:
    host = Host(10**15, 3e-5)
    clock = asked(host, random.Random(1), 86_400, there_us=100, back_us=100)
    assert len(clock._windows) <= WINDOWS
    assert max(map(len, clock._windows.values())) <= BEST
    line = clock.line("b")
    checked(line, host, BEGIN, BEGIN + 86_400 * S)
    assert line.error_ns < 200 * US


# Whom to ask and when.


def ask(pings: Pings, agents: list[str], until_ns: int, hosts: dict[str, tuple[str, Host]]) -> list[tuple[int, str]]:
    """Let agents answer after 100 µs; return when who was asked, in nanoseconds since the begin."""
    found = []
    for now in range(BEGIN, BEGIN + until_ns, 10 * MS):
        for name, body in pings.due(agents, now):
            found.append((now - BEGIN, name))
            answer = {**body, "mono_ns": hosts[name][1].mono(now + 50 * US), "host": hosts[name][0]}
            assert pings.pong(name, answer, now + 100 * US)
    return found


def test_an_agent_gets_a_burst_at_first_and_then_a_ping_a_second() -> None:
    pings = Pings()
    times = [at for at, _ in ask(pings, ["a"], 4 * S, {"a": ("host-a", Host(0, 0))})]
    begin = [k * SOON_NS for k in range(BURST)]
    assert times == [*begin, *(begin[-1] + k * LATER_NS for k in range(1, 4))]


def test_agents_of_one_host_share_its_clock_and_the_launchers_own_has_none() -> None:
    pings, far = Pings("here"), Host(3600 * S, 1e-5)
    known = {"a": ("far", far), "b": ("far", far), "c": ("here", Host(0, 0))}
    ask(pings, ["a", "b", "c"], 3 * S, known)
    lines = pings.lines({"box-1": "a", "box-2": "b", "head": "c", "box-3": "nobody"}, BEGIN + 3 * S)
    assert set(lines) == {"box-1", "box-2"}
    assert lines["box-1"] == lines["box-2"]
    assert lines["box-1"].host == "far"
    assert lines["box-1"].samples == 2 * (BURST + 2)
    checked(lines["box-1"], far, BEGIN, BEGIN + 3 * S)


@pytest.mark.parametrize(
    "change",
    [{"n": 9}, {"n": "1"}, {"sent_ns": 5}, {"mono_ns": -1}, {"mono_ns": 2**70}, {"mono_ns": 1.5}, {"host": None}],
    ids=str,
)
def test_an_answer_that_makes_no_sense_is_not_taken(change: dict[str, object]) -> None:
    pings = Pings()
    [(name, body)] = pings.due(["a"], BEGIN)
    good = {**body, "mono_ns": 5, "host": "a"}
    assert not pings.pong(name, {**good, **change}, BEGIN + 1)
    assert not pings.pong("b", good, BEGIN + 1)
    assert not pings.pong(name, good, BEGIN - 1)
    assert pings.pong(name, good, BEGIN + 1)
    assert not pings.pong(name, good, BEGIN + 2), "an answer counts once"


def test_unanswered_pings_and_hosts_that_are_no_more_are_forgotten() -> None:
    pings = Pings()
    for k in range(1000):
        [(_, body)] = pings.due(["a"], BEGIN + k * S)
    assert len(pings._agents["a"].open) == 16
    for k in range(1000, 1100):
        [(_, body)] = pings.due(["a"], BEGIN + k * S)
        assert pings.pong("a", {**body, "mono_ns": 5, "host": f"host-{k}"}, BEGIN + k * S + 1)
    assert list(pings.clocks) == ["host-1099"]


def test_the_file_is_written_now_and_then_and_at_the_end_and_not_for_one_host(tmp_path: Path) -> None:
    pings, stages = Pings("here"), {"box-1": "a", "head": "c"}
    known = {"a": ("far", Host(3600 * S, 1e-5)), "c": ("here", Host(0, 0))}
    ask(pings, ["a", "c"], 2 * S, known)
    now = BEGIN + 2 * S
    assert not pings.save(tmp_path, {"head": "c"}, now, is_last=True)
    assert not (tmp_path / NAME).exists()
    times = [k for k in range(600) if pings.save(tmp_path, stages, now + k * S // 10)]
    assert times == [0, 5, 15, 35, 75, 155, 315, 475]
    assert pings.save(tmp_path, stages, now + 60 * S, is_last=True)
    assert read(tmp_path) == pings.lines(stages, now + 60 * S)
