"""The pipeline: facts, rules, the edge to ZeroMQ, and the drivers. Importing it imports nothing else.

    layer 0: facts
        errors  schema_emulate  schema_run  schema  levels  presets  config  actions  plan  programs  filled
        checks  checks_traced  checks_own  checks_transport  faults  emulation  costs  mnist  data  arrays
        state  stash  sequences  sizes  learning  drawn  cells  cells_rnn  cells_gated  cells_dense  own_code
        cell_own  task_own  traces  oracles  oracle_mlp  oracle_controls  oracle_own  optimizers  fitting
        heads  files  frames  keys  strangers  seals
    layer 1: rules
        lacks  counters  standing  done  stage  schedules  reckon  steps  weights  ledger  readout  guard
        classifier  work  stepper  box  head  works  payloads  probe  wire  trace  sums  control  results
        worklog  checkpoints  aside
    layer 2: the edge (transport is the only file that imports zmq)
        addresses  transport  tape  recorder
    layer 3: drivers
        maxplus  abreast  drive  grid  simulate  replay  lifeline  stacks  backup  emulate  delays  live
        heartbeat  saver  orders  faulty  attempt  process  worker  network  reference

A file imports only from its own or lower layers. Layers 0 and 1 know no clock, socket, thread or process, but for the log's
lines, which carry the time, and MNIST, which may be fetched.
"""

__version__ = "0.1.0"
