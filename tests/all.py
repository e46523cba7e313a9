"""Run all tests on two processors: those that start processes one after the other, and beside them, as time allows, the rest.

A run of processes leaves a processor idle for a good part of its time; the others fill it: those that compute in one process,
and those that start some but are patient. They are niced, so that what waits for a moment of real time gets it.

    python tests/all.py [what pytest takes besides]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LIVE = "(live or chaos or browser) and not patient"
#: What pytest exits with where it found no test: of one kind of them there may be none.
NOTHING = 5


def main() -> int:
    """Run both, show what they say one after the other, and return the worse exit code."""
    tests = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    root = Path(__file__).parents[1]
    with tempfile.TemporaryFile("w+") as said:
        rest = subprocess.Popen(
            [*tests, "-m", f"not ({LIVE})"],
            cwd=root,
            stdout=said,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.nice(10),
        )
        live = subprocess.Popen([*tests, "-m", LIVE], cwd=root, stdout=subprocess.PIPE, text=True)
        assert live.stdout is not None
        lines = []
        for line in live.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        codes = [live.wait(), rest.wait()]
        said.seek(0)
        text = said.read()
    print(text, end="")
    passed = sum(int(count) for output in ("".join(lines), text) for count in re.findall(r"(\d+) passed", output)[-1:])
    print(f"both together: {passed} passed")
    return max((abs(code) for code in codes if code != NOTHING), default=NOTHING)  # one that a signal ended has failed


if __name__ == "__main__":
    sys.exit(main())
