"""Every chat template of the installed TRL, on fifteen conversations: token ids equal those of its DPOTrainer.

What TRL does is run, not rewritten: `DPOTrainer._prepare_dataset` tokenizes each row. Where it refuses one, so do we.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trl
from transformers import PreTrainedTokenizerBase
from trl.trainer.dpo_trainer import DPOTrainer

from prefscope.data.dialects import normalise
from prefscope.data.records import BadRow, PreferencePair, SourceRow
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair
from prefscope.settings import TokenizationSettings
from tests.peers.conversations import CONVERSATIONS, Json

pytestmark = pytest.mark.exhaustive

TEMPLATES = {path.stem: path for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))}
ARGUMENTS = SimpleNamespace(dataset_num_proc=None, max_length=None, truncation_mode="keep_start")
TYPED_PARTS: Mapping[str, tuple[str, ...]] = {
    "TRL refuses a list as content; we render the text of its parts": (
        *("cohere", "deepseek_r1_distill", "deepseekv3", "gptoss", "phi3", "phi3_5", "qwen2_5"),
    ),
    "the template writes the list as Python or JSON spells it; we render the text of its parts": (
        *("cohere2", "gemma", "lfm2", "lfm2_v2", "llama3_training", "llama3_1", "llama3_2", "nemotron_3_5_lightning"),
        *("nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra"),
    ),
    "the template drops a content that is no string; we render the text of its parts": (
        *("qwen3", "qwen3_instruct_2507"),
    ),
    "the template trims each part, or has only the first; we render all of the text": (
        *("diffusion_gemma", "gemma3", "gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4", "gemma4_v5", "llava_next"),
    ),
    "the template reads parts alone, and drops a string: flagged not_rendered here": ("idefics3", "smolvlm"),
}
"""Where ids differ: only in the row of typed parts, which are joined into one text when read."""
Ids = tuple[list[int], list[int], list[int]]
"""Of the prompt, and of chosen and rejected after it."""


class Rows(list[Json]):
    """The parts of `datasets.Dataset` that TRL uses here."""

    def map(self, function: Callable[..., Json], fn_kwargs: Json | None = None, **_: Any) -> Rows:
        return Rows(row | function(dict(row), **(fn_kwargs or {})) for row in self)


def trls(row: Json, tokenizer: PreTrainedTokenizerBase) -> Ids | None:
    """Return TRL's token ids of a row, None if it refuses the row."""
    trainer = SimpleNamespace(_tokenizer=tokenizer)
    try:
        (found,) = DPOTrainer._prepare_dataset(
            cast("Any", trainer), cast("Any", Rows([copy.deepcopy(row)])), tokenizer, cast("Any", ARGUMENTS), "train"
        )
    except Exception:  # noqa: BLE001 (a template is a program and can raise anything)
        return None
    return found["prompt_ids"], found["chosen_ids"], found["rejected_ids"]


def pair_of(row: Json) -> PreferencePair:
    """Return the pair of a row."""
    pair, _ = normalise(SourceRow(0, 1, row))
    return pair


def ours(row: Json, tokenizer: PreTrainedTokenizerBase) -> TokenizedPair | None:
    """Return prefscope's tokens of a row, None if it refuses the row."""
    (found,) = PairTokenizer(tokenizer, TokenizationSettings(), None, frozenset()).tokenize([pair_of(row)])
    return None if isinstance(found, BadRow) else found


def ids_of(pair: TokenizedPair | None) -> Ids | None:
    if pair is None:
        return None
    (prompt, chosen), (_, rejected) = (
        (one.token_ids[: one.completion_start].tolist(), one.token_ids[one.completion_start :].tolist())
        for one in (pair.chosen, pair.rejected)
    )
    return prompt, chosen, rejected


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a tokenizer whose template tests may change."""
    return copy.deepcopy(tiny_tokenizer)


def may_differ(template: str) -> bool:
    """Return whether a template is listed with a reason for different ids of typed parts."""
    return any({template, template.removesuffix("_training")} & {*names} for names in TYPED_PARTS.values())


def test_there_are_templates_and_fifteen_conversations() -> None:
    assert (len(TEMPLATES) > 60, len(CONVERSATIONS)) == (True, 15)


@pytest.mark.parametrize("name", TEMPLATES)
def test_token_ids_match_trl_or_both_refuse(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = TEMPLATES[name].read_text(encoding="utf-8")
    differing = [
        conversation
        for conversation, row in CONVERSATIONS.items()
        if ids_of(ours(row, tokenizer)) != trls(row, tokenizer)
    ]
    assert differing == (["typed parts"] if may_differ(name) else [])
