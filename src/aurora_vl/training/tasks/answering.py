"""Question answering as a kind of task, on pictures and on videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from torch.utils.data import Dataset

from aurora_vl.backbones.base import Preprocessor
from aurora_vl.data.answers import answer_vocabulary
from aurora_vl.data.collate import QuestionCollator
from aurora_vl.data.questions import QuestionTrainSet
from aurora_vl.data.readers import SplitChoice, read_questions
from aurora_vl.data.readers.vqav2_blip import read_answer_list
from aurora_vl.data.records import QuestionRecord, Splits
from aurora_vl.errors import UserError
from aurora_vl.evaluation.answering import (
    accuracies_by,
    answer_blindly,
    answer_questions,
    answer_scores,
    commonest_answers,
    percent,
    result_rows,
    unlisted_share,
)
from aurora_vl.evaluation.vqa_metric import FULL_SCORE_ANSWERS, METRICS
from aurora_vl.inference.answerer import Answer, Answerer
from aurora_vl.inference.loading import TunedModel
from aurora_vl.inference.settings import AdapterSettings
from aurora_vl.objectives.answering import QuestionAnsweringTask
from aurora_vl.recipes.recipe import Recipe
from aurora_vl.training.tasks.base import Progress, TaskKind, common_settings


@dataclass(frozen=True)
class AnsweringOutcome:
    """Answers to questions and, where the questions have answers, their scores.

    Attributes:
        records: the questions.
        answers: one each.
        scores: one each, between 0 and 1; None where the answers are the server's secret.
        details: as in `Outcome`.
    """

    records: Sequence[QuestionRecord]
    answers: Sequence[Answer]
    scores: Sequence[float] | None
    details: dict[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        """`accuracy`, where there is something to compare with."""
        return {} if self.scores is None else {"accuracy": percent(self.scores)}

    def files(self) -> dict[str, Any]:
        """`results.json` for the benchmark's server, and predictions beside what is right."""
        scores: Sequence[float | None] = self.scores or [None] * len(self.records)
        told = [
            {
                "question_id": record.question_id,
                "media": record.media_id,
                "question": record.question,
                "answer": str(answer),
                "log_likelihood": round(answer.log_likelihood, 4),
                "answers": list(record.answers),
                "score": score,
            }
            for record, answer, score in zip(self.records, self.answers, scores, strict=True)
        ]
        return {
            "results.json": result_rows(self.records, self.answers),
            "predictions.json": told,
        }


class AnsweringKind(TaskKind[QuestionRecord]):
    """Questions about pictures or videos."""

    model = "vqa"
    primary = "accuracy"
    measure = "Accuracy"
    texts = "questions"
    curves: ClassVar = {"loss": "Answers", "eval_accuracy": "Accuracy"}
    video_keys = frozenset({"objective.divide_by_frames"})
    keys = video_keys | {
        "objective.answer_weight",
        "objective.visual_genome_weight",
        "objective.label_smoothing",
        "evaluation.inference",
        "evaluation.answer_list",
        "evaluation.answers",
        "evaluation.beams",
        "evaluation.max_tokens",
        "evaluation.attend_padding",
    }

    def read(
        self, recipe: Recipe, layout: str, annotations: Path, media: Path
    ) -> Splits[QuestionRecord]:
        """Questions, their votes and, where there is one, the list of answers: the recipe's first.

        Read here, a wrong list is noticed before anything is trained.
        """
        data, listed = recipe.data, listed_answers(recipe)
        splits = read_questions(
            layout,
            annotations,
            media,
            seed=recipe.training.seed,
            choice=SplitChoice(data.train_on, data.scored),
            genome=data.visual_genome,
        )
        return replace(splits, answer_list=listed) if listed else splits

    def warnings(self, recipe: Recipe, splits: Splits[QuestionRecord]) -> list[str]:
        """Whether right answers cannot be chosen, or cannot score in full."""
        metric = _metric_of(recipe, self.world)
        return [*_unlisted(recipe, splits), *(_too_few(splits.test) if metric == "vqa" else ())]

    def can_score(self, records: Sequence[QuestionRecord]) -> bool:
        """Whether every question has answers."""
        return all(record.answers for record in records)

    def settings(self, recipe: Recipe, splits: Splits[QuestionRecord]) -> AdapterSettings:
        """As in `TaskKind`; the answers to choose from among them."""
        wanted, switches = recipe.evaluation, recipe.switches
        return AdapterSettings(
            **common_settings(recipe),
            inference=wanted.inference,
            answers=tuple(candidate_answers(recipe, splits)),
            top=wanted.rerank,
            beams=switches.beams,
            max_answer_tokens=switches.max_tokens,
            attend_padding=switches.attend_padding,
        )

    def train_set(
        self, recipe: Recipe, records: Sequence[QuestionRecord], preprocessor: Preprocessor
    ) -> Dataset[Any]:
        """Items of a medium with one or more of its questions."""
        return QuestionTrainSet(
            records,
            preprocessor,
            seed=recipe.training.seed,
            questions_per_item=recipe.data.questions_per_item,
            answer_weight=recipe.objective.answer_weight,
            genome_weight=recipe.objective.visual_genome_weight,
            on_error=recipe.data.on_error,
        )

    def collator(self, preprocessor: Preprocessor) -> Callable[[Any], dict[str, Any]]:
        """Questions and answers become ids."""
        return QuestionCollator(preprocessor)

    def module(self, recipe: Recipe, tuned: TunedModel, items: int, epoch_steps: int) -> nn.Module:
        """The likelihood of the answers, by votes."""
        frames = recipe.data.frames if self.media == "video" else 1
        settings = recipe.switches.answering(frames)
        answering = tuned.family.answer_model(tuned.model, tuned.tokenizer)
        return QuestionAnsweringTask(answering, settings)

    def _score(
        self,
        recipe: Recipe,
        tuned: TunedModel,
        splits: Splits[QuestionRecord],
        records: Sequence[QuestionRecord],
        *,
        final: bool,
        progress: Progress | None,
    ) -> AnsweringOutcome:
        """Answer the questions and, if they have answers, compare."""
        answerer = Answerer(tuned, recipe.evaluation.batch_size)
        answers = answer_questions(
            answerer, records, workers=recipe.data.workers, progress=progress
        )
        if not self.can_score(records):
            return AnsweringOutcome(records, answers, None, {})
        metric = METRICS[_metric_of(recipe, self.world)]
        scores = answer_scores(records, answers, metric)
        details: dict[str, Any] = {}
        if final:
            others: dict[str, Sequence[str]] = {
                **commonest_answers(splits.train, records),
                "blind": answer_blindly(answerer, records),
            }
            details = {
                "by_answer_type": accuracies_by([r.answer_type for r in records], scores),
                "by_question_type": accuracies_by([r.question_type for r in records], scores),
                "baselines": {
                    name: percent(answer_scores(records, told, metric))
                    for name, told in others.items()
                },
            }
        return AnsweringOutcome(records, answers, scores, details)


