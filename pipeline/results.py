"""What a run leaves for people and other tools: weights as npz, costs and predictions as tables. Writes files, else pure.

checkpoint/initial/box-1.npz     weights before the first batch, one file a stage
checkpoint/final/box-1.npz       after the last; checkpoint/interrupted/ where a run was stopped before
metrics/epochs.csv               epoch, cost, test_cost, accuracy; of binary sums whole, of sequences that grow level
metrics/metrics.jsonl            the same, a JSON object a line, as epochs end
metrics/predictions.csv          image, label, prediction, right, outputs: the final evaluation; of a task the share right
"""

from __future__ import annotations

import contextlib
import json
import tokenize
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import aside
from .arrays import Weights
from .errors import RunError
from .files import save, save_text, to_json
from .ledger import Judged, Ledger

METRICS = aside.METRICS


def save_weights(path: Path, weights: Weights) -> None:
    """Write one stage's arrays as npz, whole or not at all."""
    arrays: dict[str, Any] = {name: np.asarray(array, order="C") for name, array in weights.items()}
    save(path, lambda stream: np.savez(stream, **arrays))


def append_look(path: Path, batch: int, arrays: Weights) -> None:
    """Append what a probe saw of a batch: a line of JSON that describes the arrays, then their bytes.

    A disk without room costs the looks, and nothing else.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    described = [[name, array.dtype.str, array.shape] for name, array in plain.items()]
    parts = [json.dumps({"batch": batch, "arrays": described}).encode() + b"\n", *(a.tobytes() for a in plain.values())]
    content = b"".join(parts)
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as stream:
        at = stream.tell()
        if stream.write(content) != len(content):
            stream.truncate(at)


def read_looks(path: Path) -> dict[int, Weights]:
    """Return what a probe saw, by batch, up to the last whole look; nothing where there is no file."""
    found: dict[int, Weights] = {}
    try:
        content = path.read_bytes()
    except OSError:
        return found
    at = 0
    while (end := content.find(b"\n", at)) >= 0:
        try:
            line, at = json.loads(content[at:end]), end + 1
            look: Weights = {}
            for name, dtype, shape in line["arrays"]:
                array = np.ndarray(shape, np.dtype(dtype), content, at)
                look[name], at = array, at + array.nbytes
            found[int(line["batch"])] = look
        except (ValueError, TypeError, KeyError):
            break
    return found


def load_weights(path: Path) -> Weights:
    """Return the arrays of an npz file; raises RunError."""
    try:
        with path.open("rb") as stream:  # numpy leaves a file open that it cannot read
            if stream.read(4) not in (b"PK\3\4", b"PK\5\6"):  # of others numpy says how to load them unsafely
                raise ValueError("no npz file")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        RuntimeError,
        SyntaxError,
        tokenize.TokenError,
        zipfile.BadZipFile,
    ) as error:
        # RuntimeError and its NotImplementedError: a damaged zip that claims to be encrypted, or packed in another way
        raise RunError(f"{path}: cannot read the weights: {getattr(error, 'strerror', None) or error}") from None


def append_rows(folder: Path, ledger: Ledger) -> None:
    """Append the rows of epochs that have ended to `metrics.jsonl`, and take them; a disk without room costs a delay only."""
    if not (rows := ledger.ended()):
        return
    content = "".join(to_json(row) + "\n" for row in rows).encode()
    path = folder / METRICS
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        with path.open("ab", buffering=0) as stream:
            at = stream.tell()
            if stream.write(content) == len(content):
                ledger.take(len(rows))
            else:
                stream.truncate(at)


def _read_rows(folder: Path, count: int) -> list[str]:
    """Return the first lines of `metrics.jsonl`, each with its end; raises RunError where there are fewer."""
    path = folder / METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if count else []
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot read the rows of {count:,} epochs: {error}") from None
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < count:
        raise RunError(f"{path}: has rows of {len(whole):,} epochs; {count:,} were written")
    return whole[:count]


def save_metrics(folder: Path, ledger: Ledger) -> list[dict[str, Any]]:
    """Write the tables of a run and return its epochs; raises RunError where rows that were taken cannot be read again."""
    try:
        rows = [json.loads(line) for line in _read_rows(folder, ledger.taken)] + ledger.rows()
    except ValueError as error:
        raise RunError(f"{folder / METRICS}: cannot read the rows of {ledger.taken:,} epochs: {error}") from None
    more = [name for name in ("whole", "level") if any(name in row for row in rows)]
    names = ("epoch", "cost", "test_cost", "accuracy", *more)
    table = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in rows)]
    save_text(folder / "metrics" / "epochs.csv", "\n".join(table) + "\n")
    save_text(folder / METRICS, "".join(to_json(row) + "\n" for row in rows))
    if final := ledger.final:
        save_text(folder / "metrics" / "predictions.csv", _predictions(final))
    return rows


def _predictions(judged: Sequence[Judged]) -> str:
    outputs = judged[0].outputs.shape[1]
    what = "image" if judged[0].rights is None else "example"
    lines = [",".join((what, "label", "prediction", "right", *(f"output_{k}" for k in range(outputs))))]
    for part in judged:
        for *told, row in zip(part.places, *_told(part), part.outputs, strict=True):
            lines.append(",".join((*map(str, told), *(f"{y:.9g}" for y in row))))
    return "\n".join(lines) + "\n"


def _told(part: Judged) -> tuple[list[Any], list[Any], list[str]]:
    """Return labels, predictions and what is right: of an image whether it is, of an example the share from 0 to 1."""
    if part.rights is None:
        right = ["true" if is_right else "false" for is_right in part.labels == part.predictions]
        return part.labels.tolist(), part.predictions.tolist(), right
    numbers = [[f"{value:.9g}" for value in column] for column in (part.labels, part.predictions)]
    return numbers[0], numbers[1], [f"{float(share):.6g}" for share in part.rights]
