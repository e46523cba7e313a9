"""Sweeps: what a file means and what it is refused for, the order of runs, rows that outlive a kill, and real tiny ones."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pages
import pytest

from launch import spread, sweep, sweep_plot, sweep_points, sweep_text
from launch.cli import main
from launch.environment import collect
from launch.live import Result
from launch.spawn import Observer
from pipeline.config import resolve
from pipeline.errors import ConfigError, RunError
from pipeline.schema import Config

#: Four points: locked and decoupled, narrow and wide.
FOUR = """
[grid]
"schedule.kind" = ["locked", "decoupled"]
"model.width" = [8, 16]
"""
#: As many repeats as an interval needs.
ENOUGH = f"repeats = {spread.LEAST}\n"
#: Keys of a run that takes no time.
SMALL = {"data.train": 40, "train.epochs": 1, "model.width": 8}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    """Return what writes a request and gives its path."""

    def of(text: str, name: str = "widths.toml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return of


class Machine:
    """A machine that runs nothing: it tells a rate by width and repeat, and fails or is interrupted where it is told to."""

    def __init__(self, *, fails: tuple[str, ...] = (), stops_at: int | None = None) -> None:
        self.labels: list[str] = []
        self.configs: list[Config] = []
        self._fails, self._stops_at = fails, stops_at

    def __call__(
        self, config: Config, mode: str, label: str, repeat: int, observe: Observer
    ) -> tuple[dict[str, Any], Path | None]:
        """Note the run and return its figures and its folder."""
        assert mode in sweep_points.MODES
        assert callable(observe)
        if len(self.labels) == self._stops_at:
            raise KeyboardInterrupt
        self.labels.append(label)
        self.configs.append(config)
        folder = Path(config.run.dir) / label
        folder.mkdir(parents=True)
        if label in self._fails:
            return {"run": label, "status": "failed", "error": 'box-1 said "no",\nand died'}, folder
        rate = 1000.0 / config.model.width * (2 if config.schedule.kind == "decoupled" else 1) + repeat
        figures = {"run": label, "status": "done", "batches": 50, "batches_per_s": rate, "makespan_s": 1.0}
        return figures | {"accuracy": 0.5 + config.train.seed / 100, "last_cost": float("nan"), "bubble": 0.25}, folder


def do(file: str, out: Path, machine: Machine | None = None, **options: Any) -> dict[str, Any]:
    """Do a sweep on a machine that runs nothing."""
    return sweep.sweep(sweep_points.read(file), out, quiet=True, measure=machine or Machine(), **options)


def table(out: Path) -> list[dict[str, str]]:
    """Return the rows of runs.csv."""
    with (out / "runs.csv").open(newline="") as stream:
        return list(csv.DictReader(stream, strict=True))


# What a file means


def test_the_grid_is_every_combination_with_the_first_key_slowest(write: Callable[[str], str]) -> None:
    found = sweep_points.read(write(FOUR))
    assert [tuple(point.values.values()) for point in found.points] == [
        ("locked", 8), ("locked", 16), ("decoupled", 8), ("decoupled", 16),
    ]  # fmt: skip
    assert [(point.config.schedule.kind, point.config.model.width) for point in found.points] == [
        tuple(point.values.values()) for point in found.points
    ]
    assert (found.name, found.repeats, found.warmup, found.numeric) == ("widths", 5, 1, "model.width")
    assert {point.mode for point in found.points} == {"run"}


@pytest.mark.parametrize(
    "text",
    [
        '[grid]\nschedule.kind = ["locked", "decoupled"]\nmodel.width = [8, 16]',
        '[grid.schedule]\nkind = ["locked", "decoupled"]\n[grid.model]\nwidth = [8, 16]',
    ],
    ids=["dotted", "tables"],
)
def test_nested_tables_say_the_same_as_dotted_keys(text: str, write: Callable[[str], str]) -> None:
    assert sweep_points.read(write(text)).points == sweep_points.read(write(FOUR)).points


def test_every_run_has_what_set_says_over_the_preset_or_the_file(write: Callable[[str], str], tmp_path: Path) -> None:
    body = '[set]\n"train.epochs" = 4\n[grid]\nmodel.width = [8]\n'
    assert sweep_points.read(write('preset = "digits"\n' + body)).points[0].config == resolve(
        "digits", flags={"train.epochs": 4, "model.width": 8}
    )
    (tmp_path / "some.toml").write_text('[oracle]\nkind = "frozen"\n[train]\nepochs = 9\n')
    assert sweep_points.read(write('config = "some.toml"\n' + body)).points[0].config == resolve(
        None, tmp_path / "some.toml", {"train.epochs": 4, "model.width": 8}
    )


def test_points_besides_the_grid_have_their_own_keys_and_mode(write: Callable[[str], str]) -> None:
    also = '[[also]]\nmode = "reference"\n"schedule.kind" = "locked"\n[[also]]\n"oracle.kind" = "frozen"\n'
    found = sweep_points.read(write(FOUR + also))
    assert found.varied == ("schedule.kind", "model.width", "oracle.kind")
    assert (found.points[4].mode, found.points[4].values) == (
        "reference",
        {"schedule.kind": "locked", "model.width": 784, "oracle.kind": "linear"},
    )
    assert found.points[5].values["oracle.kind"] == "frozen"


def test_a_file_of_ones_own_is_looked_for_beside_the_sweep(write: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Cell:\n    gates = 2\n")
    found = sweep_points.read(write('set."model.file" = "mine.py"\n[grid]\n"model.width" = [8]'))
    assert found.points[0].config.model.file == str(tmp_path / "mine.py")


def test_a_table_that_is_a_value_stays_one(write: Callable[[str], str]) -> None:
    found = sweep_points.read(write('[grid]\n"emulate.slow" = [{}, {"box-1" = 2.0, head = 1.0}]'))
    assert [point.values["emulate.slow"] for point in found.points] == [{}, {"box-1": 2.0, "head": 1.0}]
    assert sweep_text.value(found.points[1].values["emulate.slow"]) == "box-1=2.0,head=1.0"


def test_points_are_held_against_the_first_or_against_their_like(write: Callable[[str], str]) -> None:
    also = '[[also]]\nmode = "reference"\n"schedule.kind" = "locked"\n"model.width" = 16\n[[also]]\n"model.width" = 9\n'
    assert [point.against for point in sweep_points.read(write(FOUR + also)).points] == [1] * 6
    beside = 'beside = "schedule.kind"\n'
    assert [point.against for point in sweep_points.read(write(beside + FOUR + also)).points] == [1, 2, 1, 2, 2, None]


@pytest.mark.parametrize("name", ["boxes", "decoupling", "decoupling-latency", "depth", "observer", "staleness"])
def test_a_packaged_sweep_is_one(name: str) -> None:
    assert name in sweep_points.named()
    found = sweep_points.read(name)
    assert found.name == name
    assert found.numeric, "there is something to draw along"
    assert found.repeats >= spread.LEAST, "with intervals"


REFUSED = [
    ('[grid]\n"model.widht" = [1]', "[grid] model.widht: unknown key; did you mean model.width?"),
    ("[grid]\nwidth = [1]", "[grid] width: unknown key"),
    ("[girds]\nmodel.width = [1]", "girds: unknown key; did you mean grid?"),
    ("[grid]\nmodel.width = []", "[grid] model.width: a list of at least one value is wanted, not []"),
    ("[grid]\nmodel.width = 8", "[grid] model.width: a list of at least one value is wanted, not 8"),
    ('[set]\n"model.boxs" = 2', "[set] model.boxs: unknown key; did you mean model.boxes?"),
    ('[set]\n"run.dir" = "x"', "[set] run.dir: the sweep says where its runs go; leave it out, and use --out"),
    ("[set]\nmodel.width = 8\n[grid]\nmodel.width = [8]", "model.width: is in [set] and in [grid]"),
    ('[grid]\n"model.width" = [8]\nmodel.width = [9]', "[grid] model.width: is there twice"),
    ("[grid]\nmodel.width = [8, 0]", "point 2 (model.width=0): model.width: expected int >= 1"),
    ('[grid]\nmodel.width = ["8"]', "point 1 (model.width=8): model.width: expected int, got str"),
    ("[grid]\nmodel.width = [8, 9, 8]", "points 1 and 3 are the same run (model.width=8); leave out one of them"),
    ("[[also]]\nmodel.width = 784", "points 1 and 2 are the same run"),
    ('[grid]\nschedule.kind = ["decoupled", "locked"]\nschedule.window = [2]', "point 2 (schedule.kind=locked"),
    ("repeats = 0", "repeats: expected int >= 1"),
    ("repeats = true", "repeats: expected int, got bool"),
    ("warmup = -1", "warmup: expected int >= 0"),
    ('mode = "walk"', "mode: invalid enum value 'walk'"),
    ('name = "../up"', "name: expected str matching regex"),
    ('preset = "nope"', "preset: 'nope' is unknown; presets are article, digits"),
    ('config = "gone.toml"', "config: there is no file"),
    (
        'beside = "model.boxes"\n[grid]\nmodel.width = [8]',
        "beside: 'model.boxes' is no key of [grid]; it has model.width",
    ),
    ("seeds = true\n[grid]\ntrain.seed = [1, 2]", "train.seed: cannot vary where seeds = true"),
    ('[[also]]\nmode = "walk"', "[[also]] 1: mode: 'walk' is none; modes are run, reference, simulate"),
    ("[[also]]\nmodel.widht = 3", "[[also]] 1: model.widht: unknown key; did you mean model.width?"),
    (f"[grid]\nmodel.width = {[*range(1, 200)]}\nmodel.boxes = {[*range(1, 200)]}", "more than 10,000 points"),
    ("[grid", "not TOML"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[said[:40] for _, said in REFUSED])
def test_a_wrong_request_is_refused_by_file_key_and_way_out(text: str, said: str, write: Callable[[str], str]) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as refused:
        sweep_points.read(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused_with_what_is() -> None:
    with pytest.raises(ConfigError, match=r"no file nowhere; packaged sweeps are boxes, decoupling, "):
        sweep_points.read("nowhere")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('mode = "reference"\n[grid]\nschedule.kind = ["locked", "decoupled"]', "point 2 (schedule.kind=decoupled): "),
        (
            "seeds = true\nrepeats = 3\n[set]\ntrain.seed = 4294967294\n[grid]\nmodel.width = [8]",
            "point 1 (model.width=8): train.seed: ",
        ),
        (
            '[grid]\ndata.source = ["packaged", "full"]\n[set]\ndata.dir = ""\ntransport.kind = "ipc"\ntransport.port = 1',
            "point 1 ",
        ),
    ],
    ids=["mode", "seeds", "whole"],
)
def test_what_a_later_run_would_be_refused_for_is_found_before_the_first(
    text: str, said: str, write: Callable[[str], str], tmp_path: Path
) -> None:
    machine = Machine()
    with pytest.raises(ConfigError) as refused:
        do(write(text), tmp_path / "out", machine)
    assert said in str(refused.value)
    assert machine.labels == []
    assert not (tmp_path / "out").exists(), "nothing was made"


# Runs and rows


def test_all_points_run_once_then_all_again_after_the_warm_up(write: Callable[[str], str], tmp_path: Path) -> None:
    machine = Machine()
    made = do(write("repeats = 2\nwarmup = 2" + FOUR), tmp_path / "out", machine)
    assert machine.labels == ["warm-up"] * 2 + [f"{point}-{repeat}" for repeat in (1, 2) for point in (1, 2, 3, 4)]
    rows = table(tmp_path / "out")
    assert [(row["point"], row["repeat"]) for row in rows] == [
        (str(point), str(repeat)) for repeat in (1, 2) for point in (1, 2, 3, 4)
    ]
    assert (made["status"], sweep.exit_code(made), made["warmup"], made["runs"]) == ("done", 0, 2, 8)


def test_a_row_tells_the_run(write: Callable[[str], str], tmp_path: Path) -> None:
    do(write(FOUR), tmp_path / "out")
    row = table(tmp_path / "out")[3]
    assert list(row)[:5] == ["point", "repeat", "mode", "schedule.kind", "model.width"]
    assert {key: row[key] for key in list(row)[:7]} == {
        "point": "4", "repeat": "1", "mode": "run", "schedule.kind": "decoupled", "model.width": "16",
        "run": "4-1", "status": "done",
    }  # fmt: skip
    assert (row["batches"], row["batches_per_s"], row["accuracy"], row["bubble"]) == ("50", "126.0", "0.5", "0.25")
    assert row["last_cost"] == "", "it is no number"
    assert (row["started"][:2], row["started"][-6:]) == ("20", "+00:00")


def test_a_task_is_told_in_its_units_with_the_level(write: Callable[[str], str], tmp_path: Path) -> None:
    class Grown(Machine):
        """A machine whose sequences have come to a level."""

        def __call__(self, *given: Any) -> tuple[dict[str, Any], Path | None]:
            figures, folder = super().__call__(*given)
            return figures | {"level": 3}, folder

    made = do(write('preset = "copy"\n[grid]\n"model.width" = [8, 16]'), tmp_path / "out", Grown())
    assert made["right"] == "bits right"
    assert [point["level"]["median"] for point in made["points"]] == [3, 3]
    assert {row["level"] for row in table(tmp_path / "out")} == {"3"}
    text = sweep_text.render(made)
    assert "bits right, %" in text
    assert "level\n" in text
    assert "images" not in text


def test_each_repeat_has_another_seed_where_that_is_asked(write: Callable[[str], str], tmp_path: Path) -> None:
    machine = Machine()
    text = ENOUGH + "seeds = true\n[set]\ntrain.seed = 7\n[grid]\nmodel.width = [8, 9]"
    made = do(write(text), tmp_path / "out", machine)
    seeds = [7 + repeat for repeat in range(spread.LEAST) for _ in range(2)]
    assert [config.train.seed for config in machine.configs[1:]] == seeds
    assert [row["train.seed"] for row in table(tmp_path / "out")] == [*map(str, seeds)]
    assert [row["train.seed"] for row in made["rows"]] == seeds
    assert made["points"][1]["accuracy"]["median"] == pytest.approx(0.5 + (7 + (spread.LEAST - 1) / 2) / 100)
    assert made["points"][1]["accuracy_verdict"] == "no difference shown"
    fixed = Machine()
    do(write("[grid]\nmodel.width = [8, 9]"), tmp_path / "other", fixed)
    assert {config.train.seed for config in fixed.configs} == {0}


def test_runs_are_thrown_away_unless_they_failed_or_are_to_be_kept(write: Callable[[str], str], tmp_path: Path) -> None:
    file = write("repeats = 1" + FOUR)
    do(file, tmp_path / "none")
    assert not (tmp_path / "none" / "runs").exists()
    do(file, tmp_path / "failed", Machine(fails=("3-1",)))
    assert [path.name for path in (tmp_path / "failed" / "runs").iterdir()] == ["3-1"]
    do(file, tmp_path / "kept", keep_runs=True)
    assert sorted(path.name for path in (tmp_path / "kept" / "runs").iterdir()) == ["1-1", "2-1", "3-1", "4-1"]


def test_a_failed_run_has_a_row_and_the_sweep_goes_on(write: Callable[[str], str], tmp_path: Path) -> None:
    made = do(write(FOUR), tmp_path / "out", Machine(fails=("2-1",)))
    assert (made["status"], sweep.exit_code(made), made["failed"], len(made["rows"])) == ("failed", 1, 1, 20)
    row = table(tmp_path / "out")[1]
    assert (row["status"], row["error"], row["batches_per_s"]) == ("failed", 'box-1 said "no", and died', "")
    assert made["points"][1]["batches_per_s"]["repeats"] == 4, "of those that were done"
    assert made["points"][1]["verdict"] == f"no difference shown (4 repeats, {spread.LEAST} are needed)"
    assert "1 run has failed" in sweep_text.render(made)
    again = Machine()
    assert sweep.exit_code(do(write(FOUR), tmp_path / "out", again)) == 1
    assert again.labels == [], "it is not tried again by itself"


def test_a_run_that_cannot_even_start_has_a_row_too(write: Callable[[str], str], tmp_path: Path) -> None:
    def refuses(*_: object) -> tuple[dict[str, Any], Path | None]:
        raise RunError("the port is taken")

    made = sweep.sweep(sweep_points.read(write(FOUR)), tmp_path / "out", quiet=True, measure=refuses)
    assert {(row["status"], row["error"]) for row in made["rows"]} == {("failed", "the port is taken")}
    assert sweep_text.render(made), "and there is a table of no figures"


def test_ctrl_c_leaves_what_the_same_command_goes_on_from(write: Callable[[str], str], tmp_path: Path) -> None:
    file, out = write("repeats = 2" + FOUR), tmp_path / "out"
    made = do(file, out, Machine(stops_at=4))
    assert (made["status"], sweep.exit_code(made), len(made["rows"])) == ("interrupted", 130, 3)
    assert "the same command goes on" in sweep_text.render(made)
    machine = Machine()
    made = do(file, out, machine)
    assert machine.labels == ["warm-up", "4-1", "1-2", "2-2", "3-2", "4-2"], "what is missing, warmed up again"
    assert (made["status"], len(table(out))) == ("done", 8)
    assert made["points"] == do(file, tmp_path / "whole")["points"], "as if it had never been stopped"


def test_an_interrupted_run_has_no_row_and_no_folder(write: Callable[[str], str], tmp_path: Path) -> None:
    def stops(config: Config, *_: object) -> tuple[dict[str, Any], Path | None]:
        folder = Path(config.run.dir) / "stopped"
        folder.mkdir(parents=True)
        return {"status": "interrupted", "run": "stopped"}, folder

    made = sweep.sweep(sweep_points.read(write(FOUR)), tmp_path / "out", quiet=True, measure=stops)
    assert (made["status"], made["rows"], table(tmp_path / "out")) == ("interrupted", [], [])
    assert not (tmp_path / "out" / "runs").exists()


@pytest.mark.parametrize("left", [1, 2, 9, 40, -1])
def test_half_a_row_is_dropped_and_done_again(left: int, write: Callable[[str], str], tmp_path: Path) -> None:
    file, out = write("repeats = 1\nwarmup = 0" + FOUR), tmp_path / "out"
    do(file, out)
    data = (out / "runs.csv").read_bytes()
    *whole, last = data.splitlines(keepends=True)
    (out / "runs.csv").write_bytes(b"".join(whole) + last[:left])
    machine = Machine()
    do(file, out, machine)
    assert machine.labels == ["4-1"]
    assert [row["point"] for row in table(out)] == ["1", "2", "3", "4"]


def test_half_a_header_is_no_header(write: Callable[[str], str], tmp_path: Path) -> None:
    file, out = write("repeats = 1" + FOUR), tmp_path / "out"
    do(file, out, Machine(stops_at=0))
    (out / "runs.csv").write_bytes((out / "runs.csv").read_bytes()[:7])
    do(file, out)
    assert [row["point"] for row in table(out)] == ["1", "2", "3", "4"]


def test_a_row_is_on_disk_when_the_next_run_begins(write: Callable[[str], str], tmp_path: Path) -> None:
    seen = []

    class Looks(Machine):
        def __call__(self, *words: Any) -> tuple[dict[str, Any], Path | None]:
            seen.append((tmp_path / "out" / "runs.csv").read_text().count("\n") - 1)
            return super().__call__(*words)

    do(write("repeats = 1" + FOUR), tmp_path / "out", Looks())
    assert seen == [0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FOUR.replace("16", "32"), "grid.model.width is [8, 16] there and [8, 32] here"),
        ("[set]\ntrain.epochs = 4\n" + FOUR, "set.train.epochs is left out there and 4 here"),
        ("seeds = true" + FOUR, "seeds is False there and True here"),
        ("repeats = 2" + FOUR, "repeats is 5 there and 2 here"),
        ('config = "base.toml"' + FOUR, "config is left out there and 'base.toml' here"),
    ],
    ids=["grid", "set", "seeds", "fewer repeats", "config"],
)
def test_another_request_in_the_same_folder_is_refused(
    text: str, said: str, write: Callable[[str], str], tmp_path: Path
) -> None:
    (tmp_path / "base.toml").write_text("")
    do(write(FOUR), tmp_path / "out")
    before = (tmp_path / "out" / "sweep.toml").read_bytes()
    with pytest.raises(ConfigError) as refused:
        do(write(text), tmp_path / "out")
    assert str(refused.value) == f"{tmp_path / 'out'} holds another sweep: {said}; use another --out"
    assert (tmp_path / "out" / "sweep.toml").read_bytes() == before


def test_a_base_that_was_changed_is_another_request(write: Callable[[str], str], tmp_path: Path) -> None:
    file = write('config = "base.toml"' + FOUR)
    (tmp_path / "base.toml").write_text("[train]\nepochs = 3\n")
    do(file, tmp_path / "out")
    (tmp_path / "base.toml").write_text("[train]\nepochs = 4\n")
    with pytest.raises(ConfigError, match=r"base\.train\.epochs is 3 there and 4 here; use another --out"):
        do(file, tmp_path / "out")


def test_more_repeats_are_added_to_what_is_there(write: Callable[[str], str], tmp_path: Path) -> None:
    do(write("repeats = 1" + FOUR), tmp_path / "out")
    machine = Machine()
    do(write("repeats = 2" + FOUR, "renamed.toml"), tmp_path / "out", machine)
    assert machine.labels == ["warm-up", "1-2", "2-2", "3-2", "4-2"]
    assert len(table(tmp_path / "out")) == 8


def test_a_folder_that_holds_something_else_is_left_alone(write: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match="is not empty and holds no sweep; use another --out"):
        do(write(FOUR), tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    with pytest.raises(ConfigError, match=r"thesis\.tex"):
        do(write(FOUR), tmp_path / "mine" / "thesis.tex")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [*lines, lines[-1]], "point 4, repeat 1 is there twice"),
        (lambda lines: [*lines[:-1], lines[-1].replace("4,1,", "9,1,", 1)], "line 5: not a row of this sweep"),
        (lambda lines: [*lines[:-1], lines[-1].replace(",50,", ",many,", 1)], "line 5: not a row of this sweep"),
        (lambda lines: [*lines[:-1], "4,1"], "line 5: not a row of this sweep"),
        (lambda lines: ["a,b", *lines[1:]], "its columns are not this sweep's"),
    ],
    ids=["twice", "point", "number", "short", "columns"],
)
def test_a_csv_that_was_spoilt_is_refused_and_not_written_to(
    change: Callable[[list[str]], list[str]], said: str, write: Callable[[str], str], tmp_path: Path
) -> None:
    file, path = write("repeats = 1" + FOUR), tmp_path / "out" / "runs.csv"
    do(file, tmp_path / "out")
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    spoilt, machine = path.read_bytes(), Machine()
    with pytest.raises(ConfigError, match=said):
        do(file, tmp_path / "out", machine)
    assert (path.read_bytes(), machine.labels) == (spoilt, [])


def test_two_sweeps_do_not_write_to_one_folder(write: Callable[[str], str], tmp_path: Path) -> None:
    file = write(FOUR)

    class Second(Machine):
        def __call__(self, *words: Any) -> tuple[dict[str, Any], Path | None]:
            with pytest.raises(ConfigError, match="another sweep is writing to it"):
                do(file, tmp_path / "out")
            return super().__call__(*words)

    assert do(file, tmp_path / "out", Second())["status"] == "done"


def test_another_machine_is_told(write: Callable[[str], str], tmp_path: Path) -> None:
    file, kept = write(FOUR), tmp_path / "out" / "environment.json"
    assert do(file, tmp_path / "out", Machine(stops_at=3))["warnings"] == []
    kept.write_text(json.dumps(collect() | {"cores": 999}))
    (warning,) = do(file, tmp_path / "out")["warnings"]
    assert warning.startswith("cores: 999 when it began, ")


def test_without_a_trace_somewhere_all_rates_are_of_whole_runs(write: Callable[[str], str], tmp_path: Path) -> None:
    made = do(write('[grid]\ntrace.level = ["off", "full"]\n'), tmp_path / "out")
    assert made["rate"] == "whole"
    assert {row["batches_per_s"] for row in made["rows"]} == {50.0}, "batches ÷ makespan"
    assert "of whole runs" in sweep_text.render(made)


# Figures


def test_points_are_compared_by_pairs(write: Callable[[str], str], tmp_path: Path) -> None:
    made = do(write(ENOUGH + 'beside = "schedule.kind"' + FOUR), tmp_path / "out")
    first, _, third, _ = made["points"]
    middle = (1 + spread.LEAST) / 2
    assert first["batches_per_s"]["median"] == 125 + middle
    assert (first["ratio"], first["verdict"], third["against"]) == (None, None, 1)
    assert third["ratio"]["median"] == pytest.approx((250 + middle) / (125 + middle))
    assert third["verdict"] == "faster"
    text = sweep_text.render(made)
    assert "faster" in text
    assert max(map(len, text.splitlines()[1:-1])) <= 80, "it fits a terminal"
    assert json.loads(json.dumps(made)) == made, "it can be told as JSON"


def test_what_is_told_of_long_names_and_figures_still_fits_a_terminal(
    write: Callable[[str], str], tmp_path: Path
) -> None:
    """Ratios beside their rates once took 95 columns, where a mode had a column too."""
    also = '[[also]]\nmode = "reference"\n"schedule.kind" = "locked"\n"model.width" = 9\n'
    for repeats in (spread.LEAST, 2):
        text = f"repeats = {repeats}\nseeds = true" + FOUR.replace("16", "600") + also
        made = do(write(text), tmp_path / str(repeats), Machine(fails=("2-1",)))
        for point in made["points"]:
            for key in ("batches_per_s", "ratio"):
                point[key] = point[key] and {name: each and 3_000 * each for name, each in point[key].items()}
        told = sweep_text.render(made | {"out": "sweeps/widths"})
        assert [line for line in told.splitlines()[1:] if len(line) > 80] == []
        assert [told.count(f"  {name}") for name in ("batches/s", "ratio", "images right, %", "more by")] == [1] * 4


def test_no_verdict_on_accuracy_without_seeds(write: Callable[[str], str], tmp_path: Path) -> None:
    """One seed again and again has an interval of nothing, which would call any difference one."""
    made = do(write(FOUR), tmp_path / "out")
    assert {point["accuracy_verdict"] for point in made["points"]} == {None}


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [((0.1, 0.1, 0.2), "better"), ((-0.1, -0.1, -0.2), "worse"), ((-0.1, 0.0, 0.2), "no difference shown")],
    ids=["better", "worse", "neither"],
)
def test_a_gain_in_accuracy_is_judged_by_its_interval(gain: tuple[float, ...], verdict: str) -> None:
    gain *= spread.LEAST
    rows = [{"point": 1, "repeat": repeat, "status": "done", "accuracy": 0.5} for repeat in range(1, len(gain) + 1)]
    rows += [rows[place] | {"point": 2, "accuracy": 0.5 + each} for place, each in enumerate(gain)]
    told = sweep_text.summarise([row | {"batches_per_s": None} for row in rows], 2, 1, seeds=True)
    assert told["accuracy_verdict"] == verdict
    assert told["accuracy_difference"]["median"] == pytest.approx(sorted(gain)[len(gain) // 2])


def test_what_is_left_is_told_by_the_points_that_are_left() -> None:
    assert sweep_text.seconds_left([1, 2], []) is None
    assert sweep_text.seconds_left([1, 2, 2], [(1, 1.0), (1, 3.0), (2, 10.0)]) == 22.0
    assert sweep_text.seconds_left([3], [(1, 2.0), (2, 4.0)]) == 3.0, "an unknown one is as the usual one"
    assert [sweep_text.duration(each) for each in (0.4, 99, 100, 7_500)] == ["0 s", "99 s", "1 min 40 s", "2 h 05 min"]


def test_progress_is_a_line_a_run_elsewhere_than_on_a_terminal(
    write: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = sweep_points.read(write("repeats = 1" + FOUR))
    sweep.sweep(request, tmp_path / "out", measure=Machine(fails=("2-1",)))
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("warm-up, then 4 runs; ")
    assert lines[1].startswith("run 1 of 4: locked, width 8, repeat 1; ")
    assert lines[3].startswith("run 2 of 4: locked, width 16, repeat 1: failed: box-1")
    assert "left" in lines[2]
    assert "\x1b" not in err
    sweep.sweep(request, tmp_path / "quiet", quiet=True, measure=Machine(fails=("2-1",)))
    assert capsys.readouterr() == ("", "")


# The picture


@pytest.mark.parametrize(
    ("file", "key", "said"),
    [
        ("x.pdf", "model.width", r"no kind of picture; its name ends with \.svg or \.png"),
        ("no/x.svg", "model.width", "there is no folder"),
        ("x.svg", "", "no key of"),
    ],
)
def test_a_picture_that_cannot_be_is_refused_before_the_runs(file: str, key: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        sweep_plot.check_plot(tmp_path / file, key)


def test_a_picture_shows_every_line_and_mark(write: Callable[[str], str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    made = do(write(FOUR.replace("16", "16, 640")), tmp_path / "out")
    sweep_plot.check_plot(tmp_path / "rates.svg", "model.width")
    sweep_plot.draw(made, "model.width", tmp_path / "rates.svg")
    assert (tmp_path / "rates.svg").read_text().count("<!-- ") >= 2
    text = [line.strip(" -<>!") for line in (tmp_path / "rates.svg").read_text().splitlines() if "<!--" in line]
    assert {"locked", "decoupled", "8", "16", "640", "model.width", "batches a second"} <= set(text)


@pytest.mark.parametrize("marks", [[64, 256, 784], [0.0, 0.1, 0.3, 1.0, 3.0, 10.0], [1, 2, 3], [-4, 0, 40], [5]])
def test_a_line_that_stands_aside_still_stands_by_its_mark(marks: list[float]) -> None:
    """On an axis with 0 and powers of ten, steps of the whole axis once moved small values past their neighbours."""
    places = [sweep_plot.place_of(each, marks) for each in marks]
    assert places == sorted(set(places))
    for mark, place in zip(marks, places, strict=True):
        for aside in (-3.5, 3.5):
            moved = sweep_plot.place_of(mark, marks, aside)
            assert min(places, key=lambda other: abs(other - moved)) == place
            assert moved != place or len(marks) == 1


@pytest.mark.parametrize("stops_at", [0, 2])
def test_a_sweep_that_was_stopped_early_has_a_picture(
    stops_at: int, write: Callable[[str], str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    made = do(write(FOUR), tmp_path / "out", Machine(stops_at=stops_at))
    sweep_plot.draw(made, "model.width", tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 1000


# Real ones


def test_a_run_that_failed_has_no_rate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Half a run's rate would only spoil the averages of whoever reads the file."""
    told = {
        "run": "x",
        "status": "failed",
        "error": "box-1: killed",
        "batches_per_s": 9.0,
        "accuracy": 0.1,
        "costs": [1.0],
    }
    result = Result(tmp_path, told | {"stages": [{"name": "head", "batches": 7}]})
    monkeypatch.setattr(sweep, "launch", lambda *_, **__: result)
    figures, folder = sweep.measure(resolve(), "run", "1-1", 1, lambda _: None)
    assert figures == {"run": "x", "status": "failed", "batches": 7, "error": "box-1: killed"}
    assert folder == tmp_path


