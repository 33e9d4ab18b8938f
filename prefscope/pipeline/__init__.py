"""The pipeline from a data set to a ledger, shared by the CLI, the screens and the Python API.

The entry point is `run`. A run with models (`model_run`) reads rows into token ids (`reader`, `spool`), scores whatever
is not in the store (`passes`, `shard_scorer`, `dispatch`), and writes the ledger (`assembly`, `manifest`). `ready_made`
builds a ledger from log-probs that were computed elsewhere.
"""
