"""The layers, read from the imports: a file imports only from its own or lower layers, and only one knows zmq."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sizes import drawn, too_long

ROOT = Path(__file__).parents[1]
LAYERS = [
    "errors schema_emulate schema_run schema levels presets config actions plan programs filled checks checks_traced "
    "checks_own checks_transport faults emulation costs mnist data arrays state stash sequences sizes learning drawn "
    "cells cells_rnn cells_gated cells_dense own_code cell_own task_own traces oracles oracle_mlp oracle_controls "
    "oracle_own optimizers fitting heads files frames keys strangers seals",
    "lacks counters standing done stage schedules reckon steps weights ledger readout guard classifier work stepper "
    "box head works payloads probe wire trace sums control results worklog checkpoints aside",
    "addresses transport tape recorder",
    "maxplus abreast drive grid simulate replay lifeline stacks backup emulate delays live heartbeat saver orders "
    "faulty attempt process worker network reference",
]
LAYER = {name: layer for layer, names in enumerate(LAYERS) for name in names.split()}
GROUPS = drawn("launch")
GROUP = {name: group for group, names in enumerate(GROUPS.values()) for name in names}

PIPELINE = sorted((ROOT / "pipeline").glob("*.py"))
LAUNCH = sorted((ROOT / "launch").glob("*.py"))
FILES = [*PIPELINE, *LAUNCH]

#: What needs a clock, a socket, a thread or a process.
IMPURE = {
    "asyncio",
    "multiprocessing",
    "select",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
    "zmq",
}
#: Who may know zmq, and why: the edge, the benchmark that holds it against raw pyzmq, and the one that is a stranger to it.
KNOW_ZMQ = {"pipeline/transport.py", "launch/bench.py", "launch/bench_hostile.py"}
#: Words that mean something else to everybody (CONTRIBUTING: one word, one meaning), and whose they are where they stand.
NOT_USED = {"node", "rank", "manager", "handler", "helper", "util"}
OTHERS_WORDS = {
    "pipeline/schema_run.py": {"node"},  # Ray's
    "pipeline/worklog.py": {"handler"},  # logging's
    "launch/bench_torch.py": {"rank"},  # torch's, as in the next one
    "launch/torch_peer.py": {"rank"},
    "launch/joining.py": {"rank"},  # Open MPI's and PMI's variables
    "launch/keeper.py": {"node"},  # Ray's, as in the next one
    "launch/placer_ray.py": {"node", "manager", "util"},
}
#: The log's lines carry the time at which they were written.
KNOW_TIME = {"worklog"}


def place(path: Path) -> str:
    """Return a file's place in the repository."""
    return path.relative_to(ROOT).as_posix()


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Return the dotted name of every module that a file imports, wherever in it; ours in full: `pipeline.plan`."""
    return frozenset(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    package = path.parent.name
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level < 2, f"{place(path)} imports from above its package"
            base = ".".join(filter(None, (package if node.level else "", node.module)))
            if base in ("pipeline", "launch"):
                folder = ROOT / base
                yield from (f"{base}.{a.name}" if (folder / f"{a.name}.py").is_file() else base for a in node.names)
            else:
                yield base


def own(path: Path) -> set[str]:
    """Return which modules of its own package a file imports."""
    package = path.parent.name
    found = {name.removeprefix(f"{package}.") for name in imports(path) if name.startswith(f"{package}.")}
    return {name.partition(".")[0] for name in found}


def test_every_file_of_the_pipeline_has_a_layer() -> None:
    assert {path.stem for path in PIPELINE} - {"__init__"} == set(LAYER)


def test_the_pipeline_draws_its_layers_as_they_are() -> None:
    assert [sorted(names) for names in drawn("pipeline").values()] == [sorted(names.split()) for names in LAYERS]


def test_every_file_of_the_launcher_is_drawn_once() -> None:
    names = [name for names in GROUPS.values() for name in names]
    assert sorted(names) == sorted({path.stem for path in LAUNCH} - {"__init__"}), "launch/__init__.py draws them"


@pytest.mark.parametrize("path", LAUNCH, ids=place)
def test_a_file_of_the_launcher_imports_only_from_its_own_group_or_those_drawn_above(path: Path) -> None:
    if path.stem != "__init__":
        assert {name for name in own(path) & GROUP.keys() if GROUP[name] > GROUP[path.stem]} == set()


def test_no_file_of_the_product_is_too_long() -> None:
    assert too_long() == []


@pytest.mark.parametrize("path", PIPELINE, ids=place)
def test_a_file_imports_only_from_its_own_or_lower_layers(path: Path) -> None:
    if path.stem == "__init__":
        assert set(imports(path)) == set(), "importing the package imports nothing else"
    else:
        assert {name for name in own(path) if LAYER[name] > LAYER[path.stem]} == set()


@pytest.mark.parametrize("files", [PIPELINE, LAUNCH], ids=["pipeline", "launch"])
def test_no_file_imports_itself_in_a_circle(files: list[Path]) -> None:
    graph = {path.stem: own(path) for path in files}
    while leaves := [name for name, used in graph.items() if not used & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert graph == {}, "these import each other"


@pytest.mark.parametrize("path", FILES, ids=place)
def test_only_the_edge_knows_zmq(path: Path) -> None:
    assert place(path) in KNOW_ZMQ or "zmq" not in {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", [path for path in PIPELINE if LAYER.get(path.stem, 9) < 2], ids=place)
def test_facts_and_rules_know_no_clock_socket_thread_or_process(path: Path) -> None:
    allowed = {"time"} if path.stem in KNOW_TIME else set()
    assert {name.partition(".")[0] for name in imports(path)} & IMPURE <= allowed


@pytest.mark.parametrize(
    "name", ["lacks", "standing", "stage", "schedules", "reckon", "steps", "actions", "plan", "control"]
)
def test_the_rules_know_no_array(name: str) -> None:
    assert "numpy" not in {module.partition(".")[0] for module in imports(ROOT / "pipeline" / f"{name}.py")}


@pytest.mark.parametrize("name", ["lacks", "standing", "stage", "schedules", "reckon", "steps", "actions"])
def test_the_rules_know_no_randomness_and_no_file(name: str) -> None:
    modules = {module.partition(".")[0] for module in imports(ROOT / "pipeline" / f"{name}.py")}
    assert modules & {"random", "secrets", "os", "pathlib", "io"} == set()


@pytest.mark.parametrize("path", PIPELINE, ids=place)
def test_the_pipeline_never_imports_the_launcher(path: Path) -> None:
    assert {name for name in imports(path) if name.partition(".")[0] == "launch"} == set()


def test_the_supervisor_is_pure() -> None:
    assert {name.partition(".")[0] for name in imports(ROOT / "launch" / "supervise.py")} & (
        IMPURE - {"signal"}
    ) == set()


@pytest.mark.parametrize("path", PIPELINE, ids=place)
def test_the_pipeline_prints_nothing(path: Path) -> None:
    calls = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    assert [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"] == []


@pytest.mark.parametrize("path", FILES, ids=place)
def test_nobody_unpickles(path: Path) -> None:
    assert {name.partition(".")[0] for name in imports(path)} & {"pickle", "marshal", "shelve", "dill"} == set()


@pytest.mark.parametrize("path", FILES, ids=place)
def test_a_word_that_is_not_used_stands_nowhere_in_names_docstrings_comments_and_messages(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("importlib.util", "")
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)
    assert {word.lower().removesuffix("s") for word in words} & NOT_USED == OTHERS_WORDS.get(place(path), set())


def undocumented(node: ast.AST, prefix: str) -> Iterator[str]:
    """Yield the public functions, classes and methods in a module or class that have no docstring."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and child.name[0] != "_":
            name = f"{prefix}{child.name}"
            if not ast.get_docstring(child):
                yield name
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child, f"{name}.")


@pytest.mark.parametrize("path", FILES, ids=place)
def test_every_module_and_everything_public_in_it_has_a_docstring(path: Path) -> None:
    tree = parsed(path)
    assert ast.get_docstring(tree), "the module"
    assert list(undocumented(tree, "")) == []
