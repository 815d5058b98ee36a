"""Answering a split: both ways agree, every question gets its own answer, baselines are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_use import answerer_of
from PIL import Image
from tiny_blip import COLOURS, THINGS, fill, tiny_config, tiny_tokenizer

from aurora_vl.backbones.blip.modeling import BlipForQuestionAnswering
from aurora_vl.data.records import QuestionRecord
from aurora_vl.errors import UserError
from aurora_vl.evaluation.answering import (
    accuracies_by,
    answer_blindly,
    answer_questions,
    answer_scores,
    commonest_answers,
    result_rows,
    unlisted_share,
)
from aurora_vl.evaluation.vqa_metric import exact_score
from aurora_vl.inference.answerer import Answer, Answerer

CANDIDATES = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS] + COLOURS
RANK: dict[str, Any] = {"inference": "rank", "answers": tuple(CANDIDATES), "top": 99}
TOKENIZER = tiny_tokenizer()


@pytest.fixture(scope="module")
def model() -> Any:
    backbone = BlipForQuestionAnswering(tiny_config()).double()
    fill(backbone)
    with torch.no_grad():  # words and [SEP] are likely, the other special tokens are not
        bias = backbone.text_decoder.cls.predictions.bias
        bias[:6] -= 20.0
        bias[3] += 22.0
    return backbone.eval()


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[QuestionRecord]:
    """Nine questions about four pictures, those of one picture not together."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    asked = ["the dog", "a big cat on the box", "a car", "the dog"]
    return [
        QuestionRecord(
            100 + row,
            f"{row % 4}.png",
            folder / f"{row % 4}.png",
            "image",
            asked[row % 3],
            ("red",),
        )
        for row in range(9)
    ]


def answering(model: Any, batch_size: int = 2, **changed: Any) -> Answerer:
    return answerer_of(model, TOKENIZER, batch_size, **{**RANK, **changed})


def told(answers: list[Answer]) -> list[tuple[str, float]]:
    return [(str(answer), round(answer.log_likelihood, 6)) for answer in answers]


def test_each_question_gets_the_answer_it_gets_alone(
    model: Any, records: list[QuestionRecord]
) -> None:
    seen: list[tuple[int, int]] = []
    together = answer_questions(answering(model), records, progress=lambda *done: seen.append(done))
    alone = [answer_questions(answering(model), [record])[0] for record in records]
    assert told(together) == told(alone)
    assert len(set(told(together))) > 3
    assert seen[-1] == (9, 9)


def test_both_ways_give_an_answer_the_same_score(model: Any, records: list[QuestionRecord]) -> None:
    """What generation says, asked of the ranking, scores the same."""
    written = answer_questions(answering(model, inference="generate", max_answer_tokens=6), records)
    for record, answer in zip(records, written, strict=True):
        (ranked,) = answer_questions(answering(model, answers=(str(answer),)), [record])
        if len(answer.split()) < 6:  # ended by itself, with [SEP]
            assert ranked.log_likelihood == pytest.approx(answer.log_likelihood, rel=1e-9)
    finished = [answer for answer in written if len(answer.split()) < 6]
    assert finished


def test_beams_find_no_worse_answer(model: Any, records: list[QuestionRecord]) -> None:
    """They look for the answer that is likeliest by the token; here all find it, some a better."""

    def by_token(beams: int) -> list[float]:
        writing = answering(model, inference="generate", beams=beams, max_answer_tokens=6)
        answers = answer_questions(writing, records)
        return [a.log_likelihood / min(len(a.split()) + 1, 6) for a in answers]  # [SEP]

    greedy, searched = by_token(1), by_token(3)
    assert all(found > written - 1e-9 for written, found in zip(greedy, searched, strict=True))
    assert sum(found > written + 1e-9 for written, found in zip(greedy, searched, strict=True)) > 3


def test_generation_stops_at_the_end_of_an_answer(
    model: Any, records: list[QuestionRecord]
) -> None:
    writing = answering(model, inference="generate", beams=3, max_answer_tokens=4)
    for answer in answer_questions(writing, records):
        assert len(answer.split()) <= 4
        assert "[" not in answer
        assert answer.log_likelihood < 0


def test_a_diverged_model_is_told(records: list[QuestionRecord]) -> None:
    broken = BlipForQuestionAnswering(tiny_config())
    with torch.no_grad():
        broken.vision_model.post_layernorm.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        answer_questions(answering(broken), records[:1])


def test_blind_answers_depend_on_the_question_alone(
    model: Any, records: list[QuestionRecord]
) -> None:
    answers = told(answer_blindly(answering(model), records))
    questions = [record.question for record in records]
    assert len(dict(zip(questions, answers))) == len(set(zip(questions, answers)))
    moved = [replace(record, path=records[0].path) for record in records]
    assert told(answer_blindly(answering(model), moved)) == answers
    assert told(answer_questions(answering(model), records)) != answers


def test_a_result_file_holds_every_question_once(records: list[QuestionRecord]) -> None:
    answers = [Answer(f"answer {n}", 0.0) for n in range(9)]
    rows = result_rows(records, answers)
    assert rows[3] == {"question_id": 103, "answer": "answer 3"}
    assert [row["question_id"] for row in rows] == list(range(100, 109))
    with pytest.raises(UserError, match="8 answers to 9 questions"):
        result_rows(records, answers[:8])
    with pytest.raises(UserError, match="question_id 100 occurs twice"):
        result_rows([*records, records[0]], [*answers, answers[0]])


def question(text: str, *answers: str) -> QuestionRecord:
    return QuestionRecord(text, "a.png", Path("a.png"), "image", text, answers)


def test_answers_that_need_no_picture() -> None:
    training = [
        question("what colour?", "red"),
        question("what colour?", "blue"),
        question("What colour?", "blue"),
        question("how many?", "two"),
        question("is it?", "two"),
    ]
    asked = [question("what COLOUR?!", "blue"), question("why?", "two"), question("is it?", "no")]
    found = commonest_answers(training, asked)
    assert found == {
        "majority_answer": ["blue"] * 3,
        "majority_answer_to_the_question": ["blue", "blue", "two"],
    }
    assert answer_scores(asked, found["majority_answer"], exact_score) == [1.0, 0.0, 0.0]


def test_visual_genome_does_not_decide_what_needs_no_picture() -> None:
    genome = [replace(question("what colour?", "dark red"), source="vg") for _ in range(3)]
    asked = [question("what colour?", "blue")]
    found = commonest_answers([*genome, question("what colour?", "blue")], asked)
    assert set(map(tuple, found.values())) == {("blue",)}


def test_accuracies_by_kind() -> None:
    found = accuracies_by(["who", "what", "", "who"], [1.0, 0.5, 1.0, 0.0])
    assert found == {"what": 50.0, "who": 50.0}


def test_the_share_of_questions_whose_answers_are_not_listed() -> None:
    asked = [question("a", "Red", "x"), question("b", "y"), question("c", "z", "z"), question("d")]
    assert unlisted_share(asked, ["red", "z"]) == pytest.approx(100 / 3)
    assert unlisted_share(asked[3:], ["red"]) == 0.0
