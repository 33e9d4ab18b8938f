"""Token ids and boundaries equal those of the installed TRL, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from trl.trainer.dpo_trainer import DPOTrainer

from prefscope.data.dialects import normalise
from prefscope.data.records import PreferencePair, SourceRow, readable
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair
from prefscope.settings import TokenizationSettings

COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
Ids = tuple[list[int], list[int], list[int]]


def trl_ids(tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], max_length: int | None = None) -> list[Ids]:
    """Return the rows as prepared by DPOTrainer, which uses only the trainer's tokenizer for this."""
    trainer: Any = SimpleNamespace(_tokenizer=tokenizer)
    config: Any = SimpleNamespace(dataset_num_proc=None, max_length=max_length, truncation_mode="keep_start")
    prepared: Any = DPOTrainer._prepare_dataset(trainer, Dataset.from_list(rows), tokenizer, config, "eval")
    return [(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) for row in prepared.select_columns(COLUMNS)]


def our_ids(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[dict[str, Any]], max_length: int | None = None
) -> list[Ids]:
    pairs = [normalise(SourceRow(i, i + 1, row))[0] for i, row in enumerate(rows)]
    found = []
    for item in PairTokenizer(tokenizer, TokenizationSettings(), max_length, frozenset()).tokenize(pairs):
        assert isinstance(item, TokenizedPair)
        assert item.chosen.completion_start == item.rejected.completion_start
        start = item.chosen.completion_start
        prompt, chosen = item.chosen.token_ids[:start].tolist(), item.chosen.token_ids[start:].tolist()
        found.append((prompt, chosen, item.rejected.token_ids[start:].tolist()))
    return found


def conversation_rows(pairs: list[PreferencePair]) -> list[dict[str, Any]]:
    return [{key: pair.source[key] for key in ("prompt", "chosen", "rejected")} for pair in pairs]


def text_rows(pairs: list[PreferencePair]) -> list[dict[str, Any]]:
    return [
        {"prompt": readable(pair.prompt) + "\n\n", "chosen": readable(pair.chosen), "rejected": readable(pair.rejected)}
        for pair in pairs
    ]


@pytest.fixture(params=["no BOS", "BOS"])
def tokenizer(request: pytest.FixtureRequest, tiny_tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return the tiny tokenizer, and one that puts a BOS before plain text."""
    if request.param == "no BOS":
        return tiny_tokenizer
    model = type(tiny_tokenizer.backend_tokenizer).from_str(tiny_tokenizer.backend_tokenizer.to_str())
    model.post_processor = TemplateProcessing(single="<|start|> $A", special_tokens=[("<|start|>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        bos_token="<|start|>",  # noqa: S106 (a token of the vocabulary)
        eos_token="<|end|>",  # noqa: S106 (the same)
        chat_template=tiny_tokenizer.chat_template,
    )


def test_bundled_conversations_are_tokenized_as_in_trl(
    tokenizer: PreTrainedTokenizerBase, bundled_pairs: list[PreferencePair]
) -> None:
    rows = conversation_rows(bundled_pairs)
    assert our_ids(tokenizer, rows) == trl_ids(tokenizer, rows)


def test_bundled_pairs_as_plain_text_are_tokenized_as_in_trl(
    tokenizer: PreTrainedTokenizerBase, bundled_pairs: list[PreferencePair]
) -> None:
    rows = text_rows(bundled_pairs)
    assert our_ids(tokenizer, rows) == trl_ids(tokenizer, rows)


def test_plain_text_that_merges_across_the_boundary_is_tokenized_as_in_trl(
    tiny_tokenizer: PreTrainedTokenizerBase, bundled_pairs: list[PreferencePair]
) -> None:
    rows = []
    for pair in bundled_pairs:
        words, other = readable(pair.chosen), readable(pair.rejected)
        middle = len(words) // 2
        rows.append({"prompt": words[:middle], "chosen": words[middle:], "rejected": other + "<|end|>"})
    theirs = trl_ids(tiny_tokenizer, rows)
    whole = [tiny_tokenizer(row["prompt"])["input_ids"] for row in rows]
    assert any(len(ids) < len(prompt) for (ids, _, _), prompt in zip(theirs, whole, strict=True))
    assert our_ids(tiny_tokenizer, rows) == theirs


def test_a_prompt_is_found_in_responses_as_in_trl(
    tiny_tokenizer: PreTrainedTokenizerBase, bundled_pairs: list[PreferencePair]
) -> None:
    rows = [
        {"chosen": row["prompt"] + row["chosen"], "rejected": row["prompt"] + row["rejected"]}
        for row in conversation_rows(bundled_pairs)
        if row["chosen"] != row["rejected"]
    ]
    assert our_ids(tiny_tokenizer, rows) == trl_ids(tiny_tokenizer, rows)


def test_tools_and_template_variables_reach_the_template_as_in_trl(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    model = tiny_tokenizer.backend_tokenizer
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model,
        eos_token="<|end|>",  # noqa: S106 (a token of the vocabulary)
        chat_template="{{ tools }} {{ style }}\n" + str(tiny_tokenizer.chat_template),
    )
    row = {
        "prompt": [{"role": "user", "content": "What is the weather?"}],
        "chosen": [{"role": "assistant", "content": "Sunny."}],
        "rejected": [{"role": "assistant", "content": "No."}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
        "chat_template_kwargs": {"style": "terse"},
    }
    ours = our_ids(tokenizer, [row])
    assert ours == trl_ids(tokenizer, [row])
    assert "'weather'" in str(tokenizer.decode(ours[0][0]))
    assert "terse" in str(tokenizer.decode(ours[0][0]))


def test_a_prompt_that_fills_the_length_leaves_nothing_to_score_where_trl_drops_the_pair(
    tiny_tokenizer: PreTrainedTokenizerBase, bundled_pairs: list[PreferencePair]
) -> None:
    rows = conversation_rows(bundled_pairs)
    ours = [ids for ids in our_ids(tiny_tokenizer, rows, max_length=64) if ids[1]]
    theirs = [
        (prompt, chosen[: 64 - len(prompt)], rejected[: 64 - len(prompt)])
        for prompt, chosen, rejected in trl_ids(tiny_tokenizer, rows, max_length=64)
    ]
    assert len(theirs) < len(rows)
    assert ours == theirs
