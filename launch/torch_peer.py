"""One rank of the peer of `timebox bench torch`: a run of ours again by torch.distributed.pipelining over gloo. Needs torch.

`python -m launch.torch_peer train RUN_FOLDER --rank 0 --stages 3 --store FILE --kind gpipe` starts from the run's first weights
and goes through its micro-batches in its order, one update for each batch, as the run did. It prints one JSON object.

`python -m launch.torch_peer products ROWS WIDTH` prints how fast numpy and torch multiply matrices of these shapes.

Whatever could be spared torch is spared:

- A stage has all its inputs before the clock starts and takes the next one from a list, where ours cuts each from bytes.
- Shapes are inferred in a step that is thrown away; the first `--warm` batches are not timed, ours are.
- The loss is `mse_loss`, one kernel; its half and the mean over the micro-batches are in the rates.
- A step of gradient descent is one `_foreach_add_` in place, a third of the overhead of `torch.optim.SGD`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import results
from pipeline.config import load
from pipeline.data import Batches
from pipeline.data import load as load_data
from pipeline.errors import ConfigError, TimeboxError
from pipeline.plan import Plan

MISSING = "bench torch holds our pipelines against PyTorch's; install it: pip install 'timebox[bench]'"
#: The schedules that both sides have, and their classes.
SCHEDULES = {"gpipe": "ScheduleGPipe", "1f1b": "Schedule1F1B"}
#: Batches at the start that are not timed.
WARM = 20
#: A peer that has gone is noticed after so long.
PATIENCE = timedelta(seconds=60)
#: Seconds for which one product is repeated, by each of the two in turn, and how often.
PRODUCT_S, TURNS = 0.05, 5


def import_torch(name: str = "torch") -> Any:
    """Return torch, or a part of it, as a module; raises ConfigError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(MISSING) from None


def network(torch: Any, boxes: list[dict[str, Any]], head: dict[str, Any] | None, inputs: list[Any]) -> Any:
    """Return a stage of boxes and perhaps the head as a module of h that takes its inputs x from a list, in turn."""

    class Network(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            named = [*boxes, *([head] if head else [])]
            self.layers = torch.nn.ParameterList(w for weights in named for w in weights.values())
            self.next = 0

        def forward(self, h: Any = None) -> Any:
            for weights in boxes:
                x = inputs[self.next]
                z = torch.mm(x, weights["Wx"])
                h = torch.tanh(z if h is None else torch.addmm(z, h, weights["Wrec"]))
            self.next += 1
            return torch.sigmoid(torch.mm(h, head["Wfc"])) if head else h

    return Network()


class Rank:
    """One stage of the peer's pipeline: boxes, head, inputs and wanted outputs of a run folder, as tensors."""

    def __init__(self, torch: Any, folder: Path, rank: int, stages: int, kind: str) -> None:
        config = load(folder / "config.toml")
        plan = Plan.of(config)
        if stages not in (plan.boxes, plan.head):
            raise ConfigError(
                f"--stages: a stage a box and the head alone or with the last box are wanted, not {stages}"
            )
        self.torch = torch
        self.micro, self.steps = plan.micro, plan.batches // plan.micro
        own = [rank + 1] if rank < plan.boxes else []
        initial = folder / "checkpoint" / "initial"
        self.weights = {
            name: {
                key: torch.nn.Parameter(torch.from_numpy(array))
                for key, array in results.load_weights(initial / f"{name}.npz").items()
                if not key.startswith("oracle_")
            }
            for name in [*(plan.name(k) for k in own), *(["head"] if rank == stages - 1 else [])]
        }
        batches = Batches(config, load_data(config.data))
        inputs, wanted = [], []
        for unit in range(plan.batches):
            if own:
                inputs.append(torch.from_numpy(batches.inputs(unit, own[0])[0]))
            if "head" in self.weights:
                wanted.append(batches.wanted(batches.labels(unit)))
        per_step = [np.concatenate(wanted[at : at + self.micro]) for at in range(0, len(wanted), self.micro)]
        self.wanted = [torch.from_numpy(array) for array in per_step] or [None] * self.steps
        # Half of the squared error, and the mean over the micro-batches, of which torch is told to take the sum.
        train, scale = config.train, -0.5 / self.micro
        rates = {"Wx": train.rate_input, "Wrec": train.rate_recurrent, "Wfc": train.rate_head}
        self.descents = [(p, rates[key] * scale) for named in self.weights.values() for key, p in named.items()]
        boxes = [self.weights[plan.name(k)] for k in own]
        self.module = network(torch, boxes, self.weights.get("head"), inputs)
        pipelining = import_torch("torch.distributed.pipelining")
        stage = pipelining.PipelineStage(self.module, rank, stages, torch.device("cpu"))
        make = getattr(pipelining, SCHEDULES[kind])
        self.schedule = make(stage, self.micro, loss_fn=torch.nn.functional.mse_loss, scale_grads=False)
        self.losses: list[Any] = []

    def run(self, warm: int) -> float:
        """Do all batches and return seconds per micro-batch, those of the first `warm` batches left out."""
        self._step(0)  # infers the shapes; its gradients and losses go
        self.losses.clear()
        self.module.zero_grad(set_to_none=True)
        self.module.next = 0
        began = time.perf_counter()
        for batch in range(self.steps):
            if batch == warm:
                began = time.perf_counter()
            self._step(batch)
            self._descend()
        return (time.perf_counter() - began) / ((self.steps - min(warm, self.steps - 1)) * self.micro)

    def _step(self, batch: int) -> None:
        losses: list[Any] = []
        self.schedule.step(target=self.wanted[batch], losses=losses, return_outputs=False)
        self.losses += losses

    def _descend(self) -> None:
        # One call for each rate: a box has two weights and mostly one rate, a head has one.
        by_rate: dict[float, list[Any]] = {}
        for parameter, rate in self.descents:
            if parameter.grad is not None:  # the first box has no use for its Wrec
                by_rate.setdefault(rate, []).append(parameter)
        with self.torch.no_grad():
            for rate, parameters in by_rate.items():
                self.torch._foreach_add_(parameters, [p.grad for p in parameters], alpha=rate)
        self.module.zero_grad(set_to_none=True)

    def costs(self) -> list[float]:
        """Return the loss of every micro-batch, half the mean squared error; nothing where the head is elsewhere."""
        return [0.5 * loss.item() for loss in self.losses]


def train(folder: Path, rank: int, stages: int, store: Path, kind: str, warm: int) -> dict[str, Any]:
    """Run one rank and return its document; leaves its final weights beside the store."""
    torch = import_torch()
    torch.set_num_threads(1)
    if Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host's name need not be one of its addresses
    distributed = import_torch("torch.distributed")
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=stages, timeout=PATIENCE
    )
    try:
        own = Rank(torch, folder, rank, stages, kind)
        distributed.barrier()
        seconds = own.run(warm)
        for name, named in own.weights.items():
            final = {key: p.detach().numpy() for key, p in named.items()}
            results.save_weights(store.parent / f"{name}.npz", final)
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
    return {"rank": rank, "seconds": seconds, "costs": own.costs(), "torch": torch.__version__}


