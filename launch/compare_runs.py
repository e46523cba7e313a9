"""What `timebox compare` takes from each run: its figures, its evaluations in time, its environment. Reads files.

A run that is not whole costs what cannot be read of it: that figure is None, and `warnings` names the file. When an
evaluation ended is told by the head's trace. Where that is not on record, as with one process, it is put in proportion to
the images seen, and `is_estimated` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from pipeline import trace
from pipeline.config import load as load_config
from pipeline.errors import ConfigError, RunError
from pipeline.plan import Plan
from pipeline.schema import Config
from pipeline.sizes import reads

from . import breakdown, recording, runs, staleness, stats
from .recording import Recording

#: How a run was made.
PROCESSES, REFERENCE, VIRTUAL = "processes", "reference", "virtual"
#: What makes a run one that can be compared.
WHOLE = ("done", "simulated")
#: Of the environment, what times depend on.
TIMES = ("processor", "cores", "platform", "python", "libzmq")
#: What a box's time went to, in the order of the picture.
SHARES = ("compute", "messages", "starved", "blocked", "other")


class Evaluation(NamedTuple):
    """The share of test images told right after so many training images, so many seconds after the first go."""

    images: int
    seconds: float | None
    accuracy: float


class Measured(NamedTuple):
    """The figures of one run; `values` has a figure by name, None where it cannot be had."""

    folder: Path
    config: Config
    plan: Plan
    mode: str
    environment: dict[str, Any]
    values: dict[str, float | None]
    evaluations: list[Evaluation]
    is_estimated: bool
    warnings: list[str]

    @property
    def workers(self) -> int:
        """How many processes computed: boxes and head, or the one."""
        return 1 if self.mode == REFERENCE else self.plan.head

    @property
    def seeds(self) -> tuple[int, int]:
        """What tells repeats apart."""
        return self.config.train.seed, self.config.data.seed

    @property
    def machine(self) -> tuple[str, ...]:
        """What the run's times depend on besides its configuration."""
        if self.mode == VIRTUAL:
            return ("virtual time",)
        found = [str(self.environment.get(key, "?")) for key in TIMES]
        packages, blas = self.environment.get("packages"), self.environment.get("blas")
        found += (
            [str(packages.get(name)) for name in ("timebox", "numpy", "pyzmq")] if isinstance(packages, dict) else []
        )
        return (*found, f"{blas.get('name')} {blas.get('version')}" if isinstance(blas, dict) else "?")


