"""MNIST's files: read as IDX with checks, held against their sums, found in a folder or the cache, fetched from a mirror."""

from __future__ import annotations

import gzip
import hashlib
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from pipeline import data as data_module
from pipeline import mnist
from pipeline.data import parse_idx
from pipeline.errors import ConfigError
from pipeline.schema import Data

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def line_of(error: pytest.ExceptionInfo[ConfigError]) -> str:
    """Return the error's text, which must be one line."""
    line = str(error.value)
    assert line
    assert len(line.splitlines()) == 1
    return line


def idx(array: np.ndarray) -> bytes:
    """Return an array of bytes as an IDX file."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# IDX


@pytest.mark.parametrize("shape", [(3,), (0,), (2, 4, 5)])
def test_an_idx_file_is_read_with_its_shape(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    read = parse_idx(idx(array), "file")
    assert (read.dtype, read.shape) == (np.uint8, shape)
    assert np.array_equal(read, array)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an IDX file of bytes (its magic number is missing)"),
        (b"\0\0", "not an IDX file of bytes"),
        (b"\x1f\x8b\x08\x08", "not an IDX file of bytes (its magic number is 1f8b0808)"),
        (b"\0\0\x0d\x01" + struct.pack(">I", 1) + b"\0" * 4, "not an IDX file of bytes (its magic number is 00000d01)"),
        (b"\0\0\x08\x02" + struct.pack(">2I", 1, 1) + b"\0", "not an IDX file of bytes"),
        (b"\0\0\x08\x03" + struct.pack(">2I", 1, 1), "the IDX header is cut short"),
        (b"\0\0\x08\x01" + struct.pack(">I", 3) + b"\0\0", "promises (3,), it holds 2 values"),
        (b"\0\0\x08\x01" + struct.pack(">I", 3) + b"\0" * 4, "promises (3,), it holds 4 values"),
        (b"\0\0\x08\x03" + struct.pack(">3I", *[2**32 - 1] * 3), "it holds 0 values"),
        (b"\0\0\x08\x03" + struct.pack(">3I", *[2**31, 2**31, 4]), "it holds 0 values"),  # 2**64 entries
    ],
)
def test_what_is_no_idx_file_is_named(content: bytes, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_idx(content, "folder/file")
    assert line_of(error).startswith("folder/file: ")
    assert says in line_of(error)


# The packaged files


@pytest.mark.parametrize("name", mnist.PACKAGED_SUMS)
def test_the_packaged_files_have_the_stated_sums(name: str) -> None:
    packed = (mnist.PACKAGED / f"{name}.gz").read_bytes()
    unpacked_sum, _, size = mnist.FILES[name]
    content = gzip.decompress(packed)
    assert sha256(packed) == mnist.PACKAGED_SUMS[name]
    assert (sha256(content), len(content)) == (unpacked_sum, size)


def test_the_packaged_files_are_found_checked_and_have_their_notice() -> None:
    found = mnist.locate(Data())
    assert found == {name: mnist.PACKAGED / f"{name}.gz" for name in (IMAGES, LABELS)}
    assert "Creative Commons" in (mnist.PACKAGED / "NOTICE").read_text()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that stands for the packaged one, with a copy of the labels and the images."""
    folder = tmp_path / "package"
    folder.mkdir()
    for name in mnist.PACKAGED_SUMS:
        (folder / f"{name}.gz").write_bytes((mnist.PACKAGED / f"{name}.gz").read_bytes())
    monkeypatch.setattr(mnist, "PACKAGED", folder)
    return folder


@pytest.mark.parametrize(("change", "says"), [("truncate", "damaged"), ("flip", "damaged"), ("remove", "not there")])
def test_a_damaged_package_is_one_line_with_file_and_way_out(package: Path, change: str, says: str) -> None:
    path = package / f"{LABELS}.gz"
    packed = path.read_bytes()
    path.unlink()
    if change != "remove":
        path.write_bytes(packed[:100] if change == "truncate" else packed[:50] + bytes([packed[50] ^ 1]) + packed[51:])
    with pytest.raises(ConfigError) as error:
        mnist.locate(Data())
    assert str(package / LABELS) in line_of(error)
    assert says in line_of(error)
    assert "install the package again" in line_of(error)


