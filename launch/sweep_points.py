"""The request of `timebox sweep`: what a file means, every point of it resolved, and what it is refused for. Reads files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from pipeline.config import complete, read_toml
from pipeline.errors import ConfigError
from pipeline.presets import PRESETS
from pipeline.schema import Config
from pipeline.schema_run import NAME

from . import fallback, request_file, sweep_text

#: Where the packaged sweeps are.
NAMED = Path(__file__).parent / "named"
#: Most points, and most repeats.
MOST = 10_000
MODES = ("run", "reference", "simulate")


class Point(NamedTuple):
    """One configuration of a sweep: how it runs, what the varied keys are, and beside which point it is held."""

    number: int
    mode: str
    values: dict[str, Any]
    config: Config
    against: int | None = None


class Request(NamedTuple):
    """What a sweep's file asks for, every point resolved; `document` is the file again, as sweep.toml keeps it."""

    source: str
    name: str
    repeats: int
    warmup: int
    seeds: bool
    beside: str
    numeric: str
    varied: tuple[str, ...]
    points: list[Point]
    document: dict[str, Any]

    @property
    def is_whole(self) -> bool:
        """Whether rates are of whole runs: where a run has no trace, its steady state is not known."""
        return any(point.mode == "run" and point.config.trace.level == "off" for point in self.points)

    def config(self, point: Point, repeat: int, out: Path) -> Config:
        """Return the configuration of one run; raises ConfigError for a seed that is none."""
        config = point.config
        run = msgspec.structs.replace(config.run, dir=str(out / "runs"), name="")
        seed = config.train.seed + (repeat - 1 if self.seeds else 0)
        train = msgspec.structs.replace(config.train, seed=seed)
        # What is drawn of an emulated machine is another in each repeat: else they would be one draw, many times.
        emulate = msgspec.structs.replace(config.emulate, seed=config.emulate.seed + repeat - 1)
        is_drawn = bool(config.emulate.straggle or config.emulate.jitter)
        return complete(
            msgspec.structs.replace(config, run=run, train=train, emulate=emulate if is_drawn else config.emulate)
        )

    def difference(self, before: Mapping[str, Any]) -> str:
        """Return what an earlier request asked for otherwise, in words; more repeats and another name are no difference."""
        there, here = (dict(sweep_text.flat(each)) for each in (before, self.document))
        for key in dict.fromkeys((*here, *there)):
            old, new = there.get(key), here.get(key)
            if old != new and key != "name" and not (key == "repeats" and isinstance(old, int) and old <= self.repeats):
                return f"{key} is {_said(old)} there and {_said(new)} here"
        return ""


def _said(value: Any) -> str:
    return "left out" if value is None else repr(value)


class _File(Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=NAME)] = ""
    preset: str | None = None
    config: str | None = None
    repeats: Annotated[int, Meta(ge=1, le=MOST)] = 5
    warmup: Annotated[int, Meta(ge=0, le=MOST)] = 1
    mode: Literal["run", "reference", "simulate"] = "run"
    seeds: bool = False
    beside: str = ""
    set: dict[str, Any] = {}
    grid: dict[str, Any] = {}
    also: list[dict[str, Any]] = []


def named() -> list[str]:
    """Return the names of the packaged sweeps."""
    return sorted(path.stem for path in NAMED.glob("*.toml"))


def read(word: str) -> Request:
    """Return the request of a file, or of a packaged sweep; raises ConfigError that names file, key and the way out."""
    path = NAMED / f"{word}.toml" if word in named() else Path(word)
    if not path.is_file():
        raise ConfigError(f"sweep: there is no file {word}; packaged sweeps are {', '.join(named())}")
    asked = request_file.convert(read_toml(path), _File, f"{path}:")
    if asked.preset is not None and asked.preset not in PRESETS:
        raise ConfigError(f"{path}: preset: {asked.preset!r} is unknown; presets are {', '.join(PRESETS)}")
    return _request(path, asked)


