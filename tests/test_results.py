"""What a run leaves: the tables of costs and predictions, and weights that come back bit for bit or as one clear error."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.arrays import Weights
from pipeline.config import resolve
from pipeline.errors import RunError
from pipeline.files import cut
from pipeline.ledger import Judged, Ledger, summary
from pipeline.plan import Plan
from pipeline.results import append_rows, load_weights, save_metrics, save_weights
from pipeline.state import Saved


def plan_of(**flags: Any) -> Plan:
    return Plan.of(resolve(flags={key.replace("__", "."): value for key, value in flags.items()}))


def judged_of(right: int, wrong: int, cost: float, outputs: int = 1) -> Judged:
    """Return an evaluation of zeros, told right or wrong."""
    count = right + wrong
    y_hat = np.full((count, outputs), 0.25)
    told = np.array([0] * right + [1] * wrong)
    return Judged(np.arange(count) + 100, np.zeros(count, np.uint8), told, y_hat, cost)


def ledger_of(
    plan: Plan, costs: Sequence[float], judged: Sequence[Judged], levels: Sequence[int] = (), *, keeps_all: bool = False
) -> Ledger:
    """Return a ledger after so many batches, each evaluation at its place."""
    ledger, left = Ledger(plan, levels, keeps_all=keeps_all), iter(judged)
    for cost in costs:
        ledger.add(cost)
        for each in islice(left, plan.due(ledger.forwards) - ledger.evaluations):
            ledger.judge(each)
    return ledger


def epochs(plan: Plan, costs: Sequence[float], judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return the rows of a run so far, whatever its ledger keeps."""
    one, other = (ledger_of(plan, costs, judged, keeps_all=keeps_all).rows() for keeps_all in (True, False))
    assert one == other
    return one


# Epochs


def test_an_epochs_cost_is_the_mean_over_its_images() -> None:
    plan = plan_of(data__train=5, data__batch=2, train__epochs=2, train__evaluate_every=0)
    rows = epochs(plan, [1.0, 2.0, 6.0, 0.0, 0.0, 5.0], [])
    assert rows == [{"epoch": 1, "cost": pytest.approx(12 / 5)}, {"epoch": 2, "cost": pytest.approx(1.0)}]


def test_an_evaluation_of_several_chunks_counts_each_image_once() -> None:
    assert summary([judged_of(400, 100, 1.0), judged_of(1, 0, 5.0)]) == {
        "test_cost": pytest.approx((500 * 1.0 + 5.0) / 501),
        "accuracy": pytest.approx(401 / 501),
    }


@pytest.mark.parametrize(("every", "with_accuracy"), [(0, [5]), (1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (3, [3, 5])])
def test_an_epoch_that_was_evaluated_shows_its_own_evaluation(every: int, with_accuracy: list[int]) -> None:
    plan = plan_of(data__train=2, data__test=501, train__epochs=5, train__evaluate_every=every)
    judged = []
    for place in range(len(with_accuracy)):
        judged += [judged_of(500 - place, place, float(place)), judged_of(1, 0, float(place))]
    rows = epochs(plan, [0.5] * 10, judged)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["epoch"] for row in rows if "accuracy" in row] == with_accuracy
    evaluated = [row for row in rows if "accuracy" in row]
    assert [row["accuracy"] for row in evaluated] == [(501 - place) / 501 for place in range(len(evaluated))]
    assert [row["test_cost"] for row in evaluated] == pytest.approx([float(place) for place in range(len(evaluated))])


@pytest.mark.parametrize(
    ("batches", "evaluations", "accurate"),
    [(0, 0, []), (1, 0, [False]), (2, 0, [False]), (2, 1, [True]), (3, 1, [True, False])],
)
def test_a_run_that_was_stopped_shows_what_there_is(batches: int, evaluations: int, accurate: list[bool]) -> None:
    plan = plan_of(data__train=2, train__epochs=3)
    rows = epochs(plan, [1.0] * batches, [judged_of(15, 5, 0.1)] * evaluations)
    assert ["accuracy" in row for row in rows] == accurate


# Tables