# A small MNIST of our own, known by its sums


def small_set() -> dict[str, bytes]:
    """Return the contents of four small files: a few white pixels on black, as compressible as digits are."""
    white = [np.random.default_rng(k).random((count, 28, 28)) < 0.01 for k, count in enumerate((40, 30))]
    return {
        "train-images-idx3-ubyte": idx(white[0] * 255),
        "train-labels-idx1-ubyte": idx(np.resize([0, 1, 2, 9], 40)),
        IMAGES: idx(white[1] * 255),
        LABELS: idx(np.resize([1, 0, 3], 30)),
    }


SMALL = small_set()
SMALL_FILES = {name: (sha256(c), sha256(gzip.compress(c, mtime=0)), len(c)) for name, c in SMALL.items()}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """Return four small files that the product takes for MNIST's; the cache is empty and no mirror is known."""
    monkeypatch.setattr(mnist, "FILES", dict(SMALL_FILES))
    monkeypatch.setattr(mnist, "MIRRORS", ())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return SMALL


def fill(folder: Path, contents: dict[str, bytes], *, packed: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_the_full_set_is_read_from_a_folder(tiny: dict[str, bytes], tmp_path: Path, packed: bool) -> None:
    folder = fill(tmp_path / "digits", tiny, packed=packed)
    wanted = Data(source="full", dir=str(folder), train=5, test=2)
    assert [path.parent for path in mnist.locate(wanted).values()] == [folder] * 4
    split = data_module.load(wanted)
    assert (split.train_images.shape, split.test_images.shape) == ((5, 784), (2, 784))
    images, labels = (parse_idx(tiny[name], name) for name in (IMAGES, LABELS))
    for place, image, label in zip(split.test_places, split.test_images, split.test_labels, strict=True):
        assert np.array_equal(images[place].ravel(), image)
        assert labels[place] == label
    assert set(split.train_labels.tolist()) | set(split.test_labels.tolist()) <= {0, 1}


def test_the_full_set_keeps_its_own_two_parts(tiny: dict[str, bytes], tmp_path: Path) -> None:
    wanted = Data(
        name="mnist", source="full", dir=str(fill(tmp_path / "digits", tiny, packed=False)), train=80, test=60
    )
    split = data_module.load(wanted)
    for part, images in (("train", split.train_images), ("t10k", split.test_images)):
        there = parse_idx(tiny[f"{part}-images-idx3-ubyte"], part)
        assert sorted(image.tobytes() for image in images) == sorted(image.tobytes() for image in there)


def test_a_tilde_in_the_folder_is_the_users_home(
    tiny: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "digits", tiny, packed=True)
    assert mnist.locate(Data(source="full", dir="~/digits"))[LABELS] == tmp_path / "digits" / f"{LABELS}.gz"


def test_the_folder_comes_before_the_cache(tiny: dict[str, bytes], tmp_path: Path) -> None:
    cache = fill(mnist.cache_folder(), tiny, packed=True)
    folder = fill(tmp_path / "digits", {LABELS: tiny[LABELS]}, packed=False)
    found = mnist.locate(Data(source="full", dir=str(folder)))
    assert found[LABELS] == folder / LABELS
    assert found[IMAGES] == cache / f"{IMAGES}.gz"


def test_a_flipped_bit_is_found_by_the_launchers_check_only(tiny: dict[str, bytes], tmp_path: Path) -> None:
    damaged = bytearray(tiny[LABELS])
    damaged[-1] ^= 1
    folder = fill(tmp_path / "digits", tiny | {LABELS: bytes(damaged)}, packed=True)
    wanted = Data(source="full", dir=str(folder))
    with pytest.raises(ConfigError) as error:
        mnist.locate(wanted)
    assert line_of(error).startswith(f"{folder / LABELS}.gz: damaged, its sha256 is not that of MNIST")
    assert "--data.source packaged" in line_of(error)
    assert mnist.locate(wanted, check=False)[LABELS] == folder / f"{LABELS}.gz"


def bad_files(content: bytes) -> dict[str, tuple[str, bytes, str]]:
    """Return what can be wrong with a file: its suffix, its bytes, what the line says."""
    packed = gzip.compress(content, mtime=0)
    middle = len(packed) // 2
    return {
        "a truncated gzip": (".gz", packed[:-20], "cannot be read"),
        "a gzip cut in its header": (".gz", packed[:5], "cannot be read"),
        "an empty gzip": (".gz", b"", "has 0 bytes"),
        "a gzip with a damaged block": (
            ".gz",
            packed[:middle] + b"\xff" * 40 + packed[middle + 40 :],
            "cannot be read",
        ),
        "a gzip with a wrong sum": (".gz", packed[:-8] + b"\0" * 4 + packed[-4:], "cannot be read"),
        "no gzip at all": (".gz", b"<html>moved</html>", "cannot be read"),
        "one byte less": ("", content[:-1], f"has {len(content) - 1:,} bytes, MNIST's has {len(content):,}"),
        "one byte more": ("", content + b"\0", f"has more than {len(content):,} bytes, MNIST's has {len(content):,}"),
        "a gzip that unpacks to more": (
            ".gz",
            gzip.compress(content + b"\0" * 2**20),
            f"more than {len(content):,} bytes",
        ),
    }


@pytest.mark.parametrize("what", bad_files(b""))
@pytest.mark.parametrize("check", [True, False])
def test_a_bad_file_is_one_line_with_file_and_way_out(
    tiny: dict[str, bytes], tmp_path: Path, what: str, check: bool
) -> None:
    suffix, content, says = bad_files(tiny[IMAGES])[what]
    path = tmp_path / f"{IMAGES}{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        mnist.read(path, check=check)
    line = line_of(error)
    assert line.startswith(f"{path}: ")
    assert says in line
    assert "replace it by the original, or use --data.source packaged" in line


def test_images_and_labels_that_do_not_belong_together_are_named(
    tiny: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = idx(np.array([1, 0, 3]))
    monkeypatch.setitem(mnist.FILES, LABELS, (sha256(labels), "", len(labels)))
    folder = fill(tmp_path / "digits", tiny | {LABELS: labels}, packed=False)
    with pytest.raises(ConfigError) as error:
        data_module.load(Data(source="full", dir=str(folder), train=2, test=1))
    assert line_of(error) == f"{folder / IMAGES}: 30 images, but 3 labels in {folder / LABELS}"


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "folder", ["missing", "x" * 300, "~nobody-of-this-name/digits"], ids=["missing", "too-long", "no-such-user"]
)
def test_a_folder_that_is_not_there_is_one_line_with_the_way_out(tmp_path: Path, folder: str) -> None:
    given = folder if folder.startswith("~") else str(tmp_path / folder)
    with pytest.raises(ConfigError) as error:
        mnist.locate(Data(source="full", dir=given))
    line = line_of(error)
    assert given in line
    assert "--data.dir" in line
    assert "--data.source packaged" in line


@pytest.mark.usefixtures("tiny")
def test_what_was_tried_is_listed_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "MIRRORS", ("nowhere:first/", "nowhere:second/"))
    (tmp_path / "digits").mkdir()
    with pytest.raises(ConfigError) as error:
        mnist.locate(Data(source="full", dir=str(tmp_path / "digits")))
    name = "train-images-idx3-ubyte"
    places = [
        tmp_path / "digits" / name,
        mnist.cache_folder() / name,
        f"nowhere:first/{name}",
        f"nowhere:second/{name}",
    ]
    line = line_of(error)
    assert [line.count(str(place)) for place in places] == [1] * 4
    assert sorted(places, key=lambda place: line.index(str(place))) == places


