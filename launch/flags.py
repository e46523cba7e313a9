"""Flags of the configuration: one `--group.key` for each key, made from the same structs that validate files. Pure."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from typing import Any, NoReturn

from pipeline.config import choices, fields, parse_value
from pipeline.errors import ConfigError
from pipeline.faults import key_of
from pipeline.presets import PRESETS

#: Letters of a key's words that still stand behind its flag; more would not fit a terminal of 80 columns.
LONGEST = 32


class _Help(argparse.HelpFormatter):
    """Help whose usage has one word for all keys of the configuration, and whose examples stand each on their own line."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        all_of_them = list(actions)
        others = [each for each in all_of_them if "." not in each.dest or f"--{each.dest}" not in each.option_strings]
        if len(others) < len(all_of_them):
            others.insert(1, argparse.Action(["--GROUP.KEY"], "", metavar="VALUE"))
        super().add_usage(usage, others, groups, prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        prose, _, examples = text.partition("example: ")
        told = [super()._fill_text(prose, width, indent)] if prose else []
        return "\n".join([*told, *(f"example: {each}" for each in examples.split("; ") if each)])


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ConfigErrors: one line with the nearest known flag."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=_Help, **settings)

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
