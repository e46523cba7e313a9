"""A run from beginning to end: check, make the folder, start the processes, gather the results."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import faults, trace
from pipeline.actions import Action
from pipeline.config import complete
from pipeline.errors import ConfigError, RunError
from pipeline.files import run_digest, save_json
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.worklog import Anchor, WorkLog

from . import outcome, runs, shown
from .links import is_open
from .preflight import check
from .progress import Progress
from .spawn import LiveRun, Observer
from .spawn_reference import ReferenceRun

if TYPE_CHECKING:
    from pipeline.arrays import Weights


@dataclass(frozen=True, repr=False)
class Result:
    """A run that has ended: its folder and the document of `timebox run --json`. A notebook shows it as a short table."""

    folder: Path
    document: dict[str, Any]

    @classmethod
    def find(cls, run: str = runs.LATEST, folder: Path | str = "runs") -> Result:
        """Return a run that was made before, by id, name, path or `latest`; raises ConfigError where none has ended so."""
        found = runs.find(run, Path(folder).expanduser())
        document = runs.read_json(found / "summary.json")
        if document is None:
            raise ConfigError(
                f"{found.name}: it has no summary.json to be read: it goes on, or died; see `timebox list`"
            )
        return cls(found, document)

    def __repr__(self) -> str:
        return f"<{shown.line(self.document)}>"

    def _repr_html_(self) -> str:
        return shown.html(self.folder, self.document)

    @property
    def status(self) -> str:
        """`done`, `failed` or `interrupted`."""
        return str(self.document["status"])

    @property
    def accuracy(self) -> float | None:
        """The share of test images told right at the end."""
        value = self.document["accuracy"]
        return None if value is None else float(value)

    @property
    def costs(self) -> list[float]:
        """The mean training cost of each epoch; not a number where it was not finite."""
        return [float("nan") if cost is None else float(cost) for cost in self.document["costs"]]

    @property
    def digest(self) -> str | None:
        """The sha256 over all final weights in stage order."""
        value = self.document["digest"]
        return None if value is None else str(value)

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """A row for each epoch: epoch, cost, and where it was evaluated test_cost and accuracy."""
        return runs.read_metrics(self.folder)

    @cached_property
    def journal(self) -> dict[str, list[Action]]:
        """Each stage's actions in the order it took them."""
        return {name: trace.read_journal(self.folder, name) for name in runs.stages(self.folder, "journal", ".txt")}

    @cached_property
    def stats(self) -> dict[str, Any]:
        """The document of `timebox stats --json`; raises ConfigError where there is no trace."""
        from . import recording, stats

        return stats.document(recording.load(self.folder))

    def report(self, out: Path | None = None) -> Path:
        """Write the offline page, in the run's folder or as `out`, and return its path."""
        from . import report

        return Path(report.write([self.folder], out)["out"])

    def show(self, height: int = 720) -> shown.Page:
        """Write the offline page and show it where this stands last in a notebook's cell, `height` pixels high."""
        return shown.Page(self.report(), height)

    def replay(self) -> dict[str, Any]:
        """Run it again from its journals, in a process of its own, and return the document of `timebox replay --json`."""
        from . import replaying

        return replaying.replay(self.folder)

    def replay_until(self, until: str) -> dict[str, Any]:
        """Run it again as far as `box-1:T17` and return the arrays there: `activation`, `synthetic`, `after.Wx`, …"""
        from . import replaying

        return replaying.replay_until(self.folder, until)

    @cached_property
    def weights(self) -> dict[str, Weights]:
        """Each stage's final arrays by name: `Wx`, `Wrec`, `oracle_L`, …, and the head's `Wfc`."""
        from pipeline.results import load_weights

        final = self.folder / "checkpoint" / "final"
        return {name: load_weights(final / f"{name}.npz") for name in runs.stages(final.parent, "final", ".npz")}


def run(config: Config | None = None, *, reference: bool = False, progress: bool | None = None) -> Result:
    """Train as processes, or with `reference` in one process, and return the result; raises ConfigError, RunError.

    Without `config` this is the published experiment, preset `article`. With `progress` it tells on standard error where the
    run is: as a table on a terminal, elsewhere, as in a notebook, a line every five seconds; None: in an interactive session.

    It returns when the run has ended. Workers do not import the caller's file, so a script needs no guard. In the main
    thread Ctrl-C stops the run, and what is there is kept; called in another one, by `asyncio.to_thread` say, it leaves
    signals alone, and `timebox stop` ends it. In a coroutine it blocks the loop.
    """
    from pipeline.config import resolve

    config = complete(config) if config else resolve()
    told = progress if progress is not None else hasattr(sys, "ps1")  # so do Python, IPython and Jupyter say it
    with Progress(Plan.of(config), quiet=not told) as observe:
        result = launch(config, reference=reference, observe=observe)
    if result.status == "failed":
        raise RunError(f"{result.document['error']}; the logs are in {result.folder / 'logs'}")
    return result


