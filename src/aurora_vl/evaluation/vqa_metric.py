"""The score of an answer: VQA's official one, and equality.

The official score mirrors the published evaluator of the VQA data sets (its present form, which
normalises answer and annotations alike), quirks included; each is named where it is. Facts only
were taken over, the code is our own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

Metric = Callable[[str, Sequence[str]], float]
"""From an answer and the annotators' answers to a score between 0 and 1."""

_AGREEING = 3  # as many others must say the same for the full score
FULL_SCORE_ANSWERS = _AGREEING + 1
"""From fewer annotators no answer has the full official score, even if all of them agree."""
_COUNTED = "zero one two three four five six seven eight nine ten"
_NUMBERS = {"none": "0", **{word: str(n) for n, word in enumerate(_COUNTED.split())}}
_ARTICLES = ("a", "an", "the")
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
# Meant to keep the decimal point of "1.5"; its look-behind is misspelt as a look-ahead for the
# text "<=" and a digit, which a point never is, so only the digit behind the point protects it.
_PERIOD = re.compile(r"(?!<=\d)\.(?!\d)")
# Flags are passed where the number of replacements belongs: so many points are taken away at most.
_PERIODS_AT_MOST = int(re.UNICODE)

# Contractions whose apostrophes an annotator may leave out. The published table has oddities:
# "somebody'd" loses its apostrophe, "were" and "shed" are words of their own, and its entries for
# "I'm" and "I've" begin with a capital, which the lowered words never meet.
_CONTRACTED = """
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd
how'll how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock
oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone's something'd
something'll that's there'd there're there's they'd they'll they're they've wasn't we've weren't
what'll what're what's what've when's where'd where's where've who'd who'll who's who've why'll
why're why's won't would've wouldn't y'all you'd you'll you're you've
"""
_TWICE = """
couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've
something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll you'd've
"""
_IRREGULAR = {
    "somebody'd": "somebodyd",
    "someonell": "someone'll",
    "twas": "'twas",
    "ow's'at": "'ow's'at",
    "'ows'at": "'ow's'at",
    "'ow'sat": "'ow's'at",
    "yall'd've": "y'all'd've",
    "y'alld've": "y'all'd've",
    "y'all'dve": "y'all'd've",
}


def _contractions() -> dict[str, str]:
    table = {word.replace("'", ""): word for word in _CONTRACTED.split()}
    for word in _TWICE.split():
        first, second, third = word.split("'")
        table[f"{first}{second}'{third}"] = word
        table[f"{first}'{second}{third}"] = word
    return table | _IRREGULAR


_CONTRACTIONS = _contractions()


def normalised(answer: str) -> str:
    """An answer as the official evaluator compares it: marks, number words, articles, contractions.

    Example:
        >>> normalised("The two dogs.")
        '2 dogs'
    """
    words = (_NUMBERS.get(word, word) for word in _without_marks(answer).lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _without_marks(text: str) -> str:
    """Marks at the edge of a word vanish, others become a blank; judged by the text as given.

    A comma between digits anywhere makes all marks vanish: "1,000-ton" becomes "1000ton".
    """
    found = text
    for mark in _MARKS:
        edge = f"{mark} " in text or f" {mark}" in text
        found = found.replace(mark, "" if edge or _COMMA_IN_NUMBER.search(text) else " ")
    return _PERIOD.sub("", found, count=_PERIODS_AT_MOST)


def vqa_score(answer: str, answers: Sequence[str]) -> float:
    """The official score of an answer.

    Each annotator in turn is left out, and the answer scores min(1, matches / 3) against the
    others; the score is the mean. Nothing is normalised where all annotators say the same.

    Args:
        answer: the model's.
        answers: the annotators', ten in the benchmark; at least one.
    """
    given, truth = _on_one_line(answer), [_on_one_line(each) for each in answers]
    if len(set(truth)) > 1:
        given, truth = normalised(given), [normalised(each) for each in truth]
    matches = sum(each == given for each in truth)
    left_out = [min(1.0, (matches - (each == given)) / _AGREEING) for each in truth]
    return sum(left_out) / len(left_out)


def exact_score(answer: str, answers: Collection[str]) -> float:
    """1 if the answer is one of those given, in whatever case and spacing, else 0."""
    return float(_folded(answer) in map(_folded, answers))


METRICS: dict[str, Metric] = {"vqa": vqa_score, "exact": exact_score}


def _on_one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _folded(text: str) -> str:
    return " ".join(text.lower().split())
