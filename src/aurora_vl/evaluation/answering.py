"""Answering questions: predictions for every question, their score, and baselines beside it.

A medium is encoded once for all its questions. Answers are ranked from a list or generated; the
score of an answer is the sum of its tokens' log-probabilities in both. Several processes share the
media and come to one result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aurora_vl.backbones.blip.modeling import CrossKeys
from aurora_vl.data.answers import answer_vocabulary, clean_answer, encode_answers
from aurora_vl.data.collate import MAX_TOKENS
from aurora_vl.data.datasets import MediaSet
from aurora_vl.data.records import QuestionRecord
from aurora_vl.data.text import QUESTION_WORDS, clean_question
from aurora_vl.data.transforms import ImageTransform, to_model_input
from aurora_vl.errors import UserError
from aurora_vl.evaluation.vqa_metric import Metric
from aurora_vl.objectives.answering import answer_losses, answering_backbone, rank_answers
from aurora_vl.utils.distributed import merged, own_rows

Inference = Literal["rank", "generate"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says, and the sum of its tokens' log-probabilities, [SEP] included."""

    answer: str
    log_likelihood: float


@dataclass(frozen=True, slots=True)
class AnsweringPlan:
    """How questions are answered.

    Attributes:
        inference: rank chooses from `candidates`, generate writes an answer.
        candidates: the answers to choose from; equally likely ones in this order.
        top: that many candidates, those whose first token is likeliest, are ranked.
        beams: of generation; 1 is greedy.
        max_tokens: generated at most, [SEP] included.
        attend_padding: generation looks at the question's padding, as released.
        batch_size: media, and questions, at once.
        max_words: questions are cut to so many words.
        frames: taken of a video.
        workers: processes that decode; 0 for none beside this one.
    """

    inference: Inference = "rank"
    candidates: Sequence[str] = ()
    top: int = 128
    beams: int = 1
    max_tokens: int = 10
    attend_padding: bool = False
    batch_size: int = 64
    max_words: int = QUESTION_WORDS
    frames: int = 8
    workers: int = 0


@torch.inference_mode()
def answer_questions(
    model: nn.Module,
    tokenizer: Any,
    records: Sequence[QuestionRecord],
    plan: AnsweringPlan,
    *,
    progress: Progress | None = None,
) -> list[Answer]:
    """Answer every question.

    Args:
        model: a question answering backbone, or a PEFT model around one; left in the mode it was
            in.
        tokenizer: the backbone's.
        records: questions, in any order; those about one medium share its encoding.
        plan: how.
        progress: called with (questions answered, questions in all), of this process's.

    Returns:
        One answer a question, in the order given.

    Raises:
        UserError: there is nothing to choose from, or scores are not finite.
    """
    with _Answerer(model, tokenizer, plan) as answerer:
        return answerer.about_media(records, progress)


@torch.inference_mode()
def answer_blindly(
    model: nn.Module, tokenizer: Any, records: Sequence[QuestionRecord], plan: AnsweringPlan
) -> list[Answer]:
    """As `answer_questions`, but the model sees an even picture of the average colour.

    What it still gets right can be guessed from the question.
    """
    with _Answerer(model, tokenizer, plan) as answerer:
        return answerer.about_nothing(records)


