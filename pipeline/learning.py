"""By which rule boxes learn, as a configuration says it. Pure; `pipeline.plan` says what each rule consumes and sends back."""

from __future__ import annotations

import re

from .schema import Config

#: Schedules whose boxes learn by the true gradient.
BACKWARD = ("locked", "gpipe", "1f1b", "delayed")
#: Schedules by which each box steps at once, whatever it learns by.
ONE_BY_ONE = ("article", "decoupled")
#: Values of `oracle.kind` that are no oracle, but a rule of their own.
CONTROLS = ("last", "local", "delayed")
#: Rules by which a box updates before any gradient has come to it.
EARLY = ("synthetic", "local", "traced")


def rule_of(config: Config) -> str:
    """Return how boxes learn, all but the last: by oracles (synthetic), by the true gradient (backward), or as named."""
    return rules_of(config)[0]


def rules_of(config: Config) -> tuple[str, str]:
    """Return how boxes learn, and how the last one does."""
    kind, schedule = config.oracle.kind, config.schedule
    last = "synthetic" if config.oracle.last else "backward"
    rules = "synthetic", last
    if kind in ("frozen", "exact"):
        rules = kind, kind
    elif schedule.kind == "own":
        has = set(re.findall(r"(?<![\w-])([TB])\d*\b", re.sub("#.*", "", schedule.program)))
        rules = ("synthetic", last) if "T" in has else ("backward",) * 2 if "B" in has else ("frozen",) * 2
    elif schedule.kind in BACKWARD:
        rules = "backward", "backward"
    elif kind in CONTROLS:
        rules = {"last": ("frozen", "backward"), "local": ("local",) * 2, "delayed": ("backward",) * 2}[kind]
    elif config.oracle.target == "traced":  # the last box has the head's word, whatever is said of it
        rules = "traced", "backward"
    return rules if config.model.boxes > 1 else (rules[1], rules[1])


def target_of(config: Config) -> str:
    """Return what oracles are fitted to. Controls that stand in for one have the true gradient, whatever is set."""
    return "true" if config.oracle.kind in ("noise", "stale") else config.oracle.target
