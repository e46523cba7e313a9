"""Benchmarks: programs that print figures with their spread, never assertions. `timebox bench NAME`; `BENCHES` has them all.

hop     a message between two processes, encode + send + receive + decode, against raw pyzmq with the same frames, in
        alternating lots, so that the machine's drift meets both alike. *One way* is from rest, as in a pipeline whose
        stages compute in between; *half a round trip* is at full speed, where libzmq's threads are still awake.
start   from the command to the first update of a box, whole processes; and each worker's peak memory

The others are in files of their own, `bench_NAME`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from . import (
    bench_arithmetic,
    bench_checkpoints,
    bench_emulated,
    bench_family,
    bench_family_text,
    bench_hostile,
    bench_kills,
    bench_predict,
    bench_process,
    bench_replay,
    bench_rules,
    bench_rules_text,
    bench_simulate,
    bench_soak,
    bench_torch,
    bench_trace,
)
from .environment import collect, worker_environment
from .spread import machine
from .text import table

KIB = (1, 64, 1024)
#: Messages in a lot, by size: some ten milliseconds, so that a pair of lots meets the same weather.
LOT = {1: 40, 64: 40, 1024: 15}
#: The pause before a message that goes one way.
REST_S = 0.0005


class _Payload:
    """A message of one float32 array of so many KiB."""

    def __init__(self, kib: int) -> None:
        import numpy as np

        from pipeline.wire import describe

        self.dtype = np.dtype(np.float32)
        self.shape = (1, kib * 256)

        self._payload = describe(self.dtype, (self.shape,))

    def expected(self, message: object) -> Any:  # noqa: ARG002
        return self._payload

    def is_fixed(self, kind: str) -> bool:  # noqa: ARG002
        return True


def _ours(folder: str, me: int, other: int, kib: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return `send one` and `receive one` by the project's wire and transport."""
    import numpy as np

    from pipeline import transport, wire
    from pipeline.actions import ACTIVATION, Message

    payload = _Payload(kib)
    links = transport.Links(transport.make_context(), 16, kib * 1024 + 1024)
    links.bind(f"ipc://{folder}/ours-{kib}-{me}", "bench")
    links.connect(other, f"ipc://{folder}/ours-{kib}-{other}")
    encoder, decoder = wire.Encoder(0, payload), wire.Decoder(me, 0, (other,), payload)
    array = np.ones(payload.shape, np.float32)
    message = Message(ACTIVATION, 0, me, other)

    def send() -> None:
        links.send(other, encoder.encode(message, 0, (array,)))

    def receive() -> None:
        while (frames := links.receive(wait=True)) is None:
            pass
        decoder.decode(frames)

    return send, receive


