"""What may be a class of the user's own, and what of it is checked without running it. Pure."""

from __future__ import annotations

from . import sizes
from .errors import ConfigError
from .own_code import Source
from .schema import Config

#: The group, the key that says `own`, and the class that is wanted of the group's file.
OWN = (("oracle", "kind", "Oracle"), ("model", "cell", "Cell"), ("data", "name", "Task"), ("placer", "kind", "Placer"))
#: What is said of a file that cannot be read: what it is.
WHAT = {"model": "cell", "data": "task"}


def check(config: Config) -> None:
    """Check that what is a user's own has a file, and what is not has none; raises ConfigError."""
    for group, key, wanted in OWN:
        values = getattr(config, group)
        kind = getattr(values, key)
        if kind == "own" and not values.code:
            raise ConfigError(f"{group}.file: {group}.{key} own needs a Python file with a class {wanted}; name it")
        if kind != "own" and (values.file or values.code):
            raise ConfigError(f"{group}.file: only read by {group}.{key} own, not by {kind}; leave out one of the two")
    if config.model.cell == "own":
        cell_source(config).whole_numbers({"gates": 1})
    if config.data.name == "own":
        sizes.own_task(config.data)


def cell_source(config: Config) -> Source:
    """Return the text of a user's cell."""
    return Source(config.model.code, config.model.file or "model.code", "Cell")
