"""The command line. `timebox` and `python -m launch` are the same.

Exit codes: 0 done, 1 the run failed, 2 the request was wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pipeline
from pipeline.errors import ConfigError, TimeboxError
from pipeline.files import to_json

from . import flags

#: When this process's own code began, in monotonic nanoseconds.
BEGAN_NS = time.monotonic_ns()

DESCRIPTION = "Asynchronous, decoupled training of a recurrent network cut along time into processes."

EPILOGS = {
    "run": "example: timebox run --preset digits --schedule.kind decoupled --schedule.window 4",
    "list": "example: timebox list --json",
    "logs": "example: timebox logs latest --batch 17 --action F",
    "order": "example: timebox order latest --batch 3",
    "doctor": "example: timebox doctor",
    "bench": "example: timebox bench hop",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        code = _dispatch(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
        return code
    except TimeboxError as error:
        print(f"timebox: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            where = f"{error.filename}: " if error.filename else ""
            print(f"timebox: {where}{error.strerror or error}", file=sys.stderr)
            return 1
        # The reader, `head` say, has had enough; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _dispatch(arguments: list[str]) -> int:
    parser = flags.Parser(prog="timebox", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"timebox {pipeline.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", parser_class=flags.Parser)
    known: dict[str, argparse.ArgumentParser] = {}

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, epilog=EPILOGS[name], allow_abbrev=False)
        added.add_argument("--json", action="store_true", help="one JSON document on standard output, and nothing else")
        known[name] = added
        return added

    run = command("run", "train a network as processes; by default the published experiment")
    run.add_argument("--preset", help="a named starting point: article (default), digits")
    run.add_argument("--config", type=Path, metavar="FILE", help="a TOML file, such as the config.toml of a run")
    run.add_argument("--reference", action="store_true", help="the same training in one process, as a plain loop")
    if arguments[:1] == ["run"]:
        flags.add(run)
    _add_run_dir(command("list", "the runs: when, what, and how they ended"))
    logs = command("logs", "one stream from all workers' logs, in the order of time")
    _add_run(logs)
    logs.add_argument("--stage", help="only this worker's lines: box-1, head, launcher")
    logs.add_argument("--batch", type=int, help="only lines about this batch")
    logs.add_argument("--action", help="only these actions: F, T, U, B, E, or one of them as F3")
    logs.add_argument("--follow", action="store_true", help="go on while the run does")
    order = command("order", "the execution order of one batch, as it happened")
    _add_run(order)
    order.add_argument("--batch", type=int, default=0, help="which batch, from 0 (0)")
    _add_run_dir(command("doctor", "what this machine can and cannot do"))
    bench = command("bench", "measure this machine: hop (a message), start (the first update)")
    bench.add_argument("what", choices=("hop", "start"), help="what to measure")
    bench.add_argument("--repeats", type=int, help="paired repeats (hop 60, start 10)")

    options, rest = parser.parse_known_args(arguments)
    if options.command is None:
        flags.refuse_unknown(parser, rest)
        parser.print_help()
        return 0
    flags.refuse_unknown(known[options.command], rest)
    return COMMANDS[options.command](options)


def _add_run_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run.dir", dest="run_dir", type=Path, default=Path("runs"), help="folder that holds the runs (runs)"
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", nargs="?", default="latest", help="an id, a name, a path, or latest (latest)"
    )
    _add_run_dir(parser)


def _print_json(document: Any) -> None:
    print(to_json(document, indent=1))


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
        _print_json(result.document)
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
        _print_json({"runs": found})
    elif found:
        print(show.run_table(found))
    else:
        print(f"no runs in {options.run_dir}; `timebox run` makes one")
    return 0


def _logs(options: argparse.Namespace) -> int:
    from . import logs, runs

    folder = runs.find(options.run, options.run_dir)
    wanted = logs.Filter(options.stage, options.batch, options.action)
    logs.check(folder, wanted)
    if options.follow:
        if options.json:
            raise ConfigError("--json: gives one document at the end, --follow has none; use one of them")
        logs.follow(folder, wanted, lambda line: print(logs.render(line), flush=True))
        return 0
    lines = logs.merged(folder, wanted)
    if options.json:
        _print_json({"run": folder.name, "lines": list(lines)})
        return 0
    is_empty = True
    for line in lines:
        is_empty = False
        print(logs.render(line))
    if is_empty:
        print(f"timebox: no line of {folder.name} is such a one", file=sys.stderr)
    return 0


def _order(options: argparse.Namespace) -> int:
    from . import order, runs

    found = order.collect(runs.find(options.run, options.run_dir), options.batch)
    if options.json:
        _print_json(order.document(found))
    else:
        print(order.draw(found, order.terminal_width()), end="")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from . import doctor, show

    found = list(doctor.checks(options.run_dir))
    if options.json:
        _print_json({"checks": [check._asdict() for check in found]})
    else:
        print(show.check_table(found))
    return 1 if any(check.state == "fault" for check in found) else 0


def _bench(options: argparse.Namespace) -> int:
    from . import bench

    repeats = {"hop": 60, "start": 10}[options.what] if options.repeats is None else options.repeats
    if repeats < 1:
        raise ConfigError(f"--repeats: {repeats} repeats measure nothing; at least 1")
    document = bench.hop(repeats) if options.what == "hop" else bench.start(repeats)
    if options.json:
        _print_json(document)
    else:
        print(bench.render(document))
    return 0


COMMANDS = {"run": _run, "list": _list, "logs": _logs, "order": _order, "doctor": _doctor, "bench": _bench}


if __name__ == "__main__":
    sys.exit(main())
