"""Our pipelines beside those of torch.distributed.pipelining, over gloo, on the processor. `timebox bench torch`

Both train the same network from the same first weights on the same micro-batches in the same order, with one update for each
batch of them: GPipe against `ScheduleGPipe`, 1F1B against `Schedule1F1B`, one thread a process. Each repeat runs ours and
then torch again from our run's folder (`torch_peer`), and holds the last losses and weights of the two against each
other: that shows that the same mathematics is compared.

    ours     box 1 │ box 2 │ head     three processes; the clock runs from go to the head's last action
    torch    box 1 │ box 2 │ head     the same three; the first `torch_peer.WARM` batches are not timed
    torch    box 1 │ box 2 + head     two: less to send. The better of the two, by its median, is torch's figure

`decoupled` stands beside them: it updates at every micro-batch and trains an oracle, which is more work, and ends elsewhere.
A box is made of matrix products, and the two multiply by another BLAS each; how fast these are is measured for itself.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.arrays import Weights
from pipeline.config import load, resolve
from pipeline.errors import ConfigError, RunError
from pipeline.plan import Plan
from pipeline.results import load_weights

from . import spread
from .environment import collect, version_of, worker_environment
from .live import Result, launch
from .spread import Spread
from .text import table
from .torch_peer import MISSING, WARM

#: Micro-batches in a batch, and boxes: the narrowest pipeline with something to overlap.
MICRO, BOXES = 8, 2
#: Losses that differ by less, relatively, are of the same training: float32 sums in another order.
SAME = 1e-3
#: Seconds after which a run of torch's is given up, and between two looks at it.
PATIENCE_S, TICK_S = 600.0, 0.1


class Case(NamedTuple):
    """A network and what it is trained on: `rows` images in a micro-batch, and how many times as fast we want to be."""

    width: int
    rows: int
    images: int  # a multiple of a batch: all batches are whole
    epochs: int
    kinds: tuple[str, ...]
    bar: float

    @property
    def units(self) -> int:
        """Micro-batches in a run."""
        return self.images // self.rows * self.epochs

    def flags(self, kind: str, folder: Path) -> dict[str, Any]:
        """Return our configuration of this case, with what costs time and is no training switched off."""
        micro = {} if kind == "decoupled" else {"schedule.micro_batches": MICRO}
        return {
            "model.width": self.width,
            "model.boxes": BOXES,
            "model.tied": False,
            "data.batch": self.rows * (MICRO if micro else 1),
            "data.train": self.images,
            "data.test": 1,
            "train.epochs": self.epochs,
            "train.evaluate_every": 0,
            "schedule.kind": kind,
            **micro,
            "trace.level": "off",
            "log.level": "info",
            "run.dir": str(folder),
            "run.plot": False,
        }


#: Small, where messages and interpreters are what costs; and two where arithmetic is.
CASES = (
    Case(64, 10, 1600, 60, ("1f1b",), 5.0),
    Case(784, 32, 1536, 25, ("gpipe", "1f1b"), 1.0),
    Case(1024, 64, 1536, 20, ("gpipe", "1f1b"), 1.0),
)


class Turn(NamedTuple):
    """One repeat of one schedule: microseconds a micro-batch, ours and by torch's stages, and how far the two are apart."""

    ours: float
    torch: dict[int, float]
    loss: float
    weights: float


def measure(repeats: int, cases: Sequence[Case] = CASES) -> dict[str, Any]:
    """Measure all cases in turn, and return microseconds a micro-batch with their spread."""
    if importlib.util.find_spec("torch") is None:
        raise ConfigError(MISSING)
    rows, products = [], []
    for case in cases:
        products.append({"width": case.width, "rows": case.rows, "products": _products(case)})
        turns: dict[str, list[Turn]] = {kind: [] for kind in case.kinds}
        beside = []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory(prefix="timebox-bench-") as folder:
                for kind in case.kinds:
                    turns[kind].append(_turn(case, kind, Path(folder)))
                beside.append(_us(_ours(case, "decoupled", Path(folder))))
        made = [row(case, kind, turns[kind]) for kind in case.kinds]
        rows += [*made, decoupled(case, beside, made)]
    found = {"rows": rows, "products": products, "torch": version_of("torch")}
    return {"bench": "torch", "repeats": repeats, **found, "environment": collect()}


