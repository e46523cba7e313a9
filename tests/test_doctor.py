"""What `timebox doctor` says of a machine that lacks something is true, and its way out is one."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.cli import main

pytestmark = pytest.mark.in_process


def found(capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, tuple[str, str]]:
    """Return state and text of each check by its name."""
    assert main(["doctor", "--json", "--run.dir", "runs"]) == code
    return {each["name"]: (each["state"], each["text"]) for each in json.loads(capsys.readouterr().out)["checks"]}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _few_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_few_files")
def test_a_low_limit_of_open_files_comes_with_the_command_that_raises_it(capsys: pytest.CaptureFixture[str]) -> None:
    state, text = found(capsys)["open files"]
    assert (state, "`ulimit -n 1024` allows more" in text) == ("warning", True)


def test_a_limit_that_cannot_be_raised_comes_with_no_command_that_would_not() -> None:
    ended = subprocess.run(
        ["sh", "-c", 'ulimit -n 40; exec "$0" -m launch doctor --json', sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
    )
    (told,) = (check for check in json.loads(ended.stdout)["checks"] if check["name"] == "open files")
    assert (ended.returncode, told["state"]) == (1, "fault")
    assert "ulimit" not in told["text"]
    assert "take fewer boxes" in told["text"]


def test_a_path_that_is_too_long_for_sockets_is_no_fault_where_a_run_has_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    assert found(capsys)["sockets"] == ("ok", "ipc in /tmp; the path that TMPDIR names is too long for them")
    assert list(deep.iterdir()) == []


@pytest.mark.parametrize(
    ("required", "way_out"),
    [
        ("numpy>=99", "pip install 'numpy>=99'"),
        ("no-such-package>=1", "not installed; pip install 'no-such-package>=1'"),
    ],
)
def test_a_package_that_is_too_old_or_missing_comes_with_the_line_that_installs_it(
    required: str, way_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about = tmp_path / "timebox-9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: timebox\nVersion: 9\nRequires-Dist: {required}\n")
    monkeypatch.syspath_prepend(tmp_path)
    state, text = found(capsys, code=1)[required.partition(">")[0]]
    assert (state, way_out in text) == ("fault", True)


def test_a_package_that_is_not_installed_is_one_line_whatever_is_asked() -> None:
    ended = subprocess.run(  # -S: without what is installed beside Python
        [sys.executable, "-S", "-m", "launch", "run"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[1],
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("timebox: ")
    assert ended.stderr.count("\n") == 1
    assert "pip install" in ended.stderr
