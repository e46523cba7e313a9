"""A user's oracle: a class `Oracle` in a Python file, found by name. Its text is a part of the run. Pure but for what it does.

    class Oracle:
        def __init__(self, shape, rng):            # shape.width, shape.classes, shape.dtype; rng: of this box, by seed
            self.weights = {"M": np.zeros((shape.classes, shape.width), shape.dtype)}

        def predict(self, h, y, batch):            # ĝ (rows, width)
            return y @ self.weights["M"]

        def gradient(self, h, y, error):           # by each weight, for error = (ĝ − t) / rows
            return {"M": y.T @ error}

It may have a method `see(h, y, target, batch)`. A checkpoint holds its `weights`, and they are restored into the arrays that
`__init__` made. Where it has more to remember, it has two methods more, and what the one returned is given to the other:

        def state(self):                           # a dict of arrays, by name
            return {"seen": np.array(self.seen)}

        def restore(self, arrays):                 # after __init__, when a run goes on from a checkpoint
            self.seen = int(arrays["seen"])

What is in neither is as `__init__` left it when a run goes on.

The text goes into the run's configuration, so that a replay runs the same code: a run with an oracle of its own is a program,
and is to be trusted like one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Array, Weights
from .errors import ConfigError, RunError
from .oracles import Oracle, Shape
from .own_code import Source, sealed
from .schema import Config
from .sizes import classes, link, state
from .state import Saved, counts

WANTED, SHOWN = ("predict", "gradient"), "launch/examples/own_oracle.py"


class Own(Oracle):
    """A user's class behind the interface of ours; what it returns is checked, for others will build on it."""

    def __init__(self, code: str, name: str, shape: Shape, rng: np.random.Generator) -> None:
        self._source = Source(code, name, "Oracle")
        oracle = self._source.found(WANTED, SHOWN)
        self._own = self._call("__init__", oracle, shape, rng)
        weights = getattr(self._own, "weights", None)
        if not isinstance(weights, dict) or not all(isinstance(array, np.ndarray) for array in weights.values()):
            raise RunError(f"{name}: Oracle.weights is no dict of arrays; __init__ has to make it")
        self.weights = weights

    def predict(self, h: Array, y: Array | None, batch: int, out: Array | None = None) -> Array:
        """Return the synthetic gradient (rows, width)."""
        made = self._call("predict", self._own.predict, sealed(h), y, batch)
        if not isinstance(made, np.ndarray) or made.shape != h.shape:
            shape = getattr(made, "shape", type(made).__name__)
            raise RunError(f"{self._source.name}: Oracle.predict returned {shape}, an array {h.shape} is wanted")
        g: Array = np.empty_like(h) if out is None else out
        np.copyto(g, made, casting="same_kind")
        return g

    def gradient(self, h: Array, y: Array | None, error: Array) -> Weights:
        """Return the gradient by each weight, in arrays that may be written to."""
        made = self._call("gradient", self._own.gradient, sealed(h), y, error)
        if not isinstance(made, dict):
            raise RunError(
                f"{self._source.name}: Oracle.gradient returned {type(made).__name__}, a dict of arrays is wanted"
            )
        for key, G in made.items():
            if key not in self.weights or np.shape(G) != self.weights[key].shape:
                wanted = f"{self.weights[key].shape} is wanted" if key in self.weights else "there is no such weight"
                raise RunError(f"{self._source.name}: Oracle.gradient: {key} {np.shape(G)}: {wanted}")
        return {key: np.array(G, self.weights[key].dtype) for key, G in made.items()}

    def see(self, h: Array, y: Array | None, target: Array, batch: int) -> None:
        """Let it learn what takes no gradient."""
        if hasattr(self._own, "see"):
            self._call("see", self._own.see, sealed(h), y, sealed(target), batch)

    @property
    def _remembers(self) -> bool:
        return all(callable(getattr(self._own, name, None)) for name in ("state", "restore"))

    def state(self) -> Weights:
        """Return copies of what it remembers besides its weights, `own.seen`, and `own`, how many arrays that are."""
        if not self._remembers:
            return {}
        made = self._call("state", self._own.state)
        if not isinstance(made, dict) or not all(_is_plain(name, array) for name, array in made.items()):
            raise RunError(f"{self._source.name}: Oracle.state returned no dict of arrays of numbers, which is wanted")
        return counts(own=len(made)) | {f"own.{name}": np.array(array, order="C") for name, array in made.items()}

    def restore(self, saved: Saved) -> None:
        """Give it back what it remembered; raises RunError."""
        if not self._remembers:
            return
        count, arrays = saved.count("own"), saved.under("own").rest()
        if count != len(arrays):
            saved.refuse("own", f"tells of {count} arrays, and {len(arrays)} are there")
        self._call("restore", self._own.restore, arrays)

    def _call(self, what: str, function: Any, *arguments: Any) -> Any:
        return self._source.call(what, function, *arguments)


def try_out(config: Config) -> None:
    """Let a user's oracle do each thing once, on zeros; raises ConfigError, so that it is told before anything starts."""
    oracle, data = config.oracle, config.data
    shape = Shape(state(config), classes(config), config.model.dtype, link(config))
    h = np.zeros((data.batch, shape.width), shape.dtype)
    y = np.eye(shape.classes, dtype=shape.dtype)[np.zeros(data.batch, int)] if oracle.sees_label else None
    try:
        own = Own(oracle.code, oracle.file or "oracle.code", shape, np.random.default_rng(0))
        own.see(h, y, h, 0)
        g = own.predict(h, y, 0)
        own.gradient(h, y, g)
        own.restore(Saved(own.state(), "a box"))
    except RunError as error:
        why = "" if oracle.sees_label else "; y is None here: if it needs the labels, --oracle.sees_label true"
        raise ConfigError(f"{error}{why}") from None
    if not np.isfinite(g).all():
        raise ConfigError(
            f"{oracle.file}: Oracle.predict returned a number that is not finite, for an activation of zeros"
        )


def _is_plain(name: object, array: object) -> bool:
    """Whether an array can be saved: without pickles."""
    return isinstance(name, str) and isinstance(array, np.ndarray) and array.dtype.kind in "biufc"
