"""What a cell and a task ask of the rest of a configuration: refused by key and with a way out that works, or let through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import dump, load, resolve
from pipeline.errors import ConfigError
from pipeline.plan import Plan
from pipeline.presets import PRESETS
from pipeline.sizes import box_steps, most, outputs, state

Flags = dict[str, Any]

COPY: Flags = {"data.name": "copy", "model.loss": "bce", "model.boxes": 3, "model.steps_per_box": 3}
REPEAT: Flags = {"data.name": "repeat-copy", "model.loss": "bce", "model.boxes": 3, "model.steps_per_box": 3}
ADDING: Flags = {"data.name": "adding", "model.loss": "mse", "model.boxes": 3}
ADDITION: Flags = {"data.name": "addition", "model.loss": "bce", "model.boxes": 3}
DENSE: Flags = {"model.cell": "dense", "model.tied": False}

#: Name: what is wrong, the key that is named, what else is said, and the way out.
REFUSED: dict[str, tuple[Flags, str, str, Flags]] = {
    "tied layers": ({"model.cell": "dense"}, "model.tied", "add --model.tied false", {"model.tied": False}),
    "rows to layers": (
        {**DENSE, "data.reading": "rows"},
        "model.cell",
        "data.reading rows is read step by step; use rnn, gru or lstm",
        {"model.cell": "lstm"},
    ),
    "a sequence to layers": (
        {**ADDING, **DENSE},
        "model.cell",
        "data.name adding is read step by step; use rnn, gru or lstm",
        {"model.cell": "gru"},
    ),
    "symbols to layers": ({**COPY, **DENSE}, "model.cell", "data.name copy is read step by step", {"model.cell": "rnn"}),
    "an identity of gates": (
        {"model.cell": "gru", "model.recurrent": "identity"},
        "model.recurrent",
        "a start for model.cell rnn, not for gru; leave it out",
        {"model.recurrent": "normal"},
    ),
    "an identity of layers": (
        {**DENSE, "model.recurrent": "identity"},
        "model.recurrent",
        "not for dense; leave it out",
        {"model.recurrent": "normal"},
    ),
    "digits as numbers": (
        {"model.loss": "mse"},
        "model.loss",
        "for digits use squared, bce or softmax",
        {"model.loss": "softmax"},
    ),
    "numbers as bits": (
        {**ADDING, "model.loss": "bce"}, "model.loss", "adding needs mse, not bce; add --model.loss mse", {"model.loss": "mse"},
    ),
    "bits as classes": (
        {**ADDITION, "model.loss": "softmax"},
        "model.loss",
        "addition needs bce or squared, not softmax",
        {"model.loss": "squared"},
    ),
    "symbols as numbers": (
        {**COPY, "model.loss": "squared"}, "model.loss", "copy needs bce, not squared; add", {"model.loss": "bce"},
    ),
    "repeated symbols as numbers": (
        {**REPEAT, "model.loss": "mse"}, "model.loss", "repeat-copy needs bce, not mse; add", {"model.loss": "bce"},
    ),
    "images of a task": (
        {**COPY, "data.source": "full"}, "data.source", "it reads no images; leave it out", {"data.source": "packaged"},
    ),
    "a folder of a task": (
        {**ADDING, "data.dir": "mnist"}, "data.dir", "it reads no images; leave it out", {"data.dir": ""},
    ),
    "rows of a task": (
        {**ADDITION, "data.reading": "rows"},
        "data.reading",
        "it reads no images; leave it out",
        {"data.reading": "vector"},
    ),
    "a sum of one bit": ({**ADDITION, "data.bits": 1}, "data.bits", "at least 2 bits", {"data.bits": 5}),
    "more sums than there are": (
        {**ADDITION, "data.bits": 4, "data.test": 40, "data.validation": 24},
        "data.test",
        "64 sums are held back, there are only 64 pairs with sums of 4 bits; ask for fewer, or more data.bits",
        {"data.test": 39},
    ),
    "a length of sums": ({**ADDITION, "data.length": 5}, "data.length", "not read by data.name addition", {"data.length": 0}),
    "bits of numbers": ({**ADDING, "data.bits": 5}, "data.bits", "add --data.bits 8, or leave it out", {"data.bits": 8}),
    "a length of digits": ({"data.length": 5}, "data.length", "not read by data.name mnist01", {"data.length": 0}),
    "one number to add": ({**ADDING, "data.length": 1}, "data.length", "2 at least", {"data.length": 3}),
    "too few steps to copy": (
        {**COPY, "model.boxes": 2, "model.steps_per_box": 1},
        "model.steps_per_box",
        "2 boxes of 1 make 2 steps, the shortest copy takes 3; more boxes, or more steps in each",
        {"model.boxes": 3},
    ),
    "too few steps to repeat": (
        {**REPEAT, "model.steps_per_box": 1},
        "model.steps_per_box",
        "3 boxes of 1 make 3 steps, the shortest repeat-copy takes 4; more boxes, or more steps in each",
        {"model.steps_per_box": 2},
    ),
    "too long to copy": (
        {**COPY, "data.length": 5},
        "data.length",
        "5 takes 11 steps, the boxes have 9; 4 at most, or more boxes",
        {"data.length": 4},
    ),
    "too long to repeat": (
        {**REPEAT, "data.length": 4},
        "data.length",
        "4 takes 10 steps, the boxes have 9; 3 at most, or more boxes",
        {"model.boxes": 4},
    ),
    "frozen": ({**COPY, "oracle.kind": "frozen"}, "oracle.kind", "--oracle.kind local", {"oracle.kind": "local"}),
    "last": ({**REPEAT, "oracle.kind": "last"}, "oracle.kind", "last is no control", {"oracle.kind": "local"}),
    "exact": ({**COPY, "oracle.kind": "exact"}, "oracle.kind", "exact is no control", {"oracle.kind": "local"}),
    "half of a loss": (
        {**COPY, "oracle.scale": 0.5},
        "oracle.scale",
        "learns from its own losses too, which are no oracle's; leave it out",
        {"oracle.scale": 1.0},
    ),
    "labels of a sequence": (
        {**REPEAT, "oracle.sees_label": True},
        "oracle.sees_label",
        "no label of the whole; leave it out",
        {"oracle.sees_label": False},
    ),
    "more boxes than numbers": (
        {**ADDING, "data.length": 5, "model.boxes": 6},
        "model.boxes",
        "6 boxes but only 5 steps; at most 5 boxes",
        {"model.boxes": 5},
    ),
    "more boxes than symbols": (
        {**COPY, "model.steps_per_box": 0, "data.length": 1, "model.boxes": 4},
        "model.boxes",
        "4 boxes but only 3 steps; at most 3 boxes",
        {"model.boxes": 3},
    ),
    "other steps than numbers": (
        {**ADDING, "data.length": 7, "model.steps_per_box": 2},
        "model.steps_per_box",
        "3 boxes of 2 steps make 6 steps, a sequence has 7; 0 spreads them evenly",
        {"model.steps_per_box": 0},
    ),
    "nothing to validate": (
        {**COPY, "data.judge": "validation"},
        "data.judge",
        "say how many with data.validation",
        {"data.validation": 3},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_together_is_refused_by_key_with_a_way_out(name: str) -> None:
    flags, key, text, way_out = REFUSED[name]
    with pytest.raises(ConfigError) as caught:
        resolve(flags=flags)
    told = str(caught.value)
    assert told.startswith(f"{key}: ")
    assert text in told
    assert "\n" not in told
    resolve(flags=flags | way_out)


@pytest.mark.parametrize(
    "flags",
    [
        {**DENSE, "model.boxes": 4, "model.steps_per_box": 2, "data.name": "mnist", "model.loss": "softmax"},
        {"model.cell": "dense", "model.boxes": 1},
        {"model.cell": "lstm", "data.reading": "rows", "model.boxes": 4},
        {"model.recurrent": "identity"},
        {**ADDITION, **DENSE, "model.function": "sigmoid"},
        {**ADDITION, "model.cell": "gru", "data.bits": 4, "data.test": 40, "data.validation": 23},
        {**ADDITION, "model.loss": "squared", "oracle.sees_label": True, "oracle.kind": "mlp"},
        {**ADDING, "oracle.sees_label": True, "oracle.scale": 0.5, "oracle.kind": "mlp"},
        {**ADDING, "data.length": 6, "model.steps_per_box": 2, "oracle.kind": "exact"},
        {**ADDING, "oracle.kind": "last", "schedule.kind": "decoupled"},
        {**COPY, "oracle.kind": "local"},
        {**COPY, "oracle.kind": "mlp", "oracle.memory": 4, "oracle.replays": 2},
        {**COPY, "oracle.kind": "stale", "schedule.kind": "decoupled"},
        {**COPY, "oracle.correct": True, "schedule.kind": "decoupled", "data.curriculum": False},
        {**COPY, "model.boxes": 1, "model.steps_per_box": 3},
        {
            **COPY,
            "model.steps_per_box": 0,
            "data.length": 20,
            "schedule.kind": "gpipe",
            "data.batch": 4,
            "data.train": 8,
        },
        {**REPEAT, "model.cell": "gru", "schedule.kind": "1f1b", "model.tied": False},
        {**REPEAT, "data.validation": 30, "data.judge": "validation"},
        {**COPY, "model.tied": False, "emulate.delay_ms": {"head>box-1": 5.0}},
    ],
    ids=lambda flags: ",".join(str(value) for key, value in flags.items() if key != "model.loss"),
)
def test_what_makes_sense_is_let_through_and_comes_back_from_a_file(flags: Flags, tmp_path: Path) -> None:
    config = resolve(flags=flags)
    path = tmp_path / "config.toml"
    path.write_text(dump(config))
    assert load(path) == config
    assert Plan.of(load(path)) == Plan.of(config)


@pytest.mark.parametrize("preset", ["dense", "copy", "repeat-copy", "adding", "addition"])
def test_a_preset_comes_back_from_a_file(preset: str, tmp_path: Path) -> None:
    config = resolve(preset)
    assert config.data.name == (preset if preset != "dense" else "mnist")
    for group, keys in PRESETS[preset].items():
        for key, value in keys.items():
            assert getattr(getattr(config, group), key) == value
    path = tmp_path / "config.toml"
    path.write_text(dump(config))
    assert load(path) == config == resolve(file=path)


def test_a_preset_goes_with_any_schedule_of_its_boxes() -> None:
    for preset in ("dense", "copy", "repeat-copy", "adding", "addition"):
        for schedule in ("article", "locked", "gpipe", "decoupled"):
            whole = {"data.train": 100 * PRESETS[preset]["data"]["batch"]}  # micro-batches want whole ones
            assert resolve(preset, flags={"schedule.kind": schedule, **whole}).schedule.kind == schedule


def test_sizes_follow_the_task() -> None:
    assert box_steps(resolve(flags=COPY)) == (3, 3, 3)
    assert (most(resolve(flags=COPY)), most(resolve(flags={**COPY, "data.length": 2}))) == (4, 2)
    assert box_steps(resolve(flags={**COPY, "model.steps_per_box": 0})) == (4, 4, 3), "five symbols, if nothing is said"
    assert most(resolve(flags={**REPEAT, "model.steps_per_box": 0})) == 3
    assert box_steps(resolve(flags=ADDING)) == (17, 17, 16)
    assert box_steps(resolve(flags=ADDITION)) == (1, 1, 1)
    assert outputs(resolve(flags={**REPEAT, "data.bits": 5})) == 6
    assert [state(resolve(flags={"model.cell": cell, "model.width": 8})) for cell in ("gru", "lstm")] == [8, 16]
