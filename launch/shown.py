"""How a result looks where Python shows it by itself: one line at a prompt, a short table or the report in a notebook.

A notebook's page is HTML that others may read: everything that comes from a run is escaped.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from .text import number, share

#: Stages that a table lists; of more, how many there are.
MOST_STAGES = 12


class Page(NamedTuple):
    """A report in the place where it is shown: a notebook has the whole page in a frame, a prompt its path."""

    path: Path
    height: int  # of the frame, in pixels

    def __repr__(self) -> str:
        return f"<{self.path}: open it in a browser>"

    def _repr_html_(self) -> str:
        # In a sandbox the page's scripts run, but not as the notebook's: the page is made of what a run has written. By
        # `srcdoc` its links within itself would lead to the notebook.
        page = base64.b64encode(self.path.read_bytes()).decode("ascii")
        return (
            f'<iframe src="data:text/html;charset=utf-8;base64,{page}" sandbox="allow-scripts allow-forms" '
            f'height="{self.height}" style="width:100%;border:1px solid #ccc"></iframe>'
        )


def line(document: dict[str, Any]) -> str:
    """Return a run in a line: `20261122-030405-article: done, 100.0 % right, 12.3 s`."""
    right = f", {share(document['accuracy'])} right" if document.get("accuracy") is not None else ""
    return f"{document['run']}: {document['status']}{right}, {document['seconds']:.1f} s"


def html(folder: Path, document: dict[str, Any]) -> str:
    """Return a run as a short table, and a link to its report, or how to write one."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in _rows(document)
    )
    return f"<table>{rows}</table><p>{_report(folder)}</p>"


def _rows(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "run", str(document["run"])
    yield "status", str(document["status"]) + (f": {document['error']}" if document.get("error") else "")
    yield "schedule", str(document["schedule"]) + (", in one process" if document.get("reference") else "")
    yield "right", share(document.get("accuracy"))
    if costs := document.get("costs"):
        yield f"cost, epoch 1 and {len(costs)}", f"{number(costs[0])} → {number(costs[-1])}"
    yield "seconds", f"{document['seconds']:.1f}"
    if document.get("batches_per_s"):
        yield "batches a second", f"{document['batches_per_s']:,.0f}"
    stages = [str(stage["name"]) for stage in document.get("stages", ())]
    more = f" … and {len(stages) - MOST_STAGES:,} more" if len(stages) > MOST_STAGES else ""
    yield "stages", ", ".join(stages[:MOST_STAGES]) + more


def _report(folder: Path) -> str:
    """Return a link to the page in the run's folder. A notebook's links are relative to where its kernel runs."""
    page = folder / "report.html"
    if not page.is_file():
        return "<code>result.report()</code> writes the page: timeline, curves, waits, staleness, oracles, predictions"
    return (
        f'<a href="{quote(os.path.relpath(page))}" target="_blank">report</a>, or open <code>{escape(str(page))}</code>'
    )
