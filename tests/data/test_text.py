from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_vl.backbones.blip.text import clean_caption, clean_question
from aurora_vl.data.text import count_words, is_blank

REMOVED = '.!"()*#:;~'


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("A man, riding a Horse.", "a man, riding a horse"),
        ("two  dogs\n(small)  ", "two dogs small"),
        ('stop!"now"*#:;~go', "stop now go"),
        ("a well-known man's hat?", "a well-known man's hat?"),
        ("...", ""),
        ("ÉCOLE", "école"),
    ],
)
def test_captions_follow_blips_rules(given_text: str, expected: str) -> None:
    assert clean_caption(given_text) == expected


def test_a_caption_loses_marks_as_spaces_and_a_question_without() -> None:
    assert clean_caption("e.g. this") == "e g this"
    assert clean_question("Is this e.g. a U.S. flag?  ") == "is this eg a us flag?"


def test_texts_are_cut_to_their_word_limits() -> None:
    words = [f"w{i}" for i in range(60)]
    assert clean_caption(" ".join(words)).split() == words[:30]
    assert clean_caption(" ".join(words), 40).split() == words[:40]
    assert clean_question(" ".join(words)).split() == words[:50]


@given(st.text(), st.integers(1, 40))
def test_cleaning_twice_changes_nothing_more(text: str, words: int) -> None:
    for clean in (clean_caption, clean_question):
        once = clean(text, words)
        assert clean(once, words) == once


@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from(REMOVED)))
def test_cleaned_text_has_no_mark_no_wide_space_and_at_most_its_words(text: str) -> None:
    for clean in (clean_caption, clean_question):
        cleaned = clean(text, 5)
        assert not set(cleaned) & set(REMOVED)
        assert cleaned == " ".join(cleaned.split())
        assert len(cleaned.split()) <= 5


@given(st.text(alphabet=" \t\n\u3000.!x" + REMOVED))
def test_blank_means_that_cleaning_leaves_nothing(text: str) -> None:
    assert is_blank(text) == (clean_caption(text) == "") == (clean_question(text) == "")
    assert (count_words(text) == 0) == is_blank(text)
