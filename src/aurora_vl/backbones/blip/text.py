"""BLIP's cleaning of captions and questions, which its checkpoints were trained with.

Captions: lower case, `.!"()*#:;~` replaced by blanks, squeezed, cut to 30 words (40 for videos).
Questions: the same characters deleted, 50 words. Who trains on cleaned text must ask with it.
"""

from __future__ import annotations

from aurora_vl.backbones.base import Role
from aurora_vl.data.text import CAPTION_WORDS, QUESTION_WORDS, simplified


def clean_caption(text: str, max_words: int | None = CAPTION_WORDS) -> str:
    """A caption as BLIP reads it.

    Args:
        text: the caption as written.
        max_words: how many words are kept; None for all.
    """
    return _first_words(simplified(text, punctuation=" "), max_words)


def clean_question(text: str, max_words: int | None = QUESTION_WORDS) -> str:
    """A question as BLIP reads it; its question mark stays.

    Args:
        text: the question as written.
        max_words: how many words are kept; None for all.
    """
    return _first_words(simplified(text, punctuation=""), max_words)


def cleaned(text: str, role: Role, max_words: int | None) -> str:
    """A text by what it is for; answers are left as they are."""
    if role == "answer":
        return text
    clean = clean_question if role == "question" else clean_caption
    return clean(text, max_words)


def _first_words(text: str, most: int | None) -> str:
    return " ".join(text.split()[:most])
