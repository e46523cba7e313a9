"""Every bad input gives one clear line that names what is wrong and the way out, exit code 2, and no run folder."""

from __future__ import annotations

import gzip
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch import Run, resolve
from launch.cli import main
from launch.runs import make_run
from pipeline.mnist import FILES

pytestmark = pytest.mark.in_process

IMAGES = "train-images-idx3-ubyte"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Should a test get as far as the cache, it is an empty one.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one line on standard error of a command that must be refused; it may not have left anything."""
    before = sorted(str(path) for path in Path().rglob("*"))
    code = main(list(words))
    _, err = capsys.readouterr()
    assert code == 2
    assert err.startswith("timebox: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert "Error" not in err, "the name of an exception is not a message for people"
    assert sorted(str(path) for path in Path().rglob("*")) == before, "something was written"
    return err


def assert_names(err: str, *parts: str) -> None:
    for part in parts:
        assert part in err


#: Makes a run short that is wrongly not refused.
SHORT = ["--model.width", "8", "--data.train", "2", "--train.epochs", "1", "--run.plot", "false"]

# Flags. Each case: the flags, then what the line must name.
FLAGS = {
    "unknown flag": (["--model.widht", "5"], "--model.widht", "did you mean --model.width"),
    "unknown flag with =": (["--schedule.windw=5"], "--schedule.windw", "did you mean --schedule.window"),
    "unknown flag like none": (["--bogus"], "--bogus", "timebox run --help"),
    "abbreviated flag": (["--model.wid", "5"], "--model.wid", "--model.width"),
    "stray word": (["twice"], "argument twice", "timebox run --help"),
    "value left out": (["--preset"], "--preset", "timebox run --help"),
    "word for a number": (["--model.width", "wide"], "model.width", "int", "'wide'"),
    "fraction for a count": (["--model.boxes", "2.5"], "model.boxes", "int", "'2.5'"),
    "empty for a number": (["--train.epochs", ""], "train.epochs", "int", "''"),
    "word for yes or no": (["--model.tied", "maybe"], "model.tied", "true, false", "'maybe'"),
    "unknown schedule": (
        ["--schedule.kind", "lockd"],
        "schedule.kind",
        "article, locked, gpipe, 1f1b, delayed, decoupled, own",
        "'lockd'",
    ),
    "unknown loss": (["--model.loss", "hinge"], "model.loss", "squared, bce, softmax"),
    "window of 0": (["--schedule.window", "0"], "schedule.window", ">= 1", "'0'"),
    "window of 0, decoupled": (["--preset", "digits", "--schedule.window", "0"], "schedule.window", ">= 1", "'0'"),
    "window below 0": (["--schedule.kind", "decoupled", "--schedule.window=-3"], "schedule.window", ">= 1", "'-3'"),
    "window for a program": (["--schedule.window", "4"], "schedule.window", "1 batch in flight", "decoupled"),
    "no boxes": (["--model.boxes", "0"], "model.boxes", ">= 1"),
    "no epochs": (["--train.epochs", "0"], "train.epochs", ">= 1"),
    "rate below 0": (["--train.rate_head=-1"], "train.rate_head", ">= 0"),
    "rate that is no number": (["--train.rate_head", "nan"], "train.rate_head", "nan"),
    "rate without end": ([*SHORT, "--train.rate_head", "inf"], "train.rate_head", "inf"),
    "first weights without end": ([*SHORT, "--model.init", "inf"], "model.init", "inf"),
    "more boxes than steps": (["--data.reading", "rows", "--model.boxes", "29"], "model.boxes", "29", "at most 28"),
    "boxes and steps do not fit": (
        ["--data.reading", "rows", "--model.boxes", "3", "--model.steps_per_box", "9"],
        "model.steps_per_box",
        "27",
        "28",
        "0 spreads them evenly",
    ),
    "batch above the images": (["--data.batch", "51"], "data.batch", "51", "at most 50"),
    "more images than packaged": (["--data.train", "2100"], "data.train", "2,115", "--data.source full"),
    "more images than there are": (["--data.source", "full", "--data.train", "60000"], "data.train", "12,665"),
    "folder that is not read": (["--data.dir", "here"], "data.dir", "--data.source full"),
    "unknown preset": (["--preset", "artcle"], "--preset", "'artcle'", "article, digits"),
    "no such file": (["--config", "absent.toml"], "absent.toml", "No such file"),
    "a folder as file": (["--config", "."], "cannot read the configuration", "directory"),
    "port above all": (["--transport.kind", "tcp", "--transport.port", "65536"], "transport.port", "65535"),
    "stages past the last port": (
        ["--transport.kind", "tcp", "--transport.port", "65533"],
        "transport.port",
        "65533",
        "choose a lower one",
    ),
    "name with a slash": (["--run.name", "../up"], "run.name", "'../up'"),
    "empty run folder": (["--run.dir", ""], "run.dir"),
    "reference of decoupled": (
        ["--reference", "--schedule.kind", "decoupled"],
        "--reference",
        "article, locked, gpipe",
    ),
    "reference of a greedy preset": (["--reference", "--preset", "digits"], "--reference", "article, locked, gpipe"),
    "micro-batches that do not divide": (
        ["--schedule.kind", "gpipe", "--data.batch", "10", "--schedule.micro_batches", "3"],
        "schedule.micro_batches",
        "3 parts do not divide data.batch, 10 rows",
        "1, 2, 5, 10 do",
    ),
    "micro-batches of a last batch that is smaller": (
        ["--schedule.kind", "gpipe", "--data.batch", "8"],
        "data.train",
        "50 images are no multiple of data.batch 8",
        "48 are",
    ),
    "micro-batches for locked": (
        ["--schedule.kind", "locked", "--data.batch", "10", "--schedule.micro_batches", "5"],
        "schedule.micro_batches",
        "locked does not cut batches",
        "gpipe, 1f1b, own",
    ),
    "tied 1f1b": (["--schedule.kind", "1f1b"], "model.tied", "1f1b", "--model.tied false"),
    "tied delayed": (["--schedule.kind", "delayed"], "model.tied", "delayed", "--model.tied false"),
    "delay for article": (["--schedule.delay", "3"], "schedule.delay", "only read by delayed"),
    "stash for bootstrapped targets": (["--schedule.weights", "stash"], "schedule.weights", "--oracle.target true"),
    "own without a file": (["--schedule.kind", "own"], "schedule.file", "name its file"),
    "a schedule that is not there": (["--schedule.file", "nope.txt"], "schedule.file", "nope.txt", "No such file"),
    "a schedule for another kind": (
        ["--schedule.kind", "locked", "--schedule.file", __file__],
        "schedule.file",
        "not by locked",
    ),
    "no bandwidth": (["--emulate.bandwidth", "0"], "emulate.bandwidth", "> 0.0", "'0'"),
    "no bandwidth on an edge": (["--emulate.bandwidth", "box-1>box-2=0"], "emulate.bandwidth", "> 0.0"),
    "a delay below 0": (["--emulate.delay_ms=-1"], "emulate.delay_ms", ">= 0.0"),
    "an edge that is none": (["--emulate.delay_ms", "box-1-box-2=3"], "emulate.delay_ms", "box-1>box-2"),
    "an edge to nowhere": (["--emulate.jitter", "box-1>box-9=3"], "emulate.jitter", "'box-9' is no stage"),
    "an edge that there is not": (["--emulate.delay_ms", "box-1>head=5"], "emulate.delay_ms", "there is no such edge"),
    "weights that there are not": (["--schedule.weights", "bogus"], "schedule.weights", "stash, latest"),
    "a bandwidth in words": (["--emulate.bandwidth", "abc"], "emulate.bandwidth", "a number, or name=number"),
    "an edge to itself": (["--emulate.jitter", "head>head=3"], "emulate.jitter", "no stage sends to itself"),
    "an action that is not padded": (["--emulate.compute_ms", "U=3"], "emulate.compute_ms", "F, B, T, or all"),
    "no arithmetic and no time": (["--emulate.arithmetic", "false"], "emulate.arithmetic", "emulate.compute_ms"),
    "a chance above 1": (["--emulate.straggle", "1.5"], "emulate.straggle", "<= 1.0"),
}


@pytest.mark.parametrize(("flags", "names"), [(case[0], case[1:]) for case in FLAGS.values()], ids=list(FLAGS))
def test_a_bad_flag_is_one_line_that_names_it(
    flags: list[str], names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_names(refused(capsys, "run", *flags), *names)


# Files. Each case: the file's text, then what the line must name besides the file.
CONFIGS = {
    "unknown key": ("[model]\nwidht = 5\n", "model.widht", "unknown key", "did you mean width?"),
    "unknown key like none": ("[log]\ncolour = 5\n", "log.colour", "unknown key", "known are level"),
    "unknown group": ("[modle]\nwidth = 5\n", "modle", "unknown group", "did you mean model?"),
    "key outside a group": ("width = 5\n", "width", "unknown group"),
    "group that is a value": ("model = 5\n", "model", "[model]"),
    "text for a number": ('[model]\nwidth = "5"\n', "model.width", "expected int", "got str"),
    "yes for a number": ("[model]\nboxes = true\n", "model.boxes", "expected int", "got bool"),
    "number for a word": ("[schedule]\nkind = 3\n", "schedule.kind", "expected str", "got int"),
    "unknown word": ('[schedule]\nkind = "lockd"\n', "schedule.kind", "'lockd'"),
    "list for a number": ("[train]\nepochs = [1]\n", "train.epochs", "expected int"),
    "window of 0": ('[schedule]\nkind = "decoupled"\nwindow = 0\n', "schedule.window", ">= 1"),
    "rate that is no number": ("[train]\nrate_head = nan\n", "train.rate_head"),
    "rate without end": ("[train]\nrate_head = inf\nepochs = 1\n[model]\nwidth = 8\n", "train.rate_head"),
    "not TOML": ("[model\nwidth = 5\n", "not TOML", "line 1"),
    "key twice": ("[model]\nwidth = 5\nwidth = 6\n", "not TOML", "line 3"),
    "more boxes than steps": ('[model]\nboxes = 29\n[data]\nreading = "rows"\n', "model.boxes", "at most 28"),
}


@pytest.mark.parametrize(("text", "names"), [(case[0], case[1:]) for case in CONFIGS.values()], ids=list(CONFIGS))
def test_a_bad_file_is_one_line_that_names_the_key(
    text: str, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.toml").write_text(text)
    err = refused(capsys, "run", "--config", "mine.toml")
    assert_names(err, *names)
    if "model.boxes" not in names or "29" not in text:  # what concerns several keys may come from several layers
        assert "mine.toml" in err


def test_a_file_that_is_not_text_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_bytes(b"\xff\xfe\x00[model]")
    assert_names(refused(capsys, "run", "--config", "mine.toml"), "mine.toml", "not TOML", "UTF-8")


def test_a_bad_flag_over_a_good_file_is_blamed_on_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text("[model]\nwidth = 5\n")
    err = refused(capsys, "run", "--config", "mine.toml", "--model.width", "wide")
    assert_names(err, "flag", "model.width", "'wide'")
    assert "mine.toml" not in err


# Data


def _empty(path: Path) -> None:
    path.touch()


def _cut_short(path: Path) -> None:
    path.write_bytes(b"\x00\x00\x08\x03" + bytes(1000))


def _too_long(path: Path) -> None:
    path.touch()
    os.truncate(path, FILES[IMAGES][2] + 1)


def _other_bits(path: Path) -> None:
    path.touch()
    os.truncate(path, FILES[IMAGES][2])


def _not_gzip(path: Path) -> None:
    path.write_bytes(b"<html>404 not found</html>")


def _gzip_cut_short(path: Path) -> None:
    path.write_bytes(gzip.compress(os.urandom(5000))[:3000])


def _gzip_of_other_bits(path: Path) -> None:
    path.write_bytes(gzip.compress(bytes(5000)))


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        (IMAGES, _empty, "has 0 bytes"),
        (IMAGES, _cut_short, "has 1,004 bytes"),
        (IMAGES, _too_long, "has more than 47,040,016"),
        (IMAGES, _other_bits, "sha256"),
        (f"{IMAGES}.gz", _not_gzip, "cannot be read"),
        (f"{IMAGES}.gz", _gzip_cut_short, "cannot be read"),
        (f"{IMAGES}.gz", _gzip_of_other_bits, "has 5,000 bytes"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_damaged_data_file_is_named_with_the_way_out(
    name: str, damage: object, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(damage)
    folder = Path("images")
    folder.mkdir()
    damage(folder / name)
    err = refused(capsys, "run", "--data.source", "full", "--data.dir", "images")
    assert_names(err, f"images/{name}", says, "--data.source packaged")


# Folders and ports


@pytest.mark.parametrize("below", ["", "/runs", "/a/b"])
@pytest.mark.parametrize("reference", [[], ["--reference"]], ids=["live", "reference"])
def test_a_run_folder_that_cannot_be_made_is_named(
    below: str, reference: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").write_text("a file where a folder should be")
    err = refused(capsys, "run", *reference, "--run.dir", f"taken{below}")
    assert_names(err, "run.dir", f"taken{below}", "--run.dir")
    assert Path("taken").read_text() == "a file where a folder should be"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


@pytest.mark.parametrize("before", [0, 1, 3], ids=["launcher", "box-1", "head"])
def test_a_port_in_use_is_named_whoever_needs_it(
    before: int, taken_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    first = taken_port - before  # the launcher's; stage k takes the k-th after it
    err = refused(capsys, "run", "--transport.kind", "tcp", "--transport.port", str(first))
    assert_names(err, "transport.port", "in use", "choose another port", "0 for any free ones")
    if before == 0:
        assert str(taken_port) in err


# Commands that look at runs


@pytest.fixture
def a_run() -> Path:
    """Make a run's folder with nothing in its logs."""
    config = resolve(flags={"run.dir": "runs", "run.name": "mine"})
    assert config.run == Run(name="mine")
    folder = make_run(config, "article")
    for stage in ("box-1", "box-2", "head"):
        (folder / "logs" / f"{stage}.log").touch()
    return folder


