"""Token texts join back to the original text, including the bytes of split characters."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from prefscope.data.records import PreferencePair, text_to_json
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair, TokenTexts
from prefscope.settings import TokenizationSettings


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """Return a byte-level tokenizer in which every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = Tokenizer(models.BPE(vocab={piece: token for token, piece in enumerate(alphabet)}, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=model, eos_token="Ġ<end>")  # noqa: S106 (an added token)


def sentence_piece_tokenizer() -> PreTrainedTokenizerBase:
    """Return a tokenizer with `▁` for spaces and `<0x..>` for bytes."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "h", "i", "▁h", "▁hi"]
    vocabulary = {piece: token for token, piece in enumerate(pieces)}
    merges = [("▁", "h"), ("▁h", "i")]
    model = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))  # noqa: S106
    model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    model.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return PreTrainedTokenizerFast(tokenizer_object=model)


def texts_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return TokenTexts.of(tokenizer).texts(np.array(ids, dtype=np.int32))


def unescaped(texts: list[str]) -> str:
    r"""Return the text with bytes written as `\xe2` decoded."""
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), "".join(texts).encode())
    return raw.decode()


def test_bytes_of_a_split_character_are_escaped() -> None:
    assert texts_of(byte_tokenizer(), "a é€\n") == ["a", " ", r"\xc3", r"\xa9", r"\xe2", r"\x82", r"\xac", "\n"]


def test_byte_pieces_of_a_sentencepiece_vocabulary_are_escaped() -> None:
    assert texts_of(sentence_piece_tokenizer(), " hi€A") == [" hi", r"\xe2", r"\x82", r"\xac", "A"]


def test_an_added_token_is_written_as_it_was_added() -> None:
    assert texts_of(byte_tokenizer(), "aĠ<end>") == ["a", "Ġ<end>"]


def test_an_id_outside_the_vocabulary_is_written_as_a_number() -> None:
    assert TokenTexts.of(byte_tokenizer()).texts(np.array([999], dtype=np.int32)) == ["<999>"]


@pytest.mark.parametrize("text", ["naïve — 天空", "🫖 tea\ttime\r\n", "a\\b", "  two  spaces "])
def test_byte_level_texts_join_back_to_the_text(tiny_tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert unescaped(texts_of(tiny_tokenizer, text)) == text


def test_the_scored_tokens_of_the_bundled_pairs_join_back_to_what_the_template_wrote(
    tiny_tokenizer: PreTrainedTokenizerBase, bundled_pairs: list[PreferencePair]
) -> None:
    token_texts = TokenTexts.of(tiny_tokenizer)
    tokenized = PairTokenizer(tiny_tokenizer, TokenizationSettings(), None, frozenset()).tokenize(bundled_pairs)
    for pair, item in zip(bundled_pairs, tokenized, strict=True):
        assert isinstance(item, TokenizedPair)
        prompt = text_to_json(pair.prompt)
        before = tiny_tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        whole = tiny_tokenizer.apply_chat_template(prompt + text_to_json(pair.chosen), tokenize=False)
        assert str(before) + unescaped(token_texts.texts(item.chosen.scored_ids)) == whole
