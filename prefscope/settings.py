"""Frozen settings of a run: what to score, how to tokenize, how to compute, which preference knobs.

Settings are plain values that survive a JSON round trip, so that a worker process can be told what to do.
This module imports nothing of the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Truncation = Literal["keep_start", "keep_end"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Engine = Literal["local", "ray"]
NOISE_PAIRS = 64
"""Enough for a noise floor."""
Palette = Literal["sky-orange", "blue-red", "mono"]
"""Colours of what is positive and what is negative."""


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Which rows to read, and how."""

    source: str
    """A file, a folder, a glob, `-` for standard input, or a data set id of the hub."""
    dialect: str = "auto"
    mapping: Mapping[str, str] | None = None
    """Columns of an unknown layout: `{"prompt": "question", "chosen": ..., "rejected": ...}`."""
    split: str | None = None
    config: str | None = None
    revision: str | None = None
    limit: int | None = None
    """Score only the first so many pairs."""
    sample: int | None = None
    """Score only so many pairs, drawn at random with `seed`."""
    seed: int = 0
    skip_bad_rows: bool = False
    more: tuple[str, ...] = ()
    """Further files of the same data set, read after `source`."""


@dataclass(frozen=True, slots=True)
class TokenizationSettings:
    """How text becomes token ids; the defaults are TRL's rules without its truncation."""

    max_length: int | None = None
    """Cut sequences to so many tokens; None: to the model's context."""
    truncation: Truncation = "keep_start"
    chat_template: str | None = None
    """A Jinja template (its text, not its path) in place of the tokenizer's own."""
    profile: str = "trl"
    """Whose rules (scoring/profiles.py); another than `trl` cuts sequences in its own way."""
    template_date: str | None = None
    """The date that a chat template writes for today's, as `2026-01-31`; None: the day on which the run begins."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which checkpoints to load, and how."""

    policy: str
    ref: str | None = None
    """A checkpoint, `base` for the adapter's base model, `adapter-off` for the policy with its adapter switched off,
    `none` for no reference; None: the base of an adapter."""
    base: str | None = None
    """Base model of an adapter whose recorded path is gone."""
    dtype: Dtype = "auto"
    device: str = "auto"
    device_map: str | None = None
    """`auto` lets transformers and accelerate spread a model over devices."""
    attn: str = "auto"
    allow_pickle: bool = False
    trust_remote_code: bool = False
    bundled: bool = False
    """Nobody named a policy: the tiny pair of sample_data stands in."""
    tp: int = 1
    """Processes, each on a GPU of its own, among which every model is split (tensor parallelism)."""


@dataclass(frozen=True, slots=True)
class ComputeSettings:
    """How to spend the machine."""

    cache_dir: str | None = None
    """Folder of the log-prob store; None: the user's cache folder."""
    use_cache: bool = True
    batch_tokens: int | None = None
    """Tokens of one forward pass, padding included; None: found for the device and the model."""
    threads: int | None = None
    keep_tokens: bool = True
    """Keep per-token log-probs and token texts in the ledger."""
    noise_pairs: int = 0
    """Compute so many pairs anew in other batches, to tell how much of a margin is rounding."""
    collisions: bool = False
    """Keep how sure the policy was at each token, log Σ π², which WPO needs."""


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """Who computes what, and where it is gathered; no number depends on it."""

    workers: int | None = None
    """Processes of this machine, each on a device of its own as far as there are several; None: this process. With
    Ray: actors; None: as many as the cluster has room for."""
    engine: Engine = "local"
    address: str | None = None
    """Of the Ray cluster; None: one that is started here."""
    gpus_per_worker: float | None = None
    """Of a Ray worker; None: as many as its models are split among, 0 where this machine computes on none."""
    cpus_per_worker: int = 1
    """Of a Ray worker."""
    patience: float = 300.0
    """Seconds that a worker may take for a batch at least, before it counts as hanging and is ended."""
    parts: str | None = None
    """Folder or URL that this process and others fill with a part for each shard; None: the store alone."""
    slice_number: int | None = None
    """Score only the shards of one of `slices` slices, counted from 0, and leave the ledger to `parts merge`."""
    slices: int = 1


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """All that decides what a run computes."""

    data: DataSettings
    models: ModelSettings
    tokenization: TokenizationSettings = field(default_factory=TokenizationSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    dispatch: DispatchSettings = field(default_factory=DispatchSettings)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ScoreSettings:
        """Return the settings that `to_json` wrote."""
        return cls(
            data=DataSettings(**{**value["data"], "more": tuple(value["data"].get("more", ()))}),
            models=ModelSettings(**value["models"]),
            tokenization=TokenizationSettings(**value["tokenization"]),
            compute=ComputeSettings(**value["compute"]),
            dispatch=DispatchSettings(**value["dispatch"]),
        )


@dataclass(frozen=True, slots=True)
class LossChoice:
    """A loss by name, with the parameters that differ from its defaults."""

    name: str
    parameters: Mapping[str, float] = field(default_factory=dict)


DEFAULT_LOSSES = (LossChoice("dpo"), LossChoice("ipo"), LossChoice("simpo"))


@dataclass(frozen=True, slots=True)
class PreferenceSettings:
    """The knobs that need no model: they are applied when a ledger is read."""

    beta: float = 0.1
    """Scale of the implicit rewards, and the default beta of every loss with a reference."""
    losses: tuple[LossChoice, ...] = DEFAULT_LOSSES
    explicit: bool = False
    """Whether somebody named the losses: one that a ledger cannot give is then an error, and else left out."""
    weights: bool = False
    """Give each loss's gradient weight too."""
