"""A user's class in a Python file: found by name in the file's text, called with care; its figures are read without running it.

The text is a part of the run's configuration, so that a replay runs the same code: whoever runs it trusts it like a program.
What is said of a run without running it, a list or a report, runs none of it: sizes are read from the text, which has to say
them as numbers. Pure but for what the user's code does.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import ConfigError, RunError

if TYPE_CHECKING:
    from .arrays import Array  # numpy comes with it, which sizes do not need


def sealed(array: Array) -> Array:
    """Return a view that cannot be written to: what is there belongs to the box."""
    view = array.view()
    view.flags.writeable = False
    return view


class Source(NamedTuple):
    """A file's text, what it is called in errors, and the class that is wanted of it."""

    code: str
    name: str
    wanted: str

    def found(self, methods: Sequence[str], shown: str) -> Any:
        """Return the class; raises ConfigError that names the file and the line. `shown` is where one can be seen."""
        place: dict[str, Any] = {"__name__": self.wanted.lower()}
        try:
            exec(compile(self.code, self.name, "exec"), place)
        except SyntaxError as error:
            raise ConfigError(f"{self.name}, line {error.lineno}: {error.msg}") from None
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{self.name}{self.line(error)}: {type(error).__name__}: {error}") from error
        made = place.get(self.wanted)
        missing = [word for word in methods if not callable(getattr(made, word, None))]
        if not isinstance(made, type) or missing:
            what = (
                f"its class {self.wanted} has no {' and no '.join(missing)}"
                if isinstance(made, type)
                else f"it has no class {self.wanted}"
            )
            raise ConfigError(f"{self.name}: {what}; `{shown}` shows one")
        return made

    def call(self, what: str, function: Any, *arguments: Any) -> Any:
        """Return what a method returns; raises RunError, whatever it raises, that names the file and the line."""
        try:
            return function(*arguments)
        except (Exception, SystemExit) as error:
            raise RunError(
                f"{self.name}{self.line(error)}: {self.wanted}.{what}: {type(error).__name__}: {error}"
            ) from error

    def line(self, error: BaseException) -> str:
        """Return the place in the file where an error came from, as text."""
        lines, trace = [], error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self.name:
                lines.append(trace.tb_lineno)
            trace = trace.tb_next
        return f", line {lines[-1]}" if lines else ""

    def whole_numbers(self, usual: Mapping[str, int | None]) -> dict[str, int]:
        """Return what the class says of itself as `name = 3`, without running it; raises ConfigError.

        `usual` has the names that are asked for, and what holds where one is not there; None: it has to be.
        """
        return dict(_whole_numbers(self, tuple(usual.items())))


@functools.lru_cache(maxsize=64)
def _whole_numbers(source: Source, usual: tuple[tuple[str, int | None], ...]) -> tuple[tuple[str, int], ...]:
    code, name, wanted = source
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise ConfigError(f"{name}, line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a NUL, brackets without end
        raise ConfigError(f"{name}: not Python: {error}") from None
    body = next((each.body for each in tree.body if isinstance(each, ast.ClassDef) and each.name == wanted), None)
    if body is None:
        raise ConfigError(f"{name}: it has no class {wanted}")
    said = {
        target.id: each.value
        for each in body
        if isinstance(each, ast.Assign)
        for target in each.targets
        if isinstance(target, ast.Name)
    }
    found: list[tuple[str, int]] = []
    for key, otherwise in usual:
        value = said.get(key)
        if value is None and otherwise is not None:
            found.append((key, otherwise))
            continue
        number = value.value if isinstance(value, ast.Constant) else None
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 65_536:
            where = f", line {value.lineno}" if value is not None else ""
            raise ConfigError(
                f"{name}{where}: {wanted}.{key}: a number from 1 to 65,536 is wanted in the class, as in `{key} = 4`"
            )
        found.append((key, number))
    return tuple(found)
