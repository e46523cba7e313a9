"""What a step makes of a gradient: SGD, momentum, Adam; clipping; rates that rise and fall. Pure arithmetic.

    sgd        step = η G
    momentum   M = μ M + G                                   step = η M                           (Polyak 1964)
    adam       M = μ M + (1 − μ) G    V = β V + (1 − β) G²   step = η M̂ / (√V̂ + ε)                (Kingma and Ba 2015)

M̂ = M / (1 − μᵗ) and V̂ = V / (1 − βᵗ) after t steps. A gradient longer than `clip`, each weight's by itself, is scaled down
to it first (Pascanu, Mikolov and Bengio 2013). The state belongs to whoever made the gradient: each tied box has its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .arrays import Array, Weights
from .schema import Train
from .state import Saved, copies

#: Keeps Adam's division finite.
EPSILON = 1e-8
#: The running means of each kind that has some.
MEANS = {"momentum": ("M",), "adam": ("M", "V")}


class Pace:
    """How much of its rate a step has, by its place in the run of `total` steps."""

    def __init__(self, train: Train, total: int, *, rises: bool) -> None:
        self._decay = train.decay
        self._floor = train.floor
        self._warmup = train.warmup if rises else 0
        self._total = total

    def at(self, step: int) -> float:
        """Return the share of the full rate at a step, 0 … total − 1."""
        share = 1.0
        if self._decay == "linear":
            share = max(self._floor, 1 - step / self._total)
        elif self._decay == "cosine":
            share = self._floor + (1 - self._floor) * (1 + math.cos(math.pi * step / self._total)) / 2
        return share * min(1.0, (step + 1) / self._warmup) if self._warmup else share


class Optimizer:
    """Turns the gradients of some weights into steps."""

    def __init__(self, kind: str, train: Train, rates: Mapping[str, float], clip: float = 0.0) -> None:
        self.rates = rates
        self._kind = kind
        self._momentum = train.momentum
        self._beta2 = train.beta2
        self._clip = clip
        self.means: Weights = {}  # `M_Wx` and `V_Wx`
        self._steps: dict[str, int] = {}  # of each weight, where there are means

    @property
    def is_plain(self) -> bool:
        """Whether a step is the rate times the gradient, whatever went before."""
        return self._kind not in MEANS and not self._clip

    def step(self, dense: Weights, pace: float = 1.0) -> Weights:
        """Return what the gradients (used up) take off their weights: rate and pace are in it."""
        for name, G in dense.items():
            if self._clip:
                clip(G, self._clip)
            if self._kind in MEANS:
                self._steps[name] = self._steps.get(name, 0) + 1
            if self._kind == "momentum":
                M = self._mean("M", name, G)
                M *= self._momentum
                M += G
                np.copyto(G, M)
            elif self._kind == "adam":
                self._adapt(name, G)
            G *= self.rates[name] * pace
        return dense

    def state(self) -> Weights:
        """Return copies of the means so far, and `steps`, how many each weight has made; nothing where there are no means."""
        if self._kind not in MEANS or not self.rates:
            return {}
        steps = {"steps": np.array([self._steps.get(name, 0) for name in self.rates], np.int64)}
        keys = [f"{what}_{name}" for name in self.rates for what in MEANS[self._kind]]
        return steps | copies({key: self.means[key] for key in keys if key in self.means})

    def restore(self, saved: Saved, weights: Weights) -> None:
        """Go on from a saved state, for these weights; raises RunError."""
        if self._kind not in MEANS or not self.rates:
            return
        for name, steps in zip(self.rates, saved.counts("steps", len(self.rates)), strict=True):
            if steps:  # a weight that has made none has no means yet
                self._steps[name] = steps
                for what in MEANS[self._kind]:
                    W, key = weights[name], f"{what}_{name}"
                    self.means[key] = saved.take(key, W.shape, W.dtype)

    def _mean(self, what: str, name: str, G: Array) -> Array:
        key = f"{what}_{name}"
        if key not in self.means:
            self.means[key] = np.zeros_like(G)
        return self.means[key]

    def _adapt(self, name: str, G: Array) -> None:
        M, V = self._mean("M", name, G), self._mean("V", name, G)
        t = self._steps[name]
        M *= self._momentum
        M += (1 - self._momentum) * G
        np.multiply(G, G, out=G)
        G *= 1 - self._beta2
        V *= self._beta2
        V += G
        np.divide(V, 1 - self._beta2**t, out=G)
        np.sqrt(G, out=G)
        G += EPSILON
        np.divide(M, G, out=G)
        G /= 1 - self._momentum**t


def clip(G: Array, most: float) -> None:
    """Scale a gradient down to the norm `most`, where it is longer."""
    norm = math.sqrt(float(np.vdot(G, G)))
    if norm > most:
        G *= most / norm


def take(weights: Weights, step: Weights) -> None:
    """Take a step: W −= step."""
    for name, S in step.items():
        weights[name] -= S
