"""Which placer a configuration asks for."""

from __future__ import annotations

from pathlib import Path

from pipeline.schema import Config

from .placer_local import LocalPlacer
from .placers import Placer


def make_placer(config: Config, folder: Path) -> Placer:
    """Return the placer of a run."""
    if config.placer.kind == "local":
        return LocalPlacer(config, folder)
    from .remote import RemotePlacer  # a run on one machine does without

    return RemotePlacer(config, folder)
