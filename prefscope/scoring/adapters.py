"""Loads adapters onto their base with PEFT, and verifies that memory matches the files.

Log-probs are stored under a key made from the checkpoint's files, so the weights that compute them must match the
files:

- every tensor in an adapter's file is in memory with the same values, and every tensor in memory is in the file;
- PEFT's forward pass equals that of the module, which is the one used for scoring;
- if the base is scored with its adapter switched off, its weights and logits are the same as before PEFT was applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from prefscope.errors import MissingExtraError, ModelError
from prefscope.scoring.adapter_files import stored_rows
from prefscope.scoring.checkpoints import Checkpoint, weight_files
from prefscope.scoring.load_errors import loading_errors, refuse_missing
from prefscope.settings import ModelSettings

PROBED_TOKENS = 16
CHUNK = 1 << 22
"""Words of a checksum that are processed at once."""


def apply_adapters(
    adapters: Mapping[Checkpoint, str], module: PreTrainedModel, models: ModelSettings, *, scores_base: bool
) -> Any:
    """Load adapters onto their base, and return the PEFT model.

    Args:
        adapters: The adapters, and their names in PEFT.
        module: Their base, freshly loaded.
        models: How to load.
        scores_base: Whether the base is scored, too, with the adapters switched off.

    Raises:
        ModelError: If an adapter cannot be loaded or scored, or memory does not match the files.
        MissingExtraError: If PEFT is not installed.
    """
    first = next(iter(adapters))
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError(f"{first.name}: loading an adapter", "peft") from error
    for checkpoint in adapters:
        weight_files(checkpoint, allow_pickle=models.allow_pickle)
    _resize(first, module)
    before = _Imprint.of(module.eval()) if scores_base else None
    peft: Any = None
    for checkpoint, name in adapters.items():
        with loading_errors(checkpoint, "the adapter"):
            if peft is None:
                peft = PeftModel.from_pretrained(module, str(checkpoint.path), adapter_name=name)
            else:
                peft.load_adapter(str(checkpoint.path), adapter_name=name)
        if peft.peft_config[name].is_prompt_learning:
            raise ModelError(
                f"An adapter of type {peft.peft_config[name].peft_type.value} puts virtual tokens before the prompt, "
                "which cannot be scored",
                where=checkpoint.name,
                hint="Use LoRA or another adapter that changes weights.",
            )
    peft.eval()
    if models.device_map is None:
        peft.to(module.device)
    for checkpoint, name in adapters.items():
        _check_weights(peft, checkpoint, name)
        _check_forward(peft, module, checkpoint, name)
    if before is not None:
        with peft.disable_adapter():
            before.check(module, first)
    return peft


def _resize(adapter: Checkpoint, module: PreTrainedModel) -> None:
    """Resize the base's embeddings to those that the adapter stores, for adapters whose training added tokens."""
    layers = {name: layer for name, layer in _embedding_layers(module) if stored_rows(adapter, name) is not None}
    rows = {stored_rows(adapter, name) for name in layers}
    embeddings: Any = module.get_input_embeddings()
    known = embeddings.weight.shape[0]
    if rows <= {known}:
        return
    whole = {name for name, _ in _embedding_layers(module)}
    if len(rows) > 1 or not (whole <= layers.keys() or (layers and _is_tied(module))):
        raise ModelError(
            f"This adapter has embeddings of {max(filter(None, rows))} tokens and its base {known}, but it does not "
            "have all that are needed to resize the base",
            where=adapter.name,
            hint="Save it with its embeddings: save_pretrained(..., save_embedding_layers=True).",
        )
    with loading_errors(adapter, "the adapter"):
        module.resize_token_embeddings(rows.pop(), mean_resizing=False)


def _embedding_layers(module: PreTrainedModel) -> Iterator[tuple[str, Any]]:
    """Yield the names and modules of a model's embeddings and head."""
    layers = [module.get_input_embeddings(), module.get_output_embeddings()]
    for name, layer in module.named_modules():
        if any(layer is one for one in layers if one is not None):
            yield name, layer


def _is_tied(module: PreTrainedModel) -> bool:
    inputs, outputs = module.get_input_embeddings(), module.get_output_embeddings()
    return inputs is not None and outputs is not None and inputs.weight is outputs.weight