@pytest.mark.parametrize("command", ["logs", "order"])
@pytest.mark.parametrize("run", ["nowhere", "latest", "2031", "a/b"])
def test_an_unknown_run_is_named(command: str, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert_names(refused(capsys, command, run), repr(run), "runs", "timebox run")


@pytest.mark.parametrize("command", ["logs", "order"])
def test_an_unknown_run_beside_others_shows_the_newest(
    command: str, a_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_names(refused(capsys, command, "nowhere"), "'nowhere'", a_run.name)


def test_a_run_of_which_too_little_is_said_shows_which_it_may_be(
    a_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_run(resolve(flags={"run.dir": "runs", "run.name": "other"}), "article")
    assert_names(refused(capsys, "order", a_run.name[:4]), a_run.name, other.name, "say more")


@pytest.mark.parametrize("stage", ["box-3", "Head", "box", "head.log", ""])
def test_an_unknown_stage_shows_those_there_are(stage: str, a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = refused(capsys, "logs", a_run.name, "--stage", stage)
    assert_names(err, "--stage", repr(stage), "box-1", "box-2", "head")


def test_following_and_one_document_exclude_each_other(a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_names(refused(capsys, "logs", a_run.name, "--follow", "--json"), "--follow", "--json")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["trian"], ["'trian'", "run", "order"]),
        (["order", "latest", "--batch", "first"], ["--batch", "'first'", "timebox order --help"]),
        (["logs", "latest", "--batch", "1.5"], ["--batch", "'1.5'", "timebox logs --help"]),
        (["logs", "latest", "--stge", "head"], ["--stge", "did you mean --stage"]),
        (["order", "latest", "--bacth", "3"], ["--bacth", "did you mean --batch"]),
        (["list", "--jsn"], ["--jsn", "did you mean --json"]),
        (["doctor", "--run.dri", "x"], ["--run.dri", "did you mean --run.dir"]),
        (["list", "all"], ["argument all", "timebox list --help"]),
        (["--verison"], ["--verison", "--version"]),
        (["bench"], ["WHAT"]),
        (["bench", "hopp"], ["'hopp'", "hop"]),
        (["bench", "hop", "--repeats", "0"], ["--repeats", "at least 1"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_command_misspelt_is_one_line_with_what_may_be_meant(
    words: list[str], names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_names(refused(capsys, *words), *names)


@pytest.mark.parametrize("action", ["Q", "F3x", "forward", "3"])
def test_an_action_that_cannot_be_is_named(action: str, a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = refused(capsys, "logs", a_run.name, "--action", action)
    assert_names(err, "--action", repr(action))
