"""Tokenization rules of other stacks, on token ids computed by hand.

The same functions gave, pair by pair, the ids of the stacks' own code (TRL 0.24, SimPO's and RewardBench's
repositories) on 865 real and bundled pairs with two tokenizers, cut and not; that was run once and is no test.
"""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerBase

from prefscope.data.records import BadRow, PreferencePair
from prefscope.errors import UsageError
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair
from prefscope.settings import TokenizationSettings
from tests.unit.scoring.word_pairs import CHAT, CONVERSATION, IDS, PLAIN, chat, pair_of, word_tokenizer

WORD_OF = {token: word for word, token in IDS.items()}


def tokenize(
    profile: str, tokenizer: PreTrainedTokenizerBase, pair: PreferencePair, max_length: int | None = None
) -> TokenizedPair | BadRow:
    settings = TokenizationSettings(max_length=max_length, profile=profile)
    (result,) = PairTokenizer(tokenizer, settings, max_length, frozenset({IDS["</s>"]})).tokenize([pair])
    return result


def parts(sequence: TokenSequence) -> tuple[str, str]:
    """Return the words before and after the start of the completion."""
    words = [WORD_OF[token] for token in sequence.token_ids.tolist()]
    return " ".join(words[: sequence.completion_start]), " ".join(words[sequence.completion_start :])


def both(found: TokenizedPair | BadRow) -> tuple[tuple[str, str], tuple[str, str]]:
    assert isinstance(found, TokenizedPair)
    return parts(found.chosen), parts(found.rejected)


def flags(found: TokenizedPair | BadRow) -> tuple[str, ...]:
    assert isinstance(found, TokenizedPair)
    return found.flags


def test_trl_0_24_ends_a_conversation_twice() -> None:
    found = tokenize("trl-0.24", word_tokenizer(chat_template=CHAT), CONVERSATION)
    assert both(found) == (("user why </s> assistant", "yes </s> </s>"), ("user why </s> assistant", "no </s> </s>"))


def test_trl_0_24_adds_an_end_token_but_no_bos_to_plain_text() -> None:
    assert both(tokenize("trl-0.24", word_tokenizer(bos=True), PLAIN)) == (("why", "yes </s>"), ("why", "no </s>"))


def test_trl_0_24_never_merges_prompt_and_response() -> None:
    found = tokenize("trl-0.24", word_tokenizer(), pair_of("why un", "do", "so"))
    assert both(found) == (("why un", "do </s>"), ("why un", "so </s>"))
    assert flags(found) == ()


def test_trl_0_24_removes_what_only_the_generation_prompt_has_from_the_prompt() -> None:
    template = CHAT.replace("assistant {% endif %}", "assistant think {% endif %}")
    found = tokenize("trl-0.24", word_tokenizer(chat_template=template), CONVERSATION)
    assert both(found)[0] == ("user why </s> assistant", "yes </s> </s>")


def test_trl_0_24_truncates_the_start_of_the_prompt_and_then_of_the_whole() -> None:
    found = tokenize("trl-0.24", word_tokenizer(), pair_of("why " * 600, "yes " * 700, "no"))
    assert [len(text.split()) for text in both(found)[0]] == [1024 - 701, 701]
    assert [len(text.split()) for text in both(found)[1]] == [512, 2]
    assert flags(found) == ("truncated",)


def test_simpo_scores_the_header_of_a_response_and_has_one_bos() -> None:
    found = tokenize("simpo", word_tokenizer(chat_template=CHAT), CONVERSATION)
    assert both(found) == (("<s> user why </s>", "assistant yes </s>"), ("<s> user why </s>", "assistant no </s>"))


def test_simpo_does_not_repeat_an_existing_bos() -> None:
    found = tokenize("simpo", word_tokenizer(chat_template="<s> " + CHAT), CONVERSATION)
    assert both(found)[0] == ("<s> user why </s>", "assistant yes </s>")


def test_simpo_adds_an_empty_system_message_if_the_template_mentions_one() -> None:
    found = tokenize("simpo", word_tokenizer(chat_template="{# system #}" + CHAT), CONVERSATION)
    assert both(found)[0] == ("<s> ? </s> user why </s>", "assistant yes </s>")


def test_simpo_splits_one_token_earlier_if_prompt_and_response_merge() -> None:
    found = tokenize("simpo", word_tokenizer(), pair_of("why un", "do", " do"))
    assert both(found) == (("<s> why", "undo </s>"), ("<s> why un", "do </s>"))
    assert flags(found) == ("prefix_mismatch",)


def test_simpo_truncates_the_prompt_by_the_longer_response() -> None:
    found = tokenize("simpo", word_tokenizer(), pair_of("why " * 1900, "yes " * 300, "no"), max_length=2150)
    assert [len(text.split()) for text in both(found)[0]] == [1800, 301]
    assert [len(text.split()) for text in both(found)[1]] == [1800, 2]


def test_simpo_leaves_nothing_of_responses_if_max_length_is_below_that_of_prompts() -> None:
    found = tokenize("simpo", word_tokenizer(), pair_of("why why why ", "yes", "no"), max_length=4)
    assert both(found)[0] == ("<s> why why why", "")
    assert flags(found) == ("truncated", "no_eos", "nothing_scored")


@pytest.mark.parametrize("pair", [CONVERSATION, PLAIN], ids=["conversation", "plain"])
def test_rewardbench_scores_the_header_and_ends_twice(pair: PreferencePair) -> None:
    found = tokenize("rewardbench", word_tokenizer(chat_template=CHAT), pair)
    assert both(found) == (
        ("<s> user why </s>", "assistant yes </s> </s>"),
        ("<s> user why </s>", "assistant no </s> </s>"),
    )


def test_rewardbench_has_two_bos_tokens_if_the_template_adds_one() -> None:
    found = tokenize("rewardbench", word_tokenizer(chat_template="<s> " + CHAT), CONVERSATION)
    assert both(found)[0][0] == "<s> <s> user why </s>"
    assert flags(found) == ("double_bos", "double_eos")


def test_rewardbench_removes_the_prompt_from_anywhere_in_a_response() -> None:
    pair = pair_of("why", "user why </s> so", "no")
    assert both(tokenize("rewardbench", word_tokenizer(chat_template=CHAT), pair))[0][1] == "assistant so </s> </s>"


def test_rewardbench_refuses_a_prompt_that_does_not_end_with_the_user() -> None:
    pair = pair_of(chat(("system", "so"), ("user", "why")), chat(("assistant", "yes")), chat(("assistant", "no")))
    found = tokenize("rewardbench", word_tokenizer(chat_template=CHAT), pair)
    assert isinstance(found, BadRow)
    assert found.reason == "RewardBench alternates user and assistant turns, and the last is not the user's"


def test_an_unknown_profile_is_refused_with_a_list_of_profiles() -> None:
    with pytest.raises(
        UsageError, match=r"There is no profile 'trl-9'\. Use one of trl, trl-0\.24, simpo, rewardbench"
    ):
        tokenize("trl-9", word_tokenizer(), PLAIN)
