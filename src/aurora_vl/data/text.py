"""BLIP's cleaning of captions and questions, as its released data sets do it.

The rules are part of the benchmarks: who trains on cleaned text must ask with cleaned text.
"""

from __future__ import annotations

CAPTION_WORDS = 30
VIDEO_CAPTION_WORDS = 40
QUESTION_WORDS = 50

REMOVED = '.!"()*#:;~'
_AS_SPACE = str.maketrans(REMOVED, " " * len(REMOVED))
_DELETED = str.maketrans("", "", REMOVED)


def clean_caption(text: str, max_words: int = CAPTION_WORDS) -> str:
    """Return a caption in lower case, `.!"()*#:;~` turned to spaces, squeezed and cut.

    Args:
        text: the caption as written.
        max_words: how many words are kept; 30 for pictures, 40 for videos.
    """
    return _squeeze(text.lower().translate(_AS_SPACE), max_words)


def clean_question(text: str, max_words: int = QUESTION_WORDS) -> str:
    """Return a question in lower case, `.!"()*#:;~` deleted, squeezed and cut.

    Args:
        text: the question as written; its question mark stays.
        max_words: how many words are kept.
    """
    return _squeeze(text.lower().translate(_DELETED), max_words)


def is_blank(text: str) -> bool:
    """Say whether cleaning would leave nothing of a text."""
    return not text.translate(_AS_SPACE).strip()


def count_words(text: str) -> int:
    """Count the words a text has after cleaning and before it is cut."""
    return len(text.translate(_AS_SPACE).split())


def _squeeze(text: str, max_words: int) -> str:
    return " ".join(text.split()[:max_words])
