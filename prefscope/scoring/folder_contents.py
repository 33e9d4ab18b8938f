"""Recognises folders that cannot be loaded as a checkpoint, and says what to do about them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prefscope.errors import ModelError

LFS_BEGINNING = b"version https://git-lfs.github.com/spec/"
LONGEST_POINTER = 1024
SINGLE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_FILE = "adapter_model"
STEP = re.compile(r"(?:checkpoint-|step_?|global_step_?|epoch_?)(\d+)")
CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM")
REWARD_CLASS = re.compile(r"Reward|ValueHead|ForScore|Classifier")
SCORE_HEADS = ("score", "v_head", "value_head", "reward_head", "regression_head", "classifier", "rm_head")
"""First parts of the names of heads in reward models and classifiers."""
VALUE_HEAD = "v_head.summary."
"""Prefix of a value head beside a language model, in PPO checkpoints of TRL and in reward models of LLaMA-Factory."""
VALUE_HEAD_FILES = "value_head.*"
FEWEST_TOKENS = 16
"""A head with fewer outputs than this returns scores, not tokens."""


def refuse_pointers(folder: Path) -> None:
    """Raise an error if a folder contains Git LFS pointers instead of files.

    Raises:
        ModelError: If it does.
    """
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.stat().st_size <= LONGEST_POINTER and _begins_as_pointer(file):
            raise ModelError(
                "This file is a Git LFS pointer, not the file itself",
                where=str(file),
                hint="Run `git lfs pull` in that repository.",
            )


def _begins_as_pointer(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(len(LFS_BEGINNING)) == LFS_BEGINNING
    except OSError:
        return False  # reported by the code that needs the file


def no_checkpoint(folder: Path, name: str) -> ModelError:
    """Return the error for a folder without config.json and adapter_config.json."""
    what = "This folder is not a checkpoint: it has neither config.json nor adapter_config.json"
    return _instead(folder, name) or ModelError(what, where=name, hint="Pass the folder that save_pretrained wrote.")


def no_weights(folder: Path, name: str) -> ModelError:
    """Return the error for a checkpoint folder without weights."""
    return _instead(folder, name) or ModelError("There are no weights (.safetensors) in this folder", where=name)


def _instead(folder: Path, name: str) -> ModelError | None:
    """Return an error that describes what a folder contains instead of weights; None if nothing is recognised."""
    if steps := _steps(folder):
        return ModelError(
            "This is the output folder of a training run, whose checkpoints are in subfolders",
            where=name,
            hint=f"Pass one of them: {', '.join(str(Path(name) / step) for step in steps[-3:])}.",
        )
    if shards := _shards(folder):
        return ModelError(f"This folder has {shards[0]} instead of weights", where=name, hint=shards[1])
    return None


def refuse_empty_weights(name: str, tensors: Mapping[str, tuple[int, ...]]) -> None:
    """Raise an error for empty tensors, which DeepSpeed ZeRO-3 saves if it does not gather the weights.

    Args:
        name: The name of the checkpoint that the user passed.
        tensors: Shapes of the weights, by name.

    Raises:
        ModelError: If a tensor is empty.
    """
    empty = [tensor for tensor, shape in tensors.items() if 0 in shape]
    if empty:
        raise ModelError(
            f"{len(empty)} weights are empty, the first is {min(empty)}: DeepSpeed ZeRO-3 saves such files if it does "
            "not gather the weights",
            where=name,
            hint="Set stage3_gather_16bit_weights_on_model_save, or create a checkpoint with zero_to_fp32.py.",
        )


def _steps(folder: Path) -> list[str]:
    """Return the names of a training run's checkpoints, in the order of their steps."""
    found = [(int(match[1]), entry.name) for entry in folder.iterdir() if (match := STEP.fullmatch(entry.name))]
    return [name for _, name in sorted(found) if any((folder / name).glob("*config.json"))]


