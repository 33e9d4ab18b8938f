"""The ledger: the table of pairs and log-probs from which all reports, exports and screens are made."""