def test_a_worker_never_fetches(tiny: dict[str, bytes], mirror: Mirror) -> None:
    mirror.serve(tiny)
    with pytest.raises(ConfigError, match="is nowhere"):
        mnist.locate(Data(source="full"), check=False)
    assert mirror.asked == []


# Mirrors


class Mirror:
    """An HTTP server on the loopback: answers by path, raw bytes where the answer is not even HTTP, and what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.raw: dict[str, bytes] = {}
        self.asked: list[str] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.asked.append(self.path)
                if self.path in mirror.raw:
                    self.wfile.write(mirror.raw[self.path])
                    return
                content = mirror.answers.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def serve(self, contents: dict[str, bytes], folder: str = "good") -> None:
        """Offer files, packed, below a folder."""
        for name, content in contents.items():
            self.answers[f"/{folder}/{name}.gz"] = gzip.compress(content, mtime=0)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Return a mirror whose folders `bad` and `good` are the ones known, in this order."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Mirror()
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(mnist, "MIRRORS", (f"{server.address}/bad/", f"{server.address}/good/"))
    yield server
    server.server.shutdown()
    thread.join()
    server.server.server_close()


def cached() -> list[str]:
    folder = mnist.cache_folder()
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_good_file_is_fetched_once_and_cached(tiny: dict[str, bytes], mirror: Mirror) -> None:
    mirror.serve(tiny, "bad")
    found = mnist.locate(Data(source="full"))
    assert found == {name: mnist.cache_folder() / f"{name}.gz" for name in tiny}
    assert {name: gzip.decompress(path.read_bytes()) for name, path in found.items()} == tiny
    assert cached() == sorted(f"{name}.gz" for name in tiny)
    assert mirror.asked == [f"/bad/{name}.gz" for name in tiny]
    assert mnist.locate(Data(source="full")) == mnist.locate(Data(source="full"), check=False) == found
    assert len(mirror.asked) == 4


def test_the_next_mirror_is_asked_when_one_fails(tiny: dict[str, bytes], mirror: Mirror) -> None:
    mirror.serve(tiny)
    mirror.serve({name: content[::-1] for name, content in tiny.items()}, "bad")
    found = mnist.locate(Data(source="full"))
    assert {name: mnist.read(path, check=True) for name, path in found.items()} == tiny
    assert len(mirror.asked) == 8


BAD_ANSWERS = {
    "another file": b"\x1f\x8b" + b"x" * 100,
    "nothing": b"",
    "too much": b"x" * 2**20,
}


@pytest.mark.parametrize("what", BAD_ANSWERS)
def test_a_wrong_file_is_refused_and_nothing_is_left_in_the_cache(
    tiny: dict[str, bytes], mirror: Mirror, what: str
) -> None:
    name = next(iter(tiny))
    mirror.answers[f"/bad/{name}.gz"] = BAD_ANSWERS[what]
    with pytest.raises(ConfigError) as error:
        mnist.locate(Data(source="full"))
    line = line_of(error)
    assert f"{mirror.address}/bad/{name}.gz: its sha256 is not that of MNIST" in line
    assert f"{mirror.address}/good/{name}.gz: Not Found" in line
    assert "--data.dir" in line
    assert cached() == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"this is no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nshort",
    ],
    ids=["hangs-up", "no-http", "cut-short", "cut-in-a-chunk"],
)
def test_a_mirror_that_talks_nonsense_is_one_line(tiny: dict[str, bytes], mirror: Mirror, raw: bytes) -> None:
    name = next(iter(tiny))
    mirror.raw = {f"/bad/{name}.gz": raw, f"/good/{name}.gz": raw}
    with pytest.raises(ConfigError) as error:
        mnist.locate(Data(source="full"))
    assert f"{mirror.address}/good/{name}.gz: " in line_of(error)
    assert cached() == []


def test_a_cache_that_cannot_be_written_is_one_line(
    tiny: dict[str, bytes], mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.serve(tiny)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigError) as error:
        mnist.locate(Data(source="full"))
    assert "Not a directory" in line_of(error)
