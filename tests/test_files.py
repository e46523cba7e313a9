"""Files are written whole or not at all, and nothing half-written stays."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import BinaryIO

import pytest

from pipeline.files import run_digest, save, save_json, save_text, to_json


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "weights.npz"
    save(path, lambda stream: stream.write(b"whole"))
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_replaced_by_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    save_text(path, "a longer text than the next one")
    save_text(path, "next")
    assert path.read_text() == "next"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError("disk full"), ValueError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_writer_that_raises_leaves_what_was_there(tmp_path: Path, failure: BaseException, old: bytes | None) -> None:
    path = tmp_path / "weights.npz"
    if old is not None:
        path.write_bytes(old)

    def write(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise failure

    with pytest.raises(type(failure)):
        save(path, write)
    assert [(left.name, left.read_bytes()) for left in tmp_path.iterdir()] == ([(path.name, old)] if old else [])


def test_nobody_sees_the_file_before_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"old")
    seen: list[bytes] = []

    def write(stream: BinaryIO) -> None:
        stream.write(b"new")
        stream.flush()
        seen.append(path.read_bytes())

    save(path, write)
    assert (seen, path.read_bytes()) == ([b"old"], b"new")


def test_a_file_that_cannot_take_its_place_leaves_no_part(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(OSError, match="taken"):
        save_text(path, "text")
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf_8_on_every_machine(tmp_path: Path) -> None:
    save_text(tmp_path / "note.txt", "δ = ĝ\n")
    assert (tmp_path / "note.txt").read_bytes() == "δ = ĝ\n".encode()


def test_a_document_comes_back_as_it_was(tmp_path: Path) -> None:
    document = {"run": "a", "costs": [0.1, 1e-300], "ĝ": None}
    save_json(tmp_path / "run.json", document)
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8")) == document


def test_a_document_that_is_no_json_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_json(tmp_path / "run.json", {"run": object()})
    assert list(tmp_path.iterdir()) == []


def test_the_digest_of_a_run_is_that_of_its_stages_in_their_order() -> None:
    assert run_digest(["ab", "cd"]) == hashlib.sha256(b"ab\ncd").hexdigest()
    assert len({run_digest(["ab", "cd"]), run_digest(["cd", "ab"]), run_digest(["abcd"])}) == 3


def test_what_is_no_finite_number_is_null_in_json() -> None:
    """A run that flew off has costs that JSON has no word for, and its document must still be read."""
    document = {"costs": [0.5, float("nan"), float("inf")], "stages": ({"busy_s": -float("inf")},), "name": "box-1"}
    assert json.loads(to_json(document)) == {"costs": [0.5, None, None], "stages": [{"busy_s": None}], "name": "box-1"}
