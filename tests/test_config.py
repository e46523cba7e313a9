"""Configuration: layers, the file and its inverse, and that every bad input is one line with source, key and way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import changed, complete, dump, fields, load, parse_value, resolve
from pipeline.errors import ConfigError
from pipeline.presets import PRESETS
from pipeline.schema import Config, Data, Model, Schedule


def file_of(folder: Path, text: str | bytes) -> Path:
    path = folder / "wanted.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def line_of(error: pytest.ExceptionInfo[ConfigError]) -> str:
    """Return the error's text, which must be one line."""
    line = str(error.value)
    assert line
    assert len(line.splitlines()) == 1
    return line


def value_of(config: Config, key: str) -> Any:
    group, _, item = key.partition(".")
    return getattr(getattr(config, group), item)


# Layers


def test_the_default_is_preset_article_as_published() -> None:
    config = resolve()
    assert config == resolve("article")
    assert (config.model.width, config.model.boxes, config.model.tied, config.data.batch) == (784, 2, True, 1)
    assert (config.data.train, config.data.test, config.train.epochs) == (50, 20, 50)
    assert (config.schedule.kind, config.oracle.init, config.log.level) == ("article", "zero", "action")


def test_each_layer_wins_over_the_one_below(tmp_path: Path) -> None:
    path = file_of(tmp_path, "[data]\ntrain = 100\ntest = 30\n[model]\nwidth = 16\n")
    config = resolve("digits", path, {"data.test": 7})
    assert config.data.reading == Config().data.reading  # default
    assert config.train.epochs == PRESETS["digits"]["train"]["epochs"]  # preset
    assert (config.data.train, config.model.width) == (100, 16)  # file
    assert config.data.test == 7  # flag


def test_a_file_alone_starts_from_the_defaults_and_not_from_a_preset(tmp_path: Path) -> None:
    config = resolve(file=file_of(tmp_path, "[train]\nepochs = 2\n"))
    assert config.model == Config().model
    assert config.train.epochs == 2


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert resolve(file=file_of(tmp_path, "")) == complete(Config())


def test_resolving_leaves_the_presets_as_they_are() -> None:
    before = msgspec.json.encode(PRESETS)
    resolve("digits", flags={"data.train": 30, "schedule.kind": "article"})
    assert msgspec.json.encode(PRESETS) == before


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_resolves(preset: str) -> None:
    assert resolve(preset).schedule.window is not None


# What depends on other keys


@pytest.mark.parametrize("boxes", [1, 2, 7])
def test_the_window_of_decoupled_is_twice_the_stages(boxes: int) -> None:
    assert resolve(flags={"schedule.kind": "decoupled", "model.boxes": boxes}).schedule.window == 2 * (boxes + 1)


@pytest.mark.parametrize("kind", ["article", "locked"])
def test_a_program_has_one_batch_in_flight(kind: str) -> None:
    assert resolve(flags={"schedule.kind": kind}).schedule.window == 1


def test_a_window_that_is_given_stays() -> None:
    assert resolve(flags={"schedule.kind": "decoupled", "schedule.window": 3}).schedule.window == 3


def test_completing_twice_changes_nothing() -> None:
    config = resolve("digits")
    assert complete(config) == config


# The file and its inverse


@settings(max_examples=10, deadline=None)
@given(
    boxes=st.integers(1, 28),
    rate=st.floats(0, 1e6, allow_nan=False),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["article", "locked", "decoupled"]),
    folder=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    tied=st.booleans(),
)
def test_a_dumped_configuration_loads_as_the_same(
    tmp_path_factory: pytest.TempPathFactory, boxes: int, rate: float, seed: int, kind: str, folder: str, tied: bool
) -> None:
    flags = {
        "model.boxes": boxes, "model.tied": tied, "train.rate_input": rate, "train.seed": seed, "schedule.kind": kind,
        "run.dir": folder, "data.reading": "rows",
    }  # fmt: skip
    config = resolve("digits", flags=flags)
    path = file_of(tmp_path_factory.mktemp("dump"), dump(config))
    assert load(path) == config
    assert resolve(file=path) == config


