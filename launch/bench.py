"""Benchmarks: programs that print figures with their spread, never assertions. `timebox bench hop`, `timebox bench start`.

hop     one message one way, encode + send + receive + decode, against raw pyzmq with the same frames: half a round trip
        between two processes, in alternating lots, so that the machine's drift meets both alike
start   from the command to the first update of a box, whole processes; and each worker's peak memory
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
from typing import Any

from .environment import BLAS_THREADS, collect
from .spawn import worker_environment
from .text import table

KIB = (1, 64, 1024)
#: Round trips in a lot, by size; enough for some ten milliseconds.
TRIPS = {1: 400, 64: 300, 1024: 60}


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


def _echo(folder: str, way: str, kib: int) -> None:
    """Send every message back until killed: the other end of a benchmark."""
    send, receive = _WAYS[way](folder, 2, 1, kib)
    print("ready", flush=True)
    while True:
        receive()
        send()


def hop(repeats: int) -> dict[str, Any]:
    """Measure a hop in alternating lots and return medians in microseconds and the ratios with their spread."""
    rows = [_hop(kib, repeats) for kib in KIB]
    return {"bench": "hop", "repeats": repeats, "rows": rows, "environment": collect()}


def _hop(kib: int, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="timebox-bench-") as folder:
        echoes = []
        try:
            for way in _WAYS:
                command = [sys.executable, "-m", "launch.bench", folder, way, str(kib)]
                echo = subprocess.Popen(command, stdout=subprocess.PIPE, env=worker_environment())
                echoes.append(echo)
                assert echo.stdout is not None
                echo.stdout.readline()
            pairs = {way: make(folder, 1, 2, kib) for way, make in _WAYS.items()}
            for way in _WAYS:
                _trip_us(*pairs[way], TRIPS[kib])  # warm up
            found = [{way: _trip_us(*pairs[way], TRIPS[kib]) for way in _WAYS} for _ in range(repeats)]
        finally:
            for echo in echoes:
                echo.kill()
                echo.wait()
    ratios = [pair["ours"] / pair["raw"] for pair in found]
    return {
        "kib": kib,
        **{f"{way}_us": statistics.median(pair[way] for pair in found) for way in _WAYS},
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def _trip_us(send: Callable[[], None], receive: Callable[[], None], trips: int) -> float:
    """Return the median time of half a round trip, in microseconds."""
    times = []
    for _ in range(trips):
        started = time.perf_counter_ns()
        send()
        receive()
        times.append(time.perf_counter_ns() - started)
    return statistics.median(times) / 2000


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
            done = subprocess.run(command, stdout=subprocess.PIPE, env=worker_environment(), check=True)
            document = json.loads(done.stdout)
            firsts.append(document["first_update_s"])
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


def render(document: dict[str, Any]) -> str:
    """Return a benchmark's document for people."""
    environment = document["environment"]
    where = f"{environment['processor']}, {environment['cores']} cores, load {environment['load'][0]}"
    lines = [f"{where}; {document['repeats']} repeats; BLAS threads {BLAS_THREADS['OPENBLAS_NUM_THREADS']}"]
    if document["bench"] == "hop":
        rows = [
            (
                f"{row['kib']} KiB",
                f"{row['ours_us']:.1f}",
                f"{row['raw_us']:.1f}",
                f"{row['ratio']:.2f}",
                f"{row['ratio_min']:.2f} – {row['ratio_max']:.2f}",
            )
            for row in document["rows"]
        ]
        lines.append(table(("array", "hop µs", "raw pyzmq µs", "ratio", "min – max"), rows))
    else:
        spread = f"{document['first_update_min_s']:.2f} – {document['first_update_max_s']:.2f}"
        lines.append(f"first update {document['first_update_s']:.2f} s after the command (median; {spread})")
        lines.append(f"largest worker {document['peak_mb']:.0f} MB")
    return "\n".join(lines)


if __name__ == "__main__":
    _echo(sys.argv[1], sys.argv[2], int(sys.argv[3]))
