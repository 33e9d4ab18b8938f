"""The terminal UI. It does not import torch: scoring runs in a separate process (prefscope/worker.py)."""
