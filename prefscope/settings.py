"""Frozen settings of a run: what to score, how to tokenize, how to compute, and the preference parameters.

Settings are plain values that survive a JSON round trip, so that they can be passed to a worker process.
This module does not import any other module of the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Truncation = Literal["keep_start", "keep_end"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Engine = Literal["local", "ray"]
NOISE_PAIRS = 64
"""Number of pairs that is enough for a noise floor."""
MOST_ALTERNATIVES = 20
Palette = Literal["sky-orange", "blue-red", "mono"]
"""Colours of positive and negative values."""


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Which rows to read, and how."""

    source: str
    """A file, a folder, a glob, `-` for standard input, or a data set id of the hub."""
    dialect: str = "auto"
    mapping: Mapping[str, str] | None = None
    """Columns of a custom layout: `{"prompt": "question", "chosen": ..., "rejected": ...}`."""
    split: str | None = None
    config: str | None = None
    revision: str | None = None
    limit: int | None = None
    """Score only the first `limit` pairs."""
    sample: int | None = None
    """Score only `sample` pairs, drawn at random with `seed`."""
    seed: int = 0
    skip_bad_rows: bool = False
    more: tuple[str, ...] = ()
    """More files of the same data set, read after `source`."""


@dataclass(frozen=True, slots=True)
class TokenizationSettings:
    """How text becomes token ids; the defaults are TRL's rules without its truncation."""

    max_length: int | None = None
    """Maximum length of a sequence in tokens; None: the model's context length."""
    truncation: Truncation = "keep_start"
    chat_template: str | None = None
    """A Jinja template (its text, not its path) to use instead of the tokenizer's."""
    profile: str = "trl"
    """The stack whose rules to follow (scoring/profiles.py); other profiles than `trl` truncate in their own way."""
    template_date: str | None = None
    """The date that a chat template inserts as today's, such as `2026-01-31`; None: the day on which the run starts."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which checkpoints to load, and how."""

    policy: str
    ref: str | None = None
    """A checkpoint, `base` for the adapter's base model, `adapter-off` for the policy with its adapter disabled,
    `none` for no reference; None: the base of an adapter."""
    base: str | None = None
    """Base model of an adapter, if the recorded path no longer exists."""
    dtype: Dtype = "auto"
    device: str = "auto"
    device_map: str | None = None
    """`auto` lets transformers and accelerate spread a model over devices."""
    attn: str = "auto"
    allow_pickle: bool = False
    trust_remote_code: bool = False
    bundled: bool = False
    """Whether no policy was named, so that the tiny models of sample_data are used."""
    tp: int = 1
    """Number of processes, each with its own GPU, across which every model is split (tensor parallelism)."""


@dataclass(frozen=True, slots=True)
class ComputeSettings:
    """How to use the machine."""

    cache_dir: str | None = None
    """Folder of the log-prob store; None: the user's cache folder."""
    use_cache: bool = True
    batch_tokens: int | None = None
    """Tokens per forward pass, padding included; None: determined for the device and the model."""
    threads: int | None = None
    keep_tokens: bool = True
    """Keep per-token log-probs and token texts in the ledger."""
    noise_pairs: int = 0
    """Number of pairs to recompute in other batches, to measure the rounding error of margins."""
    collisions: bool = False
    """Store log Σ π² of the policy at each token, which WPO needs."""
    alternatives: int = 0
    """Number of each model's most probable tokens to keep for every scored token, with its entropy and rank."""
    divergences: bool = False
    """Compute the exact KL divergences of policy and reference at each token, which TDPO needs; both models must fit
    into memory at the same time."""
    fused: bool = True
    """Use fused kernels on GPUs, where they agree with the model's own code."""


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """How work is distributed and collected; the results do not depend on it."""

    workers: int | None = None
    """Number of processes on this machine, on separate devices if there are several; None: this process only. With
    Ray, number of actors; None: as many as fit into the cluster."""
    engine: Engine = "local"
    address: str | None = None
    """Address of the Ray cluster; None: start a local one."""
    gpus_per_worker: float | None = None
    """GPUs per Ray worker; None: as many as its models are split across, or 0 if this machine does not use GPUs."""
    cpus_per_worker: int = 1
    """CPUs per Ray worker."""
    patience: float = 300.0
    """Minimum time in seconds that a worker may take for a batch before it is considered hung and is killed."""
    parts: str | None = None
    """Folder or URL to which this process and others write a part for each shard; None: use only the store."""
    slice_number: int | None = None
    """Score only the shards of this slice of `slices`, counted from 0; `parts merge` writes the ledger."""
    slices: int = 1

    @property
    def computes_elsewhere(self) -> bool:
        """Whether other processes compute, and this one only plans and collects."""
        return self.engine != "local" or self.workers is not None


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """All settings of a run."""

    data: DataSettings
    models: ModelSettings
    tokenization: TokenizationSettings = field(default_factory=TokenizationSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    dispatch: DispatchSettings = field(default_factory=DispatchSettings)

    def to_json(self) -> dict[str, Any]:
        """Convert the settings to JSON values; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ScoreSettings:
        """Recreate settings from the result of `to_json`."""
        return cls(
            data=DataSettings(**{**value["data"], "more": tuple(value["data"].get("more", ()))}),
            models=ModelSettings(**value["models"]),
            tokenization=TokenizationSettings(**value["tokenization"]),
            compute=ComputeSettings(**value["compute"]),
            dispatch=DispatchSettings(**value["dispatch"]),
        )


@dataclass(frozen=True, slots=True)
class LossChoice:
    """A loss by name, with the parameters that override its defaults."""

    name: str
    parameters: Mapping[str, float] = field(default_factory=dict)


DEFAULT_LOSSES = (LossChoice("dpo"), LossChoice("ipo"), LossChoice("simpo"))


@dataclass(frozen=True, slots=True)
class PreferenceSettings:
    """Parameters that need no model: they are applied when a ledger is read."""

    beta: float = 0.1
    """Scale of the implicit rewards, and the default beta of every loss with a reference."""
    losses: tuple[LossChoice, ...] = DEFAULT_LOSSES
    explicit: bool = False
    """Whether the user named the losses: a loss that a ledger cannot provide is then an error, otherwise skipped."""
    weights: bool = False
    """Also compute the gradient weight of each loss."""
