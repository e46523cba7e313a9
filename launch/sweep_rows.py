"""The rows of a sweep, its runs.csv: read when it is opened, each one on disk when it has been added.

One process at a time has it open. `batches` are those of the data, as in `batches_per_s`: micro-batches are not counted.
`lateness` is by how many batches what boxes learn from was late, in the mean.
"""

from __future__ import annotations

import csv
import fcntl
import io
import math
import os
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.schema import BY_STEP

from . import sweep_text
from .sweep_points import Point, Request

#: Columns of runs.csv that hold numbers.
COUNTS = ("point", "repeat", "batches", "cores")
FIGURES = ("seconds", "batches_per_s", "makespan_s", "accuracy", "last_cost", "level", "bubble", "lateness", "load")


class Rows:
    """The rows of one runs.csv, open and locked."""

    def __init__(self, path: Path, request: Request) -> None:
        self.path, self.request = path, request
        seed = ("train.seed",) if request.seeds else ()
        level = ("level",) if any(point.config.data.name in BY_STEP for point in request.points) else ()
        self.columns = (
            "point", "repeat", "mode", *request.varied, *seed, "run", "status", "seconds", "batches", "batches_per_s",
            "makespan_s", "accuracy", "last_cost", *level, "bubble", "lateness", "cores", "load", "started", "error",
        )  # fmt: skip
        self.rows: list[dict[str, Any]] = []
        self._stream = path.open("ab+", buffering=0)
        try:
            self._open()
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _open(self) -> None:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"{self.path}: another sweep is writing to it; wait, or use another --out") from None
        self._stream.seek(0)
        data = self._stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            self._stream.truncate(len(whole))
        if not whole:
            self._write(self.columns)
            return
        try:
            lines = list(csv.reader(io.StringIO(whole.decode(), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"{self.path}: {error}; mend it, or use another --out") from None
        if tuple(lines[0]) != self.columns:
            raise ConfigError(f"{self.path}: its columns are not this sweep's; use another --out")
        for number, line in enumerate(lines[1:], 2):
            self._read(number, line)

    def _read(self, number: int, line: list[str]) -> None:
        wrong = ConfigError(f"{self.path}: line {number}: not a row of this sweep; mend it, or use another --out")
        if len(line) != len(self.columns):
            raise wrong
        row: dict[str, Any] = {key: text or None for key, text in zip(self.columns, line, strict=True)}
        try:
            row |= {key: int(row[key]) for key in COUNTS if row[key] is not None}
            row |= {key: float(row[key]) for key in FIGURES if row.get(key) is not None}
            point = self.request.points[row["point"] - 1]
        except (ValueError, IndexError, TypeError):
            raise wrong from None
        place = row["point"], row["repeat"]
        if (
            place[0] < 1
            or place[1] not in range(1, self.request.repeats + 1)
            or row["status"] not in ("done", "failed")
        ):
            raise wrong
        if place in self.places:
            raise ConfigError(
                f"{self.path}: line {number}: point {place[0]}, repeat {place[1]} is there twice; mend it"
            )
        self.rows.append(row | point.values | self._seed(point, place[1]))

    def _seed(self, point: Point, repeat: int) -> dict[str, int]:
        return {"train.seed": point.config.train.seed + repeat - 1} if self.request.seeds else {}

    @property
    def places(self) -> set[tuple[int, int]]:
        """Point and repeat of every row."""
        return {(row["point"], row["repeat"]) for row in self.rows}

    def add(self, point: Point, repeat: int, figures: dict[str, Any]) -> dict[str, Any]:
        """Write a run's row, whole and on disk, and return it."""
        mode = {"point": point.number, "repeat": repeat, "mode": point.mode}
        found = {key: None if _is_wild(each) else each for key, each in figures.items()}
        row = dict.fromkeys(self.columns) | mode | point.values | self._seed(point, repeat) | found
        self._write([_cell(row[key]) for key in self.columns])
        self.rows.append(row)
        return row

    def _write(self, cells: list[str] | tuple[str, ...]) -> None:
        stream = io.StringIO(newline="")
        csv.writer(stream, lineterminator="\n").writerow(cells)
        data = stream.getvalue().encode()
        while data:
            data = data[self._stream.write(data) :]
        os.fsync(self._stream)


def _is_wild(value: Any) -> bool:
    """Whether a figure is no finite number, as the cost of a run that flew off."""
    return isinstance(value, float) and not math.isfinite(value)


def _cell(value: Any) -> str:
    """Return a value as one line of text."""
    return "" if value is None else " ".join(sweep_text.value(value).split())
