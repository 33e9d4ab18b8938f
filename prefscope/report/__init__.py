"""What leaves a ledger: summaries, tables, plots and exported files."""