def _raw(folder: str, me: int, other: int, kib: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return `send one` and `receive one` by pyzmq alone: the same frames, as multipart."""
    import numpy as np
    import zmq

    from pipeline import wire
    from pipeline.actions import ACTIVATION, Message

    context: zmq.Context[Any] = zmq.Context()
    pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    pull.bind(f"ipc://{folder}/raw-{kib}-{me}")
    push.connect(f"ipc://{folder}/raw-{kib}-{other}")
    array = np.ones((1, kib * 256), np.float32)
    frames = wire.Encoder(0, _Payload(kib)).encode(Message(ACTIVATION, 0, me, other), 0, (array,))

    def send() -> None:
        push.send_multipart(frames)

    def receive() -> None:
        pull.recv_multipart()

    return send, receive


_WAYS = {"ours": _ours, "raw": _raw}


def _peer(folder: str, way: str, kib: int) -> None:
    """The other end: take a lot of messages and print when each was there, then send as many back as they come."""
    send, receive = _WAYS[way](folder, 2, 1, kib)
    print("ready", flush=True)
    while True:
        stamps = []
        for _ in range(LOT[kib]):
            receive()
            stamps.append(time.monotonic_ns())
        print(json.dumps(stamps), flush=True)
        for _ in range(LOT[kib]):
            receive()
            send()


def hop(repeats: int) -> dict[str, Any]:
    """Measure a hop in alternating lots and return medians in microseconds and the ratios with their spread."""
    rows = [_hop(kib, repeats) for kib in KIB]
    return {"bench": "hop", "repeats": repeats, "rows": rows, "environment": collect()}


def _hop(kib: int, repeats: int) -> dict[str, Any]:
    peers: dict[str, subprocess.Popen[bytes]] = {}
    with tempfile.TemporaryDirectory(prefix="timebox-bench-") as folder:
        try:
            for way in _WAYS:
                command = [sys.executable, "-m", "launch.bench", folder, way, str(kib)]
                peers[way] = subprocess.Popen(command, stdout=subprocess.PIPE, env=worker_environment())
                _line(peers[way])
            ends = {way: make(folder, 1, 2, kib) for way, make in _WAYS.items()}
            found = [{way: _lot(*ends[way], peers[way], kib) for way in _WAYS} for _ in range(repeats + 1)]
        finally:
            for peer in peers.values():
                peer.kill()
                peer.wait()
    row: dict[str, Any] = {"kib": kib}
    for place, name in enumerate(("hop", "trip")):
        pairs = [{way: lot[way][place] for way in _WAYS} for lot in found[1:]]  # the first pair warms up
        ratios = sorted(pair["ours"] / pair["raw"] for pair in pairs)
        row |= {f"{name}_{way}_us": statistics.median(pair[way] for pair in pairs) for way in _WAYS}
        row |= {f"{name}_ratio": statistics.median(ratios)}
        row |= {f"{name}_ratio_quartiles": [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]]}
    return row


def _lot(
    send: Callable[[], None], receive: Callable[[], None], peer: subprocess.Popen[bytes], kib: int
) -> tuple[float, float]:
    """Return the medians of a lot, in microseconds: one way from rest, and half a round trip at full speed."""
    sent = []
    for _ in range(LOT[kib]):
        time.sleep(REST_S)  # both ends and libzmq's threads go to sleep, as they do while a stage computes
        sent.append(time.monotonic_ns())
        send()
    ways = [there - here for here, there in zip(sent, json.loads(_line(peer)), strict=True)]
    trips = []
    for _ in range(LOT[kib]):
        started = time.monotonic_ns()
        send()
        receive()
        trips.append((time.monotonic_ns() - started) / 2)
    return statistics.median(ways) / 1000, statistics.median(trips) / 1000


def _line(peer: subprocess.Popen[bytes]) -> bytes:
    assert peer.stdout is not None
    return peer.stdout.readline()


def start(repeats: int) -> dict[str, Any]:
    """Measure the time from the command to the first update, and each worker's peak memory."""
    firsts, peaks = [], []
    with tempfile.TemporaryDirectory(prefix="timebox-bench-") as folder:
        arguments = [
            "run",
            "--json",
            "--train.epochs",
            "1",
            "--run.plot",
            "false",
            "--run.dir",
            str(Path(folder) / "runs"),
        ]
        for _ in range(repeats):
            command = [sys.executable, "-m", "launch", *arguments]
            started = time.monotonic_ns()
            done = subprocess.run(command, stdout=subprocess.PIPE, env=worker_environment(), check=True)
            document = json.loads(done.stdout)
            firsts.append((document["first_update_ns"] - started) / 1e9)
            peaks += [stage["peak_mb"] for stage in document["stages"]]
    return {
        "bench": "start",
        "repeats": repeats,
        "first_update_s": statistics.median(firsts),
        "first_update_min_s": min(firsts),
        "first_update_max_s": max(firsts),
        "peak_mb": max(peaks),
        "environment": collect(),
    }


class Bench(NamedTuple):
    """What can be measured: how, and how it is told."""

    measure: Callable[[int], dict[str, Any]]
    lines: Callable[[dict[str, Any]], list[str]]


def _hop_lines(document: dict[str, Any]) -> list[str]:
    rows = []
    for row in document["rows"]:
        for name, text in (("hop", "one way"), ("trip", "half a round trip")):
            low, high = row[f"{name}_ratio_quartiles"]
            figures = [f"{row[f'{name}_{way}_us']:.1f}" for way in _WAYS]
            rows.append((f"{row['kib']} KiB", text, *figures, f"{row[f'{name}_ratio']:.2f}", f"{low:.2f} – {high:.2f}"))
    return [table(("array", "", "µs", "raw pyzmq µs", "ratio", "quartiles"), rows, left=(1,))]


def _start_lines(document: dict[str, Any]) -> list[str]:
    spread = f"{document['first_update_min_s']:.2f} – {document['first_update_max_s']:.2f}"
    return [
        f"first update {document['first_update_s']:.2f} s after the command (median; {spread})",
        f"largest worker {document['peak_mb']:.0f} MB",
    ]


#: `benches` says what each one is, and how many repeats are usual.
BENCHES = {
    "hop": Bench(hop, _hop_lines),
    "start": Bench(start, _start_lines),
    "arithmetic": Bench(bench_arithmetic.measure, bench_arithmetic.lines),
    "process": Bench(bench_process.measure, bench_process.lines),
    "torch": Bench(bench_torch.measure, bench_torch.lines),
    "emulated": Bench(bench_emulated.measure, bench_emulated.lines),
    "trace": Bench(bench_trace.trace, bench_trace.lines),
    "replay": Bench(bench_replay.replay, bench_replay.lines),
    "simulate": Bench(bench_simulate.measure, bench_simulate.lines),
    "rates": Bench(bench_rules.rates, bench_rules_text.rate_lines),
    "rules": Bench(bench_rules.measure, bench_rules_text.lines),
    "family": Bench(bench_family.measure, bench_family_text.lines),
    "copy": Bench(bench_family.copy, bench_family_text.copy_lines),
    "repeat-copy": Bench(bench_family.repeat_copy, bench_family_text.copy_lines),
    "checkpoints": Bench(bench_checkpoints.measure, bench_checkpoints.lines),
    "soak": Bench(bench_soak.measure, bench_soak.lines),
    "kills": Bench(bench_kills.kills, bench_kills.lines),
    "predict": Bench(bench_predict.measure, bench_predict.lines),
    "hostile": Bench(bench_hostile.measure, bench_hostile.lines),
}


def render(document: dict[str, Any]) -> str:
    """Return a benchmark's document for people."""
    lines = BENCHES[document["bench"]].lines(document)
    return "\n".join([machine(document["environment"], document["repeats"]), *lines])


if __name__ == "__main__":
    _peer(sys.argv[1], sys.argv[2], int(sys.argv[3]))
