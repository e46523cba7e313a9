"""The pages that people read: where they are, and what stands in their blocks."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, ROOT / "pipeline" / "README.md", ROOT / "launch" / "README.md", ROOT / "launch" / "FIGURES.md")

_NUMBER = re.compile(r"[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?")


def read(page: Path) -> str:
    """Return a page's text."""
    return page.read_text(encoding="utf-8")


def section(page: Path, title: str) -> str:
    """Return what stands under a heading of the second level."""
    found = read(page).partition(f"\n## {title}\n")
    assert found[1], f"{page.name} has no section {title}"
    return found[2].partition("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """Return the lines of the shell blocks, those that a backslash continues as one."""
    return [line for block in blocks(text, "sh") for line in block.replace("\\\n", "").splitlines()]


def shown(page: Path) -> list[tuple[str, str]]:
    """Return each command that is marked as one that shows something, and what it shows."""
    pattern = r"<!-- shows -->\n```sh\n(.*?)\n```\n\n```text\n(.*?)\n```"
    return re.findall(pattern, read(page), re.DOTALL)


def shape(line: str) -> str:
    """Return a line without what differs from run to run: numbers, digests, columns' widths, lists by share, stars."""
    line = re.sub(r"\b[0-9a-f]{64}\b", "#", line.replace("★", "").replace("☆", ""))
    line = _NUMBER.sub("#", line)
    line = re.sub(r"[─▁▂▃▄▅▆▇█]+", "", line)
    line = re.sub(r"(#, )+#", "#", line)
    line = re.sub(r"^(\s*by (stage|kind)) .*", r"\1", line)
    return " ".join(line.split())
