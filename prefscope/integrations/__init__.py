"""What other libraries can use of prefscope: a callback for trainers that build on transformers' Trainer."""

from prefscope.integrations.callback import PreferenceCallback

__all__ = ["PreferenceCallback"]
