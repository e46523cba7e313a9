"""Pages whose figures are what a command printed: a benchmark's table goes into the block that is marked for it.

<!-- bench hop -->
```text
… what `timebox bench hop` printed, machine and repeats first …
```
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.files import save_text


def _block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- bench {re.escape(name)} -->\n```text\n)(.*?)(\n```\n)", re.DOTALL)


def check(page: Path, name: str) -> str:
    """Return a page that has a block for a benchmark; raises ConfigError, before anything is measured."""
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--into: {page}: cannot read the page: {getattr(error, 'strerror', None) or error}"
        ) from None
    found = len(_block(name).findall(text))
    if found != 1:
        raise ConfigError(
            f"--into: {page}: {found or 'no'} block{'s' * (found != 1)} for {name}; one is wanted: a line "
            f"<!-- bench {name} --> and a text block after it"
        )
    return text


def put(page: Path, name: str, table: str) -> None:
    """Put what a benchmark printed into its block; raises ConfigError."""
    text = check(page, name)
    save_text(page, _block(name).sub(lambda match: match[1] + table.rstrip() + match[3], text))
