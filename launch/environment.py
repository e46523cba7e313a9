"""What a run's bits and times depend on, besides its configuration: versions, BLAS, processor, cores, load."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import site
from importlib import metadata
from pathlib import Path
from typing import Any

import pipeline

#: One thread a worker: workers are the parallelism, and bits must not depend on how a product was split.
BLAS_THREADS = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
PACKAGES = ("timebox", "numpy", "pyzmq", "msgpack", "msgspec")


#: What bits depend on besides configuration and data, by its place in environment.json.
BITS = ("processor", "byte_order", "blas", "blas_settings", "simd")


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


def differences(there: dict[str, Any] | None) -> list[str]:
    """Return what is another here than where the run was, of what bits depend on; empty where nothing is."""
    if there is None:
        return ["the run's environment.json cannot be read"]
    here = collect()
    found = [
        f"{key}: {_text(_bare(there.get(key)))} there, {_text(_bare(here.get(key)))} here"
        for key in BITS
        if _bare(there.get(key)) != _bare(here.get(key))
    ]
    packages = there.get("packages")
    packages = packages if isinstance(packages, dict) else {}
    if packages.get("numpy") != here["packages"]["numpy"]:
        found.insert(0, f"numpy: {packages.get('numpy')} there, {here['packages']['numpy']} here")
    if any(os.environ.get(name) != value for name, value in BLAS_THREADS.items()):
        found.append("BLAS threads: 1 there, not limited here")
    return found


def _bare(value: Any) -> Any:
    """Return a setting without the number of threads: workers have one each, whatever the launcher was told."""
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if not key.endswith("NUM_THREADS")}
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def worker_environment() -> dict[str, str]:
    """Return the environment of a worker: one BLAS thread, this very package, and nothing of the user's folder to import.

    A folder in which somebody runs us may well hold a `pipeline` of its own.
    """
    environment = {**os.environ, **BLAS_THREADS, "PYTHONSAFEPATH": "1"}
    root = str(Path(pipeline.__file__).parents[1])
    if root not in (*site.getsitepackages(), site.getusersitepackages()):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return environment
