"""Splitting of models among processes, using the tensor-parallel plans of transformers."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.distributed import DistributedConfig  # type: ignore[attr-defined]  # exported, but not by name

from prefscope.errors import ModelError
from prefscope.scoring.checkpoints import Checkpoint

GATHERED, APART = "colwise_gather_output", "colwise"
"""Styles of a layer whose outputs are split: gathered afterwards, or kept split."""
MERGE = "Merge the adapter into its base (PEFT's merge_and_unload) and score that, or use --device-map auto."


def split_arguments(config: PretrainedConfig, processes: int) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` to load this process's part of a model.

    The outputs of the vocabulary head are kept split (split_vocabulary.py), even if the family's plan gathers them.
    """
    plan = getattr(_model_class(config), "_tp_plan", None) or {}
    apart = {name: APART for name, style in plan.items() if style == GATHERED}
    return {"distributed_config": DistributedConfig(tp_size=processes, tp_plan=apart or None)}


def refuse_machine(device: torch.device, processes: int) -> None:
    """Raise an error for a machine on which `processes` processes cannot share a model.

    Raises:
        ModelError: If a package is missing or too old, or there are too few or the wrong devices.
    """
    if "tp_size" not in inspect.signature(DistributedConfig).parameters:
        raise ModelError(
            f"--tp needs transformers 5.18 or later, but {transformers.__version__} is installed",
            hint="Update it with `pip install -U transformers`.",
        )
    if importlib.util.find_spec("accelerate") is None:
        raise ModelError("--tp needs the package accelerate", hint="Install it with `pip install accelerate`.")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cpu" and gpus:
        raise ModelError(
            "--tp uses this machine's GPUs and cannot be combined with --device cpu",
            hint="To hide the GPUs, put CUDA_VISIBLE_DEVICES= before the command.",
        )
    if device.type not in ("cpu", "cuda") or ":" in str(device):
        raise ModelError(f"--tp needs several devices, but --device {device} is one", hint="Omit --device.")
    if device.type == "cuda" and gpus < processes:
        raise ModelError(f"--tp {processes} needs {processes} GPUs, but there are {gpus}", hint="Use a smaller --tp.")


def refuse_unsplittable(checkpoint: Checkpoint, config: PretrainedConfig, processes: int) -> None:
    """Raise an error for a model that cannot be split among `processes` processes.

    Raises:
        ModelError: If it is an adapter or a GGUF file, its family's plan splits no layer, or its heads do not divide.
    """
    where = checkpoint.name
    if checkpoint.base is not None:
        raise ModelError("--tp cannot split an adapter", where=where, hint=MERGE)
    if checkpoint.is_gguf:
        raise ModelError("--tp cannot split a GGUF file", where=where, hint="Score the safetensors checkpoint.")
    text = config.get_text_config()
    if not splits_layers(text):
        raise ModelError(
            f"transformers cannot split the layers of a {config.model_type} model, so every process would hold nearly "
            "all of it",
            where=where,
            hint="Use --device-map auto, which spreads whole layers over the GPUs.",
        )
    heads = [getattr(text, name, None) for name in ("num_attention_heads", "num_key_value_heads")]
    counts = [count for count in heads if isinstance(count, int)]
    if any(count % processes for count in counts):
        possible = [str(k) for k in range(2, min(counts) + 1) if not any(count % k for count in counts)]
        raise ModelError(
            f"{' and '.join(map(str, counts))} attention and key heads cannot be split among {processes} processes",
            where=where,
            hint=f"Use --tp {' or '.join(possible)}." if possible else "Use --device-map auto.",
        )


def splits_layers(config: PretrainedConfig) -> bool:
    """Return whether the tensor-parallel plan of a text config splits weights inside the layers.

    Some plans, such as that of gpt_oss in transformers 5.24, split only the embeddings: correct, but useless for a
    model that is too large for one GPU.
    """
    plan = getattr(config, "base_model_tp_plan", None) or {}
    return any(name.startswith("layers.") for name in plan)


def _model_class(config: PretrainedConfig) -> Any:
    mapping: Any = AutoModelForCausalLM._model_mapping  # noqa: SLF001 (transformers names it nowhere else)
    return mapping.get(type(config), None)