def choose(words: Sequence[str], parent: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    """Return the runs that words name, each once, and those left out with the reason; raises ConfigError.

    A word is a run, the name of several, or a folder of runs. One that is named by itself has to be there and to have
    ended; of a folder's runs those that have not are left out.
    """
    folders: list[Path] = []
    left_out: list[tuple[str, str]] = []
    for word in words:
        found, is_single = _named(word, parent)
        for folder in found:
            if folder in folders:
                continue
            status = str(runs.describe(folder)["status"])
            if status in ("running", "died", runs.UNREADABLE) and is_single:
                raise ConfigError(f"{folder.name}: {_without_summary(status)}; leave it out")
            if status in WHOLE:
                folders.append(folder)
            elif (folder.name, status) not in left_out:
                left_out.append((folder.name, status))
    if not folders:
        told = "; ".join(f"{name}: {status}" for name, status in left_out)
        raise ConfigError(f"no run to compare: {told or 'none was named'}; a run has to have come to its end")
    return folders, left_out


def _without_summary(status: str) -> str:
    if status == runs.UNREADABLE:
        return status
    return f"there is no summary.json: it {'is still running' if status == 'running' else 'died'}"


def _named(word: str, parent: Path) -> tuple[list[Path], bool]:
    """Return the runs that one word names, and whether it names one by itself."""
    for folder in (parent / word, Path(word).expanduser()):
        if runs.is_run(folder):
            return [folder.resolve()], True
        for inside in (folder, folder / "runs"):
            if found := runs.all_runs(inside):
                return [each.resolve() for each in found], False
    same = [folder for folder in runs.all_runs(parent) if word and runs.describe(folder)["name"] == word]
    if len(same) > 1:
        return [folder.resolve() for folder in same], False
    return [runs.find(word, parent)], True


def glance(folder: Path) -> Measured:
    """Return a run without its figures: its configuration and how it was made; raises ConfigError as `measure` does."""
    config = load_config(folder / "config.toml")
    summary = runs.read_json(folder / "summary.json") or {}
    mode = VIRTUAL if summary.get("status") == "simulated" else REFERENCE if summary.get("reference") else PROCESSES
    environment = runs.read_json(folder / "environment.json")
    warnings = []
    if environment is None:
        warnings.append(f"{folder / 'environment.json'}: cannot be read; whether its times are comparable nobody knows")
    return Measured(folder, config, Plan.of(config), mode, environment or {}, {}, [], False, warnings)


def measure(folder: Path) -> Measured:
    """Return the figures of a run that has ended; raises ConfigError where its configuration cannot be read."""
    run = glance(folder)
    config, plan, mode, warnings = run.config, run.plan, run.mode, run.warnings
    summary = runs.read_json(folder / "summary.json") or {}
    again = runs.resumed_from(runs.read_json(folder / "launcher.json") or {})
    if again:  # its trace and its seconds begin there
        warnings.append(
            f"{folder.name}: was taken up again at batch {again:,}; its times are of a part and are left out"
        )
    is_traced = mode != REFERENCE and config.trace.level != "off" and not again
    found = _recorded(folder, warnings) if is_traced else None
    training = None if again else _training_s(summary, found)
    evaluations, is_estimated = _evaluations(folder, config, plan, found, training, warnings)
    images_per_s = _images_per_s(config, plan, _figure(summary, "batches_per_s"))
    values: dict[str, float | None] = {
        "seconds": None if again else _figure(summary, "seconds"),
        "training_s": training,
        "images_per_s": images_per_s,
        "batches_per_s": None if images_per_s is None else images_per_s / _rows(config),
        "accuracy": _figure(summary, "accuracy") if _computes(config) else None,
    }
    if reads(config):  # sequences that grow
        values["level"] = _figure(summary, "level")
    if found is not None:
        values |= _times(found)
    if mode != REFERENCE:
        values |= _staleness(folder, plan, warnings)
    return run._replace(values=values, evaluations=evaluations, is_estimated=is_estimated)


def _figure(document: dict[str, Any], key: str) -> float | None:
    value = document.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _computes(config: Config) -> bool:
    """Whether a run computed anything: where it did not, what it tells of the test images means nothing."""
    return config.emulate.arithmetic


def _rows(config: Config) -> float:
    """Return the mean number of images in a batch; the last one of an epoch may be smaller."""
    return config.data.train / -(-config.data.train // config.data.batch)


def _images_per_s(config: Config, plan: Plan, batches_per_s: float | None) -> float | None:
    """Return the steady throughput in images."""
    return None if batches_per_s is None else batches_per_s * config.data.train * config.train.epochs / plan.steps


def _recorded(folder: Path, warnings: list[str]) -> Recording | None:
    try:
        found = recording.load(folder)
    except (ConfigError, RunError) as error:
        warnings.append(f"{error}; what comes from its trace is left out")
        return None
    warnings += [f"{folder.name}: {text}" for text in found.warnings]
    return found


def _training_s(summary: dict[str, Any], found: Recording | None) -> float | None:
    """Return the seconds from the first go to the last end: without starting the processes and reading the data."""
    if found is not None and len(found.stages) == found.plan.head:
        return (found.end_ns - found.origin_ns) / breakdown.NS
    key = "busy_s" if summary.get("reference") else "seconds"
    stages = summary.get("stages")
    parts = [_figure(stage, key) for stage in stages if isinstance(stage, dict)] if isinstance(stages, list) else []
    return max((part for part in parts if part is not None), default=None)


def _evaluations(
    folder: Path, config: Config, plan: Plan, found: Recording | None, training: float | None, warnings: list[str]
) -> tuple[list[Evaluation], bool]:
    """Return a run's evaluations, and whether one of their times is estimated."""
    if not _computes(config):
        return [], False
    try:
        judged = [(int(row["epoch"]), float(row["accuracy"])) for row in runs.read_metrics(folder) if "accuracy" in row]
    except (RunError, ValueError, TypeError, KeyError):
        warnings.append(f"{folder / 'metrics' / 'metrics.jsonl'}: cannot be read; how it learnt is left out")
        return [], False
    ends = {} if found is None else _evaluation_ends(found)
    evaluations, is_estimated = [], False
    for place, (epoch, accuracy) in enumerate(judged):
        seconds = ends.get((place + 1) * plan.chunks - 1)
        if seconds is None and training is not None:
            seconds, is_estimated = training * epoch / config.train.epochs, True
        evaluations.append(Evaluation(epoch * config.data.train, seconds, accuracy))
    return evaluations, is_estimated


def _evaluation_ends(found: Recording) -> dict[int, float]:
    """Return when each evaluation on record had ended in the head, in seconds after the first go."""
    head = next((stage for stage in found.stages if stage.number == found.plan.head), None)
    if head is None:
        return {}
    records = head.of("E")
    return {int(each["batch"]): (int(each["end"]) - found.origin_ns) / breakdown.NS for each in records}


def _times(found: Recording) -> dict[str, float | None]:
    """Return the bubble in both definitions and what the time went to, each as the mean over the boxes."""
    makespan = (found.end_ns - found.origin_ns) / breakdown.NS
    boxes = [breakdown.breakdown(stage, found.plan) for stage in found.stages if stage.number != found.plan.head]
    bubbles = [stats.bubble(makespan, box) for box in boxes]
    values: dict[str, float | None] = {}
    for name in ("of_makespan", "of_busy"):
        parts = [bubble[name] for bubble in bubbles]
        known = [part for part in parts if part is not None]
        values[f"bubble.{name}"] = fmean(known) if known else None
    whole = [box for box in boxes if box["total_s"] > box["missing_s"]]
    if whole:
        seconds = np.array([_seconds(box) for box in whole])
        for name, share in zip(SHARES, (seconds / seconds.sum(axis=1, keepdims=True)).mean(axis=0), strict=True):
            values[f"shares.{name}"] = float(share)
    return values


def _seconds(box: dict[str, Any]) -> list[float]:
    """Return a box's seconds by `SHARES`."""
    waits = sum(box["starved_s"].values()), sum(box["blocked_s"].values())
    return [box["compute_s"], box["copy_s"], *waits, box["other_s"]]


def _staleness(folder: Path, plan: Plan, warnings: list[str]) -> dict[str, float | None]:
    """Return the mean staleness in updates, by kind, of all boxes' updates."""
    journals = {}
    for number in range(1, plan.head):
        try:
            journals[number] = trace.read_journal(folder, plan.name(number))
        except RunError as error:
            warnings.append(f"{error}; how stale its updates were is left out")
    pooled: dict[str, list[tuple[int, int]]] = {}
    for kinds in staleness.staleness(plan, journals).values():
        for kind, histogram in kinds.items():
            pooled.setdefault(kind, []).extend((int(by), count) for by, count in histogram["updates"].items())
    return {
        f"staleness.{kind}": sum(by * count for by, count in pairs) / sum(count for _, count in pairs)
        for kind, pairs in sorted(pooled.items())
        if pairs
    }
