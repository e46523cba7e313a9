"""Commands on whole runs: look at one in the browser, take it elsewhere and in, clear up. Their flags and what they do."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from .tell import tell

EPILOGS = {
    "open": "example: timebox open latest",
    "export": "example: timebox export latest --out run.zip",
    "import": "example: timebox import run.zip --run.dir runs",
    "prune": "example: timebox prune --keep 20 --failed --yes",
}


def add(
    command: Callable[[str, str], argparse.ArgumentParser],
    add_run: Callable[[argparse.ArgumentParser], None],
    add_run_dir: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add the commands' parsers."""
    opened = command("open", "the report of a run in the browser")
    add_run(opened)
    opened.add_argument("--print", action="store_true", help="only say where the page is")
    export = command("export", "a run in one file, which another machine can replay, report and resume")
    add_run(export)
    export.add_argument("--out", type=Path, metavar="FILE", help="the file (ID.zip)")
    taken = command("import", "take a run out of a file of `timebox export`, every byte checked")
    taken.add_argument("file", metavar="FILE", type=Path, help="the file")
    add_run_dir(taken)
    prune = command("prune", "remove runs that are not wanted any more; without --yes say which")
    prune.add_argument("--keep", type=int, metavar="N", help="spare the N newest")
    prune.add_argument("--older-than", type=float, metavar="DAYS", help="only those that are older than so many days")
    prune.add_argument("--failed", action="store_true", help="only those that failed, died or were interrupted")
    prune.add_argument("--yes", action="store_true", help="do it")
    add_run_dir(prune)


def open_page(options: argparse.Namespace) -> int:
    """`timebox open`."""
    from . import browse, runs

    wanted = not (options.print or options.json)
    return tell(options, browse.show(runs.find(options.run, options.run_dir), wanted=wanted), browse.render)


def export(options: argparse.Namespace) -> int:
    """`timebox export`."""
    from . import archive, runs
    from .progress import Share

    folder = runs.find(options.run, options.run_dir)
    with Share("export, MB", quiet=options.json) as share:
        document = archive.export(folder, options.out, lambda done, whole: share(done >> 20, math.ceil(whole / 2**20)))
    return tell(options, document, archive.render_export)


def take_in(options: argparse.Namespace) -> int:
    """`timebox import`."""
    from . import archive

    return tell(options, archive.unpack(options.file, options.run_dir), archive.render_import)


def prune(options: argparse.Namespace) -> int:
    """`timebox prune`."""
    from . import prune as pruning

    choice = pruning.Choice(options.keep, options.older_than, options.failed)
    document = pruning.prune(options.run_dir, choice, yes=options.yes)
    return tell(options, document, pruning.render) or int(document["failed"] > 0)
