"""Named starting points of a configuration. Pure."""

from __future__ import annotations

from typing import Any

_COPY: dict[str, dict[str, Any]] = {
    "model": {"boxes": 4, "steps_per_box": 3, "width": 64, "cell": "lstm", "bias": True, "loss": "bce"},
    "oracle": {"bias": True},
    "data": {"name": "copy", "train": 1_000, "test": 500, "batch": 20, "bits": 4},
    "train": {
        "epochs": 60,
        "rate_input": 1e-3,
        "rate_recurrent": 1e-3,
        "rate_head": 1e-3,
        "rate_oracle": 1e-3,
        "clip": 1.0,
        "optimizer": "adam",
        "optimizer_oracle": "adam",
        "evaluate_every": 10,
    },
    "schedule": {"kind": "decoupled"},
}

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
    "dense": {
        "model": {"boxes": 3, "width": 256, "cell": "dense", "tied": False, "bias": True, "loss": "softmax"},
        "oracle": {"sees_label": True, "bias": True},
        "data": {"name": "mnist", "source": "full", "train": 60_000, "test": 10_000, "batch": 16},
        "train": {
            "epochs": 10,
            "rate_input": 1e-4,
            "rate_head": 1e-3,
            "rate_oracle": 1e-4,
            "optimizer": "adam",
            "optimizer_head": "adam",
            "optimizer_oracle": "adam",
            "decay": "linear",
        },
        "schedule": {"kind": "decoupled"},
    },
    "copy": _COPY,
    "repeat-copy": {**_COPY, "data": {**_COPY["data"], "name": "repeat-copy"}},
    "adding": {
        "model": {"boxes": 5, "width": 64, "cell": "gru", "bias": True, "loss": "mse"},
        "oracle": {"kind": "mlp", "sees_label": True, "memory": 32, "replays": 3},
        "data": {"name": "adding", "train": 10_000, "test": 1_000, "batch": 50, "length": 50},
        "train": {
            "epochs": 10,
            "rate_input": 1e-3,
            "rate_recurrent": 1e-3,
            "rate_head": 3e-3,
            "rate_oracle": 3e-3,
            "clip": 1.0,
            "optimizer": "adam",
            "optimizer_head": "adam",
            "optimizer_oracle": "adam",
            "decay": "linear",
        },
        "schedule": {"kind": "decoupled"},
    },
    "addition": {
        "model": {
            "boxes": 2,
            "width": 128,
            "cell": "dense",
            "function": "sigmoid",
            "tied": False,
            "bias": True,
            "init": 4.0,
            "loss": "bce",
        },
        "oracle": {"sees_label": True, "bias": True},
        "data": {"name": "addition", "train": 20_000, "test": 1_000, "batch": 50, "bits": 8},
        "train": {
            "epochs": 30,
            "rate_input": 1e-2,
            "rate_head": 1e-2,
            "rate_oracle": 1e-3,
            "optimizer": "adam",
            "optimizer_head": "adam",
            "optimizer_oracle": "adam",
            "decay": "linear",
        },
        "schedule": {"kind": "decoupled"},
    },
}
