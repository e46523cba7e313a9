"""A stage and the bare loop beside it: the same numpy calls by hand, every output kept. For `bench_arithmetic`.

    Staged      `BoxWork.do(action)`, drained: F and B, or F and T · `HeadWork`'s F
    BareBox     the same products, sums and steps in one function that knows its sizes, rule and weights
    BareHead    so too
    Products    the matrix products alone, their operands as BLAS likes them best

Each does a lot of batches and returns the nanoseconds of its thread, so that what other processes take is not counted.
Stage and bare loop see the same batches and must end with the same weights, bit for bit: they do the same work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.actions import ACTIVATION, GRADIENT, Action, Message
from pipeline.arrays import BLOCK, TURNED, Array
from pipeline.box import BoxWork
from pipeline.config import resolve
from pipeline.data import Batches, load
from pipeline.head import HeadWork
from pipeline.plan import Plan
from pipeline.schema import Config

#: Batches that are different.
FEEDS = 16
INPUTS = 784
#: The actions of a batch, by rule.
KINDS = {"backward": "FB", "synthetic": "FT", "head": "F"}

Shape = tuple[int, int, int]


class Case(NamedTuple):
    """One rule at one size."""

    rule: str
    width: int
    rows: int

    def config(self) -> Config:
        """Return two untied boxes that read whole images; rates are so small that nothing runs away in a long bench."""
        flags = {
            "model.width": self.width, "model.tied": False, "data.batch": self.rows, "data.train": self.rows * FEEDS,
            "schedule.kind": "article" if self.rule == "synthetic" else "locked", "oracle.init": "random",
            **{f"train.rate_{name}": 1e-5 for name in ("input", "recurrent", "head", "oracle")},
        }  # fmt: skip
        return resolve(flags=flags)

    def products(self) -> list[Shape]:
        """Return (m, k, n) of the matrix products of one batch; a gradient of one row is an outer product, and none."""
        n, m = self.rows, self.width
        if self.rule == "head":
            return [(n, m, 1), *([(m, n, 1)] if n > 1 else [])]
        forward, recurrent = [(n, INPUTS, m), (n, m, m)], (n, m, m)
        gradients = [(INPUTS, n, m), (m, n, m)] if n > 1 else []
        if self.rule == "backward":
            return [*forward, recurrent, *gradients]
        return [*forward, recurrent, recurrent, *gradients, recurrent, *gradients[1:]]


class Feed(NamedTuple):
    """What one batch brings."""

    places: Array  # (rows,): which training images
    h: Array  # (rows, width): the activation that enters
    g: Array  # (rows, width): the gradient or target that comes back


class Staged:
    """A stage's work and the batches that it gets."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.config = config = case.config()
        self.split = load(config.data)
        plan, batches = Plan.of(config), Batches(config, self.split)
        self.number = plan.head if case.rule == "head" else 2
        self.work = (
            HeadWork(config, plan, batches) if case.rule == "head" else BoxWork(config, plan, self.number, batches)
        )
        rng = np.random.default_rng(0)
        self.feeds = []
        for batch in range(FEEDS):
            h, g = rng.standard_normal((2, case.rows, case.width)).astype(config.model.dtype)
            self.feeds.append(Feed(batches.places(batch), np.tanh(h), g / 10))

    def lot(self, first: int, count: int) -> int:
        """Do so many batches' actions and return the nanoseconds; what brings their messages is not counted."""
        work, numbers = self.work, [number % FEEDS for number in range(first, first + count)]
        actions = [[Action(kind, number) for kind in KINDS[self.case.rule]] for number in numbers]
        took = 0
        for start in range(0, count, FEEDS):
            for number in numbers[start : start + FEEDS]:
                work.keep(Message(ACTIVATION, number, self.number - 1, self.number), (self.feeds[number].h,))
                if self.case.rule != "head":
                    work.keep(Message(GRADIENT, number, self.number + 1, self.number), (self.feeds[number].g,))
            began = time.thread_time_ns()
            for each in actions[start : start + FEEDS]:
                for action in each:
                    for _ in work.do(action):
                        pass
            took += time.thread_time_ns() - began
        return took


class Bare:
    """What the bare loops have in common."""

    def __init__(self, staged: Staged) -> None:
        self.feeds, self.images, self.labels = staged.feeds, staged.split.train_images, staged.split.train_labels
        self.weights = {name: array.copy() for name, array in staged.work.weights().items()}
        self.train = staged.config.train
        self.dtype = staged.feeds[0].h.dtype

    def lot(self, first: int, count: int) -> int:
        """Do so many batches and return the nanoseconds."""
        began = time.thread_time_ns()
        for number in range(first, first + count):
            self.batch(self.feeds[number % FEEDS])
        return time.thread_time_ns() - began

    def batch(self, feed: Feed) -> None:
        """Do a batch."""
        raise NotImplementedError


