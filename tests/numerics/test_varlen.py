"""One launch over the paths of a row gives the output of dense attention, with CUDA's operators emulated on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from prefscope.scoring import attention, varlen
from prefscope.scoring.attention import Attended, NotPackableError
from prefscope.scoring.engine import forward
from prefscope.scoring.packing import PackedRow, pack
from prefscope.scoring.self_check import follow
from prefscope.scoring.varlen import MOST_COPIES, PathKernel, Paths, find_kernel, paths_of
from tests.numerics.emulated_cuda import emulated_operators
from tests.numerics.families import NATS_A_TOKEN, PACKED, as_loaded, plain_logps, random_model, related_sequences
from tests.numerics.rows import attended, deep, dense, drawn, sequences_of, tree, unrelated

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
HEADS = 4
ROWS = {
    "one token": unrelated(1),
    "single tokens": unrelated(1, 1, 1),
    "unrelated": unrelated(3, 40, 1, 17),
    "a prompt with its responses": pack(
        sequences_of(*([9] * 30 + [i] * length for i, length in enumerate((5, 20, 1))))
    ),
    "a beginning of another": pack(sequences_of([9] * 30, [9] * 30 + [1] * 7)),
    "four tokens below a prompt": pack(sequences_of([9] * 30 + [1] * 3, [9] * 30 + [2])),
    "a deep tree": deep(),
    "a forest": tree(),
    "many responses to a long prompt": pack(sequences_of(*([9] * 60 + [i] * 2 for i in range(1, 30)))),
}
TRAITS: list[dict[str, Any]] = [
    {},
    {"value_width": 5},
    {"key_heads": HEADS},
    {"key_heads": 1},
    {"window": 1},
    {"window": 6},
    {"window": 33},
    {"window": 500},
    {"sinks": True},
    {"sinks": True, "window": 6, "value_width": 13},
]


@pytest.fixture(autouse=True)
def _as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let tensors on the CPU take the kernels that those on a capable GPU take."""

    def find(_: torch.device, dtype: torch.dtype, width: int, *, window: int | None, sums: bool) -> PathKernel | None:
        return find_kernel(CUDA, dtype, width, window=window, sums=sums)

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(attention, "find_kernel", find)
    with emulated_operators():
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("traits", TRAITS, ids=str)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_one_launch_gives_the_output_of_dense_attention(
    row: PackedRow, traits: dict[str, Any], dtype: torch.dtype
) -> None:
    inputs = drawn(row, dtype=dtype, **traits)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(attended(row, inputs).double(), dense(row, inputs), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("traits", [{}, {"window": 6}, {"sinks": True}], ids=str)
def test_responses_do_not_leak_into_each_other_or_the_prompt(traits: dict[str, Any], dtype: torch.dtype) -> None:
    row = ROWS["a prompt with its responses"]
    inputs = drawn(row, dtype=dtype, **traits)
    own = torch.from_numpy(row.paths[1][30:])
    for part in (inputs.query, inputs.key, inputs.value):
        part[:, :, own] = torch.nan
    nan = attended(row, inputs).isnan().flatten(1)
    assert nan[own].all()
    assert int(nan.any(dim=1).sum()) == len(own)


@pytest.mark.parametrize("family", PACKED)
def test_every_family_has_the_log_probs_of_its_plain_forward(family: str) -> None:
    module = random_model(PACKED[family])
    model, sequences = as_loaded(module), related_sequences()
    expected = [plain_logps(module, sequence) for sequence in sequences]
    follow(model, "packed")
    found = forward(model, "packed", sequences)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=NATS_A_TOKEN)


