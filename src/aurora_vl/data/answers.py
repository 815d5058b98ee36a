"""Answers as texts: cleaned, weighted by votes, listed by frequency, turned into ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from aurora_vl.data.collate import Tokenizer
from aurora_vl.data.names import composed
from aurora_vl.data.readers.visual_genome import SOURCE as GENOME
from aurora_vl.data.records import QuestionRecord

MAX_ANSWER_TOKENS = 20
"""Answers are cut to so many tokens, [DEC] and [SEP] among them."""


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


def encode_answers(
    tokenizer: Tokenizer, answers: Sequence[str], start: int, max_tokens: int = MAX_ANSWER_TOKENS
) -> tuple[Tensor, Tensor]:
    """Answers as the decoder takes them.

    Args:
        tokenizer: puts [CLS] first and [SEP] last.
        answers: at least one.
        start: the id of [DEC], which takes the place of [CLS].
        max_tokens: answers are cut to so many tokens.

    Returns:
        ids and mask, int64 (S, A), A the longest answer's length.
    """
    encoded = tokenizer(
        list(answers), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
    )
    ids = encoded["input_ids"]
    first = torch.full_like(ids[:, :1], start)
    return torch.cat([first, ids[:, 1:]], dim=1), encoded["attention_mask"]
