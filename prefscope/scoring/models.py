"""Loads tokenizers, configs and weights with transformers.

Loads only safetensors and no remote code, unless the user allows it.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from prefscope.errors import ModelError
from prefscope.scoring.adapters import apply_adapters
from prefscope.scoring.checkpoints import Checkpoint, read_json, weight_files
from prefscope.scoring.context import context_of
from prefscope.scoring.forward_mode import OtherRanks
from prefscope.scoring.fused import Fusion
from prefscope.scoring.headers import BYTES, stored_dtype
from prefscope.scoring.load_errors import loading_errors, refuse_missing, refuse_unused
from prefscope.scoring.splitting import split_arguments
from prefscope.settings import Dtype, ModelSettings

VOCABULARIES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken", "*.spm", "spiece.model"),
    *("sentencepiece.*.model", "tekken.json", "vocab.model", "*.vocab"),
)
"""Files with the vocabulary of a tokenizer."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a split model that this process holds (ranks.py)."""

    slice_start: int
    """First token of the vocabulary whose logits are computed here."""
    slice_width: int
    """Number of tokens whose logits are computed here; 0 if all are."""
    number: int = 0
    """Number of models that were loaded before this one."""
    ranks: OtherRanks | None = None
    """The other ranks; None except in rank 0."""


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal language model ready to score."""

    module: PreTrainedModel
    peft: Any
    """The PEFT wrapper around the module, or None."""
    device: torch.device
    """Device of its inputs."""
    dtype: str
    attention: str
    """The attention implementation that transformers chose."""
    adapters: Mapping[Checkpoint, str] = field(default_factory=dict)
    """PEFT's name of each adapter."""
    part: Part | None = None
    """None if the whole model is in this process."""
    is_trained: bool = False
    """Whether its weights belong to a training that goes on, and must not be converted even temporarily."""
    fusion: Fusion = field(default_factory=Fusion)
    """Whether its forward passes use fused kernels."""

    def adapter_for(self, checkpoint: Checkpoint) -> AbstractContextManager[None]:
        """Return a context in which a checkpoint's adapter is on, or all are off for a base model."""
        if self.peft is not None and (checkpoint.base is None or checkpoint.off):
            return self.peft.disable_adapter()  # type: ignore[no-any-return]
        if len(self.adapters) > 1:
            self.peft.set_adapter(self.adapters[checkpoint])
        return nullcontext()


def pick_device(asked: str) -> torch.device:
    """Return the device to use; `auto` prefers CUDA, then Apple's MPS, then the CPU.

    Raises:
        ModelError: If the device is unknown or not available.
    """
    if asked == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(asked)
        if device.type == "cuda":  # a tensor would take some of its memory, even if only workers use it
            torch.cuda.get_device_properties(device)
        else:
            torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"Device {asked!r} cannot be used ({reason})", hint="Try --device cpu.") from error
    return device


def pick_dtype(asked: Dtype, device: torch.device, checkpoints: list[Checkpoint]) -> str:
    """Return the dtype to compute in; `auto` is the widest that a model is stored in, on CPUs at least float32."""
    if asked != "auto":
        return asked
    stored = {stored_dtype(checkpoint) for checkpoint in checkpoints}
    widest = max(stored, key=BYTES.__getitem__)
    if widest == "float64" and device.type != "mps":  # MPS has no float64
        return widest
    return widest if device.type != "cpu" and stored in ({"float16"}, {"bfloat16"}) else "float32"


