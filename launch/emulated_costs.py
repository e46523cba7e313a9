"""The costs of a run in which something was emulated, without it; and with what another configuration emulates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pipeline import faults
from pipeline.actions import Message
from pipeline.costs import Costs, Samples
from pipeline.emulation import NS, PADDED, Emulation, of_each
from pipeline.payloads import Payloads
from pipeline.plan import Plan
from pipeline.schema import Config

from .recording import Recording


def bare(costs: Costs, source: Recording) -> Costs:
    """Return a run's costs without what was emulated in it, or went wrong on purpose: that is added by the configuration.

    Of an action that was padded its own time is not known, only that it was less: what is left of it is how late its sleep
    ended. Stragglers cannot be told from slow actions, so the median stands for all.
    """
    emulation, plan = Emulation(source.config.emulate, source.plan), source.plan
    late = faults.timed(faults.parse_all(source.config.fault, plan))
    actions = dict(costs.actions)
    for (k, kind), samples in costs.actions.items():
        own = [each for each in late if each.stage == k] if kind == "F" else []
        if own:  # samples stand by their batches, from the first to the last
            places = (place * plan.batches // len(samples) for place in range(len(samples)))
            samples = tuple(each - faults.late_ns(own, batch) for each, batch in zip(samples, places, strict=True))
        added = emulation.slow_ns(k, kind) + emulation.pad_ns(k, kind)
        if emulation.stragglers(k, kind) is not None:
            samples = (round(float(np.median(samples))),)
        actions[k, kind] = tuple(max(each - added, 0) for each in samples)
    return replace(costs, actions=actions, **_without_links(costs, source, emulation))


def padded(costs: Costs, source: Recording, config: Config, plan: Plan) -> tuple[Costs, list[str]]:
    """Return bare costs with the padding of a configuration below what is left of actions that were padded, and what to say."""
    before, now = Emulation(source.config.emulate, source.plan), Emulation(config.emulate, plan)
    kinds = [kind for kind in PADDED if before.pad_ns(1, kind)]
    actions = dict(costs.actions)
    for (k, kind), late in costs.actions.items():
        if kind in kinds and k != plan.head:
            actions[k, kind] = tuple(now.pad_ns(k, kind) + each for each in late)
    used = [kind for kind in kinds if any(place[1] == kind for place in actions)]
    unknown = [kind for kind in used if not now.pad_ns(1, kind)]
    told = [
        f"what {', '.join(unknown)} took under the padding of {source.folder.name} is not on record; it counts as 0"
    ]
    return replace(costs, actions=actions), told if unknown else []


def _without_links(costs: Costs, source: Recording, emulation: Emulation) -> dict[str, Any]:
    """Return the hops of a run without its emulated edges.

    What was drawn for a message is not on record. The quickest one of its kind had next to no jitter and a free link, so what
    it took beyond delay and bandwidth is the hop's own time.
    """
    if not emulation.changes_messages:
        return {}
    plan, payloads = source.plan, Payloads(source.config, source.plan)

    def own(samples: Samples, j: int, k: int, kind: str) -> Samples:
        link = emulation.link(j, k)
        if link is None:
            return samples
        size = payloads.expected(Message(kind, 0, j, k)).size if kind else 0
        delay = of_each(source.config.emulate.delay_ms, f"{plan.name(j)}>{plan.name(k)}") * NS
        return (max(min(samples) - round(delay + size * link.ns_a_byte), 0),)

    return {
        "hops": {(j, k): own(samples, j, k, "") for (j, k), samples in costs.hops.items()},
        "hops_of": {(j, k, kind): own(samples, j, k, kind) for (j, k, kind), samples in costs.hops_of.items()},
    }
