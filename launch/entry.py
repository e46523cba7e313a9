"""Where the command begins: before the imports, so that Ctrl-C ends it silently, and a missing package in a line."""

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
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing in ("launch", "pipeline"):
            raise
        print(f"timebox: {sys.executable} {_lacks(missing)}", file=sys.stderr)
        return 1


def _lacks(missing: str) -> str:
    if missing == "tomllib":
        return "is too old a Python; 3.11 or newer is needed"
    return f"has no package {missing}; pip install timebox, in a checkout pip install '.', brings all that is needed"


if __name__ == "__main__":
    sys.exit(main())