class _Answerer:
    """A model in evaluation mode with its candidates as ids."""

    def __init__(self, model: nn.Module, tokenizer: Any, plan: AnsweringPlan) -> None:
        self.model, self.tokenizer, self.plan = model, tokenizer, plan
        self.backbone = answering_backbone(model)
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.image_size: int = self.backbone.config.vision_config.image_size
        self.was_training = model.training
        if plan.inference == "rank":
            if not plan.candidates:
                raise UserError(
                    "there are no answers to choose from; give evaluation.answer_list or set "
                    "evaluation.inference to generate."
                )
            start = self.backbone.config.text_config.bos_token_id
            ids, mask = encode_answers(tokenizer, plan.candidates, start)
            self.candidate_ids, self.candidate_mask = ids.to(self.device), mask.to(self.device)

    def __enter__(self) -> _Answerer:
        self.model.eval()
        return self

    def __exit__(self, *_: object) -> None:
        self.model.train(self.was_training)

    def about_media(
        self, records: Sequence[QuestionRecord], progress: Progress | None
    ) -> list[Answer]:
        """Answers in the order of the records."""
        asked: dict[str, list[int]] = defaultdict(list)  # questions of each medium
        for row, record in enumerate(records):
            asked[str(record.path)].append(row)
        everything = list(asked.values())
        groups = [everything[place] for place in own_rows(len(everything))]
        transform = ImageTransform(self.image_size, frames=self.plan.frames)
        media = MediaSet([records[rows[0]] for rows in groups], transform)
        found: dict[int, Answer] = {}
        total = sum(map(len, groups))
        seen = done = 0
        for batch in DataLoader(media, self.plan.batch_size, num_workers=self.plan.workers):
            states = self.backbone.vision_model(
                to_model_input(batch.to(self.device), dtype=self.dtype)
            )
            here = groups[seen : seen + len(batch)]
            pairs = [(row, owner) for owner, rows in enumerate(here) for row in rows]
            seen += len(batch)
            for first in range(0, len(pairs), self.plan.batch_size):
                part = pairs[first : first + self.plan.batch_size]
                texts = [records[row].question for row, _ in part]
                start, end = part[0][1], part[-1][1] + 1
                owners = [owner - start for _, owner in part]
                answers = self._answers(states[start:end], texts, owners)
                found.update(zip((row for row, _ in part), answers, strict=True))
                done += len(part)
                if progress is not None:
                    progress(done, total)
        answered = merged(found)
        return [answered[row] for row in range(len(records))]

    def about_nothing(self, records: Sequence[QuestionRecord]) -> list[Answer]:
        """Answers without a picture; equal questions are asked once."""
        texts = list(dict.fromkeys(record.question for record in records))
        blank = torch.zeros(
            1, 3, self.image_size, self.image_size, device=self.device, dtype=self.dtype
        )
        states = self.backbone.vision_model(blank)
        answers: dict[str, Answer] = {}
        for first in range(0, len(texts), self.plan.batch_size):
            part = texts[first : first + self.plan.batch_size]
            told = self._answers(states, part)
            answers.update(zip(part, told, strict=True))
        return [answers[record.question] for record in records]

    def _answers(
        self, states: Tensor, texts: Sequence[str], owners: Sequence[int] | None = None
    ) -> list[Answer]:
        """One answer for each question.

        `owners` are the questions' rows of the image states (b, N, d), in rising order and all of
        them; None if there is one row for all.
        """
        asked = self.tokenizer(
            [clean_question(text, self.plan.max_words) for text in texts],
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        ids = asked["input_ids"].to(self.device)
        mask = asked["attention_mask"].to(self.device)
        # Rows are copies: with one question a picture they would hold every key twice.
        shared = owners is not None and len(owners) > len(states)
        rows = torch.tensor(owners, device=self.device) if shared else None
        question = self.backbone.encode_question(states, ids, mask, image_rows=rows)
        if self.plan.inference == "rank":
            return self._ranked(self.backbone.question_keys(question, mask))
        seen = None if self.plan.attend_padding else mask
        return self._generated(self.backbone.question_keys(question, seen))

    def _ranked(self, keys: CrossKeys) -> list[Answer]:
        ranked = rank_answers(
            self.backbone, keys, self.candidate_ids, self.candidate_mask, self.plan.top
        )
        best, scores = ranked.candidates[:, 0].tolist(), ranked.log_likelihoods[:, 0]
        return [
            Answer(self.plan.candidates[candidate], score)
            for candidate, score in zip(best, _finite(scores), strict=True)
        ]

    def _generated(self, keys: CrossKeys) -> list[Answer]:
        config = self.backbone.config.text_config
        tokens = self.backbone.write_answers(keys, self.plan.max_tokens, self.plan.beams)
        ends = tokens == config.sep_token_id
        behind = ends.cumsum(1) - ends.long() > 0  # after the first [SEP]
        told = (~behind).long()
        losses = answer_losses(self.backbone.answer_logits(tokens, told, keys), tokens, told)
        words = tokens.masked_fill(behind | ends, config.pad_token_id)[:, 1:]
        texts = self.tokenizer.batch_decode(words, skip_special_tokens=True)
        return [
            Answer(" ".join(text.split()), score)
            for text, score in zip(texts, _finite(-losses), strict=True)
        ]


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
        by_question[clean_question(record.question)].append(record)
    own: dict[str, str] = {}
    for question in {clean_question(record.question) for record in records}:
        found = answer_vocabulary(by_question.get(question, []), 1)
        own[question] = found[0] if found else overall
    return {
        "majority_answer": [overall] * len(records),
        "majority_answer_to_the_question": [own[clean_question(r.question)] for r in records],
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
        rows[record.question_id] = {"question_id": record.question_id, "answer": answer.answer}
    return list(rows.values())


def unlisted_share(records: Sequence[QuestionRecord], candidates: Sequence[str]) -> float:
    """Percentage of answered questions none of whose answers is among the candidates."""
    listed = {clean_answer(candidate) for candidate in candidates}
    answered = [record for record in records if record.answers]
    missing = [r for r in answered if not listed & {clean_answer(a) for a in r.answers}]
    return 100.0 * len(missing) / len(answered) if answered else 0.0


def _finite(scores: Tensor) -> list[float]:
    if not scores.isfinite().all():
        raise UserError("the scores are not finite; the adapter or its training diverged.")
    found: list[float] = scores.tolist()
    return found
