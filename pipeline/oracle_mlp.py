"""The oracle that keeps up with backpropagation on the rows of a digit: two layers on calibrated features. Pure arithmetic.

    p = softmax(h A + b)                                what the box itself could say of the label, its own small classifier;
                                                        σ(h A + b) where labels are bits, h A + b where they are numbers
    f = [h, y, p − y, 1]                                without labels [h, 1]
    ĝ = s (tanh(f U) V + f L)                           s: the usual size of the targets' entries, as far as they have come

The gradient of a softmax head is (ŷ − y) Wfcᵀ; what a box can know of ŷ is its own p, so p − y is the feature that matters, and
a linear model of it does most. V and L start at zero: a box begins to update when its oracle has seen its first target, and
begins small. Until then what it sends as a target is nothing, exactly, and nothing is learnt from it: else that would spread.
A and b take a step down their own cross-entropy, or squared error, with each new target; nothing of the oracle's error goes
through them.
The loss is measured in units of s, so that a rate means the same whatever size gradients have.
"""

from __future__ import annotations

import math

import numpy as np

from .arrays import Array, Weights, product, sigmoid, through
from .oracles import RANDOM_SCALE, Oracle, Shape, mean_square, recall, remember
from .schema import Oracle as Config

#: The rate of the classifier's steps.
CLASSIFIER_RATE = 0.5


class Mlp(Oracle):
    """A linear and a two-layer model side by side, on features that a classifier of its own calibrates."""

    def __init__(self, config: Config, shape: Shape, rng: np.random.Generator) -> None:
        width, classes, dtype, self._link = shape
        self._width, self._classes = width, classes if config.sees_label else 0
        self._last: tuple[Array, Array] | None = None  # f and tanh(f U) of the last prediction
        features, hidden = width + 2 * self._classes + 1, config.hidden
        self.weights = {
            "U": (rng.standard_normal((features, hidden)) / features**0.5).astype(dtype),
            "V": np.zeros((hidden, width), dtype),
            "L": np.zeros((features, width), dtype),
            "s": np.zeros(
                2, np.float64
            ),  # the running mean square of the targets' entries, and the weight that is in it
        }
        if config.init == "random":
            for name in ("V", "L"):
                W = self.weights[name]
                W += (rng.standard_normal(W.shape) * RANDOM_SCALE).astype(dtype)
        if self._classes:
            self.weights |= {"A": np.zeros((width, classes), dtype), "b": np.zeros(classes, dtype)}

    @property
    def scale(self) -> float:
        """The root mean square of the targets' entries so far."""
        return math.sqrt(recall(self.weights["s"]))

    def features(self, h: Array, y: Array | None) -> Array:
        """Return f, (rows, features)."""
        width, classes = self._width, self._classes
        f = np.empty((len(h), width + 2 * classes + 1), h.dtype)
        f[:, :width] = h
        f[:, -1] = 1
        if classes:
            assert y is not None, "an oracle that sees labels is given them"
            f[:, width : width + classes] = y
            np.subtract(self._classified(h), y, out=f[:, width + classes : -1])
        return f

    def _classified(self, h: Array) -> Array:
        p: Array = h @ self.weights["A"]
        p += self.weights["b"]
        if self._link == "identity":
            return p
        if self._link == "sigmoid":
            return sigmoid(p)
        p -= p.max(axis=1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        return p

    def predict(self, h: Array, y: Array | None, batch: int, out: Array | None = None) -> Array:  # noqa: ARG002
        """Return the synthetic gradient (rows, width)."""
        weights, f = self.weights, self.features(h, y)
        a = np.tanh(f @ weights["U"])
        self._last = f, a
        g: Array = np.matmul(a, weights["V"], out=out)
        g += f @ weights["L"]
        g *= self.scale
        return g

    def gradient(self, h: Array, y: Array | None, error: Array) -> Weights:  # noqa: ARG002
        """Return the gradient by U, V and L, of the loss in units of s. It goes through the features of the last prediction."""
        assert self._last is not None, "an error is that of a prediction"
        weights, (f, a) = self.weights, self._last
        e = error / (self.scale or 1.0)
        slope = through(e, weights["V"])
        slope *= 1 - a * a
        return {"U": product(f, slope), "V": product(a, e), "L": product(f, e)}

    def wants(self, target: Array) -> bool:
        """Whether a target says anything: as long as none did, one of zeros is from a box that has nothing to say yet."""
        return bool(self.weights["s"][0]) or bool(target.any())

    def classifier_gradient(self, h: Array, y: Array) -> Weights:
        """Return the gradient of the classifier's cross-entropy by A and b."""
        off = self._classified(h)
        off -= y
        off /= len(h)
        return {"A": product(h, off), "b": off.sum(axis=0)}

    def see(self, h: Array, y: Array | None, target: Array, batch: int) -> None:  # noqa: ARG002
        """Train the classifier and take note of the targets' size."""
        if y is not None and self._classes:
            rate = CLASSIFIER_RATE
            if (
                self._link == "identity"
            ):  # squared error has no bound on its slope: normalised steps are stable at any size of h
                rate /= 1 + float(np.vdot(h, h)) / len(h)
            for name, G in self.classifier_gradient(h, y).items():
                G *= rate
                self.weights[name] -= G
        remember(self.weights["s"], mean_square(target))
