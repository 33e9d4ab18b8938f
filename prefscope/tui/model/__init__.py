"""What the screens show, without Textual: sessions, runs, knobs, and text for cells and rows."""
