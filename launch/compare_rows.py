"""Which runs are repeats of one another, what each row of them is called, and which row is whose baseline. Pure.

repeats     equal configuration but for run.*, log.*, trace.* and the two seeds, made in the same way
label       what differs between the rows: `decoupled window 4`, `one process`, `width 64`
network     what is trained on what: tied boxes are one network however it is cut along time, dense layers along depth
process     the baseline in one process: the fastest row of the same network
locked      the baseline of full backpropagation: the same network cut into the same boxes, in the same world
frozen, …   the controls of learning: the same network, and boxes that learn by another rule, or never
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from pipeline.config import complete, fields
from pipeline.errors import ConfigError
from pipeline.learning import rules_of
from pipeline.schema import Config, Schedule
from pipeline.sizes import box_steps

from .compare_runs import PROCESSES, REFERENCE, VIRTUAL, Measured

#: What may differ between repeats: groups whole, and keys.
GROUPS, SEEDS = ("run", "log", "trace"), ("train.seed", "data.seed")
#: What no label shows: the text of a schedule, or of code, whose file is shown; where the data were.
SILENT = ("schedule.program", "data.dir")
#: The folder above that of a sweep's runs holds this.
SWEEP = "sweep.toml"
WAYS = {PROCESSES: "", REFERENCE: "one process", VIRTUAL: "virtual"}
#: Learning rules that are controls, by `oracle.kind`.
RULES = ("exact", "frozen", "last", "noise", "stale", "local", "delayed")

Key = tuple[Any, ...]


class Row(NamedTuple):
    """Runs that are repeats of one another, in the order in which they were made."""

    label: str
    runs: list[Measured]

    @property
    def first(self) -> Measured:
        """The run that stands for all where they are equal."""
        return self.runs[0]

    @property
    def rule(self) -> str:
        """The control that its boxes learn by, `noise` say; nothing where they learn by oracles or in full."""
        return rule(self.first.config)

    def values(self, name: str) -> list[float]:
        """Return a figure of each repeat that has it."""
        return [value for run in self.runs if (value := run.values.get(name)) is not None]


def flat(config: Config) -> dict[str, Any]:
    """Return every key that decides a row, as `group.key`, with a value that can be compared."""
    tree = msgspec.to_builtins(config, str_keys=True)
    return {
        f"{group}.{key}": _plain(value)
        for group, values in tree.items()
        if group not in GROUPS
        for key, value in values.items()
        if f"{group}.{key}" not in SEEDS
    }


def rule(config: Config) -> str:
    """Return the control that boxes learn by, one of `RULES`, or nothing.

    Where gradients come back anyway, as by `locked`, nobody asks an oracle, and it may be called `noise`.
    """
    kind = config.oracle.kind
    return kind if kind in RULES and (kind not in ("noise", "stale") or "synthetic" in rules_of(config)) else ""


def _plain(value: Any) -> Any:
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


def grouped(measured: Sequence[Measured]) -> list[Row]:
    """Return the rows of some runs, in the order in which each appears first."""
    found: dict[Key, list[Measured]] = {}
    for run in measured:
        found.setdefault((run.mode, *sorted(flat(run.config).items())), []).append(run)
    rows = [sorted(each, key=lambda run: run.folder.name) for each in found.values()]
    names = labels([(runs[0].config, runs[0].mode) for runs in rows])
    return [Row(name, runs) for name, runs in zip(names, rows, strict=True)]


def labels(rows: Sequence[tuple[Config, str]]) -> list[str]:
    """Return a short and different name for each row, of what differs between them."""
    keys = [flat(config) for config, _ in rows]
    varying = [
        key
        for key in keys[0]
        if len({each.get(key) for each in keys}) > 1 and not key.endswith(".code") and key not in SILENT
    ]
    names = [_label(config, mode, rows, varying) for config, mode in rows]
    # A control is called by its rule, without the schedule, where that is enough.
    rest = [key for key in varying if not key.startswith("schedule.")]
    brief = [
        _label(config, mode, rows, rest, is_brief=True) if rule(config) else name
        for (config, mode), name in zip(rows, names, strict=True)
    ]
    names = [short if brief.count(short) == 1 else name for short, name in zip(brief, names, strict=True)]
    seen: Counter[str] = Counter()
    for place, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[place] = f"{name} #{seen[name]}"
    return names


def _label(
    config: Config, mode: str, rows: Sequence[tuple[Config, str]], varying: Sequence[str], *, is_brief: bool = False
) -> str:
    mine, taught = flat(config), _teacher(config)
    alike = [(flat(other), way) for other, way in rows if _teacher(other) == taught]
    # Nobody runs `exact` but in one process.
    parts = [] if is_brief and taught == "exact" else [WAYS[mode]]
    # One process is full backpropagation by itself, which is what people take it for: another schedule is told.
    kinds = {other.schedule.kind for other, way in rows if way == mode and (not rule(other) or other == config)}
    is_told = "schedule.kind" in varying or not varying
    if not is_brief and (len(kinds) > 1 or (is_told and (mode != REFERENCE or config.schedule.kind != "locked"))):
        parts.append(config.schedule.kind)
    for key in sorted(varying, key=lambda key: not key.startswith("schedule.")):
        if key.startswith("schedule."):
            like = {each[key] for each, way in alike if (way, each["schedule.kind"]) == (mode, config.schedule.kind)}
            if key != "schedule.kind" and (len(like) > 1 or _is_chosen(config, key)):
                parts.append(_words(key, mine[key]))
        elif key.startswith("oracle."):  # which is nothing to those that learn in another way
            if not (key == "oracle.kind" and rule(config)) and len({each[key] for each, _ in alike}) > 1:
                parts.append(_words(key, mine[key]))
        elif mode != REFERENCE or not key.startswith(("emulate.", "transport.")):
            parts.append(_words(key, mine[key]))
    return " ".join(part for part in (*parts, rule(config)) if part) or config.schedule.kind


def _teacher(config: Config) -> str:
    """Return by what boxes learn, of those that keys of oracles can tell apart: a control, oracles, or gradients."""
    return rule(config) or ("oracles" if "synthetic" in rules_of(config) else "gradients")


def _is_chosen(config: Config, key: str) -> bool:
    """Whether a key of the schedule has another value than its kind gives it by itself."""
    if key == "schedule.file":
        return bool(config.schedule.file)
    try:
        usual = complete(msgspec.structs.replace(config, schedule=Schedule(kind=config.schedule.kind)))
    except ConfigError:  # a kind that asks for more than its name
        return False
    return bool(flat(usual)[key] != flat(config)[key])


def _words(key: str, value: Any) -> str:
    """Return a key and its value in few words: `window 4`, `tied`, `no bias`, `slow box-2=20`."""
    group, _, name = key.partition(".")
    names = Counter(field.key.partition(".")[2] for field in fields())
    word = (group if name == "kind" else f"{group} {name}" if names[name] > 1 else name).replace("_", " ")
    if isinstance(value, bool):
        return word if value else "untied" if name == "tied" else f"no {word}"
    if isinstance(value, tuple):  # nobody is slowed, say: the others' labels tell who is
        return f"{word} {','.join(f'{who}={amount:g}' for who, amount in value)}" if value else ""
    if name == "file":
        return Path(str(value)).name
    return f"{word} {value:g}" if isinstance(value, float) else f"{word} {value}"


def network(config: Config) -> Key:
    """Return what is trained on what, without how fast, by which schedule and with which seeds."""
    keys, steps = flat(config), box_steps(config)
    is_any = len(steps) == 1 or config.model.cell == "dense"  # tied or not is all one: each layer has its own weights
    cut: Any = sum(steps) if config.model.tied or is_any else steps
    left = {"model.boxes", "model.steps_per_box", *(("model.tied",) if is_any else ()), *SILENT}
    chosen = {k: v for k, v in keys.items() if k.startswith(("model.", "data.", "emulate.")) and k not in left}
    return (cut, *sorted(chosen.items()))


def world(config: Config) -> Key:
    """Return the network, how it is cut, and how messages travel."""
    return (network(config), box_steps(config), config.transport.kind)


def is_control(kind: str, row: Row, of: Row) -> bool:
    """Whether a row is a control of another one: `process`, `locked`, or one of `RULES`."""
    here, there = row.first, of.first
    if (row.first.mode == VIRTUAL) != (of.first.mode == VIRTUAL):
        return False
    if kind in RULES:
        is_made_so = row.rule == kind and (kind != "exact" or here.mode == REFERENCE)
        return is_made_so and network(here.config) == network(there.config)
    if row.rule:
        return False
    if kind == "process":
        return here.mode == REFERENCE and network(here.config) == network(there.config)
    is_locked = here.config.schedule.kind == "locked" and here.mode != REFERENCE
    return is_locked and (world(here.config) == world(there.config) or _is_process_of(of, here))


def _is_process_of(of: Row, here: Measured) -> bool:
    """Whether a row is the one process to a locked run's network: it has no boxes or messages that could differ."""
    return of.first.mode == REFERENCE and network(of.first.config) == network(here.config)


