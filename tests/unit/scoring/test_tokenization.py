"""Every oddity of a pair is flagged, and a conversation that cannot be rendered is refused."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerBase

from prefscope.data.records import BadRow, Message, PreferencePair
from prefscope.errors import ModelError
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair, common_prefix_length
from prefscope.settings import TokenizationSettings, Truncation
from tests.unit.scoring.word_pairs import CHAT, CONVERSATION, IDS, PLAIN, chat, pair_of, word_tokenizer, words


def tokenize_pair(
    tokenizer: PreTrainedTokenizerBase,
    pair: PreferencePair,
    *,
    max_length: int | None = None,
    truncation: Truncation = "keep_start",
) -> TokenizedPair:
    settings = TokenizationSettings(max_length=max_length, truncation=truncation)
    (result,) = PairTokenizer(tokenizer, settings, max_length, frozenset({IDS["</s>"]})).tokenize([pair])
    assert isinstance(result, TokenizedPair)
    return result


def test_an_ordinary_text_has_no_flags_and_is_scored_to_its_end_token() -> None:
    tokenized = tokenize_pair(word_tokenizer(), pair_of("why ", "yes so </s>", "no </s>"))
    assert (words(tokenized), tokenized.flags) == (("yes so </s>", "no </s>"), ())


def test_an_ordinary_conversation_has_no_flags_and_is_scored_after_the_generation_prompt() -> None:
    tokenized = tokenize_pair(word_tokenizer(chat_template=CHAT), CONVERSATION)
    assert (words(tokenized), tokenized.flags) == (("yes </s>", "no </s>"), ())


def test_the_end_token_is_added_to_a_plain_response_without_it() -> None:
    tokenized = tokenize_pair(word_tokenizer(), pair_of("why ", "yes ", "no </s>"))
    assert words(tokenized) == ("yes </s>", "no </s>")


def test_a_conversation_gets_no_special_tokens_from_the_tokenizer() -> None:
    tokenized = tokenize_pair(word_tokenizer(bos=True, chat_template=CHAT), CONVERSATION)
    assert IDS["<s>"] not in tokenized.chosen.token_ids


def test_keeping_the_start_truncates_the_response() -> None:
    pair = pair_of("why ", "yes </s> so", "no </s>")
    tokenized = tokenize_pair(word_tokenizer(), pair, max_length=3)
    assert (words(tokenized), tokenized.flags) == (("yes </s>", "no </s>"), ("truncated",))


def test_keeping_the_end_truncates_the_prompt() -> None:
    pair = pair_of("why un do ", "yes </s>", "no </s>")
    tokenized = tokenize_pair(word_tokenizer(), pair, max_length=4, truncation="keep_end")
    assert (words(tokenized), tokenized.flags) == (("yes </s>", "no </s>"), ("truncated",))
    assert tokenized.chosen.completion_start == 2


def test_a_prompt_that_merges_with_a_response_is_a_prefix_mismatch_for_both_responses() -> None:
    tokenized = tokenize_pair(word_tokenizer(), pair_of("why un", "do </s>", " do </s>"))
    assert (words(tokenized), tokenized.flags) == (("undo </s>", "un do </s>"), ("prefix_mismatch",))


def test_a_generation_prompt_missing_from_the_answer_is_a_prefix_mismatch() -> None:
    template = CHAT.replace("assistant {% endif %}", "assistant think {% endif %}")
    tokenized = tokenize_pair(word_tokenizer(chat_template=template), CONVERSATION)
    assert (words(tokenized), tokenized.flags) == (("yes </s>", "no </s>"), ("prefix_mismatch",))


def test_a_text_that_contains_a_bos_has_a_double_bos() -> None:
    tokenized = tokenize_pair(word_tokenizer(bos=True), pair_of("<s> why ", "yes </s>", "no </s>"))
    assert tokenized.flags == ("double_bos",)


def test_a_bos_at_the_start_of_every_turn_is_not_a_double_bos() -> None:
    template = "{% for m in messages %}<s> {{ m['content'] }} </s> {% endfor %}"
    tokenized = tokenize_pair(word_tokenizer(bos=True, chat_template=template), CONVERSATION)
    assert tokenized.flags == ()


def test_responses_without_an_end_token_are_flagged() -> None:
    tokenized = tokenize_pair(word_tokenizer(eos=None), PLAIN)
    assert (words(tokenized), tokenized.flags) == (("yes", "no"), ("no_eos",))


def test_one_response_without_an_end_token_is_enough_for_the_flag() -> None:
    tokenized = tokenize_pair(word_tokenizer(eos=None), pair_of("why ", "yes </s>", "no"))
    assert tokenized.flags == ("no_eos",)


def test_an_end_token_followed_by_words_does_not_count_as_an_end() -> None:
    tokenized = tokenize_pair(word_tokenizer(eos=None), pair_of("why ", "yes </s> so", "no </s>"))
    assert tokenized.flags == ("no_eos",)


def test_an_end_token_followed_by_white_space_counts_as_an_end(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    template = "{% for m in messages %}{{ m['content'] }}<|end|>\n{% endfor %}"
    ends = frozenset(tiny_tokenizer("<|end|>")["input_ids"])
    tokenizer = PairTokenizer(tiny_tokenizer, TokenizationSettings(chat_template=template), None, ends)
    (tokenized,) = tokenizer.tokenize([CONVERSATION])
    assert isinstance(tokenized, TokenizedPair)
    assert tokenized.flags == ()


@pytest.mark.parametrize("response", ["yes </s> </s>", "yes </s> </s> "])
def test_a_response_that_ends_twice_has_a_double_eos(response: str) -> None:
    pair = pair_of("why ", response, "no </s>")
    assert tokenize_pair(word_tokenizer(eos=None), pair).flags == ("double_eos",)


def test_an_end_token_in_the_data_and_from_the_template_is_a_double_eos() -> None:
    pair = pair_of(chat(("user", "why")), chat(("assistant", "yes")), chat(("assistant", "no </s>")))
    assert tokenize_pair(word_tokenizer(chat_template=CHAT), pair).flags == ("double_eos",)


def test_an_end_token_in_the_middle_is_not_a_double_eos() -> None:
    assert tokenize_pair(word_tokenizer(), pair_of("why ", "yes </s> so </s>", "no </s>")).flags == ()


def test_two_different_end_tokens_are_not_a_double_eos(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    template = "{% for m in messages %}{{ m['content'] }}<|end|><|pad|>{% endfor %}"
    ends = frozenset(tiny_tokenizer("<|end|><|pad|>")["input_ids"])
    tokenizer = PairTokenizer(tiny_tokenizer, TokenizationSettings(chat_template=template), None, ends)
    (tokenized,) = tokenizer.tokenize([CONVERSATION])
    assert isinstance(tokenized, TokenizedPair)
    assert tokenized.flags == ()


def test_white_space_between_two_end_tokens_does_not_hide_a_double_eos(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    template = "{% for m in messages %}{{ m['content'] }}<|end|>\n<|end|>\n{% endfor %}"
    ends = frozenset(tiny_tokenizer("<|end|>")["input_ids"])
    tokenizer = PairTokenizer(tiny_tokenizer, TokenizationSettings(chat_template=template), None, ends)
    (tokenized,) = tokenizer.tokenize([CONVERSATION])
    assert isinstance(tokenized, TokenizedPair)
    assert tokenized.flags == ("double_eos",)


@pytest.mark.parametrize("blank", ["", " \n"])
def test_a_blank_response_is_empty(blank: str) -> None:
    assert tokenize_pair(word_tokenizer(), pair_of("why ", blank, "no </s>")).flags == ("empty",)


def test_a_conversation_with_a_blank_response_is_empty() -> None:
    pair = pair_of(chat(("user", "why")), chat(("assistant", "yes")), chat(("assistant", " ")))
    assert tokenize_pair(word_tokenizer(chat_template=CHAT), pair).flags == ("empty",)


def test_a_turn_of_tool_calls_alone_is_not_empty() -> None:
    call = (Message("assistant", "", {"tool_calls": [{"function": {"name": "look"}}]}),)
    pair = pair_of(chat(("user", "why")), call, chat(("assistant", "no")))
    assert "empty" not in tokenize_pair(word_tokenizer(chat_template=CHAT), pair).flags


def test_a_prompt_that_fills_the_length_leaves_nothing_to_score() -> None:
    tokenized = tokenize_pair(word_tokenizer(), pair_of("why why why ", "yes", "no"), max_length=3)
    assert (words(tokenized), tokenized.flags) == (("", ""), ("truncated", "no_eos", "nothing_scored"))


def test_nothing_predicts_the_first_token_of_a_text_without_a_prompt() -> None:
    tokenized = tokenize_pair(word_tokenizer(), pair_of("", "yes so </s>", "no </s>"))
    assert (words(tokenized), tokenized.flags) == (("so </s>", "</s>"), ())


def test_equal_responses_are_identical() -> None:
    assert tokenize_pair(word_tokenizer(), pair_of("why ", "yes </s>", "yes </s>")).flags == ("identical",)


def test_texts_with_the_same_tokens_are_identical() -> None:
    assert tokenize_pair(word_tokenizer(), pair_of("why ", "yes  </s>", "yes </s>")).flags == ("identical",)


def test_a_response_of_several_turns_scores_the_users_too() -> None:
    chosen = chat(("assistant", "yes"), ("user", "why"), ("assistant", "so"))
    pair = pair_of(chat(("user", "why")), chosen, chat(("assistant", "no")))
    tokenized = tokenize_pair(word_tokenizer(chat_template=CHAT), pair)
    assert words(tokenized)[0] == "yes </s> user why </s> assistant so </s>"
    assert tokenized.flags == ("scores_user_turns",)


def test_flags_have_a_fixed_order() -> None:
    tokenized = tokenize_pair(word_tokenizer(eos=None), pair_of("un", "do", "do"), max_length=1)
    assert tokenized.flags == ("prefix_mismatch", "no_eos", "nothing_scored", "identical")


def test_conversations_without_a_chat_template_are_refused_with_the_option_to_pass_one() -> None:
    with pytest.raises(ModelError, match=r"no chat template\. Pass one with --chat-template FILE"):
        tokenize_pair(word_tokenizer(), CONVERSATION)


def test_plain_texts_need_no_chat_template() -> None:
    assert words(tokenize_pair(word_tokenizer(), pair_of("why ", "yes ", "no "))) == ("yes </s>", "no </s>")


def test_a_conversation_that_the_template_refuses_is_a_bad_row_among_good_ones() -> None:
    template = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('no system turns') }}{% endif %}" + CHAT
    tokenizer = word_tokenizer(chat_template=template)
    system = PreferencePair(7, 9, chat(("system", "so"), ("user", "why")), CONVERSATION.chosen, CONVERSATION.rejected)
    results = PairTokenizer(tokenizer, TokenizationSettings(), None, frozenset()).tokenize(
        [CONVERSATION, system, PLAIN]
    )
    assert results[1] == BadRow(7, 9, "the chat template rejects this conversation: no system turns")
    assert [type(result) for result in results] == [TokenizedPair, BadRow, TokenizedPair]


def test_any_error_of_a_template_makes_a_bad_row() -> None:
    tokenizer = PairTokenizer(word_tokenizer(chat_template="{{ 1 // 0 }}"), TokenizationSettings(), None, frozenset())
    assert [type(result) for result in tokenizer.tokenize([CONVERSATION])] == [BadRow]


def test_conversations_and_texts_keep_their_order() -> None:
    pairs = [PLAIN, CONVERSATION, PLAIN, CONVERSATION]
    tokenizer = PairTokenizer(word_tokenizer(chat_template=CHAT), TokenizationSettings(), None, frozenset())
    results = [result for result in tokenizer.tokenize(pairs) if isinstance(result, TokenizedPair)]
    assert [result.pair for result in results] == pairs


def test_a_custom_chat_template_overrides_that_of_the_tokenizer() -> None:
    settings = TokenizationSettings(chat_template="{% for m in messages %}{{ m['content'] }} {% endfor %}")
    tokenizer = PairTokenizer(word_tokenizer(chat_template=CHAT), settings, None, frozenset())
    (tokenized,) = tokenizer.tokenize([CONVERSATION])
    assert isinstance(tokenized, TokenizedPair)
    assert tokenized.chosen.token_ids.tolist() == [IDS["why"], IDS["yes"]]


@pytest.mark.parametrize(
    ("ids", "others", "length"), [([], [], 0), ([1], [], 0), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 9, 3], 1)]
)
def test_the_common_prefix_ends_at_the_first_difference(ids: list[int], others: list[int], length: int) -> None:
    assert common_prefix_length(ids, others) == length
