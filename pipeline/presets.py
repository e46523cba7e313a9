"""Named starting points of a configuration. Pure."""

from __future__ import annotations

from typing import Any

#: Named starting points: only what differs from the defaults.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "article": {"model": {"init": 3.0}, "log": {"level": "action"}},
    "digits": {
        "model": {"width": 128},
        "data": {"train": 1600, "test": 400, "batch": 10},
        "train": {
            "epochs": 3,
            "rate_input": 0.1,
            "rate_recurrent": 0.1,
            "rate_head": 0.1,
            "rate_oracle": 0.01,
        },
        "schedule": {"kind": "decoupled"},
    },
    "rows": {
        "model": {"boxes": 4, "width": 128, "recurrent": "identity", "loss": "softmax"},
        "oracle": {"kind": "mlp", "sees_label": True, "memory": 32, "replays": 3},
        "data": {"name": "mnist", "source": "full", "train": 10_000, "test": 10_000, "batch": 50, "reading": "rows"},
        "train": {
            "epochs": 3,
            "rate_input": 0.3,
            "rate_recurrent": 0.3,
            "rate_head": 0.3,
            "rate_oracle": 3e-3,
            "clip": 1.0,
            "optimizer_oracle": "adam",
            "decay": "linear",
            "warmup": 200,
        },
        "schedule": {"kind": "decoupled"},
    },
}
