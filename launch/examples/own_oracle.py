"""An oracle of your own: the mean gradient of each label.

timebox run --preset rows --oracle.file own_oracle.py     (the preset lets oracles see labels: --oracle.sees_label true)
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