def launch(
    config: Config,
    *,
    reference: bool = False,
    label: str = "run",
    on_checked: Callable[[], None] = lambda: None,
    observe: Observer = lambda _: None,
    since_ns: int | None = None,
) -> Result:
    """Run a complete configuration and return the result, whatever became of it; raises ConfigError before it starts.

    `on_checked` is called once nothing is wrong with the request and before anything is made, `observe` some twenty times
    a second; `since_ns` is the monotonic time of the command, for first_update_s.
    """
    since_ns = time.monotonic_ns() if since_ns is None else since_ns
    check(config, reference=reference)
    on_checked()
    folder = runs.make_run(config, label)
    live = ReferenceRun(config, folder) if reference else LiveRun(config, folder)
    return carry_out(live, config, observe, since_ns)


def carry_out(live: LiveRun | ReferenceRun, config: Config, observe: Observer, since_ns: int) -> Result:
    """See a run through, in its folder, and write down what became of it."""
    folder, reference = live.folder, isinstance(live, ReferenceRun)
    started = time.monotonic()
    state = live.run(observe, lambda: _save_environment(folder))
    document: dict[str, Any] = {
        "run": folder.name,
        "folder": str(folder),
        "status": state.status,
        "seconds": round(time.monotonic() - started, 6),
        "reference": reference,
        "schedule": config.schedule.kind,
        **outcome.epochs(folder, config),
    }
    if isinstance(live, ReferenceRun):
        done = live.done
        digests = done.get("digests")
        stages = [{"name": "reference", "batches": done.get("batches"), "busy_s": done.get("busy_s")}]
        document |= {"batches_per_s": done.get("batches_per_s"), "first_update_s": None}
    else:
        members = state.members.items()
        found = [(member.done or {}).get("digest") for _, member in members]
        digests = found if all(found) else None
        stages = [
            {
                "name": name,
                "batches": member.batch,
                **{
                    key: (member.done or {}).get(key)
                    for key in ("busy_s", "seconds", "cpu_s", "peak_mb", "digest", "seal", "dropped", "late")
                },
            }
            for name, member in members
        ]
        seconds = (state.members["head"].done or {}).get("seconds")
        begun = live.attempts[-1]["from_batch"] if len(live.attempts) > 1 else None
        document |= outcome.timing(folder, live.plan, since_ns, seconds, begun)
        document |= outcome.attempts(live)
    for stage in stages:
        stage["pid"] = state.members[str(stage["name"])].pid
        if not isinstance(live, ReferenceRun):
            stage["host"] = live.placer.where(str(stage["name"]))["host"]
    document |= {"digest": run_digest(digests) if digests and state.status == "done" else None, "stages": stages}
    document["faults"] = faults.texts(config.fault)
    if not reference and is_open(config):
        document["insecure"] = True
    if state.failure is not None:
        document |= outcome.failed(folder, state, state.failure)
    # What went wrong first is told, even where a full disk takes no word of it.
    with contextlib.suppress(*([OSError] if state.failure is not None else [])):
        save_json(folder / "summary.json", document)
    # A run that may be taken up again is judged when it is done.
    if (folder / "probe").is_dir() and (document["status"] == "done" or not Plan.of(config).saves):
        _settle_probe(folder, Plan.of(config))
    return Result(folder, document)


def _settle_probe(folder: Path, plan: Plan) -> None:
    """Judge the oracles by what the probe left. Where that fails the run is none the worse: the launcher's log tells it."""
    from . import quality  # it imports numpy, which a run without a probe does not need here

    try:
        quality.settle(folder, plan)
    except OSError as error:
        log = WorkLog(folder / "logs" / "launcher.log", "launcher", "info", Anchor())
        log.error(f"the oracles were not judged: {error}; what the probe left is still in {folder / 'probe'}")
        log.close()


def _save_environment(folder: Path) -> None:
    # Collected while the workers run, not before: importing numpy here would delay their first update.
    from .environment import collect

    save_json(folder / "environment.json", collect())
