"""All loading of checkpoints: tokenizers, configs and weights, by transformers.

safetensors only and no remote code, unless the user says otherwise.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from prefscope.errors import MissingExtraError, ModelError, ResourceError
from prefscope.scoring.checkpoints import Checkpoint, read_json, weight_files
from prefscope.scoring.context import context_of
from prefscope.scoring.headers import BYTES, stored_dtype
from prefscope.scoring.splitting import split_arguments
from prefscope.settings import Dtype, ModelSettings

if TYPE_CHECKING:
    from prefscope.scoring.ranks import Ranks

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


@dataclass(frozen=True, slots=True)
class Part:
    """What this process has of a model that is split among several (ranks.py)."""

    slice_start: int
    """First token of the vocabulary whose logits are computed here."""
    slice_width: int
    """How many tokens from there; 0: all logits are."""
    number: int = 0
    """How many models were loaded before."""
    ranks: Ranks | None = None
    """The other processes, in the one that they follow."""


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal language model ready to score."""

    module: PreTrainedModel
    peft: Any
    """The PEFT wrapper around the module, or None."""
    device: torch.device
    """Where its inputs go."""
    dtype: str
    attention: str
    """The attention implementation that transformers chose."""
    adapters: Mapping[Checkpoint, str] = field(default_factory=dict)
    """The name that PEFT knows each adapter by."""
    part: Part | None = None
    """None: all of the model is here."""

    def adapter_for(self, checkpoint: Checkpoint) -> AbstractContextManager[None]:
        """Return a context in which an adapter is on for its own checkpoint, and none is for the base model."""
        if self.peft is not None and checkpoint.base is None:
            return self.peft.disable_adapter()  # type: ignore[no-any-return]
        if len(self.adapters) > 1:
            self.peft.set_adapter(self.adapters[checkpoint])
        return nullcontext()


def pick_device(asked: str) -> torch.device:
    """Return the device to compute on; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ModelError: The device is not known or not there.
    """
    if asked == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"Device {asked!r} cannot be used ({reason})", hint="Try --device cpu.") from error
    return device


def pick_dtype(asked: Dtype, device: torch.device, checkpoints: list[Checkpoint]) -> str:
    """Return the one dtype to compute in: `auto` is the widest that a model is stored in, on a CPU float32 at least."""
    if asked != "auto":
        return asked
    stored = {stored_dtype(checkpoint) for checkpoint in checkpoints}
    widest = max(stored, key=BYTES.__getitem__)
    if widest == "float64" and device.type != "mps":  # which has none
        return widest
    return widest if device.type != "cpu" and stored in ({"float16"}, {"bfloat16"}) else "float32"


def _source(checkpoint: Checkpoint, models: ModelSettings) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that say where a full checkpoint lies."""
    arguments: dict[str, Any] = {"trust_remote_code": models.trust_remote_code}
    if checkpoint.is_gguf:
        return {
            **arguments,
            "pretrained_model_name_or_path": str(checkpoint.path.parent),
            "gguf_file": checkpoint.path.name,
        }
    return {**arguments, "pretrained_model_name_or_path": str(checkpoint.path)}


@contextlib.contextmanager
def _told(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """Turn what transformers raises into one sentence that names the checkpoint, and keep its warnings off stderr."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except ImportError as error:
        extra = next((name for name in ("gguf", "peft") if name in str(error).lower()), None)
        if extra is not None:
            raise MissingExtraError(f"{checkpoint.name}: loading {what}", extra) from error
        raise ModelError(
            f"Loading {what} needs a missing package ({_first_line(error)})", where=checkpoint.name
        ) from error
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            "There is not enough device memory for the weights", where=checkpoint.name, hint="Try --device cpu."
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(
            f"{what.capitalize()} cannot be loaded: {_first_line(error)}", where=checkpoint.name
        ) from error


