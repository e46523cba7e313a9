"""Staircases, and the rehearsal of a user's schedule: the wrong cell is marked, and said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from network import make_plan

from launch.cli import main
from pipeline.errors import ConfigError
from pipeline.grid import of_program, rehearse
from pipeline.plan import Plan


def own(text: str, batches: int = 4, boxes: int = 2, micro: int = 1, window: int = 9) -> Plan:
    """Return a plan whose schedule is a text, by which boxes learn from the true gradient."""
    plan = make_plan("own", boxes=boxes, batches=batches, tied=False, rule="backward", program=text, micro=micro)
    return plan._replace(window=window)


def test_a_staircase_is_as_drawn() -> None:
    plan = make_plan("1f1b", boxes=2, batches=4, tied=False)
    drawn = of_program(plan, 4).draw(9)
    assert drawn.splitlines() == [
        "  box-1    F0 F1 F2    B0 F3 B1    B2 …",
        "  box-2       F0 F1 B0 F2 B1 F3 B2 B3 …",
        "  head           F0 F1    F2    F3 …",
    ]


def test_idle_times_are_those_of_the_closed_form() -> None:
    """S stages and M micro-batches, as many units forward as backward: (S − 1) ÷ (M + S − 1) (Huang et al. 2019)."""
    for boxes, micro in ((2, 4), (4, 4), (4, 8)):
        plan = make_plan("gpipe", boxes=boxes, batches=micro, micro=micro, tied=False)
        cells = of_program(plan, micro).cells["box-1"]
        span = cells.index(f"B{micro - 1}") + 1
        busy = sum(cell.startswith(("F", "B")) for cell in cells)
        assert busy == 2 * micro
        assert busy / span == micro / (micro + boxes - 1)


@pytest.mark.parametrize(
    ("text", "why", "cell"),
    [
        ("box-1: F0 F1 B1 B0\nbox-2: F0 B0\nhead: F0", "box-1: B1 cannot stand here: B0 comes before B1", ">B1<"),
        ("box-1: F0 F1 B0\nbox-2: F0 B0\nhead: F0", "box-1: B1 is missing", ">B1?<"),
        ("box-1: F0 B0 B0\nbox-2: F0 B0\nhead: F0", "box-1: B0 is there more than once", ">B0<"),
        ("box-1: F0 B0\nbox-2: F0 B0\nhead: F0 F0 F1", "head: F0 is there more than once", ">F0<"),
        ("box-1: B0 F0\nbox-2: F0 B0\nhead: F0", "box-1: B0 cannot stand here: F0 comes before B0", ">B0<"),
        ("box-1: F0 B0 U0\nbox-2: F0 B0\nhead: F0", "box-1: U0 cannot stand here: this stage makes no step", ">U0<"),
        ("box-1: F0 B0\nbox-2: F0 B0\nhead: F0 B0", "head: B0 cannot stand here: nothing comes back", ">B0<"),
        ("box-1: F0 B0 |\nbox-2: F0 B0\nhead: F0", "box-1: F1 is missing", ">F1?<"),
        (
            "box-1: F0 B0\nbox-2: F0 F1 B0 B1\nhead: F0",
            "no stage can go on: box-1 cannot do B0, waiting: gradient 0 from box-2; "
            "box-2 cannot do F1, waiting: activation 1 from box-1",
            ">B0<",
        ),
    ],
)
def test_an_impossible_schedule_is_refused_with_its_cell(text: str, why: str, cell: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rehearse(own(text), "mine.txt")
    assert str(caught.value).startswith("mine.txt: ")
    assert why in str(caught.value)
    stage = "head" if ": head:" in str(caught.value) else "box-1"
    assert [line.split()[0] for line in caught.value.drawing.splitlines() if cell in line] == [stage]


@pytest.mark.parametrize("batches", [1, 2, 3, 50, 1_001])
def test_a_schedule_that_gets_through_passes_whatever_the_number_of_batches(batches: int) -> None:
    rehearse(own("box-1: F0 F1 | B0 F2\nbox-2: F0 | B0 F1\nhead: F0", batches), "mine.txt")


def test_a_long_program_is_tried_where_it_is_wrong() -> None:
    text = "box-1: " + " ".join(f"F{i} B{i}" for i in range(40)) + "\nbox-2: F0 B0\nhead: F0"
    rehearse(own(text, 80), "mine.txt")
    with pytest.raises(ConfigError, match="B39 is there more than once"):
        rehearse(own(text.replace("B38", "B39"), 80), "mine.txt")


def test_the_command_line_draws_it_and_has_done_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("box-1: F0 F1 B1 B0\nbox-2: F0 B0\nhead: F0\n")
    flags = ["--schedule.file", str(file), "--model.tied", "false", "--run.dir", str(tmp_path / "runs")]
    assert main(["run", *flags]) == 2
    first, *rest = capsys.readouterr().err.strip().splitlines()
    assert first == f"timebox: {file}: box-1: B1 cannot stand here: B0 comes before B1"
    assert ">B1<" in "\n".join(rest)
    assert not (tmp_path / "runs").exists()
