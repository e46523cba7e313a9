"""Flags of the configuration: one `--group.key` for each key, made from the same structs that validate files. Pure."""

from __future__ import annotations

import argparse
import difflib
from typing import Any, NoReturn

from pipeline.config import choices, fields, parse_value
from pipeline.errors import ConfigError
from pipeline.faults import key_of
from pipeline.presets import PRESETS

#: Letters of a key's words that still stand behind its flag; more would not fit a terminal of 80 columns.
LONGEST = 32


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ConfigErrors: one line with the nearest known flag."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(f"{message}; see {self.prog} --help")


def add(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every key of the configuration, grouped as in the file."""
    groups: dict[str, Any] = {}
    for field in fields():
        name = field.key.partition(".")[0]
        group = groups.setdefault(name, parser.add_argument_group(name))
        words = choices(field.type)
        text, is_long = field.description, words and sum(map(len, words)) > LONGEST
        if is_long:
            text = f"{', '.join(words)}: {text}"
        default = "by schedule" if field.default is None else field.default or "none"
        if isinstance(field.default, bool | int | float):
            default = str(field.default).lower()
        group.add_argument(
            f"--{field.key}",
            dest=field.key,
            metavar="|".join(words) if words and not is_long else field.key.partition(".")[2].upper(),
            default=argparse.SUPPRESS,
            help=f"{text} ({default}{_of_article(field.key)})".replace("%", "%%"),
        )


def add_fault(parser: argparse.ArgumentParser) -> None:
    """Add `--fault kill=box-1@batch:100`, which sets the key `fault.kill`, and may be given several times."""
    parser.add_argument(
        "--fault",
        action="append",
        metavar="KIND=PLACE@batch:N",
        help="something goes wrong on purpose: kill, hang, slow, disk-full=box-1@batch:100, or drop, double, swap, "
        "corrupt=box-1>box-2@batch:100; may be given several times",
    )


def _of_article(key: str) -> str:
    """Return what the default preset sets in place of the default, if it does."""
    group, _, item = key.partition(".")
    value = PRESETS["article"].get(group, {}).get(item)
    return "" if value is None else f"; preset article: {value}"


def given(options: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the flags that were given, by key; raises ConfigError that names the flag."""
    texts = vars(options)
    found = {key: parse_value(key, text, "flag") for key, text in texts.items() if "." in key}
    for text in texts.get("fault") or ():
        kind, equals, fault = text.partition("=")
        key = key_of(kind)
        if not equals or not fault.strip():
            raise ConfigError(f"--fault: {text!r}: say KIND=PLACE@batch:N, as kill=box-1@batch:100")
        found[key] = ",".join(filter(None, (found.get(key), fault)))
    return found


def refuse_unknown(parser: argparse.ArgumentParser, rest: list[str]) -> None:
    """Raise ConfigError for the first argument that no flag took."""
    if not rest:
        return
    flag = rest[0].partition("=")[0]
    known = [option for action in parser._actions for option in action.option_strings]
    close = difflib.get_close_matches(flag, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"see {parser.prog} --help"
    raise ConfigError(f"unknown {'flag' if flag.startswith('-') else 'argument'} {flag}; {hint}")
