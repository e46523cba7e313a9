"""The Python API: importing it costs nothing, and it works wherever Python runs: scripts, threads, event loops, notebooks."""

from __future__ import annotations

import asyncio
import inspect
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import launch
from launch import Config, ConfigError, Result, RunError, resolve, run
from launch.shown import html, line

pytestmark = pytest.mark.patient

ROOT = Path(__file__).parents[1]
#: What an import must not bring: each takes longer than all of ours.
HEAVY = ("numpy", "zmq", "matplotlib", "rich", "asyncio", "IPython")


def quick(folder: Path, **flags: Any) -> Config:
    """Return a run of a second."""
    small = {"model.width": 16, "data.train": 10, "data.test": 5, "train.epochs": 2, "run.dir": str(folder)}
    return resolve("article", flags=small | {key.replace("__", "."): value for key, value in flags.items()})


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder of its own."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


# Importing


def test_importing_it_brings_nothing_heavy(tmp_path: Path) -> None:
    done = python(f"import launch; print([name for name in {HEAVY} if name in sys.modules])", tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    assert list(tmp_path.iterdir()) == []


def test_neither_do_its_names_bring_numpy(tmp_path: Path) -> None:
    """The workers' first update does not wait until the launcher has imported what it does not need."""
    code = "import launch; [getattr(launch, name) for name in launch.__all__]"
    done = python(f"{code}; print([name for name in ('numpy', 'matplotlib') if name in sys.modules])", tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_every_public_name_is_there_typed_and_documented() -> None:
    for name in launch.__all__:
        found = getattr(launch, name)
        assert inspect.getdoc(found), name
    members = {name: member for name, member in vars(Result).items() if not name.startswith("_")}
    assert {"find", "journal", "metrics", "weights", "report", "replay"} <= set(members)
    for name, member in members.items():
        function = getattr(member, "fget", None) or getattr(member, "func", None) or getattr(member, "__func__", member)
        if inspect.isfunction(function):
            assert inspect.getdoc(function), name
            assert "return" in function.__annotations__, name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'launch' has no attribute 'sun'"):
        _ = launch.sun


# Wherever Python runs


@pytest.mark.live
def test_a_run_in_a_running_event_loop(tmp_path: Path) -> None:
    """As in Jupyter, where a cell runs inside of one."""

    async def main() -> Result:
        return run(quick(tmp_path))

    assert asyncio.run(main()).status == "done"


@pytest.mark.live
def test_two_runs_in_threads_leave_signals_alone_and_find_folders_of_their_own(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    config = quick(tmp_path)
    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(run, [config, config]))
    assert [result.status for result in results] == ["done", "done"]
    assert results[0].digest == results[1].digest
    assert results[0].folder != results[1].folder
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.live
def test_the_event_loop_goes_on_beside_a_run_in_a_thread(tmp_path: Path) -> None:
    async def main() -> tuple[Result, int]:
        turns = 0
        task = asyncio.create_task(asyncio.to_thread(run, quick(tmp_path)))
        while not task.done():
            turns += 1
            await asyncio.sleep(0.01)
        return await task, turns

    result, turns = asyncio.run(main())
    assert result.status == "done"
    assert turns > 5


@pytest.mark.live
@pytest.mark.parametrize("guard", ["", 'if __name__ == "__main__":\n    '])
def test_a_script_runs_once_with_and_without_a_guard(tmp_path: Path, guard: str) -> None:
    flags = {"model.width": 16, "data.train": 10, "data.test": 5, "train.epochs": 1}
    body = f"print('ran', run(resolve(flags={flags})).status)"
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom launch import resolve, run\n{guard}{body}\n"
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("ran done\n", "")


@pytest.mark.live
def test_interrupted_in_the_main_thread_it_returns_what_is_there(tmp_path: Path) -> None:
    def press() -> None:
        while not any(path.stat().st_size for path in tmp_path.glob("*/metrics/metrics.jsonl")):
            time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)  # Python's handlers run in the main thread, whoever raises it

    user = threading.Thread(target=press)
    user.start()
    result = run(quick(tmp_path, train__epochs=100_000))
    user.join()
    assert result.status == "interrupted"
    assert result.costs


# What is shown


@pytest.mark.live
def test_a_result_shows_itself_in_a_line_and_as_a_table_with_its_report(tmp_path: Path) -> None:
    result = run(quick(tmp_path, run__name="shown"))
    assert (
        repr(result)
        == f"<{result.folder.name}: done, {100 * (result.accuracy or 0):.1f} % right, {result.document['seconds']:.1f} s>"
    )
    page = result._repr_html_()
    assert all(
        f'<td style="text-align:left">{word}</td>' in page
        for word in (result.folder.name, "done", "box-1, box-2, head")
    )
    assert "result.report()" in page
    assert "<a href" not in page
    written = result.report()
    assert 'report.html" target="_blank"' in result._repr_html_()
    assert written.name == "report.html"


@pytest.mark.live
def test_ipython_shows_the_table_and_a_failure_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("IPython")
    result = run(quick(tmp_path))
    formatted = python(
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "from launch import Result\n"
        f"shell = InteractiveShell.instance(); result = Result.find({str(result.folder)!r})\n"
        "data, _ = shell.display_formatter.format(result)\n"
        "print('<table>' in data['text/html'], data['text/plain'].startswith('<'))",
        tmp_path,
    )
    assert formatted.stdout.strip() == "True True", formatted.stderr


def document(**more: Any) -> dict[str, Any]:
    """Return what a run's table needs."""
    told = {
        "run": "r",
        "status": "done",
        "seconds": 1.0,
        "schedule": "article",
        "accuracy": None,
        "costs": [],
        "stages": [],
    }
    return told | more


def test_what_comes_from_a_run_is_escaped_in_a_notebook(tmp_path: Path) -> None:
    page = html(tmp_path / "<b>", document(status="failed", error="<script>alert(1)</script>"))
    assert "<script>" not in page
    assert "failed: &lt;script&gt;" in page


def test_a_run_of_many_stages_has_a_short_table(tmp_path: Path) -> None:
    stages = [{"name": f"box-{k}"} for k in range(1, 1001)]
    page = html(tmp_path, document(stages=stages, costs=[None, 0.25]))
    assert "box-12 … and 988 more" in page
    assert "– → 0.2500" in page
    assert line(document()) == "r: done, 1.0 s"


# Progress


class Terminal:
    """A standard error that is, or is not, a terminal, and keeps what is written to it."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        """Keep it."""
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""

    def isatty(self) -> bool:
        """Say what a notebook says."""
        return False


@pytest.mark.live
@pytest.mark.parametrize(
    ("prompt", "progress", "tells"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
def test_progress_is_told_in_lines_where_somebody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: bool, progress: bool | None, tells: bool
) -> None:
    monkeypatch.setattr("launch.progress.LINE_S", 0.05)
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    if prompt:
        monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    run(quick(tmp_path, train__epochs=20), progress=progress)
    assert ("of 200 batches: box-1" in stderr.text) == tells
    assert not {"\r", "\x1b"} & set(stderr.text)


# Runs that were made before


@pytest.mark.live
def test_a_run_is_found_again_with_all_that_it_has(tmp_path: Path) -> None:
    made = run(quick(tmp_path, run__name="first"))
    for word in ("latest", "first", str(made.folder)):
        found = Result.find(word, tmp_path)
        assert (found.folder.name, found.digest, found.costs) == (made.folder.name, made.digest, made.costs)
        assert found.journal == made.journal
    with pytest.raises(ConfigError, match="no run 'second': the newest are"):
        Result.find("second", tmp_path)
    (made.folder / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"it has no summary\.json to be read"):
        Result.find("first", tmp_path)


@pytest.mark.live
def test_a_run_that_fails_raises_one_line_that_names_the_stage_and_the_logs(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^box-2 \(process \d+\).* the logs are in .*logs$") as caught:
        run(quick(tmp_path, fault__kill="box-2@batch:5"))
    assert "\n" not in str(caught.value)