@pytest.mark.parametrize("mode", ["run", "reference", "simulate"])
def test_batches_are_those_of_the_data_and_no_micro_batches(
    mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else batches ÷ makespan, the rate where a run has no trace, would be another unit than the rate that has one."""
    config = resolve(flags={"schedule.kind": "gpipe", "schedule.micro_batches": 2, "data.batch": 10} | SMALL)
    told = {"run": "x", "status": "done", "batches_per_s": 9.0, "accuracy": 0.1, "costs": [1.0]}
    result = Result(tmp_path, told | {"stages": [{"name": "head", "batches": 8, "seconds": 2.0}]})
    monkeypatch.setattr(sweep, "launch", lambda *_, **__: result)
    figures, _ = sweep.measure(config, mode, "1-1", 1, lambda _: None)
    assert figures["batches"] == 4
    if mode == "simulate":
        assert figures["batches"] / figures["makespan_s"] == pytest.approx(figures["batches_per_s"])


def test_nothing_was_learnt_where_nothing_was_computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = resolve(flags={"emulate.arithmetic": False, "emulate.compute_ms": 1.0})
    told = {"run": "x", "status": "done", "batches_per_s": 9.0, "accuracy": 0.1, "costs": [1.0]}
    result = Result(tmp_path, told | {"stages": [{"name": "head", "batches": 8, "seconds": 2.0}]})
    monkeypatch.setattr(sweep, "launch", lambda *_, **__: result)
    figures, _ = sweep.measure(config, "run", "1-1", 1, lambda _: None)
    assert not {"accuracy", "last_cost"} & figures.keys()


# The command line


VIRTUAL = """
mode = "simulate"
repeats = 1
warmup = 0
[set]
"data.train" = 20
"train.epochs" = 1
[grid]
"model.width" = [8, 16]
"""


@pytest.mark.in_process
def test_the_command_leaves_rows_a_picture_and_one_document(
    write: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    words = ["sweep", write(VIRTUAL), "--out", str(tmp_path / "out"), "--plot", str(tmp_path / "rates.svg"), "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    made = json.loads(out)
    assert (made["status"], made["plot"], err) == ("done", str(tmp_path / "rates.svg"), "")
    assert [row["batches"] for row in made["rows"]] == [20, 20]
    assert (tmp_path / "rates.svg").is_file()
    assert len(table(tmp_path / "out")) == 2
    assert main(words[:-1]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == f"picture: {tmp_path / 'rates.svg'}"
    assert err == "", "there was nothing left to run"


@pytest.mark.in_process
def test_the_command_refuses_in_one_line(
    write: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write(VIRTUAL), tmp_path / "out"
    for words in (["nowhere"], [file, "--plot", str(tmp_path)], [file, "--plot", "x.pdf"], [file, "--out", file]):
        assert main(["sweep", "--out", str(out), *words]) == 2
        told, err = capsys.readouterr()
        assert (told, err.count("\n")) == ("", 1)
        assert not out.exists()


@pytest.mark.in_process
def test_the_command_knows_all_packaged_sweeps_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sweep", "--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in sweep_points.named())


def test_the_example_of_the_page_is_a_request(write: Callable[[str], str]) -> None:
    page = pages.ROOT / "launch" / "README.md"
    (example,) = [text for text in pages.blocks(pages.read(page), "toml") if "[grid]" in text]
    found = sweep_points.read(write(example))
    assert [point.mode for point in found.points] == ["run"] * 4 + ["reference"] * 2
    assert [point.against for point in found.points] == [1, 2, 1, 2, 1, 2]
    assert found.repeats == spread.LEAST


TINY = """
repeats = 1
[set]
"data.train" = 20
"train.epochs" = 1
"model.tied" = false
[grid]
"schedule.kind" = ["locked", "decoupled"]
"model.width" = [8]
[[also]]
mode = "reference"
"schedule.kind" = "locked"
"model.width" = 8
[[also]]
mode = "simulate"
"schedule.kind" = "locked"
"model.width" = 8
"""


@pytest.mark.live
def test_runs_of_every_mode_have_their_figures(write: Callable[[str], str], tmp_path: Path) -> None:
    made = sweep.sweep(sweep_points.read(write(TINY)), tmp_path / "out", quiet=True)
    assert made["status"] == "done"
    locked, decoupled, alone, virtual = made["rows"]
    for row in made["rows"]:
        assert row["batches"] == 20
        assert row["batches_per_s"] > 0
        assert row["makespan_s"] > 0
        assert row["seconds"] > 0
    for row in (locked, decoupled, virtual):
        assert 0 < row["bubble"] < 1
    assert (locked["accuracy"], locked["last_cost"]) == (alone["accuracy"], alone["last_cost"]), "the same bits"
    assert (virtual["accuracy"], virtual["run"], alone["bubble"]) == (None, None, None)
    assert not (tmp_path / "out" / "runs").exists()
    lines = list(csv.reader(io.StringIO((tmp_path / "out" / "runs.csv").read_text())))
    assert {len(line) for line in lines} == {len(lines[0])}, "no ragged row"


@pytest.mark.live
def test_ctrl_c_stops_real_runs_and_the_same_request_goes_on(write: Callable[[str], str], tmp_path: Path) -> None:
    file, out = write(TINY.replace("repeats = 1", "repeats = 2")), tmp_path / "out"
    command = [sys.executable, "-m", "launch", "sweep", file, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        while not (out / "runs.csv").is_file() or (out / "runs.csv").read_text().count("\n") < 2:
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=30)
        assert process.returncode == 130
        assert told.splitlines()[-1] == f"stopped; the same command goes on where it was, with --out {out}"
    finally:
        process.kill()
        process.wait()
    there = table(out)
    assert 1 <= len(there) < 8
    made = sweep.sweep(sweep_points.read(file), out, quiet=True)
    assert (made["status"], len(made["rows"])) == ("done", 8)
    assert table(out)[: len(there)] == there, "what was done was not done again"
