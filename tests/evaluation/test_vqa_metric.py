"""The official VQA score: a table made by hand of what the published evaluator does, quirks too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_vl.evaluation.vqa_metric import FULL_SCORE_ANSWERS, exact_score, normalised, vqa_score

NORMALISED = [
    # case, blanks, articles
    ("Yes", "yes"),
    ("  a   dog ", "dog"),
    ("The dog", "dog"),
    ("an apple", "apple"),
    ("a", ""),
    ("", ""),
    ("THE A AN", ""),
    ("theater", "theater"),
    ("vitamin a", "vitamin"),
    ("dog\tcat", "dog cat"),
    # number words, only whole ones and only up to ten
    ("none", "0"),
    ("zero", "0"),
    ("One", "1"),
    ("two dogs", "2 dogs"),
    ("ten", "10"),
    ("eleven", "eleven"),
    ("twenty one", "twenty 1"),
    ("someone", "someone"),
    ("one's", "one's"),
    ("no one", "no 1"),
    # marks inside a word become a blank, at its edge they vanish
    ("t-shirt", "t shirt"),
    ("t - shirt", "t shirt"),
    ("hot-dog stand-", "hot dog stand"),
    ("yes!", "yes"),
    ("yes! no", "yes no"),
    ("yes!no! maybe", "yesno maybe"),
    ("black/white", "black white"),
    ("black / white", "black white"),
    ("black/ white/red", "black whitered"),
    ("what?", "what"),
    ("(left)", "left"),
    ("[a]{b}", "b"),
    ('"stop"', "stop"),
    ("a=b+c", "b c"),
    ("snow_board", "snow board"),
    ("me@home", "me home"),
    ("<none>", "0"),
    ("back\\slash", "back slash"),
    ("tick`tock", "tick tock"),
    # the apostrophe and the colon are no marks
    ("dog's", "dog's"),
    ("10:30", "10:30"),
    ("#5", "#5"),
    ("$5", "$5"),
    ("50%", "50%"),
    # a comma between digits makes every mark vanish
    ("1,000", "1000"),
    ("1,000-ton", "1000ton"),
    ("1,000 black/white", "1000 blackwhite"),
    ("red,white", "red white"),
    ("red, white", "red white"),
    ("red, white,blue", "red whiteblue"),
    # a point goes unless a digit follows it, whatever stands before it
    ("yes.", "yes"),
    ("u.s.a.", "usa"),
    ("1.5", "1.5"),
    ("5.", "5"),
    ("v.2", "v.2"),
    (".5", ".5"),
    ("no. 5", "no 5"),
    ("a.", ""),
    ("." * 32 + "x", "x"),
    ("." * 33 + "x", ".x"),
    ("." * 40, "." * 8),
    # contractions
    ("dont", "don't"),
    ("Dont", "don't"),
    ("don't", "don't"),
    ("couldnt've", "couldn't've"),
    ("couldn'tve", "couldn't've"),
    ("couldntve", "couldntve"),
    ("its", "its"),
    ("itll", "it'll"),
    ("hes", "he's"),
    ("were", "were"),
    ("shed", "shed"),
    ("Im", "im"),
    ("ive", "ive"),
    ("somebody'd", "somebodyd"),
    ("someonell", "someone'll"),
    ("twas", "'twas"),
    ("ow's'at", "'ow's'at"),
    ("yall'd've", "y'all'd've"),
    ("oclock", "o'clock"),
    ("5 oclock", "5 o'clock"),
    ("cant-stop", "can't stop"),
]


@pytest.mark.parametrize(("answer", "expected"), NORMALISED)
def test_an_answer_is_normalised(answer: str, expected: str) -> None:
    assert normalised(answer) == expected


def test_the_table_is_long_enough() -> None:
    assert len(dict(NORMALISED)) >= 60


@pytest.mark.parametrize(
    ("votes", "share"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0), (10, 1.0)]
)
def test_each_annotator_is_left_out_in_turn(votes: int, share: float) -> None:
    """With 3 votes: seven times 3 others agree, three times only 2: (7 + 3 * 2 / 3) / 10."""
    answers = ["red"] * votes + [f"colour {n}" for n in range(10 - votes)]
    assert vqa_score("red", answers) == pytest.approx(share)


@pytest.mark.parametrize(
    ("answer", "answers", "score"),
    [
        ("Two", ["2"] * 9 + ["3"], 1.0),
        ("2", ["two"] * 9 + ["three"], 1.0),
        ("2", ["two"] * 10, 0.0),  # all say the same: nothing is normalised
        ("two", ["two"] * 10, 1.0),
        ("Two", ["two"] * 10, 0.0),
        (" two\n", ["two"] * 10, 1.0),
        ("two", ["two "] * 9 + ["\ttwo"], 1.0),  # alike after stripping
        ("a dog", ["dog"] * 5 + ["the dog"] * 5, 1.0),
        ("", ["a"] * 5 + ["the"] * 5, 1.0),  # articles vanish
        ("yes", ["yes"] * 3 + ["no"] * 7, 0.9),
        ("cat\ndog", ["cat dog"] * 10, 1.0),
        ("red", ["red"], 0.0),  # nobody is left to agree with
    ],
)
def test_scores_of_answers(answer: str, answers: list[str], score: float) -> None:
    assert vqa_score(answer, answers) == pytest.approx(score)


@given(st.text(max_size=30), st.lists(st.text(max_size=6), min_size=1, max_size=10))
def test_any_text_gets_a_score_that_the_order_of_annotators_does_not_change(
    answer: str, answers: list[str]
) -> None:
    score = vqa_score(answer, answers)
    assert 0.0 <= score <= 1.0
    assert vqa_score(answer, answers[::-1]) == pytest.approx(score)


def test_how_many_annotators_a_full_score_takes() -> None:
    agreed = [vqa_score("red", ["red"] * number) for number in range(1, 6)]
    assert agreed == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert agreed.index(1) + 1 == FULL_SCORE_ANSWERS


def test_equality_looks_past_case_and_blanks_alone() -> None:
    assert exact_score(" Man ", ["man"]) == 1.0
    assert exact_score("the man", ["man"]) == 0.0
    assert exact_score("b", ["a", "b"]) == 1.0
    assert exact_score("", ["a"]) == 0.0
