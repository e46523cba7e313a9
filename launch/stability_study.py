"""The request of `timebox stability`: one configuration, or the cases of a study's file, each resolved. Reads files.

preset, config   what all cases begin with        seeds   runs of each case
[set]            keys of every case               [[case]]   name, keys; arithmetic = "published", corrected = ["sign", …]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from pipeline import mnist
from pipeline.config import complete, read_toml
from pipeline.errors import ConfigError
from pipeline.presets import PRESETS
from pipeline.schema import Config
from pipeline.sizes import most, reads

from . import fallback, published_arithmetic
from .request_file import convert, keys

#: Where the packaged studies are.
NAMED = Path(__file__).parent / "stability_named"
#: Runs of a case, where nothing is said; most of them; and most cases.
SEEDS, MOST, MOST_CASES = 10, 10_000, 200


class Case(NamedTuple):
    """One configuration of a study; `corrected` is None but for the published arithmetic, of which it says what is mended."""

    name: str
    config: Config
    corrected: tuple[str, ...] | None = None

    def seeded(self, k: int) -> Config:
        """Return the configuration of run k: train.seed and data.seed both k further."""
        config = self.config
        train = msgspec.structs.replace(config.train, seed=config.train.seed + k)
        data = msgspec.structs.replace(config.data, seed=config.data.seed + k)
        emulate = msgspec.structs.replace(config.emulate, seed=config.emulate.seed + k)
        return complete(msgspec.structs.replace(config, train=train, data=data, emulate=emulate))


class Study(NamedTuple):
    """What is asked for: cases, and how many runs of each."""

    name: str
    seeds: int
    cases: list[Case]


class _File(Struct, forbid_unknown_fields=True):
    preset: str | None = None
    config: str | None = None
    seeds: Annotated[int, Meta(ge=1, le=MOST)] = SEEDS
    set: dict[str, Any] = {}
    case: list[dict[str, Any]] = []


class _Case(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=60)]
    arithmetic: Literal["timebox", "published"] = "timebox"
    corrected: list[str] = []


#: Keys of a case that are none of the configuration.
OWN = _Case.__struct_fields__


def named() -> list[str]:
    """Return the names of the packaged studies."""
    return sorted(path.stem for path in NAMED.glob("*.toml"))


def of_config(
    preset: str | None, file: Path | None, flags: Mapping[str, Any], seeds: int | None, say: Callable[[str], None]
) -> Study:
    """Return the study of one configuration; raises ConfigError."""
    config = fallback.resolve(preset, file, flags, say)
    name = preset or (file.stem if file is not None else "article")
    return _checked(Study(name, SEEDS if seeds is None else seeds, [Case(name, config)]), "")


def read(word: str, flags: Mapping[str, Any], seeds: int | None, say: Callable[[str], None]) -> Study:
    """Return the study of a file, or a packaged one; flags go over every case's keys.

    Raises ConfigError that names file, case, key and the way out.
    """
    path = NAMED / f"{word}.toml" if word in named() else Path(word)
    if not path.is_file():
        raise ConfigError(f"stability: there is no file {word}; packaged studies are {', '.join(named())}")
    asked = convert(read_toml(path), _File, f"{path}:")
    if asked.preset is not None and asked.preset not in PRESETS:
        raise ConfigError(f"{path}: preset: {asked.preset!r} is unknown; presets are {', '.join(PRESETS)}")
    base = None if asked.config is None else path.parent / asked.config
    if base is not None and not base.is_file():
        raise ConfigError(f"{path}: config: there is no file {base}")
    if not asked.case:
        raise ConfigError(f"{path}: there is no [[case]]; each needs a name, and what it does otherwise")
    if len(asked.case) > MOST_CASES:
        raise ConfigError(f"{path}: {len(asked.case)} cases; at most {MOST_CASES} go into one study")
    always = keys(asked.set, f"{path}: [set]", OWN)
    cases: list[Case] = []
    for number, table in enumerate(asked.case, 1):
        own = {key: each for key, each in table.items() if key in OWN}
        if "name" not in own:
            raise ConfigError(f'{path}: case {number}: it has no name; give it one, as name = "frozen"')
        where = f"{path}: case {own['name']}:"
        given = convert(own, _Case, where)
        rest = keys({key: each for key, each in table.items() if key not in own}, where, OWN)
        if given.name in [case.name for case in cases]:
            raise ConfigError(f"{where} name: there are two of this name; give one of them another")
        try:
            config = fallback.resolve(asked.preset, base, always | rest | dict(flags), say)
            cases.append(Case(given.name, config, _corrected(given, config)))
        except ConfigError as error:
            text = str(error).removeprefix("configuration: ").removeprefix("flag: ")
            raise ConfigError(f"{where} {text}") from None
    return _checked(Study(path.stem, asked.seeds if seeds is None else seeds, cases), f"{path}: ")


def _corrected(given: _Case, config: Config) -> tuple[str, ...] | None:
    if given.arithmetic == "timebox":
        if given.corrected:
            raise ConfigError('corrected: goes with arithmetic = "published"; leave it out, or add that')
        return None
    for word in given.corrected:
        if word not in published_arithmetic.CORRECTIONS:
            known = ", ".join(published_arithmetic.CORRECTIONS)
            raise ConfigError(f"corrected: {word!r} is none; what can be corrected is {known}")
    published_arithmetic.check(config, given.corrected)
    return tuple(given.corrected)


def _checked(study: Study, where: str) -> Study:
    """Raise ConfigError for what would be refused when a run starts."""
    if not 1 <= study.seeds <= MOST:
        raise ConfigError(f"--seeds: {study.seeds}: from 1 to {MOST:,} are wanted")
    for case in study.cases:
        try:
            if not case.config.emulate.arithmetic:
                raise ConfigError(
                    "emulate.arithmetic: false computes nothing, and nothing can be classed; leave it out"
                )
            if reads(case.config) and case.config.data.curriculum and most(case.config) > 1:
                raise ConfigError(
                    "data.curriculum: the cost jumps whenever sequences grow, which is no spike; add --data.curriculum false"
                )
            for k in {0, study.seeds - 1}:
                seeds = (case.config.train.seed, case.config.data.seed)
                if max(seeds) + k >= 2**32:
                    raise ConfigError(f"--seeds: seed {max(seeds) + k} is above 2**32 - 1; begin lower")
                mnist.locate(case.seeded(k).data)
        except ConfigError as error:
            raise ConfigError(f"{where}case {case.name}: {error}" if where else str(error)) from None
    return study