def row(case: Case, kind: str, turns: Sequence[Turn]) -> dict[str, Any]:
    """Return what the repeats of one schedule say; the ratio is torch's time over ours."""
    times = {stages: [turn.torch[stages] for turn in turns] for stages in turns[0].torch}
    better = min(times, key=lambda stages: statistics.median(times[stages]))
    loss = max(turn.loss for turn in turns)
    return {
        **_ratio(case, kind, [turn.ours for turn in turns], times[better]),
        "torch_us": {str(stages): spread.spread(found).document() for stages, found in times.items()},
        "torch_turns_us": times[better],
        "torch_stages": better,
        "loss_difference": loss,
        "weights_difference": max(turn.weights for turn in turns),
        "same": loss <= SAME,
    }


def decoupled(case: Case, ours: Sequence[float], made: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of `decoupled`, held against torch's faster schedule."""
    fastest = min(made, key=lambda other: statistics.median(other["torch_turns_us"]))
    return {**_ratio(case, "decoupled", ours, fastest["torch_turns_us"]), "against": fastest["schedule"]}


def _ratio(case: Case, kind: str, ours: Sequence[float], torch: Sequence[float]) -> dict[str, Any]:
    ratio = spread.ratios(torch, ours)
    return {
        "width": case.width, "rows": case.rows, "boxes": BOXES, "micro_batches": MICRO, "units": case.units,
        "schedule": kind, "ours_us": spread.spread(ours).document(), "ratio": ratio.document(),
        "verdict": spread.verdict(ratio), "bar": None if kind == "decoupled" else case.bar,
    }  # fmt: skip


def _turn(case: Case, kind: str, folder: Path) -> Turn:
    ours = _ours(case, kind, folder)
    took, losses, weights = {}, [], []
    for stages in (BOXES + 1, BOXES):
        with tempfile.TemporaryDirectory(prefix="torch-", dir=folder) as place:
            costs, seconds = _torch(ours.folder, kind, stages, Path(place))
            took[stages] = seconds * 1e6
            losses.append(apart(ours.costs[-1:], by_epoch(costs, case.epochs)[-1:]))
            weights.append(_weights_apart(ours.folder, Path(place)))
    return Turn(_us(ours), took, max(losses), max(weights))


def _ours(case: Case, kind: str, folder: Path) -> Result:
    result = launch(resolve("article", flags=case.flags(kind, folder)))
    if result.status != "done":
        raise RunError(f"bench torch: our run is {result.status}, not done: {result.document.get('error', '')}")
    return result


def _us(result: Result) -> float:
    """Return the microseconds of a micro-batch."""
    micro = Plan.of(load(result.folder / "config.toml")).micro
    return 1e6 / float(result.document["batches_per_s"]) / micro


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "launch.torch_peer", *map(str, arguments)]


def _torch(run: Path, kind: str, stages: int, place: Path) -> tuple[list[float], float]:
    """Do a run of ours by torch; return the loss of each micro-batch, and seconds a micro-batch in the last stage."""
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(stages):
            words = ("train", run, "--rank", rank, "--stages", stages, "--store", place / "store", "--kind", kind)
            with (place / f"{rank}.out").open("wb") as out, (place / f"{rank}.err").open("wb") as err:
                ranks.append(subprocess.Popen(_command(*words), stdout=out, stderr=err, env=worker_environment()))
        _wait(ranks, place)
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    document = json.loads((place / f"{stages - 1}.out").read_text())
    return document["costs"], document["seconds"]


def _wait(ranks: Sequence[subprocess.Popen[bytes]], place: Path) -> None:
    """Return once all ranks are done; raises RunError at the first that fails, whom the others would wait for."""
    until = time.monotonic() + PATIENCE_S
    while None in (codes := [process.poll() for process in ranks]) or any(codes):
        failed = next((rank for rank, code in enumerate(codes) if code), None)
        if failed is not None:
            said = (place / f"{failed}.err").read_text(errors="replace").strip().splitlines() or ["it died"]
            raise RunError(f"bench torch: rank {failed} of torch's failed: {said[-1]}")
        if time.monotonic() > until:
            raise RunError(f"bench torch: torch's ranks were not done after {PATIENCE_S:.0f} s")
        time.sleep(TICK_S)


