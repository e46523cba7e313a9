"""The commands that study: simulate, compare, sweep, schedule, bench. What they need is imported inside (`commands`)."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pipeline.errors import ConfigError

from . import flags
from .tell import tell


def simulate(options: argparse.Namespace) -> int:
    """Run a configuration or a recorded run in virtual time."""
    from .environment import BLAS_THREADS

    os.environ.update(BLAS_THREADS)  # before numpy is imported: as the workers have it
    from pipeline.config import resolve

    from . import runs, simulating, what_if

    given = flags.given(options)
    parent = Path(str(given.get("run.dir", "runs")))
    if options.seed < 0:
        raise ConfigError(f"--seed: {options.seed}: at least 0 is wanted")
    calibration = None if options.calibration is None else runs.find(options.calibration, parent)
    if options.map:
        return _map(options, parent)
    if options.costs is not None and (options.run is not None or calibration is not None):
        raise ConfigError("--costs: goes with a configuration, not with a run or a calibration, which have their own")
    if options.run is not None:
        settings = [f"--{name}" for name in ("preset", "config") if getattr(options, name) is not None]
        settings += [f"--{key}" for key in given if key != "run.dir"]
        if settings:
            raise ConfigError(f"{settings[0]}: the configuration is the run's; change it with --what-if KEY=VALUE")
        request = what_if.of_run(runs.find(options.run, parent), calibration, options.what_if)
    else:
        config = resolve(options.preset, options.config, given)
        if options.costs is not None:
            request = what_if.of_costs(config, options.costs, options.what_if)
        else:
            request = what_if.of_config(config, calibration, options.what_if)
    made = simulating.document(request, seed=options.seed, arithmetic=options.arithmetic, out=options.out)
    return tell(options, made, simulating.render)


def _map(options: argparse.Namespace, parent: Path) -> int:
    from . import paying, recording, runs, what_if
    from .progress import Share

    given = [f"--{key}" for key in flags.given(options) if key != "run.dir"]
    given += [
        f"--{name}" for name in ("calibration", "costs", "preset", "config") if getattr(options, name) is not None
    ]
    if given:
        raise ConfigError(f"{given[0]}: --map takes units, or with a RUN its costs; nothing else")
    if options.arithmetic or any(not each.startswith("cores=") for each in options.what_if):
        raise ConfigError(
            "--map: varies boxes and latency itself; it takes a RUN for its costs, --what-if cores=N, --over"
        )
    cores = int(what_if.parse_world(options.what_if).get("cores", 0))
    other = paying.PROCESS if options.over == "process" else options.over
    source = None if options.run is None else recording.load(runs.find(options.run, parent))
    with Share("map", quiet=options.json) as progress:
        made = paying.document(source, other=other, cores=cores, seed=options.seed, progress=progress)
    if options.out is not None:
        paying.write(made, options.out)
        made["out"] = str(options.out)
    return tell(options, made, paying.render)


def compare(options: argparse.Namespace) -> int:
    """Hold runs against each other."""
    from . import compare, compare_text

    def say(text: str) -> None:
        print(f"timebox: {text}", file=sys.stderr, flush=True)

    made = compare.document(
        options.runs or ["latest"],
        options.run_dir,
        out=options.out,
        controls=options.controls,
        repeats=options.repeats,
        say=say,
    )
    return tell(options, made, compare_text.render)


def sweep(options: argparse.Namespace) -> int:
    """Run a grid of configurations in turn."""
    from .environment import BLAS_THREADS

    os.environ.update(BLAS_THREADS)  # before numpy is imported: virtual time measures its arithmetic in this process
    from . import sweep, sweep_plot, sweep_points, sweep_text

    request = sweep_points.read(options.file)
    if options.plot is not None:
        sweep_plot.check_plot(options.plot, request.numeric)
    made = sweep.sweep(request, options.out, keep_runs=options.keep_runs == "true", quiet=options.json)
    if options.plot is not None:
        sweep_plot.draw(made, request.numeric, options.plot)
        made["plot"] = str(options.plot)
    tell(options, made, sweep_text.render)
    return sweep.exit_code(made)


def stability(options: argparse.Namespace) -> int:
    """Class many seeds of one or several configurations."""
    from .environment import BLAS_THREADS

    os.environ.update(BLAS_THREADS)  # before numpy is imported, here and in the processes that do the runs
    from pipeline.files import save_text

    from . import outfile, stability, stability_plot, stability_study, stability_text

    def say(text: str) -> None:
        print(f"timebox: {text}", file=sys.stderr, flush=True)

    jobs = stability.check_jobs(options.jobs)
    if options.out is not None:
        outfile.check_picture(options.out, "fan.svg")
    if options.csv is not None:
        outfile.check_place(options.csv, "runs.csv", "--csv")
    given = flags.given(options)
    if options.study is None:
        asked = stability_study.of_config(options.preset, options.config, given, options.seeds, say)
    else:
        for name in ("preset", "config"):
            if getattr(options, name) is not None:
                raise ConfigError(f"--{name}: a study has its own; leave it out, or change keys with --group.key")
        asked = stability_study.read(options.study, given, options.seeds, say)
    made, found = stability.study(asked, jobs=jobs, live=options.live, quiet=options.json)
    if options.out is not None:
        made["warnings"] += stability_plot.draw(made, found, options.out)
        made["out"] = str(options.out)
    if options.csv is not None:
        save_text(options.csv, stability_text.table(made))
        made["csv"] = str(options.csv)
    tell(options, made, stability_text.render)
    return stability.exit_code(made)


def schedule(options: argparse.Namespace) -> int:
    """Show a schedule as text and as a staircase."""
    from pipeline.config import resolve

    from . import schedule

    config = resolve(options.preset, options.config, flags.given(options))
    return tell(options, schedule.document(config), schedule.text, print)  # whole lines: they may be copied


def bench(options: argparse.Namespace) -> int:
    """Measure this machine."""
    from . import bench, results_page
    from .benches import BENCHES

    repeats = BENCHES[options.what][1] if options.repeats is None else options.repeats
    if repeats < 1:
        raise ConfigError(f"--repeats: {repeats} repeats measure nothing; at least 1")
    if options.into is not None:
        results_page.check(options.into, options.what)
    made = bench.BENCHES[options.what].measure(repeats)
    if options.into is not None:
        results_page.put(options.into, options.what, bench.render(made))
    return tell(options, made, bench.render)
