"""Scoring answers: predictions for every question, their score, and baselines beside it.

Several processes share the media and come to one result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from aurora_vl.data.answers import answer_vocabulary, clean_answer
from aurora_vl.data.records import QuestionRecord
from aurora_vl.data.text import simplified
from aurora_vl.errors import UserError
from aurora_vl.evaluation.vqa_metric import Metric
from aurora_vl.inference.answerer import Answer, Answerer, Asked
from aurora_vl.inference.media import item_of_record
from aurora_vl.utils.distributed import merged, own_rows

Progress = Callable[[int, int], None]


def answer_questions(
    answerer: Answerer,
    records: Sequence[QuestionRecord],
    *,
    workers: int = 0,
    progress: Progress | None = None,
) -> list[Answer]:
    """Answer every question as the answerer's usual adapter does.

    Args:
        answerer: the model in use.
        records: questions, in any order; those about one medium share its encoding.
        workers: processes that decode media.
        progress: called with (questions answered, questions in all), of this process's.

    Returns:
        One answer a question, in the order given.

    Raises:
        UserError: a file is damaged, or scores are not finite.
    """
    asked: dict[str, list[int]] = defaultdict(list)  # questions of each medium
    for row, record in enumerate(records):
        asked[str(record.path)].append(row)
    everything = list(asked.values())
    groups = [everything[place] for place in own_rows(len(everything))]
    total, found = sum(map(len, groups)), dict[int, Answer]()
    stream = (
        Asked(item_of_record(records[rows[0]]), [records[row].question for row in rows])
        for rows in groups
    )
    for rows, told in zip(groups, answerer.answer_stream(stream, workers=workers), strict=True):
        found.update(zip(rows, told, strict=True))
        if progress is not None:
            progress(len(found), total)
    answered = merged(found)
    return [answered[row] for row in range(len(records))]


def answer_blindly(answerer: Answerer, records: Sequence[QuestionRecord]) -> list[Answer]:
    """As `answer_questions`, but the model sees an even picture of the average colour.

    What it still gets right can be guessed from the question.
    """
    return answerer.answer_blindly([record.question for record in records])


def _same_text(question: str) -> str:
    """A question without what does not make it another one."""
    return simplified(question, punctuation="")


def answer_scores(
    records: Sequence[QuestionRecord], answers: Sequence[str], metric: Metric
) -> list[float]:
    """The score of each answer, between 0 and 1."""
    return [metric(answer, record.answers) for record, answer in zip(records, answers, strict=True)]


def accuracies_by(names: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    """Mean score in percent for each name, in the alphabet's order; "" is left out."""
    groups: dict[str, list[float]] = defaultdict(list)
    for name, score in zip(names, scores, strict=True):
        if name:
            groups[name].append(score)
    return {name: percent(groups[name]) for name in sorted(groups)}


def percent(scores: Sequence[float]) -> float:
    """Mean of scores between 0 and 1, in percent, to four decimals."""
    return round(100.0 * sum(scores) / len(scores), 4)


def commonest_answers(
    training: Sequence[QuestionRecord], records: Sequence[QuestionRecord]
) -> dict[str, list[str]]:
    """Answers that need no picture and no model.

    Args:
        training: what the counts are taken from.
        records: what is asked.

    Returns:
        `majority_answer`: the commonest answer in training, whatever is asked;
        `majority_answer_to_the_question`: the commonest to the same question, else the former.
    """
    (overall,) = answer_vocabulary(training, 1)
    by_question: dict[str, list[QuestionRecord]] = defaultdict(list)
    for record in training:
        by_question[_same_text(record.question)].append(record)
    own: dict[str, str] = {}
    for question in {_same_text(record.question) for record in records}:
        found = answer_vocabulary(by_question.get(question, []), 1)
        own[question] = found[0] if found else overall
    return {
        "majority_answer": [overall] * len(records),
        "majority_answer_to_the_question": [own[_same_text(r.question)] for r in records],
    }


def result_rows(
    records: Sequence[QuestionRecord], answers: Sequence[Answer]
) -> list[dict[str, int | str]]:
    """The rows of a server's results.json: every question id exactly once.

    Raises:
        UserError: an id occurs twice, or there is not one answer for each question.
    """
    if len(records) != len(answers):
        raise UserError(
            f"there are {len(answers)} answers to {len(records)} questions; a result file must "
            "hold every question once."
        )
    rows: dict[int | str, dict[str, int | str]] = {}
    for record, answer in zip(records, answers, strict=True):
        if record.question_id in rows:
            raise UserError(
                f"question_id {record.question_id!r} occurs twice among the scored questions; a "
                "result file must hold every question once."
            )
        rows[record.question_id] = {"question_id": record.question_id, "answer": str(answer)}
    return list(rows.values())


def unlisted_share(records: Sequence[QuestionRecord], candidates: Sequence[str]) -> float:
    """Percentage of answered questions none of whose answers is among the candidates."""
    listed = {clean_answer(candidate) for candidate in candidates}
    answered = [record for record in records if record.answers]
    missing = [r for r in answered if not listed & {clean_answer(a) for a in r.answers}]
    return 100.0 * len(missing) / len(answered) if answered else 0.0
