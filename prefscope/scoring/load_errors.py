"""Errors of transformers, PEFT and safetensors, as one sentence that names the checkpoint."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Collection, Iterable, Iterator

import torch
from transformers import PreTrainedModel

from prefscope.errors import MissingExtraError, ModelError, PrefscopeError, ResourceError
from prefscope.scoring.checkpoints import Checkpoint

_LAYER = re.compile(r"(\D+)\.(\d+)\.")
_OLD_BUFFER = re.compile(r"\.(?:inv_freq|masked_bias|attn\.bias|attention\.bias)$")


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


def refuse_unused(checkpoint: Checkpoint, names: Iterable[str], module: PreTrainedModel) -> None:
    """Refuse a checkpoint with weights of the model that its config has no place for: loading drops them.

    Buffers that old releases saved, the layers that predict further tokens, and other towers than the text model's are
    no part of the forward pass.

    Args:
        checkpoint: What was loaded.
        names: The tensors that loading left out.
        module: The model that the config describes.

    Raises:
        ModelError: There are such weights.
    """
    config = module.config.get_text_config()
    stacks = {found[1] for name, _ in module.named_parameters() if (found := _LAYER.match(name))}
    modules = {name for name, _ in module.named_modules() if name}
    depth, further = getattr(config, "num_hidden_layers", 0), getattr(config, "num_nextn_predict_layers", 0) or 0

    def is_dropped(name: str) -> bool:
        if _OLD_BUFFER.search(name):
            return False
        found = _LAYER.match(name)
        if found is None or found[1] not in stacks:
            return name.rpartition(".")[0] in modules
        return not depth <= int(found[2]) < depth + further

    dropped = sorted(filter(is_dropped, names))
    if dropped:
        raise ModelError(
            f"{len(dropped)} weights of this checkpoint have no place in the model that its config describes, the "
            f"first is {dropped[0]}",
            where=checkpoint.name,
            hint="Use the config.json that was saved with these weights: the number of layers, the biases and the "
            "architecture have to be theirs.",
        )
