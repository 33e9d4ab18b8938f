"""Text: reading preference data sets and normalising their layouts."""
