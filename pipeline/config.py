"""From defaults, preset, file and flags to one checked configuration, and back to a file. Reads files, else pure.

Values come in layers: defaults < preset < file < flags. Each layer is checked by itself, so that an error can name
its source, and the result is checked as a whole. A resolved configuration written to a file and read again is the
same configuration: `run --config runs/ID/config.toml` is the same run.
"""

from __future__ import annotations

import difflib
import functools
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Meta, Struct

from . import checks, faults, filled
from .checks_own import OWN, WHAT
from .errors import ConfigError
from .presets import PRESETS
from .schema import Config


class Field(typing.NamedTuple):
    """One key of the configuration, for flags and help."""

    key: str
    type: Any
    default: Any
    description: str


@functools.cache
def _types(struct: type[Struct]) -> dict[str, Any]:
    """Return the resolved annotation of each field of `struct`."""
    return typing.get_type_hints(struct, include_extras=True)


def fields() -> Iterator[Field]:
    """Yield every key as `group.key` with its type, default and description, in the order of the tree."""
    for group, struct in _types(Config).items():
        for item in msgspec.structs.fields(struct):
            hint = _types(struct)[item.name]
            default = item.default if item.default is not msgspec.NODEFAULT else item.default_factory()
            yield Field(f"{group}.{item.name}", hint, default, _description(hint))


def _description(hint: Any) -> str:
    texts = [meta.description for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]
    return next((text for text in texts if text), "")


def parse_value(key: str, text: str, source: str) -> Any:
    """Return the value that a flag's text gives `key`; raises ConfigError that names `source`."""
    hint = next((field.type for field in fields() if field.key == key), None)
    if hint is None:
        close = difflib.get_close_matches(key, [field.key for field in fields()], 1)
        raise ConfigError(f"{source}: there is no key {key}{f'; did you mean {close[0]}?' if close else ''}")
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # it could not be written down
        raise ConfigError(f"{source}: {key}: {text!r} is no text by this locale's character set; set PYTHONUTF8=1")
    value: Any = text
    kind = _bare(hint)
    if typing.get_origin(kind) is dict or (_is_for_each(hint) and "=" in text):
        pairs = [part.partition("=") for part in text.split(",") if part]
        if _is_for_each(hint):  # a value without a name is everybody's
            pairs = [pair if pair[1] else ("all", "=", pair[0]) for pair in pairs]
        value = {name.strip(): amount for name, _, amount in pairs}
        if not all(sign for _, sign, _ in pairs):
            raise ConfigError(f"{source}: {key}: name=value is wanted, or several with commas, not {text!r}")
        if len(value) < len(pairs):
            raise ConfigError(f"{source}: {key}: {text!r} names one twice")
    try:
        return msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError as error:
        words = choices(hint)
        wanted = (
            f"one of {', '.join(words)}"
            if words
            else _plain(str(error))
            .replace(", got str", "")
            .partition(" - at ")[0]
            .replace("float | object", "a number, or name=number with commas,")
        )
        raise ConfigError(f"{source}: {key}: {wanted.removeprefix('expected ')} is wanted, not {text!r}") from None


