"""What the comparison with the plain forward detects: every trait changes log-probs, and losing one is caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from prefscope.scoring.attention import NAME, packed_attention
from prefscope.scoring.engine import forward
from prefscope.scoring.self_check import ForwardChoice, check, follow
from tests.numerics.families import (
    CONTEXT,
    FAMILIES,
    PACKED,
    WINDOW,
    as_loaded,
    changed,
    largest_difference,
    plain_logps,
    random_model,
    random_sequences,
    related_sequences,
    token_pool,
)

CLEARLY = 0.1
"""A thousand times the tolerance, in nats."""
GEMMA2 = "gemma2, soft caps and a window"
GPT_OSS = "gpt_oss, sinks, experts and a window"
MISTRAL = "mistral, a window in all layers"
Attention = Callable[..., tuple[Tensor, None]]


def use(attention: Attention, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the packed attention with another one."""
    monkeypatch.setitem(AttentionInterface._global_mapping, NAME, attention)


def packed_but(**wrong: Callable[[Any], Any]) -> Attention:
    """Return the packed attention, with some of its arguments changed."""

    def attention(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        return packed_attention(*args, **{**kwargs, **{name: change(kwargs[name]) for name, change in wrong.items()}})

    return attention


def blind_to_segments(
    _module: nn.Module, query: Tensor, key: Tensor, value: Tensor, _mask: None, *, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Return causal attention over the row as if it were one sequence."""
    output = functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    return output.transpose(1, 2), None


def ignored(_: object) -> None:
    """Return None instead of the argument."""


def one_longer(window: int | None) -> int | None:
    return None if window is None else window + 1


@pytest.mark.parametrize(
    ("family", "name", "value"),
    [
        (MISTRAL, "sliding_window", CONTEXT),
        ("qwen2, a window in one layer", "sliding_window", CONTEXT),
        ("starcoder2, a window in all layers", "sliding_window", CONTEXT),
        ("exaone4, a window in one layer", "sliding_window", CONTEXT),
        ("gemma3, a window in one layer", "sliding_window", CONTEXT),
        (GEMMA2, "sliding_window", CONTEXT),
        (GPT_OSS, "sliding_window", CONTEXT),
        (GEMMA2, "attn_logit_softcapping", None),
        (GEMMA2, "final_logit_softcapping", None),
        ("granite, scaled logits", "logits_scaling", 1.0),
        ("cohere, scaled logits", "logit_scale", 1.0),
    ],
)
def test_config_traits_change_log_probs_of_the_plain_forward(family: str, name: str, value: float | None) -> None:
    module, sequence = random_model(FAMILIES[family]), random_sequences()[0]
    other = random_model(changed(FAMILIES[family], **{name: value}))
    assert largest_difference([plain_logps(module, sequence)], [plain_logps(other, sequence)]) > CLEARLY


def test_attention_sinks_change_log_probs_of_the_plain_forward() -> None:
    module, sequence = random_model(PACKED[GPT_OSS]), random_sequences()[0]
    before = plain_logps(module, sequence)
    sinks = [weight for name, weight in module.named_parameters() if name.endswith("sinks")]
    assert len(sinks) == 2
    with torch.no_grad():
        for weight in sinks:
            weight.fill_(-1e4)
    assert largest_difference([plain_logps(module, sequence)], [before]) > CLEARLY


@pytest.mark.parametrize(
    ("family", "wrong"),
    [
        pytest.param(MISTRAL, {"sliding_window": ignored}, id="mistral without its window"),
        pytest.param(GEMMA2, {"sliding_window": ignored}, id="gemma2 without its window"),
        pytest.param("gemma3, a window in one layer", {"sliding_window": ignored}, id="gemma3 without its window"),
        pytest.param(GPT_OSS, {"sliding_window": ignored}, id="gpt_oss without its window"),
        pytest.param(MISTRAL, {"sliding_window": one_longer}, id="mistral with a window one token longer"),
        pytest.param(GPT_OSS, {"s_aux": ignored}, id="gpt_oss without its sinks"),
        pytest.param(GEMMA2, {"softcap": ignored}, id="gemma2 without the soft cap of its attention"),
        pytest.param(GEMMA2, {"scaling": ignored}, id="gemma2 with the usual scale"),
        pytest.param("granite, scaled logits", {"scaling": ignored}, id="granite with the usual scale"),
    ],
)
def test_a_different_attention_is_caught_by_the_comparison_with_the_plain_forward(
    family: str, wrong: dict[str, Callable[[Any], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, sequences = random_model(PACKED[family]), related_sequences()
    expected = [plain_logps(module, sequence) for sequence in sequences]
    use(packed_but(**wrong), monkeypatch)
    model = as_loaded(module)
    verdict = check(model, token_pool())
    assert verdict.path == "padded"
    assert verdict.reason.startswith("packed log-probs differ from plain ones by ")
    follow(model, "packed")
    found = [logps.tolist() for logps in forward(model, "packed", sequences)]
    assert largest_difference(found, expected) > CLEARLY


def test_an_unchanged_attention_passes_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    use(packed_but(sliding_window=lambda window: window, s_aux=lambda sinks: sinks), monkeypatch)
    assert check(as_loaded(random_model(PACKED[GPT_OSS])), token_pool()) == ForwardChoice("packed", "")


def test_an_attention_from_one_sequence_of_the_row_into_the_next_is_caught_by_the_leak_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(blind_to_segments, monkeypatch)
    verdict = check(as_loaded(random_model(PACKED["llama, untied head"])), token_pool())
    assert verdict == ForwardChoice("padded", "one response leaks into others in a packed row")


def test_a_layer_with_an_undeclared_window_is_caught_even_if_no_probe_is_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(packed_but(sliding_window=ignored), monkeypatch)
    model = as_loaded(random_model(changed(PACKED[MISTRAL], sliding_window=CONTEXT)))
    assert check(model, token_pool()) == ForwardChoice("padded", "its layers do not pass on their sliding window")


def test_a_layer_with_a_declared_window_longer_than_every_probe_is_packed() -> None:
    model = as_loaded(random_model(changed(PACKED[MISTRAL], sliding_window=CONTEXT)))
    assert check(model, token_pool()) == ForwardChoice("packed", "")


def test_a_window_that_no_layer_uses_does_not_prevent_packing() -> None:
    config = changed(PACKED["gemma3, a window in one layer"], layer_types=["full_attention", "full_attention"])
    assert config.sliding_window == WINDOW
    assert check(as_loaded(random_model(config)), token_pool()) == ForwardChoice("packed", "")
