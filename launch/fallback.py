"""A configuration as `pipeline.config.resolve` gives it, but for a preset that wants the full MNIST where it cannot be had.

It then takes the packaged images in its place, 8,000 to train and 2,000 to test, and says so: once here, and wherever the
data of a run are told. Whoever names images, a folder or a source himself gets those or an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline import mnist
from pipeline.config import resolve as as_asked
from pipeline.errors import ConfigError
from pipeline.presets import PRESETS
from pipeline.schema import Config

TRAIN, TEST = 8_000, 2_000
#: With a validation split, which is taken from the training images.
HELD_BACK = 2_000


def resolve(
    preset: str | None,
    file: Path | None,
    flags: Mapping[str, Any],
    say: Callable[[str], None] = lambda _: None,
) -> Config:
    """Return the configuration; `say` hears of it where packaged images take the place of the full set. Raises ConfigError."""
    config = as_asked(preset, file, flags)
    named = {"data.source", "data.dir", "data.name", "data.train", "data.test"} & flags.keys()
    wants_full = PRESETS.get(preset or "", {}).get("data", {}).get("source") == "full"
    if not wants_full or named or config.data.source != "full" or (file is not None):
        return config
    try:
        mnist.locate(config.data)
    except ConfigError:
        held_back = HELD_BACK if config.data.validation else 0
        images = {
            "data.source": "packaged", "data.train": TRAIN - held_back, "data.test": TEST, "data.validation": held_back
        }  # fmt: skip
        config = as_asked(preset, file, {**flags, **images})
        held = f", {config.data.validation:,} to validate" if config.data.validation else ""
        say(
            "the full MNIST cannot be had here: the packaged images take its place, "
            f"{config.data.train:,} to train{held} and {config.data.test:,} to test; --data.dir names a folder of the full set"
        )
    return config
