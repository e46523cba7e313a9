"""What a command tells: one document as JSON or as text on standard output, its warnings on standard error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any

from pipeline.files import to_json

from .terminal import say


def print_json(document: Any) -> None:
    """Print one document, and nothing else."""
    print(to_json(document, indent=1))


def warn(texts: Iterable[str]) -> None:
    """Tell on standard error what could not be read or is not whole."""
    for text in texts:
        print(f"timebox: warning: {text}", file=sys.stderr)


def tell(
    options: argparse.Namespace, document: Any, render: Callable[[Any], str], write: Callable[[str], None] = say
) -> int:
    """Print a document as JSON or as text, after its warnings, and return the exit code of a command that went well."""
    warn(document.get("warnings", ()))
    if options.json:
        print_json(document)
    else:
        write(render(document))
    return 0
