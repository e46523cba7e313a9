"""Replay: a recorded run again gives the same bits, and whatever is changed in its record is found and named.

The first part is pure: runs of the in-process network under hostile timing, recorded as a worker records them. What is said
of folders, of killed runs and of the command is shown on real runs.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from handmade import hands, make_folder
from network import Network, make_config, make_works, run_hostile, split_of, telling, whims
from test_chaos import ENDLESS, launched, no_worker_left, until
from test_live import small

import launch
from launch import Result, bench_replay, runs
from launch.cli import main
from launch.environment import BLAS_THREADS, differences
from launch.process import started_ticks
from pipeline.actions import (
    ACTIVATION,
    EVALUATION,
    GRADIENT,
    INCREMENT,
    TARGET,
    Action,
    parse_journal,
    shorten_journal,
)
from pipeline.arrays import Array, Weights
from pipeline.data import Batches
from pipeline.errors import ConfigError, ScheduleError
from pipeline.payloads import Payloads
from pipeline.plan import Plan
from pipeline.replay import Moment, Replay
from pipeline.schema import Config
from pipeline.sums import Sums, named
from pipeline.trace import read_journal
from pipeline.work import Arrays

#: Runs of each window, tied and untied, with boxes from 2 to 7 in turn.
SEEDS = int(os.environ.get("TIMEBOX_REPLAY_SEEDS", "6"))
TIED = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])

Journals = dict[int, list[Action]]
Damage = Callable[[Path], object]


class Seen(NamedTuple):
    """What there was at the end of an action, and the weights before it: copies."""

    before: Weights
    after: Weights
    outputs: dict[str, Arrays]
    changes: Weights


class Recorded(Network):
    """A network under the real arithmetic that records sums as a worker does and, beside them, all that there was."""

    def __init__(self, config: Config, seed: int) -> None:
        plan = Plan.of(config)
        super().__init__(plan, make_works(config), whims(plan, seed), Payloads(config, plan))
        self.config = config
        self.names: dict[int, list[tuple[Action, str]]] = {k: [] for k in self.numbers}  # of each sum
        self.seen: dict[tuple[int, Action], Seen] = {}
        self._sums = {k: Sums() for k in self.numbers}
        self._weights = {k: copied(self.works[k].weights()) for k in self.numbers}
        run_hostile(self, seed)
        self.sums: dict[int, Array] = {k: np.frombuffer(each.take(), "<u4") for k, each in self._sums.items()}

    def move(self, number: int) -> Action | None:
        """Let a stage do one action and write down what came of it."""
        action = super().move(number)
        if action is not None:
            work, before = self.works[number], self._weights[number]
            self._sums[number].add(work.outputs, work.changes)
            self.names[number] += [(action, name) for name, _ in named(work.outputs, work.changes)]
            self._weights[number] = after = copied(work.weights())
            outputs = {kind: tuple(array.copy() for array in arrays) for kind, arrays in work.outputs.items()}
            self.seen[number, action] = Seen(before, after, outputs, copied(work.changes))
        return action

    def replay(
        self, journals: Mapping[int, list[Action]] | None = None, sums: Mapping[int, Array] | None = None
    ) -> Replay:
        """Return a replay of the run, perhaps with some other journals or sums than its own."""
        batches = Batches(self.config, split_of(self.config.data))
        return Replay(self.config, batches, self.journals | (journals or {}), self.sums | (sums or {}))


def copied(weights: Mapping[str, Array]) -> Weights:
    """Return copies of arrays."""
    return {name: array.copy() for name, array in weights.items()}


def recorded(schedule: str = "decoupled", boxes: int = 3, seed: int = 1, **flags: Any) -> Recorded:
    """Return a run after its end; a flag `model__width` is the key `model.width`."""
    return Recorded(make_config(schedule, boxes, {name.replace("__", "."): flags[name] for name in flags}), seed)


def random_config(rng: random.Random, schedule: str, boxes: int, **flags: Any) -> Config:
    """Return a tiny network with what decides its bits thrown by dice."""
    batch = rng.choice((1, 1, 2, 4))
    return make_config(
        schedule,
        boxes,
        {
            "model.width": rng.choice((1, 2, 3, 5, 8)),
            "model.bias": rng.random() < 0.3,
            "model.dtype": rng.choice(("float32", "float32", "float64")),
            "oracle.sees_label": rng.random() < 0.3,
            "oracle.bias": rng.random() < 0.3,
            "oracle.target": rng.choice(("bootstrapped", "true")),
            "data.batch": batch,
            "data.train": 6 * batch - batch // 2,
            "data.reading": rng.choice(("rows", "vector")),
            "train.evaluate_every": rng.choice((0, 1)),
            **{name.replace("__", "."): value for name, value in flags.items()},
        },
    )


def finish(replay: Replay) -> Replay:
    """Return a replay after all that it could do."""
    for _ in replay.run():
        pass
    return replay


def assert_same(run: Recorded) -> None:
    """Assert that a run's replay gives no difference, leaves nothing out and ends with the same bits."""
    replay = run.replay()
    done: Journals = {k: [] for k in run.numbers}
    for number, action in replay.run():
        done[number].append(action)
    assert replay.difference is None
    assert replay.is_whole, [replay.rest(k) for k in run.numbers]
    assert done == run.journals
    assert replay.actions == sum(map(len, done.values()))
    assert replay.compared == sum(map(len, run.sums.values()))
    for number in run.numbers:
        assert replay.is_replayed(number)
        assert (replay.rest(number), replay.sums_left(number)) == ("", 0)
        assert_bits(replay.weights(number), run.works[number].weights())


