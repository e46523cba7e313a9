"""Strangers at every socket of a run: a million hostile messages, and whether it notices. `timebox bench hostile`

A run is started as a user starts it, over ipc and over tcp in turn. Where its sockets are stands in its launcher.json;
strangers connect to all of them by plain ZeroMQ and send messages of each class in turn, and scanners connect by plain
sockets, send nothing or junk, and close or stay. Where a run ends before all are sent, the next one gets the rest. Each
run has to end well, with every process alive to its end, and with the bits of a run that nobody disturbed.

What comes to a stage that is done is not looked at any more, so not all that was sent is dropped by name.

Memory is what the kernel counts as resident, from the first batches to the end of the flood, beside that of the undisturbed
run from its first batches to its end.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from pipeline.config import resolve
from pipeline.schema import Config

from . import runs
from .environment import collect, worker_environment
from .hostile import Forger
from .text import table

#: Messages in all.
MESSAGES = 1_000_000
#: Scanners that connect to each socket in the course of a run, and how many of them stay.
SCANNERS, STAYING = 60, 20
LAUNCHER = "launcher"
#: How long the last messages have to arrive, in milliseconds.
LINGER_MS = 10_000
#: Bytes of a frame that is above every limit.
TOO_LARGE = 64 << 20
#: Messages to a socket, one after the other, before the next one.
BURST = 50
#: Preset article, small, for some seconds.
FLAGS: dict[str, Any] = {
    "model.width": 16,
    "train.epochs": 100,
    "train.evaluate_every": 0,
    "log.level": "info",
    "run.plot": False,
}
_JUNK = (
    b"", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"\0" * 4000,
    b"\xff\0\0\0\0\0\0\0\x01\x7f", b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL",
    b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01CURVE" + b"\0" * 99,
)  # fmt: skip


def measure(repeats: int, messages: int = MESSAGES) -> dict[str, Any]:
    """Flood runs over ipc and tcp, half of the messages each, and return counts, memory, and whether the bits are the same."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="timebox-bench-") as folder:
        calm = _run(Path(folder), {"transport.kind": "ipc"}, 0, 0)
        for repeat in range(repeats):
            for kind in ("ipc", "tcp"):
                left = messages // 2
                while left > 0:
                    row = _run(Path(folder), {"transport.kind": kind}, left, repeat)
                    rows.append(row | {"same": row["digest"] == calm["digest"]})
                    left -= max(row["messages"], 1)
                    if row["status"] != "done":
                        break
    whole = {"messages": sum(row["messages"] for row in rows), "frames": sum(row["frames"] for row in rows)}
    is_fine = all(row["same"] and row["status"] == "done" and row["alive"] for row in rows)
    document = {"bench": "hostile", "repeats": repeats, "fine": is_fine, "calm": calm, "rows": rows, **whole}
    return document | {"environment": collect()}


