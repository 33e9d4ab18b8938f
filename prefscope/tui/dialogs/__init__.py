"""Dialogs that a screen opens over itself."""
