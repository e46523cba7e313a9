"""A run in one file: what comes out elsewhere is the run, and nothing that is not one comes in."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch import archive, resolve, run, runs
from launch.cli import main
from launch.process import started_ticks
from pipeline.config import dump
from pipeline.errors import ConfigError

pytestmark = pytest.mark.in_process

EXAMPLES = Path(archive.__file__).with_name("examples")
QUICK = {"model.width": 8, "data.train": 10, "train.epochs": 2, "run.plot": False, "checkpoint.every": 10}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended, with checkpoints."""
    folder = tmp_path_factory.mktemp("here") / "runs"
    return run(resolve("article", flags={**QUICK, "run.dir": str(folder), "run.name": "shipped"})).folder


@pytest.fixture
def shipped(original: Path, tmp_path: Path) -> Path:
    """Its archive, in a folder that has no runs."""
    archive.export(original, tmp_path / "run.zip", lambda *_: None)
    return tmp_path / "run.zip"


def refused(capsys: pytest.CaptureFixture[str], *words: object, code: int = 2) -> str:
    """Return the one line with which a command is refused."""
    assert main([str(word) for word in words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("timebox: ")
    assert err.count("\n") == 1, err
    return err


@pytest.mark.live
def test_what_comes_out_elsewhere_is_the_run(
    original: Path, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "else where"
    (elsewhere / "home").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere / "home"))
    away = original.rename(original.with_name("gone"))
    try:
        assert main(["import", str(shipped)]) == 0
        assert f"timebox report {original.name}; likewise" in capsys.readouterr().out
        for words in (
            ["replay"],
            ["stats"],
            ["order", "--batch", "3"],
            ["report"],
            ["logs"],
            ["stacks"],
            ["logs", "--why"],
        ):
            assert main([*words, "shipped"] if words != ["logs", "--why"] else ["logs", "shipped", "--why"]) == 0
            assert capsys.readouterr().out
        (told,) = [runs.describe(folder) for folder in runs.all_runs(Path("runs"))]
        assert (told["status"], told["name"]) == ("done", "shipped")
        assert Path("runs/latest").resolve().name == original.name
    finally:
        away.rename(original)


def test_an_export_has_every_file_but_keys_links_and_parts_and_is_the_same_each_time(
    original: Path, tmp_path: Path
) -> None:
    copy = tmp_path / original.name
    shutil.copytree(original, copy, symlinks=True)
    (copy / "join").write_text("a key")
    (copy / ".x.part").write_text("half")
    (copy / "logs" / "link").symlink_to("/etc/passwd")
    (copy / "report.html").write_text("a page")
    told = [archive.export(folder, tmp_path / f"{n}.zip", lambda *_: None) for n, folder in enumerate((copy, original))]
    assert (tmp_path / "0.zip").read_bytes() == (tmp_path / "1.zip").read_bytes()
    assert told[0]["files"] == sum(path.is_file() for path in original.rglob("*"))


def test_a_run_that_goes_on_is_not_exported(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "runs" / original.name
    shutil.copytree(original, copy)
    (copy / "summary.json").unlink()
    state = {
        **(runs.read_json(copy / "launcher.json") or {}),
        "pid": os.getpid(),
        "started_ticks": started_ticks(os.getpid()),
    }
    (copy / "launcher.json").write_text(json.dumps(state))
    assert "goes on" in refused(capsys, "export", original.name)
    assert "its name ends with .zip" in refused(capsys, "export", original, "--out", "run.tar.gz")
    assert "is a folder" in refused(capsys, "export", original, "--out", tmp_path)
    assert list(tmp_path.glob("*.zip")) == []


def test_an_imported_run_has_no_process_of_this_machine(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its launcher's number may be anybody's here, and a run that died looked as if it went on."""
    copy = tmp_path / original.name
    shutil.copytree(original, copy)
    (copy / "summary.json").unlink()
    state = runs.read_json(copy / "launcher.json") or {}
    (copy / "launcher.json").write_text(json.dumps({**state, "pid": 10**9}))
    archive.export(copy, tmp_path / "run.zip", lambda *_: None)
    archive.unpack(tmp_path / "run.zip", tmp_path / "runs")
    state = runs.read_json(tmp_path / "runs" / original.name / "launcher.json") or {}
    assert state["pid"] is state["started_ticks"] is None
    assert {stage["pid"] for stage in state["stages"]} == {None}
    assert state["attempts"]
    assert main(["logs", "--why", "--run.dir", str(tmp_path / "runs")]) == 0
    assert "first cause: the launcher is gone" in capsys.readouterr().out


def test_what_is_there_is_not_written_over(shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("import", shipped, "--run.dir", tmp_path / "runs")
    assert main([str(word) for word in words]) == 0
    assert main([str(word) for word in words]) == 0
    assert "is there already, the same" in capsys.readouterr().out
    (log,) = (tmp_path / "runs").glob("2*/logs/head.log")
    log.write_text("mine")
    assert "not the same" in refused(capsys, *words)
    assert log.read_text() == "mine"
    assert "is there already" in refused(capsys, "export", "latest", "--run.dir", tmp_path / "runs", "--out", shipped)


def rewritten(
    source: Path,
    target: Path,
    change: Callable[[dict[str, Any], dict[str, bytes]], None],
    packing: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """Write an archive again, with its manifest and its members changed."""
    with zipfile.ZipFile(source) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    first = next(iter(members))
    manifest = json.loads(members[first])
    change(manifest, members)
    members[first] = json.dumps(manifest).encode()
    with zipfile.ZipFile(target, "w", packing) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return target


def named(name: str, content: bytes = b"x") -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    """Return a change that adds a file of this name, as sound as the others."""

    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        members[f"{manifest['run']}/{name}"] = content

    return change


def put(key: str, value: object) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    return lambda manifest, _: manifest.__setitem__(key, value)


def grown(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    members[f"{manifest['run']}/config.toml"] += b"#"


def without_config(manifest: dict[str, Any], _: dict[str, bytes]) -> None:
    del manifest["files"]["config.toml"]


def without_a_member(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    del members[f"{manifest['run']}/config.toml"]


def huge(manifest: dict[str, Any], _: dict[str, bytes]) -> None:
    manifest["files"]["config.toml"]["bytes"] = 10**18


CHANGES = {
    "a path above": (named("../out"), "manifest.json is not one"),
    "an absolute path": (named("/tmp/out"), "manifest.json is not one"),
    "a hidden file": (named("logs/.hidden"), "manifest.json is not one"),
    "an empty part": (named("logs//x"), "manifest.json is not one"),
    "a backslash": (named("logs\\x"), "manifest.json is not one"),
    "a line's end": (named("logs/a\nb"), "manifest.json is not one"),
    "a name too long": (named("x" * 300), "manifest.json is not one"),
    "a file below a file": (named("config.toml/x"), "manifest.json is not one"),
    "a page that a browser would run": (named("report.html"), "manifest.json is not one"),
    "a run above": (put("run", "../x"), "manifest.json is not one"),
    "a run called latest": (put("run", "latest"), "manifest.json is not one"),
    "no files": (put("files", []), "manifest.json is not one"),
    "a newer format": (put("format", 2), "its format is 2"),
    "no format": (put("format", None), "manifest.json is not one"),
    "more than it says": (grown, "config.toml is not what was exported"),
    "no configuration": (without_config, "holds no run"),
    "a configuration of something else": (named("config.toml", b"[tool]"), "config.toml"),
    "a member that is missing": (without_a_member, "config.toml is missing"),
    "more than it can have": (huge, "which no run does"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_an_archive_that_is_not_what_it_should_be_leaves_nothing(
    case: str, shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = CHANGES[case]
    other = rewritten(shipped, tmp_path / "other.zip", change)
    before = sorted(tmp_path.rglob("*"))
    assert words in refused(capsys, "import", other, "--run.dir", tmp_path / "runs")
    assert sorted(tmp_path.rglob("*")) == before


def test_damage_anywhere_is_found(shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = shipped.read_bytes()
    other = tmp_path / "other.zip"
    words = ("import", other, "--run.dir", tmp_path / "runs")
    for place in range(40, len(whole), len(whole) // 60):
        other.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        code = main([str(word) for word in words])
        err = capsys.readouterr().err
        # Some bytes of a ZIP file mean nothing, a time or a flag: then all that was exported is there.
        assert (code, err.count("\n")) in ((2, 1), (0, 0)), err
        if code == 0:
            shutil.rmtree(tmp_path / "runs")
        else:
            assert list((tmp_path / "runs").glob("*")) == []
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        other.write_bytes(whole[:size])
        assert "not an archive of `timebox export`, or only a part" in refused(capsys, *words)


def test_an_archive_that_is_packed_in_another_way_is_refused(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is compressed by LZMA and damaged ended in a traceback, and may ask for any memory."""
    other = rewritten(shipped, tmp_path / "other.zip", lambda *_: None, zipfile.ZIP_LZMA)
    assert "does not begin with manifest.json" in refused(capsys, "import", other, "--run.dir", tmp_path / "runs")
    with zipfile.ZipFile(shipped) as source, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as opened:
        for number, info in enumerate(source.infolist()):
            opened.writestr(info.filename, source.read(info), zipfile.ZIP_LZMA if number == 9 else None)
    assert "in another way" in refused(capsys, "import", other, "--run.dir", tmp_path / "runs")


def test_an_archive_that_would_blow_up_is_refused(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "BESIDES", 1_000_000)
    other = rewritten(shipped, tmp_path / "other.zip", named("logs/zeros", bytes(100_000_000)))
    assert "MB would unpack to 100 MB" in refused(capsys, "import", other, "--run.dir", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_full_disk_leaves_no_archive(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file that grows too large is then an error of its write
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        assert "run.zip: File too large" in refused(capsys, "export", original, "--out", "run.zip", code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_written_while_it_is_packed_is_not_exported(original: Path, tmp_path: Path) -> None:
    """Else there is an archive that cannot be imported, which comes to light when the run is gone."""
    copy = tmp_path / original.name
    shutil.copytree(original, copy)

    def observe(*_: int) -> None:
        (copy / "trace" / "head.trace").write_bytes(b"other")

    with pytest.raises(ConfigError, match=r"head\.trace: is being written"):
        archive.export(copy, tmp_path / "run.zip", observe)
    assert not (tmp_path / "run.zip").exists()


def test_a_run_in_virtual_time_comes_out_elsewhere_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no logs: it could be exported, and not be imported."""
    words = ["--model.width", "8", "--data.train", "10", "--train.epochs", "1"]
    assert main(["simulate", *words, "--arithmetic", "--out", str(tmp_path / "virtual")]) == 0
    archive.export(tmp_path / "virtual", tmp_path / "run.zip", lambda *_: None)
    assert main(["import", str(tmp_path / "run.zip"), "--run.dir", str(tmp_path / "runs")]) == 0
    assert main(["replay", "virtual", "--run.dir", str(tmp_path / "runs")]) == 0
    capsys.readouterr()


def test_an_import_says_whose_code_a_replay_runs_and_which_images_it_wants(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = tmp_path / original.name
    shutil.copytree(original, copy)
    flags = {"oracle.kind": "own", "oracle.file": str(EXAMPLES / "own_oracle.py")}
    flags |= {"data.source": "full", "data.dir": str(tmp_path), "data.train": 10}
    (copy / "config.toml").write_text(dump(resolve("article", flags=flags)), encoding="utf-8")
    told = archive.export(copy, tmp_path / "run.zip", lambda *_: None)
    assert "say where they are by data.dir in its config.toml" in told["wants"]
    assert main(["import", str(tmp_path / "run.zip"), "--run.dir", str(tmp_path / "runs")]) == 0
    err = capsys.readouterr().err
    assert f"run its own oracle.code: read that in {tmp_path / 'runs' / original.name / 'config.toml'}" in err
    assert "want the files of MNIST" in err


def test_one_run_that_tells_nonsense_does_not_cost_the_list(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "runs" / original.name
    shutil.copytree(original, copy)
    (copy / "summary.json").write_text(json.dumps({"status": "done", "accuracy": "all", "seconds": [1], "stages": 3}))
    assert main(["list", "--run.dir", str(tmp_path / "runs")]) == 0
    assert original.name in capsys.readouterr().out


def test_what_is_no_archive_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no such file" in refused(capsys, "import", tmp_path / "none.zip")
    assert "a folder, not an archive" in refused(capsys, "import", tmp_path)
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as opened:
        opened.writestr("letter.txt", "hello")
    assert "does not begin with manifest.json" in refused(capsys, "import", tmp_path / "some.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    assert "does not begin with manifest.json" in refused(capsys, "import", tmp_path / "empty.zip")


@pytest.mark.live
def test_the_page_is_written_again_only_when_the_run_has_gone_on(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER", "true")  # the program of that name takes the page, and does nothing
    shutil.copytree(original, tmp_path / "runs" / original.name)
    words = ["open", original.name, "--run.dir", str(tmp_path / "runs")]
    assert main([*words, "--print"]) == 0
    page = tmp_path / "runs" / original.name / "report.html"
    assert capsys.readouterr().out.splitlines()[0] == str(page)
    written = page.stat().st_mtime_ns
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["page"] == str(page)
    assert page.stat().st_mtime_ns == written
    os.utime(page, ns=(1, 1))
    assert main([*words, "--print"]) == 0
    assert page.stat().st_mtime_ns > written
