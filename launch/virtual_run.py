"""A simulated run as a folder that every other command reads, or as one trace below the run that it predicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pipeline import results
from pipeline.actions import Action, Message, Part
from pipeline.box import BoxWork
from pipeline.config import dump
from pipeline.errors import ConfigError
from pipeline.files import save, save_json, save_text
from pipeline.head import HeadWork
from pipeline.lacks import Lack
from pipeline.payloads import Payloads
from pipeline.plan import Plan
from pipeline.recorder import Recorder
from pipeline.schema import Config
from pipeline.trace import DONE, GO
from pipeline.work import Work

from . import chrome, window
from .environment import collect
from .recording import Recording

Weigh = Callable[[Message], int]
#: Virtual time begins here: a record's time is never zero.
ZERO = 1_000_000_000


def weigher(config: Config, plan: Plan) -> Weigh:
    """Return what tells a message's bytes."""
    payloads = Payloads(config, plan)
    return lambda message: payloads.expected(message).size


def write_timelines(measured: Recording, simulated: Recording, path: Path) -> int:
    """Write both runs one above the other as one Chrome trace, .json or .json.gz, and return how many spans it shows."""
    made = [
        chrome.events(found, window.whole(found), label=label, place=place)
        for place, (found, label) in enumerate(((measured, "measured"), (simulated, "simulated")))
    ]
    both = chrome.Made(
        [text for each in made for text in each.texts],
        sum(each.spans for each in made),
        sum(each.messages for each in made),
        [text for each in made for text in each.warnings],
    )
    save(path, lambda stream: chrome.write(measured, both, stream, is_packed=path.suffix == ".gz"))
    return both.spans


class Tracer:
    """Writes what a simulated stage does as a live one's trace and journal."""

    def __init__(self, folder: Path, plan: Plan, number: int, work: Work | None, weigh: Weigh) -> None:
        self._work = work
        self._weigh = weigh
        header = {"pid": number, "wall_ns": time.time_ns(), "mono_ns": ZERO}
        self._recorder = Recorder(folder, plan.name(number), header)
        self._recorder.tape.mark(GO, ZERO)
        self._now = ZERO

    def part(self, action: Action, part: Part, start_ns: int, end_ns: int) -> None:
        """Note the work of an action."""
        self._recorder.tape.part(action, part, ZERO + start_ns, ZERO + end_ns)

    def sent(self, message: Message, sequence: int, start_ns: int, end_ns: int) -> None:
        """Note a message that has left."""
        end = ZERO + end_ns
        self._recorder.tape.sent(message, self._weigh(message), 0, sequence, ZERO + start_ns, end, end)

    def taken(self, message: Message, sequence: int, arrived_ns: int, start_ns: int, end_ns: int) -> None:  # noqa: ARG002
        """Note a message that was taken."""
        start = ZERO + start_ns
        self._recorder.tape.taken(message, self._weigh(message), 0, sequence, start, start, ZERO + end_ns)

    def waited(self, lack: Lack | None, start_ns: int, end_ns: int) -> None:
        """Note a wait."""
        self._recorder.tape.waited(lack, ZERO + start_ns, ZERO + end_ns)

    def ended(self, action: Action, end_ns: int) -> None:
        """Put an action into the journal, and what it computed into the sums."""
        self._now = ZERO + end_ns
        self._recorder.journal(action, lambda: self._now)
        if isinstance(self._work, (BoxWork, HeadWork)):
            self._recorder.sums.add(self._work.outputs, self._work.changes)

    def close(self, makespan_ns: int) -> None:
        """Mark the end and write what is left."""
        self._recorder.done(DONE, ZERO + makespan_ns)
        self._recorder.close()

    @property
    def seal(self) -> dict[str, Any] | None:
        """What a changed file is known by afterwards; None where nothing was computed."""
        return self._recorder.seal if self._work is not None else None


def begin(out: Path, config: Config, plan: Plan, works: Mapping[int, Work]) -> dict[int, Tracer]:
    """Make the folder of a run that is about to be simulated, and return who writes what its stages do."""
    if (out / "config.toml").exists():
        raise ConfigError(f"--out: {out} holds a run already; choose another folder")
    try:
        (out / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out: cannot make {out}: {error.strerror}") from None
    # The name stays with the run that was predicted.
    config = msgspec.structs.replace(config, run=msgspec.structs.replace(config.run, name=""))
    save_text(out / "config.toml", dump(config))
    _checkpoint(out, "initial", plan, works)
    weigh = weigher(config, plan)
    return {k: Tracer(out, plan, k, works.get(k), weigh) for k in range(1, plan.head + 1)}


def end(
    out: Path, plan: Plan, works: Mapping[int, Work], observers: Mapping[int, Tracer], made: Mapping[str, Any]
) -> None:
    """Write what came of a simulation, whose document is `made`."""
    for observer in observers.values():
        observer.close(round(made["makespan_s"] * 1e9))
    _checkpoint(out, "final", plan, works)
    head = works.get(plan.head)
    if isinstance(head, HeadWork):
        results.save_metrics(out, head.ledger)
    save_json(out / "environment.json", collect())
    save_json(out / "summary.json", _summary(made, out, observers))


def _checkpoint(out: Path, name: str, plan: Plan, works: Mapping[int, Any]) -> None:
    for k, work in works.items():
        results.save_weights(out / "checkpoint" / name / f"{plan.name(k)}.npz", work.weights())


def _summary(made: Mapping[str, Any], out: Path, observers: Mapping[int, Tracer]) -> dict[str, Any]:
    stages = [
        {"name": stage["name"], "pid": None, "busy_s": stage["busy_s"], "seal": observers[k].seal}
        for k, stage in enumerate(made["stages"], 1)
    ]
    return {
        "run": out.name,
        "folder": str(out),
        "status": "simulated",
        "seconds": made["makespan_s"],
        "reference": False,
        "schedule": made["schedule"],
        "accuracy": made.get("accuracy"),
        "costs": made.get("epoch_costs", []),
        "batches_per_s": made["batches_per_s"],
        "digest": made.get("digest"),
        "stages": stages,
    }
