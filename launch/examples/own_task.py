"""A task of your own: which of two sequences of numbers adds up to more?

timebox run --data.file own_task.py --model.loss bce --model.width 32 --model.boxes 3 --data.train 500 --data.test 200
"""

import numpy as np

STEPS = 6


class Task:
    """Every stage draws each batch by itself, from the same seed."""

    inputs = 2  # of a step
    outputs = 1  # of the head
    steps = 6  # spread over the boxes; 1: every box sees all of x

    def draw(self, rng, rows):
        """Return x (steps, rows, inputs) and y (rows, outputs); `rng` is the only source of chance."""
        x = rng.standard_normal((STEPS, rows, 2))
        first, second = x.sum(axis=0).T
        return x, (first > second)[:, np.newaxis]