def baseline(kind: str, of: Row, rows: Sequence[Row]) -> Row | None:
    """Return the fastest row that is a row's control of a kind, or None where there is none but itself."""
    found = [row for row in rows if row is not of and is_control(kind, row, of) and row.values("images_per_s")]
    return max(found, key=lambda row: median(row.values("images_per_s")), default=None)


def pairs(a: Row, b: Row, name: str) -> tuple[list[float], list[float]] | None:
    """Return a figure of two rows repeat by repeat, or None unless one sweep made both with the same repeats."""
    sweeps = {sweep_of(run.folder) for run in (*a.runs, *b.runs)}
    here, there = _by_repeat(a, name), _by_repeat(b, name)
    if len(sweeps) != 1 or None in sweeps or here.keys() != there.keys() or len(here) != len(a.runs):
        return None
    return list(here.values()), [there[key] for key in here]


def _by_repeat(row: Row, name: str) -> Mapping[Key, float]:
    """Return a figure by seeds and, where several repeats have the same ones, by their order."""
    counts: Counter[Key] = Counter()
    found = {}
    for run in row.runs:
        counts[run.seeds] += 1
        if (value := run.values.get(name)) is not None:
            found[(*run.seeds, counts[run.seeds])] = value
    return found


def sweep_of(folder: Path) -> Path | None:
    """Return the sweep that a run belongs to, if it does."""
    sweep = folder.parent.parent
    return sweep if (sweep / SWEEP).is_file() else None