def _products(case: Case) -> Any:
    command = _command("products", case.rows, case.width)
    done = subprocess.run(command, stdout=subprocess.PIPE, env=worker_environment(), check=True)
    return json.loads(done.stdout)


# How far two trainings are apart


def by_epoch(costs: Sequence[float], epochs: int) -> list[float]:
    """Return the mean cost of each epoch, of micro-batches of one size."""
    found: list[float] = np.asarray(costs, float).reshape(epochs, -1).mean(axis=1).tolist()
    return found


def apart(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the largest relative difference of two rows of losses; infinite where one is not a number."""
    found = max(abs(a - b) / max(abs(a), abs(b), 1e-12) for a, b in zip(ours, theirs, strict=True))
    return found if np.isfinite(found) else float("inf")


def drift(first: Weights, ours: Weights, theirs: Weights) -> float:
    """Return how far torch's final weights are from ours, as a share of the way that ours have gone."""
    names = [name for name in ours if not name.startswith("oracle_")]
    gone = sum(float(np.square(ours[name] - first[name], dtype=float).sum()) for name in names)
    off = sum(float(np.square(ours[name] - theirs[name], dtype=float).sum()) for name in names)
    return float((off / gone) ** 0.5) if gone else 0.0


def _weights_apart(run: Path, place: Path) -> float:
    names = [*(f"box-{k}" for k in range(1, BOXES + 1)), "head"]
    sides = [run / "checkpoint" / "initial", run / "checkpoint" / "final", place]
    return max(drift(*(load_weights(side / f"{name}.npz") for side in sides)) for name in names)


# For people


def lines(document: dict[str, Any]) -> list[str]:
    """Return the tables for people."""
    rows = [_line(found) for found in document["rows"]]
    header = ("width×rows", "schedule", "ours µs", "torch µs, 3 stages", "2 stages", "ratio", "", "bar", "loss apart")
    found = [table(header, rows, left=(1, 6, 7))]
    found.append(f"µs per micro-batch; ratio: torch's better time ÷ ours; in brackets 95 %; torch {document['torch']}")
    found.append(f"one update every {MICRO} micro-batches, decoupled: one each, held against torch's faster schedule")
    found.append(f"ours from go to the end; torch without its first {WARM} batches and without cutting its inputs")
    found += [
        f"width {other['width']}, {other['schedule']}: the losses differ by {other['loss_difference']:.1e}: these are two "
        "trainings, and the ratio tells nothing"
        for other in document["rows"]
        if not other.get("same", True)
    ]
    products = [_product(case, one) for case in document["products"] for one in case["products"]]
    columns = ("width×rows", "product", "shape", "numpy GFLOP/s", "torch GFLOP/s", "numpy ÷ torch")
    return [*found, "", "the bare products, one thread:", table(columns, products, left=(1,))]


def _line(found: dict[str, Any]) -> tuple[str, ...]:
    ratio = Spread(**found["ratio"])
    torch = found.get("torch_us", {})
    return (
        f"{found['width']}×{found['rows']}",
        found["schedule"],
        Spread(**found["ours_us"]).text("{:.0f}"),
        *(Spread(**torch[str(stages)]).text("{:.0f}") if torch else "–" for stages in (BOXES + 1, BOXES)),
        ratio.text(),
        found["verdict"],
        bar(ratio, found["bar"]),
        f"{found['loss_difference']:.0e}" if "loss_difference" in found else "–",
    )


def bar(ratio: Spread, wanted: float | None) -> str:
    """Return whether a ratio reaches what is wanted of it: by its whole interval, by its median alone, or not."""
    if wanted is None:
        return "–"
    sure = ratio.low is not None and ratio.low >= wanted
    return f"{wanted:g} {'met' if sure else 'met by the median' if ratio.median >= wanted else 'not met'}"


def _product(case: dict[str, Any], one: dict[str, Any]) -> tuple[str, ...]:
    n, k, m = one["shape"]
    rates = [spread.spread(one[who]).text("{:.1f}") for who in ("numpy", "torch")]
    quotient = spread.ratios(one["numpy"], one["torch"]).text()
    return (f"{case['width']}×{case['rows']}", one["product"], f"{n}×{k} · {k}×{m}", *rates, quotient)
