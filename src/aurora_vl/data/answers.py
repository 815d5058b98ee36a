"""Answers as texts: cleaned, weighted by votes, listed by frequency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aurora_vl.data.names import composed
from aurora_vl.data.readers.visual_genome import SOURCE as GENOME
from aurora_vl.data.records import QuestionRecord


def clean_answer(text: str) -> str:
    """An answer in lower case with single blanks, in Unicode's composed form."""
    return " ".join(composed(text).lower().split())


def shares_of_votes(record: QuestionRecord) -> dict[str, float]:
    """Each different answer's share of the annotators, in order of first mention.

    Answers without words are left out; their votes count in the whole.
    """
    votes = Counter(clean_answer(answer) for answer in record.answers)
    return {answer: n / len(record.answers) for answer, n in votes.items() if answer}


def answer_vocabulary(records: Sequence[QuestionRecord], most: int | None = None) -> list[str]:
    """All different answers, the one with the largest share of votes first.

    Visual Genome's are left out where other questions have answers: they help in training and are
    never scored, and by their number would crowd out the answers of those that are.

    Args:
        records: the training split.
        most: how many are kept; None for all.

    Returns:
        cleaned answers; equally frequent ones in the order of the alphabet.
    """
    total: Counter[str] = Counter()
    for record in [r for r in records if r.source != GENOME] or records:
        for answer, share in shares_of_votes(record).items():
            total[answer] += share  # type: ignore[assignment]
    # rounded, so that the order of summing decides nothing
    return sorted(total, key=lambda answer: (-round(total[answer], 6), answer))[:most]
