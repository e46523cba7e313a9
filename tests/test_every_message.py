"""Every message by which a command or a run is refused, read from the sources: what they keep to, which have no way out.

`pytest -s -k listing tests/test_every_message.py` prints them all.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FAMILY = {"ConfigError", "RunError", "ScheduleError", "WireError", "DivergedError"}

#: What names a way out: a flag, a command, what is wanted, an advice after a semicolon, what is possible.
WAY_OUT = re.compile(
    r"--|`|; |\b(choose|one of|did you mean|wanted|instead|set|install|needed|must|should|needs|at least|at most|known|"
    r"remove|name|give|say|takes|only|from \d|above|below|there is none)\b|>= "
)
#: Where the way out is to mend what is named and nothing else can be said, by why that is so.
MENDS_ITSELF = {
    "the place in the user's own file is told": (
        "{}, line {}: {}", "{}{}: {}: {}", "{}: not Python: {}", "{}: it has no class {}", "{}: not TOML: {}",
        "{}: not TOML: the file is not UTF-8 text", "{}: not a configuration: its tables are nested too deep",
        "{}: cannot read the configuration: {}", "{}: {}.file: {}: the file is not UTF-8 text",
        "{}: {}.file: {}: cannot read the {}: {}", "{}: config: there is no file {}", "{}: there is no key {}{}",
        "{}: {}: expected a table of keys, as in [{}]", "{}: {} is how such a key looks", "{} {}: {}{}",
        "{}: Oracle.predict returned a number that is not finite, for an activation of zeros",
        "{}: Task.draw drew a number that is not finite",
        "{}: Task.draw: with model.loss softmax each row of y adds up to 1: one class, one-hot",
        "{}: Cell.backward: its gradient at {} is not the slope of its forward: {} along some direction, {} by differences",
        "{}: with oracle.target traced {}",
        "{}: Placer.start(self, stage, words, line) is called with three arguments: {}",
    ),
    "what is possible is told": (
        "{}: {}: this run has {} stages: 0 to {}, or box-1 to head", "{}: {}: the batches that travel there are 0 to {}",
        "{}: {}: it happens to a stage, as box-1, not on an edge",
        "{}: {}: it happens on an edge, as box-1>box-2, not to a stage",
        "fault.{}: {} is there twice", "fault.{}: {}: one message has one fault, and it has another already",
        "{}: {}: no stage sends to itself", "{}: {}: {} names one twice",
        "abreast: it knows untied boxes by decoupled (with oracles), locked and 1f1b without micro-batches",
        "abreast: constant actions and hops, stragglers, and a processor for each stage are what it can",
        "max-plus: free messages, constant hops and a processor for each stage are what it can do",
    ),
    "it is the finding itself: a record that was changed cannot be had again": (
        "{}.sums: has more sums than the run has arrays", "{}: its journals are not of this configuration: {}",
        "{}: damaged: the seal of {} makes no sense", "{}: damaged: it does not list its stages",
        "{}: is not what {} wrote: it was changed or cut after the run",
        "bench simulate: the kernels disagree on {} with {} boxes: {}",
        "nothing is on record of what {} of {} costs",
    ),
    "a reference has no workers that could be asked": (
        "{} is a reference: one process, which writes no stacks", "{} is a reference: one process, which waits for nobody",
        "{} has no workers: {} is missing",
        "{} has no trace: {}",
    ),
    "what is wrong with the data's file, or the network, is told": (
        "{}: not an IDX file of bytes (its magic number is {})", "{}: the IDX header is cut short",
        "{}: its header promises {}, it holds {} values", "{}: {} images, but {} labels in {}",
        "its sha256 is not that of MNIST", "{}: cannot bind {}: {}", "transport.interface: {} is no address of this machine",
        "{}: no way leads there from here ({})", "placer.address: no Ray cluster answers at {}: {}",
        "placer.kind: Ray could not start a cluster here: {}", "the launcher calls its run {}", "the launcher gives a file {}",
    ),
}  # fmt: skip
ALLOWED = {text for texts in MENDS_ITSELF.values() for text in texts}


class Message(NamedTuple):
    """Where a message stands, its kind, and its text, with {} for what is filled in."""

    place: str
    kind: str
    text: str

    @property
    def is_passed_on(self) -> bool:
        """Whether nearly all of it comes from another message, which is looked at where that stands."""
        return len(re.findall(r"[a-z]{2,}", self.text.replace("{}", ""))) < 3 and self.text.rstrip("'\")}").endswith(
            "{"
        )


def text_of(found: ast.expr) -> str:
    """Return the text of an expression as far as it stands there."""
    if isinstance(found, ast.Constant) and isinstance(found.value, str):
        return found.value
    if isinstance(found, ast.JoinedStr):
        return "".join(text_of(part) for part in found.values)
    if isinstance(found, ast.BinOp):
        return text_of(found.left) + text_of(found.right)
    if isinstance(found, ast.IfExp):
        return text_of(found.body)
    return "{}"


@functools.cache
def messages() -> list[Message]:
    """Return every message of the family, in the order of the files."""
    found = []
    for path in sorted([*(ROOT / "pipeline").glob("*.py"), *(ROOT / "launch").glob("*.py")]):
        for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id in FAMILY and each.args:
                place = f"{path.relative_to(ROOT).as_posix()}:{each.lineno}"
                found.append(Message(place, each.func.id, text_of(each.args[0])))
    return found


def test_the_listing_has_them_all() -> None:
    found = messages()
    for each in found:
        print(f"{each.place}  {each.kind}  {each.text}")
    assert len(found) > 400
    assert {each.kind for each in found} >= {"ConfigError", "RunError", "ScheduleError", "WireError"}


def test_each_is_one_line_without_a_stop_or_an_exceptions_name() -> None:
    for each in messages():
        assert "\n" not in each.text, each
        assert not each.text.endswith("."), each
        assert not re.search(r"\b\w+Error\b|Errno|Traceback", each.text), each
        assert not re.match(r"[A-Z][a-z]+ [a-z]", each.text), each


def test_each_refusal_says_the_way_out() -> None:
    without = [
        each
        for each in messages()
        if each.kind == "ConfigError"
        and not each.is_passed_on
        and not WAY_OUT.search(each.text)
        and each.text not in ALLOWED
    ]
    assert without == []


@pytest.mark.parametrize("text", sorted(ALLOWED))
def test_what_is_allowed_to_go_without_is_still_there(text: str) -> None:
    assert text in {each.text for each in messages()}
