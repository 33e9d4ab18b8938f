"""Errors of transformers, PEFT and safetensors, as one sentence that names the checkpoint."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterator

import torch

from prefscope.errors import MissingExtraError, ModelError, PrefscopeError, ResourceError
from prefscope.scoring.checkpoints import Checkpoint


@contextlib.contextmanager
def loading_errors(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """Turn errors into ones that name the checkpoint, and keep the libraries' warnings off stderr.

    Args:
        checkpoint: What is loaded.
        what: Which part of it, with its article: `the tokenizer`.

    Raises:
        ModelError: Something cannot be loaded.
        MissingExtraError: An optional package is missing.
        ResourceError: The device has too little memory.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except ImportError as error:
        extra = next((name for name in ("gguf", "peft") if name in str(error).lower()), None)
        if extra is not None:
            raise MissingExtraError(f"{checkpoint.name}: loading {what}", extra) from error
        raise ModelError(
            f"Loading {what} needs a missing package ({first_line(error)})", where=checkpoint.name
        ) from error
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            "There is not enough device memory for the weights", where=checkpoint.name, hint="Try --device cpu."
        ) from error
    except PrefscopeError:
        raise
    except Exception as error:  # files of a stranger make the libraries raise anything, as unpickling does
        raise ModelError(f"{what.capitalize()} cannot be loaded: {first_line(error)}", where=checkpoint.name) from error


def first_line(error: BaseException) -> str:
    """Return what an error says first that a person can use, without a full stop."""
    if "ignore_mismatched_sizes" in str(error):  # transformers points at a report that nobody sees
        return "some weights have another shape than the config says"
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if len(lines) > 1 and lines[0].startswith("Error(s) in loading state_dict"):  # torch's list begins below
        return lines[1].rstrip(".")
    return lines[0].rstrip(".") if lines else type(error).__name__


def refuse_missing(checkpoint: Checkpoint, names: Collection[str]) -> None:
    """Refuse a checkpoint without some of its weights: the loaders would fill them with random numbers.

    Raises:
        ModelError: There are such names.
    """
    if names:
        raise ModelError(
            f"{len(names)} weights of the model are not in this checkpoint, the first is {min(names)}",
            where=checkpoint.name,
            hint="Copy the checkpoint again, or save it from the unwrapped model.",
        )
