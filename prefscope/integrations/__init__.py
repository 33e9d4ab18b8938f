"""What other libraries can use of prefscope: a callback for trainers that build on transformers' Trainer."""

from transformers.utils import logging as _logging

_verbosity, _shows_bars = _logging.get_verbosity(), _logging.is_progress_bar_enabled()

from prefscope.integrations.callback import PreferenceCallback  # noqa: E402 (it silences transformers, as runs do)

_logging.set_verbosity(_verbosity)  # in a training, that is the user's business
if _shows_bars:
    _logging.enable_progress_bar()

__all__ = ["PreferenceCallback"]