def test_the_tables_say_the_same_as_the_rows(tmp_path: Path) -> None:
    plan = plan_of(data__train=2, data__test=20, train__epochs=2, train__evaluate_every=2)
    rows = save_metrics(tmp_path, ledger_of(plan, [0.1, 0.2, 1 / 3, 0.4], [judged_of(19, 1, 0.125)]))
    assert rows == epochs(plan, [0.1, 0.2, 1 / 3, 0.4], [judged_of(19, 1, 0.125)])
    lines = (tmp_path / "metrics" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    with (tmp_path / "metrics" / "epochs.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [list(row) for row in table] == [["epoch", "cost", "test_cost", "accuracy"]] * 2
    assert [float(row["cost"]) for row in table] == [row["cost"] for row in rows]
    assert [(row["test_cost"], row["accuracy"]) for row in table] == [("", ""), ("0.125", "0.95")]


def test_the_predictions_are_those_of_the_final_evaluation(tmp_path: Path) -> None:
    plan = plan_of(data__train=1, data__test=501, train__epochs=2)
    first = [judged_of(0, 500, 9.0), judged_of(0, 1, 9.0)]
    y_hat = np.array([[0.125, 1 / 3]])
    last = Judged(np.array([77]), np.array([1], np.uint8), np.array([1]), y_hat, 0.5)
    save_metrics(tmp_path, ledger_of(plan, [1.0, 1.0], [*first, judged_of(499, 1, 0.5, outputs=2), last]))
    with (tmp_path / "metrics" / "predictions.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == 501
    assert list(table[0]) == ["image", "label", "prediction", "right", "output_0", "output_1"]
    assert [row["right"] for row in table] == ["true"] * 499 + ["false", "true"]
    assert list(table[0].values()) == ["100", "0", "0", "true", "0.25", "0.25"]
    assert list(table[499].values()) == ["599", "0", "1", "false", "0.25", "0.25"]
    assert list(table[500].values()) == ["77", "1", "1", "true", "0.125", "0.333333333"]


def examples_of(rights: list[float] | list[bool], level: int = 0) -> Judged:
    """Return an evaluation of a task: numbers that are near or not, or bits of which a share is right."""
    count = len(rights)
    labels, told = np.full(count, 4), np.full(count, 3)
    y_hat = np.full((count, 0 if level else 1), 0.25)
    return Judged(np.arange(count), labels, told, y_hat, 0.5, np.array(rights, None), level)


def test_a_summary_tells_shares_of_bits_what_is_wholly_right_and_the_level() -> None:
    near = [examples_of([True, False, False, False])]
    assert summary(near) == {"test_cost": 0.5, "accuracy": 0.25}
    sums = [examples_of([1.0, 0.5]), examples_of([0.75, 0.75])]
    assert summary(sums) == {"test_cost": 0.5, "accuracy": 0.75, "whole": 0.25}
    grown = [examples_of([1.0, 0.5], level=3)]
    assert summary(grown) == {"test_cost": 0.5, "accuracy": 0.75, "whole": 0.5, "level": 3}


def test_the_tables_of_a_task_have_its_columns_and_shares(tmp_path: Path) -> None:
    plan = plan_of(data__train=1, data__test=2, train__epochs=2, train__evaluate_every=2)
    save_metrics(tmp_path, ledger_of(plan, [1.0, 0.5], [examples_of([1.0, 0.625], level=2)]))
    folder = tmp_path / "metrics"
    assert (folder / "epochs.csv").read_text().splitlines() == [
        "epoch,cost,test_cost,accuracy,whole,level", "1,1.0,,,,", "2,0.5,0.5,0.8125,0.5,2"
    ]  # fmt: skip
    assert (folder / "predictions.csv").read_text() == "example,label,prediction,right\n0,4,3,1\n1,4,3,0.625\n"
    save_metrics(tmp_path, ledger_of(plan, [1.0, 0.5], [examples_of([1.0, 0.625], level=2)], [1, 2, 2]))
    assert (folder / "epochs.csv").read_text().splitlines()[1:] == ["1,1.0,,,,1", "2,0.5,0.5,0.8125,0.5,2"]
    save_metrics(tmp_path, ledger_of(plan, [1.0, 0.5], [examples_of([True, False])]))
    assert (folder / "epochs.csv").read_text().startswith("epoch,cost,test_cost,accuracy\n")
    assert (folder / "predictions.csv").read_text().splitlines() == [
        "example,label,prediction,right,output_0", "0,4,3,1,0.25", "1,4,3,0,0.25"
    ]  # fmt: skip


def test_a_run_without_its_final_evaluation_has_no_predictions(tmp_path: Path) -> None:
    plan = plan_of(data__train=1, data__test=20, train__epochs=2)
    save_metrics(tmp_path, ledger_of(plan, [1.0, 1.0], [judged_of(20, 0, 0.5)]))
    assert sorted(path.name for path in (tmp_path / "metrics").iterdir()) == ["epochs.csv", "metrics.jsonl"]


# As epochs end


def test_rows_are_appended_once_as_epochs_end_and_the_tables_have_them_all(tmp_path: Path) -> None:
    plan = plan_of(data__train=2, data__test=20, train__epochs=4, train__evaluate_every=2)
    costs, judged = [0.1, 0.2, 1 / 3, 0.4, 0.5, 0.6, 0.7, 0.8], [judged_of(19, 1, 0.125), judged_of(18, 2, 0.25)]
    whole, ledger, lines = ledger_of(plan, costs, judged, keeps_all=True).rows(), Ledger(plan), []
    path = tmp_path / "metrics" / "metrics.jsonl"
    for batch, cost in enumerate(costs):
        ledger.add(cost)
        append_rows(tmp_path, ledger)
        lines.append(len(path.read_text().splitlines()) if path.is_file() else 0)
        if (batch + 1) % 4 == 0:
            ledger.judge(judged[batch // 4])
    assert lines == [0, 1, 1, 1, 2, 3, 3, 3], "an epoch that is evaluated ends with that"
    assert (ledger.taken, ledger.rows(), len(ledger.costs), len(ledger.judged)) == (3, whole[3:], 2, 1)
    assert save_metrics(tmp_path, ledger) == whole
    save_metrics(tmp_path / "whole", ledger_of(plan, costs, judged))
    for name in ("metrics.jsonl", "epochs.csv", "predictions.csv"):
        assert (tmp_path / "metrics" / name).read_bytes() == (tmp_path / "whole" / "metrics" / name).read_bytes()


@pytest.mark.parametrize("batches", range(9))
def test_a_run_that_goes_on_writes_no_row_twice_and_leaves_none_out(batches: int, tmp_path: Path) -> None:
    """It was stopped somewhere after its checkpoint, with more in its file than the checkpoint knows of."""
    plan = plan_of(data__train=2, data__test=501, train__epochs=4, train__evaluate_every=2)
    costs, judged = [0.1 * batch for batch in range(8)], [judged_of(500 - k, k, 0.1 * k) for k in (1, 2)]
    judged = [part for each in judged for part in (each, judged_of(1, 0, 3.0))]
    state: Weights = {}
    path, size = tmp_path / "metrics" / "metrics.jsonl", 0
    ledger, left = Ledger(plan), iter(judged)
    for batch in range(9):
        if batch == batches:
            append_rows(tmp_path, ledger)  # before the checkpoint is complete
            state, size = ledger.state(), path.stat().st_size if path.is_file() else 0
        if batch < 8:
            ledger.add(costs[batch])
            for each in islice(left, plan.due(batch + 1) - ledger.evaluations):
                ledger.judge(each)
    save_metrics(tmp_path, ledger)
    content = (tmp_path / "metrics" / "metrics.jsonl").read_text()
    again, saved = Ledger(plan), Saved(state, "head")
    again.restore(saved)
    saved.end()
    cut(path, size, tmp_path / "aside")
    assert len((tmp_path / "metrics" / "metrics.jsonl").read_text().splitlines()) == again.taken == batches // 2
    for batch in range(batches, 8):
        again.add(costs[batch])
        append_rows(tmp_path, again)
        for evaluation in range(again.evaluations, plan.due(batch + 1)):
            again.judge(judged[evaluation])
    save_metrics(tmp_path, again)
    assert (tmp_path / "metrics" / "metrics.jsonl").read_text() == content


def test_a_file_with_fewer_rows_than_were_written_is_refused(tmp_path: Path) -> None:
    plan = plan_of(data__train=1, data__test=20, train__epochs=4, train__evaluate_every=0)
    append_rows(tmp_path, ledger_of(plan, [1.0, 2.0], []))
    path = tmp_path / "metrics" / "metrics.jsonl"
    taken = ledger_of(plan, [1.0, 2.0, 3.0], [])
    taken.take(3)
    with pytest.raises(RunError, match=r"metrics.jsonl: has rows of 2 epochs; 3 were written"):
        save_metrics(tmp_path, taken)
    path.write_text(path.read_text()[:-1])
    taken = ledger_of(plan, [1.0, 2.0], [])
    taken.take(2)
    with pytest.raises(RunError, match=r"metrics.jsonl: has rows of 1 epochs; 2 were written"):
        save_metrics(tmp_path, taken)
    path.unlink()
    with pytest.raises(RunError, match=r"metrics.jsonl: cannot read the rows of 2 epochs"):
        save_metrics(tmp_path, taken)


def test_a_disk_without_room_costs_a_delay(tmp_path: Path) -> None:
    plan = plan_of(data__train=1, data__test=20, train__epochs=3, train__evaluate_every=0)
    ledger = ledger_of(plan, [1.0, 2.0], [])
    (tmp_path / "metrics").write_text("no folder")
    append_rows(tmp_path, ledger)
    assert ledger.taken == 0
    (tmp_path / "metrics").unlink()
    append_rows(tmp_path, ledger)
    assert (ledger.taken, len((tmp_path / "metrics" / "metrics.jsonl").read_text().splitlines())) == (2, 2)


# Weights


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_come_back_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(0)
    square = rng.standard_normal((4, 3)).astype(dtype)
    special = np.array([0.0, -0.0, np.inf, np.nan, np.finfo(dtype).tiny], dtype)
    weights = {"Wx": square, "Wrec": square.T, "oracle_L": square[::2], "b": special}
    save_weights(tmp_path / "checkpoint" / "box-1.npz", weights)
    read = load_weights(tmp_path / "checkpoint" / "box-1.npz")
    assert list(read) == list(weights)
    for name, array in weights.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        assert read[name].tobytes() == np.ascontiguousarray(array).tobytes()
        assert read[name].flags.c_contiguous
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["box-1.npz"]


def assert_refused(path: Path) -> str:
    with pytest.raises(RunError) as error:
        load_weights(path)
    line = str(error.value)
    assert line.startswith(f"{path}: cannot read the weights: ")
    assert len(line.splitlines()) == 1
    return line


@pytest.mark.filterwarnings("error")  # a file that is left open
@pytest.mark.parametrize("content", [b"", b"PK", b"no archive", b"\x80\x04N.", b"PK\x05\x06" + b"\0" * 10])
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "box-1.npz"
    path.write_bytes(content)
    assert "pickle" not in assert_refused(path), "no advice of numpy's to load what is damaged unsafely"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert_refused(tmp_path / "box-1.npz")


def test_a_single_array_is_no_archive_of_weights(tmp_path: Path) -> None:
    path = tmp_path / "box-1.npz"
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    assert_refused(path)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "box-1.npz"
    np.savez(path, Wx=np.array([{"not": "numbers"}], dtype=object), allow_pickle=True)
    assert_refused(path)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "box-1.npz"
    save_weights(path, {"Wx": np.arange(6.0).reshape(2, 3), "b": np.zeros(3, np.float32)})
    return path


def test_a_truncated_archive_is_named_wherever_it_ends(archive: Path) -> None:
    whole = archive.read_bytes()
    for length in range(0, len(whole), 13):
        archive.write_bytes(whole[:length])
        assert_refused(archive)


def test_a_flipped_bit_among_the_numbers_is_found(archive: Path) -> None:
    damaged = bytearray(archive.read_bytes())
    damaged[damaged.index(np.float64(5).tobytes())] ^= 1
    archive.write_bytes(damaged)
    assert_refused(archive)


@pytest.mark.parametrize("change", [1, 8, 0x80])
def test_a_damaged_byte_is_a_clear_error_or_harmless(archive: Path, change: int) -> None:
    whole = archive.read_bytes()
    expected = load_weights(archive)
    start = whole.index(b"PK\x01\x02")  # the directory, where every byte means something else to the reader
    for place in [*range(0, start, 9), *range(start, start + 46)]:
        damaged = bytearray(whole)
        damaged[place] ^= change
        archive.write_bytes(damaged)
        try:
            read = load_weights(archive)
        except RunError:
            continue
        arrays = [(array.dtype, array.tobytes()) for array in read.values()]
        assert all(array in [(e.dtype, e.tobytes()) for e in expected.values()] for array in arrays), place
