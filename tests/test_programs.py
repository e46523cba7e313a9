"""Programs as data: text and its inverse, golden files, what a text may not be."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from network import Network, check_history, make_plan, random_plan, run_hostile, telling

from launch.cli import main
from pipeline.actions import Action, format_journal
from pipeline.errors import ScheduleError
from pipeline.grid import of_program
from pipeline.plan import Plan
from pipeline.programs import PROGRAMS, Pattern, learning_rule, parse, program, render, unroll, widest

GOLDEN = Path(__file__).parent / "golden"
KINDS = {
    "article": make_plan("article", boxes=3, batches=4),
    "locked": make_plan("locked", boxes=3, batches=4),
    "gpipe": make_plan("gpipe", boxes=3, batches=8, micro=4, tied=False),
    "gpipe-tied": make_plan("gpipe", boxes=3, batches=8, micro=4),
    "1f1b": make_plan("1f1b", boxes=3, batches=8, tied=False, weights="stash"),
    "1f1b-flush": make_plan("1f1b", boxes=3, batches=8, micro=4, tied=False),
    "delayed": make_plan("delayed", boxes=3, batches=6, delay=2, tied=False, weights="stash"),
}


def patterns(plan: Plan) -> dict[str, Pattern]:
    """Return every stage's program."""
    return {plan.name(k): PROGRAMS[plan.schedule](plan, k) for k in range(1, plan.head + 1)}


@pytest.mark.parametrize("name", KINDS)
def test_each_schedule_is_the_one_in_its_golden_file(name: str) -> None:
    """To change a schedule on purpose, change its file in the same commit."""
    plan = KINDS[name]
    assert (
        f"{render(patterns(plan))}\n{of_program(plan, plan.batches).draw(99, letters=999)}\n"
        == (GOLDEN / f"{name}.txt").read_text()
    )


@pytest.mark.parametrize("name", KINDS)
def test_text_and_program_are_inverse_to_each_other(name: str) -> None:
    found = patterns(KINDS[name])
    assert parse(render(found), 3) == found


@pytest.mark.parametrize("name", KINDS)
def test_a_schedule_loaded_from_its_text_does_the_same(name: str) -> None:
    plan = KINDS[name]
    own = plan._replace(schedule="own", program=render(patterns(plan)))
    for k in range(1, plan.head + 1):
        assert list(program(own, k)) == list(program(plan, k))
    network = Network(own)
    run_hostile(network, seed=1)
    check_history(network)


def test_a_program_has_every_action_once_whatever_the_plan() -> None:
    for seed in range(200):
        rng = random.Random(f"programs {seed}")
        plan = random_plan(rng, rng.choice(("article", "locked", "gpipe", "1f1b", "delayed")), 0)
        with telling(seed=seed, plan=plan):
            network = Network(plan)
            run_hostile(network, seed)
            check_history(network)


def test_a_part_that_repeats_goes_on_until_the_batches_end() -> None:
    pattern = parse("box-1: F0 F1 F2 | B0 F3\nbox-2: F0 | B0 F1\nhead: F0", 2)["box-1"]
    assert format_journal(unroll(pattern, 0, 5, 1)) == "F0 F1 F2 B0 F3 B1 F4 B2 B3 B4"
    assert format_journal(unroll(pattern, 5, 2, 1)) == "F5 F6 B5 B6"


def test_steps_are_counted_by_batches_and_all_else_by_micro_batches() -> None:
    pattern = parse("box-1: F0 F1 B0 B1 U0\nhead: F0", 1)["box-1"]
    assert format_journal(unroll(pattern, 4, 4, 2)) == "F4 F5 B4 B5 U2 F6 F7 B6 B7 U3"


def test_a_bar_at_the_end_says_that_nothing_repeats() -> None:
    pattern = parse("box-1: F0 B0 F1 B1 |\nhead: F0", 1)["box-1"]
    assert pattern.again == ()
    assert format_journal(unroll(pattern, 0, 9, 1)) == "F0 B0 F1 B1"


def test_the_short_form_of_journals_is_read_beyond_the_bar() -> None:
    assert parse("box-1: F0 F F | B0 F\nhead: F", 1)["box-1"] == parse("box-1: F0 F1 F2 | B0 F3\nhead: F0", 1)["box-1"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("box-1: F0 B0", "no program for head"),
        ("box-1: F0 B0\nbox-1: F0 B0\nhead: F0", "line 2: box-1 has a program already"),
        ("box-1: F0 B0\nbox-2: F0\nhead: F0", "line 2: there is no box-2; the stages are box-1, head"),
        ("box-1: F0 B0\nhead F0", "line 2: 'head F0' is no program"),
        ("box-1: F0 X0\nhead: F0", "line 1, box-1: 'X0' is no action"),
        ("box-1: F0 | F1 | B0\nhead: F0", "line 1, box-1: one bar at most"),
        ("box-1: F0 | B0\nhead: F0", "line 1, box-1: what is repeated needs a forward"),
        ("box-1:\nhead: F0", "line 1, box-1: what is repeated needs a forward"),
        ("box-1: F0 E0\nhead: F0", "evaluations stand in no program"),
    ],
)
def test_a_text_that_is_no_program_is_refused_with_its_line(text: str, why: str) -> None:
    with pytest.raises(ScheduleError, match=why):
        parse(text, 1)


def test_all_boxes_learn_by_one_rule() -> None:
    assert learning_rule(parse("box-1: F0 T0\nbox-2: F0 T0\nhead: F0", 2)) == "synthetic"
    assert learning_rule(parse("box-1: F0\nbox-2: F0\nhead: F0", 2)) == "frozen"
    with pytest.raises(ScheduleError, match="box-1 has T in its line, box-2 has B"):
        learning_rule(parse("box-1: F0 T0\nbox-2: F0 B0\nhead: F0", 2))
    with pytest.raises(ScheduleError, match="T and B in one program"):
        learning_rule(parse("box-1: F0 T0 B0\nhead: F0", 1))


def test_the_widest_moment_of_a_program_is_its_window() -> None:
    plan = KINDS["1f1b"]
    assert [widest(program(plan, k), "B", 1) for k in (1, 2, 3)] == [4, 3, 2]
    plan = KINDS["gpipe"]
    assert widest(program(plan, 1), "U", 4) == 4
    assert widest([Action("F", 0), Action("F", 1), Action("U", 0, 2)], "U", 1) == 2


def test_what_a_text_needs_besides_itself_stands_above_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The command that is printed with a schedule runs that schedule, weights and micro-batches too."""
    for flags in (
        ["--schedule.kind", "1f1b", "--schedule.weights", "latest", "--model.tied", "false", "--model.boxes", "3"],
        ["--schedule.kind", "gpipe", "--data.batch", "10", "--model.tied", "false"],
        ["--schedule.kind", "locked"],
        ["--schedule.kind", "article"],
    ):
        assert main(["schedule", *flags]) == 0
        text = capsys.readouterr().out
        (tmp_path / "mine.txt").write_text(text)
        command = next(line for line in text.splitlines() if "timebox run" in line)
        words = command.partition("timebox run ")[2].replace("FILE", str(tmp_path / "mine.txt")).split()
        assert main(["schedule", *words]) == 0
        again = capsys.readouterr().out
        assert again.splitlines()[2:] == text.splitlines()[2:]
        assert json_of(capsys, words)["weights"] == json_of(capsys, flags)["weights"]


def json_of(capsys: pytest.CaptureFixture[str], flags: list[str]) -> dict[str, object]:
    """Return the document of a schedule."""
    assert main(["schedule", "--json", *flags]) == 0
    return dict(json.loads(capsys.readouterr().out))