def _run(folder: Path, flags: dict[str, Any], messages: int, seed: int) -> dict[str, Any]:
    """Start a run, flood it with at most so many messages, and return what became of both."""
    config = resolve("article", flags=FLAGS | flags)
    words = [word for key, value in (FLAGS | flags).items() for word in (f"--{key}", str(value).lower())]
    command = [sys.executable, "-m", "launch", "run", *words, "--run.dir", str(folder / "runs"), "--json"]
    before = set((folder / "runs").glob("*"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=worker_environment(), cwd=folder) as process:
        try:
            made, state = _at_work(folder / "runs", before, process)
            flood = Flood(config, sockets_of(state), seed)
            pids = {LAUNCHER: state["pid"]} | {stage["name"]: stage["pid"] for stage in state["stages"]}
            first = last = memory(pids)
            started = time.monotonic()
            alive = True
            if messages:
                flood.too_large()
            while process.poll() is None:
                is_over = flood.messages >= messages
                if is_over and messages:
                    break
                if messages:
                    flood.send(min(messages - flood.messages, 2_000))
                else:
                    time.sleep(0.05)
                found = memory(pids)
                last = found if len(found) == len(pids) else last
                alive = alive and (len(found) == len(pids) or (made / "summary.json").is_file() or _is_ending(made))
            seconds = time.monotonic() - started
            flood.close(at_once=process.poll() is not None)
            assert process.stdout is not None
            document = json.loads(process.stdout.read())
            process.wait()
        except BaseException:
            process.terminate()
            raise
    dropped = {stage["name"]: stage["dropped"] for stage in document["stages"]} | {LAUNCHER: dropped_by(made)}
    return {
        "transport": config.transport.kind,
        "status": document["status"],
        "digest": document["digest"],
        "alive": alive,
        "messages": flood.messages,
        "frames": flood.frames,
        "scanners": flood.scanners,
        "seconds": seconds,
        "sent": {name: dict(counts) for name, counts in flood.sent.items()},
        "dropped": dropped,
        "memory_mb": {name: [first[name], last[name]] for name in pids},
    }


def _is_ending(folder: Path) -> bool:
    """Whether the workers have been told that the run is over."""
    return ": done" in (folder / "logs" / "launcher.log").read_text(encoding="utf-8")


def _at_work(parent: Path, before: set[Path], process: subprocess.Popen[bytes]) -> tuple[Path, dict[str, Any]]:
    """Wait until a new run has done its first batches, and return its folder and its launcher.json."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        for folder in set(parent.glob("*")) - before:
            journal = folder / "journal" / "head.txt"
            state = runs.read_json(folder / "launcher.json")
            if not folder.is_symlink() and state and journal.is_file() and journal.stat().st_size:
                return folder, state
        time.sleep(0.01)
    raise RuntimeError("the run to be flooded did not begin")


def sockets_of(state: dict[str, Any]) -> dict[str, str]:
    """Return where the sockets of a run are bound, by name, from its launcher.json."""
    return {LAUNCHER: state["endpoint"]} | {stage["name"]: stage["endpoint"] for stage in state["stages"]}


def memory(pids: dict[str, int]) -> dict[str, float]:
    """Return the resident memory, in MB, of those processes that live."""
    found = {}
    for name, pid in pids.items():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    found[name] = int(line.split()[1]) / 1024
    return found


def dropped_by(folder: Path) -> int:
    """Return how many words the launcher has dropped, from its log."""
    lines = map(json.loads, (folder / "logs" / "launcher.log").read_text(encoding="utf-8").splitlines())
    return sum(line.get("dropped", 0) for line in lines)


class Flood:
    """Strangers at all sockets of a run: who sends what, and how much."""

    def __init__(self, config: Config, sockets: dict[str, str], seed: int) -> None:
        self.sent: dict[str, Counter[str]] = {name: Counter() for name in sockets}
        self.messages = self.frames = self.scanners = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets = sockets
        self._staying: list[socket.socket] = []
        self._rng = random.Random(seed)
        forger = Forger(config, seed)
        stages = {name: forger.plan.number(name) for name in sockets if name != LAUNCHER}
        self._pools = {name: forger.pools(stages.get(name, 0)) for name in sockets}
        self._ends = {name: self._connect(name) for name in sockets}
        self._turns = self._in_turn(forger.names)

    def _connect(self, name: str, identity: str = "") -> zmq.Socket[bytes]:
        end = self._context.socket(zmq.DEALER if name == LAUNCHER else zmq.PUSH)
        if identity:
            end.setsockopt_string(zmq.IDENTITY, identity)
        end.setsockopt(zmq.LINGER, LINGER_MS)
        end.setsockopt(zmq.SNDTIMEO, 200)
        end.connect(self._sockets[name])
        return end

    def _in_turn(self, names: list[str]) -> Iterator[tuple[str, zmq.Socket[bytes]]]:
        """Go round the sockets; to the launcher as nobody, and as each worker by its name."""
        workers = [self._connect(LAUNCHER, name) for name in names]
        while True:
            yield from self._ends.items()
            if workers:
                yield LAUNCHER, self._rng.choice(workers)

    def send(self, count: int) -> None:
        """Send so many messages, some to each socket in turn; a socket that takes no more for a while is passed over."""
        goal, refused = self.messages + count, 0
        while self.messages < goal and refused < 2 * len(self._sockets):
            name, end = next(self._turns)
            pools = self._pools[name]
            kind = self._rng.choice(tuple(pools))
            pool, counts = pools[kind], self.sent[name]
            try:
                for _ in range(min(BURST, goal - self.messages)):
                    frames = pool[counts[kind] % len(pool)]
                    end.send_multipart(frames)
                    self.messages += 1
                    self.frames += len(frames)
                    counts[kind] += 1
                refused = 0
            except zmq.Again:
                refused += 1
            if self.scanners < SCANNERS * len(self._sockets):
                self._scan(name)

    def _scan(self, name: str) -> None:
        """Connect as a port scanner does, say nothing or junk, and go or stay."""
        scheme, _, place = self._sockets[name].partition("://")
        found = socket.socket(socket.AF_UNIX if scheme == "ipc" else socket.AF_INET)
        found.settimeout(0.2)
        with contextlib.suppress(OSError):
            host, _, port = place.rpartition(":")
            found.connect(place if scheme == "ipc" else (host, int(port)))
            found.sendall(self._rng.choice(_JUNK))
        self.scanners += 1
        self._staying.append(found)
        if len(self._staying) > STAYING:
            self._staying.pop(self._rng.randrange(STAYING)).close()

    def too_large(self) -> None:
        """Send a frame above the limit to each socket, by strangers of their own: ZeroMQ hangs up on them."""
        for name in self._sockets:
            end = self._connect(name)
            with contextlib.suppress(zmq.Again):
                end.send(bytes(TOO_LARGE), copy=False)
            end.setsockopt(zmq.LINGER, LINGER_MS // 50)
            self.messages += 1
            self.frames += 1
            self.sent[name]["too large"] += 1

    def close(self, *, at_once: bool) -> None:
        """Go away, at once or when what was sent has arrived."""
        for end in self._staying:
            end.close()
        self._context.destroy(linger=0 if at_once else None)


def lines(document: dict[str, Any]) -> list[str]:
    """Return the benchmark's document for people."""
    classes: Counter[str] = Counter()
    rows = []
    for name in document["rows"][0]["sent"]:
        sent = sum(sum(row["sent"][name].values()) for row in document["rows"])
        dropped = sum(row["dropped"][name] or 0 for row in document["rows"])
        growth = max(row["memory_mb"][name][1] - row["memory_mb"][name][0] for row in document["rows"])
        calm = document["calm"]["memory_mb"][name]
        rows.append((name, f"{sent:,}", f"{dropped:,}", f"{growth:+.1f}", f"{calm[1] - calm[0]:+.1f}"))
        for row in document["rows"]:
            classes.update(row["sent"][name])
    same = sum(row["same"] for row in document["rows"])
    return [
        f"{document['messages']:,} hostile messages of {document['frames']:,} frames in {len(document['rows'])} runs",
        table(("socket", "sent", "dropped", "MB more", "undisturbed"), rows, left=(0,)),
        table(("class", "messages"), [(name, f"{count:,}") for name, count in classes.items()], left=(0,)),
        f"{sum(row['scanners'] for row in document['rows']):,} scanners connected besides",
        f"{same} of {len(document['rows'])} runs ended with the bits of an undisturbed one; "
        + ("every process lived to the end" if document["fine"] else "NOT all is as it should be"),
    ]
