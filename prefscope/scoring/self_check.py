"""The self-check: tests whether packing is right for a model, before its first batch.

First, the leak probe: in a packed row of two responses to one prompt and an unrelated sequence, the embeddings of one
response are set to NaN. Everything that depends on them, however slightly, becomes NaN, in any dtype; the log-probs of
the other sequences must stay finite. Recurrent and convolutional layers fail this test: packed, they run without an
error but give wrong numbers. Second, packed log-probs must match those of a plain forward pass of each sequence, in
float32 if that fits into memory. Third, in 16 bits, with the kernels that will score, they must be about as close to
those of float32 as plain ones are.

Packed passes use fused kernels, if there are any (fused.py), and plain ones never do. If a model fails the test with
them, it is tested without.

Models that are computed in padded rows, with their own attention, must be causal: a later token must not change the
log-probs of earlier ones. Masked language models fail this test, and have no log-probs of a response.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from prefscope.errors import ModelError
from prefscope.scoring.attention import NAME, NotPackableError, watching
from prefscope.scoring.context import context_of, varies_with_length
from prefscope.scoring.engine import forward
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.forward_pass import Logps
from prefscope.scoring.memory import available_bytes, is_out_of_memory, resident_bytes
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.packing import pack
from prefscope.scoring.sequences import TokenSequence

UNIT = 16
NATS_A_TOKEN = 2e-4
"""Maximum difference from the plain forward pass in float32, and as much again for every 50 nats of the log-prob."""
NATS_A_TOKEN_16_BIT = 0.5
"""The same in 16 bits, where only gross errors can be distinguished from rounding."""
TIMES_THE_ROUNDING = 3.0
"""Maximum distance of packed log-probs in 16 bits from float32, as a multiple of that of plain ones. In 24 families,
right kernels had 0.3 to 1.5 times the distance of plain ones, kernels that returned the sums of other heads 5 times and
more, the outputs of other heads 30 times and more."""
QUANTILES = (0.5, 0.9)
"""Of the distances of all tokens; not the largest, because rounding sends some tokens to other experts."""
SPARE = 0.2
"""Memory to leave free, as a share of the weights, when a model is checked in float32."""
SIXTEEN_BIT = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class ForwardChoice:
    """The forward mode of a model, with the reason."""

    path: ForwardMode
    reason: str
    """Why the model is not packed; empty if it is."""
    alone: bool = False
    """Whether even padding changes its numbers, so that every sequence needs its own batch."""
    kernels: str = ""
    """Names and versions of the packages whose fused kernels compute parts of it; empty if none do."""
    unfused: str = ""
    """How packing fails with fused kernels, if it only works without; else empty."""


def check(
    model: LanguageModel, token_ids: NDArray[np.int32], *, own_attention: bool = False, may_fuse: bool = True
) -> ForwardChoice:
    """Choose a model's forward mode and whether it uses fused kernels, and set it up accordingly.

    Args:
        model: A loaded model.
        token_ids: Some tokens of the data set, used for the probes.
        own_attention: Whether the user chose an attention implementation, which packing would replace.
        may_fuse: Whether fused kernels may be used.

    Raises:
        ModelError: If the model is not causal.
    """
    probes = _probes(token_ids, context_of(model.module.config))
    varies = varies_with_length(model.module.config)
    if own_attention:
        reason = "an attention implementation was requested"
    elif varies:
        reason = "its rotary frequencies depend on the longest sequence of a batch"
    else:
        reason = _unsuitable(model.module)
    unfused = ""
    if not reason and may_fuse and (found := model.fusion.recognised(model.module, model.device, model.module.dtype)):
        unfused = _differs(model, probes, is_fused=True)
        if not unfused:
            return ForwardChoice("packed", "", kernels=found.kernels)
    reason = reason or _differs(model, probes)
    if not reason:
        return ForwardChoice("packed", "", unfused=unfused)
    follow(model, "padded")
    _refuse_noncausal(model, probes)
    if varies:
        return ForwardChoice("padded", reason, alone=True)
    alone = _moved_by_padding(model, probes)
    return ForwardChoice("padded", f"{reason}; one at a time, because {alone}" if alone else reason, bool(alone))


def follow(model: LanguageModel, path: ForwardMode, *, is_fused: bool = False) -> None:
    """Set the attention of a model for a forward mode, and whether it uses fused kernels."""
    model.fusion.on = is_fused
    wanted = NAME if path == "packed" else model.attention
    if model.module.config._attn_implementation != wanted:  # noqa: SLF001 (transformers names it nowhere else)
        model.module.set_attn_implementation(wanted)


def _unsuitable(module: PreTrainedModel) -> str:
    """Return what rules out packing in a model's class or config; empty if nothing does."""
    if not module._can_set_attn_implementation():  # noqa: SLF001
        return "it has its own attention code"
    kinds = set(getattr(module.config.get_text_config(), "layer_types", None) or ())
    odd = sorted(kinds - {"full_attention", "sliding_attention"})
    return f"it has {odd[0]} layers" if odd else ""