def assert_bits(found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    """Assert that arrays are the same to the byte."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


# The same bits


@pytest.mark.in_process
@TIED
@pytest.mark.parametrize("window", [1, 4, 16])
def test_a_decoupled_run_gives_the_same_bits_again(window: int, tied: bool) -> None:
    for seed in range(SEEDS):
        rng = random.Random(f"replay {window} {tied} {seed}")
        config = random_config(rng, "decoupled", 2 + seed % 6, schedule__window=window, model__tied=tied)
        with telling(seed=seed, config=config):
            assert_same(Recorded(config, seed))


@pytest.mark.in_process
@TIED
@pytest.mark.parametrize(
    ("schedule", "target", "oracle"),
    [
        ("article", "bootstrapped", "linear"),
        ("article", "true", "linear"),
        ("locked", "true", "linear"),
        ("article", "true", "frozen"),
        ("decoupled", "true", "frozen"),
    ],
)
def test_every_rule_and_target_gives_the_same_bits_again(schedule: str, target: str, oracle: str, tied: bool) -> None:
    for seed in range(2):
        rng = random.Random(f"replay {schedule} {target} {tied} {seed}")
        flags = {"oracle__target": target, "oracle__kind": oracle, "model__tied": tied}
        config = random_config(rng, schedule, rng.randint(1, 4), **flags)
        with telling(seed=seed, config=config):
            assert_same(Recorded(config, seed))


def test_a_journal_on_disk_gives_the_same_bits_again() -> None:
    run = recorded()
    lines = {k: [shorten_journal(lot, {}) for lot in (each[:7], each[7:])] for k, each in run.journals.items()}
    replay = finish(run.replay({k: parse_journal("\n".join(each)) for k, each in lines.items()}))
    assert (replay.difference, replay.is_whole) == (None, True)


def test_the_bits_of_another_timing_are_found_to_be_others() -> None:
    """What the tests above are worth: runs of one configuration differ in their bits, and the replay tells."""
    runs = [recorded(seed=seed, schedule__window=3) for seed in range(5)]
    found = {tuple(int(run.sums[k][-1]) for k in run.numbers) for run in runs}
    assert len(found) > 1
    replay = finish(runs[0].replay(sums=runs[1].sums))
    assert replay.is_whole
    assert replay.difference is not None


def test_a_replay_without_sums_compares_nothing_and_gives_the_same_bits() -> None:
    run = recorded()
    replay = finish(Replay(run.config, Batches(run.config, split_of(run.config.data)), run.journals))
    assert (replay.compared, replay.difference, replay.is_whole) == (0, None, True)
    assert_bits(replay.weights(2), run.works[2].weights())


def test_sums_that_were_cut_short_are_compared_as_far_as_they_go() -> None:
    run = recorded()
    replay = finish(run.replay(sums={2: run.sums[2][:10]}))
    assert (replay.difference, replay.is_whole) == (None, True)
    assert replay.compared == sum(map(len, run.sums.values())) - len(run.sums[2]) + 10


# What was changed is found


@pytest.mark.in_process
@TIED
def test_a_changed_sum_is_found_and_named(tied: bool) -> None:
    run, rng = recorded(schedule__window=4, model__tied=tied), random.Random(7)
    places = [(k, place) for k in run.numbers for place in range(len(run.sums[k]))]
    for number, place in rng.sample(places, 40):
        sums = run.sums[number].copy()
        sums[place] ^= 1 << rng.randrange(32)
        found = finish(run.replay(sums={number: sums})).difference
        action, name = run.names[number][place]
        assert found is not None
        assert (found.stage, found.action, found.array) == (run.plan.name(number), str(action), name)
        assert (found.recorded, found.replayed) == (sums[place], run.sums[number][place])
        assert found.story.partition(";")[0].endswith(f" {action}"), "the stage's story ends with the action"
        assert list(found.before) == [run.plan.name(k) for k in run.numbers if k != number]


def test_the_first_of_several_changed_sums_of_a_stage_is_named() -> None:
    run = recorded()
    found = finish(run.replay(sums={2: run.sums[2] ^ np.uint32(1)})).difference
    assert found is not None
    assert (found.stage, found.action, found.array) == ("box-2", *map(str, run.names[2][0]))


def nudge(weights: Weights, name: str) -> None:
    """Add a little to every entry of a weight."""
    weights[name] += 2.0**-6


@pytest.mark.parametrize(
    ("stage", "weight", "array"),
    [
        (1, "Wx", "activation"),
        (2, "Wrec", "activation"),
        (3, "Wx", "activation"),
        (2, "oracle_L", "target"),
        (1, "oracle_L", "increment, array 1 of 2"),
        (4, "Wfc", "gradient"),
    ],
)
def test_first_weights_that_are_others_are_found_in_the_first_action_that_reads_them(
    stage: int, weight: str, array: str
) -> None:
    run = recorded(schedule__window=4)
    replay = run.replay()
    nudge(replay.weights(stage), weight)
    found = finish(replay).difference
    assert found is not None
    assert (found.stage, found.action, found.array) == (run.plan.name(stage), "F0", array)


@pytest.mark.in_process
def test_weights_that_change_on_the_way_are_found_at_their_own_stage() -> None:
    """Whatever else comes of it: nobody else is named, and no action before the first one that reads them."""
    run = recorded(boxes=4, schedule__window=4)
    reads = {"Wx": "FE", "oracle_L": "FT", "Wfc": "FE"}
    rng = random.Random(3)
    for _ in range(20):
        stage = rng.randint(1, run.plan.head)
        weight = "Wfc" if stage == run.plan.head else rng.choice(("Wx", "oracle_L"))
        journal = run.journals[stage]
        readers = [place for place, action in enumerate(journal) if action.kind in reads[weight]]
        when = rng.randrange(readers[-1])
        expected = next(place for place in readers if place > when)
        replay = run.replay()
        for number, action in replay.run():
            if (number, action) == (stage, journal[when]):
                nudge(replay.weights(stage), weight)
        found = replay.difference
        assert found is not None
        assert (found.stage, found.action) == (run.plan.name(stage), str(journal[expected])), (weight, when)


@pytest.mark.in_process
def test_two_actions_in_each_others_place_are_found_or_cannot_be_done() -> None:
    run = recorded(schedule__window=4)
    rng, ends = random.Random(5), set()
    places = [(k, place) for k in run.numbers for place in range(len(run.journals[k]) - 1)]
    for number, place in rng.sample(places, 60):
        journal = list(run.journals[number])
        journal[place : place + 2] = second, _ = journal[place + 1], journal[place]
        name = run.plan.name(number)
        replay = finish(run.replay({number: journal}))
        found = replay.difference
        if found is None:
            assert not replay.is_whole
            assert replay.rest(number).startswith(f"{name} cannot do {second}: ")
        else:
            assert (found.stage, found.action) == (name, str(second))
        ends.add(found is None)
    assert ends == {True, False}, "some are refused by the rules, some are only told by the bits"


@pytest.mark.in_process
def test_a_journal_that_was_cut_leaves_the_others_waiting_for_it() -> None:
    run = recorded(schedule__window=4)
    for number in run.numbers:
        name, journal = run.plan.name(number), run.journals[number]
        for kept in (0, 1, len(journal) // 2):
            replay = finish(run.replay({number: journal[:kept]}))
            assert replay.difference is None, "what could be done gave the same bits"
            assert not replay.is_whole
            assert replay.is_replayed(number)
            assert replay.rest(number) == ""
            assert replay.sums_left(number) == sum(action in journal[kept:] for action, _ in run.names[number])
            rests = [replay.rest(k) for k in run.numbers if k != number and not replay.is_replayed(k)]
            assert any(f"from {name}" in rest for rest in rests), rests
            assert all(" cannot do " in rest for rest in rests)


@pytest.mark.parametrize(
    ("mine", "other", "rest"),
    [
        ({}, {"train__epochs": 3}, "box-1 cannot do E1: the final evaluation follows the drain"),
        ({}, {"train__epochs": 1}, ""),
        ({}, {"train__evaluate_every": 0}, "box-1 cannot do F3: E0 comes before F3"),
        ({}, {"model__tied": False}, "the final evaluation follows the drain; waiting: increment 0 from box-"),
        ({"model__tied": False}, {}, "box 3 is no sibling that shares increments"),
        ({}, {"boxes": 4}, "box 4 is no sibling that shares increments"),
        ({"schedule__window": 1}, {"schedule__window": 4}, "the window of 1 is full; waiting: target 0 from box-2"),
        ({}, {"schedule": "locked"}, "box-1 cannot do B0: B is no action of a stage that learns by the rule"),
        ({"oracle__kind": "frozen", "model__tied": False}, {"model__tied": False}, "learns by the rule 'frozen'"),
    ],
)
def test_journals_of_another_plan_cannot_be_done(mine: dict[str, Any], other: dict[str, Any], rest: str) -> None:
    run = recorded(**mine)
    replay = finish(run.replay(recorded(**other).journals))
    assert not replay.is_whole
    assert any(rest in replay.rest(k) for k in run.numbers), [replay.rest(k) for k in run.numbers]


@pytest.mark.parametrize(
    ("flags", "stage", "action", "array"),
    [
        ({"data.seed": 1}, "box-1", "F0", "activation"),
        ({"train.seed": 1}, "box-1", "F0", "activation"),
        ({"model.loss": "bce"}, "head", "F0", "gradient"),
        ({"train.rate_head": 0.01}, "head", "F1", "gradient"),
        ({"oracle.target": "true"}, "box-2", "F0", "increment, array 1 of 2"),
    ],
    ids=str,
)
def test_what_the_rules_allow_but_computes_something_else_is_told_by_the_bits(
    flags: dict[str, Any], stage: str, action: str, array: str
) -> None:
    run = recorded()
    config = make_config("decoupled", 3, flags)
    replay = finish(Replay(config, Batches(config, split_of(config.data)), run.journals, run.sums))
    found = replay.difference
    assert replay.is_whole
    assert found is not None
    assert (found.stage, found.action, found.array) == (stage, action, array)


# A moment


def listed(name: str, arrays: Arrays) -> Weights:
    """Return arrays by name, numbered where there are several."""
    return {name if len(arrays) == 1 else f"{name}_{place}": array for place, array in enumerate(arrays, 1)}


def expected_arrays(run: Recorded, number: int, action: Action) -> Weights:
    """Return what a moment must hold, gathered from what every stage had at its own end of each message."""
    kind, batch, sibling = action
    plan, seen = run.plan, run.seen
    mine, found = seen[number, action], {}
    names = {GRADIENT: "gradient_sent", TARGET: "target_sent"}
    for what, arrays in mine.outputs.items():
        found |= listed(names.get(what, what), arrays)
    if number == plan.head:
        found["prediction"] = mine.changes["ŷ"]
    if kind in "FE" and number > 1:
        what = ACTIVATION if kind == "F" else EVALUATION
        found["entering"] = seen[number - 1, action].outputs[what][0]
    if kind == "U":
        source = "F" if plan.rule == "synthetic" else "B"
        for k in [sibling] if sibling else plan.siblings(number):
            found |= listed(f"increment_{k}", seen[k, Action(source, batch)].outputs[INCREMENT])
    if kind in "TB":
        what = plan.backward_kind(number)
        assert what is not None
        sender = "F" if what == TARGET or number == plan.boxes else kind
        found[what] = seen[number + 1, Action(sender, batch)].outputs[what][0]
        found["activation"] = seen[number, Action("F", batch)].outputs[ACTIVATION][0]
    if kind in "FT" and number < plan.head and plan.rule == "synthetic":
        found["synthetic"] = synthetic(run, mine.before, found["activation"], batch)
    return found


def synthetic(run: Recorded, weights: Weights, h: Array, batch: int) -> Array:
    """Return what a box's oracle says at an activation, in the words of the mathematics."""
    g: Array = h @ weights["oracle_L"]
    if run.config.oracle.sees_label:
        batches = Batches(run.config, split_of(run.config.data))
        g = g + np.eye(2, dtype=h.dtype)[batches.labels(batch)] @ weights["oracle_M"]
    return g + weights["oracle_c"] if run.config.oracle.bias else g


def assert_moment(found: Moment, run: Recorded, number: int, action: Action) -> None:
    """Assert that a moment holds what there was."""
    seen = run.seen[number, action]
    assert (found.stage, found.action) == (run.plan.name(number), action)
    assert_bits(found.weights_before, seen.before)
    assert_bits(found.weights, seen.after)
    assert_bits(found.arrays, expected_arrays(run, number, action))


@pytest.mark.in_process
@pytest.mark.parametrize(
    ("schedule", "flags"),
    [
        ("decoupled", {"schedule__window": 4}),
        ("decoupled", {"schedule__window": 4, "oracle__sees_label": True, "oracle__bias": True, "data__batch": 4}),
        ("decoupled", {"model__tied": False, "oracle__target": "true", "data__reading": "vector"}),
        ("article", {}),
        ("locked", {"data__batch": 4}),
        ("locked", {"model__tied": False}),
    ],
)
def test_a_moment_holds_what_there_was(schedule: str, flags: dict[str, Any]) -> None:
    run = recorded(schedule, **flags)
    moments = [(k, action) for k in run.numbers for action in run.journals[k]]
    by_kind = {(k == run.plan.head, action.kind): (k, action) for k, action in moments}
    for number, action in {*random.Random(2).sample(moments, 12), *by_kind.values(), moments[0], moments[-1]}:
        with telling(number=number, action=action):
            assert_moment(run.replay().until(number, action), run, number, action)


def test_a_moment_stays_as_it_was_while_the_replay_goes_on() -> None:
    run = recorded()
    replay, action = run.replay(), Action("T", 2)
    found = replay.until(2, action)
    assert not replay.is_whole
    assert (finish(replay).difference, replay.is_whole) == (None, True)
    assert_moment(found, run, 2, action)


def test_a_moment_that_never_comes_is_an_error_that_says_why() -> None:
    run = recorded()
    cut = run.replay({1: run.journals[1][:3]})
    with pytest.raises(
        ScheduleError, match=r"^head never did F5: head cannot do F\d: waiting: activation \d from box-3$"
    ):
        cut.until(4, Action("F", 5))
    with pytest.raises(ScheduleError, match=r"^box-1 never did F99: did "):
        run.replay().until(1, Action("F", 99))


# Folders of real runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A decoupled run of processes; nobody changes it."""
    return launch.run(small(tmp_path_factory.mktemp("replay"), kind="decoupled", epochs=4))


@pytest.fixture
def folder(finished: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run to damage."""
    for name in BLAS_THREADS:
        monkeypatch.setenv(name, "1")  # as the command sets it, for this process alone
    shutil.copytree(finished.folder, tmp_path / "run", ignore=shutil.ignore_patterns("trace", "logs/*.out"))
    return tmp_path / "run"


def said(capsys: pytest.CaptureFixture[str], folder: Path, *words: str | Path) -> tuple[int, str, str]:
    """Return exit code, output and errors of `timebox replay`, in this process."""
    code = main(["replay", str(folder), *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *words: str | Path) -> str:
    """Return the one line with which a record that is not whole, or a wrong request, is refused."""
    code, out, err = said(capsys, folder, *words)
    assert (code, out) == (2, ""), out
    assert re.fullmatch(r"timebox: [^\n]+\n", err), err
    return err.removeprefix("timebox: ").removesuffix("\n")


def as_json(capsys: pytest.CaptureFixture[str], folder: Path, code: int) -> dict[str, Any]:
    """Return the document of a replay that ends with an exit code."""
    found, out, _ = said(capsys, folder, "--json")
    document = json.loads(out)
    assert found == code, document
    assert isinstance(document, dict)
    return document


def in_config(key: str, value: object) -> Damage:
    """Return what changes the first line of a key in config.toml."""

    def damage(folder: Path) -> None:
        path = folder / "config.toml"
        text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {json.dumps(value)}", path.read_text(), count=1)
        assert count == 1
        path.write_text(text)

    return damage


def in_json(name: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    """Return what changes a JSON document of the folder."""

    def damage(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        change(document)
        (folder / name).write_text(json.dumps(document))

    return damage


def in_weights(name: str, change: Callable[[Weights], object]) -> Damage:
    """Return what changes the arrays of a checkpoint."""

    def damage(folder: Path) -> None:
        with np.load(folder / "checkpoint" / name) as stored:
            weights = {key: stored[key] for key in stored.files}
        change(weights)
        np.savez(folder / "checkpoint" / name, **weights)  # type: ignore[arg-type]

    return damage


def without(*names: str) -> Damage:
    """Return what removes files or folders."""

    def damage(folder: Path) -> None:
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def in_bytes(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Return what changes a file's bytes."""

    def damage(folder: Path) -> None:
        before = (folder / name).read_bytes()
        after = change(before)
        assert after != before
        (folder / name).write_bytes(after)

    return damage


def both(*damages: Damage) -> Damage:
    """Return what does several damages."""

    def damage(folder: Path) -> None:
        for each in damages:
            each(folder)

    return damage


@pytest.mark.live
def test_a_real_run_gives_the_same_bits_again(
    finished: Result, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, out, err = said(capsys, folder)
    assert (code, err) == (0, "")
    actions = sum(map(len, finished.journal.values()))
    first, last = out.splitlines()
    assert re.fullmatch(rf"the same bits: {actions:,} actions of 3 stages, [\d,]+ arrays compared, [\d.]+ s", first)
    assert last == f"digest {finished.digest}"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == kept, "it writes nothing"


@pytest.mark.live
def test_the_document_tells_what_was_compared(
    finished: Result, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = as_json(capsys, folder, 0)
    sums = sum(path.stat().st_size // 4 for path in (folder / "journal").glob("*.sums"))
    assert document.pop("seconds") > 0
    assert document == {
        "run": "run", "same": True, "comparable": True, "first_difference": None, "environment": [],
        "digest": finished.digest, "status": "done", "stages": 3, "arrays": sums, "warnings": [],
        "actions": document["recorded_actions"], "recorded_actions": sum(map(len, finished.journal.values())),
    }  # fmt: skip


@pytest.mark.live
def test_a_byte_that_changed_in_a_journal_is_told_before_anything_is_computed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted((folder / "journal").glob("*.txt")):
        content = path.read_bytes()
        for place in (0, 1, len(content) // 3, len(content) // 2, len(content) - 2, len(content) - 1):
            for bit in (0, 5):
                changed = bytearray(content)
                changed[place] ^= 1 << bit
                path.write_bytes(changed)
                text = refused(capsys, folder)
                assert text.startswith(f"{path}: ")
                assert "it was changed or cut after the run" in text or "damaged: " in text
        path.write_bytes(content)


@pytest.mark.live
def test_the_arrays_of_another_run_are_not_passed_off_as_this_ones(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = folder / "config.toml"
    config.write_text(re.sub(r"(?m)^rate_head = .*$", "rate_head = 0.5", config.read_text()))
    out = tmp_path / "moment.npz"
    assert main(["replay", str(folder), "--until", "head:F3", "--out", str(out)]) == 1
    assert "these are not the run's bits: the first difference is at head, F1: " in capsys.readouterr().err
    for bad, error in (("moment", "ends in .npz"), ("no/moment.npz", "there is no folder"), (".", "ends in .npz")):
        assert main(["replay", str(folder), "--until", "head:F3", "--out", str(tmp_path / bad)]) == 2
        assert error in capsys.readouterr().err


@pytest.mark.live
def test_a_byte_that_changed_in_the_sums_names_the_array(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = folder / "summary.json"
    sealed = summary.read_bytes()
    for path in sorted((folder / "journal").glob("*.sums")):
        summary.unlink()  # and with it the seals
        content = path.read_bytes()
        for place in (0, len(content) // 3, len(content) // 2 + 1, len(content) - 5):
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            code, out, err = said(capsys, folder)
            assert (code, err) == (1, "")
            lines = out.splitlines()
            assert lines[0].startswith("not the same bits: ")
            assert lines[1].startswith(f"first difference: {path.stem}, ")
            known = (int.from_bytes(each[place // 4 * 4 :][:4], "little") for each in (changed, content))
            assert lines[2] == "  sum on record {:08x}, replayed {:08x}".format(*known)
            assert lines[-1] == "how far off: final weights by 0 at most"
        summary.write_bytes(sealed)
        changed = bytearray(content)
        changed[len(content) // 3] ^= 1
        path.write_bytes(changed)
        assert refused(capsys, folder) == f"{path}: is not what {path.stem} wrote: it was changed or cut after the run"
        path.write_bytes(content)


@pytest.mark.live
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (without("journal"), "run has no journals: a reference, or a run that never began"),
        (without("journal/box-2.txt"), "box-2.txt: cannot read the journal: No such file or directory; a run replays"),
        (without("journal/head.sums"), "head.sums: cannot read the sums: No such file or directory; a run replays"),
        (in_bytes("journal/box-1.txt", lambda old: old[:0]), "box-1.txt: is not what box-1 wrote"),
        (in_bytes("journal/box-1.txt", lambda old: old + b"F99"), "box-1.txt: is not what box-1 wrote"),
        (in_bytes("journal/head.sums", lambda old: old[:-4]), "head.sums: is not what head wrote"),
        (in_bytes("journal/head.sums", lambda old: old + old[-4:]), "head.sums: is not what head wrote"),
        (without("checkpoint/initial/box-1.npz"), "initial/box-1.npz: cannot read the weights: "),
        (without("checkpoint/final/head.npz"), "final/head.npz: cannot read the weights: "),
        (in_bytes("checkpoint/final/box-2.npz", lambda old: old[:99]), "final/box-2.npz: cannot read the weights: "),
        (
            in_bytes("checkpoint/final/box-2.npz", lambda old: old.replace(b"{'descr'", b"\x16'descr'")),
            "final/box-2.npz: cannot read the weights: ",
        ),
        (in_config("epochs", 3), "run: its journals are not of this configuration: box-1 cannot do "),
        (in_config("epochs", 5), "run: its journals are not of this configuration: the journals end before the run"),
        (in_config("boxes", 3), "box-3.txt: cannot read the journal: No such file or directory"),
        (in_config("width", -1), "config.toml: model.width: "),
        (in_json("summary.json", lambda new: new["stages"][0].pop("seal")), "box-1 has left no seal on its journal"),
        (in_json("summary.json", lambda new: new["stages"][0]["seal"].pop("sums")), "box-1"),
        (in_json("summary.json", lambda new: new["stages"][0].update(seal="none")), "box-1"),
        (in_json("summary.json", lambda new: new.update(stages=None)), ""),
    ],
)  # fmt: skip
def test_a_record_that_is_not_whole_is_refused_in_one_line(
    damage: Damage, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder)
    assert told in refused(capsys, folder)


@pytest.mark.live
@pytest.mark.parametrize(
    ("damage", "stage", "action", "array"),
    [
        (in_config("rate_head", 0.5), "head", "F1", "gradient"),
        (in_config("loss", "bce"), "head", "F0", "gradient"),
        (in_config("steps_per_box", 2), "box-1", "F0", "activation"),
        (in_config("seed", 3), "box-1", "F0", "activation"),
        (in_config("init", 1.0), "box-1", "start", "Wrec of checkpoint/initial"),
        (in_config("width", 17), "box-1", "start", "Wrec of checkpoint/initial"),
        (in_config("dtype", "float64"), "box-1", "start", "Wrec of checkpoint/initial"),
        (
            in_weights("initial/box-2.npz", lambda new: nudge(new, "oracle_L")),
            "box-2", "start", "oracle_L of checkpoint/initial",
        ),
        (in_weights("final/box-2.npz", lambda new: nudge(new, "Wx")), "box-2", "end", "Wx of checkpoint/final"),
        (in_weights("final/head.npz", lambda new: new.pop("Wfc")), "head", "end", "Wfc of checkpoint/final"),
        (in_weights("final/head.npz", lambda new: new.update(b=np.zeros(1))), "head", "end", "b of checkpoint/final"),
        (
            both(without("summary.json"), in_weights("final/box-2.npz", lambda new: nudge(new, "Wx"))),
            "box-2", "end", "Wx of checkpoint/final",
        ),
        (in_json("summary.json", lambda new: new.update(digest="0")), "all", "end", "the digest of all final weights"),
    ],
)  # fmt: skip
def test_other_bits_are_a_difference_that_is_named(
    damage: Damage, stage: str, action: str, array: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder)
    code, out, err = said(capsys, folder)
    assert (code, err) == (1, "")
    first, second, *_ = out.splitlines()
    assert first.startswith("not the same bits: ")
    assert second == f"first difference: {stage}, {action}: {array}"


@pytest.mark.live
def test_how_far_off_final_weights_are_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_weights("final/box-2.npz", lambda new: nudge(new, "Wx"))(folder)
    far_off = as_json(capsys, folder, 1)["first_difference"]["far_off"]
    assert far_off == pytest.approx(2.0**-6, rel=1e-4)


@pytest.mark.live
def test_what_bits_do_not_depend_on_may_be_another(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for damage in (in_config("window", 100), in_config("most_mb", 1), in_config("level", "action")):
        damage(folder)
    shutil.rmtree(folder / "metrics")
    assert as_json(capsys, folder, 0)["same"]


OTHER_NUMPY = in_json("environment.json", lambda new: new["packages"].update(numpy="1.0"))


@pytest.mark.live
@pytest.mark.parametrize(
    "damage",
    [
        OTHER_NUMPY,
        in_json("environment.json", lambda new: new.update(processor="another")),
        in_json("environment.json", lambda new: new.update(packages=[])),
        without("environment.json"),
    ],
)
def test_another_environment_with_the_same_bits_is_the_same(
    damage: Damage, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder)
    document = as_json(capsys, folder, 0)
    assert (document["same"], document["comparable"], document["environment"]) == (True, True, [])


@pytest.mark.live
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (OTHER_NUMPY, r"  numpy: 1\.0 there, [\d.]+ here"),
        (in_json("environment.json", lambda new: new.update(processor="another")), r"  processor: another there, .* here"),
        (in_json("environment.json", lambda new: new["blas"].update(version="0")), r"  blas: \{.*\} there, \{.*\} here"),
        (
            in_json("environment.json", lambda new: new["blas_settings"].update(OPENBLAS_CORETYPE="Nehalem")),
            r"  blas_settings: .*Nehalem.* there, .* here",
        ),
        (in_json("environment.json", lambda new: new.pop("packages")), r"  numpy: None there, [\d.]+ here"),
        (in_json("environment.json", lambda new: new.update(packages=[])), r"  .*(numpy|environment\.json).*"),
        (without("environment.json"), r"  the run's environment\.json cannot be read"),
        (in_bytes("environment.json", lambda old: old[:50]), r"  the run's environment\.json cannot be read"),
    ],
)  # fmt: skip
def test_other_bits_in_another_environment_are_not_comparable(
    damage: Damage, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both(damage, in_config("rate_head", 0.5))(folder)
    code, out, err = said(capsys, folder)
    assert (code, err) == (3, "")
    first, second, third, *_ = out.splitlines()
    assert first.startswith("not comparable: the bits differ, and so does the environment: ")
    assert re.fullmatch(told, second)
    assert third == "first difference: head, F1: gradient"


@pytest.mark.live
def test_the_environment_of_the_run_is_that_of_its_replay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert differences(runs.read_json(folder / "environment.json")) == []
    in_json("environment.json", lambda new: new.update(load=[9], cores=99, python="2", platform="A"))(folder)
    in_json("environment.json", lambda new: new["blas_settings"].update(OPENBLAS_NUM_THREADS="8"))(folder)
    assert differences(runs.read_json(folder / "environment.json")) == [], "bits do not depend on these"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert differences(runs.read_json(folder / "environment.json")) == ["BLAS threads: 1 there, not limited here"]


def test_a_run_that_left_no_seal_is_of_an_older_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_folder(tmp_path / "run", {"model.boxes": 1})
    for hand in hands(tmp_path / "run", config):
        hand.journal("F0 F1").done()
    (tmp_path / "run" / "summary.json").write_text(json.dumps({"status": "done", "stages": [{"name": "box-1"}]}))
    assert refused(capsys, tmp_path / "run").startswith("run: box-1 has left no seal on its journal")


@pytest.mark.live
def test_a_run_without_a_summary_is_replayed_from_what_there_is(
    finished: Result, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "summary.json").unlink()
    (folder / "launcher.json").unlink()  # it names a process that lives: this one
    document = as_json(capsys, folder, 0)
    assert (document["status"], document["digest"]) == ("died", finished.digest)
    assert document["actions"] == document["recorded_actions"]


# A moment of a real run


@pytest.mark.live
def test_the_arrays_of_a_moment_are_saved_and_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "moment.npz"
    code, text, err = said(capsys, folder, "--until", "box-1:T17", "--out", out)
    assert (code, err) == (0, "")
    lines = text.splitlines()
    assert lines[0] == "box-1 at the end of T17"
    assert re.fullmatch(r"  oracle_L +float32 \(16, 16\), norm \S+  changed by this action", lines[3])
    assert lines[-1] == f"all of it: {out}"
    with np.load(out) as stored:
        found = {name: stored[name] for name in stored.files}
    weights = [f"{when}.{name}" for when in ("after", "before") for name in ("Wx", "Wrec", "oracle_L")]
    assert sorted(found) == sorted([*weights, "activation", "synthetic", "target"])
    assert_bits({"": found["synthetic"]}, {"": found["activation"] @ found["before.oracle_L"]})
    error = found["synthetic"] - found["target"]
    step = np.float32(1e-4) * (found["activation"].T @ error)
    np.testing.assert_allclose(found["after.oracle_L"], found["before.oracle_L"] - step, rtol=1e-5, atol=1e-12)


@pytest.mark.live
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--until", "box-3:T1"], "--until: 'box-3:T1': 'box-3' is no stage of this run; stages are box-1 … box-2"),
        (["--until", "T1"], "--until: 'T1': 'T1' is no stage of this run"),
        (["--until", "box-1:"], "--until: 'box-1:': '' is no action"),
        (["--until", "box-1:T99"], "--until: box-1 never did T99; its journal has E0 to E3, F0 to F47, T0 to T47, U"),
        (["--until", "head:T1"], "--until: head never did T1; its journal has E0 to E3, F0 to F47"),
        (["--out", "moment.npz"], "--out: goes with --until STAGE:ACTION"),
    ],
)  # fmt: skip
def test_a_wrong_moment_is_refused_in_one_line(
    words: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, folder, *words).startswith(told)


@pytest.mark.live
def test_a_moment_that_a_changed_plan_cannot_reach_says_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_config("window", 1)(folder)
    assert re.match(
        r"run: box-1 never did T40: box-1 cannot do (F\d+: the window of 1 is full; |T\d+: )waiting: target \d+ from box-2",
        refused(capsys, folder, "--until", "box-1:T40"),
    )


# From Python


@pytest.mark.live
def test_a_result_replays_itself(finished: Result) -> None:
    document = finished.replay()
    assert document["same"]
    assert (document["run"], document["digest"]) == (finished.folder.name, finished.digest)
    last = next(str(action) for action in reversed(finished.journal["head"]) if action.kind == "F")
    found = finished.replay_until(f"head:{last}")
    assert_bits({"Wfc": found["after.Wfc"]}, finished.weights["head"])
    with pytest.raises(ConfigError, match=r"^--until: head never did F999; its journal has "):
        finished.replay_until("head:F999")


@pytest.mark.live
def test_a_results_replay_tells_a_difference_and_refuses_what_is_not_whole(folder: Path) -> None:
    in_config("rate_head", 0.5)(folder)
    found = Result(folder, {}).replay()["first_difference"]
    assert (found["stage"], found["action"]) == ("head", "F1")
    without("journal")(folder)
    with pytest.raises(ConfigError, match=r"^run has no journals: "):
        Result(folder, {}).replay()


# What it costs


@pytest.mark.live
def test_a_journal_takes_at_most_eight_bytes_an_action(finished: Result) -> None:
    for name, journal in finished.journal.items():
        size = (finished.folder / "journal" / f"{name}.txt").stat().st_size
        assert len(journal) >= 50
        assert size <= 8 * len(journal)


@pytest.mark.live
def test_the_benchmark_runs_replays_and_tells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_replay, "WIDTHS", {16: 2})
    assert main(["bench", "replay", "--repeats", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (row,) = document["rows"]
    assert (row["same"], document["total"]["same"], row["kept"]) == (True, 1, None)
    assert [cost["width"] for cost in document["recording"]] == list(bench_replay.WIDTHS)
    assert all(cost["of_work"] > 0 for cost in document["recording"])
    row |= {"same": False, "first_difference": "head, F1", "kept": "/a/b"}
    lines = bench_replay.lines(document)
    assert "1 of 1 gave the same bits: " in lines[1]
    assert lines[2] == "0: head, F1; kept: /a/b"


# Runs that did not come to their end


@pytest.mark.chaos
def test_an_interrupted_run_replays_as_far_as_it_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, "--schedule.kind", "decoupled") as run:
        run.running()
        run.process.send_signal(signal.SIGINT)
        assert run.wait(10) == 130
    document = as_json(capsys, run.folder, 0)
    assert (document["same"], document["status"], document["warnings"]) == (True, "interrupted", [])
    assert document["actions"] == document["recorded_actions"] >= 150
    assert said(capsys, run.folder)[1].endswith("the run ended as interrupted\n")
    in_weights("interrupted/box-1.npz", lambda new: nudge(new, "Wrec"))(run.folder)
    found = as_json(capsys, run.folder, 1)["first_difference"]
    assert (found["stage"], found["array"]) == ("box-1", "Wrec of checkpoint/interrupted")


@pytest.mark.chaos
@pytest.mark.parametrize("victim", ["box-1", "head"])
def test_a_run_with_a_killed_worker_replays_as_far_as_its_journals_go(
    victim: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, "--schedule.kind", "decoupled") as run:
        pids = run.running()
        os.kill(pids[victim], signal.SIGKILL)
        assert run.wait(10) == 1
    document = as_json(capsys, run.folder, 0)
    assert (document["same"], document["status"], document["digest"]) == (True, "failed", None)
    left = document["recorded_actions"] - document["actions"]
    assert document["actions"] >= len(read_journal(run.folder, victim)) >= 50
    assert document["arrays"] > document["actions"]
    if left:  # what the victim did after its last flush is lost, and others had gone on with it
        (text,) = document["warnings"]
        assert text.startswith(f"{left:,} of {document['recorded_actions']:,} recorded actions wait for what was lost")


@pytest.mark.chaos
def test_a_run_whose_launcher_was_killed_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with launched(tmp_path, "--train.epochs", ENDLESS, "--schedule.kind", "decoupled") as run:
        pids = run.running()
        run.process.kill()
        run.wait(2)
        until("every worker gone", lambda: no_worker_left(pids), 5)
    document = as_json(capsys, run.folder, 0)
    assert (document["same"], document["status"]) == (True, "died")
    assert document["actions"] >= 150


def test_a_run_that_ends_meanwhile_is_held_against_nothing_of_a_later_moment(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its journals were read while it went on, and then held against the final weights, which had come meanwhile."""
    for stage in ("box-1", "box-2", "head"):
        path = folder / "journal" / f"{stage}.txt"
        words = path.read_text().split(" ")
        path.write_text(" ".join(words[: len(words) // 2]) + "\n")
    (folder / "summary.json").unlink()
    state = json.loads((folder / "launcher.json").read_text())
    ticks = started_ticks(os.getpid())
    (folder / "launcher.json").write_text(json.dumps({**state, "pid": os.getpid(), "started_ticks": ticks}))
    document = as_json(capsys, folder, 0)
    assert (document["same"], document["status"], document["digest"]) == (True, "running", None)
    assert 0 < document["actions"] <= document["recorded_actions"]
    assert all("not yet on record" in text for text in document["warnings"])
    (folder / "launcher.json").write_text(json.dumps({**state, "pid": None}))
    assert not as_json(capsys, folder, 1)["same"], "one that has died is held against what it left"
