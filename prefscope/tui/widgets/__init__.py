"""Widgets used in screens, panes and dialogs."""
