"""The terminal UI. It imports no torch: scoring runs in a process of its own (prefscope/worker.py)."""
