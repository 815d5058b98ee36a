"""The mini tokenizer never makes two different texts the same ids."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from aurora_vl.data.synthetic.grammar import lexicon
from aurora_vl.data.synthetic.wordpiece import ENCODER_TOKEN, SPECIAL_TOKENS, build_tokenizer

TOKENIZER = build_tokenizer()
SPECIALS = [*SPECIAL_TOKENS.values(), ENCODER_TOKEN]


def squeezed(text: str) -> str:
    return " ".join(part for part in re.split(" +", text) if part)


def plain(text: str) -> bool:
    return not any(special in text for special in SPECIALS)


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30).filter(plain)


@given(texts, texts)
def test_equal_ids_mean_equal_texts(a: str, b: str) -> None:
    same_ids = TOKENIZER.encode(a).ids == TOKENIZER.encode(b).ids
    assert same_ids == (squeezed(a) == squeezed(b))


@given(texts)
def test_nothing_is_unknown_and_decoding_gives_the_text_back(text: str) -> None:
    encoded = TOKENIZER.encode(text)
    assert "[UNK]" not in encoded.tokens
    assert TOKENIZER.decode(encoded.ids) == squeezed(text)


def test_texts_that_other_tokenizers_confuse() -> None:
    confusable = [
        "a-b",
        "a - b",
        "a -b",
        "ab",
        "a b",
        "##ab",
        "# #ab",
        "A b",
        "á b",
        "a b.",
        "a ##b",
    ]
    ids = {tuple(TOKENIZER.encode(text).ids) for text in confusable}
    assert len(ids) == len(confusable)


def test_grammar_words_are_one_piece_each() -> None:
    for word in lexicon():
        assert len(TOKENIZER.encode(word).ids) == 3, word


def test_special_ids_are_blips_roles() -> None:
    ids = [TOKENIZER.token_to_id(token) for token in SPECIALS]
    assert ids == [0, 1, 2, 3, 4, 5, 6]
    assert TOKENIZER.encode("red").tokens == ["[CLS]", "red", "[SEP]"]
