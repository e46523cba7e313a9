"""The secrets of a run: new each time, readable by nobody else, and refused when they are not what was written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import keys, transport
from pipeline.errors import RunError
from pipeline.keys import Keys, Pair, keyed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of keys as it is written."""
    return keys.write(tmp_path, keys.make())


@pytest.mark.parametrize("pair", [None, Pair(b"p" * 40, b"s" * 40)], ids=["plain", "curve"])
def test_what_is_written_is_read(pair: Pair | None, tmp_path: Path) -> None:
    made = keys.make(pair)
    assert keys.read(keys.write(tmp_path, made)) == made


def test_each_start_has_new_secrets() -> None:
    assert len({keys.make().secret for _ in range(50)}) == 50
    assert len({transport.make_pair() for _ in range(5)}) == 5
    assert all(len(part) == keys.CURVE_CHARACTERS for part in transport.make_pair())


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_the_file_is_private_from_its_creation(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        path = keys.write(tmp_path, keys.make())
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o7777 == 0o600


def test_a_file_that_is_there_is_never_written_to(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        keys.write(path.parent, keys.make())
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o610, 0o601, 0o620])
def test_a_file_that_others_can_touch_is_refused(mode: int, path: Path) -> None:
    path.chmod(mode)
    with pytest.raises(RunError, match=rf"keys that others can read \(mode 0{mode:o}, not 0600\)"):
        keys.read(path)


def test_what_is_no_plain_file_is_refused(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(RunError, match="cannot be read"):
        keys.read(link)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(RunError, match="a plain file"):
        keys.read(pipe)
    with pytest.raises(RunError, match="cannot be read: No such file"):
        keys.read(tmp_path / "nothing")
    with pytest.raises(RunError, match=r"plain file|cannot be read"):
        keys.read(tmp_path)


GOOD = {"secret": "ab" * 32, "pair": ["p" * 40, "s" * 40]}


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", "7", "{", '"secret"', "\0" * 100, "[" * 5000, " " * 2000,
        *[
            json.dumps({**GOOD, **change})
            for change in (
                {"secret": "ab" * 31}, {"secret": "ab" * 33}, {"secret": "x" * 64}, {"secret": None}, {"secret": 7},
                {"more": 1},
                {"pair": []}, {"pair": ["p" * 40]}, {"pair": ["p" * 40] * 3}, {"pair": ["p" * 39, "s" * 40]}, {"pair": [1, 2]},
                {"pair": "ps"}, {"pair": {}}, {"pair": ["ä" * 40, "s" * 40]},
            )
        ],
    ],
    ids=range(24),
)  # fmt: skip
def test_a_damaged_file_is_refused_in_one_line_that_shows_none_of_it(text: str, path: Path) -> None:
    path.write_text(text)
    with pytest.raises(RunError) as found:
        keys.read(path)
    assert str(found.value) == f"{path}: the keys of the run are damaged; start the run again"


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_damage_is_refused_or_changes_the_keys(data: st.DataObject) -> None:
    whole = json.dumps(GOOD).encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    text = whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + data.draw(st.integers(0, 3)) :]
    found = keys.parse(text)
    assert found is None or len(found.secret) == 32


def test_nothing_that_is_printed_shows_a_secret() -> None:
    made = Keys(b"secret" * 6, Pair(b"public", b"private"))
    for text in (repr(made), str(made), f"{made}", repr(made.pair), f"{[made]}"):
        assert "secret" not in text
        assert "private" not in text


def test_tags_of_other_purposes_secrets_and_sizes_are_others() -> None:
    tags = {
        keyed(secret, purpose, size).digest()[:8]
        for secret in (b"", b"a" * 32, b"b" * 32)
        for purpose in ("", "message to 1", "message to 11", "stamp to 1")
        for size in (8, 16)
    }
    assert len(tags) == 24
