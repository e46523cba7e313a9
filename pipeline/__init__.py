"""The pipeline: facts, rules, the edge to ZeroMQ, and the drivers. Importing it imports nothing else.

    layer 0  errors  frames  schema (schema_emulate, schema_run)  presets  config  checks (checks_traced)  filled       facts
             actions  plan  programs  emulation  costs  mnist  levels  sequences  sizes  drawn  data  arrays  stash
             heads  files  optimizers  fitting  cells  cells_rnn  cells_gated  cells_dense  traces  oracles  oracle_mlp
             oracle_controls  oracle_own  keys  seals  strangers
    layer 1  lacks  standing  stage  schedules  reckon  steps  weights  guard  work  stepper     rules
             readout  box  head  works  payloads  probe  wire  trace  sums  control  results  worklog
    layer 2  transport (the only file that imports zmq)  addresses  tape  recorder               the edge
    layer 3  drive  grid  simulate  replay  maxplus  live  delays  emulate  backup  lifeline     drivers
             worker  network  reference

A file imports only from its own or lower layers. Layers 0 and 1 know no clock, socket, thread or process, but for the log's
lines, which carry the time, and MNIST, which may be fetched.
"""

__version__ = "0.1.0"
