"""Variable-length attention by levels of the tree gives the output of attention by segments.

torch's own function runs on CUDA alone, so another of its signature takes its place.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from prefscope.scoring import attention
from prefscope.scoring.attention import attending
from prefscope.scoring.packing import PackedRow, pack
from prefscope.scoring.varlen import CAUSAL, FULL, Level, find_varlen, levels_of
from tests.numerics.rows import attended, deep, dense, drawn, sequences_of, tree, unrelated

torch_varlen: Any = pytest.importorskip("torch.nn.attention.varlen")

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
HEADS = 4
ROWS = {
    "one token": unrelated(1),
    "unrelated": unrelated(3, 40, 1, 17),
    "a prompt with its responses": pack(
        sequences_of(*([9] * 30 + [i] * length for i, length in enumerate((5, 20, 1))))
    ),
    "a beginning of another": pack(sequences_of([9] * 30, [9] * 30 + [1] * 7)),
    "a deep tree": deep(),
    "a forest": tree(),
}
AS_MANY_QUERIES_AS_HEADS = {
    "a row of four tokens": unrelated(4),
    "four tokens below a prompt": pack(sequences_of([9] * 30 + [1] * 3, [9] * 30 + [2])),
}
Function = Callable[..., tuple[Tensor, Tensor]]


def emulated(*, heads_first: bool) -> Function:
    """Return a function like torch's `varlen_attn`, in float64, with one of the two layouts of its log-sum-exp."""

    def varlen_attn(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        return_aux: object = None,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
        enable_gqa: bool = False,
        num_splits: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        assert return_aux == torch_varlen.AuxRequest(lse=True)
        assert (cu_seq_q.dtype, cu_seq_k.dtype, num_splits) == (torch.int32, torch.int32, 1)
        assert (max_q, max_k) == (int(cu_seq_q.diff().max()), int(cu_seq_k.diff().max()))
        assert [len(query), len(key), len(value)] == [int(cu_seq_q[-1]), int(cu_seq_k[-1]), int(cu_seq_k[-1])]
        assert enable_gqa == (query.shape[1] != key.shape[1])
        group = query.shape[1] // key.shape[1]
        outputs, sums = [], []
        for i in range(len(cu_seq_q) - 1):
            ours, theirs = slice(cu_seq_q[i], cu_seq_q[i + 1]), slice(cu_seq_k[i], cu_seq_k[i + 1])
            keys, values = (part[theirs].double().repeat_interleave(group, 1) for part in (key, value))
            scores = torch.einsum("qhd,khd->hqk", query[ours].double(), keys) * (scale or 1.0)
            if window_size == (-1, 0):
                scores = scores.masked_fill(torch.ones(scores.shape[1:]).triu(1).bool(), -math.inf)
            outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values))
            sums.append(scores.logsumexp(-1))
        lse = torch.cat(sums, dim=1).float()
        return torch.cat(outputs).to(query.dtype), lse if heads_first else lse.T.contiguous()

    return varlen_attn


def use(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "find_varlen", lambda *_: function)


layouts = pytest.mark.parametrize("heads_first", [True, False], ids=["lse by heads", "lse by tokens"])