def _probes(token_ids: NDArray[np.int32], context: int | None) -> list[TokenSequence]:
    """Return two responses to one prompt and an unrelated sequence, drawn from the tokens in use."""
    unit = max(min(UNIT, (context or 3 * UNIT) // 3), 1)
    pool = np.unique(np.append(token_ids, [0, 1]).astype(np.int32))
    drawn = np.random.default_rng(0).choice(pool, size=(6, unit)).astype(np.int32)
    prompt, first, second, more = drawn[0], drawn[1], drawn[2], drawn[3]
    return [
        TokenSequence(np.concatenate([prompt, first]), unit),
        TokenSequence(np.concatenate([prompt, second, more]), unit),
        TokenSequence(np.concatenate([drawn[4], drawn[5]]), unit),
    ]


def _differs(model: LanguageModel, probes: list[TokenSequence], *, is_fused: bool = False) -> str:
    """Return how packing fails for a model, with or without fused kernels; empty if it works."""
    try:
        with _in_float32(model) as limit:
            plain = _plain(model, probes)
            follow(model, "packed", is_fused=is_fused)
            with watching() as windows:
                packed = forward(model, "packed", probes)
        wrong = _leaks(model, probes) or _deviates(plain, packed, limit)
        if not wrong and limit == NATS_A_TOKEN and _in_16_bit(model.module):
            wrong = _noisier(model, probes, plain, is_fused=is_fused)
    except NotPackableError as error:
        return error.what[0].lower() + error.what[1:]
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return f"its packed forward pass fails ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    if not all(np.isfinite(logps).all() for logps in plain):
        return "its log-probs are not finite"
    return wrong or _loses_a_window(model.module, windows)


def _plain(model: LanguageModel, probes: list[TokenSequence]) -> Logps:
    follow(model, "padded")
    return [forward(model, "padded", [probe])[0] for probe in probes]


def _noisier(model: LanguageModel, probes: list[TokenSequence], exact: Logps, *, is_fused: bool) -> str:
    """Return how packing in 16 bits is further from float32 than a plain forward pass in 16 bits; empty if it is not.

    Kernels differ between dtypes, so that of the scoring dtype may be wrong where that of float32 is right.
    """
    expected = np.concatenate(exact)
    plain = np.concatenate(_plain(model, probes))
    follow(model, "packed", is_fused=is_fused)
    packed = np.concatenate(forward(model, "packed", probes))
    known = np.isfinite(expected) & np.isfinite(plain)
    rounding, deviation = (np.quantile(np.abs(found - expected)[known], QUANTILES) for found in (plain, packed))
    if (deviation <= TIMES_THE_ROUNDING * rounding + NATS_A_TOKEN).all():
        return ""
    return (
        f"in {model.dtype}, packed log-probs are {deviation[0]:.2g} nats per token from those of float32 (median), "
        f"plain ones {rounding[0]:.2g}"
    )


def _moved_by_padding(model: LanguageModel, probes: list[TokenSequence]) -> str:
    """Return how padded rows fail for a model; empty if they work."""
    with _in_float32(model) as limit:
        plain = [forward(model, "padded", [probe])[0] for probe in probes]
        wrong = _deviates(plain, forward(model, "padded", probes), limit)
    return wrong.replace("packed", "padded")


def _refuse_noncausal(model: LanguageModel, probes: list[TokenSequence]) -> None:
    """Raise an error for a model in which the last token changes the log-probs of earlier ones.

    Raises:
        ModelError: If it does.
    """
    for probe in probes:
        others = probe.token_ids.copy()
        others[-1] = next(token for token in (0, 1) if token != others[-1])
        changed = TokenSequence(others, probe.completion_start)
        before, after = (forward(model, "padded", [one])[0][:-1] for one in (probe, changed))
        if not np.allclose(before, after, rtol=0, atol=NATS_A_TOKEN, equal_nan=True):
            raise ModelError(
                f"This {type(model.module).__name__} looks ahead: a later token changes the log-probs of earlier ones, "
                "so it is not a causal language model",
                hint="Pass a causal language model; models like BERT need is_decoder in their config.",
            )


def _leaks(model: LanguageModel, probes: list[TokenSequence]) -> str:
    """Return how one response affects others in a packed row; empty if it does not."""
    paths = pack(probes).paths
    for number in range(len(probes)):  # each in turn, as the last sequence of the row has nothing to leak into
        own = np.setdiff1d(paths[number], np.concatenate([*paths[:number], *paths[number + 1 :]]))
        found = forward(model, "packed", probes, poisoned=own)
        if np.isfinite(found.pop(number)[1:]).any():  # the first token is predicted by the prompt
            return "it uses token ids in addition to their embeddings"
        if not all(np.isfinite(logps).all() for logps in found):
            return "one response leaks into others in a packed row"
    return ""


def _deviates(plain: Logps, packed: Logps, limit: float) -> str:
    """Return by how much packed log-probs differ from plain ones; empty if within the limit."""
    expected, found = np.concatenate(plain), np.concatenate(packed)
    difference = np.nan_to_num(np.abs(found - expected), nan=np.inf)
    difference[np.isnan(expected) & np.isnan(found)] = 0.0
    if (difference <= limit * (1 + np.abs(expected) / 50)).all():
        return ""
    return f"packed log-probs differ from plain ones by {difference.max():.2g} nats per token"


def _loses_a_window(module: PreTrainedModel, windows: set[int | None]) -> str:
    """Report a sliding window in the config that no layer passes to its attention; empty if there is none."""
    config = module.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    has_window = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    if has_window and (kinds is None or "sliding_attention" in kinds) and not windows - {None}:
        return "its layers do not pass on their sliding window"
    return ""


def widened_bytes(model: LanguageModel) -> int:
    """Return the bytes that a model's self-check needs beside its weights: as much again if they are in 16 bits."""
    return resident_bytes(model.module) if _in_16_bit(model.module) and _can_widen(model) else 0


@contextmanager
def _in_float32(model: LanguageModel) -> Iterator[float]:
    """Convert a 16-bit model to float32 temporarily, if that fits, and yield the limit that applies."""
    tensors = _in_16_bit(model.module)
    if not tensors:
        yield NATS_A_TOKEN
    elif not _can_widen(model):
        yield NATS_A_TOKEN_16_BIT
    else:
        stored = [tensor.dtype for tensor in tensors]
        for tensor in tensors:
            tensor.data = tensor.data.float()
        try:
            yield NATS_A_TOKEN
        finally:
            for tensor, dtype in zip(tensors, stored, strict=True):
                tensor.data = tensor.data.to(dtype)


def _in_16_bit(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in chain(module.parameters(), module.buffers()) if tensor.dtype in SIXTEEN_BIT]


def _can_widen(model: LanguageModel) -> bool:
    """Return whether the weights are plain, on one device, and fit into its memory a second time."""
    module = model.module
    plain = (
        model.part is None
        and not model.is_trained
        and getattr(module, "hf_quantizer", None) is None
        and not getattr(module, "hf_device_map", None)
    )
    return plain and resident_bytes(module) * (1 + SPARE) < available_bytes(model.device)
