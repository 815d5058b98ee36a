"""Plain forms of texts: what counts as blank, as a word, as the same text.

Also how many words of a text the benchmarks keep by custom.
"""

from __future__ import annotations

from typing import Literal

CAPTION_WORDS = 30
VIDEO_CAPTION_WORDS = 40
QUESTION_WORDS = 50

REMOVED = '.!"()*#:;~'
_AS_SPACE = str.maketrans(REMOVED, " " * len(REMOVED))
_DELETED = str.maketrans("", "", REMOVED)


def simplified(text: str, *, punctuation: Literal["", " "] = " ") -> str:
    """A text in lower case with single blanks, without `.!"()*#:;~`.

    Args:
        text: as written.
        punctuation: what takes the place of each of these characters: a blank or nothing.
    """
    table = _AS_SPACE if punctuation else _DELETED
    return " ".join(text.lower().translate(table).split())


def is_blank(text: str) -> bool:
    """Say whether a text is nothing but blanks and punctuation."""
    return not text.translate(_AS_SPACE).strip()


def count_words(text: str) -> int:
    """Count the words of a text, punctuation aside."""
    return len(text.translate(_AS_SPACE).split())
