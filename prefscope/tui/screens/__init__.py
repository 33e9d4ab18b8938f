"""The screens: main, load and error."""
