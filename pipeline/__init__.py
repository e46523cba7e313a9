"""The pipeline: facts, rules, the edge to ZeroMQ, and the drivers. Importing it imports nothing else.

    layer 0  errors  frames  schema  config  actions  plan  mnist  data  arrays  cells  oracles  heads  files    facts
    layer 1  lacks  standing  stage  schedules  reckon  steps  box  head  payloads  probe  wire                  rules
             trace  tape  recorder  results  control  worklog
    layer 2  transport (the only file that imports zmq)                                          the edge
    layer 3  drive  simulate  lifeline  emulate  live  worker  reference                         drivers

A file imports only from its own or lower layers. Layers 0 and 1 know no clock, socket, thread or process, but for the log's
lines, which carry the time, and MNIST, which may be fetched.
"""

__version__ = "0.1.0"
