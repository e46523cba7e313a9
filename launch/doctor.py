"""What this machine can and cannot do for a run: each check is a line with the way out."""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline import addresses, mnist, transport
from pipeline.errors import LESS_MEMORY, ConfigError, plain
from pipeline.files import remove_socket_folder
from pipeline.schema import Config, Data
from pipeline.schema_run import Run

from . import browse, links, memory, packages, plots, runs
from .environment import BLAS_THREADS, PACKAGES, cores, version_of

#: A worker and the launcher hold a few files for each stage that they know: what a run of three and one of a hundred want.
FILES_OF_FEW, FILES_OF_MANY = 64, 1024
#: What the workers and the launcher of preset article take.
TAKES_BYTES = 300e6


class Check(NamedTuple):
    """One thing looked at: `ok`, `warning` (runs, but…) or `fault` (does not run)."""

    name: str
    state: str
    text: str


def checks(parent: Path) -> Iterator[Check]:
    """Yield what was found, one check after the other."""
    yield _python()
    yield from _packages()
    yield _cores()
    yield _blas()
    yield _files()
    yield _memory()
    yield _try("sockets", _sockets)
    yield _try("port", _port)
    yield _try("run folder", lambda: _writable(parent))
    yield _disk(parent)
    yield _try("packaged data", lambda: _data(Data()))
    yield _full_data()
    yield _plot()
    yield _browser()


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    is_new = sys.version_info >= (3, 11)
    return Check("python", "ok" if is_new else "fault", version if is_new else f"{version}; 3.11 or newer is needed")


def _packages() -> Iterator[Check]:
    wanted = {need.name: need.wanted for need in packages.needs()} or dict.fromkeys(PACKAGES[1:], "")
    for name, bounds in wanted.items():
        version = version_of(name)
        way_out = f"pip install '{name}{bounds.replace(' ', '')}'"
        if version == "not installed":
            yield Check(name, "fault", f"{version}; {way_out}")
        elif not packages.is_met(version, bounds):
            yield Check(name, "fault", f"{version}, and {bounds} is needed; {way_out}")
        else:
            yield Check(name, "ok", version)


def _cores() -> Check:
    count = cores()
    text = f"{count}; preset article has 3 workers, so they share" if count < 3 else str(count)
    return Check("cores", "ok" if count > 1 else "warning", text if count > 1 else "1: workers cannot run at once")


def _blas() -> Check:
    from .environment import collect

    environment = collect()
    blas = environment["blas"]
    forced = environment["blas_settings"].get("OPENBLAS_CORETYPE")
    text = f"{blas['name']} {blas['version']}; workers use {BLAS_THREADS['OPENBLAS_NUM_THREADS']} thread each"
    if forced:
        return Check(
            "blas", "warning", f"{text}; OPENBLAS_CORETYPE={forced} is set and may slow it: unset it to measure"
        )
    return Check("blas", "ok", text)


def _files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FILES_OF_MANY:
        return Check("open files", "ok", "without limit" if soft == resource.RLIM_INFINITY else f"{soft:,} at once")
    most = FILES_OF_MANY if hard == resource.RLIM_INFINITY else min(hard, FILES_OF_MANY)
    way_out = f"`ulimit -n {most}` allows more" if most > soft else "root alone can allow more; take fewer boxes"
    state = "warning" if soft >= FILES_OF_FEW else "fault"
    return Check(
        "open files", state, f"{soft:,} at once are few for {'many' if state == 'warning' else 'any'} boxes; {way_out}"
    )


def _memory() -> Check:
    available = memory.available_bytes()
    if available is None:
        return Check("memory", "ok", "not told here")
    text = f"{available / 1e9:.1f} GB free; a run of preset article takes {TAKES_BYTES / 1e9:.1f} GB"
    if available > 2 * TAKES_BYTES:
        return Check("memory", "ok", text)
    state = "warning" if available > TAKES_BYTES else "fault"
    return Check("memory", state, f"{text}; end other programs, or {LESS_MEMORY}")


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except (ConfigError, OSError) as error:
        return Check(name, "fault", plain(error))


def _sockets() -> str:
    folder = links.private_folder()
    try:
        server = transport.ControlServer(addresses.endpoint("ipc", str(folder), "doctor", 0), 1024)
        server.close()
    finally:
        remove_socket_folder(folder)
    elsewhere = folder.parent != Path(tempfile.gettempdir())
    return f"ipc in {folder.parent}{'; the path that TMPDIR names is too long for them' if elsewhere else ''}"


def _port() -> str:
    transport.check_port_free(0)
    return "tcp on 127.0.0.1"


def _writable(parent: Path) -> str:
    runs.check_parent(Config(run=Run(dir=str(parent))))
    return str(parent)


def _disk(parent: Path) -> Check:
    try:
        free = shutil.disk_usage(next(path for path in (parent, *parent.absolute().parents) if path.exists())).free
    except OSError as error:
        return Check("disk", "fault", f"{parent}: {error.strerror}; choose another folder with --run.dir")
    text = f"{free / 1e9:.1f} GB free; a run of preset article takes 40 MB"
    if free > 1e9:
        return Check("disk", "ok", text)
    return Check("disk", "warning", f"{text}; `timebox prune` makes room, or choose another folder with --run.dir")


def _plot() -> Check:
    if plots.is_available():
        return Check("plot", "ok", f"matplotlib {version_of('matplotlib')}")
    return Check("plot", "warning", "no pictures: pip install 'timebox[plot]'")


def _browser() -> Check:
    if name := browse.find():
        return Check("browser", "ok", f"{name} shows reports")
    return Check("browser", "warning", "none found; a report is one file, to be looked at elsewhere")


def _data(data: Data) -> str:
    return f"MNIST's test set in {mnist.locate(data)['t10k-images-idx3-ubyte'].parent}"


def _full_data() -> Check:
    folder = mnist.cache_folder()
    found = [name for name in mnist.FILES if mnist.is_file(folder / name) or mnist.is_file(folder / f"{name}.gz")]
    if len(found) == len(mnist.FILES):
        return Check("full data", "ok", f"all of MNIST in {folder}")
    return Check("full data", "ok", "not in the cache; --data.source full fetches it, or reads --data.dir")
