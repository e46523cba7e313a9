"""Where MNIST's files are and what is in them: packaged, in a folder, in the cache, or at a mirror. No numpy.

Every file is known by the sha256 of its unpacked bytes, a mirror's also by that of its gzip, checked *before* it is
unpacked. The launcher asks `locate` before it starts anything, so that a missing or broken file is a clear line and
not a dead worker; the workers then only `read`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path

from .errors import ConfigError
from .files import save
from .schema import Data

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

#: name: (sha256 unpacked, sha256 of the mirrors' gzip, bytes unpacked)
FILES = {
    "train-images-idx3-ubyte": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        47_040_016,
    ),
    "train-labels-idx1-ubyte": (
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        60_008,
    ),
    "t10k-images-idx3-ubyte": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        7_840_016,
    ),
    "t10k-labels-idx1-ubyte": (
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        10_008,
    ),
}
_WAY_OUT = "give the folder of the four MNIST files with --data.dir, or use --data.source packaged"

PACKAGED = Path(__file__).parent / "mnist"

#: sha256 of the packaged gzips: a run checks them in milliseconds, without unpacking.
PACKAGED_SUMS = {
    "t10k-images-idx3-ubyte": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}


def needed(data: Data) -> tuple[str, ...]:
    """Return the names of the files that a configuration reads: images, labels, and for the full set those of both parts."""
    return tuple(name for name in FILES if data.source == "full" or name.startswith("t10k"))


def cache_folder() -> Path:
    """Return the user's cache folder for MNIST."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "timebox" / "mnist"


def locate(data: Data, *, check: bool = True) -> dict[str, Path]:
    """Return a file for each needed name; raises ConfigError that lists what was tried.

    With `check` every file is held against its sha256, and what is neither in data.dir nor in the cache is fetched from a
    mirror into the cache. Without it the files are only found, as a worker does after the launcher has checked them.
    """
    return {name: _locate(name, data, check) for name in needed(data)}


def _locate(name: str, data: Data, check: bool) -> Path:
    if data.source == "packaged":
        folders = [PACKAGED]
    elif data.dir:
        folders = [_expanded(data.dir), cache_folder()]
        if not _is_folder(folders[0]):
            raise ConfigError(f"data.dir: {data.dir} is no folder; {_WAY_OUT}")
    else:
        folders = [cache_folder()]
    for folder in folders:
        for path in (folder / name, folder / f"{name}.gz"):
            if is_file(path):
                if check:
                    _check(path, data)
                return path
    tried = [f"{folder}/{name}[.gz]: not there" for folder in folders]
    if check and data.source == "full":
        from http.client import HTTPException  # rarely needed, and slow to import

        for mirror in MIRRORS:
            try:
                return _fetch(f"{mirror}{name}.gz", name)
            except (OSError, HTTPException, ConfigError) as error:
                reason = getattr(error, "reason", None) or error or type(error).__name__
                tried.append(f"{mirror}{name}.gz: {reason}")
    way_out = "install the package again" if data.source == "packaged" else _WAY_OUT
    raise ConfigError(f"data.source {data.source}: {name} is nowhere; tried {'; '.join(tried)}; {way_out}")


def is_file(path: Path) -> bool:
    """Return whether a file is there that can be seen."""
    try:
        return path.is_file()
    except OSError:  # a name that is too long, say: nothing is there
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _expanded(folder: str) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError:  # ~nobody-of-this-name
        return Path(folder)


def _check(path: Path, data: Data) -> None:
    """Hold a file against its sha256; raises ConfigError."""
    if data.source == "full":
        read(path, check=True)
        return
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); install the package again") from None
    if hashlib.sha256(packed).hexdigest() != PACKAGED_SUMS[path.name.removesuffix(".gz")]:
        raise ConfigError(f"{path}: damaged, its sha256 is not that of the packaged file; install the package again")


def _fetch(url: str, name: str) -> Path:
    """Fetch one mirror's file into the cache, whole or not at all; raises OSError or ConfigError."""
    import urllib.request  # rarely needed, and slow to import

    _, packed_sum, size = FILES[name]
    with urllib.request.urlopen(url, timeout=10) as response:
        packed = response.read(size)  # packed is smaller than unpacked
    if hashlib.sha256(packed).hexdigest() != packed_sum:
        raise ConfigError("its sha256 is not that of MNIST")
    path = cache_folder() / f"{name}.gz"
    save(path, lambda stream: stream.write(packed))
    return path


def read(path: Path, *, check: bool) -> bytes:
    """Return the unpacked bytes of one of MNIST's files, at most as many as there should be; raises ConfigError.

    With `check`, their sha256 is compared too: a single flipped bit is found.
    """
    name = path.name.removesuffix(".gz")
    expected, _, size = FILES[name]
    again = "replace it by the original, or use --data.source packaged"
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content: bytes = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); {again}") from None
    if len(content) != size:
        has = f"more than {size:,}" if len(content) > size else f"{len(content):,}"
        raise ConfigError(f"{path}: has {has} bytes, MNIST's has {size:,}; {again}")
    if check and hashlib.sha256(content).hexdigest() != expected:
        raise ConfigError(f"{path}: damaged, its sha256 is not that of MNIST; {again}")
    return content
