"""Hostile checkpoints: configs, tokenizers, adapters, headers of weight files, and pickles."""

from __future__ import annotations

import functools
import io
import json
import math
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file

from prefscope.folders import sample_data
from prefscope.ledger.columns import POLICY_LOGPS
from prefscope.ledger.table import load_ledger
from prefscope.pipeline import model_pool
from prefscope.pipeline.run import score
from prefscope.scoring.probe import Budget
from prefscope.settings import ComputeSettings, DataSettings, ModelSettings, ScoreSettings
from tests.campaigns.mutations import EXTREMES, damaged_bytes, damaged_json, json_text
from tests.campaigns.trials import Boundary, Read, Try, WrongValueError

PAIRS = 2
WEIGHTS = "model.safetensors"
CONFIGS = ("config.json", "config.json", "config.json", "generation_config.json")
TOKENIZERS = ("tokenizer_config.json", "tokenizer_config.json", "tokenizer.json", "chat_template.jinja")
_ODD_CONFIG: dict[str, Any] = {
    "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256, "rope_theta": 1e4},
    "sliding_window": 16,
    "layer_types": ["full_attention", "sliding_attention"] * 2,
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "text_config": {"num_hidden_layers": 4, "max_position_embeddings": 64},
    "auto_map": {"AutoConfig": "configuration_x.Config"},
    "tie_word_embeddings": False,
    "is_decoder": False,
    "id2label": {"0": "a"},
    "_name_or_path": "../x",
}
"""Keys of other models' configs; damaged together with those of the bundled one."""


def _copy(folder: Path) -> Path:
    """Return a copy of the bundled policy, and replace the speed probe, which would take most of the time."""
    model_pool.probe = lambda *_, **__: Budget(2048, 1000.0)  # type: ignore[attr-defined]
    torch.set_num_threads(1)
    return Path(shutil.copytree(sample_data() / "tiny-policy", folder / "model"))


def _score(path: Path, *, allow_pickle: bool = False, ref: str | None = "none") -> tuple[float, ...]:
    """Score a few pairs without a store and return the sums of their log-probs."""
    settings = ScoreSettings(
        DataSettings(str(sample_data() / "pairs.jsonl"), limit=PAIRS),
        ModelSettings(str(path), ref, allow_pickle=allow_pickle),
        compute=ComputeSettings(use_cache=False),
    )
    ledger = load_ledger(score(settings, lambda _: path.parent / "out.parquet", lambda _: None))
    return tuple(float(ledger.stored[name][at]) for name in POLICY_LOGPS for at in range(PAIRS))


def _of_json(names: tuple[str, ...], folder: Path) -> Try:
    """Damage one of a checkpoint's JSON files and score with it."""
    model = _copy(folder)
    whole = {name: (model / name).read_bytes() for name in {*names}}

    def attempt(draw: Random) -> tuple[object, Read]:
        for name, content in whole.items():
            (model / name).write_bytes(content)
        name = draw.choice(names)
        raw = damaged_bytes(draw, whole[name])
        if name.endswith(".json") and draw.random() < 0.85:
            raw = _damaged_object(draw, name, json.loads(whole[name])).encode("utf-8", "surrogatepass")
        (model / name).write_bytes(raw)
        return (name, raw), lambda: _score(model)

    return attempt


def _damaged_object(draw: Random, name: str, value: dict[str, Any]) -> str:
    """Return the JSON of a damaged object; top-level keys are as likely to be damaged as nested ones."""
    if name == "config.json" and draw.random() < 0.3:
        value |= {key: _ODD_CONFIG[key] for key in draw.sample([*_ODD_CONFIG], 2)}
    if name == "tokenizer.json" and draw.random() < 0.7:
        key = draw.choice(("normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens", "truncation"))
        value[key] = damaged_json(draw, value.get(key))
    elif draw.random() < 0.5:
        value[draw.choice([*value])] = draw.choice(EXTREMES)
    else:
        value = damaged_json(draw, value)
    return json_text(draw, value)


def adapter(folder: Path) -> Try:
    """Damage the config of a LoRA adapter and score with it; its base is the bundled policy."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base, path = _copy(folder), folder / "adapter"
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(str(path))
    file = path / "adapter_config.json"
    whole = json.loads(file.read_text(encoding="utf-8"))

    def attempt(draw: Random) -> tuple[object, Read]:
        value = damaged_json(draw, whole)
        if draw.random() < 0.6:
            value = {**whole, draw.choice([*whole]): draw.choice(EXTREMES)}
        raw = json_text(draw, value).encode("utf-8", "surrogatepass")
        file.write_bytes(raw)
        return raw, lambda: _score(path, ref=draw.choice((None, "adapter-off", str(base))))

    return attempt


def headers(folder: Path) -> Try:
    """Damage the header of a safetensors file; if accepted, it scores as before, or contains other weights."""
    model = _copy(folder)
    raw = (model / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    table, rest = json.loads(raw[8 : 8 + length]), raw[8 + length :]

    def attempt(draw: Random) -> tuple[object, Read]:
        if draw.random() < 0.3:
            head = damaged_bytes(draw, raw[: 8 + length])
        else:
            name = draw.choice([*table])
            value = (
                {**table, name: damaged_json(draw, table[name])} if draw.random() < 0.7 else damaged_json(draw, table)
            )
            text = json_text(draw, value).encode("utf-8", "surrogatepass")
            size = draw.choice((len(text), len(text), len(text), 0, len(text) - 1, 1 << 40, (1 << 64) - 1))
            head = size.to_bytes(8, "little") + text
        (model / WEIGHTS).write_bytes(head + (rest if draw.random() < 0.9 else rest[: draw.randrange(len(rest))]))
        return head, lambda: _score(model)

    return attempt


def pickles(folder: Path) -> Try:
    """Damage pickled weights and load them with --allow-pickle; only the zip detects a flipped weight."""
    model = _copy(folder)
    weights = load_file(str(model / WEIGHTS))
    (model / WEIGHTS).unlink()
    stream = io.BytesIO()
    torch.save(weights, stream)
    whole, file = stream.getvalue(), model / "pytorch_model.bin"
    file.write_bytes(whole)
    expected = _score(model, allow_pickle=True)

    def attempt(draw: Random) -> tuple[object, Read]:
        raw = _damaged_pickle(draw, whole)
        file.write_bytes(raw)

        def read() -> None:
            found = _score(model, allow_pickle=True)
            if raw == whole and found != expected:
                raise WrongValueError(f"scored {found}, not {expected}")
            if any(math.isinf(one) for one in found):
                raise WrongValueError(f"scored {found}")

        return f"{len(raw)} bytes", read

    return attempt


def _damaged_pickle(draw: Random, whole: bytes) -> bytes:
    """Return a file of pickled weights with damage to its list of tensors, to its ends, or none."""
    if draw.random() < 0.3:
        return draw.choice((damaged_bytes(draw, whole), b"", b"\x80\x04.", b"\x80\x02cos\nsystem\n.", whole))
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(found, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, damaged_bytes(draw, content) if name.endswith("data.pkl") else content)
    return found.getvalue()


_NAMED: dict[str, tuple[int, Callable[[Path], Try]]] = {
    "configs": (500, functools.partial(_of_json, CONFIGS)),
    "tokenizers": (300, functools.partial(_of_json, TOKENIZERS)),
    "adapter configs": (150, adapter),
    "safetensors headers": (400, headers),
    "pickles": (150, pickles),
}
BOUNDARIES = [Boundary(name, inputs, prepare) for name, (inputs, prepare) in _NAMED.items()]
