"""Converts errors of transformers, PEFT and safetensors into single sentences that name the checkpoint."""

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
_OLD_BUFFER = re.compile(r"\.(?:inv_freq|cos_cached|sin_cached|causal_mask|masked_bias|attn\.bias|attention\.bias)$")


@contextlib.contextmanager
def loading_errors(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """Convert errors to errors that name the checkpoint, and suppress the libraries' warnings.

    Args:
        checkpoint: The checkpoint that is loaded.
        what: The part that is loaded, with its article, such as `the tokenizer`.

    Raises:
        ModelError: If something cannot be loaded.
        MissingExtraError: If an optional package is missing.
        ResourceError: If the device has too little memory.
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
            "The weights do not fit into the device's memory", where=checkpoint.name, hint="Try --device cpu."
        ) from error
    except PrefscopeError:
        raise
    except Exception as error:  # libraries raise errors of any kind on invalid files, as unpickling does
        raise ModelError(f"{what.capitalize()} cannot be loaded: {first_line(error)}", where=checkpoint.name) from error


def first_line(error: BaseException) -> str:
    """Return the first informative line of an error, without a full stop."""
    if "ignore_mismatched_sizes" in str(error):  # transformers refers to a report that is not shown
        return "some weights have a different shape than in the config"
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if len(lines) > 1 and lines[0].startswith("Error(s) in loading state_dict"):  # torch's list starts on the next line
        return lines[1].rstrip(".")
    return lines[0].rstrip(".") if lines else type(error).__name__


def refuse_missing(checkpoint: Checkpoint, names: Collection[str]) -> None:
    """Raise an error for missing weights, which the loaders would otherwise fill with random numbers.

    Raises:
        ModelError: If names are missing.
    """
    if names:
        raise ModelError(
            f"{len(names)} weights of the model are not in this checkpoint, the first is {min(names)}",
            where=checkpoint.name,
            hint="Copy the checkpoint again, or save it from the unwrapped model.",
        )


def refuse_unused(checkpoint: Checkpoint, names: Iterable[str], module: PreTrainedModel, *, quantized: bool) -> None:
    """Raise an error for weights that belong to the model but were dropped because its config has no place for them.

    Ignored are buffers saved by old releases, layers that predict further tokens, and towers other than the text
    model's, which are not part of the forward pass.

    Args:
        checkpoint: The checkpoint that was loaded.
        names: Names of the tensors that loading dropped.
        module: The model that the config describes.
        quantized: Whether the layers hold scales of a quantization, which loading may drop.

    Raises:
        ModelError: If there are such weights.
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
            return not quantized and name.rpartition(".")[0] in modules
        layer = int(found[2])
        return layer >= depth + further or (layer < depth and not quantized)

    dropped = sorted(filter(is_dropped, names))
    if dropped:
        raise ModelError(
            f"{len(dropped)} weights of this checkpoint have no place in the model that its config describes, the "
            f"first is {dropped[0]}",
            where=checkpoint.name,
            hint="Use the config.json that was saved with these weights: the number of layers, the biases and the "
            "architecture have to match.",
        )
