"""A tokenizer of whole words, and pairs of a few words, so that ids can be computed by hand."""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from prefscope.data.records import Message, PreferencePair, Text
from prefscope.scoring.tokenization import TokenizedPair

SPECIAL = ["<s>", "</s>"]
WORDS = ["user", "assistant", "why", "un", "do", "undo", "yes", "no", "so", "think", "?"]
IDS = {word: token for token, word in enumerate([*SPECIAL, *WORDS])}
CHAT = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def word_tokenizer(
    *, bos: bool = False, eos: str | None = "</s>", chat_template: str | None = None
) -> PreTrainedTokenizerBase:
    """Return a tokenizer of whole words, which can put a BOS before every text."""
    model = Tokenizer(WordLevel(IDS, unk_token="?"))  # noqa: S106 (a word of the vocabulary)
    model.pre_tokenizer = WhitespaceSplit()
    model.add_special_tokens(SPECIAL)
    if bos:
        model.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        bos_token="<s>",  # noqa: S106 (a word of the vocabulary)
        eos_token=eos,
        chat_template=chat_template,
    )


def chat(*turns: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(role, content) for role, content in turns)


def pair_of(prompt: Text, chosen: Text, rejected: Text) -> PreferencePair:
    return PreferencePair(row=0, line=1, prompt=prompt, chosen=chosen, rejected=rejected)


def words(tokenized: TokenizedPair) -> tuple[str, str]:
    """Return the scored words of both responses."""
    names = {token: word for word, token in IDS.items()}
    chosen, rejected = (
        " ".join(names[token] for token in sequence.scored_ids.tolist())
        for sequence in (tokenized.chosen, tokenized.rejected)
    )
    return chosen, rejected


PLAIN = pair_of("why ", "yes", "no")
CONVERSATION = pair_of(chat(("user", "why")), chat(("assistant", "yes")), chat(("assistant", "no")))
