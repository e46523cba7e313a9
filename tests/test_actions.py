"""Actions, journals, stages and messages: each has a text form, and the inverse takes that form and no other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.actions import (
    KINDS,
    Action,
    Message,
    format_journal,
    parse_action,
    parse_journal,
    parse_message,
    shorten_journal,
    stage_name,
    stage_number,
)
from pipeline.errors import ScheduleError, WireError

BATCHES = st.integers(0, 2**62)
SINGLE = st.builds(Action, st.sampled_from("FBTE"), BATCHES, st.just(0))
ACTIONS = SINGLE | st.builds(Action, st.just("U"), BATCHES, st.integers(0, 10_000))


@st.composite
def messages(draw: st.DrawFn) -> tuple[Message, int]:
    boxes = draw(st.integers(1, 10_000))
    stage = st.integers(1, boxes + 1)
    return Message(draw(st.sampled_from(KINDS)), draw(BATCHES), draw(stage), draw(stage)), boxes


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (Action("F", 3), "F3"),
        (Action("B", 0), "B0"),
        (Action("T", 12), "T12"),
        (Action("E", 3), "E3"),
        (Action("U", 3, 1), "U1.3"),
        (Action("U", 3), "U3"),
        (Action("U", 0, 10), "U10.0"),
    ],
)
def test_an_action_reads_as_the_design_writes_it(action: Action, text: str) -> None:
    assert str(action) == text
    assert parse_action(text) == action


@settings(max_examples=25, deadline=None)
@given(ACTIONS)
def test_an_actions_text_has_an_inverse(action: Action) -> None:
    assert parse_action(str(action)) == action


@settings(max_examples=25, deadline=None)
@given(st.lists(ACTIONS))
def test_a_journals_text_has_an_inverse(actions: list[Action]) -> None:
    assert parse_journal(format_journal(actions)) == actions


def test_a_journal_may_be_broken_into_lines() -> None:
    assert format_journal(parse_journal(" F0 T0\nU2.0\tF1\n")) == "F0 T0 U2.0 F1"


@pytest.mark.parametrize(
    ("whole", "short"),
    [
        ("F0 T0 F1 T1", "F0 T0 F T"),
        ("F0 F1 F3 F4 F2", "F0 F F3 F F2"),
        ("U2.0 U3.0 U2.1 U0 U1 U3.1", "U2.0 U3.0 U2. U0 U U3."),
        ("E7 E8", "E7 E"),
        ("F5 F5", "F5 F5"),
        ("", ""),
    ],
)
def test_an_action_that_follows_the_last_of_its_kind_goes_without_its_batch(whole: str, short: str) -> None:
    assert shorten_journal(parse_journal(whole), {}) == short
    assert format_journal(parse_journal(short)) == whole


def test_a_journal_may_begin_without_a_batch() -> None:
    assert format_journal(parse_journal("F T U2. F U2. E")) == "F0 T0 U2.0 F1 U2.1 E0"


def test_each_line_of_a_journal_tells_its_batches_anew() -> None:
    last: dict[tuple[str, int], int] = {}
    assert shorten_journal(parse_journal("F0 F1 T0"), last) == "F0 F T0"
    assert shorten_journal(parse_journal("F2 T1 F3 U2.0"), last) == "F2 T1 F U2.0"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(ACTIONS | st.sampled_from([Action("F", 1), Action("F", 2), Action("U", 1, 1)]))))
def test_a_short_journal_has_an_inverse_from_any_of_its_lines_on(lots: list[list[Action]]) -> None:
    last: dict[tuple[str, int], int] = {}
    lines = [shorten_journal(lot, last) for lot in lots]
    for start in range(len(lines)):
        assert parse_journal("\n".join(lines[start:])) == [action for lot in lots[start:] for action in lot]


@pytest.mark.parametrize("word", ["U0.", "U.", "U2.3.", "U02.", "FF", "f", "F.", "G", "-"])
def test_a_word_that_is_short_for_nothing_spoils_a_journal(word: str) -> None:
    with pytest.raises(ScheduleError, match="is no action"):
        parse_journal(f"F0 {word}")


@settings(max_examples=25, deadline=None)
@given(st.text("FU012.", max_size=5))
def test_a_text_that_is_taken_is_the_actions_own(text: str) -> None:
    try:
        action = parse_action(text)
    except ScheduleError:
        return
    assert str(action) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "F", "3", "f3", "X3", "F-1", "F3.1", "T1.3", "U", "U1.", "U.3", "U1.2.3", "U-1.3", "U0.3", "F03", "U1.03",
        "F 3", "F3 ", " F3", "F3\n", "F3F4", "F٣", "F1e3", "F1_0",
    ],
)  # fmt: skip
def test_a_text_that_names_no_action_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError) as error:
        parse_action(text)
    assert str(error.value).startswith(f"{text!r} is no action")
    assert "U1.3" in str(error.value)


def test_a_batch_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(ScheduleError, match="is no action"):
        parse_action("F" + "9" * 5_000)


def test_one_bad_word_spoils_a_journal() -> None:
    with pytest.raises(ScheduleError, match="'G1' is no action"):
        parse_journal("F0 G1 F2")


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 10_000).flatmap(lambda boxes: st.tuples(st.integers(1, boxes + 1), st.just(boxes))))
def test_a_stages_name_has_an_inverse(stage: tuple[int, int]) -> None:
    number, boxes = stage
    assert stage_number(stage_name(number, boxes), boxes) == number


def test_the_last_stage_is_the_head() -> None:
    assert [stage_name(k, 2) for k in (1, 2, 3)] == ["box-1", "box-2", "head"]


@pytest.mark.parametrize(
    "name", ["", "box-0", "box-3", "box--1", "box-", "box", "Head", "head ", "box-01", "box-1\n", "box-٢", "launcher"]
)
def test_a_name_of_no_stage_is_refused(name: str) -> None:
    with pytest.raises(WireError, match="stages are box-1 … box-2 and head"):
        stage_number(name, 2)


@settings(max_examples=25, deadline=None)
@given(messages())
def test_a_messages_text_has_an_inverse(case: tuple[Message, int]) -> None:
    message, boxes = case
    assert parse_message(message.text(boxes), boxes) == message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Message("activation", 3, 1, 2), "activation 3 box-1>box-2"),
        (Message("gradient", 3, 3, 2), "gradient 3 head>box-2"),
        (Message("credit:activation", 6, 2, 1), "credit:activation 6 box-2>box-1"),
    ],
)
def test_a_message_reads_as_the_design_writes_it(message: Message, text: str) -> None:
    assert message.text(2) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "activation", "activation 3", "act 3 box-1>box-2", "ACTIVATION 3 box-1>box-2", "activation -1 box-1>box-2",
        "activation x box-1>box-2", "activation 3 box-1", "activation 3 box-1>", "activation 3 >box-2",
        "activation 3 box-1>box-3", "activation 3 box-0>box-1", "activation 3 box-1>box-2>head",
        "activation  3 box-1>box-2", "activation 3 box-1>box-2\n", "activation 3 box-1 > box-2", "credit 3 box-1>box-2",
        "activation 03 box-1>box-2", "activation ٣ box-1>box-2",
    ],
)  # fmt: skip
def test_a_text_that_names_no_message_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        parse_message(text, 2)
