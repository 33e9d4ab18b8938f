"""The packed attention function compared with dense masked attention in float64, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prefscope.scoring import attention
from prefscope.scoring.attention import (
    HARMLESS,
    Attended,
    NotPackableError,
    attending,
    packed_attention,
    watching,
)
from prefscope.scoring.blocks import QUERY_BLOCK
from prefscope.scoring.packing import PackedRow, pack
from tests.numerics.made import Made
from tests.numerics.rows import Layer, attended, deep, dense, drawn, sequences_of, tree, unrelated

FOUR = unrelated(4)
ROWS = {
    "one token": unrelated(1),
    "one sequence": unrelated(37),
    "single tokens": unrelated(1, 1, 1),
    "unrelated": unrelated(3, 40, 1, 17),
    "a prompt with its responses": pack(
        sequences_of(*([9] * 30 + [i] * length for i, length in enumerate((5, 20, 1))))
    ),
    "a beginning of another": pack(sequences_of([9] * 30, [9] * 30 + [1] * 7)),
    "a deep tree": deep(),
    "a forest": tree(),
}
TRAITS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one key head": {"key_heads": 1},
    "as many key heads as heads": {"key_heads": 4},
    "an odd width": {"width": 5, "value_width": 5},
    "a given scale": {"scaling": 0.2},
    "narrow values": {"value_width": 5},
    "wide values": {"value_width": 13},
    "sinks": {"sinks": True},
    "sinks and wide values": {"sinks": True, "value_width": 13},
    "a window of one": {"window": 1},
    "a short window": {"window": 6},
    "a window longer than a segment": {"window": 33},
    "a window longer than any sequence": {"window": 500},
    "a soft cap": {"softcap": 2.0},
    "everything": {"window": 6, "softcap": 2.0, "sinks": True, "value_width": 5, "scaling": 0.3},
}


def call(mask: Tensor | None = None, /, **given: Any) -> Tensor:
    """Return the output of the attention function for a row of four tokens."""
    inputs = drawn(FOUR)
    return packed_attention(Layer(), inputs.query, inputs.key, inputs.value, mask, **given)[0]


@pytest.mark.parametrize("traits", TRAITS.values(), ids=TRAITS)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_float32_output_equals_dense_attention(row: PackedRow, traits: dict[str, Any]) -> None:
    inputs = drawn(row, **traits)
    torch.testing.assert_close(attended(row, inputs).double(), dense(row, inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("traits", TRAITS.values(), ids=TRAITS)
def test_float64_output_equals_dense_attention_to_the_last_digits(traits: dict[str, Any]) -> None:
    inputs = drawn(ROWS["a forest"], dtype=torch.float64, **traits)
    torch.testing.assert_close(attended(ROWS["a forest"], inputs), dense(ROWS["a forest"], inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 3e-2), (torch.float16, 4e-3)], ids=str)
@pytest.mark.parametrize("traits", TRAITS.values(), ids=TRAITS)
def test_sixteen_bit_output_equals_dense_attention_up_to_rounding(
    traits: dict[str, Any], dtype: torch.dtype, tolerance: float
) -> None:
    row = ROWS["a forest"]
    inputs = drawn(row, dtype=dtype, **traits)
    torch.testing.assert_close(attended(row, inputs).double(), dense(row, inputs), rtol=0, atol=tolerance)


@settings(max_examples=40)
@given(
    lists=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=30), min_size=1, max_size=8),
    window=st.none() | st.integers(1, 31),
    sinks=st.booleans(),
)
def test_any_row_gets_the_output_of_dense_attention(*, lists: list[list[int]], window: int | None, sinks: bool) -> None:
    row = pack(sequences_of(*lists))
    inputs = drawn(row, window=window, sinks=sinks)
    torch.testing.assert_close(attended(row, inputs).double(), dense(row, inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("traits", [{}, {"window": 300}, {"softcap": 2.0}], ids=["kernel", "window", "soft cap"])
def test_segments_longer_than_a_block_of_queries_get_the_output_of_dense_attention(traits: dict[str, Any]) -> None:
    prompt = [9] * (QUERY_BLOCK + 50)
    row = pack(sequences_of(prompt + [1] * (QUERY_BLOCK + 9), prompt + [2] * 40))
    inputs = drawn(row, **traits)
    torch.testing.assert_close(attended(row, inputs).double(), dense(row, inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("traits", TRAITS.values(), ids=TRAITS)
def test_a_device_without_a_kernel_gets_the_output_of_dense_attention(
    traits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "KERNELS", {})
    inputs = drawn(ROWS["a forest"], **traits)
    torch.testing.assert_close(
        attended(ROWS["a forest"], inputs).double(), dense(ROWS["a forest"], inputs), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("traits", [{}, {"window": 6}, {"softcap": 2.0}, {"sinks": True}], ids=str)
@pytest.mark.parametrize("poisoned", range(3))
def test_responses_do_not_leak_into_each_other_or_the_prompt(poisoned: int, traits: dict[str, Any]) -> None:
    row = pack(sequences_of(*([9] * 30 + [i] * length for i, length in enumerate((5, 20, 11)))))
    own = torch.from_numpy(row.paths[poisoned][30:])
    inputs = drawn(row, **traits)
    clean = attended(row, inputs)
    for part in (inputs.query, inputs.key, inputs.value):
        part[:, :, own] = torch.nan
    found = attended(row, inputs)
    assert found[own].isnan().all()
    others = torch.ones(len(row.token_ids), dtype=torch.bool).index_fill(0, own, value=False)
    assert torch.equal(found[others], clean[others])


@pytest.mark.parametrize("traits", TRAITS.values(), ids=TRAITS)
def test_no_tensor_of_a_long_row_grows_with_its_square(traits: dict[str, Any]) -> None:
    row = unrelated(*([100] * 28), 200)
    inputs = drawn(row, **traits)
    with Made() as made:
        attended(row, inputs)
    assert made.largest() < 3000**2 / 40


def test_attention_scores_of_a_long_sequence_are_computed_block_by_block() -> None:
    row = unrelated(12 * QUERY_BLOCK)
    inputs = drawn(row, softcap=2.0, heads=2, key_heads=1)
    with Made() as made:
        attended(row, inputs)
    assert made.largest() == 2 * QUERY_BLOCK * 12 * QUERY_BLOCK


@pytest.mark.parametrize(
    "name", ["position_bias", "head_mask", "cu_seq_lens_q", "attn_bias", "sliding", "s_auxiliary", "block_mask"]
)
def test_an_unknown_keyword_is_refused_by_name(name: str) -> None:
    with attending(Attended.of(FOUR)), pytest.raises(NotPackableError, match=rf"The attention of Layer needs {name}\b"):
        call(**{name: torch.zeros(1)})


@pytest.mark.parametrize("value", [False, 0, "", ()], ids=repr)
def test_an_unknown_keyword_is_refused_unless_its_value_is_none(value: object) -> None:
    with attending(Attended.of(FOUR)), pytest.raises(NotPackableError, match="unheard_of"):
        call(unheard_of=value)


def test_every_refused_keyword_is_named() -> None:
    with attending(Attended.of(FOUR)), pytest.raises(NotPackableError, match="needs attention_mask, bias, mask"):
        call(torch.zeros(1), mask=1, bias=2)


def test_a_keyword_without_a_value_changes_nothing() -> None:
    with attending(Attended.of(FOUR)):
        found = call(position_bias=None)
        assert torch.equal(found, call())


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_a_harmless_keyword_changes_nothing(name: str) -> None:
    with attending(Attended.of(FOUR)):
        found = call(**{name: True})
        assert torch.equal(found, call())


def test_an_attention_mask_is_refused() -> None:
    with attending(Attended.of(FOUR)), pytest.raises(NotPackableError, match="needs attention_mask"):
        call(torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("options", [{"dropout": 0.1}, {"is_causal": False}], ids=str)
def test_dropout_and_non_causal_attention_are_refused(options: dict[str, Any]) -> None:
    with attending(Attended.of(FOUR)), pytest.raises(NotPackableError, match="The attention of Layer needs "):
        call(**options)


@pytest.mark.parametrize("options", [{"dropout": 0.1}, {"is_causal": False}], ids=str)
def test_dropout_and_non_causal_attention_are_refused_by_name(options: dict[str, Any]) -> None:
    with attending(Attended.of(FOUR)), pytest.raises(NotPackableError, match=re.escape(next(iter(options)))):
        call(**options)


def test_a_non_causal_layer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layer, "is_causal", False)
    with attending(Attended.of(FOUR)), pytest.raises(NotPackableError, match="The attention of Layer"):
        call()


@pytest.mark.parametrize("given_causal", [None, True])
def test_a_layer_declared_as_causal_is_accepted(*, given_causal: bool | None) -> None:
    with attending(Attended.of(FOUR)):
        assert call(is_causal=given_causal).shape == (1, 4, 4, 8)


def test_attention_without_a_row_is_refused() -> None:
    with attending(Attended.of(FOUR)):
        pass
    with pytest.raises(NotPackableError, match="needs no row"):
        call()


def test_the_windows_requested_by_layers_are_collected() -> None:
    with attending(Attended.of(FOUR)), watching() as windows:
        for window in (None, 3, 500):
            call(sliding_window=window)
    assert windows == {None, 3, 500}
