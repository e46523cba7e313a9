"""Stops a run whose numbers fly off: at once, with the stage, the batch and the quantity named. Pure arithmetic.

The norm of everything that decides an update is looked at before the update is made: activations, gradients synthetic and true,
targets, an oracle's errors, the head's cost. One that is not finite, or above `train.limit`, ends the run. Weights that went
bad in another way show in the next activation, at the latest in the last evaluation, and are looked at once more at the end.
"""

from __future__ import annotations

import math

import numpy as np

from .arrays import Array, Weights
from .errors import DivergedError

HOLD = "smaller rates, train.clip or oracle.cap may hold it"
GO_ON = ", a larger train.limit lets it go on"


class Guard:
    """Looks at the numbers of one stage."""

    def __init__(self, name: str, limit: float) -> None:
        self._name = name
        self._limit = limit
        self._most = limit * limit

    def check(self, action: str, batch: int, quantity: str, array: Array) -> None:
        """Raise DivergedError for an array whose norm is above the limit, or not finite."""
        square = float(np.vdot(array, array))
        if not square <= self._most or square == math.inf:
            with np.errstate(over="ignore", invalid="ignore"):
                norm = float(np.linalg.norm(array.astype(np.float64)))
            if not norm <= self._limit:  # float32 may have overflowed below a large limit
                self._fail(action, batch, quantity, norm)

    def check_number(self, action: str, batch: int, quantity: str, value: float) -> None:
        """Raise DivergedError for a number that is above the limit, or not finite."""
        if not abs(value) <= self._limit:
            self._fail(action, batch, quantity, value)

    def check_weights(self, weights: Weights) -> None:
        """Raise DivergedError for a weight that is not finite."""
        for name, W in weights.items():
            if not np.isfinite(W).all():
                raise DivergedError(
                    f"{self._name}: the run has flown off: its final weights {name} are not finite; {HOLD}"
                )

    def _fail(self, action: str, batch: int, quantity: str, norm: float) -> None:
        what = f"is {norm:.3g}, above train.limit {self._limit:.3g}" if math.isfinite(norm) else "is not finite"
        way_out = HOLD + GO_ON * math.isfinite(norm)
        raise DivergedError(f"{self._name}: {action}{batch}: the run has flown off: {quantity} {what}; {way_out}")
