"""The settings of a run, from the options of whatever command starts it."""

from __future__ import annotations

from pathlib import Path

from prefscope.cli.arguments import read_mapping
from prefscope.cli.template_file import read_template
from prefscope.settings import (
    ComputeSettings,
    DataSettings,
    DispatchSettings,
    Dtype,
    ModelSettings,
    ScoreSettings,
    TokenizationSettings,
    Truncation,
)


def run_settings(
    data: list[str],
    policy: str | None,
    ref: str | None,
    base: str | None,
    *,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    format_: str = "auto",
    mapping: str | None = None,
    split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    skip_bad_rows: bool = False,
    max_length: int | None = None,
    truncation: Truncation = "keep_start",
    profile: str = "trl",
    chat_template: Path | None = None,
    template_date: str | None = None,
    dtype: Dtype = "auto",
    device: str = "auto",
    device_map: str | None = None,
    tp: int = 1,
    attn: str = "auto",
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    cache: str | None = None,
    no_cache: bool = False,
    no_tokens: bool = False,
    batch_tokens: int | None = None,
    threads: int | None = None,
    no_fused: bool = False,
    noise_pairs: int = 0,
    collisions: bool = False,
    alternatives: int = 0,
    kl: bool = False,
    dispatch: DispatchSettings | None = None,
) -> ScoreSettings:
    """Return the settings that a command's options stand for; an option that it does not have keeps its default.

    The arguments are named as the options are; `data` has at least one file.

    Raises:
        UsageError: --map is malformed, or the chat template cannot be read.
    """
    source, *more = data
    return ScoreSettings(
        data=DataSettings(
            source=source,
            more=tuple(more),
            dialect=format_,
            mapping=read_mapping(mapping),
            split=split,
            config=config,
            revision=revision,
            limit=limit,
            sample=sample,
            seed=seed,
            skip_bad_rows=skip_bad_rows,
        ),
        models=ModelSettings(
            policy=policy or "",
            ref=ref,
            base=base,
            dtype=dtype,
            device=device,
            device_map=device_map,
            tp=tp,
            attn=attn,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
        ),
        tokenization=TokenizationSettings(
            max_length=max_length,
            truncation=truncation,
            chat_template=read_template(chat_template),
            profile=profile,
            template_date=template_date,
        ),
        compute=ComputeSettings(
            cache_dir=cache,
            use_cache=not no_cache,
            batch_tokens=batch_tokens,
            threads=threads,
            fused=not no_fused,
            keep_tokens=not no_tokens,
            noise_pairs=noise_pairs,
            collisions=collisions,
            alternatives=alternatives,
            divergences=kl,
        ),
        dispatch=dispatch or DispatchSettings(),
    )
