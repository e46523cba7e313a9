"""How many lines each file has, the largest first, and each package and layer: `python tests/sizes.py`. 1: one is too long."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Files of the product with more lines than this are to be split, or made simpler. Tests may be longer.
MOST = 300
PRODUCT = ("pipeline", "launch")


def drawn(package: str) -> dict[str, list[str]]:
    """Return the layers of a package, as its docstring draws them: a title four spaces in, below it its files eight in."""
    text = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8")), clean=False)
    layers: dict[str, list[str]] = {}
    title = ""
    for line in (text or "").splitlines():
        if line.startswith(" " * 8):
            layers.setdefault(title, []).extend(line.split())
        elif line.startswith(" " * 4):
            title = line.strip()
    return layers


def lines() -> dict[Path, int]:
    """Return how many lines each source file has, by its path in the repository."""
    found = [path for package in (*PRODUCT, "tests") for path in (ROOT / package).rglob("*")]
    kinds = (".py", ".js", ".css", ".html")
    return {
        path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines())
        for path in found
        if path.suffix in kinds
    }


def too_long() -> list[str]:
    """Return the files of the product that are, with their lines."""
    return [f"{path.as_posix()} {size}" for path, size in lines().items() if path.parts[0] in PRODUCT and size > MOST]


def _table() -> Iterator[tuple[int, str]]:
    """Yield the lines of each package, and of its layers."""
    found = lines()
    for package in (*PRODUCT, "tests"):
        inside = {path: size for path, size in found.items() if path.parts[0] == package}
        yield sum(inside.values()), f"{package}: {len(inside)} files"
        for title, names in drawn(package).items() if package in PRODUCT else ():
            sizes = [found[Path(package, f"{name}.py")] for name in names]
            yield sum(sizes), f"  {title}: {len(sizes)} files, at most {max(sizes)}"


def main(words: list[str]) -> int:
    """Print the table, without single files for `--summary`; return 1 where a file is too long."""
    if "--summary" not in words:
        for path, size in sorted(lines().items(), key=lambda each: (-each[1], each[0])):
            print(f"{size:>7,}  {path.as_posix()}")
    for size, text in _table():
        print(f"{size:>7,}  {text}")
    for text in too_long():
        print(f"more than {MOST} lines: {text}", file=sys.stderr)
    return 1 if too_long() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
