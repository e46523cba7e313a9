"""What a run's bits and times depend on, besides its configuration: versions, BLAS, processor, cores, load."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

#: One thread a worker: workers are the parallelism, and bits must not depend on how a product was split.
BLAS_THREADS = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
PACKAGES = ("timebox", "numpy", "pyzmq", "msgpack", "msgspec")


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def collect() -> dict[str, Any]:
    """Return the environment as a JSON document. Imports numpy."""
    import numpy as np

    from pipeline import transport

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    features = np.show_config(mode="dicts").get("SIMD Extensions", {})
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": cores(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "packages": {name: version_of(name) for name in PACKAGES},
        "libzmq": transport.VERSION,
        "blas": {"name": blas.get("name"), "version": blas.get("version"), "threads": 1},
        "blas_settings": {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS")},
        "simd": features,
        "byte_order": "little" if np.little_endian else "big",
    }


def version_of(package: str) -> str:
    """Return the version of an installed package, or `not installed`."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return "not installed"


def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()