def products(rows: int, width: int) -> list[dict[str, Any]]:
    """Return how fast numpy and torch multiply, in GFLOP/s, one thread each and in turn: a row for each shape."""
    torch = import_torch()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    found = []
    for name, n, k, m in shapes(rows, width):
        a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((n, k), (k, m)))
        out = np.empty((n, m), np.float32)
        # A gradient's left factor is a transposed view, on both sides.
        left = np.ascontiguousarray(a.T).T if name == "gradient" else a
        tensors = torch.from_numpy(left), torch.from_numpy(b), torch.from_numpy(np.empty_like(out))
        calls: dict[str, Callable[[], object]] = {
            "numpy": lambda left=left, b=b, out=out: np.matmul(left, b, out=out),  # type: ignore[misc]
            "torch": lambda t=tensors: torch.mm(t[0], t[1], out=t[2]),  # type: ignore[misc]
        }
        turns = [{who: 2 * n * k * m / _seconds(call) / 1e9 for who, call in calls.items()} for _ in range(TURNS)]
        found.append({"product": name, "shape": [n, k, m], **{who: [turn[who] for turn in turns] for who in calls}})
    return found


def shapes(rows: int, width: int) -> Iterator[tuple[str, int, int, int]]:
    """Yield the products that a box is made of, by name: (n, k) times (k, m)."""
    yield "input", rows, 784, width
    yield "recurrent", rows, width, width
    yield "gradient", width, rows, width


def _seconds(call: Callable[[], object]) -> float:
    """Return how long one call takes, of as many as fit into the time for it."""
    call()
    began, count = time.perf_counter(), 0
    while (taken := time.perf_counter() - began) < PRODUCT_S:
        for _ in range(8):
            call()
        count += 8
    return taken / count


def parser() -> argparse.ArgumentParser:
    """Return the parser of this program's arguments."""
    top = argparse.ArgumentParser(prog="python -m launch.torch_peer", description=__doc__.partition("\n")[0])
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("train", help="one rank of a run")
    one.add_argument("folder", type=Path, help="a run folder of ours")
    one.add_argument("--rank", type=int, required=True)
    one.add_argument("--stages", type=int, required=True, help="a stage a box, and one for the head or none")
    one.add_argument("--store", type=Path, required=True, help="file by which the ranks find each other")
    one.add_argument("--kind", choices=SCHEDULES, required=True)
    one.add_argument("--warm", type=int, default=WARM, help="batches at the start that are not timed")
    other = commands.add_parser("products", help="how fast numpy and torch multiply")
    other.add_argument("rows", type=int)
    other.add_argument("width", type=int)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say and print a JSON document; returns the exit code."""
    asked = parser().parse_args(arguments)
    try:
        if asked.command == "products":
            document: Any = products(asked.rows, asked.width)
        else:
            document = train(asked.folder, asked.rank, asked.stages, asked.store, asked.kind, asked.warm)
    except TimeboxError as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    sys.stdout.write(json.dumps(document) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