@layouts
@pytest.mark.parametrize(
    "traits",
    [{}, {"sinks": True}, {"value_width": 5}, {"value_width": 13, "sinks": True}, {"key_heads": HEADS}],
    ids=str,
)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_levels_match_segments(
    row: PackedRow, traits: dict[str, Any], *, heads_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = drawn(row, **traits)
    by_segment = attended(row, inputs)
    use(emulated(heads_first=heads_first), monkeypatch)
    by_level = attended(row, inputs)
    torch.testing.assert_close(by_level, by_segment, rtol=0, atol=1e-5)
    torch.testing.assert_close(by_level.double(), dense(row, inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_levels_match_segments_in_sixteen_bits(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = drawn(ROWS["a forest"], dtype=dtype)
    use(emulated(heads_first=True), monkeypatch)
    found = attended(ROWS["a forest"], inputs).double()
    torch.testing.assert_close(found, dense(ROWS["a forest"], inputs), rtol=0, atol=3e-2)


@pytest.mark.parametrize("row", AS_MANY_QUERIES_AS_HEADS.values(), ids=AS_MANY_QUERIES_AS_HEADS)
def test_equal_numbers_of_queries_and_heads_are_not_confused(row: PackedRow, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = drawn(row, heads=HEADS, sinks=True)
    use(emulated(heads_first=True), monkeypatch)
    torch.testing.assert_close(attended(row, inputs).double(), dense(row, inputs), rtol=0, atol=1e-5)


def test_responses_do_not_leak_into_each_other_or_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS["a prompt with its responses"]
    inputs = drawn(row)
    use(emulated(heads_first=True), monkeypatch)
    own = torch.from_numpy(row.paths[1][30:])
    for part in (inputs.query, inputs.key, inputs.value):
        part[:, :, own] = torch.nan
    nan = attended(row, inputs).isnan().flatten(1)
    assert nan[own].all()
    assert int(nan.any(dim=1).sum()) == len(own)


def test_every_segment_sees_itself_and_then_every_generation_of_ancestors_is_one_level() -> None:
    prompt, start = [9] * 30, [8] * 10
    row = pack(sequences_of([*prompt, 1, 2, 3], prompt + start + [4], prompt + start + [5, 6], [7]))
    levels = levels_of(row, CPU)
    assert [level.window for level in levels] == [CAUSAL, FULL, FULL]
    assert [len(level.queries) for level in levels] == [47, 3 + 10 + 1 + 2, 1 + 2]
    assert [len(level.keys) for level in levels] == [47, 30, 10]
    assert [level.query_starts.tolist() for level in levels[1:]] == [[0, 16], [0, 3]]
    assert [(level.longest_query, level.longest_key) for level in levels] == [(30, 30), (16, 30), (3, 10)]


def test_the_levels_of_a_row_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    row, made = ROWS["a forest"], []

    def counting(row: PackedRow, device: torch.device) -> list[Level]:
        made.append(device)
        return levels_of(row, device)

    monkeypatch.setattr(attention, "levels_of", counting)
    inputs = drawn(row)
    with attending(row) as current:
        for _ in range(3):
            attention._by_level(emulated(heads_first=True), current, inputs.query, inputs.key, inputs.value, 1.0)
    assert made == [CPU]


@pytest.mark.parametrize(
    ("device", "dtype"), [(CPU, torch.bfloat16), (torch.device("mps"), torch.float16), (CUDA, torch.float32)], ids=str
)
def test_other_devices_and_dtypes_do_not_use_varlen_attention(device: torch.device, dtype: torch.dtype) -> None:
    assert find_varlen(device, dtype, 64) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bits_on_cuda_use_varlen_attention_if_it_supports_all_arguments(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = emulated(heads_first=True)
    monkeypatch.setattr(torch_varlen, "varlen_attn", ours)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert find_varlen(CUDA, dtype, 64) is ours


@pytest.mark.parametrize(("capability", "width"), [((7, 5), 64), ((9, 0), 288), ((9, 0), 12)], ids=str)
def test_old_devices_and_unsupported_head_widths_do_not_use_varlen_attention(
    capability: tuple[int, int], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_varlen, "varlen_attn", emulated(heads_first=True))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert find_varlen(CUDA, torch.bfloat16, width) is None


@pytest.mark.parametrize("missing", ["scale", "window_size", "enable_gqa", "return_aux"])
def test_varlen_attention_is_not_used_if_torch_lacks_a_parameter(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours: Any = emulated(heads_first=True)
    parameters = inspect.signature(ours).parameters
    ours.__signature__ = inspect.Signature([one for name, one in parameters.items() if name != missing])
    monkeypatch.setattr(torch_varlen, "varlen_attn", ours)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert find_varlen(CUDA, torch.bfloat16, 64) is None


def test_key_splits_are_not_requested_from_a_torch_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Any = emulated(heads_first=True)

    def without_splits(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        assert "num_splits" not in kwargs
        found: tuple[Tensor, Tensor] = whole(*args, num_splits=1, **kwargs)
        return found

    row = ROWS["a forest"]
    inputs = drawn(row)
    use(without_splits, monkeypatch)
    torch.testing.assert_close(attended(row, inputs).double(), dense(row, inputs), rtol=0, atol=1e-5)
