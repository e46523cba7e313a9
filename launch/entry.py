"""Where the command begins: before the imports, so that Ctrl-C ends it silently from the first moment."""

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        from .cli import main as run_command
        from .terminal import prepare

        prepare()
        return run_command()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
