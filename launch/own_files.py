"""Whether a user's own files are still what a run had; it keeps their text, so a replay needs none of them. Reads files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.checks_own import OWN
from pipeline.schema import Config


def changed(config: Config) -> Iterator[str]:
    """Yield a line for each file that reads differently now; one that is not there any more is not missed."""
    texts = [("schedule", config.schedule.file, config.schedule.program)]
    texts += [
        (group, getattr(config, group).file, getattr(config, group).code)
        for group, _, _ in OWN
        if group != "placer"  # a replay places nothing
    ]
    for group, file, text in texts:
        try:
            now = Path(file).read_text(encoding="utf-8") if file and text else text
        except (OSError, ValueError):
            continue
        if now != text:
            yield (
                f"{group}.file: {file} has changed since (sha256 {_sum(text)}, now {_sum(now)}); "
                "the replay ran what the run had"
            )


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
