"""Which benchmarks there are: for help, without importing what they need."""

from __future__ import annotations

#: What `bench` measures, and how many repeats are usual (`bench` itself is slow to import).
BENCHES = {
    "hop": ("a message, beside raw pyzmq", 60),
    "start": ("the time to the first update", 10),
    "arithmetic": ("a stage, beside a bare loop of the same numpy calls", 15),
    "process": ("two boxes as processes, beside one process", 5),
    "torch": ("pipelines, beside torch.distributed.pipelining", 5),
    "emulated": ("eight boxes of 20 ms, beside theory", 5),
    "trace": ("what recording costs", 10),
    "replay": ("whether runs replay to the bit", 10),
    "simulate": ("how fast virtual time goes, beside SimPy", 5),
    "scale": ("ten thousand stages in virtual time, and what they ask of the launcher: seven minutes", 5),
    "rates": ("every learning rule at several rates, on validation images", 3),
    "rules": ("every learning rule beside every control, on test images", 5),
    "family": ("dense layers, binary addition and adding: oracles beside backpropagation and controls", 3),
    "copy": ("how long sequences are learnt, by oracles and by truncated backpropagation", 3),
    "repeat-copy": ("the same of repeat-copy", 3),
    "checkpoints": ("what a checkpoint costs", 5),
    "soak": ("whether the memory of a long run is flat: ten minutes", 1),
    "kills": ("whether runs survive being killed at random moments", 100),
    "predict": ("how good predictions are", 4),
    "hostile": ("a run among strangers: a million hostile messages at its sockets", 1),
}
