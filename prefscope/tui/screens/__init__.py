"""The main, load and error screens."""