def _check_weights(peft: Any, checkpoint: Checkpoint, name: str) -> None:
    """Verify that memory holds exactly the adapter's tensors.

    Raises:
        ModelError: If tensors are missing, left over or different.
    """
    from peft import get_peft_model_state_dict, load_peft_weights

    with loading_errors(checkpoint, "the adapter"):
        needed = get_peft_model_state_dict(peft, adapter_name=name, save_embedding_layers=False)
        loaded = get_peft_model_state_dict(peft, adapter_name=name, save_embedding_layers=True)
        stored = load_peft_weights(str(checkpoint.path), device="cpu")
    refuse_missing(checkpoint, needed.keys() - stored.keys())
    unused = stored.keys() - loaded.keys()
    if unused:
        raise ModelError(
            f"{len(unused)} weights of the adapter have no place in its base, the first is {min(unused)}",
            where=checkpoint.name,
            hint="Pass the base that the adapter was trained on with --base.",
        )
    for key, tensor in stored.items():
        if not _is_same(loaded[key], tensor):
            raise ModelError(
                f"PEFT loaded {key} with other values than those stored",
                where=checkpoint.name,
                hint="Merge the adapter into its base (PEFT's merge_and_unload) and score that.",
            )


def _is_same(loaded: Tensor, stored: Tensor) -> bool:
    """Return whether a tensor in memory equals the stored one, after the cast to its dtype."""
    return loaded.shape == stored.shape and bool(torch.equal(loaded.cpu(), stored.to(loaded.dtype)))


@torch.inference_mode()
def _check_forward(peft: Any, module: PreTrainedModel, checkpoint: Checkpoint, name: str) -> None:
    """Verify that PEFT does no more than run the module, as anything else would be missing from the numbers.

    Raises:
        ModelError: If the logits differ.
    """
    peft.set_adapter(name)
    with loading_errors(checkpoint, "the adapter"):
        tokens = _probe(module)
        is_same = torch.equal(peft(input_ids=tokens, use_cache=False).logits, _logits(module, tokens))
    if not is_same:
        kind = peft.peft_config[name].peft_type.value
        raise ModelError(
            f"PEFT runs an adapter of type {kind} in a special way, which cannot be scored",
            where=checkpoint.name,
            hint="Merge it into its base (PEFT's merge_and_unload) and score that.",
        )


@dataclass(frozen=True, slots=True)
class _Imprint:
    """Weights and logits of a model before an adapter is applied."""

    weights: tuple[tuple[str, Tensor, int], ...]
    """Name, tensor and checksum of each parameter and buffer."""
    logits: Tensor

    @classmethod
    @torch.inference_mode()
    def of(cls, module: PreTrainedModel) -> _Imprint:
        """Take the imprint of a model; weights that are offloaded (on the meta device) are left out."""
        named = [*module.named_parameters(), *module.named_buffers()]
        weights = tuple((name, tensor, checksum(tensor)) for name, tensor in named if not tensor.is_meta)
        return cls(weights, _logits(module, _probe(module)))

    @torch.inference_mode()
    def check(self, module: PreTrainedModel, adapter: Checkpoint) -> None:
        """Verify that a model is unchanged.

        Raises:
            ModelError: If a weight or a logit differs.
        """
        moved = [name for name, tensor, before in self.weights if checksum(tensor) != before]
        if moved or not torch.equal(_logits(module, _probe(module)), self.logits):
            what = f"weights of its base ({moved[0]})" if moved else "the outputs of its base with the adapter off"
            raise ModelError(
                f"Loading this adapter changed {what}, so the two cannot be scored together",
                where=adapter.name,
                hint="Score each one separately with --ref none, or merge the adapter into its base.",
            )


def checksum(tensor: Tensor) -> int:
    """Return a 64-bit checksum that changes with any bit of a tensor, computed on the tensor's device."""
    raw = tensor.detach().contiguous().flatten().view(torch.uint8)
    words = raw[: len(raw) // 8 * 8].view(torch.int64)
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    places = torch.arange(1, 2 * min(CHUNK, max(len(words), 1)), 2, dtype=torch.int64, device=tensor.device)
    for start in range(0, len(words), CHUNK):  # odd factors: a change of any single word changes the sum
        some = words[start : start + CHUNK]
        total = total * 1_000_003 + (some * places[: len(some)]).sum()
    rest = raw[len(words) * 8 :].tolist()
    return hash((int(total), tuple(rest)))


def _probe(module: PreTrainedModel) -> Tensor:
    embeddings: Any = module.get_input_embeddings()
    length = min(PROBED_TOKENS, embeddings.weight.shape[0])
    return torch.arange(length, device=embeddings.weight.device)[None]


def _logits(module: PreTrainedModel, tokens: Tensor) -> Tensor:
    logits: Tensor = module(input_ids=tokens, use_cache=False).logits
    return logits
