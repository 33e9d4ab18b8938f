"""The variables that a row passes to the chat template, excluding those that would change how it is called."""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING

from prefscope.data.records import Json, PreferencePair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VARIABLES = frozenset({"documents"})
"""Parameters of `apply_chat_template` that are only passed on to the template."""
OURS = frozenset({"messages", "conversations", "tools", "chat_template", "tokenize", "add_generation_prompt"})
"""Names with a meaning whatever the signature of `apply_chat_template`."""
FUNCTIONS = frozenset({"raise_exception", "strftime_now", "namespace", "range", "dict", "joiner", "cycler", "lipsum"})
"""Functions available in every template."""


class NotAVariableError(Exception):
    """A row passes something that is not a variable of the chat template."""


def template_variables(tokenizer: PreTrainedTokenizerBase, pair: PreferencePair) -> dict[str, Json]:
    """Return the template variables of a pair.

    Raises:
        NotAVariableError: If the row names an argument of `apply_chat_template`, a special token or a function.
    """
    variables = dict(pair.chat_template_kwargs or {})
    arguments = _arguments()
    for name in variables:
        if name in arguments:
            raise NotAVariableError(
                f"`chat_template_kwargs` has `{name}`, which would change how the template is called; only variables "
                "of the template are allowed"
            )
        if name in {*FUNCTIONS, *tokenizer.SPECIAL_TOKENS_ATTRIBUTES, *tokenizer.special_tokens_map}:
            raise NotAVariableError(f"`chat_template_kwargs` has `{name}`, which would replace the tokenizer's own")
    return variables


@cache
def _arguments() -> frozenset[str]:
    """Return the names of arguments that determine how a template is called and its text tokenized."""
    from transformers import PreTrainedTokenizerBase
    from transformers.utils.chat_template_utils import render_jinja_template

    functions = (PreTrainedTokenizerBase.apply_chat_template, render_jinja_template)
    return frozenset({name for one in functions for name in inspect.signature(one).parameters} | OURS) - VARIABLES
