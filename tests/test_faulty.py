"""Faults on purpose in real runs: what is told, who is named, and that nothing wrong is ever called done."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from launch import report, runs
from launch.live import Result, launch
from launch.supervise import Supervisor
from launch.what_if import of_run
from pipeline.config import load, resolve
from pipeline.plan import Plan
from pipeline.results import load_weights
from pipeline.simulate import simulate
from pipeline.trace import read_journal

pytestmark = pytest.mark.chaos

SMALL: dict[str, Any] = {
    "model.width": 16,
    "data.train": 50,
    "data.test": 50,
    "train.epochs": 2,
    "run.plot": False,
    "log.level": "info",
}
SCHEDULES = ("article", "locked", "decoupled")
EDGES = ("box-1>box-2", "box-2>box-1", "box-2>head", "head>box-2")
NO_ROOM = "No space left on device"


def faulty(parent: Path, flags: dict[str, Any], **found: str) -> Result:
    """Run with faults."""
    keys = {f"fault.{kind}": text for kind, text in found.items()}
    return launch(resolve("article", flags={**SMALL, "run.dir": str(parent), **flags, **keys}))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Result]:
    """Return a run of each schedule in which nothing went wrong, made once."""
    made: dict[str, Result] = {}

    def of(schedule: str) -> Result:
        if schedule not in made:
            made[schedule] = faulty(tmp_path_factory.mktemp("undisturbed"), {"schedule.kind": schedule})
            assert made[schedule].document["faults"] == []
        return made[schedule]

    return of


def lines_of(folder: Path, stage: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "logs" / f"{stage}.log").read_text().splitlines()]


def texts_of(folder: Path, stage: str) -> list[str]:
    return [line["text"] for line in lines_of(folder, stage)]


# Messages


@pytest.mark.patient
@pytest.mark.parametrize(
    ("schedule", "edge", "kind"),
    [
        (schedule, edge, kind)
        for schedule, edge, kind in itertools.product(SCHEDULES, EDGES, ("drop", "double", "swap"))
    ],
)
def test_a_message_lost_doubled_or_out_of_order_ends_the_run_and_its_edge_is_named(
    schedule: str, edge: str, kind: str, tmp_path: Path
) -> None:
    result = faulty(tmp_path, {"schedule.kind": schedule}, **{kind: f"{edge}@batch:30"})
    source, target = edge.split(">")
    plan = Plan.of(load(result.folder / "config.toml"))
    assert result.status == "failed"
    assert result.digest is None
    assert result.document["first_failure"]["stage"] == target
    error = result.document["first_failure"]["error"]
    assert f"from stage {plan.number(source)} " in error or source in error
    assert "lost" in error or "doubled" in error or "reordered" in error
    assert f"a fault on purpose: {kind}={edge}@batch:30" in texts_of(result.folder, source)
    assert result.document["faults"] == [f"{kind}={edge}@batch:30"]


@pytest.mark.patient
@pytest.mark.parametrize(("schedule", "edge"), [*itertools.product(SCHEDULES, EDGES)])
def test_a_damaged_message_is_never_computed_with(schedule: str, edge: str, tmp_path: Path) -> None:
    result = faulty(tmp_path, {"schedule.kind": schedule}, corrupt=f"{edge}@batch:30")
    assert f"a fault on purpose: corrupt={edge}@batch:30" in texts_of(result.folder, edge.split(">")[0])
    assert result.status == "failed"
    assert result.digest is None
    assert any("fails its check" in text for text in texts_of(result.folder, edge.split(">")[1])), "told at once"
    error = result.document["first_failure"]["error"]
    assert edge.split(">")[0] in error
    assert "failed its check" in error


@pytest.mark.patient
@pytest.mark.parametrize("kind", ["kill", "drop", "double", "swap", "corrupt"])
@pytest.mark.parametrize("schedule", ["article", "locked"])
def test_with_recovery_what_goes_wrong_changes_nothing(
    schedule: str, kind: str, tmp_path: Path, undisturbed: Callable[[str], Result]
) -> None:
    place = "box-2" if kind == "kill" else "box-1>box-2"
    flags = {"schedule.kind": schedule, "checkpoint.every": 20, "run.recover": 1}
    result = faulty(tmp_path, flags, **{kind: f"{place}@batch:50"})
    assert result.status == "done"
    [recovery] = result.document["recoveries"]
    assert recovery["stage"] == "box-2"
    assert recovery["from_batch"] in (0, 20, 40)
    assert result.digest == undisturbed(schedule).digest
    assert result.metrics == undisturbed(schedule).metrics


def test_between_siblings_that_are_no_neighbours_increments_are_lost_too(tmp_path: Path) -> None:
    flags = {"schedule.kind": "decoupled", "model.boxes": 3, "model.steps_per_box": 4}
    result = faulty(tmp_path, flags, drop="box-1>box-3@batch:20")
    assert result.status == "failed"
    assert result.document["first_failure"]["stage"] == "box-3"


# Stages


@pytest.mark.parametrize(
    ("schedule", "stage", "batch"),
    [("article", "box-1", 0), ("article", "head", 60), ("locked", "box-2", 99), ("decoupled", "box-1", 42)],
)
def test_a_stage_dies_at_its_batch_and_the_run_tells_so(
    schedule: str, stage: str, batch: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = faulty(tmp_path, {"schedule.kind": schedule}, kill=f"{stage}@batch:{batch}")
    assert result.status == "failed"
    assert result.document["error"].startswith(f"{stage} (process ")
    assert result.document["error"].endswith("killed by SIGKILL")
    last = lines_of(result.folder, stage)[-1]
    assert last["text"] == f"a fault on purpose: kill={stage}@batch:{batch}"
    assert (last["fault"], last["batch"]) == ("kill", batch)
    assert last["text"] in result.document["first_failure"]["log"][-1]
    assert all(each.kind != "F" or each.batch < batch for each in read_journal(result.folder, stage))
    told = [f"kill={stage}@batch:{batch}"]
    assert runs.describe(result.folder)["faults"] == told
    if batch:
        warnings = report.collect(result.folder)["warnings"]
        assert f"something went wrong in it on purpose: {told[0]}" in warnings
    from launch.show import run_table

    assert "failed, faults on purpose" in run_table([runs.describe(result.folder)])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_with_a_slow_stage_and_one_that_hangs_for_a_while_gives_the_same_weights(
    schedule: str, undisturbed: Callable[[str], Result], tmp_path: Path
) -> None:
    result = faulty(tmp_path, {"schedule.kind": schedule}, hang="head@batch:20:0.5", slow="box-1@batch:80:10")
    assert result.status == "done"
    assert result.document["seconds"] > 0.7
    if schedule == "decoupled":  # its order depends on timing, and its numbers on the order
        assert result.replay()["same"]
    else:
        assert result.digest == undisturbed(schedule).digest
    assert texts_of(result.folder, "head").count("a fault on purpose: hang=head@batch:20:0.5") == 1
    assert texts_of(result.folder, "box-1").count("a fault on purpose: slow=box-1@batch:80:10") == 1


def test_what_a_fault_took_is_in_the_trace_and_comes_once_into_a_prediction(tmp_path: Path) -> None:
    result = faulty(tmp_path, {"schedule.kind": "locked"}, slow="box-1@batch:50:20", hang="head@batch:10:0.5")
    ms = [parts[2] - parts[1] for parts in _spans(result, "box-1")]
    assert min(ms[50:]) >= 20e6
    assert sorted(ms[:50])[25] < 20e6

    def predicted(*changes: str) -> float:
        request = of_run(result.folder, None, changes)
        return simulate(Plan.of(request.config), request.costs).makespan_ns / 1e9

    usual, measured = predicted(), result.document["stages"][-1]["seconds"]
    assert measured * 0.7 < usual < measured * 1.3
    # A little of it is hidden by what others do meanwhile, more where the machine is crowded.
    assert predicted("fault.slow=") == pytest.approx(usual - 1.0, abs=0.15)
    assert predicted("fault.slow=", "fault.hang=") == pytest.approx(usual - 1.5, abs=0.15)
    assert predicted("fault.slow=box-1@batch:90:20") == pytest.approx(usual - 0.8, abs=0.15)


def _spans(result: Result, stage: str) -> list[tuple[int, int, int]]:
    from pipeline.trace import read_spans

    found = [each for each in read_spans(result.folder, stage) if (each.action.kind, each.part) == ("F", "forward")]
    return [(each.action.batch, each.start_ns, each.end_ns) for each in found]


class Launched:
    """A `timebox run` in a process of its own."""

    def __init__(self, parent: Path, *words: str) -> None:
        self.parent = parent
        small = itertools.chain.from_iterable((f"--{key}", str(value).lower()) for key, value in SMALL.items())
        command = [sys.executable, "-m", "launch", "run", *small, "--run.dir", str(parent), "--json", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @property
    def folder(self) -> Path:
        return (self.parent / "latest").resolve()

    def ended(self, seconds: float = 60) -> tuple[int, str]:
        """Wait for its end and return its exit code and what it said on standard error."""
        _, told = self.process.communicate(timeout=seconds)
        return self.process.returncode, told


def until(what: str, condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s: not {what}"
        time.sleep(0.01)


def test_a_stage_that_hangs_for_ever_hears_nothing_but_sigterm(tmp_path: Path) -> None:
    run = Launched(tmp_path, "--fault", "hang=box-2@batch:10")

    def hangs() -> bool:
        with contextlib.suppress(OSError):
            return "a fault on purpose: hang=box-2@batch:10" in (run.folder / "logs" / "box-2.log").read_text()
        return False

    try:
        until("in the log that it hangs", hangs)
        pids = {
            stage["name"]: stage["pid"] for stage in json.loads((run.folder / "launcher.json").read_text())["stages"]
        }
        time.sleep(0.5)  # it would have gone on by now
        assert run.process.poll() is None
        began = time.monotonic()
        os.kill(pids["box-2"], signal.SIGTERM)
        code, told = run.ended(10)
    finally:
        run.process.kill()
    assert code == 1
    assert "box-2 (process" in told
    assert time.monotonic() - began < 8


# A full disk


@pytest.mark.parametrize(
    ("schedule", "stage", "batch", "level"),
    [
        ("article", "box-2", 30, "action"),
        ("article", "head", 99, "action"),
        ("locked", "box-1", 0, "info"),
        ("decoupled", "head", 50, "info"),
        ("decoupled", "box-1", 99, "info"),
    ],
)
def test_a_disk_that_is_full_from_a_batch_on_ends_the_run_in_one_line(
    schedule: str, stage: str, batch: int, level: str, tmp_path: Path
) -> None:
    flags = {"schedule.kind": schedule, "log.level": level, "train.evaluate_every": 1}
    result = faulty(tmp_path, flags, disk_full=f"{stage}@batch:{batch}")
    folder = result.folder
    assert result.status == "failed"
    assert result.digest is None
    failure = result.document["first_failure"]
    assert failure["stage"] == stage
    assert re.fullmatch(
        rf"{folder}/(journal|checkpoint)/\S+: (cannot write the journal: )?{NO_ROOM}(;.*)?", failure["error"]
    )
    assert texts_of(folder, stage)[-1] == f"a fault on purpose: disk-full={stage}@batch:{batch}", "and not a word later"
    check_left(folder)
    for each in runs.stages(folder / "checkpoint", "initial", ".npz"):
        load_weights(folder / "checkpoint" / "initial" / f"{each}.npz")


def check_left(folder: Path) -> None:
    """Check that no traceback is anywhere, and nothing half."""
    for path in (folder / "logs").iterdir():
        assert "Traceback" not in path.read_text(), path
        assert path.suffix != ".out" or path.read_bytes() == b"", path
    assert [*folder.rglob("*.part")] == []
    for path in folder.rglob("*.npz"):
        load_weights(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return what makes a disk of so many KiB; skip where the kernel lets us make none."""
    place = tmp_path / "disk"
    place.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")

    def make(kib: int) -> Path:
        command = [str(mount), "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
        if mount is None or unmount is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs a mountable tmpfs")
        return place

    yield make
    if unmount is not None and place.is_mount():
        subprocess.run([unmount, "-l", str(place)], check=True)


UNTRACED = ("--trace.level", "off")
REFERENCE = ("--reference",)


@pytest.mark.parametrize(
    ("kib", "words"),
    [
        (4, ()),  # the launcher's first file
        (12, ()),
        (20, ()),
        (40, ()),
        (64, ()),
        (100, ()),  # first weights, a trace's beginning
        (160, ("--log.level", "action")),  # environment.json, journals, logs
        (400, ("--log.level", "action", "--train.epochs", "40")),  # traces and logs
        (180, UNTRACED),
        (210, UNTRACED),
        (230, UNTRACED),  # final weights
        (8, REFERENCE),
        (12, REFERENCE),
        (60, REFERENCE),  # first weights
        (140, REFERENCE),  # final weights; its process once printed a traceback
    ],
)
def test_a_disk_without_room_ends_the_run_in_one_line_that_names_the_file(
    kib: int, words: tuple[str, ...], small_disk: Callable[[int], Path]
) -> None:
    run = Launched(small_disk(kib), *([] if words == REFERENCE else ["--schedule.kind", "decoupled"]), *words)
    code, told = run.ended()
    assert code == 1
    first, *rest = told.splitlines()  # with --json no progress is among them
    place = rf"timebox: (\S+ \(process \d+\), last heard of at batch \d+: )?{run.parent}/\S+"
    assert re.fullmatch(rf"{place}: (cannot write the \w+: )?{NO_ROOM}(;.*)?", first), told
    assert all(line.startswith("  ") for line in rest), "what follows belongs to it"
    assert "Traceback" not in told
    check_left(run.folder)


def test_a_disk_that_has_no_room_for_the_summary_is_told(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(2_000)

    def fill(state: Supervisor) -> None:
        if all(member.done for member in state.members.values()):
            with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as stream:
                for _ in iter(partial(stream.write, b"x" * 1024), 0):
                    pass

    with pytest.raises(OSError, match=NO_ROOM) as caught:
        launch(resolve("article", flags=SMALL | {"run.dir": str(disk)}), observe=fill)
    assert str(caught.value.filename).endswith("/summary.json")
    (disk / "filler").unlink()
    folder = (disk / "latest").resolve()
    check_left(folder)
    assert sorted(runs.stages(folder / "checkpoint", "final", ".npz")) == ["box-1", "box-2", "head"]
