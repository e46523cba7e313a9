"""Costs that a person gives, as a TOML file in milliseconds. Reads the file and nothing else."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pipeline.actions import ACTIONS, KINDS
from pipeline.costs import Costs, Samples
from pipeline.errors import ConfigError, WireError
from pipeline.plan import Plan


def read(plan: Plan, file: Path) -> Costs:
    """Return the costs of a TOML file in milliseconds, one number or several to draw from; raises ConfigError.

    `[actions]` by kind for every box (`F = 1.5`) or for one stage (`"head.F" = [0.2, 0.3]`); `[sends]` and `[takes]` by
    message kind in the same way; `[hops]` by edge (`"box-1>box-2" = 0.1`) or for all of them (`all = 0.1`).
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--costs: {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--costs: {file}: {error}") from None
    if unknown := sorted(document.keys() - {"actions", "sends", "takes", "hops"}):
        raise ConfigError(f"--costs: {file}: there is no group {unknown[0]}; groups are actions, sends, takes, hops")
    stages = range(1, plan.head + 1)
    tables: dict[str, dict[Any, Samples]] = {"actions": {}, "sends": {}, "takes": {}, "hops": {}}
    for group, table in document.items():
        for key, value in (table if isinstance(table, dict) else {"": None}).items():
            where, samples = f"--costs: {file}: {group}.{key}", _samples(value)
            if samples is None:
                raise ConfigError(f"{where}: milliseconds are wanted, at least 0: one number, or a list of them")
            for place in _places(plan, group, key, where):
                tables[group][place] = samples
    hops = {(k, j): samples for k in stages for j in plan.sources(k) if (samples := tables["hops"].get((0, 0)))}
    hops |= {edge: samples for edge, samples in tables["hops"].items() if edge != (0, 0)}
    return Costs(tables["actions"], tables["sends"], tables["takes"], hops)


def _samples(value: Any) -> Samples | None:
    values = value if isinstance(value, list) else [value]
    if not values or not all(type(each) in (int, float) and 0 <= each < 1e9 for each in values):
        return None
    return tuple(round(each * 1e6) for each in values)


def _places(plan: Plan, group: str, key: str, where: str) -> list[Any]:
    """Return the places in a table that a key of the file names; raises ConfigError."""
    try:
        if group == "hops":
            if key == "all":
                return [(0, 0)]
            source, arrow, target = key.partition(">")
            if arrow:
                return [(plan.number(source), plan.number(target))]
        else:
            name, dot, kind = key.rpartition(".")
            if kind in (ACTIONS if group == "actions" else KINDS) and len(kind) > (group != "actions"):
                return [(k, kind) for k in ([plan.number(name)] if dot else range(1, plan.boxes + 1))]
    except WireError as error:
        raise ConfigError(f"{where}: {error}") from None
    wanted = {"actions": "F or head.F", "hops": "all or box-1>box-2"}.get(group, "activation or head.activation")
    raise ConfigError(f"{where}: {wanted} is how such a key looks")
