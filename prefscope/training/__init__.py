"""A training while it goes on: finds its checkpoints, scores each as it appears, and keeps a ledger of each."""
