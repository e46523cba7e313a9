"""What can be wrong with a configuration on this machine, found before anything is made or started."""

from __future__ import annotations

from pipeline import mnist
from pipeline.errors import ConfigError
from pipeline.schema import Config
from pipeline.schema_run import Fault

from . import links, runs


def check(config: Config, *, reference: bool) -> None:
    """Check what can be wrong with a complete configuration on this machine; raises ConfigError, and has done nothing."""
    if reference:
        from pipeline.reference import refuse

        refuse(config)
        if config.emulate != type(config.emulate)():
            raise ConfigError(
                "emulate: a reference is one process without stages or edges to slow; leave out one of the two"
            )
        if config.fault != Fault():
            raise ConfigError("fault: a reference is one process without stages or messages; leave out one of the two")
    if config.schedule.kind == "own":
        from pipeline import grid  # numpy comes with it

        grid.check(config)
    if config.oracle.kind == "own":
        from pipeline.oracle_own import try_out  # numpy comes with it

        try_out(config)
    if config.model.cell == "own":
        from pipeline import cell_own

        cell_own.try_out(config)
    if config.data.name == "own":
        from pipeline import task_own

        task_own.try_out(config)
    if config.oracle.kind == "exact" and not reference:
        raise ConfigError(
            "oracle.kind: exact needs all weights in one place, and processes have each their own; add --reference"
        )
    if reference and config.placer.kind != "local":
        raise ConfigError("placer: a reference is one process, on this machine; leave out one of the two")
    if config.placer.kind == "local":
        mnist.locate(config.data)  # else each host looks for itself
    if not reference:
        links.check(config)
    runs.check_parent(config)
    if config.placer.kind == "own":
        from . import placer_own

        placer_own.check(config)
    if config.placer.kind == "ray":  # the last, for it takes the longest and stays connected
        from . import placer_ray

        placer_ray.check(config)