def _request(path: Path, asked: _File) -> Request:
    base = None if asked.config is None else path.parent / asked.config
    if base is not None and not base.is_file():
        raise ConfigError(f"{path}: config: there is no file {base}")
    always, axes = _keys(asked.set, f"{path}: [set]"), _keys(asked.grid, f"{path}: [grid]")
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{path}: [grid] {key}: a list of at least one value is wanted, not {values!r}")
        if key in always:
            raise ConfigError(f"{path}: {key}: is in [set] and in [grid]; leave it out of one of them")
    if math.prod(map(len, axes.values())) > MOST:
        raise ConfigError(f"{path}: [grid]: these are more than {MOST:,} points; ask for fewer")
    if asked.beside and asked.beside not in axes:
        raise ConfigError(f"{path}: beside: {asked.beside!r} is no key of [grid]; it has {', '.join(axes) or 'none'}")
    entries = [(asked.mode, dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]
    for number, each in enumerate(asked.also, 1):
        mode, rest = each.get("mode", asked.mode), {key: value for key, value in each.items() if key != "mode"}
        if mode not in MODES:
            raise ConfigError(f"{path}: [[also]] {number}: mode: {mode!r} is none; modes are {', '.join(MODES)}")
        entries.append((mode, _keys(rest, f"{path}: [[also]] {number}:")))
    varied = tuple(dict.fromkeys(key for _, keys in entries for key in keys))
    if asked.seeds and "train.seed" in varied:
        raise ConfigError(
            f"{path}: train.seed: cannot vary where seeds = true gives each repeat its own; use one of them"
        )
    points: list[Point] = []
    for number, (mode, keys) in enumerate(entries, 1):
        try:
            config = fallback.resolve(asked.preset, base, _beside(path, always | keys))
        except ConfigError as error:
            raise refused(str(path), number, keys, error) from None
        for other in points:
            if (other.mode, other.config) == (mode, config):
                raise ConfigError(
                    f"{path}: points {other.number} and {number} are the same run ({_text(keys)}); leave out one of them"
                )
        points.append(Point(number, mode, {key: _of(config, key) for key in varied}, config))
    points = [point._replace(against=_against(points, point, asked.beside)) for point in points]
    numeric = (key for key, values in axes.items() if all(type(value) in (int, float) for value in values))
    document = {key: value for key, value in msgspec.to_builtins(asked).items() if value is not None}
    document |= {"name": asked.name or path.stem, "set": always, "grid": axes}
    document |= {} if base is None else {"base": read_toml(base)}
    # A schedule's text decides what is measured as much as any key.
    texts = {str(point.number): point.config.schedule.program for point in points if point.config.schedule.program}
    document |= {"programs": texts} if texts else {}
    return Request(
        str(path), document["name"], asked.repeats, asked.warmup, asked.seeds, asked.beside, next(numeric, ""), varied,
        points, document,
    )  # fmt: skip


def _keys(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the configuration's keys in a table; raises ConfigError for those that are the sweep's business."""
    found = request_file.keys(table, where)
    for key in found:
        if key.startswith("run."):
            raise ConfigError(f"{where} {key}: the sweep says where its runs go; leave it out, and use --out")
    return found


def _beside(path: Path, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return keys with a user's own files looked for beside the sweep's."""
    return {
        key: str(path.parent / value) if key.endswith(".file") and isinstance(value, str) and value else value
        for key, value in keys.items()
    }


def _of(config: Config, key: str) -> Any:
    group, _, item = key.partition(".")
    return getattr(getattr(config, group), item)


def _text(keys: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={sweep_text.value(value)}" for key, value in keys.items()) or "what [set] says"


def refused(source: str, number: int, keys: Mapping[str, Any], error: ConfigError) -> ConfigError:
    """Return the error of one point's configuration with the file and the point named."""
    text = str(error).removeprefix("configuration: ").removeprefix("flag: ")
    return ConfigError(f"{source}: point {number} ({_text(keys)}): {text}")


def _against(points: Sequence[Point], point: Point, beside: str) -> int | None:
    """Return the point that a point is held against: the first, or the first like it but for the key `beside`.

    Its like has the key's first value. Points of the grid come first, so that a control by `[[also]]` is held against one
    of them; without a like there is nothing to hold a point against.
    """
    if not beside:
        return 1
    wanted = point.values | {beside: points[0].values[beside]}
    return next((other.number for other in points if other.values == wanted), None)
