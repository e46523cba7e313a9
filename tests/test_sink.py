"""The sink: order, bounds, and what becomes of a disk that fails or does not keep up."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline.errors import RunError
from pipeline.sink import Sink


@contextmanager
def stalled(sink: Sink) -> Iterator[None]:
    """Keep the sink's thread busy while the block runs, as a disk does that does not answer."""
    gate, began = threading.Event(), threading.Event()

    def job() -> None:
        began.set()
        gate.wait(30)

    sink.do(job, 0, must=True)
    assert began.wait(30)
    yield
    gate.set()


def test_bytes_are_written_in_their_order_and_all_before_it_closes() -> None:
    sink, stream = Sink(), io.BytesIO()
    with stalled(sink):
        for number in range(1000):
            assert sink.put(stream, f"{number} ".encode(), must=False)
        assert stream.getvalue() == b""
    sink.close()
    assert stream.getvalue().decode().split() == [str(number) for number in range(1000)]
    assert sink.waiting == 0


def test_a_disk_that_stalls_does_not_hold_up_the_loop_and_costs_bounded_memory() -> None:
    sink, stream = Sink(most_waiting=100), io.BytesIO()
    with stalled(sink):
        taken = [sink.put(stream, b"x" * 30, must=False) for _ in range(10)]
        assert taken == [True] * 3 + [False] * 7
        assert sink.put(stream, b"journal", must=True), "what must be written is never refused"
        assert sink.waiting == 97
    sink.close()
    assert stream.getvalue() == b"x" * 90 + b"journal"


def test_a_disk_that_is_full_is_told_once_with_its_file() -> None:
    def full() -> None:
        raise OSError(28, "No space left on device", "runs/1/trace/box-1.trace")

    sink, stream = Sink(), io.BytesIO()
    with stalled(sink):
        sink.do(full, 1, must=True)
        sink.put(stream, b"behind it", must=True)
        sink.check()
    while sink.waiting:
        threading.Event().wait(0.001)
    with pytest.raises(RunError, match=r"runs/1/trace/box-1\.trace: cannot write .*: No space left on device"):
        sink.check()
    sink.put(stream, b"after", must=True)
    with pytest.raises(RunError, match="No space left"):
        sink.close()
    assert stream.getvalue() == b"", "after a failure nothing more is written: half a file is no file"
