"""What a request's file asks for: its own keys, and keys of the configuration, each checked by name. Pure.

`sweep` and `stability` read such files. An error names the file and the key, and what may have been meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from pipeline.config import fields
from pipeline.errors import ConfigError

from . import sweep_text

Asked = TypeVar("Asked", bound=Struct)
LISTED = "`timebox run --help` lists the keys"


def convert(tree: Mapping[str, Any], kind: type[Asked], where: str) -> Asked:
    """Return a table as a struct of a kind; raises ConfigError for keys that it has not and values that it cannot have."""
    known = [field.name for field in msgspec.structs.fields(kind)]
    for key in tree:
        if key not in known:
            raise ConfigError(f"{where} {key}: unknown key{_nearest(key, known, 'known are ' + ', '.join(known))}")
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).replace("`", "").partition(" - at $.")
        raise ConfigError(f"{where} {place}: {text[0].lower()}{text[1:]}") from None


def keys(table: Mapping[str, Any], where: str, own: Iterable[str] = ()) -> dict[str, Any]:
    """Return the configuration's keys in a table, whether `"group.key"` or nested; raises ConfigError for one it has not.

    `own` are keys of the file itself, which may have been meant.
    """
    known = [field.key for field in fields()]
    found: dict[str, Any] = {}
    for key, value in sweep_text.flat(table, known):
        if key not in known:
            raise ConfigError(f"{where} {key}: unknown key{_nearest(key, [*known, *own], LISTED)}")
        if key in found:
            raise ConfigError(f"{where} {key}: is there twice; leave out one of them")
        found[key] = value
    return found


def _nearest(word: str, known: list[str], otherwise: str) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; {otherwise}"
