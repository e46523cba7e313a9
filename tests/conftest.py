"""What all tests share: one BLAS thread before numpy comes, quick configurations, and a watch over what live tests leave."""

from __future__ import annotations

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hosts as _hosts
import hypothesis
import namespaces
import pytest

ROOT = Path(__file__).parents[1]

#: Every process that this session starts inherits this folder for its temporary files: that is how it is known as ours,
#: whoever else trains on this machine at the same time. The name is short, because sockets are made in it.
SCRATCH = tempfile.mkdtemp(prefix="tb")
os.environ["TMPDIR"] = SCRATCH
tempfile.tempdir = None

#: Where nothing may be compiled beside the sources, every worker compiles them all anew, a third of what its start takes.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    os.environ["PYTHONPYCACHEPREFIX"] = str(Path(SCRATCH) / "pycache")


#: An example that takes long says that others use this machine, and nothing of what it looks at.
hypothesis.settings.register_profile("shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("shared")


def pytest_unconfigure() -> None:
    """Remove the folder at the very end, also where no test ran; and hosts of sessions that were killed, ours included."""
    namespaces.remove(namespaces.mine())
    namespaces.sweep()
    shutil.rmtree(SCRATCH, ignore_errors=True)


def worker_processes() -> set[int]:
    """Return the workers that this test session has started and that still live."""
    mine = f"TMPDIR={SCRATCH}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and mine in environment and (b"pipeline.worker" in words or b"pipeline.reference" in words):
            found.add(int(folder.name))
    return found


def socket_folders() -> set[Path]:
    """Return the private folders that runs have made for their sockets."""
    return set(Path(tempfile.gettempdir()).glob("timebox-*"))


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """Fail the test if it leaves a process or a socket folder behind."""
    processes, folders = worker_processes(), socket_folders()
    yield
    assert worker_processes() <= processes, "a worker process is left"
    assert socket_folders() <= folders, "a socket folder is left"


@pytest.fixture
def hosts() -> Iterator[_hosts.Hosts]:
    """Three hosts with a network between them, the first of them a launcher's."""
    _hosts.hosts_or_skip()
    with _hosts.Hosts(3) as made:
        yield made


@pytest.fixture
def aliases() -> Iterator[list[_hosts.Host]]:
    """Three hosts that are addresses of the loopback."""
    if why := _hosts.why_no_aliases():
        pytest.skip(why)
    with _hosts.aliases(3) as made:
        yield made


@pytest.fixture(autouse=True)
def _live_tests_leave_nothing(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("live") or request.node.get_closest_marker("chaos"):
        request.getfixturevalue("leaves_nothing")