def _source(checkpoint: Checkpoint, models: ModelSettings) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that locate a full checkpoint."""
    arguments: dict[str, Any] = {"trust_remote_code": models.trust_remote_code}
    if checkpoint.is_gguf:
        return {
            **arguments,
            "pretrained_model_name_or_path": str(checkpoint.path.parent),
            "gguf_file": checkpoint.path.name,
        }
    return {**arguments, "pretrained_model_name_or_path": str(checkpoint.path)}


def load_tokenizer(checkpoint: Checkpoint, models: ModelSettings) -> PreTrainedTokenizerBase | None:
    """Load a checkpoint's tokenizer, preferring an adapter's own to its base's; None if there is none.

    If only the processor of a vision-language model has a chat template (chat_template.json), the tokenizer gets it.

    Raises:
        ModelError: If the tokenizer files cannot be read.
    """
    if not has_vocabulary(checkpoint):
        return load_tokenizer(checkpoint.base, models) if checkpoint.base is not None else None
    with loading_errors(checkpoint, "the tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(**_source(checkpoint, models))
        if not isinstance(tokenizer.model_max_length, int | float):
            raise ModelError(
                f"model_max_length is {tokenizer.model_max_length!r}, not a number",
                where=str(checkpoint.path / "tokenizer_config.json"),
            )
    processor = checkpoint.path / "chat_template.json"
    if tokenizer.chat_template is None and processor.is_file():
        template = read_json(processor).get("chat_template")
        tokenizer.chat_template = template if isinstance(template, str) else None
    return tokenizer


def has_vocabulary(checkpoint: Checkpoint) -> bool:
    """Return whether the checkpoint itself has a tokenizer; a tokenizer config alone is not enough."""
    return checkpoint.is_gguf or any(True for pattern in VOCABULARIES for _ in checkpoint.path.glob(pattern))


@functools.lru_cache(maxsize=4)  # reading a GGUF file's config takes seconds
def load_config(checkpoint: Checkpoint, models: ModelSettings) -> PretrainedConfig:
    """Load the config of a full checkpoint.

    Raises:
        ModelError: If the config cannot be read.
    """
    with loading_errors(checkpoint, "the config"):
        config: PretrainedConfig = AutoConfig.from_pretrained(**_source(checkpoint, models))
    return config


def attention_of(checkpoint: Checkpoint, models: ModelSettings) -> str:
    """Return the attention implementation that transformers will choose, without loading weights."""
    asked = {} if models.attn == "auto" else {"attn_implementation": models.attn}
    config = copy.deepcopy(load_config(checkpoint.full, models))
    loader = _loader_of(checkpoint.full, config)
    with loading_errors(checkpoint, "the model"), torch.device("meta"):
        module = loader.from_config(config, trust_remote_code=models.trust_remote_code, **asked)
    return str(module.config._attn_implementation)  # noqa: SLF001 (transformers names it nowhere else)


def _loader_of(checkpoint: Checkpoint, config: PretrainedConfig) -> Any:
    """Return the class that loads a language model with some config; vision-language models are scored as text models.

    Raises:
        ModelError: If the config is of another kind of model.
    """
    if config.is_encoder_decoder:
        raise ModelError(
            f"A {config.model_type} model has an encoder and a decoder, but only causal language models can be scored",
            where=checkpoint.name,
        )
    images = AutoModelForImageTextToText._model_mapping  # noqa: SLF001 (transformers names it nowhere else)
    texts = AutoModelForCausalLM._model_mapping  # noqa: SLF001
    return AutoModelForImageTextToText if type(config) in images and type(config) not in texts else AutoModelForCausalLM


def context_length(checkpoint: Checkpoint, models: ModelSettings) -> int | None:
    """Return the number of positions of a model, or None if its config does not define it."""
    return context_of(load_config(checkpoint.full, models))


def rope_limit(config: PretrainedConfig) -> int | None:
    """Return the length beyond which a model uses a second set of rotary frequencies; None if it has only one."""
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    every = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    limits = [one.get("original_max_position_embeddings") for one in every if one.get("rope_type") == "longrope"]
    return min((limit for limit in limits if isinstance(limit, int)), default=None)


def end_tokens(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the token ids that end a response: the tokenizer's EOS and those of the generation config."""
    found = {tokenizer.eos_token_id}
    file = checkpoint.full.path / "generation_config.json"
    if file.is_file():
        recorded = read_json(file).get("eos_token_id")
        found.update(recorded if isinstance(recorded, list) else [recorded])
    return frozenset(token for token in found if isinstance(token, int))


def template_hash(tokenizer: PreTrainedTokenizerBase, chat_template: str | None) -> str:
    """Return a hash of the chat template in use; empty without a template."""
    template = chat_template if chat_template is not None else tokenizer.chat_template
    return hashlib.sha256(repr(template).encode()).hexdigest()[:16] if template else ""


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of everything that determines token ids: the fast tokenizer, or the vocabulary of a slow one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differing_ids(policy: PreTrainedTokenizerBase, ref: PreTrainedTokenizerBase) -> dict[int, tuple[str, str]]:
    """Return the ids that stand for different tokens in policy and reference, with both tokens."""
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
    with_base: bool = False,
) -> LanguageModel:
    """Load the model of a checkpoint in evaluation mode; an adapter is loaded with its base.

    Args:
        checkpoint: The checkpoint to load.
        models: How to load it.
        device: The device to load it to.
        dtype: The dtype of its weights.
        others: More adapters for the same base.
        with_base: Whether the adapter's base is scored from the same memory, with the adapter switched off.

    Raises:
        ModelError: If transformers or PEFT cannot load it, or memory does not match the files.
        MissingExtraError: If a required package is not installed.
        ResourceError: If the weights do not fit into memory.
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
    loader = _loader_of(full, load_config(full, models))
    quantized = getattr(load_config(full, models), "quantization_config", None) is not None
    if models.tp > 1:
        arguments |= split_arguments(load_config(full, models), models.tp)
    elif models.device_map is not None:
        arguments["device_map"] = models.device_map
    elif quantized:  # quantized weights are created on their device and cannot be moved
        arguments["device_map"] = {"": str(device)}
    with loading_errors(full, "the model"):
        loaded: Any = loader.from_pretrained(**arguments, output_loading_info=True)
        module: PreTrainedModel = loaded[0]
        missing: set[str] = loaded[1]["missing_keys"]
        unexpected: set[str] = loaded[1]["unexpected_keys"]
        if not {"device_map", "distributed_config"} & arguments.keys():
            module.to(device)  # type: ignore[arg-type]  # transformers' wrapper hides torch's signature
    refuse_missing(full, missing)
    refuse_unused(full, unexpected, module, quantized=quantized)
    adapters = {} if checkpoint.base is None else {one: f"adapter{i}" for i, one in enumerate((checkpoint, *others))}
    peft = apply_adapters(adapters, module, models, scores_base=with_base) if adapters else None
    module.eval()
    attention = str(module.config._attn_implementation)  # noqa: SLF001 (transformers names it nowhere else)
    inputs: Any = module.get_input_embeddings()
    first = device if models.device_map is None else inputs.weight.device
    return LanguageModel(module, peft, first, dtype, attention, adapters)
