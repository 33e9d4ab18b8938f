"""Computing log-probs: tokenization, loading of checkpoints, forward passes, and the store of their results."""
