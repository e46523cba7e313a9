"""One file that holds a run, for another machine to replay, report and resume: written here, and read there with suspicion.

An archive is a ZIP file. Its first member, ID/manifest.json, names every other one in their order, with its size and sha256:

    20261122-030405-article/manifest.json            {"format": 1, "run": "20261122-030405-article", "files": {…}}
    20261122-030405-article/checkpoint/final/…

Nothing is taken from an archive but what its manifest says, so that neither paths that lead elsewhere, nor links, nor files
that grow without bound come in; the ZIP's own directory is not believed. A run's join file is a key and stays where it is, and
so do pages that are made from the rest: a browser runs what is in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pipeline
from pipeline import mnist
from pipeline.checks_own import OWN
from pipeline.config import load
from pipeline.errors import ConfigError
from pipeline.files import save, save_json, to_json
from pipeline.schema import TASKS

from . import outfile, runs

FORMAT = 1
MANIFEST = "manifest.json"
#: Keys, what is only of use while the run goes on, and what is made from the rest.
STAYS = {"join", "report.html", "timeline.html"}
LARGEST_MANIFEST = 1 << 26
CHUNK = 1 << 20
#: How members are packed; others are not read.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: An archive may unpack to so many times its size and so many bytes besides; DEFLATE reaches 1,000, a run's files far less.
TIMES, BESIDES = 200, 1 << 26

Tell = Callable[[int, int], None]


def export(folder: Path, out: Path | None, observe: Tell) -> dict[str, Any]:
    """Write a run that has ended into one file, by default ID.zip here; return what it holds. Raises ConfigError, OSError."""
    run = folder.name
    if runs.describe(folder)["status"] == "running":
        raise ConfigError(f"{run} goes on; export it when it has ended, `timebox stop {run}` ends it")
    out = Path(f"{run}.zip") if out is None else out
    if out.suffix.lower() != ".zip" and not out.is_dir():
        raise ConfigError(f"--out: {out.name!r} is no kind of archive; its name ends with .zip")
    outfile.check_place(out, f"{run}.zip")
    if out.exists():
        raise ConfigError(f"--out: {out} is there already; choose another file with --out, or remove it")
    paths = list(_files(folder))
    whole, done = sum(path.stat().st_size for path in paths), 0
    files: dict[str, dict[str, Any]] = {}
    for path in paths:
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    manifest = {"format": FORMAT, "timebox": pipeline.__version__, "run": run, "files": files}

    def write(stream: IO[bytes]) -> None:
        nonlocal done
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=5) as archive:
            archive.writestr(_member(run, MANIFEST), to_json(manifest, indent=1))
            for name in files:
                with (
                    (folder / name).open("rb") as source,
                    archive.open(_member(run, name), "w", force_zip64=True) as part,
                ):
                    digest = hashlib.sha256()
                    for piece in iter(lambda: source.read(CHUNK), b""):
                        part.write(piece)
                        digest.update(piece)
                        done += len(piece)
                        observe(done, whole)
                if digest.hexdigest() != files[name]["sha256"]:
                    raise ConfigError(f"{folder / name}: is being written; export the run again when that has ended")

    save(out, write)
    return {
        "run": run, "out": str(out.absolute()), "files": len(files), "bytes": whole, "archive_bytes": out.stat().st_size,
        "wants": _wants(folder),
    }  # fmt: skip


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a run, sorted; neither links, nor sockets, nor parts that were not completed."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        is_hidden = any(part.startswith(".") for part in inside)
        if path.is_file() and not path.is_symlink() and not is_hidden and inside[0] not in STAYS | {MANIFEST}:
            yield path


def _member(run: str, name: str) -> zipfile.ZipInfo:
    """Return a member's head, the same at each export of the same run."""
    info = zipfile.ZipInfo(f"{run}/{name}")
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    return info


def _wants(folder: Path) -> str:
    """Return what a replay of the run wants besides; nothing where the package has it."""
    data = load(folder / "config.toml").data
    if data.name in TASKS or data.source == "packaged":
        return ""
    if data.dir:
        return f"the files of MNIST, read from {data.dir}: elsewhere, say where they are by data.dir in its config.toml"
    return f"all of MNIST, which `timebox run --data.source full` fetches into {mnist.cache_folder()}"


