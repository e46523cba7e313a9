"""The report of a run, in the browser."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError

from . import report


def show(folder: Path, *, wanted: bool = True) -> dict[str, Any]:
    """Write a run's page where there is none that is as new as the run, and open it; tell whether a browser took it."""
    page = folder / "report.html"
    if not _is_new(page, folder):
        if not os.access(folder, os.W_OK):
            raise ConfigError(
                f"{page}: cannot be written there; `timebox report {folder} --out FILE.html` writes it elsewhere"
            )
        report.write([folder], None)
    return {
        "run": folder.name,
        "page": str(page),
        "is_open": wanted and bool(find()) and webbrowser.open(page.as_uri()),
    }


def _is_new(page: Path, folder: Path) -> bool:
    """Whether a page was written after all that the run has written, itself aside."""
    if not page.is_file():
        return False
    changed = [path.stat().st_mtime_ns for path in folder.rglob("*") if path != page and path.is_file()]
    return page.stat().st_mtime_ns >= max(changed, default=0)


def find() -> str:
    """Return the name of a browser with a window, nothing where there is none; one for terminals would take the command's."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return ""
    is_in_terminal = isinstance(browser, webbrowser.GenericBrowser) and not isinstance(
        browser, webbrowser.BackgroundBrowser
    )
    return "" if is_in_terminal else Path(str(getattr(browser, "name", "") or "a browser")).name


def render(document: dict[str, Any]) -> str:
    """Return what `timebox open` prints."""
    page = document["page"]
    if document["is_open"]:
        return f"{page} is in the browser"
    return f"{page}\nno browser was opened: open this file in one, here or, copied, elsewhere; it needs no network"
