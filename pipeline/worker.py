"""Where a worker begins: `python -m pipeline.worker RUN_FOLDER STAGE CONTROL …`. Imports next to nothing at first.

Python needs a moment to import numpy and ZeroMQ. A launcher that dies meanwhile must not leave this process behind, so what
ends it then is set up before anything else, and so is what tells where it is stuck.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import lifeline, stacks


def main(arguments: list[str] | None = None) -> int:
    """Run one stage; returns the exit code: 0 done or stopped, 1 failed, 2 wrong request."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.worker", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("stage")
    parser.add_argument("control")
    parser.add_argument("--sockets", type=Path, required=True)
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--checkpoint", type=int)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--interface", default="")
    options = parser.parse_args(arguments)
    lifeline.hold(options.parent, options.sockets)
    stacks.keep(stacks.file_of(options.folder, options.stage))
    from .process import run

    return run(options)


if __name__ == "__main__":
    sys.exit(main())
