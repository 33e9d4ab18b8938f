"""Numbers: rewards and losses as pure functions of log-probs, on NumPy, torch and plain floats."""
