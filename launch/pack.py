"""Packs a run's report into one HTML file: the page's style, its scripts and the data, nothing fetched from anywhere.

Pure but for reading the page's own files in `launch/page/`. Rules:

- Times and other long lists travel as columns: unsigned integers, little-endian, one column after another, gzipped, in
  base64. A column that grows, such as a begin, is written as its gaps, because gaps are small and compress well. Where
  one of its values does not fit 32 bits, a column's integers are written as doubles, which the page's scripts count in.
- Stages are numbered from 1, as everywhere; spans and waits are sorted by stage, then begin; messages by when they were sent.
- JSON stands in a script element: every `<` in it is escaped, so that no text of a run can end that element.
- The page's policy forbids whatever is not this style and this script, by their digests.

    document ── JSON ──┐
    report.css ────────┼─> report.html with its {{places}} filled
    *.js, in ORDER ────┘
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FORMAT = "timebox-report-1"
#: The largest value of a column, by the names of types that the page reads.
TYPES = {"u1": 2**8 - 1, "u2": 2**16 - 1, "u4": 2**32 - 1, "f8": 2**53}
#: gzip's level: higher ones take several times as long for a page some percent smaller.
LEVEL = 5
#: The page's scripts in the order in which they are joined: each uses only what those before it define.
ORDER = [
    "base",
    "columns",
    "trace",
    "view",
    "aggregate",
    "paint",
    "overview",
    "gestures",
    "tooltip",
    "timeline",
    "chart",
    "curves",
    "waits",
    "measures",
    "predictions",
    "tables",
    "compare",
    "main",
]


def columns(fields: Mapping[str, tuple[str, NDArray[Any]]]) -> dict[str, Any]:
    """Return named columns as the page reads them.

    `fields` maps a name to its type (`u1`, `u2`, `u4`, `f8`) and its values, whole numbers, one-dimensional and of one
    length for all. Raises ValueError for a type or length that does not fit, or a value that its type cannot hold.
    """
    counts = {len(values) for _, values in fields.values()}
    if len(counts) > 1:
        raise ValueError(f"columns of different lengths: {sorted(counts)}")
    parts = []
    for name, (kind, values) in fields.items():
        if kind not in TYPES:
            raise ValueError(f"column {name}: no such type: {kind}")
        if values.size and not 0 <= values.min() <= values.max() <= TYPES[kind]:
            raise ValueError(f"column {name}: {values.min()} to {values.max()} do not fit {kind}")
        parts.append(values.astype(f"<{kind}").tobytes())
    return {
        "count": counts.pop() if counts else 0,
        "fields": [[name, kind] for name, (kind, _) in fields.items()],
        "data": encoded(gzip.compress(b"".join(parts), LEVEL, mtime=0)),
    }


def gaps(times: ArrayLike, stages: ArrayLike | None = None) -> NDArray[np.int64]:
    """Return each time's distance from the one before it, of its own stage where stages are given; the first's from zero."""
    values = np.asarray(times, np.int64)
    found = np.diff(values, prepend=0)
    if stages is not None and len(values):
        places = np.asarray(stages)
        first = np.flatnonzero(np.diff(places, prepend=places[0]))
        found[first] = values[first]
    return found


def encoded(content: bytes) -> str:
    """Return bytes in base64."""
    return base64.b64encode(content).decode("ascii")


def page(document: Mapping[str, Any]) -> str:
    """Return the report as one HTML text; `document` is what the page's scripts read as JSON.

    Numbers that are not finite, which JSON cannot tell, become null.
    """
    style, script = _text("report.css"), "\n".join(_text(f"{name}.js") for name in ORDER)
    is_timeline = document.get("sections") == ["timeline"]
    names = [run.get("name") or run.get("run", "") for run in document.get("runs", [])]
    filled = {
        "title": html.escape(f"{'Timebox timeline' if is_timeline else 'Timebox'}: {', '.join(names) or 'no run'}"),
        "policy": f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "data": json.dumps(_finite(document), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found[1]], _text("report.html"))


def _text(name: str) -> str:
    return (resources.files("launch") / "page" / name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return "sha256-" + encoded(hashlib.sha256(content.encode()).digest())


def _finite(value: Any) -> Any:
    """Return a JSON value with null for every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
