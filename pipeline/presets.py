"""Named starting points of a configuration. Pure."""

from __future__ import annotations

from typing import Any

#: Named starting points: only what differs from the defaults.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "article": {"model": {"init": 3.0}, "log": {"level": "action"}},
    "digits": {"data": {"train": 1600, "test": 400}, "train": {"epochs": 3}, "schedule": {"kind": "decoupled"}},
}