def _first_line(error: BaseException) -> str:
    if "ignore_mismatched_sizes" in str(error):  # transformers points at a report that nobody sees
        return "some weights have another shape than the config says"
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def load_tokenizer(checkpoint: Checkpoint, models: ModelSettings) -> PreTrainedTokenizerBase | None:
    """Return the checkpoint's tokenizer, an adapter's own before its base's; None where it has none.

    Raises:
        ModelError: The tokenizer files cannot be read.
    """
    if not checkpoint.is_gguf and not any(
        (checkpoint.path / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
    ):
        return load_tokenizer(checkpoint.base, models) if checkpoint.base is not None else None
    with _told(checkpoint, "the tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(**_source(checkpoint, models))
    return tokenizer


@functools.lru_cache(maxsize=4)  # a GGUF file's config takes seconds
def load_config(checkpoint: Checkpoint, models: ModelSettings) -> PretrainedConfig:
    """Return the config of a full checkpoint.

    Raises:
        ModelError: The config cannot be read.
    """
    with _told(checkpoint, "the config"):
        config: PretrainedConfig = AutoConfig.from_pretrained(**_source(checkpoint, models))
    return config


def attention_of(checkpoint: Checkpoint, models: ModelSettings) -> str:
    """Return the attention implementation that transformers will choose, without loading weights."""
    asked = {} if models.attn == "auto" else {"attn_implementation": models.attn}
    config = copy.deepcopy(load_config(checkpoint.full, models))
    with _told(checkpoint, "the model"), torch.device("meta"):
        module = AutoModelForCausalLM.from_config(config, trust_remote_code=models.trust_remote_code, **asked)
    return str(module.config._attn_implementation)  # noqa: SLF001 (transformers names it nowhere else)


def context_length(checkpoint: Checkpoint, models: ModelSettings) -> int | None:
    """Return how many positions the model was made for, or None where its config does not say."""
    return context_of(load_config(checkpoint.full, models))


def rope_limit(config: PretrainedConfig) -> int | None:
    """Return the length beyond which a model changes to its second set of rotary frequencies; None without one."""
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    every = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    limits = [one.get("original_max_position_embeddings") for one in every if one.get("rope_type") == "longrope"]
    return min((limit for limit in limits if isinstance(limit, int)), default=None)


def end_tokens(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids that end a response: the tokenizer's EOS and those of the generation config."""
    found = {tokenizer.eos_token_id}
    file = checkpoint.full.path / "generation_config.json"
    if file.is_file():
        recorded = read_json(file).get("eos_token_id")
        found.update(recorded if isinstance(recorded, list) else [recorded])
    return frozenset(token for token in found if isinstance(token, int))


def template_hash(tokenizer: PreTrainedTokenizerBase, chat_template: str | None) -> str:
    """Return a hash of the chat template in use, empty without one."""
    template = chat_template if chat_template is not None else tokenizer.chat_template
    return hashlib.sha256(repr(template).encode()).hexdigest()[:16] if template else ""


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of what decides token ids: the whole fast tokenizer, or the vocabulary of a slow one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differing_ids(policy: PreTrainedTokenizerBase, ref: PreTrainedTokenizerBase) -> dict[int, tuple[str, str]]:
    """Return the ids that mean another token to the reference than to the policy, with both meanings."""
    ours = {token: piece for piece, token in policy.get_vocab().items()}
    theirs = {token: piece for piece, token in ref.get_vocab().items()}
    return {token: (piece, theirs.get(token, "")) for token, piece in ours.items() if theirs.get(token) != piece}


def load_model(
    checkpoint: Checkpoint,
    models: ModelSettings,
    *,
    device: torch.device,
    dtype: str,
    others: Sequence[Checkpoint] = (),
) -> LanguageModel:
    """Return the model of a checkpoint on a device, in evaluation mode; an adapter sits on its base.

    Args:
        checkpoint: What to load.
        models: How to load it.
        device: Where to.
        dtype: What its weights become.
        others: More adapters to put on the base of an adapter.

    Raises:
        ModelError: transformers or PEFT cannot load it.
        MissingExtraError: It needs a package that is not installed.
        ResourceError: Its weights do not fit into memory.
    """
    full = checkpoint.full
    arguments = _source(full, models)
    arguments["dtype"] = getattr(torch, dtype)
    arguments["use_safetensors"] = None if models.allow_pickle else True
    if models.attn != "auto":
        arguments["attn_implementation"] = models.attn
    if full.is_gguf:
        arguments["quantization_config"] = transformers.GgufConfig(dequantize=True)
    else:
        weight_files(full, allow_pickle=models.allow_pickle)
    quantized = getattr(load_config(full, models), "quantization_config", None) is not None
    if models.tp > 1:
        arguments |= split_arguments(load_config(full, models), models.tp)
    elif models.device_map is not None:
        arguments["device_map"] = models.device_map
    elif quantized:  # such weights are made on their device and cannot be moved
        arguments["device_map"] = {"": str(device)}
    with _told(full, "the model"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(**arguments, output_loading_info=True)
        module: PreTrainedModel = loaded[0]
        missing: set[str] = loaded[1]["missing_keys"]
        if not {"device_map", "distributed_config"} & arguments.keys():
            module.to(device)  # type: ignore[arg-type]  # transformers' wrapper hides torch's signature
    _refuse_missing(full, missing)
    adapters = {} if checkpoint.base is None else {one: f"adapter{i}" for i, one in enumerate((checkpoint, *others))}
    peft = _load_adapters(adapters, module, models) if adapters else None
    module.eval()
    attention = str(module.config._attn_implementation)  # noqa: SLF001 (transformers names it nowhere else)
    inputs: Any = module.get_input_embeddings()
    first = device if models.device_map is None else inputs.weight.device
    return LanguageModel(module, peft, first, dtype, attention, adapters)


def _refuse_missing(checkpoint: Checkpoint, names: Collection[str]) -> None:
    """Refuse a checkpoint without some of its weights: the loaders would fill them with random numbers."""
    if names:
        raise ModelError(
            f"{len(names)} weights of the model are not in this checkpoint, the first is {min(names)}",
            where=checkpoint.name,
            hint="Copy the checkpoint again, or save it from the unwrapped model.",
        )


def _load_adapters(adapters: Mapping[Checkpoint, str], module: PreTrainedModel, models: ModelSettings) -> Any:
    """Return the PEFT model that puts adapters on their base, each under its name."""
    try:
        from peft import PeftModel, get_peft_model_state_dict, load_peft_weights
    except ImportError as error:
        raise MissingExtraError(f"{next(iter(adapters)).name}: loading an adapter", "peft") from error
    peft: Any = None
    for checkpoint, name in adapters.items():
        weight_files(checkpoint, allow_pickle=models.allow_pickle)
        with _told(checkpoint, "the adapter"):
            if peft is None:
                peft = PeftModel.from_pretrained(module, str(checkpoint.path), adapter_name=name)
            else:
                peft.load_adapter(str(checkpoint.path), adapter_name=name)
            expected = get_peft_model_state_dict(peft, adapter_name=name, save_embedding_layers=False)
            stored = load_peft_weights(str(checkpoint.path), device="cpu")
        _refuse_missing(checkpoint, expected.keys() - stored.keys())
        if peft.peft_config[name].is_prompt_learning:
            raise ModelError(
                f"An adapter of type {peft.peft_config[name].peft_type.value} puts virtual tokens before the prompt, "
                "and those cannot be scored",
                where=checkpoint.name,
                hint="LoRA and other adapters of the weights can.",
            )
    peft.eval()
    if models.device_map is None:
        peft.to(module.device)
    return peft
