"""The pipeline: facts, rules, the edge to ZeroMQ, and the drivers. Importing it imports nothing else.

    layer 0  errors  config  actions  plan  mnist  data  cells  oracles  heads     facts
    layer 1  stage  schedules  box  wire  trace  control                           rules
    layer 2  transport (the only file that imports zmq)                            the edge
    layer 3  drive  worker  reference                                              drivers

A file imports only from lower layers. Layers 0 and 1 know no clock, socket, thread or process.
"""

__version__ = "0.1.0"
