"""What a run's data are called, and what is said of how well they are told. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline import sizes
from pipeline.levels import lengths
from pipeline.schema import BY_STEP, TASKS, Config, Data

from .text import share

#: What an example is called, by the name of the data.
UNITS = {"copy": "sequences", "repeat-copy": "sequences", "adding": "sequences", "addition": "sums", "own": "examples"}
#: What an accuracy is a share of, of images and by the name of a task.
IMAGES_RIGHT = "images right"
RIGHT = {
    "copy": "bits right",
    "repeat-copy": "bits right",
    "adding": "sequences within 0.04",
    "addition": "bits right",
    "own": "examples right",
}
#: What a cost is.
COST = {"copy": "bits a bit", "repeat-copy": "bits a bit", "adding": "mean squared error"}
#: Pairs of label and prediction that are shown.
SHOWN = 8


def unit(data: Data) -> str:
    """Return what an example is called, in the plural."""
    return UNITS.get(data.name, "images")


def units(datas: Iterable[Data]) -> str:
    """Return what examples are called where several data are told of together."""
    found = {unit(data) for data in datas}
    return found.pop() if len(found) == 1 else "examples"


def rights(datas: Iterable[Data]) -> str:
    """Return what accuracies are shares of where several data are told of together: `images right`."""
    found = {RIGHT.get(data.name, IMAGES_RIGHT) for data in datas}
    return found.pop() if len(found) == 1 else "right"


def right(data: Data) -> str:
    """Return what an accuracy is a share of: `test images right`."""
    return f"{data.judge} {RIGHT.get(data.name, IMAGES_RIGHT)}"


def cost(data: Data) -> str:
    """Return what a cost is, for an axis."""
    return COST.get(data.name, f"mean per {unit(data)[:-1]}")


def task(config: Config) -> str:
    """Return in words what is learnt."""
    data = config.data
    if data.name not in TASKS:
        return f"{data.name} ({data.source})"
    if data.name == "own":
        return f"a task of its own ({data.file or 'data.code'})"
    if data.name == "addition":
        return f"addition of two numbers, sums of {data.bits} bits"
    if data.name == "adding":
        return f"adding two marked ones of {sizes.steps(config)} numbers"
    level = sizes.most(config)
    most = f"level {level} ({level_text(data.name, level)})"
    goes = f"from level 1 ({level_text(data.name, 1)}) to at most {most}" if data.curriculum and level > 1 else most
    return f"{data.name} of symbols of {data.bits} bits, {goes}"


def level_text(name: str, level: int) -> str:
    """Return the length of a level's sequences in words: `3 symbols`, `2 symbols 3 times`."""
    length, repeats = lengths(name, level)
    symbols = f"{length} symbol{'s' * (length > 1)}"
    return symbols if name == "copy" else f"{symbols} {repeats} time{'s' * (repeats > 1)}"


def network(config: Config) -> str:
    """Return in words how the network is cut, but for how it is scheduled."""
    model, steps = config.model, sum(sizes.box_steps(config))
    tied = "tied" if model.tied else "untied"
    boxes = "1 box" if model.boxes == 1 else f"{model.boxes} {tied} boxes"
    if model.cell == "dense":
        boxes = "1 box" if model.boxes == 1 else f"{model.boxes} boxes"
        return f"{boxes} of width {model.width}, {steps} dense {model.function} layer{'s' * (steps > 1)}, and a head"
    names = {"rnn": "", "own": f" cells of its own ({model.file or 'model.code'})"}
    kind = names.get(model.cell, f" {model.cell.upper()} cells")
    end = "each reading its own steps, and a head that adds up" if sizes.reads(config) else "and a head"
    return f"{boxes} of width {model.width}{',' * bool(kind)}{kind} over {steps} step{'s' * (steps > 1)}, {end}"


def predictions(path: Path, data: Data, epochs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return in words how well the examples of the final evaluation were told."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = [verdict(rows, data, epochs)]
    if data.name not in BY_STEP:
        some = rows[:SHOWN]
        digits = "{:.0f}" if data.name == "addition" else "{:.2f}"
        found += [
            f"  {name:<10}  " + " ".join(f"{digits.format(float(row[name])):>5}" for row in some)
            for name in ("label", "prediction")
        ]
    return found


def columns(data: Data) -> list[str]:
    """Return what stands in the first columns of predictions.csv."""
    if data.name in BY_STEP:
        return ["example", "bits wanted", "bits right", "share right"]
    return ["example", "label", "prediction", {"adding": "within 0.04", "own": "right"}.get(data.name, "bits right")]


def told(
    rows: Sequence[Mapping[str, str]], data: Data, epochs: Sequence[Mapping[str, Any]], most: int
) -> dict[str, Any]:
    """Return how the rows of predictions.csv stand in a report: in words, and at most so many, the least right first."""
    shown = [[*row.values()][:4] for row in sorted(rows, key=lambda row: float(row["right"]))[:most]]
    return {"words": verdict(rows, data, epochs), "columns": columns(data), "rows": shown}


def verdict(rows: Sequence[Mapping[str, str]], data: Data, epochs: Sequence[Mapping[str, Any]]) -> str:
    """Return in words how many of the rows of predictions.csv are right, wholly or in part."""
    shares = [float(row["right"]) for row in rows]
    whole, count = sum(each == 1 for each in shares), f"{len(rows):,} {data.judge} {unit(data)}"
    if data.name == "adding":
        return f"{whole:,} of {count} told within 0.04 ({share(fmean(shares))})"
    if data.name == "own" and whole == sum(shares):  # right or not, and nothing between
        return f"{whole:,} of {count} right ({share(fmean(shares))})"
    level = next((row["level"] for row in reversed(epochs) if row.get("level")), None)
    of = f", at level {level} ({level_text(data.name, level)})" if level else ""
    return f"{share(fmean(shares))} of {RIGHT[data.name]}; {whole:,} of {count} wholly right{of}"
