"""Both forward modes compared with a plain float64 forward per sequence; batches and memory errors change nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from prefscope.data.records import PreferencePair
from prefscope.errors import ModelError, ResourceError
from prefscope.scoring import engine, head
from prefscope.scoring.alternatives import TopTokens
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.engine import compute_scope, forward, score_batch
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.models import LanguageModel, load_model
from prefscope.scoring.self_check import follow
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair
from prefscope.settings import ModelSettings, TokenizationSettings
from tests.numerics.families import PACKED, as_loaded, random_model

NATS_A_TOKEN = 1e-4
CONTEXT = 256
Logps = list[NDArray[np.float32]]


def never_halved(sequences: Sequence[TokenSequence]) -> None:
    pytest.fail(f"{len(sequences)} sequences were halved")


def largest_difference(some: Sequence[NDArray[Any]], others: Sequence[NDArray[Any]]) -> float:
    """Return the largest difference of any token, in nats."""
    return max(float(np.abs(one - other).max(initial=0.0)) for one, other in zip(some, others, strict=True))


@pytest.fixture(scope="module", params=["packed", "padded"])
def path(request: pytest.FixtureRequest) -> ForwardMode:
    """Return each forward mode in turn."""
    found: ForwardMode = request.param
    return found


@pytest.fixture(scope="module")
def model(samples: Path, path: ForwardMode) -> LanguageModel:
    """Return the bundled policy in float32, with its attention set for the forward mode."""
    folder = samples / "tiny-policy"
    checkpoint = Checkpoint(str(folder), folder)
    loaded = load_model(checkpoint, ModelSettings(str(folder)), device=torch.device("cpu"), dtype="float32")
    follow(loaded, path)
    return loaded


@pytest.fixture(scope="module")
def sequences(bundled_pairs: list[PreferencePair], tiny_tokenizer: PreTrainedTokenizerBase) -> list[TokenSequence]:
    """Return about thirty bundled sequences of very different lengths, one of them without a scored token."""
    tokenizer = PairTokenizer(tiny_tokenizer, TokenizationSettings(), CONTEXT, frozenset())
    found = [item for item in tokenizer.tokenize(bundled_pairs) if isinstance(item, TokenizedPair)]
    every = sorted((side for item in found for side in (item.chosen, item.rejected)), key=lambda s: len(s.token_ids))
    return [TokenSequence(np.array([5, 6], dtype=np.int32), 2), *every[:: len(every) // 30], every[-1]]


@pytest.fixture(scope="module")
def one_by_one(model: LanguageModel, path: ForwardMode, sequences: list[TokenSequence]) -> Logps:
    """Return the results of the engine for every sequence alone."""
    return [score_batch(model, path, [sequence], never_halved)[0] for sequence in sequences]


def test_every_token_is_within_the_tolerance_of_a_plain_float64_forward(
    samples: Path, sequences: list[TokenSequence], one_by_one: Logps
) -> None:
    plain: nn.Module = AutoModelForCausalLM.from_pretrained(samples / "tiny-policy", dtype=torch.float64).eval()
    expected = []
    for sequence in sequences:
        ids = torch.from_numpy(sequence.token_ids.astype(np.int64))
        with torch.no_grad():
            logps = plain(input_ids=ids[None]).logits[0].log_softmax(-1)
        everything = logps[:-1].gather(-1, ids[1:, None])[:, 0].numpy()
        expected.append(everything[sequence.first_scored - 1 :])
    assert [len(logps) for logps in one_by_one] == [len(logps) for logps in expected]
    assert largest_difference(one_by_one, expected) < NATS_A_TOKEN


def test_log_probs_are_returned_in_float32(one_by_one: Logps) -> None:
    assert {logps.dtype for logps in one_by_one} == {np.dtype(np.float32)}


@pytest.mark.parametrize("size", [2, 7, 40])
def test_batch_size_does_not_change_log_probs(
    model: LanguageModel, path: ForwardMode, sequences: list[TokenSequence], one_by_one: Logps, size: int
) -> None:
    starts = range(0, len(sequences), size)
    found = [logps for i in starts for logps in score_batch(model, path, sequences[i : i + size], never_halved)]
    assert largest_difference(found, one_by_one) < NATS_A_TOKEN


def test_batch_order_does_not_change_log_probs(
    model: LanguageModel, path: ForwardMode, sequences: list[TokenSequence], one_by_one: Logps
) -> None:
    order = np.random.default_rng(0).permutation(len(sequences)).tolist()
    found = score_batch(model, path, [sequences[i] for i in order], never_halved)
    assert largest_difference(found, [one_by_one[i] for i in order]) < NATS_A_TOKEN


def test_equal_batches_give_equal_bytes(
    model: LanguageModel, path: ForwardMode, sequences: list[TokenSequence]
) -> None:
    some, others = (score_batch(model, path, sequences[:20], never_halved) for _ in range(2))
    assert [logps.tobytes() for logps in some] == [logps.tobytes() for logps in others]


def test_head_chunks_do_not_change_log_probs(
    model: LanguageModel,
    path: ForwardMode,
    sequences: list[TokenSequence],
    one_by_one: Logps,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(head, "CHUNK_LOGITS", 1)
    monkeypatch.setattr(head, "FEWEST_ROWS", 3)
    found = score_batch(model, path, sequences[-5:], never_halved)
    assert largest_difference(found, one_by_one[-5:]) < NATS_A_TOKEN


def test_sequences_without_a_scored_token_need_no_forward_pass(model: LanguageModel, path: ForwardMode) -> None:
    empty = TokenSequence(np.array([5, 6], dtype=np.int32), 2)
    assert [logps.tolist() for logps in score_batch(model, path, [empty, empty], never_halved)] == [[], []]


def limit_tokens(tokens: int, error: Callable[[], Exception]) -> Callable[..., None]:
    """Return a hook that makes batches of more tokens run out of memory."""

    def hook(_module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].numel() > tokens:
            raise error()

    return hook


OUT_OF_MEMORY = {
    "CUDA": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "CPU": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 20971520 bytes"),
    "MPS": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 20.00 GB)"),
}
out_of_memory = pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)


@out_of_memory
def test_a_batch_that_does_not_fit_is_halved_until_it_fits_and_every_halving_is_reported(
    model: LanguageModel, path: ForwardMode, error: Callable[[], Exception]
) -> None:
    drawn = np.random.default_rng(0).integers(4, 500, size=(10, 20)).astype(np.int32)
    alike = [TokenSequence(ids, 5) for ids in drawn]
    expected = score_batch(model, path, alike, never_halved)
    sizes: list[int] = []
    decoder: nn.Module = model.module.get_decoder()
    with decoder.register_forward_pre_hook(limit_tokens(60, error), with_kwargs=True):
        found = score_batch(model, path, alike, lambda failed: sizes.append(len(failed)))
    assert sizes == [10, 5, 5]
    assert largest_difference(found, expected) < NATS_A_TOKEN


@out_of_memory
def test_a_single_sequence_that_does_not_fit_stops_the_run_with_advice(
    model: LanguageModel, path: ForwardMode, sequences: list[TokenSequence], error: Callable[[], Exception]
) -> None:
    decoder: nn.Module = model.module.get_decoder()
    told = (
        rf"A sequence of {len(sequences[-1].token_ids)} tokens does not fit into memory\. Shorten it with --max-length"
    )
    with decoder.register_forward_pre_hook(limit_tokens(0, error), with_kwargs=True):  # noqa: SIM117
        with pytest.raises(ResourceError, match=told):
            score_batch(model, path, [sequences[-1]], never_halved)


def test_other_model_errors_do_not_count_as_out_of_memory(
    model: LanguageModel, path: ForwardMode, sequences: list[TokenSequence]
) -> None:
    decoder: nn.Module = model.module.get_decoder()
    hook = limit_tokens(0, lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with decoder.register_forward_pre_hook(hook, with_kwargs=True):  # noqa: SIM117
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            score_batch(model, path, sequences[:4], never_halved)


def test_a_model_scores_as_before_after_a_failure(
    model: LanguageModel, path: ForwardMode, sequences: list[TokenSequence], one_by_one: Logps
) -> None:
    head: nn.Module = model.module.get_output_embeddings()
    failing = head.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("the head failed")))
    with failing, pytest.raises(RuntimeError, match="the head failed"):
        score_batch(model, path, sequences[:4], never_halved)
    assert largest_difference(score_batch(model, path, sequences[:4], never_halved), one_by_one[:4]) < NATS_A_TOKEN


def test_scoring_keeps_a_patched_forward_of_the_decoder(
    model: LanguageModel, path: ForwardMode, sequences: list[TokenSequence], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder: nn.Module = model.module.get_decoder()
    calls: list[int] = []
    original = decoder.forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(calls))
        return original(*args, **kwargs)

    monkeypatch.setattr(decoder, "forward", counting)
    for _ in range(2):
        score_batch(model, path, sequences[:2], never_halved)
    assert calls == [0, 1]


SCOPE: dict[str, Any] = {
    "fingerprint": "00",
    "dtype": "float32",
    "device": torch.device("cpu"),
    "path": "packed",
    "attention": "sdpa",
    "processes": 1,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fingerprint", "01"),
        ("dtype", "bfloat16"),
        ("device", torch.device("cuda")),
        ("path", "padded"),
        ("attention", "eager"),
        ("processes", 2),
    ],
)
def test_everything_that_affects_a_number_is_in_the_key(name: str, value: object) -> None:
    assert compute_scope(**{**SCOPE, name: value}) != compute_scope(**SCOPE)


def test_a_token_beyond_a_head_that_is_narrower_than_the_embeddings_is_refused() -> None:
    module = random_model(PACKED["llama, untied head"])
    module.lm_head = nn.Linear(module.config.hidden_size, 50, bias=False)
    with pytest.raises(ModelError, match="Token id 50 is outside the model's vocabulary of 50"):
        forward(as_loaded(module), "padded", [TokenSequence(np.array([1, 2, 50], dtype=np.int32), 1)])


def test_an_interrupt_that_leaves_torchs_stack_of_modes_short_stays_an_interrupt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = random_model(PACKED["llama, untied head"])

    def interrupt(*_: object) -> None:
        torch.overrides._pop_mode()  # type: ignore[no-untyped-call]
        raise KeyboardInterrupt

    module.get_input_embeddings().register_forward_pre_hook(interrupt)
    monkeypatch.setattr(engine, "matrix_products", lambda *_: ("", torch.overrides.BaseTorchFunctionMode()))
    with pytest.raises(KeyboardInterrupt):
        forward(as_loaded(module), "padded", [TokenSequence(np.array([1, 2, 3], dtype=np.int32), 1)])


def test_top_tokens_entropies_and_ranks_equal_those_of_a_plain_float64_forward(
    samples: Path, model: LanguageModel, path: ForwardMode, sequences: list[TokenSequence], one_by_one: Logps
) -> None:
    count = 5
    found = score_batch(model, path, sequences, never_halved, TopTokens(count))
    plain: nn.Module = AutoModelForCausalLM.from_pretrained(samples / "tiny-policy", dtype=torch.float64).eval()
    assert found[0].shape == (0, 1 + 2 + 2 * count)
    assert largest_difference([one[:, 0] for one in found], one_by_one) < NATS_A_TOKEN
    for sequence, numbers in zip(sequences[1:], found[1:], strict=True):
        ids = torch.from_numpy(sequence.token_ids.astype(np.int64))
        with torch.no_grad():
            logps = plain(input_ids=ids[None]).logits[0].log_softmax(-1)[sequence.first_scored - 1 : -1]
        actual = logps.gather(-1, ids[sequence.first_scored :, None])
        top = logps.topk(count)
        near = (logps - actual).abs().lt(2 * NATS_A_TOKEN).sum(-1).numpy() - 1  # may be in another order in float32
        assert numbers[:, 1] == pytest.approx((-(logps.exp() * logps).sum(-1)).numpy(), abs=NATS_A_TOKEN)
        assert (np.abs(numbers[:, 2] - ((logps > actual).sum(-1) + 1).numpy()) <= near).all()
        assert numbers[:, 3 + count :] == pytest.approx(top.values.numpy(), abs=NATS_A_TOKEN)
        kept = logps.gather(-1, torch.from_numpy(numbers[:, 3 : 3 + count].astype(np.int64)))
        assert kept.numpy() == pytest.approx(top.values.numpy(), abs=NATS_A_TOKEN)


def test_what_is_measured_beside_log_probs_leaves_them_bit_identical(
    model: LanguageModel, path: ForwardMode, sequences: list[TokenSequence]
) -> None:
    plain = score_batch(model, path, sequences, never_halved)
    found = score_batch(model, path, sequences, never_halved, TopTokens(20))
    assert all(np.array_equal(one, other[:, 0]) for one, other in zip(plain, found, strict=True))
