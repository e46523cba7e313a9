"""Too little memory is told as that, with the way out, by whoever met it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from launch import memory
from launch.cli import main
from launch.placer_local import LocalPlacer
from pipeline import process
from pipeline.config import dump, resolve
from pipeline.errors import LESS_MEMORY, plain

pytestmark = pytest.mark.in_process

MEMINFO = {"proc/meminfo": "MemTotal:  2000 kB\nMemFree:  10 kB\nMemAvailable:   1000 kB\n"}
V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, None),
        (MEMINFO, 1_024_000),
        ({"proc/meminfo": "MemAvailable: what\n"}, None),
        ({"proc/meminfo": "MemAvailable:\n"}, None),
        (MEMINFO | {f"{V2}/memory.max": "max\n", f"{V2}/memory.current": "77\n"}, 1_024_000),
        (MEMINFO | {f"{V2}/memory.max": "5000\n", f"{V2}/memory.current": "2000\n"}, 3_000),
        ({f"{V2}/memory.max": "5000\n", f"{V2}/memory.current": "6000\n"}, 0),
        (MEMINFO | {f"{V2}/memory.max": "5000\n"}, 1_024_000),
        (MEMINFO | {f"{V1}/memory.limit_in_bytes": "900\n", f"{V1}/memory.usage_in_bytes": "100\n"}, 800),
        (
            MEMINFO | {f"{V1}/memory.limit_in_bytes": f"{2**63 - 4096}\n", f"{V1}/memory.usage_in_bytes": "1\n"},
            1_024_000,
        ),
    ],
)
def test_what_is_available_is_the_machines_or_what_a_container_may_take(
    files: dict[str, str], wanted: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory.available_bytes(tmp_path) == wanted


def test_here_it_is_told() -> None:
    available = memory.available_bytes()
    assert available is not None
    assert 0 < available < 2**50
    assert memory.kills() >= 0


def test_what_the_system_has_killed_is_counted(tmp_path: Path) -> None:
    assert memory.kills(tmp_path) == 0
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "vmstat").write_text("nr_free_pages 5\noom_kill 3\noom_kill_more 4\n")
    assert memory.kills(tmp_path) == 3


@pytest.mark.parametrize(("number", "more"), [(signal.SIGKILL, 1), (signal.SIGKILL, 0), (signal.SIGSEGV, 1)])
def test_a_worker_that_the_system_killed_is_told_so_and_no_other(
    number: int, more: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 7
    monkeypatch.setattr(memory, "kills", lambda: count)
    placer = LocalPlacer(resolve(), tmp_path)
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        placer._processes["box-1"] = sleeper
        assert placer.poll("box-1") is None
        sleeper.send_signal(number)
        sleeper.wait()
        count += more
        ended = placer.poll("box-1")
    assert ended is not None
    assert ended.code == -number
    is_told = number == signal.SIGKILL and more > 0
    assert ended.why == (f"killed by SIGKILL: the system ran out of memory; {LESS_MEMORY}" if is_told else "")


def test_a_worker_that_gets_no_memory_says_so_in_one_line_and_is_not_tried_again() -> None:
    said: list[tuple[str, dict[str, Any]]] = []
    logged: list[tuple[str, dict[str, Any]]] = []

    def run() -> None:
        raise MemoryError("Unable to allocate 26.8 GiB")

    worker = SimpleNamespace(
        run=run,
        log=SimpleNamespace(error=lambda text, **more: logged.append((text, more))),
        orders=SimpleNamespace(say=lambda word, **body: said.append((word, body))),
        close=lambda linger_ms: None,  # noqa: ARG005
    )
    assert process.live(cast(process.Worker, worker)) == 1
    text = f"there is not enough memory (Unable to allocate 26.8 GiB); {LESS_MEMORY}"
    assert said == [("failed", {"error": text, "wrong": False, "again": False})]
    assert logged == [(text, {"traceback": False})]
    assert plain(MemoryError()) == f"there is not enough memory; {LESS_MEMORY}"


def test_so_does_the_reference(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(dump(resolve("article", flags={"model.width": 8})))
    code = (
        "import sys\nfrom pipeline import reference\n"
        "def run(self):\n    raise MemoryError('too much')\n"
        "reference.Reference.run = run\nsys.exit(reference.main())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(os.getpid())],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (1, "")
    told = json.loads(ended.stdout.splitlines()[-1])
    assert (told["word"], told["wrong"]) == ("failed", False)
    assert told["error"] == f"there is not enough memory (too much); {LESS_MEMORY}"


@pytest.mark.parametrize(
    ("available", "state", "code"),
    [(None, "ok", 0), (24_000_000_000, "ok", 0), (400_000_000, "warning", 0), (100_000_000, "fault", 1)],
)
def test_the_doctor_looks_at_it(
    available: int | None, state: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "available_bytes", lambda: available)
    assert main(["doctor", "--json"]) == code
    (told,) = (each for each in json.loads(capsys.readouterr().out)["checks"] if each["name"] == "memory")
    assert told["state"] == state
    assert (LESS_MEMORY in told["text"]) == (state != "ok")
    assert available is None or f"{available / 1e9:.1f} GB free" in told["text"]
