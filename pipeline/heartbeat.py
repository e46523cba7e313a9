"""What a stage tells of itself so that its launcher can see whether it goes on, and whether a message has been lost.

    actions      how many it has done in all
    sent, come   messages, by the stage they went to or came from: what was sent and has not come is on its way, or lost
    held         how many have come and are kept back until their emulated arrival
    damaged      the stages of which a message that is awaited seems to have come, and failed its check
    awaits       what it waits for, in words, or nothing; `awaits_from` says from whom

It comes from the loop that computes, not from a thread beside it: who spins tells nothing.
"""

from __future__ import annotations

from typing import Any

from .lacks import awaited
from .live import LivePort
from .stage import Stage

#: A text that says more is cut off: it is told five times a second.
MOST_TEXT = 120


def heartbeat(stage: Stage, port: LivePort, actions: int) -> dict[str, Any]:
    """Return what a stage's progress word tells besides its batch and its times."""
    name, lack, held = stage.plan.name, port.lack, port.held
    awaits = source = ""
    if port.is_waiting:
        awaits = (awaited(stage, lack) if lack is not None else "") or stage.waiting()
        source = name(lack.source) if lack is not None and lack.source else ""
    return {
        "actions": actions,
        "sent": {name(k): count for k, count in port.sent.items()},
        "come": {name(k): count + held.get(k, 0) for k, count in port.taken.items()},
        "held": sum(held.values()),
        "damaged": [name(k) for k in port.damaged],
        "awaits": awaits[:MOST_TEXT],
        "awaits_from": source,
    }
