"""What each command does with its options; what it needs is imported inside, so that `--help` stays quick."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

from . import flags, shelf, studies, terminal
from .tell import print_json, tell, warn
from .terminal import say

if TYPE_CHECKING:
    from pipeline.plan import Plan
    from pipeline.schema import Config

    from . import logs
    from .live import Result

#: When this process's own code began, in monotonic nanoseconds.
BEGAN_NS = time.monotonic_ns()


def _run(options: argparse.Namespace) -> int:
    from pipeline.plan import Plan

    from . import fallback, show
    from .live import launch
    from .process import process_start_ns
    from .progress import Progress

    config = fallback.resolve(options.preset, options.config, flags.given(options), lambda text: warn([text]))
    plan = Plan.of(config)

    def announce() -> None:
        if not options.json:
            with terminal.aside(sys.stdout):
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
    return _ended(options, result, config, plan)


def _join(options: argparse.Namespace) -> int:
    from . import agent

    return agent.join(options.join, options.stage, quiet=options.json)


def _resume(options: argparse.Namespace) -> int:
    from . import resuming, runs, show
    from .progress import Progress

    if options.recover is not None and options.recover < 0:
        raise ConfigError(f"--recover: a number of restarts is wanted, not {options.recover}")
    request = resuming.prepare(runs.find(options.run, options.run_dir), options.recover, anew=options.anew)
    warn(request.warnings)

    def announce() -> None:
        if not options.json:
            name, whole = request.folder.name, request.plan.steps
            with terminal.aside(sys.stdout):
                show.announce(request.config, request.plan, reference=False)
                say(f"{name} goes on from batch {request.batch:,} of {whole:,} ({request.why})")
                sys.stdout.flush()

    with Progress(request.plan, quiet=options.json) as progress:
        result = resuming.resume(request, progress, announce)
    return _ended(options, result, request.config, request.plan)


def _ended(options: argparse.Namespace, result: Result, config: Config, plan: Plan) -> int:
    """Tell how a run has ended; return the exit code."""
    from . import show

    picture = show.draw_picture(result, config)
    try:
        if options.json:
            print_json(result.document)
        else:
            show.result(result, plan, picture, config.data)
        sys.stdout.flush()
    except BrokenPipeError:  # who read it has gone; how the run has ended is not changed by that
        terminal.mute(sys.stdout)
    if result.status == "failed":
        with terminal.aside():
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
    wanted = logs.of_run(folder, wanted)
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


def _stacks(options: argparse.Namespace) -> int:
    from . import runs, stacks

    return tell(options, stacks.collect(runs.find(options.run, options.run_dir)), stacks.render)


def _stop(options: argparse.Namespace) -> int:
    from . import runs, stop

    folder = runs.find(options.run, options.run_dir)
    document = stop.stop(folder, now=options.now, tell=lambda text: print(f"timebox: {text}", file=sys.stderr))
    return tell(options, document, stop.render)


def _order(options: argparse.Namespace) -> int:
    from . import order, order_text, runs, text

    found = order.collect(runs.find(options.run, options.run_dir), options.batch)
    if options.json:
        print_json(order.document(found))
    else:
        print(order_text.draw(found, text.terminal_width()), end="")
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
            say(replay_text.render_moment(moment, path))
        if difference is not None:
            where = f"{difference['stage']}, {difference['action']}: {difference['array']}"
            warn(
                [f"these are not the run's bits: the first difference is at {where}; see timebox replay {folder.name}"]
            )
            return replaying.exit_code({"same": False, "comparable": replaying.is_comparable(folder)})
        return 0
    tell(options, found, replay_text.render)
    return replaying.exit_code(found)


def _doctor(options: argparse.Namespace) -> int:
    from . import doctor, show

    found = list(doctor.checks(options.run_dir))
    if options.json:
        print_json({"checks": [check._asdict() for check in found]})
    else:
        say(show.check_table(found))
    return 1 if any(check.state == "fault" for check in found) else 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "join": _join,
    "resume": _resume,
    "list": _list,
    "logs": _logs,
    "stacks": _stacks,
    "stop": _stop,
    "order": _order,
    "stats": _stats,
    "timeline": _timeline,
    "report": _report,
    "replay": _replay,
    "simulate": studies.simulate,
    "compare": studies.compare,
    "sweep": studies.sweep,
    "stability": studies.stability,
    "schedule": studies.schedule,
    "open": shelf.open_page,
    "export": shelf.export,
    "import": shelf.take_in,
    "prune": shelf.prune,
    "doctor": _doctor,
    "bench": studies.bench,
}
