"""The ledger: the table of pairs and log-probs that every report, export and screen reads."""
