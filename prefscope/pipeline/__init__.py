"""Data set in, ledger out: the one core that every front end calls.

`run` is the way in. A run with models (`model_run`) reads rows into token ids (`reader`, `spool`), scores what the
store does not have (`passes`, `shard_scorer`, `dispatch`), and writes the ledger (`assembly`, `manifest`). `ready_made`
makes a ledger of log-probs that somebody else computed.
"""
