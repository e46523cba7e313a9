"""What each command does with its options; what it needs is imported inside, so that `--help` stays quick."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.files import to_json

from . import flags

if TYPE_CHECKING:
    from . import logs

#: When this process's own code began, in monotonic nanoseconds.
BEGAN_NS = time.monotonic_ns()


def print_json(document: Any) -> None:
    """Print one document, and nothing else."""
    print(to_json(document, indent=1))


def warn(texts: Iterable[str]) -> None:
    """Tell on standard error what could not be read or is not whole."""
    for text in texts:
        print(f"timebox: warning: {text}", file=sys.stderr)


def tell(options: argparse.Namespace, document: Any, render: Callable[[Any], str]) -> int:
    """Print a document as JSON or as text, after its warnings, and return the exit code of a command that went well."""
    warn(document.get("warnings", ()))
    if options.json:
        print_json(document)
    else:
        print(render(document))
    return 0


def _run(options: argparse.Namespace) -> int:
    from pipeline.config import resolve
    from pipeline.plan import Plan

    from . import show
    from .live import launch, process_start_ns
    from .progress import Progress

    config = resolve(options.preset, options.config, flags.given(options))
    plan = Plan.of(config)

    def announce() -> None:
        if not options.json:
            show.announce(config, plan, reference=options.reference)

    with Progress(plan, quiet=options.json) as progress:
        result = launch(
            config,
            reference=options.reference,
            label=options.preset or config.schedule.kind,
            on_checked=announce,
            observe=progress,
            since_ns=process_start_ns(BEGAN_NS),
        )
    picture = show.draw_picture(result, config)
    if options.json:
        print_json(result.document)
    else:
        show.result(result, plan, picture)
    if result.status == "failed":
        show.failure(result)
        return 2 if result.document.get("wrong_request") else 1
    return 130 if result.status == "interrupted" else 0


def _list(options: argparse.Namespace) -> int:
    from . import runs, show

    runs.check_is_folder(options.run_dir, "--run.dir")
    found = [runs.describe(folder) for folder in runs.all_runs(options.run_dir)]
    if options.json:
        print_json({"runs": found})
    elif found:
        print(show.run_table(found))
    else:
        print(f"no runs in {options.run_dir}; `timebox run` makes one")
    return 0


def _logs(options: argparse.Namespace) -> int:
    from . import causal, follow, logs, runs

    folder = runs.find(options.run, options.run_dir)
    wanted = logs.Filter(options.stage, options.batch, options.action, options.level)
    if options.why:
        return _why(folder, wanted, options)
    logs.check(folder, wanted)
    warnings: list[str] = []
    if options.follow:
        if options.json:
            raise ConfigError("--json: gives one document at the end, --follow has none; use one of them")
        follow.follow(folder, wanted, lambda line: print(logs.render(line), flush=True), warnings)
        warn(warnings)
        return 0
    lines = causal.merged(folder, wanted, warnings)
    if options.json:
        print_json({"run": folder.name, "lines": list(lines), "warnings": warnings})
        warn(warnings)
        return 0
    is_empty = True
    for line in lines:
        is_empty = False
        print(logs.render(line))
    warn(warnings)
    if is_empty:
        print(f"timebox: no line of {folder.name} is such a one", file=sys.stderr)
    return 0


def _why(folder: Path, wanted: logs.Filter, options: argparse.Namespace) -> int:
    from . import logs, why

    if options.follow or wanted != logs.Filter():
        raise ConfigError("--why: looks at all workers and batches at this moment; it goes with --json alone")
    return tell(options, why.collect(folder), why.render)


def _order(options: argparse.Namespace) -> int:
    from . import order, runs

    found = order.collect(runs.find(options.run, options.run_dir), options.batch)
    if options.json:
        print_json(order.document(found))
    else:
        print(order.draw(found, order.terminal_width()), end="")
    return 0


def _stats(options: argparse.Namespace) -> int:
    from . import recording, runs, stats, stats_text

    document = stats.document(recording.load(runs.find(options.run, options.run_dir)))
    return tell(options, document, stats_text.render)


def _timeline(options: argparse.Namespace) -> int:
    from . import runs, timeline

    made = timeline.write(runs.find(options.run, options.run_dir), options.out, options.batches)
    return tell(options, made, timeline.render)


def _report(options: argparse.Namespace) -> int:
    from . import report, runs

    folders = [runs.find(run, options.run_dir) for run in options.runs or ["latest"]]
    return tell(options, report.write(folders, options.out), report.render)


def _replay(options: argparse.Namespace) -> int:
    from .environment import BLAS_THREADS

    os.environ.update(BLAS_THREADS)  # before numpy is imported: as the workers had it
    from . import replay_text, replaying, runs
    from .progress import Share

    if options.out is not None and options.until is None:
        raise ConfigError("--out: goes with --until STAGE:ACTION, whose arrays it takes")
    folder = runs.find(options.run, options.run_dir)
    with Share("replay", quiet=options.json) as progress:
        if options.until is None:
            found = replaying.document(folder, progress)
        else:
            moment, difference = replaying.moment(folder, options.until, progress)
    if options.until is not None:
        path = None if options.out is None else replaying.save_moment(moment, options.out)
        if options.json:
            shapes = {name: list(array.shape) for name, array in replaying.named(moment).items()}
            made = {"run": folder.name, "until": options.until, "out": path and str(path), "arrays": shapes}
            print_json(made | {"same": difference is None, "first_difference": difference})
        else:
            print(replay_text.render_moment(moment, path))
        if difference is not None:
            where = f"{difference['stage']}, {difference['action']}: {difference['array']}"
            warn(
                [f"these are not the run's bits: the first difference is at {where}; see timebox replay {folder.name}"]
            )
            return replaying.exit_code({"same": False, "comparable": replaying.is_comparable(folder)})
        return 0
    tell(options, found, replay_text.render)
    return replaying.exit_code(found)


def _simulate(options: argparse.Namespace) -> int:
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


def _compare(options: argparse.Namespace) -> int:
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


def _schedule(options: argparse.Namespace) -> int:
    from pipeline.config import resolve

    from . import schedule

    return tell(
        options, schedule.document(resolve(options.preset, options.config, flags.given(options))), schedule.text
    )


def _doctor(options: argparse.Namespace) -> int:
    from . import doctor, show

    found = list(doctor.checks(options.run_dir))
    if options.json:
        print_json({"checks": [check._asdict() for check in found]})
    else:
        print(show.check_table(found))
    return 1 if any(check.state == "fault" for check in found) else 0


def _bench(options: argparse.Namespace) -> int:
    from . import bench

    measure, usual = bench.BENCHES[options.what]
    repeats = usual if options.repeats is None else options.repeats
    if repeats < 1:
        raise ConfigError(f"--repeats: {repeats} repeats measure nothing; at least 1")
    return tell(options, measure(repeats), bench.render)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "list": _list,
    "logs": _logs,
    "order": _order,
    "stats": _stats,
    "timeline": _timeline,
    "report": _report,
    "replay": _replay,
    "simulate": _simulate,
    "compare": _compare,
    "schedule": _schedule,
    "doctor": _doctor,
    "bench": _bench,
}
