"""What the launcher has to do for so many stages: words and bytes a second, its own time for them, memory, sockets.

What can be measured is: the size of the words, as the workers make them; how fast this launcher takes words in, from a socket
on the loopback to what the supervisor and the watch make of them; what a look at all workers costs it; and memory and
descriptors for each connection. A process of its own stands for the workers: it has their keys and lines, and says what
they say. The rest is arithmetic on that.

    worker ── progress, every 200 ms ──▶  ControlServer.receive ─▶ control.decode ─▶ Supervisor.handle ─▶ Watch.heard
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any, cast

from pipeline import addresses, control, keys, transport
from pipeline.backup import ROUND_NS
from pipeline.heartbeat import heartbeat
from pipeline.live import LivePort
from pipeline.plan import Plan
from pipeline.stage import Stage

from .environment import worker_environment
from .events import Heard, Tell, Tick
from .spawn import TICK_MS
from .spread import spread
from .supervise import Supervisor
from .watch import Watch

STAGES = (3, 100, 10_000)
#: Connections that are really made, and words that each of them says in a lot.
CONNECTIONS, WORDS = 200, 50
#: How often a living process is asked whether it has ended.
POLLS = 1_000
WORDS_A_SECOND = 1e9 / ROUND_NS
#: How long a lot of words has to arrive before it is taken in, in seconds: what is measured is the launcher, not the wait.
ARRIVE_S = 0.5
#: A worker's data endpoint, as it is told to the others: as long as one with an IPv4 address.
ENDPOINT = "tcp://192.168.100.100:49152"
#: What a host's agent might speak for.
AGENT_STAGES = 100


class _Port:
    """What a stage tells of its messages in the midst of a run: thousands sent and taken on every edge, and it waits."""

    def __init__(self, stage: Stage) -> None:
        self.sent = dict.fromkeys(stage.plan.sources(stage.number), 12_345)
        self.taken = dict.fromkeys(stage.plan.sources(stage.number), 12_344)
        self.lack = stage.intake()
        self.is_waiting = True
        self.held: dict[int, int] = {}
        self.damaged: list[int] = []


def make_plan(stages: int, *, tied: bool = False) -> Plan:
    """Return a decoupled plan of so many stages, the head among them."""
    return Plan(
        boxes=stages - 1, batches=100_000, epoch_batches=100_000, evaluate_every=0, chunks=0, window=2 * stages, tied=tied,
        rule="synthetic", target="bootstrapped", schedule="decoupled", train=100_000, batch=1, test=1,
    )  # fmt: skip


def progress(plan: Plan, number: int, actions: int = 24_690) -> dict[str, Any]:
    """Return what a stage says five times a second, as `pipeline.attempt` puts it together."""
    stage, name = Stage(plan, number), plan.name
    near = [k for k in (number - 1, number + 1) if 1 <= k <= plan.head]
    waits = {f"starved {name(k)}": 123.456789012 for k in near}
    told = {
        "epoch": 0,
        "batch": 12_345,
        "at_s": 1234.567890123,
        "in_flight": 2,
        "busy_s": 987.654321098,
        "waits": waits,
    }
    return told | heartbeat(stage, cast(LivePort, _Port(stage)), actions)


def sizes(stages: int, *, tied: bool) -> dict[str, Any]:
    """Return the bytes of a progress word and of a peers word, with their tags, of a stage in the middle."""
    plan = make_plan(stages, tied=tied)
    number = max(stages // 2, 1)
    peers = {plan.name(k): ENDPOINT for k in plan.sources(number)}
    return {
        "edges": len(peers),
        "progress": len(control.encode("progress", progress(plan, number))) + control.TAG,
        "peers": len(control.encode("peers", peers)) + control.TAG,
    }


class Launcher:
    """The parts of a launcher that hear and judge, of a run that goes on."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.watch = Watch(plan, 30.0)
        self.supervisor = Supervisor(plan, 0.0, watch=self.watch)
        self.peers_bytes = 0

    def start(self) -> float:
        """Let every worker say hello and ready, and return the seconds of this process's time until all were told to go."""
        began = time.thread_time()
        for word, body in (("hello", {"pid": 1, "endpoint": ENDPOINT}), ("ready", {})):
            for name in list(self.supervisor.members):
                self.hear(name, control.encode(word, {"epoch": 0, **body}))
        assert self.supervisor.is_running
        return time.thread_time() - began

    def hear(self, name: str, frame: bytes) -> None:
        """Take in what a worker said, and make what it is answered."""
        word, body = control.decode(frame, control.FROM_WORKER)
        for command in self.supervisor.handle(Heard(name, word, body), time.monotonic()):
            if isinstance(command, Tell):
                self.peers_bytes += len(control.encode(command.word, command.body)) + control.TAG

    def look(self) -> float:
        """Let it look at everybody once, as at each turn of its loop, and return the seconds of its time."""
        began = time.thread_time()
        self.supervisor.handle(Tick(), time.monotonic())
        return time.thread_time() - began


