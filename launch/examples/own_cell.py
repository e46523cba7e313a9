"""A cell of your own: leaky units, which keep a share of their state by themselves (Jaeger et al. 2007, equation 2).

h_s = (1 − LEAK) h_{s−1} + LEAK tanh(z_s), with z_s = x_s Wx + h_{s−1} Wrec, which Timebox computes.

    timebox run --preset rows --model.file own_cell.py --model.recurrent normal
"""

import numpy as np

LEAK = 0.5


class Cell:
    """What happens between the products with Wx and Wrec, forward and backward; all arrays are (rows, width)."""

    gates = 1  # Wx, Wrec and b have so many columns for each unit, and z with them

    def forward(self, z, h):
        """Return the state that leaves a step."""
        return (1 - LEAK) * h + LEAK * np.tanh(z)

    def backward(self, z, h, g):
        """Return from g, the gradient at that state, the one at z and the one at h by the way that does not go through z."""
        return g * LEAK * (1 - np.tanh(z) ** 2), g * (1 - LEAK)
