"""prefscope: implicit rewards, margins and losses of preference pairs."""
__version__ = "0.1.0"
