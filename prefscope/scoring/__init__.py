"""Log-probs: tokenization, checkpoints, the forward passes and the store that keeps their results."""
