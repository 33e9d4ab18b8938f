"""Identify what the checkpoint fields of the load screen name while the user types, without reading weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from prefscope.errors import PrefscopeError
from prefscope.folders import sample_data
from prefscope.scoring.checkpoints import ADAPTER_OFF, Checkpoint, read_json
from prefscope.scoring.headers import num_weights, stored_dtype
from prefscope.settings import ModelSettings
from prefscope.tui.model.amounts import count, size
from prefscope.tui.model.recognition import HUB_ID, Recognised

REFERENCE_WORDS = {
    "none": "no reference: only SimPO and log-probs",
    "base": "the base model of the policy's adapter",
    ADAPTER_OFF: "the policy with its adapter disabled",
}
"""Values of the reference field that do not name a checkpoint."""
ON_THE_HUB = "not a local path: downloaded from the hub when scoring starts"


@dataclass(frozen=True, slots=True)
class ModelFound(Recognised):
    """A checkpoint."""

    weights: int | None = None
    dtype: str = ""
    vocabulary: int | None = None
    checkpoint: Checkpoint | None = None
    """The checkpoint with its base, if both are on this machine."""
    recorded_base: str = ""
    """The base that an adapter names."""
    is_swapped: bool = False
    """Whether it is the reference, and an adapter of the policy."""


def recognise_models(models: ModelSettings) -> tuple[ModelFound, ModelFound]:
    """Identify policy and reference, and whether they fit each other."""
    policy, ref = recognise_model(models, "policy"), recognise_model(models, "ref")
    if _is_swapped(models.policy, policy, ref):
        text = "an adapter of the policy, so the two look exchanged: F3 exchanges them"
        return policy, replace(ref, good=False, text=text, is_swapped=True)
    is_full = policy.checkpoint is not None and policy.checkpoint.base is None
    if models.policy and is_full and models.ref in (None, "base", ADAPTER_OFF):
        text = "The policy is a full checkpoint: enter the one that its training started from, or none."
        return policy, replace(ref, good=False, text=text)
    if None not in (policy.vocabulary, ref.vocabulary) and policy.vocabulary != ref.vocabulary:
        ref = replace(ref, good=None, text=f"{ref.text} · vocabulary {ref.vocabulary:,} ≠ {policy.vocabulary:,}")
    return policy, ref


def recognise_model(models: ModelSettings, role: str) -> ModelFound:
    """Identify what the field of a role names: `policy` or `ref`."""
    name = models.policy if role == "policy" else models.ref or ""
    if not name:
        default = "the bundled tiny policy" if role == "policy" else "an adapter's base, or the bundled tiny reference"
        bundled = None if models.policy else Checkpoint("", sample_data() / f"tiny-{role}")
        weights = None if bundled is None else num_weights(bundled)
        return ModelFound(None, f"empty: {default}", weights, "float32", checkpoint=bundled)
    if role == "ref" and name in REFERENCE_WORDS:
        return ModelFound(good=True, text=REFERENCE_WORDS[name])
    path = Path(name).expanduser()
    if not path.exists():
        is_hub_id = HUB_ID.fullmatch(name) and not name.startswith((".", "~"))
        missing = ModelFound(good=False, text="This checkpoint does not exist.")
        return ModelFound(None, ON_THE_HUB) if is_hub_id else missing
    try:
        if (path / "adapter_config.json").is_file():
            return _recognise_adapter(name, path, models, role)
        return _recognise_full(Checkpoint(name, path))
    except (PrefscopeError, OSError) as error:
        return ModelFound(good=False, text=str(error))


def _recognise_full(checkpoint: Checkpoint) -> ModelFound:
    path = checkpoint.path
    if path.suffix == ".gguf":
        return ModelFound(good=True, text=f"GGUF, {size(path.stat().st_size)}", checkpoint=checkpoint)
    if not (path / "config.json").is_file():
        return ModelFound(good=False, text="Not a checkpoint: it has neither config.json nor adapter_config.json.")
    config = read_json(path / "config.json")
    weights, dtype = num_weights(checkpoint), stored_dtype(checkpoint)
    amount = f", {count(weights)} weights, {dtype}" if weights else ", no safetensors files"
    text = f"{config.get('model_type', 'unknown')}{amount}"
    return ModelFound(bool(weights), text, weights, dtype, config.get("vocab_size"), checkpoint)


def _recognise_adapter(name: str, path: Path, models: ModelSettings, role: str) -> ModelFound:
    """Identify an adapter and look for its base in the places where a run does: --base, its config, the reference."""
    config = read_json(path / "adapter_config.json")
    recorded = str(config.get("base_model_name_or_path") or "")
    adapter = f"{str(config.get('peft_type', '')).replace('LORA', 'LoRA')} adapter"
    spare = models.ref if role == "policy" and models.ref not in REFERENCE_WORDS else None
    for base in filter(None, [models.base] if models.base else [recorded, spare]):
        place = Path(base).expanduser()
        if place.exists():
            text = f"{adapter} on {base}" + (f", which stands in for {recorded}" if base != recorded else "")
            return _with_base(text, Checkpoint(name, path, Checkpoint(base, place)), recorded)
        if HUB_ID.fullmatch(base) and not base.startswith((".", "~")):
            return ModelFound(None, f"{adapter} on {base}, {ON_THE_HUB}", recorded_base=recorded)
    missing = models.base or recorded or "unnamed"
    text = f"{adapter}, but its base is not on this machine: {missing}. Enter it as base (below) or as reference."
    return ModelFound(good=False, text=text, recorded_base=recorded)


def _with_base(text: str, adapter: Checkpoint, recorded: str) -> ModelFound:
    path = adapter.full.path
    if (path / "adapter_config.json").is_file():
        return ModelFound(good=False, text=f"{text}, which is itself an adapter. Merge that one into its base first.")
    base = _recognise_full(adapter.full)
    if not base.good:
        return ModelFound(good=False, text=f"{text}: {base.text}", recorded_base=recorded)
    return replace(base, text=text, checkpoint=adapter, recorded_base=recorded)


def _is_swapped(name: str, policy: ModelFound, ref: ModelFound) -> bool:
    """Return whether the reference is an adapter whose base is the policy."""
    if not name or not ref.recorded_base or policy.recorded_base:
        return False
    path, base = Path(name).expanduser(), Path(ref.recorded_base).expanduser()
    if base.exists():
        return path.resolve() == base.resolve()
    return name == ref.recorded_base or path.name == base.name  # the adapter comes from another machine