@pytest.mark.parametrize("wrong", [1, -1])
def test_a_kernel_with_another_window_than_asked_for_is_not_used(wrong: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int | None] = []

    def kernel(paths: Paths, *rest: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        calls.append(paths.window)
        return varlen._flash(replace(paths, window=(paths.window or 0) + wrong), *rest)

    monkeypatch.setattr(attention, "find_kernel", lambda *_, **__: kernel)
    row = ROWS["a forest"]
    inputs = drawn(row, dtype=torch.bfloat16, window=6)
    torch.testing.assert_close(attended(row, inputs).double(), dense(row, inputs), rtol=0, atol=3e-2)
    assert set(calls) == {attention.CHECKED_WINDOW}


def test_a_kernel_without_sums_for_the_sinks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "find_kernel", lambda *_, **__: varlen._efficient)
    row = ROWS["a forest"]
    with pytest.raises(NotPackableError, match="no log-sum-exp"):
        attended(row, drawn(row, sinks=True))


def test_a_path_has_the_keys_of_all_ancestors_and_its_own() -> None:
    prompt, start = [9] * 30, [8] * 10
    row = pack(sequences_of([*prompt, 1, 2, 3], prompt + start + [4], prompt + start + [5, 6], [7]))
    (paths,) = paths_of(row, CPU, None)
    sizes = paths.key_starts.diff().tolist()
    queries = paths.query_starts.diff().tolist()
    above = [size - own for size, own in zip(sizes, queries, strict=True)]
    assert sorted(above) == [0, 0, 30, 30, 40, 40]
    assert (paths.longest_query, paths.longest_key) == (30, 42)


def test_a_path_has_the_keys_in_the_window_of_its_first_query_only() -> None:
    row = pack(sequences_of([9] * 30 + [1] * 3, [9] * 30 + [2]))
    (paths,) = paths_of(row, CPU, 8)
    assert paths.key_starts.diff().tolist() == [30, 7 + 3, 7 + 1]


def test_paths_that_share_much_take_several_launches_each_of_bounded_size() -> None:
    row = ROWS["many responses to a long prompt"]
    pieces = paths_of(row, CPU, None)
    assert len(pieces) > 1
    assert max(len(piece.keys) for piece in pieces) <= MOST_COPIES * len(row.token_ids)
    assert [piece.queries.start for piece in pieces[1:]] == [piece.queries.stop for piece in pieces[:-1]]
    assert (pieces[0].queries.start, pieces[-1].queries.stop) == (0, len(row.token_ids))


def test_the_paths_of_a_row_are_computed_once_for_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int | None] = []

    def counting(row: PackedRow, device: torch.device, window: int | None) -> list[Paths]:
        computed.append(window)
        return paths_of(row, device, window)

    monkeypatch.setattr(attention, "paths_of", counting)
    current = Attended.of(ROWS["a forest"])
    for _ in range(3):
        current.paths(CPU, None)
        current.paths(CPU, 6)
    assert computed == [None, 6]


SIXTEEN: dict[str, Any] = {"dtype": torch.bfloat16, "width": 64, "window": None, "sums": False}


@pytest.mark.parametrize(
    ("device", "change"),
    [
        (CPU, {}),
        (torch.device("mps"), {}),
        (CUDA, {"width": 12}),
        (CUDA, {"width": 288}),
        (CUDA, {"dtype": torch.float64}),
        (CUDA, {"dtype": torch.float32, "window": 6}),
        (CUDA, {"dtype": torch.float32, "sums": True}),
    ],
    ids=str,
)
def test_what_no_kernel_supports_gets_none(device: torch.device, change: dict[str, Any]) -> None:
    assert find_kernel(device, **{**SIXTEEN, **change}) is None


@pytest.mark.parametrize(
    "change", [{}, {"dtype": torch.float16}, {"window": 6, "sums": True}, {"dtype": torch.float32}], ids=str
)
def test_a_capable_gpu_has_a_kernel(change: dict[str, Any]) -> None:
    assert find_kernel(CUDA, **{**SIXTEEN, **change}) is not None


def test_old_gpus_and_those_of_amd_get_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert find_kernel(CUDA, **SIXTEEN) is None
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert find_kernel(CUDA, **SIXTEEN) is None


def test_an_operator_without_an_argument_that_is_needed_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "FLASH_NEEDS", {*varlen.FLASH_NEEDS, "no such argument"})
    assert find_kernel(CUDA, **SIXTEEN) is None