def test_a_dump_states_every_key_that_is_resolved() -> None:
    text = dump(resolve())
    for field in fields():
        is_table = isinstance(field.default, dict)
        assert (f"\n[{field.key}]\n" if is_table else f"\n{field.key.partition('.')[2]} = ") in text, field.key


def test_a_configuration_without_a_window_can_be_dumped(tmp_path: Path) -> None:
    assert load(file_of(tmp_path, dump(Config()))) == complete(Config())


# Bad files


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[modle]\nwidth = 3", ["modle", "unknown group", "did you mean model"]),
        ("[zebra]\nwidth = 3", ["zebra", "unknown group", "model, oracle, data, train, schedule, transport"]),
        ("[model]\nbox = 3", ["model.box", "unknown key", "did you mean boxes"]),
        ("[schedule]\nzebra = 3", ["schedule.zebra", "unknown key", "kind, window"]),
        ('["mo\\ndel"]\nwidth = 3', ["unknown group", "did you mean model"]),
        ("model = 3", ["model", "expected a table", "[model]"]),
        ('[model]\nboxes = "two"', ["model.boxes", "expected int", "str"]),
        ("[model]\nboxes = 2.0", ["model.boxes", "expected int"]),
        ("[model]\nboxes = true", ["model.boxes", "expected int"]),
        ("[model]\nboxes = [1, 2]", ["model.boxes", "expected int"]),
        ("[model]\nboxes = 0", ["model.boxes", "expected int >= 1"]),
        ("[model]\ntied = 1", ["model.tied", "expected bool"]),
        ('[model]\nloss = "hinge"', ["model.loss", "hinge", "squared", "bce", "softmax"]),
        ("[model]\ninit = 0", ["model.init", "expected float > 0"]),
        ("[model]\ninit = inf", ["model.init"]),
        ("[train]\nrate_input = -1", ["train.rate_input", "expected float >= 0"]),
        ("[train]\nrate_input = nan", ["train.rate_input", "expected float >= 0"]),
        ("[train]\nrate_input = inf", ["train.rate_input"]),
        ("[schedule]\nwindow = 0", ["schedule.window", "expected int >= 1"]),
        ("[data]\nseed = -1", ["data.seed", "expected int >= 0"]),
        ("[transport]\nport = 70000", ["transport.port", "expected int <= 65535"]),
        ('[run]\ndir = ""', ["run.dir", "length >= 1"]),
        ('[run]\nname = "a/b"', ["run.name"]),
        ('[run]\nname = "a\\n"', ["run.name"]),
        ("[model\nboxes = 2", ["not TOML", "line 1"]),
        ("[model]\nboxes = 2\nboxes = 3", ["not TOML"]),
        (b'[run]\nname = "\xff"', ["not TOML", "UTF-8"]),
    ],
)
def test_a_bad_file_is_one_line_with_file_key_and_way_out(tmp_path: Path, text: str | bytes, says: list[str]) -> None:
    path = file_of(tmp_path, text)
    for read in (load, lambda path: resolve(file=path)):
        with pytest.raises(ConfigError) as error:
            read(path)
        line = line_of(error)
        assert line.startswith(f"{path}: ")
        for part in says:
            assert part in line