def at(stages: int, repeats: int) -> dict[str, Any]:
    """Return what a launcher of so many stages needs for the start, for a look at all of them, and in memory."""
    plan = make_plan(stages)
    words = {plan.name(k): control.encode("progress", progress(plan, k)) for k in range(1, plan.head + 1)}
    tracemalloc.start()
    held = Launcher(plan)
    lines = [control.Line(b"s" * keys.SECRET_BYTES, name, is_launcher=True) for name in held.supervisor.members]
    held.start()
    for name, frame in words.items():
        held.hear(name, frame)
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(lines) == stages
    starts, looks = [], []
    for _ in range(repeats):
        launcher = Launcher(plan)
        starts.append(launcher.start())
        for name, frame in words.items():
            launcher.hear(name, frame)
        looks.append(launcher.look())
    return {
        "stages": stages,
        "bytes_a_second": WORDS_A_SECOND * sum(len(frame) + control.TAG for frame in words.values()),
        "start_s": spread(starts).document(),
        "peers_bytes": held.peers_bytes,
        "look_s": spread(looks).document(),
        "memory_bytes": memory,
    }


def taken_in(stages: int, repeats: int) -> dict[str, Any]:
    """Measure how many words a second a launcher of so many stages takes in, from its socket on the loopback."""
    plan = make_plan(stages)
    launcher = Launcher(plan)
    launcher.start()
    every = [plan.name(k) for k in range(1, plan.head + 1)]
    names = every[:: max(stages // CONNECTIONS, 1)][:CONNECTIONS]
    secret = keys.make().secret
    lines = [control.Line(secret, name, is_launcher=True) for name in names]
    address = addresses.endpoint("tcp", "", "launcher", 0, "127.0.0.1")
    server = transport.ControlServer(address, control.MOST_BYTES, lines)
    before = _standing()
    command = [sys.executable, "-m", "launch.control_load", server.address, str(stages)]
    peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=worker_environment())
    rates: list[float] = []
    own, threads = [], []
    try:
        assert peer.stdin is not None
        assert peer.stdout is not None
        peer.stdin.write(json.dumps({"names": names, "secret": secret.hex()}).encode() + b"\n")
        for repeat in range(repeats + 1):
            all_threads = time.process_time()
            peer.stdin.write(b"say\n")
            peer.stdin.flush()
            peer.stdout.readline()
            time.sleep(ARRIVE_S)
            began, began_own, count = time.perf_counter(), time.thread_time(), 0
            while count < len(names) * WORDS and (heard := server.receive(5_000)) is not None:
                launcher.hear(*heard)
                count += 1
            seconds, took = time.perf_counter() - began, time.thread_time() - began_own
            if repeat:  # the first lot warms up
                rates.append(count / seconds)
                own.append(took / count)
                threads.append((time.process_time() - all_threads - took) / count)
        after = _standing()
        began_own = time.thread_time()
        for _ in range(POLLS):
            peer.poll()
        poll_s = (time.thread_time() - began_own) / POLLS
    finally:
        peer.kill()
        peer.wait()
        server.close(0)
    return {
        "stages": stages,
        "words": len(names) * WORDS,
        "connections": len(names),
        "words_a_second": spread(rates).document(),
        "own_s": spread(own).document(),
        "zmq_s": spread(threads).document(),
        "poll_s": poll_s,
        "descriptors": (after[0] - before[0]) / len(names),
        "resident_bytes": (after[1] - before[1]) / len(names),
    }


def _standing() -> tuple[int, int]:
    """Return how many descriptors this process has open, and its resident bytes."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return len([*Path("/proc/self/fd").iterdir()]), resident


def measure(repeats: int) -> dict[str, Any]:
    """Measure all of it."""
    import resource

    taken = taken_in(STAGES[-1], repeats)
    return {
        "rows": [at(stages, repeats) for stages in STAGES],
        "words": [
            {"stages": stages, "tied": tied} | sizes(stages, tied=tied) for tied in (False, True) for stages in STAGES
        ],
        "taken": taken,
        "words_a_second_each": WORDS_A_SECOND,
        "saturates_at": 1 / (taken["own_s"]["median"] * WORDS_A_SECOND),
        "turn_ms": TICK_MS,
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE),
        "most_sockets": transport.make_context().max_sockets,
        "most_word_bytes": control.MOST_BYTES,
        "agent_stages": AGENT_STAGES,
    }


def _speak(address: str, stages: int) -> None:
    """Be the workers: connect as each of them, and say a lot of progress words whenever told to."""
    told = json.loads(sys.stdin.readline())
    plan, context = make_plan(stages), transport.make_context()
    secret = bytes.fromhex(told["secret"])
    said = []
    for name in told["names"]:
        link = transport.ControlLink(context, address, control.Line(secret, name, is_launcher=False))
        said.append((link, progress(plan, plan.number(name))))
    while sys.stdin.readline():
        for _ in range(WORDS):
            for link, body in said:
                body["actions"] += 1  # it goes on
                link.send(control.encode("progress", body))
        print("said", flush=True)


if __name__ == "__main__":
    _speak(sys.argv[1], int(sys.argv[2]))
