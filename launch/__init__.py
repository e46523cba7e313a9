"""The launcher: starts a run's processes, watches them, and shows what they did.

    from launch import resolve, run
    result = run(resolve("article", flags={"model.width": 128}))
    result.accuracy, result.journal["box-1"], result.weights["head"]["Wfc"]

Names are imported when they are first used, so that `import launch` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import resolve
    from pipeline.errors import ConfigError, RunError, TimeboxError
    from pipeline.schema import Config, Data, Model, Oracle, Schedule, Train
    from pipeline.schema_run import Checkpoint, Fault, Log, Placer, Run, Transport

    from .live import Result, run

__all__ = [
    "Checkpoint",
    "Config",
    "ConfigError",
    "Data",
    "Fault",
    "Log",
    "Model",
    "Oracle",
    "Placer",
    "Result",
    "Run",
    "RunError",
    "Schedule",
    "TimeboxError",
    "Train",
    "Transport",
    "resolve",
    "run",
]

_HOMES = {
    "pipeline.config": {"resolve"},
    "pipeline.errors": {"ConfigError", "RunError", "TimeboxError"},
    "pipeline.schema": {"Config", "Data", "Model", "Oracle", "Schedule", "Train"},
    "pipeline.schema_run": {"Checkpoint", "Fault", "Log", "Placer", "Run", "Transport"},
    "launch.live": {"Result", "run"},
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'launch' has no attribute {name!r}")
