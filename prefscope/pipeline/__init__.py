"""Data set in, ledger out: the one core that every front end calls.

`run.score` is its door. A run reads rows into token ids (`intake`, `spool`), scores what the store lacks (`run`), and
writes the ledger (`assembly`, `manifest`). `ready_made` makes a ledger of log-probs that somebody else computed.
"""
