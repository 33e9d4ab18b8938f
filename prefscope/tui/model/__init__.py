"""The data behind the screens, without Textual: sessions, runs, knobs, and the text of cells and rows."""
