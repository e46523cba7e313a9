"""The launcher: starts a run's processes, watches them, and shows what they did.

from launch import Config, run
result = run(Config(...))
result.accuracy, result.journal["box-1"], result.weights["head"]["Wfc"]
"""

from pipeline.config import resolve
from pipeline.errors import ConfigError, RunError, TimeboxError
from pipeline.schema import Config, Data, Log, Model, Oracle, Run, Schedule, Train, Transport

from .live import Result, run

__all__ = [
    "Config",
    "ConfigError",
    "Data",
    "Log",
    "Model",
    "Oracle",
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
