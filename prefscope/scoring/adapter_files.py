"""What an adapter's files say about its base: whether they can share memory, and what switching it off leaves changed.

Loads no weights, and does not import torch. An adapter is *additive* if PEFT only adds modules next to the base's
weights, so that the base can be scored with the adapter switched off. Only plain LoRA is assumed to be additive, and it
is verified each time an adapter is loaded (adapters.py).
"""

from __future__ import annotations

from typing import Any

from prefscope.errors import ModelError
from prefscope.scoring.checkpoints import REPLACING_INITS, Checkpoint, read_json
from prefscope.scoring.folder_contents import SCORE_HEADS
from prefscope.scoring.headers import tensor_shapes

HARMLESS_INITS = (True, False, None, "gaussian")
"""Values of `init_lora_weights` that leave the base's weights unchanged."""
IRREPRODUCIBLE_INITS = ("pissa_niter_", "lora_ga")
"""Prefixes of initializations that depend on random numbers or training data, so that loading cannot repeat them."""
WHOLE_MODULES = ("modules_to_save", "trainable_token_indices", "layer_replication")
"""Settings that make an adapter more than LoRA; with any of them, its base is loaded separately."""
NOT_LANGUAGE_MODELS = {
    "SEQ_CLS": "a sequence classifier or reward model",
    "TOKEN_CLS": "a token classifier",
    "QUESTION_ANS": "an extractive question answerer",
    "SEQ_2_SEQ_LM": "an encoder-decoder model",
    "FEATURE_EXTRACTION": "an embedding model",
}
"""PEFT's task types without next-token probabilities, with descriptions."""


def is_additive(adapter: Checkpoint) -> bool:
    """Return whether the base can be scored in the same memory, with the adapter switched off.

    Raises:
        ModelError: If the adapter's files cannot be read.
    """
    config = read_json(adapter.path / "adapter_config.json")
    return (
        config.get("peft_type") == "LORA"
        and config.get("bias", "none") == "none"
        and config.get("init_lora_weights", True) in HARMLESS_INITS
        and not any(config.get(name) for name in WHOLE_MODULES)
        and all("lora_" in name for name in tensor_shapes(adapter))
        and bool(tensor_shapes(adapter))
    )


def lasting_change(adapter: Checkpoint) -> str:
    """Describe what stays changed in the base when the adapter is switched off; empty if nothing is known to.

    Raises:
        ModelError: If the adapter's files cannot be read.
    """
    config = read_json(adapter.path / "adapter_config.json")
    init = str(config.get("init_lora_weights", ""))
    if init.lower().startswith(REPLACING_INITS):
        return f"its initialization ({init}) replaces weights of the base"
    if config.get("bias", "none") != "none":
        return "it trains the base's biases"
    if config.get("layer_replication"):
        return "it repeats layers of the base"
    if _has_embeddings(adapter, saved=config.get("modules_to_save") or []):
        return "it has embeddings or a head of its own"
    return ""


def _has_embeddings(adapter: Checkpoint, saved: list[str]) -> bool:
    """Return whether the adapter stores whole embeddings or heads with which PEFT overwrites the base's.

    Those of `modules_to_save` do not count: PEFT keeps them separate, so the base's are restored.
    """
    names = (name.removesuffix(".weight").removesuffix(".base_layer") for name in tensor_shapes(adapter))
    whole = {name.rsplit(".", 1)[-1] for name in names if "lora_" not in name}
    return any(("embed" in name or name == "lm_head") and name not in saved for name in whole)


def refuse_unscorable(adapter: Checkpoint) -> None:
    """Raise an error for an adapter that has no log-probs of text, or cannot be restored as it was trained.

    Raises:
        ModelError: If the adapter is of such a kind, or its config cannot be read.
    """
    config = read_json(adapter.path / "adapter_config.json")
    task = str(config.get("task_type"))
    if task in NOT_LANGUAGE_MODELS:
        raise ModelError(
            f"This is an adapter for {NOT_LANGUAGE_MODELS[task]} (task_type {task}), which has no log-probs of text",
            where=adapter.name,
            hint="Pass the adapter of a causal language model.",
        )
    heads = [name for name in tensor_shapes(adapter) if {*name.split(".")} & {*SCORE_HEADS}]
    if heads:
        raise ModelError(
            f"This is an adapter for a reward model or classifier (it stores {min(heads)}), which has no log-probs of "
            "text",
            where=adapter.name,
            hint="Pass the adapter of a causal language model.",
        )
    init = str(config.get("init_lora_weights", ""))
    if init.lower().startswith(IRREPRODUCIBLE_INITS):
        raise ModelError(
            f"The initialization of this adapter ({init}) changed its base in a way that loading does not reproduce, "
            "so its numbers would not be those of the trained model",
            where=adapter.name,
            hint="Save it converted to plain LoRA: save_pretrained(..., path_initial_model_for_weight_conversion=...).",
        )
    if config.get("alora_invocation_tokens"):
        raise ModelError(
            "This is an activated LoRA: invocation tokens switch it on in the middle of a text, which cannot be scored",
            where=adapter.name,
            hint="Use LoRA or another adapter that changes weights.",
        )


def stored_rows(adapter: Checkpoint, module_name: str) -> int | None:
    """Return the number of rows of an adapter's own copy of an embedding or head, or None if it has no copy.

    Args:
        adapter: The adapter.
        module_name: Dotted name of the module in the base model.
    """
    for name, shape in tensor_shapes(adapter).items():
        path: Any = name.removesuffix(".weight").removesuffix(".base_layer")
        if path.endswith(f".{module_name}") and name.endswith(".weight") and shape:
            return shape[0]
    return None
