"""A page's tables are what a command printed: they go where they are marked, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch import results_page
from pipeline.errors import ConfigError

PAGE = "before\n<!-- bench hop -->\n```text\nold\ntable\n```\nafter\n<!-- bench start -->\n```text\nother\n```\n"


def test_a_table_goes_into_its_block_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    results_page.put(page, "hop", "new \\1 table\n")
    assert page.read_text() == PAGE.replace("old\ntable", "new \\1 table")


@pytest.mark.parametrize("text", [None, "no block", PAGE.replace("start", "hop")])
def test_a_page_without_one_block_for_it_is_refused_before_anything_is_measured(
    tmp_path: Path, text: str | None
) -> None:
    page = tmp_path / "page.md"
    if text is not None:
        page.write_text(text)
    with pytest.raises(ConfigError, match=r"--into: .*page\.md"):
        results_page.check(page, "hop")
