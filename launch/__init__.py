"""The launcher: starts a run's processes, watches them, and shows what they did.

    from launch import resolve, run
    result = run(resolve("article", flags={"model.width": 128}))
    result.accuracy, result.journal["box-1"], result.weights["head"]["Wfc"]

    Result.find("latest")            a run that was made before, by the command line say
    launch/examples/                 a script to read cell by cell, and one of each thing that can be your own

Names are imported when they are first used, so that `import launch` costs nothing.

What the files are for, from what all use to what uses all; a file imports only from its own group or those above it:

    what all use
        text  terminal  tell  outfile  plots  palette  environment  packages  process  interruptions  events  links
        runs  task_words  spread  fallback  flags  sweeper  memory
    reading a run
        clocks  recording  window  lines  aligned  causal  logs  follow  order  order_text  breakdown  critical
        staleness  stats  stats_text  quality  vitals  stacks  why  why_text
    pictures and pages
        timeline  chrome  staircase  report  pack  predictions
    whole runs
        archive  prune  browse
    replay
        replaying  replay_text  own_files
    virtual time
        schedule  what_if  calibrate  costs_file  emulated_costs  simulating  virtual_run  paying
    where stages are
        placers  placer_local  placing  remote  hands  pings  placer_env  placer_ray  placer_own  joining  keeper
        agent  agent_words  stage_place  mirror  arrived
    live runs
        supervise  watch  spawn  spawn_reference  preflight  live  outcome  progress  resuming  stop  shown
    studies
        request_file  sweep  sweep_points  sweep_rows  sweep_text  sweep_plot  compare  compare_runs  compare_rows
        compare_controls  compare_learning  compare_text  compare_plots  stability  stability_study
        stability_engines  stability_rules  stability_text  stability_plot  experiments  published_arithmetic
        rule_cost
    benchmarks
        benches  results_page  bench  bench_arithmetic  bare  bench_process  bench_torch  torch_peer  bench_emulated
        bench_trace  bench_replay  bench_predict  bench_simulate  bench_scale  bench_scale_text  control_load
        bench_rules  bench_rules_text  bench_family  bench_family_text  bench_hostile  hostile  bench_kills
        bench_checkpoints  bench_soak
    the command line
        entry  cli  commands  studies  shelf  show  doctor  __main__
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
