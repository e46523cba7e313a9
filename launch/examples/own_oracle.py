"""An oracle of your own: the mean gradient of each label.

timebox run --preset rows --oracle.file own_oracle.py

The preset lets oracles see the labels; elsewhere add `--oracle.sees_label true`, without which y is None.
"""

import numpy as np


class Oracle:
    """It looks at the label alone."""

    def __init__(self, shape, rng):
        """Make the weights; shape has width, classes and dtype."""
        self.weights = {"M": np.zeros((shape.classes, shape.width), shape.dtype)}

    def predict(self, h, y, batch):
        """Return the synthetic gradient, (rows, width); y is one-hot, (rows, classes), or None without sees_label."""
        return y @ self.weights["M"]

    def gradient(self, h, y, error):
        """Return the gradient of ½‖ĝ − t‖² by each weight; error is (ĝ − t) / rows."""
        return {"M": y.T @ error}