def _shards(folder: Path) -> tuple[str, str] | None:
    """Return the kind of sharded training state in a folder, and how to convert it to a checkpoint."""
    deepspeed = (
        "DeepSpeed shards",
        (
            "Convert them with `python zero_to_fp32.py . OUT --safe_serialization` in that folder, where DeepSpeed "
            "puts the script, and copy the config and tokenizer files to OUT."
        ),
    )
    fsdp = (
        "FSDP shards",
        ("Convert them with `accelerate merge-weights FOLDER OUT`, and copy the config and tokenizer files to OUT."),
    )
    if any(_found(folder, ("*_model_states.pt", "zero_pp_rank_*", "*/*_model_states.pt", "*/zero_pp_rank_*"))):
        return deepspeed
    if any(_found(folder, ("*.distcp", "*/*.distcp"))):
        return fsdp
    return None


def _found(folder: Path, patterns: Iterable[str]) -> Iterable[Path]:
    return (file for pattern in patterns for file in folder.glob(pattern))


def refuse_too_many_layers(name: str, config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> None:
    """Raise an error for a config with more layers than there are weights: building such a model may take forever.

    Args:
        name: The name of the checkpoint that the user passed.
        config: Content of its config.json.
        tensors: Shapes of the weights, by name; empty for pickled weights.

    Raises:
        ModelError: If the config has too many layers.
    """
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        layers = part.get("num_hidden_layers")
        if tensors and isinstance(layers, int) and layers > len(tensors):
            raise ModelError(
                f"Its config has {layers:,} layers, more than there are weights ({len(tensors):,})",
                where=name,
                hint="Copy the checkpoint again: config and weights do not belong together.",
            )


def loaded_weights(folder: Path, *, is_adapter: bool) -> list[Path]:
    """Return the safetensors files of a folder that PEFT or transformers would load.

    If there are both a single file and shards with an index, transformers loads the single file.
    """
    files = sorted(folder.glob("*.safetensors"))
    adapters = [file for file in files if file.name.startswith(ADAPTER_FILE)]
    if is_adapter:
        return adapters or files
    files = [file for file in files if file not in adapters] or files
    if not (folder / INDEX).is_file():
        return files
    single = [file for file in files if file.name == SINGLE_FILE]
    return single or [file for file in files if file.name.startswith("model-")] or files


def stale_weights(folder: Path) -> str:
    """Describe a folder that has both a single weight file and shards, and which are newer; empty if it does not."""
    single, index = folder / SINGLE_FILE, folder / INDEX
    if not (single.is_file() and index.is_file()):
        return ""
    newer = "newer" if index.stat().st_mtime > single.stat().st_mtime else "older"
    return f"both {SINGLE_FILE} and {newer} shards with {INDEX}"


def has_value_head(folder: Path, tensors: Iterable[str]) -> bool:
    """Return whether there is a value head next to a language model, from file names or names of weights."""
    return any(True for _ in folder.glob(VALUE_HEAD_FILES)) or any(name.startswith(VALUE_HEAD) for name in tensors)


def refuse_other_models(name: str, config: dict[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> None:
    """Raise an error for a checkpoint that is not a causal language model, such as a classifier or a reward model.

    Args:
        name: The name of the checkpoint that the user passed.
        config: Content of its config.json.
        tensors: Shapes of the weights, by name.

    Raises:
        ModelError: If its architecture, or the name or shape of its head, is of such a model; or its config is damaged.
    """
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list):
        raise ModelError(
            f"architectures in its config is {architectures!r:.80}, not a list",
            where=name,
            hint="Copy the checkpoint again.",
        )
    classes = [one for one in architectures if isinstance(one, str)]
    wrong = next((one for one in classes if one.endswith(CLASSIFIERS) or REWARD_CLASS.search(one)), None)
    heads = [tensor for tensor in tensors if tensor.split(".", 1)[0] in SCORE_HEADS]
    head = min((one for one in heads if not one.startswith(VALUE_HEAD)), default=None)
    outputs = (tensors.get("lm_head.weight") or (FEWEST_TOKENS,))[0]
    if wrong is not None:
        why = f"architectures: {wrong}"
    elif head is not None:
        why = f"its head is {head}"
    elif 0 < outputs < FEWEST_TOKENS:
        why = f"its head has {outputs} outputs"
    else:
        return
    raise ModelError(
        f"This is a reward model, classifier or masked language model ({why}), which has no log-probs of text",
        where=name,
        hint="Pass a causal language model. Scores of a reward model are not implicit rewards.",
    )