@pytest.mark.parametrize(("name", "says"), [("missing.toml", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(file=tmp_path / name)
    assert line_of(error) == f"{tmp_path / name}: cannot read the configuration: {line_of(error).rpartition(': ')[2]}"
    assert says in line_of(error)


# Bad values and combinations


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"model.boxes": 0}, ["model.boxes", ">= 1"]),
        ({"modle.boxes": 2}, ["modle", "did you mean model"]),
        ({"model.boxs": 2}, ["model.boxs", "did you mean boxes"]),
        ({"boxes": 2}, ["boxes", "unknown group"]),
        ({"data.reading": "rows", "model.boxes": 29}, ["model.boxes", "29", "28 steps", "at most 28 boxes"]),
        (
            {"data.reading": "rows", "model.boxes": 3, "model.steps_per_box": 9},
            ["model.steps_per_box", "27", "28 rows", "0 spreads them evenly"],
        ),
        ({"data.train": 10, "data.batch": 11}, ["data.batch", "11", "at most 10"]),
        (
            {"data.train": 2_100, "data.test": 20},
            ["data.train, data.test", "2,115", "ask for fewer", "--data.source full"],
        ),
        (
            {"data.source": "full", "data.train": 12_666},
            ["data.train, data.test", "12,666", "12,665", "ask for fewer"],
        ),
        (
            {"data.source": "full", "data.name": "mnist", "data.test": 10_001},
            ["data.train, data.test", "10,001", "10,000", "ask for fewer"],
        ),
        ({"data.dir": "digits"}, ["data.dir", "data.source full", "leave data.dir out"]),
        ({"schedule.window": 2}, ["schedule.window", "article", "leave it out", "decoupled"]),
        ({"schedule.kind": "locked", "schedule.window": 2}, ["schedule.window", "locked", "decoupled"]),
    ],
)
def test_a_bad_request_is_one_line_with_key_and_way_out(flags: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(flags=flags)
    for part in says:
        assert part in line_of(error)


def test_an_unknown_preset_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError) as error:
        resolve("artcle")
    assert line_of(error) == f"--preset: 'artcle' is unknown; did you mean article? presets are {', '.join(PRESETS)}"


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (Config(schedule=Schedule(kind="decoupled", window=0)), "schedule.window"),
        (Config(model=Model(boxes=0)), "model.boxes"),
        (Config(data=Data(batch=0)), "data.batch"),
    ],
    ids=["window", "boxes", "batch"],
)
def test_a_configuration_made_in_python_is_checked_as_a_file_is(config: Config, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        complete(config)
    assert key in line_of(error)


@pytest.mark.parametrize(
    "flags",
    [
        {"data.reading": "rows", "model.boxes": 28},
        {"data.reading": "rows", "model.boxes": 4, "model.steps_per_box": 7},
        {"data.train": 10, "data.batch": 10},
        {"data.train": 2_095, "data.test": 20},
        {"data.source": "full", "data.dir": "digits", "data.train": 12_665, "data.test": 2_115},
        {"schedule.window": 1},
    ],
)
def test_the_limits_themselves_are_accepted(flags: dict[str, Any]) -> None:
    config = resolve(flags=flags)
    assert {key: value_of(config, key) for key in flags} == flags


# Flags


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("model.boxes", "4", 4),
        ("model.tied", "false", False),
        ("model.tied", "true", True),
        ("train.rate_input", "1e-2", 0.01),
        ("train.rate_input", "1", 1.0),
        ("model.loss", "bce", "bce"),
        ("schedule.window", "5", 5),
        ("run.name", "4", "4"),
        ("run.dir", "my runs/é", "my runs/é"),
    ],
)
def test_a_flags_text_becomes_a_value_of_its_keys_type(key: str, text: str, value: object) -> None:
    parsed = parse_value(key, text, "flag")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("model.boxes", "two", "int"),
        ("model.boxes", "0", ">= 1"),
        ("model.boxes", "true", "int"),
        ("model.boxes", "9" * 30, "<= 10000"),
        ("model.tied", "yes", "one of true, false"),
        ("model.loss", "hinge", "one of squared, bce, softmax"),
        ("schedule.window", "0", ">= 1"),
        ("train.rate_input", "fast", "float"),
        ("train.rate_input", "nan", ">= 0"),
        ("train.rate_input", "inf", "float"),
    ],
)
def test_a_bad_flag_is_one_line_with_flag_key_and_what_is_wanted(key: str, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_value(key, text, "flag")
    line = line_of(error)
    assert line.startswith(f"flag: {key}: ")
    assert says in line
    assert repr(text) in line


def test_every_key_has_a_description_and_its_default() -> None:
    found = {field.key: field for field in fields()}
    keys = [f"{group}.{key}" for group, values in msgspec.to_builtins(Config()).items() for key in values]
    assert list(found) == keys
    for key, field in found.items():
        assert field.description, key
        assert field.default == value_of(Config(), key)


ROUND = [
    {
        "schedule.kind": kind,
        "oracle.kind": oracle,
        "oracle.target": target,
        "model.tied": tied,
        "data.batch": 10,
        **more,
    }
    for kind in ("article", "locked", "gpipe", "1f1b", "delayed", "decoupled")
    for oracle in ("linear", "frozen")
    for target in ("bootstrapped", "true")
    for tied in (True, False)
    for more in ({}, {"schedule.micro_batches": 5})
    if not (more and kind not in ("gpipe", "1f1b"))
    and not (tied and oracle == "linear" and (kind == "delayed" or (kind == "1f1b" and not more)))
]


@pytest.mark.parametrize("flags", ROUND, ids=lambda flags: "-".join(map(str, flags.values())))
def test_a_resolved_configuration_is_the_same_when_it_is_read_again(flags: dict[str, Any], tmp_path: Path) -> None:
    config = resolve(flags=flags)
    (tmp_path / "config.toml").write_text(dump(config))
    assert load(tmp_path / "config.toml") == config
    assert resolve(file=tmp_path / "config.toml") == config


@pytest.mark.parametrize(
    "text",
    [
        "box-1: F0 T0\nbox-2: F0 T0\nhead: F0",
        "box-1: F0 F1 | B0 F2\nbox-2: F0 | B0 F1\nhead: F0",
        "box-1: F0\nbox-2: F0\nhead: F0",
    ],
)
def test_a_schedule_of_ones_own_is_whole_in_the_resolved_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(text)
    config = resolve(flags={"schedule.file": str(tmp_path / "mine.txt"), "model.tied": False})
    assert config.schedule.kind == "own"
    (tmp_path / "config.toml").write_text(dump(config))
    (tmp_path / "mine.txt").write_text("changed since")
    assert load(tmp_path / "config.toml") == config
    assert changed(config, {"train.epochs": 3}).schedule == config.schedule


def test_what_was_filled_in_follows_when_a_flag_changes_what_it_follows_from(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(dump(resolve(flags={"schedule.kind": "1f1b", "model.tied": False})))
    assert resolve(file=file, flags={"schedule.kind": "locked"}).schedule.window == 1
    assert resolve(file=file, flags={"schedule.kind": "decoupled"}).schedule.weights == "latest"
    assert resolve(file=file, flags={"model.boxes": 4}).schedule.window == 5
    assert resolve(file=file, flags={"oracle.kind": "frozen"}).schedule.weights == "latest"
    delayed = resolve(flags={"schedule.kind": "delayed", "model.tied": False})
    assert changed(delayed, {"model.boxes": 4}).schedule.delay == 4
    given = resolve(flags={"schedule.kind": "delayed", "schedule.delay": 7, "model.tied": False})
    assert changed(given, {"model.boxes": 4}).schedule.delay == 7


def test_a_schedule_file_goes_before_the_kind_of_a_preset_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("box-1: F0 T0\nbox-2: F0 T0\nhead: F0")
    assert (
        resolve("digits", flags={"schedule.file": str(tmp_path / "mine.txt"), "model.tied": False}).schedule.kind
        == "own"
    )


def test_a_batch_that_nothing_divides_is_not_cut() -> None:
    assert resolve(flags={"schedule.kind": "gpipe", "data.batch": 11}).schedule.micro_batches == 1