def resolve(preset: str | None = None, file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Config:
    """Return the configuration from its layers; `flags` maps `group.key` to a value. Raises ConfigError."""
    tree: dict[str, dict[str, Any]] = {}
    name = preset if preset is not None else (None if file else "article")
    if name is not None:
        if name not in PRESETS:
            close = difflib.get_close_matches(name, PRESETS, 1)
            meant = f"did you mean {close[0]}? " if close else ""
            raise ConfigError(f"--preset: {name!r} is unknown; {meant}presets are {', '.join(PRESETS)}")
        _merge(tree, PRESETS[name])
    if file is not None:
        layer = read_toml(file)
        _checked(layer, str(file))
        _merge(tree, layer)
        _include(tree, file.parent, str(file))
    return _with(tree, flags or {})


def changed(config: Config, keys: Mapping[str, Any]) -> Config:
    """Return a complete configuration with some keys changed, and what follows from them; raises ConfigError."""
    tree = {
        group: {k: v for k, v in values.items() if v is not None}
        for group, values in msgspec.to_builtins(config).items()
    }
    return _with(tree, keys)


def _with(tree: dict[str, dict[str, Any]], flags: Mapping[str, Any]) -> Config:
    if flags:
        _forget(tree, flags)
    for key, value in flags.items():
        group, _, item = key.partition(".")
        _merge(tree, {group: {item: value}})
    if "schedule.file" in flags:
        tree["schedule"].pop("program", None)  # another file than the one that a run had
        if "schedule.kind" not in flags:
            tree["schedule"]["kind"] = "own"
    for group, key, _ in OWN:
        if f"{group}.file" in flags:
            tree[group].pop("code", None)
            if f"{group}.{key}" not in flags:
                tree[group][key] = "own"
    _include(tree, Path(), "flag")
    return complete(_checked(tree, "configuration"))


def _forget(tree: dict[str, dict[str, Any]], flags: Mapping[str, Any]) -> None:
    """Take out what had been filled in, as a run's config.toml has it: with other keys other values follow."""
    schedule = tree.get("schedule", {})
    bare = {key: value for key, value in schedule.items() if key not in filled.DERIVED}
    try:
        follows = complete(_checked({**tree, "schedule": bare}, "configuration")).schedule
    except ConfigError:
        return  # not a whole configuration: nothing in it had been filled in
    for key in filled.DERIVED:
        if key in schedule and schedule[key] == getattr(follows, key):
            del schedule[key]
    if flags.get("schedule.kind", follows.kind) != follows.kind or "schedule.file" in flags:
        for key in (*filled.DERIVED, "file", "program"):
            schedule.pop(key, None)  # they belong to the schedule that it was


def _include(tree: dict[str, dict[str, Any]], folder: Path, source: str) -> None:
    """Read what is a user's own into the configuration, which then is whole wherever it goes; raises ConfigError."""
    texts = [
        ("schedule", "program", "a line for each stage"),
        *((group, "code", f"a class {wanted}") for group, _, wanted in OWN),
    ]
    for group, key, wanted in texts:
        values = tree.get(group, {})
        if not values.get("file") or values.get(key):
            continue
        path = folder / str(values["file"])
        try:
            values[key] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ConfigError(f"{source}: {group}.file: {path}: the file is not UTF-8 text") from None
        except OSError as error:
            what = WHAT.get(group, group)
            raise ConfigError(f"{source}: {group}.file: {path}: cannot read the {what}: {error.strerror}") from None
        if not values[key].strip():
            raise ConfigError(f"{source}: {group}.file: {path}: the file is empty; {wanted} is wanted")


def complete(config: Config) -> Config:
    """Return `config` with what depends on other keys filled in, after checking it as a whole; raises ConfigError."""
    config = _checked(msgspec.to_builtins(config), "configuration")  # one made in Python is checked like a file
    config = msgspec.structs.replace(config, transport=filled.transport(config))
    checks.check(config)
    config = msgspec.structs.replace(config, schedule=filled.schedule(config))
    faults.check(config)  # they need a plan, and that a complete configuration
    return config


def load(path: Path) -> Config:
    """Return the resolved configuration in `path`, as a run folder holds it; raises ConfigError."""
    return complete(_checked(read_toml(path), str(path)))


def dump(config: Config) -> str:
    """Return `config` as TOML; `load` of it gives an equal configuration."""
    import tomli_w

    return tomli_w.dumps(msgspec.to_builtins(config, str_keys=True) | {"schedule": _without_none(config.schedule)})


def _without_none(struct: Struct) -> dict[str, Any]:
    return {key: value for key, value in msgspec.to_builtins(struct).items() if value is not None}


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds; raises ConfigError that names it."""
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not a configuration: its tables are nested too deep") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not TOML: the file is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from None


def _merge(tree: dict[str, dict[str, Any]], layer: Mapping[str, Mapping[str, Any]]) -> None:
    for group, values in layer.items():
        tree.setdefault(group, {}).update(values)


def _checked(tree: Mapping[str, Any], source: str) -> Config:
    """Return `tree` as a Config; raises ConfigError with source, key and the nearest known key."""
    groups = _types(Config)
    for group, values in tree.items():
        if group not in groups:
            raise ConfigError(f"{source}: {group}: unknown group{_nearest(group, groups)}")
        if not isinstance(values, Mapping):
            raise ConfigError(f"{source}: {group}: expected a table of keys, as in [{group}]")
        known = _types(groups[group])
        for key in values:
            if key not in known:
                raise ConfigError(f"{source}: {group}.{key}: unknown key{_nearest(key, known)}")
    try:
        return msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        key = path.rstrip("`")
        words = next((choices(field.type) for field in fields() if field.key == key), ())
        wanted = f"; it is one of {', '.join(words)}" if words else ""
        raise ConfigError(f"{source}: {key}: {_plain(text)}{wanted}") from None


def _nearest(word: str, known: Mapping[str, Any]) -> str:
    """Return `; did you mean …?`, or the list of what is known."""
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def _plain(text: str) -> str:
    """Return msgspec's sentence in the manner of ours: no back-ticks, no capital."""
    text = text.replace("Invalid enum value", "unknown value").replace("`", "")
    if "matching regex" in text:
        return "expected at most 64 letters, digits, dots, underscores and hyphens, and not 'latest'"
    if text == "Number out of range":
        return "expected a number of ordinary size"
    return text[0].lower() + text[1:]


def _is_for_each(hint: Any) -> bool:
    """Whether a key takes one value for all or one for each of several names."""
    return any(typing.get_origin(_bare(part)) is dict for part in typing.get_args(_bare(hint)))


def _bare(hint: Any) -> Any:
    """Return a type without what is said of it."""
    while hasattr(hint, "__metadata__"):
        hint = hint.__origin__
    return hint


def choices(hint: Any) -> tuple[str, ...]:
    """Return the words a key accepts, or none when it accepts more than words."""
    hint = _bare(hint)
    given = [part for part in typing.get_args(hint) if part is not type(None)]
    if type(None) in typing.get_args(hint) and len(given) == 1:  # it may be left out
        hint = _bare(given[0])
    if hint is bool:
        return ("true", "false")
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