def listed_answers(recipe: Recipe) -> tuple[str, ...]:
    """The answers of the recipe's own list; () where it names none or ranks none.

    Raises:
        UserError: the list is absent or something else.
    """
    settings = recipe.evaluation
    if settings.answer_list is None or settings.inference != "rank":
        return ()
    return read_answer_list(settings.answer_list, "check evaluation.answer_list")


def candidate_answers(recipe: Recipe, splits: Splits[QuestionRecord]) -> Sequence[str]:
    """The answers to choose from: those of a list, or training's commonest; none to write them.

    Raises:
        UserError: they are to be chosen, and there are none.
    """
    if recipe.evaluation.inference != "rank":
        return ()
    found = splits.answer_list or answer_vocabulary(splits.train, recipe.evaluation.answers)
    if not found:
        raise UserError(
            "there are no answers to choose from; give evaluation.answer_list or set "
            "evaluation.inference to generate."
        )
    return found


def _unlisted(recipe: Recipe, splits: Splits[QuestionRecord]) -> list[str]:
    """Say if questions have no right answer among those to choose from."""
    if recipe.evaluation.inference != "rank":
        return []
    listed = candidate_answers(recipe, splits)
    share = unlisted_share(splits.test, listed)
    if not share:
        return []
    return [
        f"{share:.1f} % of the scored questions have no right answer among the {len(listed):,} "
        "to choose from (evaluation.answer_list, evaluation.answers)"
    ]


def _too_few(records: Sequence[QuestionRecord]) -> list[str]:
    """Say if questions have too few answers for the official score, which is made for ten."""
    answered = [record for record in records if record.answers]
    few = [len(record.answers) < FULL_SCORE_ANSWERS for record in answered]
    if not any(few):
        return []
    return [
        f"{percent(few):.1f} % of the scored questions have fewer than {FULL_SCORE_ANSWERS} "
        "answers, so no answer to them can reach 100 % under evaluation.metric=vqa, which leaves "
        "out each annotator in turn and counts a third for each other one who agrees (with a "
        "single answer always 0); evaluation.metric=exact is for one answer"
    ]


def _metric_of(recipe: Recipe, world: str) -> str:
    """The recipe's, else the data set's own.

    VQAv2 has ten answers and its own score; elsewhere an answer is right or wrong.
    """
    if recipe.evaluation.metric is not None:
        return recipe.evaluation.metric
    layout = (
        (recipe.data.world.layout or world) if recipe.data.kind == "world" else recipe.data.kind
    )
    return "vqa" if layout == "vqav2" else "exact"