def unpack(archive: Path, parent: Path) -> dict[str, Any]:
    """Take a run out of an archive into a folder of runs; return its folder. Raises ConfigError, and leaves nothing then."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return _unpack(archive, opened, parent)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, zipfile.BadZipFile) and "not a zip" in str(error):
            raise ConfigError(f"{archive}: not an archive of `timebox export`, or only a part of one") from None
        raise _damaged(archive, "what is compressed cannot be read") from None
    except FileNotFoundError:
        raise ConfigError(f"{archive}: there is no such file; `timebox export` makes one") from None
    except IsADirectoryError:
        raise ConfigError(f"{archive}: a folder, not an archive; a run that is a folder needs no import") from None
    except OSError as error:
        raise ConfigError(
            f"{archive}: cannot be taken into {parent}: {error.strerror or error}; choose another --run.dir"
        ) from None


def _unpack(archive: Path, opened: zipfile.ZipFile, parent: Path) -> dict[str, Any]:
    manifest = _manifest(archive, opened)
    run, files = manifest["run"], manifest["files"]
    runs.check_is_folder(parent, "--run.dir")
    folder = parent / run
    if folder.exists():
        if all(_is_same(folder / name, entry) for name, entry in files.items() if name != "launcher.json"):
            return {"run": run, "folder": str(folder), "files": len(files), "is_new": False, "warnings": []}
        raise ConfigError(f"{folder} is there already, and it is not the same; import it elsewhere with --run.dir")
    _check_size(archive, sum(entry["bytes"] for entry in files.values()), parent)
    made = [path for path in (parent, *parent.parents) if not path.exists()]
    part = parent / f".{os.getpid()}.part"
    try:
        (part / "logs").mkdir(parents=True)  # that of a run in virtual time is empty
        for name, entry in files.items():
            target = part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _take(archive, opened, f"{run}/{name}", entry, target)
        if not runs.is_run(part):
            raise ConfigError(f"{archive}: holds no run: config.toml is not in it; export the run again")
        warnings = list(_warnings(part, folder))
        _forget_processes(part)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        with contextlib.suppress(OSError):  # where the run has come in, they are not empty
            for path in made:
                path.rmdir()
    if not (parent / runs.LATEST).exists():
        runs.point_latest(parent, folder)
    return {"run": run, "folder": str(folder), "files": len(files), "is_new": True, "warnings": warnings}


def _check_size(archive: Path, whole: int, parent: Path) -> None:
    """Raise ConfigError for an archive that would blow up, or has no room."""
    size = archive.stat().st_size
    if whole > BESIDES + TIMES * size:
        raise _damaged(archive, f"{size / 1e6:.1f} MB would unpack to {whole / 1e6:,.0f} MB, which no run does")
    nearest = next(path for path in (parent, *parent.absolute().parents) if path.exists())
    if whole > shutil.disk_usage(nearest).free:
        raise ConfigError(
            f"{archive}: {whole / 1e6:,.1f} MB, and {parent} has not as much free; choose another --run.dir"
        )


def _warnings(folder: Path, place: Path) -> Iterator[str]:
    """Yield what somebody should know before a run that came from elsewhere is replayed; raises ConfigError."""
    config = load(folder / "config.toml")
    if own := [group for group, _, _ in OWN if getattr(config, group).code]:
        texts = " and ".join(f"{group}.code" for group in own)
        yield f"replay and resume run its own {texts}: read that in {place / 'config.toml'} if you do not know who wrote it"
    if wants := _wants(folder):
        with contextlib.suppress(ConfigError):
            mnist.locate(config.data, check=False)
            return
        yield f"replay and resume want {wants}"


def _manifest(archive: Path, opened: zipfile.ZipFile) -> dict[str, Any]:
    """Return an archive's manifest, with every name in it looked at."""
    first = opened.infolist()[0] if opened.infolist() else None
    if first is None or not first.filename.endswith(f"/{MANIFEST}") or first.compress_type not in PACKED:
        raise ConfigError(f"{archive}: a ZIP file, but not one of `timebox export`: it does not begin with {MANIFEST}")
    with opened.open(first) as stream:
        text = stream.read(LARGEST_MANIFEST)
    try:
        manifest = json.loads(text)
        if manifest["format"] > FORMAT:
            raise ConfigError(
                f"{archive}: its format is {manifest['format']}, this timebox reads {FORMAT}; "
                f"timebox {manifest['timebox']} wrote it: install that or a newer one"
            )
        run, files = manifest["run"], manifest["files"]
        names = [run, *files]
        sizes = [entry["bytes"] for entry in files.values()]
        is_sound = (
            all(_is_plain(name) for name in names)
            and len(PurePosixPath(run).parts) == 1
            and run != runs.LATEST
            and not STAYS & {*files}
            and not any(str(above) in files for name in files for above in PurePosixPath(name).parents)
            and all(isinstance(size, int) and size >= 0 for size in sizes)
            and all(isinstance(entry["sha256"], str) for entry in files.values())
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_sound = False
    if not is_sound:
        raise _damaged(archive, f"{MANIFEST} is not one")
    return dict(manifest)


def _is_plain(name: object) -> bool:
    """Whether a name leads to a place below, in the one way of writing it, that no other file of a run is written to."""
    if not isinstance(name, str) or not name.isprintable() or "\\" in name or len(name) > 1000:
        return False
    parts = name.split("/")
    return all(part and not part.startswith(".") and len(part.encode(errors="replace")) <= 255 for part in parts)


def _take(archive: Path, opened: zipfile.ZipFile, member: str, entry: dict[str, Any], target: Path) -> None:
    """Write one member into a new file, no more of it than the manifest says."""
    left, digest = entry["bytes"], hashlib.sha256()
    try:
        info = opened.getinfo(member)
    except KeyError:
        raise _damaged(archive, f"{member} is missing") from None
    if info.compress_type not in PACKED:
        raise _damaged(archive, f"{member} is packed in another way than `timebox export` does")
    with opened.open(info) as source, target.open("xb") as stream:
        while left and (piece := source.read(min(left, CHUNK))):
            digest.update(piece)
            stream.write(piece)
            left -= len(piece)
        if left or source.read(1) or digest.hexdigest() != entry["sha256"]:
            raise _damaged(archive, f"{member} is not what was exported")


def _forget_processes(folder: Path) -> None:
    """Take the processes' numbers out of launcher.json: here they are anybody's."""
    state = runs.read_json(folder / "launcher.json")
    if state is not None:
        stages = [{**stage, "pid": None} for stage in runs.stages_of(state)]
        save_json(folder / "launcher.json", {**state, "pid": None, "started_ticks": None, "stages": stages})


def _is_same(path: Path, entry: dict[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == entry["bytes"] and _sha256(path) == entry["sha256"]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _damaged(archive: Path, what: str) -> ConfigError:
    return ConfigError(f"{archive}: damaged: {what}; export the run again, or copy the file again")


def render_export(document: dict[str, Any]) -> str:
    """Return what `timebox export` prints."""
    text = (
        f"{document['out']}: {document['files']} files of {document['run']}, {document['bytes'] / 1e6:.1f} MB "
        f"in {document['archive_bytes'] / 1e6:.1f} MB\nelsewhere: timebox import {Path(document['out']).name}"
    )
    return f"{text}\nit wants besides: {document['wants']}" if document["wants"] else text


def render_import(document: dict[str, Any]) -> str:
    """Return what `timebox import` prints."""
    if not document["is_new"]:
        return f"{document['folder']} is there already, the same"
    parent = Path(document["folder"]).parent
    where = "" if parent == Path("runs") else f" --run.dir {shlex.quote(str(parent))}"
    return (
        f"{document['folder']}: {document['files']} files, all as they were exported\n"
        f"look into it: timebox report {document['run']}{where}; likewise stats, order, replay"
    )