class BareBox(Bare):
    """F and B of a box, or F and T."""

    def __init__(self, staged: Staged) -> None:
        super().__init__(staged)
        n, m = staged.case.rows, staged.case.width
        self.learns_by_oracle = staged.case.rule == "synthetic"
        self.bytes, self.x = np.empty((n, INPUTS), np.uint8), np.empty((n, INPUTS), self.dtype)
        self.h, self.more, self.delta, self.before, self.guess, self.error = np.empty((6, n, m), self.dtype)
        self.turned = np.empty((m, n), self.dtype)
        self.G, self.part = np.empty((2, max(INPUTS, m), m), self.dtype)

    def batch(self, feed: Feed) -> None:
        """Do a batch's forward, backward and steps."""
        _, entering, g = feed
        weights, train, x, h, delta, error = self.weights, self.train, self.x, self.h, self.delta, self.error
        Wx, Wrec = weights["Wx"], weights["Wrec"]
        self.images.take(feed.places, axis=0, out=self.bytes, mode="clip")
        np.copyto(x, self.bytes)
        np.divide(x, 255, out=x)
        np.matmul(x, Wx, out=h)
        np.matmul(entering, Wrec, out=self.more)
        np.add(h, self.more, out=h)
        np.tanh(h, out=h)
        if self.learns_by_oracle:
            L = weights["oracle_L"]
            self.backward(Wrec, np.matmul(h, L, out=self.guess))
        else:
            self.backward(Wrec, g)
        self.step(Wx, x, delta, train.rate_input)
        self.step(Wrec, entering, delta, train.rate_recurrent)
        if self.learns_by_oracle:
            np.matmul(h, L, out=error)
            np.subtract(error, g, out=error)
            np.divide(error, len(error), out=error)
            self.step(L, h, error, train.rate_oracle)

    def backward(self, Wrec: Array, g: Array) -> None:
        """Put the gradient through the step of the box."""
        delta = self.delta
        np.multiply(self.h, self.h, out=delta)
        np.subtract(1, delta, out=delta)
        np.multiply(delta, g, out=delta)
        if len(delta) == 1 or len(delta) * Wrec.size <= TURNED:
            np.matmul(delta, Wrec.T, out=self.before)
        else:
            np.matmul(Wrec, delta.T, out=self.turned)
            np.copyto(self.before, self.turned.T)

    def step(self, W: Array, a: Array, delta: Array, rate: float) -> None:
        """Take one step of gradient descent."""
        if len(a) > 1:
            G = np.matmul(a.T, delta, out=self.G[: len(W)])
            np.multiply(G, rate, out=G)
            np.subtract(W, G, out=W)
            return
        column, changed = a.T, a[0].nonzero()[0]
        if 2 * len(changed) < len(column):
            G = np.multiply(column[changed], delta, out=self.G[: len(changed)])
            np.multiply(G, rate, out=G)
            part = W.take(changed, axis=0, out=self.part[: len(changed)], mode="clip")
            W[changed] = np.subtract(part, G, out=part)
            return
        rows = BLOCK // W.shape[1]
        for first in range(0, len(column), rows):
            part = W[first : first + rows]
            G = np.multiply(column[first : first + rows], delta, out=self.G[: len(part)])
            np.multiply(G, rate, out=G)
            np.subtract(part, G, out=part)


class BareHead(Bare):
    """F of a head of one sigmoid and squared error."""

    def __init__(self, staged: Staged) -> None:
        super().__init__(staged)
        n, m = staged.case.rows, staged.case.width
        self.costs: list[float] = []
        self.digits = np.empty(n, np.uint8)
        self.y, self.a, self.y_hat, self.d, self.more = np.empty((5, n, 1), self.dtype)
        self.by_row = np.empty(n, self.dtype)
        self.g, self.G = np.empty((n, m), self.dtype), np.empty((m, 1), self.dtype)

    def batch(self, feed: Feed) -> None:
        """Do a batch's loss, gradient and step."""
        W, G, a, y, y_hat, d, more = self.weights["Wfc"], self.G, self.a, self.y, self.y_hat, self.d, self.more
        h = feed.h
        np.matmul(h, W, out=a)
        np.multiply(0.5, a, out=y_hat)
        np.tanh(y_hat, out=y_hat)
        np.multiply(0.5, y_hat, out=y_hat)
        np.add(y_hat, 0.5, out=y_hat)
        self.labels.take(feed.places, out=self.digits, mode="clip")
        np.copyto(y[:, 0], self.digits)
        np.subtract(y_hat, y, out=d)
        np.multiply(d, d, out=more)
        by_row = np.add.reduce(more, axis=1, out=self.by_row)
        np.multiply(0.5, by_row, out=by_row)
        self.costs.append(float(np.add.reduce(by_row) / len(by_row)))
        np.subtract(1, y_hat, out=more)
        np.multiply(y_hat, more, out=more)
        np.multiply(d, more, out=d)
        np.divide(d, len(d), out=d)
        if len(h) == 1:
            np.multiply(h.T, d, out=G)
        else:
            np.matmul(h.T, d, out=G)
        np.multiply(d, W.T, out=self.g)
        np.multiply(G, self.train.rate_head, out=G)
        np.subtract(W, G, out=W)


def pair(case: Case) -> tuple[Staged, Bare]:
    """Return a stage and the bare loop beside it, both at the same first weights."""
    staged = Staged(case)
    return staged, (BareHead if case.rule == "head" else BareBox)(staged)


class Products:
    """Matrix products of given shapes, one after the other."""

    def __init__(self, shapes: Sequence[Shape], dtype: str = "float32") -> None:
        rng = np.random.default_rng(0)
        self.operands: list[tuple[Array, Array, Array]] = []
        for m, k, n in shapes:
            a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
            self.operands.append((a.astype(dtype), b.astype(dtype), np.empty((m, n), dtype)))

    def lot(self, first: int, count: int) -> int:  # noqa: ARG002
        """Do all of them so many times and return the nanoseconds."""
        began = time.thread_time_ns()
        for _ in range(count):
            for a, b, out in self.operands:
                np.matmul(a, b, out=out)
        return time.thread_time_ns() - began
