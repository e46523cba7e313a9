"""Schedule pictures: the order of each stage's actions, drawn as text; and that a journal is a program."""

from __future__ import annotations

import itertools
import re

import pytest
from network import Network, check_history, make_plan, programs, run_hostile, run_prompt, schedules, telling, whims

import pipeline.schedules
from pipeline.actions import ACTIVATION, TARGET, Action, Message, format_journal, parse_journal
from pipeline.errors import ScheduleError
from pipeline.grid import of_program
from pipeline.plan import Plan
from pipeline.programs import program
from pipeline.schedules import Greedy, Program
from pipeline.stage import Stage

TWO_EPOCHS = {"batches": 4, "epoch_batches": 2}
PICTURES = {
    "article, two tied boxes": (
        make_plan("article", boxes=2, **TWO_EPOCHS),
        "F0 T0 U2.0 F1 T1 U2.1 E0 F2 T2 U2.2 F3 T3 U2.3 E1",
        "U1.0 F0 T0 U1.1 F1 T1 E0 U1.2 F2 T2 U1.3 F3 T3 E1",
        "F0 F1 E0 F2 F3 E1",
    ),
    "article, three tied boxes": (
        make_plan("article", boxes=3, batches=2),
        "F0 T0 U2.0 U3.0 F1 T1 U2.1 U3.1 E0",
        "U1.0 F0 T0 U3.0 U1.1 F1 T1 U3.1 E0",
        "U1.0 U2.0 F0 T0 U1.1 U2.1 F1 T1 E0",
        "F0 F1 E0",
    ),
    "article, two untied boxes": (
        make_plan("article", boxes=2, tied=False),
        "F0 T0 F1 T1 E0",
        "F0 T0 F1 T1 E0",
        "F0 F1 E0",
    ),
    "article, three tied boxes, true targets": (
        make_plan("article", boxes=3, target="true"),
        "F0 U2.0 U3.0 T0 F1 U2.1 U3.1 T1 E0",
        "U1.0 F0 U3.0 T0 U1.1 F1 U3.1 T1 E0",
        "U1.0 U2.0 F0 T0 U1.1 U2.1 F1 T1 E0",
        "F0 F1 E0",
    ),
    "article, two untied boxes, true targets": (
        make_plan("article", boxes=2, tied=False, target="true"),
        "F0 T0 F1 T1 E0",
        "F0 T0 F1 T1 E0",
        "F0 F1 E0",
    ),
    "article, two frozen boxes": (
        make_plan("article", boxes=2, rule="frozen"),
        "F0 F1 E0",
        "F0 F1 E0",
        "F0 F1 E0",
    ),
    "article, one box": (make_plan("article", boxes=1), "F0 T0 F1 T1 E0", "F0 F1 E0"),
    "article, one batch": (make_plan("article", boxes=2, batches=1), "F0 T0 U2.0 E0", "U1.0 F0 T0 E0", "F0 E0"),
    "locked, two tied boxes": (
        make_plan("locked", boxes=2, **TWO_EPOCHS),
        "F0 B0 U0 F1 B1 U1 E0 F2 B2 U2 F3 B3 U3 E1",
        "F0 B0 U0 F1 B1 U1 E0 F2 B2 U2 F3 B3 U3 E1",
        "F0 F1 E0 F2 F3 E1",
    ),
    "locked, two untied boxes": (
        make_plan("locked", boxes=2, tied=False),
        "F0 B0 F1 B1 E0",
        "F0 B0 F1 B1 E0",
        "F0 F1 E0",
    ),
    "locked, one tied box": (make_plan("locked", boxes=1), "F0 B0 U0 F1 B1 U1 E0", "F0 F1 E0"),
    "locked, two frozen boxes": (make_plan("locked", boxes=2, rule="frozen"), "F0 F1 E0", "F0 F1 E0", "F0 F1 E0"),
    "evaluation every second epoch, and after the last": (
        make_plan("article", boxes=1, batches=3, epoch_batches=1, evaluate_every=2),
        "F0 T0 F1 T1 E0 F2 T2 E1",
        "F0 F1 E0 F2 E1",
    ),
    "evaluation at the end alone": (
        make_plan("article", boxes=1, batches=3, epoch_batches=1, evaluate_every=0),
        "F0 T0 F1 T1 F2 T2 E0",
        "F0 F1 F2 E0",
    ),
    "evaluation in three chunks": (
        make_plan("locked", boxes=1, batches=2, epoch_batches=1, chunks=3, tied=False),
        "F0 B0 E0 E1 E2 F1 B1 E3 E4 E5",
        "F0 E0 E1 E2 F1 E3 E4 E5",
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_program_is_as_drawn(name: str) -> None:
    plan, *drawn = PICTURES[name]
    assert len(drawn) == plan.head
    assert [format_journal(program(plan, number)) for number in range(1, plan.head + 1)] == drawn


@pytest.mark.parametrize("name", PICTURES)
def test_a_run_does_what_its_program_says(name: str) -> None:
    plan, *drawn = PICTURES[name]
    network = Network(plan)
    run_hostile(network, seed=3)
    check_history(network)
    assert [format_journal(journal) for journal in network.journals.values()] == drawn


def test_decoupled_settles_before_it_takes_on_more() -> None:
    """Gradients first, then increments, then forward: a picture for messages that all come at once, window 2."""
    network = Network(make_plan("decoupled", boxes=2, batches=3, window=2))
    run_prompt(network)
    assert [network.journal(name) for name in ("box-1", "box-2", "head")] == [
        "F0 F1 T0 U2.0 T1 U2.1 F2 T2 U2.2 E0",
        "U1.0 U1.1 F0 T0 F1 T1 U1.2 F2 T2 E0",
        "F0 F1 F2 E0",
    ]


def test_greedy_prefers_t_to_u_to_f() -> None:
    stage = Stage(make_plan("decoupled", boxes=2, batches=5, window=3), 1)
    stage.start(Action("F", 0))
    stage.finish(Action("F", 0))
    assert Greedy().choose(stage) == Action("F", 1)
    stage.receive(Message("increment", 0, 2, 1))
    assert Greedy().choose(stage) == Action("U", 0, 2)
    stage.receive(Message(TARGET, 0, 2, 1))
    assert Greedy().choose(stage) == Action("T", 0)


def combinations(boxes: int) -> list[Plan]:
    """Return every plan of a program with so many boxes: schedules, rules, targets, tied or not, rounds, batches."""
    found = []
    rules = [("article", "synthetic"), ("article", "frozen"), ("locked", "backward"), ("locked", "frozen")]
    counts = itertools.product(rules, (True, False), ("bootstrapped", "true"), (0, 1, 2), (1, 2, 5))
    for (schedule, rule), tied, target, every, batches in counts:
        if rule != "synthetic" and target == "true":
            continue  # nothing but oracles has a target
        plan = make_plan(schedule, boxes=boxes, batches=batches, epoch_batches=1, rule=rule, tied=tied, target=target)
        found.append(plan._replace(evaluate_every=every))
    return found


@pytest.mark.parametrize("boxes", [1, 2, 3, 4, 7])
def test_programs_complete_with_any_number_of_boxes_and_batches(boxes: int) -> None:
    """Fewer batches than stages too."""
    for plan in combinations(boxes):
        with telling(plan=plan):
            network = Network(plan)
            run_prompt(network)
            check_history(network)


@pytest.mark.parametrize("schedule", ["article", "locked", "decoupled"])
def test_a_journal_is_a_program(schedule: str) -> None:
    for seed in range(10):
        plan = make_plan(schedule, boxes=3, batches=4, epoch_batches=2, window=2 if schedule == "decoupled" else 0)
        network = Network(plan, schedules=whims(plan, seed))
        run_hostile(network, seed)
        texts = {k: format_journal(journal) for k, journal in network.journals.items()}
        again = Network(plan, schedules=programs({k: parse_journal(text) for k, text in texts.items()}))
        with telling(seed=seed):
            run_hostile(again, seed + 1000)
            assert {k: format_journal(journal) for k, journal in again.journals.items()} == texts


def test_a_program_waits_for_its_next_action_and_takes_no_other() -> None:
    stage = Stage(make_plan("decoupled", boxes=2, batches=3), 1)
    program = Program(parse_journal("T0 F0"))
    assert list(stage.enabled()) == [Action("F", 0)]
    assert program.choose(stage) is None
    assert program.choose(stage) is None


def test_a_program_that_is_too_short_tells_the_story() -> None:
    plan = make_plan("article", boxes=2, batches=2)
    network = Network(plan, schedules=schedules(plan) | {1: Program(parse_journal("F0 T0"))})
    with pytest.raises(ScheduleError) as caught:
        run_prompt(network)
    assert str(caught.value).startswith("box-1: the program has ended, the run has not; did F0 T0; waiting: ")


def test_a_program_of_another_run_never_completes() -> None:
    """A wrong program is slow, here for ever; it computes no nonsense, and the story says who waits for whom."""
    plan = make_plan("article", boxes=2, batches=2)
    order = parse_journal("U2.0 F0 T0 F1 T1 U2.1 E0")
    network = Network(plan, schedules=schedules(plan) | {1: Program(order)})
    with pytest.raises(AssertionError, match=r"deadlock\nbox-1: did nothing; waiting: .*increment 0 from box-2"):
        run_prompt(network)
    assert network.journals == {1: [], 2: [], 3: []}


@pytest.mark.parametrize("schedule", ["article", "locked"])
def test_a_program_has_one_batch_in_flight(schedule: str) -> None:
    """Box 1's F of batch i + 1 is not enabled before its batch i is settled, whatever has come."""
    plan = make_plan(schedule, boxes=1, batches=3)
    stage = Stage(plan, 1)
    stage.start(Action("F", 0))
    assert stage.finish(Action("F", 0)) == [Message(ACTIVATION, 0, 1, 2)]
    assert stage.refusal(Action("F", 1)) == "the window of 1 is full; waiting: gradient 0 from head"


@pytest.mark.parametrize(
    ("title", "plan"),
    [
        ("article, two tied boxes", make_plan("article", boxes=2, batches=2)),
        ("locked, two tied boxes", make_plan("locked", boxes=2, batches=2)),
        ("gpipe, three untied", make_plan("gpipe", boxes=3, batches=8, micro=4, tied=False)),
        ("1f1b, three untied", make_plan("1f1b", boxes=3, batches=20, tied=False)),
        ("1f1b with four micro-batches", make_plan("1f1b", boxes=3, batches=8, micro=4, tied=False)),
        ("delayed, three untied", make_plan("delayed", boxes=3, batches=20, delay=2, tied=False)),
    ],
)
def test_the_staircases_in_the_docstring_are_what_stages_do(title: str, plan: Plan) -> None:
    """As far as they are drawn: a row is the beginning of what the grid has."""
    _, _, rest = str(pipeline.schedules.__doc__).partition(f"\n{title}")
    lines = [line for line in rest.splitlines() if re.match(r"    (box-\d|head) ", line)][: plan.head]
    cells = of_program(plan, plan.batches).cells
    width = 5 if plan.shares_increments and plan.schedule == "article" else 3
    assert len(lines) == plan.head
    for line in lines:
        name, row = line.split()[0], line[12:]
        expected = "".join(f"{cell:<{width}}" for cell in cells[name]).rstrip()
        assert row, "something is drawn"
        assert expected.startswith(row), (expected, row)
