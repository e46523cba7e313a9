"""The command line. `timebox` and `python -m launch` are the same.

Exit codes: 0 done, 1 the run failed or a replay differs, 2 the request was wrong, 3 a replay is not comparable, 130
interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pipeline
from pipeline.errors import ConfigError, TimeboxError, plain

from . import flags, shelf, terminal
from .benches import BENCHES
from .commands import COMMANDS

DESCRIPTION = "Asynchronous, decoupled training of a recurrent network cut along time into processes."

#: Keys that have a flag of their own besides: flag, key, what it takes, help.
SHORT = (
    ("--recover", "run.recover", "N", "restart a worker that died or hangs up to N times, and go on from the last checkpoint"),
    (
        "--placer", "placer.kind", "local|env|ray|own",
        "where its stages are: this machine, wherever `timebox join` is started, a Ray cluster, or your own way to start it",
    ),
)  # fmt: skip

EPILOGS = {
    "run": "example: timebox run --preset digits --schedule.window 4 --run.name mine",
    "join": "TIMEBOX_INTERFACE says where the stage binds, if not by the way to the launcher. "
    "example: timebox join runs/latest/join --stage box-1",
    "resume": "example: timebox run --checkpoint.every 500; timebox resume latest",
    "list": "example: timebox list --json",
    "logs": "A line's time is the end of what it tells; that began `ms` earlier. "
    "example: timebox logs latest --batch 17 --level message",
    "stacks": "Each stack has its newest call first. example: timebox stacks latest",
    "stop": "It keeps what is there, as Ctrl-C does. example: timebox stop latest --now",
    "order": "example: timebox order latest --batch 3",
    "stats": "example: timebox stats latest --json",
    "timeline": "example: timebox timeline latest --out order.svg --batches 900:910",
    "report": "example: timebox report locked decoupled --out both.html",
    "compare": "Runs that differ in their seeds alone are repeats of one row. "
    "example: timebox compare runs --controls --out compare.png",
    "sweep": "example: timebox sweep decoupling --out sweeps/mine --plot rates.svg",
    "stability": "Classes: flew off (stopped by the guard, not finite, or ends above 1.5 times its start), converged (ends "
    "below half of it), spiked (rose to 3 times its least, came down and converged), stalled (the rest). Run k has "
    "train.seed and data.seed k further. example: timebox stability published --seeds 3 --out fan.svg",
    "replay": "example: timebox replay latest --until box-1:T17 --out moment.npz",
    "simulate": "example: timebox simulate latest --what-if latency_ms=5 schedule.kind=locked",
    "schedule": "example: timebox schedule --schedule.kind 1f1b --model.tied false > mine.txt; "
    "timebox run --schedule.file mine.txt --model.tied false",
    **shelf.EPILOGS,
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
        if error.drawing:
            print(f"\n{error.drawing}\n", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except UnicodeEncodeError as error:
        print(
            f"timebox: {error.object[:99]!r}: no text by this locale's character set; set PYTHONUTF8=1", file=sys.stderr
        )
        return 2
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            print(f"timebox: {plain(error)}", file=sys.stderr)
            return 1
        # The reader, `head` say, has had enough; nothing more can be said to it.
        terminal.mute(sys.stdout)
        return 0
    except MemoryError:
        print(
            "timebox: there is not enough memory for it; choose fewer batches or a smaller --model.width",
            file=sys.stderr,
        )
        return 1
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
    run.add_argument(
        "--preset",
        help="a named starting point: article (default), digits, rows, dense, copy, repeat-copy, adding, addition",
    )
    run.add_argument("--config", type=Path, metavar="FILE", help="a TOML file, such as the config.toml of a run")
    run.add_argument("--reference", action="store_true", help="the same training in one process, as a plain loop")
    for flag, key, metavar, text in SHORT:
        run.add_argument(flag, metavar=metavar, dest=key, default=argparse.SUPPRESS, help=text)
    flags.add_fault(run)
    if arguments[:1] == ["run"]:
        flags.add(run)
    join = command("join", "take part in a run with --placer env, as the host of one stage, until the run is over")
    join.add_argument(
        "join", metavar="FILE", nargs="?", help="the run's join file, or - for standard input (TIMEBOX_JOIN)"
    )
    join.add_argument(
        "--stage", help="which one: box-1 … head, or its index (TIMEBOX_STAGE, or as srun, mpirun, Kubernetes set it)"
    )
    resume = command("resume", "a run that was cut off goes on from its newest complete checkpoint")
    _add_run(resume)
    resume.add_argument("--recover", type=int, metavar="N", help="as in run (as the run had it)")
    resume.add_argument(
        "--anew", action="store_true", help="begin at the first batch if none of its checkpoints is whole"
    )
    _add_run_dir(command("list", "the runs: when, what, and how they ended"))
    logs = command("logs", "one stream from all workers in causal order, or why a run does not go on")
    _add_run(logs)
    logs.add_argument("--stage", help="only this worker's lines: box-1, head, launcher")
    logs.add_argument("--batch", type=int, help="only lines about this batch")
    logs.add_argument("--action", help="only these actions: F, T, U, B, E, or one of them as F3")
    logs.add_argument(
        "--level",
        default="action",
        metavar="LEVEL",
        help="only lines of this level or above it: message, action, info, warning, error (action)",
    )
    logs.add_argument("--follow", action="store_true", help="go on while the run does")
    logs.add_argument("--why", action="store_true", help="instead: who waits for whom, for which batch, and why")
    _add_run(command("stacks", "where every worker of a run is: its process, what it waits for, and its stacks"))
    stop = command("stop", "end a run that goes on and keep what is there, as Ctrl-C does")
    _add_run(stop)
    stop.add_argument("--now", action="store_true", help="kill its workers, as a second Ctrl-C does")
    order = command("order", "the execution order of one batch, as it happened")
    _add_run(order)
    order.add_argument("--batch", type=int, default=0, help="which batch, from 0 (0)")
    _add_run(command("stats", "where every worker's time went: compute, messages, waits and for whom"))
    timeline = command("timeline", "all workers along one time axis, with an arrow for every message")
    _add_run(timeline)
    timeline.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=".svg .png .html or .json.gz for the Perfetto UI (the run's timeline.html)",
    )
    timeline.add_argument("--batches", metavar="FROM:TO", help="only from the first batch to the last one, as 900:910")
    report = command("report", "one offline page on one run, or on several side by side")
    report.add_argument("runs", metavar="RUN", nargs="*", help="ids, names, paths, or latest (latest)")
    report.add_argument("--out", type=Path, metavar="FILE", help="the page (the first run's report.html)")
    _add_run_dir(report)
    compare = command("compare", "whether one schedule, rule or width is better: repeats, intervals, controls")
    compare.add_argument(
        "runs", metavar="RUN", nargs="*", help="ids, names, paths, latest, or folders of runs, a sweep's too (latest)"
    )
    compare.add_argument("--out", type=Path, metavar="FILE", help="a picture as well: .svg or .png")
    compare.add_argument(
        "--controls",
        action="store_true",
        help="run the controls that are missing, beside the first run, and include them",
    )
    compare.add_argument("--repeats", type=int, help="with --controls: at most so many of each (as the first row has)")
    _add_run_dir(compare)
    sweep = command("sweep", "runs over a grid of configuration keys, in turn, into one table with intervals")
    sweep.add_argument(
        "file", metavar="FILE", help="a TOML file, or decoupling, decoupling-latency, depth, staleness, observer, boxes"
    )
    sweep.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where its rows and runs go, or to go on with (sweeps/NAME)"
    )
    sweep.add_argument("--plot", type=Path, metavar="FILE", help="draw rates, and accuracies, as .svg or .png")
    sweep.add_argument(
        "--keep-runs",
        choices=("true", "false"),
        default="false",
        help="keep the folder of every run, not only of those that failed (false)",
    )
    stability = command("stability", "many seeds: which converge, spike, stall or fly off, and what it began with")
    stability.add_argument(
        "study", metavar="STUDY", nargs="?", help="a TOML file of cases, or published; else one configuration"
    )
    stability.add_argument("--seeds", type=int, help="runs of each case (10, or as the study says)")
    stability.add_argument("--out", type=Path, metavar="FILE", help="a fan chart of the cost curves: .svg or .png")
    stability.add_argument("--csv", type=Path, metavar="FILE", help="a row for each run")
    stability.add_argument("--live", action="store_true", help="real processes, one run after the other")
    stability.add_argument("--jobs", type=int, help="runs side by side, without --live (the processors)")
    stability.add_argument(
        "--preset",
        help="of one configuration: a named starting point: article (default), digits, rows, dense, "
        "copy, repeat-copy, adding, addition",
    )
    stability.add_argument("--config", type=Path, metavar="FILE", help="of one configuration: a TOML file")
    if arguments[:1] == ["stability"]:
        flags.add(stability)
    if "--run.dir" not in stability._option_string_actions:
        _add_run_dir(stability)
    replay = command("replay", "the run again from its journals, bit for bit, or the first difference")
    _add_run(replay)
    replay.add_argument("--until", metavar="STAGE:ACTION", help="stop there, as box-1:T17, and give the arrays")
    replay.add_argument("--out", type=Path, metavar="FILE.npz", help="with --until: where the arrays go")
    simulate = command("simulate", "a configuration or a recorded run in virtual time: what would happen elsewhere")
    simulate.add_argument(
        "run", metavar="RUN", nargs="?", help="a run to predict, by its own trace; else a configuration"
    )
    simulate.add_argument("--calibration", metavar="RUN", help="take the costs from this run's trace")
    simulate.add_argument(
        "--costs", type=Path, metavar="FILE", help="take the costs of a configuration from a TOML file"
    )
    simulate.add_argument(
        "--what-if", metavar="KEY=VALUE", nargs="+", action="extend", default=[],
        help="changes: model.boxes=8 schedule.window=4 … or latency_ms, jitter_ms, bandwidth_mb_s, cores, straggle, factor",
    )  # fmt: skip
    simulate.add_argument("--arithmetic", action="store_true", help="compute the run's numbers in simulated order")
    simulate.add_argument("--map", action="store_true", help="instead: where decoupling pays, by boxes and latency")
    simulate.add_argument(
        "--over", choices=("locked", "article", "process"), default="locked", help="with --map: beside what (locked)"
    )
    simulate.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    simulate.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="a new run folder, or .json.gz of both timelines; --map: .csv .svg .png",
    )
    simulate.add_argument("--preset", help="of a configuration: a named starting point")
    simulate.add_argument("--config", type=Path, metavar="FILE", help="of a configuration: a TOML file")
    flags.add_fault(simulate)
    if arguments[:1] == ["simulate"]:
        flags.add(simulate)
    if "--run.dir" not in simulate._option_string_actions:
        _add_run_dir(simulate)
    schedule = command("schedule", "a schedule as text, to be changed and loaded again, and drawn as a staircase")
    schedule.add_argument("--preset", help="a named starting point")
    schedule.add_argument("--config", type=Path, metavar="FILE", help="a TOML file")
    if arguments[:1] == ["schedule"]:
        flags.add(schedule)
    shelf.add(command, _add_run, _add_run_dir)
    _add_run_dir(command("doctor", "what this machine can and cannot do"))
    bench = command("bench", "measure this machine and this project on it, beside its peers, with the spread")
    known_benches = "; ".join(f"{name}: {what} ({repeats})" for name, (what, repeats) in BENCHES.items())
    bench.add_argument("what", choices=tuple(BENCHES), metavar="WHAT", help=f"what to measure. {known_benches}")
    bench.add_argument("--repeats", type=int, help="how often; usual is what stands in brackets")
    bench.add_argument(
        "--into",
        type=Path,
        metavar="FILE",
        help="put the table into a page as well, as launch/FIGURES.md: into the block after its line <!-- bench WHAT -->",
    )

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


if __name__ == "__main__":
    sys.exit(main())
