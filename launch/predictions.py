"""The final predictions of a run as the report's page shows them, each with its image. Reads the run and the data."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import data
from pipeline.errors import TimeboxError
from pipeline.schema import TASKS, Config

from . import pack, task_words

#: Most test images that are drawn; wrong ones come first.
IMAGES = 80


def collect(folder: Path, config: Config, epochs: list[dict[str, Any]], warnings: list[str]) -> dict[str, Any] | None:
    """Return the final predictions with their images, wrong ones first; None where there are none."""
    path = folder / "metrics" / "predictions.csv"
    if not path.is_file():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        if config.data.name in TASKS:
            return task_words.told(rows, config.data, epochs, IMAGES)
        return _with_images(rows, data.load(config.data))
    except TimeboxError as error:
        warnings.append(f"the predictions are not drawn: {error}")
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        warnings.append(f"the predictions are not drawn: {path}: damaged, or of other data than config.toml says")
    return None


def _with_images(rows: list[dict[str, str]], split: data.Split) -> dict[str, Any]:
    """Return predictions with their images; raises KeyError, ValueError, TypeError for rows that are none of this data."""
    places = {int(place): row for row, place in enumerate(split.test_places)}
    shown = sorted(rows, key=lambda row: row["right"] == "true")[:IMAGES]
    pixels = [split.test_images[places[int(row["image"])]] for row in shown]
    return {
        "pixels": pack.encoded(np.stack(pixels).astype(np.uint8).tobytes()) if pixels else "",
        "labels": [int(row["label"]) for row in shown],
        "predictions": [int(row["prediction"]) for row in shown],
        "places": [int(row["image"]) for row in shown],
        "total": len(rows),
        "right": sum(row["right"] == "true" for row in rows),
    }
