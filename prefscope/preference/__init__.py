"""Rewards, losses and diagnostics as pure functions of log-probs, for NumPy, torch and plain floats."""
